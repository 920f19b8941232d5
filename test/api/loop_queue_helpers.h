/* A loop queue with its loop, and brief ways to use it. */
#ifndef FORKQ_TEST_LOOP_QUEUE_HELPERS_H
#define FORKQ_TEST_LOOP_QUEUE_HELPERS_H

#include "support.h"

#include <forkq/loop_queue.h>

#define SERVED_IN_A_TURN 32

extern uv_loop_t loop;
extern forkq_loop_queue_t queue;
extern bool is_open;
extern int closed; /* how often the close was called back */
extern int disposed_count;

/* Set while a call of the library is under way that must not call back. */
extern bool in_call;
#define CALL(call) (in_call = true, result = (call), in_call = false, result)
extern int result;

/* How the requests ended, in that order. */
extern struct end {
  forkq_loop_queue_req_t *req;
  int status;
  intptr_t item;
} ends[4096];
extern size_t end_count;

void on_end(forkq_loop_queue_req_t *req, int status);
void on_close(forkq_loop_queue_t *q);

/* A fixture: the queue is closed at the end, and the loop has nothing left. */
void set_up(void);
void tear_down(void);

void open_queue(int64_t maxsize);
int close_queue(void);

/* Runs the loop to its end, or for one turn. */
void run(void);
void turn(void);

int put(forkq_loop_queue_req_t *req, intptr_t item);
int get(forkq_loop_queue_req_t *req);
int join(forkq_loop_queue_req_t *req);
int cancel(forkq_loop_queue_req_t *req);
int put_nowait(intptr_t item);
intptr_t get_nowait(void); /* or the error */

/* The i-th end is of that request. */
void assert_end(size_t i, const forkq_loop_queue_req_t *req, int status, intptr_t item);

#endif
