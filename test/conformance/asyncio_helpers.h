/* Queues on a loop, as the tests of asyncio have them. A request stands for a task: it is started as
 * create_task does, and `turn` lets the loop go round once, as `await asyncio.sleep(0)` does. */
#ifndef FORKQ_TEST_ASYNCIO_HELPERS_H
#define FORKQ_TEST_ASYNCIO_HELPERS_H

#include "support.h"

#include <forkq/loop_queue.h>

enum class { FIFO, LIFO, PRIORITY };

extern uv_loop_t loop;
extern enum class q_class;
extern forkq_loop_queue_t *queues[]; /* those of the test, from the first on */

/* A test case of one class of queues. */
#define LENGTH(array) (sizeof(array) / sizeof *(array))
void add_class(Suite *suite, const char *name, void (*fixture)(void),
               const TTest *const *tests, size_t count);

/* Its fixtures. */
void set_up(void);
void set_up_lifo(void);
void set_up_priority(void);

/* A new queue of the class. */
forkq_loop_queue_t *queue_of(int64_t maxsize);

/* ---- tasks ------------------------------------------------------------------------- */

struct task {
  forkq_loop_queue_req_t req;
  bool done;
  int64_t result; /* a negative code, what was got, or 0 */
};

void turn(void);

/* A call that fails at once has no callback. */
void start_put(struct task *task, forkq_loop_queue_t *queue, intptr_t item);
void start_get(struct task *task, forkq_loop_queue_t *queue);
void start_join(struct task *task, forkq_loop_queue_t *queue);
void cancel(struct task *task);

/* Its result. */
int64_t await(struct task *task);
int64_t await_put(forkq_loop_queue_t *queue, intptr_t item);
int64_t await_get(forkq_loop_queue_t *queue);
int64_t await_join(forkq_loop_queue_t *queue);

int put_nowait(forkq_loop_queue_t *queue, intptr_t item);
int64_t get_nowait(forkq_loop_queue_t *queue);

/* ---- what a queue says of itself ----------------------------------------------------- */

forkq_loop_queue_stats_t stats_of(const forkq_loop_queue_t *queue);

/* As Queue._format does it, from what forkq tells; of the items, their number. */
const char *format(const forkq_loop_queue_t *queue);

#endif
