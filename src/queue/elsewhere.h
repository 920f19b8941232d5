/* A queue that another library holds, such as one in a server: what the two libraries say to each other.
 *
 * Such a queue is a forkq_queue_t, too, and the public functions are the same. This process can use nothing
 * that a queue of the machine has, so its forkq__queue_check fails, always, with -ENOTSUP. Each public function
 * makes that check before it does anything. On the way out, where it has failed, a function that the other
 * library may have asks queue_elsewhere.c, which calls it. So there is no branch where the check is passed, and a
 * function that nobody thought of returns -ENOTSUP.
 *
 * The other library sees one symbol of this one, forkq__host. It has no other way in. */
#ifndef FORKQ_ELSEWHERE_H
#define FORKQ_ELSEWHERE_H

#include "base/os.h"

#include <forkq/queue.h>

/* What the other library does. `state` is its own. NULL: the function is not supported, and so returns
 * -ENOTSUP; but close and destroy, and what fork and exit do, are always there. The results are those of the
 * public functions. A call may be made by any thread of the process; by one that is packing, only qsize, full
 * and stats. put, get and join may be cancelled in their waits. */
struct forkq__elsewhere_ops {
  /* Puts messages from the first on, which are valid msgpack, and waits for room for the first. If it returns 0,
   * *ret_put is above 0. */
  int (*put)(void *state, const forkq_bytes_t *messages, size_t count, int64_t deadline,
             size_t *ret_put);
  /* Gets the bytes of up to `count` items, which are empty, and waits for the first. If it returns 0, *ret_got is
   * above 0. A single item may have a `check` (borrow.h): then it stays the next one, unless that says 0. */
  int (*get)(void *state, forkq_item_t *items, size_t count, int64_t deadline,
             size_t *ret_got);
  int64_t (*qsize)(void *state);
  int (*full)(void *state);
  int (*stats)(void *state, forkq_queue_stats_t *stats);
  int (*flush)(void *state, int64_t deadline, uint64_t *ret_unsent);
  int (*task_done)(void *state, const forkq_item_t *item); /* NULL: the next one */
  int (*join)(void *state, int64_t deadline, uint64_t *ret_abandoned);
  int (*shutdown)(void *state, bool immediate);
  int (*fileno)(void *state); /* it has the descriptor until `close` */
  /* Ends the calls of other threads, with FORKQ_ECLOSED, and what the process has of the queue until the
   * deadline. A second call does nothing. */
  int (*close)(void *state, int64_t deadline);
  void (*destroy)(void *state);
  /* See lifecycle.h. */
  void (*before_fork)(void *state, int64_t deadline);
  void (*after_fork_parent)(void *state);
  void (*after_fork_child)(void *state);
};

/* What this library does for the other one. */
struct forkq__host {
  void *(*malloc)(size_t size);
  void *(*realloc)(void *memory, size_t size);
  void (*free)(void *memory);
  void (*log)(forkq_log_level_t level, const char *name, const char *format, ...);
  /* See item.h. */
  int (*item_reserve)(forkq_item_t *item, size_t size);
  void (*item_finish)(forkq_item_t *item, size_t size);
  int (*scan)(const void *data, size_t size, uint64_t *ret_elements);
  /* Makes the queue, for which `state` is there already; the queue owns it from then on. Returns 0,
   * FORKQ_EPACKING, -ENOMEM, -EDEADLK or an errno of fstat(2). After a failure `state` is the caller's. */
  int (*queue_hold)(forkq_queue_t **ret_queue, const struct forkq__elsewhere_ops *ops,
                    void *state);
  /* The state of a queue with these operations, or NULL: the queue is another one. */
  void *(*queue_state)(forkq_queue_t *queue, const struct forkq__elsewhere_ops *ops);
  /* As forkq__os_poll_cancellable, for a call on the queue that waits: FORKQ_EINTERRUPTED, if the thread was
   * interrupted before or meanwhile. */
  int (*poll)(forkq_queue_t *queue, struct pollfd *fds, nfds_t count, int64_t deadline,
              void (*leave)(void *arg), void *arg);
};

/* Its version says which library it belongs to: another one is not loaded with it. */
FORKQ_API const struct forkq__host *forkq__host(void);

#endif
