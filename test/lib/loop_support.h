/* A queue with a handle on a loop, which the tests of loops begin with. */
#ifndef FORKQ_TEST_LOOP_SUPPORT_H
#define FORKQ_TEST_LOOP_SUPPORT_H

#include "queue_helpers.h"

#include <forkq/loop_handle.h>
#include <uv.h>

extern uv_loop_t loop;
extern forkq_loop_handle_t *handle;

/* Everything is closed at the end, and as many descriptors open as before. */
void loop_set_up(void);         /* no limit */
void loop_set_up_bounded(void); /* two items */
void loop_tear_down(void);

/* Closes the handle that is open, if one is, and runs the loop to its end. */
void loop_close_handle(void);

/* The loop's own things may be opened after the handle; they are closed here. */
void loop_finish(void);

/* A request whose outcome is kept. */
struct outcome {
  forkq_loop_req_t req;
  forkq_item_t item;
  int calls;
  int status;
  int64_t value; /* of an integer that was got */
  int order;     /* the how many-th callback of all this was */
};
extern int callbacks;

int start_get(struct outcome *outcome, int timeout_ms);
int start_put(struct outcome *outcome, int64_t value, int timeout_ms);
void keep_outcome(forkq_loop_req_t *req, int status);
void free_outcome(struct outcome *outcome);

/* Runs the loop until that request was called back; not longer than ten seconds. */
void run_until(struct outcome *outcome);

/* Lets the loop do what it can do without waiting. */
void run_ready(void);

#endif
