/* For a child: the world's queue used through a handle on a loop, one request at a time. */
#ifndef FORKQ_TEST_STEPS_LOOP_H
#define FORKQ_TEST_STEPS_LOOP_H

#include <forkq.h>
#include <stdatomic.h>

void steps_loop_open(forkq_queue_t *queue);
void steps_loop_tell(_Atomic int *flag); /* when a request waits, from now on */
void steps_loop_close(void);             /* runs the loop to its end */

/* Start a request and run the loop until it is called back; its status. */
int steps_loop_get(forkq_item_t *item, int timeout_ms);
int steps_loop_borrow(forkq_item_t *item, int timeout_ms);
int steps_loop_get_into(void *buffer, size_t length, int timeout_ms);
int steps_loop_put(const msgpack_object *object, int timeout_ms);

/* One that is called off before the loop runs again. */
int steps_loop_get_cancelled(forkq_item_t *item);

#endif
