/* forkq/queue.h: the queue that forked processes share.
 *
 * The counterpart of multiprocessing.Queue. Create it, fork, put on one side and get on the
 * other; every process that has the handle may do both. put packs the object before it
 * returns and leaves it in this process's outbox, from where a thread of this process, the
 * feeder, writes it into a pipe; get takes it from there. Items of one process arrive in the
 * order of its puts; between processes there is no order.
 *
 * What holds when a process is killed, at any instruction, for everybody else
 *
 *   - no call hangs that would not have hung anyway: every lock of a dead owner is recovered;
 *   - no item is torn, doubled or misread, and the order of each producer is kept;
 *   - lost is at most what the dead process had put but its feeder had not yet written, and
 *     the item that it was just getting, or the batch of them;
 *   - its room comes back: the slots that its lost items held are free again as soon as
 *     anybody asks (a put that finds the queue full, qsize, full), and within a tenth of a
 *     second for a put that is waiting already;
 *   - nothing is left behind: no file, no semaphore, no shared memory, no descriptor. All is
 *     anonymous and goes with the last process.
 *
 * fork   Any thread may fork at any time, also in a signal handler. A fork waits for other threads
 *        of the process for a tenth of a second at most. The child has the same queue with an
 *        outbox of its own, empty. Threads of the parent that were in a call are not in the
 *        child. A child that was forked in a handler which interrupted a call must not return
 *        into that call: it calls exec or _exit, or goes its own way in the handler.
 *        What the parent had put and not yet sent is sent once, by the parent. If the parent ends
 *        without sending it, as daemon(3) and a kill have it end, the child that notices it first
 *        sends it instead, unless another process has taken back the room before. From its first
 *        call on the queue until it closes it, the feeder of the child looks for that, up to five
 *        times a second; a child that closes the queue, or ends, before its parent does leaves all
 *        to the parent. (A child keeps up to 64 MiB of it for that.)
 *        A child of _Fork(3) is put right by its first call. A child of the bare system call
 *        clone(2) is unknown to the C library and cannot use the queue (FORKQ_ENAMESPACE).
 * exit   Returning from main and exit() send what the process put first, as CPython does;
 *        but when no other process has the queue any more, so that nobody could ever read,
 *        exit drops it and goes on. _exit() and death by a signal send nothing: what the
 *        feeder had not yet written is lost. A process that has not used the queue touches
 *        nothing at exit. exit() in a signal handler ends the process, too: where it has
 *        interrupted a put, or another call that holds the queue's mutex, nothing is sent; where
 *        it has interrupted a get, the feeder has one second.
 *        A process whose main thread ends with pthread_exit ends after its last thread: the
 *        feeder ends when it was idle for a second.
 * exec   The descriptors are close-on-exec. What the process had not sent is lost.
 * PID    All processes of a queue must be in one PID namespace (pid_namespaces(7)): a lock knows
 *        its owner by the thread's number there. In another namespace every call that would take
 *        a lock is FORKQ_ENAMESPACE, and nothing happens.
 * closed descriptors
 *        A program may close descriptors that it does not know, as daemons do. The queue's are
 *        recognized before they are closed, and before anything is written to them, so that a file
 *        that the program has opened under such a number is left alone. A process that has closed
 *        them can use the queue no more: calls say -EBADF, and what it had put is lost.
 */
#ifndef FORKQ_QUEUE_H
#define FORKQ_QUEUE_H

#include <forkq/base.h>
#include <forkq/item.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct forkq_queue forkq_queue_t;

/* Told of an item that this process put and that could not be sent, once for each, on the
 * feeder's thread; the counterpart of Queue._on_queue_feeder_error. `error` is the
 * negative errno of the failed write, or FORKQ_EBROKEN; `data` and `size` are the item's
 * msgpack bytes, borrowed until the function returns; `data` is NULL if there was no
 * memory to put a large item together. The item's slot is given back and the feeder goes
 * on. The function may use any queue but this one, and must neither fork nor exit. Unlike
 * CPython's it never sees an object that does not serialize: that is the error of its
 * put. Without a function the loss is logged. */
typedef void (*forkq_feeder_error_fn)(forkq_queue_t *queue, int error, const char *data,
                                      size_t size, void *arg);

/* How to create a queue. Begin with FORKQ_QUEUE_OPTIONS_INIT, then set the fields you need.
 * Later versions of forkq add fields at the end only. A program built with an older header
 * passes a smaller `size`; the fields it does not have get their defaults. */
typedef struct forkq_queue_options {
  size_t size;
  /* Items that may be in the queue at once, in outboxes, pipe and all; 0 or less: no limit. */
  int64_t maxsize;
  /* Largest message in bytes of msgpack; 0: FORKQ_MESSAGE_MAX. */
  size_t max_message;
  /* While the messages that a process has put and not yet sent have this many bytes of msgpack
   * or more, the queue is full for that process, whatever `maxsize` says; 0: no limit. So a
   * process's outbox never holds more than this and one message, which may be of any size. A
   * forked child has the same limit, and an outbox of its own. */
  size_t outbox_max_bytes;
  /* Nonzero: a put never writes to the pipe on the caller's thread. By default it does,
   * without ever waiting, when a getter is asleep, a packet is full, or the pipe has room for
   * all of a large message, unless the feeder is at work already; that saves the hop over
   * the feeder. */
  int no_direct_write;
  /* Nonzero: with task_done and join; the counterpart of multiprocessing.JoinableQueue. */
  int joinable;
  /* See above; may be NULL. In a forked child the same function runs in the child. */
  forkq_feeder_error_fn on_feeder_error;
  void *on_feeder_error_arg;
} forkq_queue_options_t;

#define FORKQ_QUEUE_OPTIONS_INIT                                                         \
  { sizeof(forkq_queue_options_t), 0, 0, 0, 0, 0, NULL, NULL }

/* Creates a queue that holds at most `maxsize` items, any number if it is 0 or less: truly
 * any number, where CPython's is a semaphore of 2^31-1 (32767 on macOS).
 *
 * The caller owns *ret_queue and gives it back with forkq_queue_destroy, in this process and
 * in every child that inherits it. Costs five descriptors and one shared mapping; a process that
 * puts, or gets from a joinable queue, has one descriptor more, with a joinable queue two.
 * Errors: FORKQ_ENULL, FORKQ_ERANGE (options->max_message above FORKQ_MESSAGE_MAX, or
 * options->size unknown), FORKQ_EPACKING, FORKQ_ENOROBUST (robust mutexes do not work, as under
 * some emulators), -EDEADLK (forkq/base.h), -ENOMEM, -ENOSPC (no memory can be reserved), -EFBIG
 * (RLIMIT_FSIZE is below one MiB), -EMFILE, -ENFILE, or another negative errno of what it is made
 * of (memfd_create, ftruncate, fallocate, mmap, pipe2, eventfd). Nothing is left behind by a
 * failure.
 * Python: multiprocessing.Queue(maxsize). */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_create(forkq_queue_t **ret_queue,
                                                  int64_t maxsize);
FORKQ_API FORKQ_MUST_CHECK int
forkq_queue_create_with(forkq_queue_t **ret_queue, const forkq_queue_options_t *options);

/* The same, with task_done and join. Python: multiprocessing.JoinableQueue(maxsize). */
FORKQ_API FORKQ_MUST_CHECK int forkq_joinable_queue_create(forkq_queue_t **ret_queue,
                                                           int64_t maxsize);

/* Puts one item. When it returns 0 the item is packed and accepted: the object, the bytes
 * and whatever the packing function read belong to the caller again, and later changes to
 * them do not show.
 *
 *   forkq_queue_put          an object
 *   forkq_queue_put_packed   `size` bytes that are exactly one msgpack object; checked here,
 *                            without allocating
 *   forkq_queue_put_with     what `pack` writes, in the queue's own form
 *
 * Blocks only while the queue is full, at most `timeout_ms`; never on the pipe. A put that does not
 * wait may take a tenth of a second where a signal handler of another thread has interrupted its
 * put, or another process is stopped in the middle of its first one. A large item, and what a
 * function packs, is packed before the put waits for room; the function does not run if the put
 * does not wait and the queue is full. The first put of a process starts its feeder.
 *
 * Errors, each with the item not in the queue, no slot taken and the queue as usable as
 * before: FORKQ_FULL (timeout 0), FORKQ_TIMEDOUT, FORKQ_ECLOSED (also when another thread
 * closes the queue during the wait), FORKQ_ESHUTDOWN, FORKQ_ENULL, FORKQ_ETIMEOUT,
 * FORKQ_ETOODEEP, FORKQ_ETOOBIG, FORKQ_EBADOBJECT, FORKQ_EPACK, FORKQ_EPACKING, FORKQ_ETOOMANY
 * (more than 4096 processes that have put and not closed), FORKQ_ENOTHREAD, FORKQ_ENAMESPACE,
 * FORKQ_ENOROBUST, -EDEADLK (forkq/base.h), -ENOMEM, -ENOSPC, -EMFILE, -EBADF (the program has
 * closed the queue's descriptors; of the put that finds it out the item is reported as lost, those
 * after it fail), FORKQ_EBROKEN (the shared memory was damaged).
 *
 * Python: Queue.put(obj, True, timeout). There an object that cannot be serialized is
 * accepted, and lost later; here it is this call's error. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_queue_put(forkq_queue_t *queue, const msgpack_object *object, int timeout_ms);
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_put_packed(forkq_queue_t *queue,
                                                      const void *data, size_t size,
                                                      int timeout_ms);
FORKQ_API FORKQ_MUST_CHECK int
forkq_queue_put_with(forkq_queue_t *queue, forkq_pack_fn pack, void *arg, int timeout_ms);

/* forkq_queue_put with timeout 0. Python: Queue.put_nowait(obj). */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_put_nowait(forkq_queue_t *queue,
                                                      const msgpack_object *object);

/* Gets one item, waiting at most `timeout_ms`.
 *
 *   forkq_queue_get          unpacked: item->object, and item->data beneath it
 *   forkq_queue_get_packed   the bytes only: item->data and item->size; not unpacked, and so
 *                            not checked to be msgpack either
 *
 * While it waits for an item it holds no lock that others need: who is stopped or killed
 * there stops nobody, though after a stop it may take half a second until another getter that
 * sleeps looks for itself. Getters are woken one at a time. What this process has put itself is found
 * by its own get with any timeout; an item of another process can be got once that process's
 * feeder has written it. A get that does not wait may take some tenths of a second where
 * another process is stopped in the middle of its own.
 *
 * Errors: FORKQ_EMPTY (timeout 0), FORKQ_TIMEDOUT, FORKQ_ECLOSED (also when another
 * thread closes the queue during the wait; seen within half a second), FORKQ_ESHUTDOWN,
 * FORKQ_ENULL, FORKQ_ETIMEOUT, FORKQ_EPACKING, -ENOMEM (the item stays in the queue; when
 * it was already taken and only the object did not fit, its bytes are in item->data),
 * FORKQ_EBADFRAME (a foreign peer wrote it: the item is gone, its slot is free;
 * item->data has its bytes if it has any), FORKQ_EBROKEN, FORKQ_ENAMESPACE, FORKQ_ENOROBUST,
 * or another negative errno of read(2), poll(2) or fallocate(2). A get whose time is over in the
 * middle of a large item leaves it for the next. Where there is no memory to keep what has come,
 * the get goes on past its time while more of the item comes; only if its sender stops as well
 * the item is lost, with -ENOSPC, -ENOMEM or -EFBIG. From a joinable queue the first get of a
 * process has the errors of its first put besides: FORKQ_ETOOMANY, -EMFILE, -EDEADLK, -EBADF.
 *
 * Python: Queue.get(True, timeout). There the timeout does not cover a message of which only
 * a part has come, and a killed getter leaves the queue dead for all others. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_get(forkq_queue_t *queue, forkq_item_t *item,
                                               int timeout_ms);
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_get_packed(forkq_queue_t *queue,
                                                      forkq_item_t *item, int timeout_ms);

/* forkq_queue_get with timeout 0. Python: Queue.get_nowait(). */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_get_nowait(forkq_queue_t *queue,
                                                      forkq_item_t *item);

/* Puts up to `count` objects, in one go: waits, as forkq_queue_put, for room for the first,
 * and puts of the others as many as there is room for. *ret_put: how many. 0 if that is at
 * least one (or count is 0); what stopped it before the last is then not told, and a put of
 * the next one says it. Errors, with none put: those of forkq_queue_put.
 * No Python counterpart. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_put_many(forkq_queue_t *queue,
                                                    const msgpack_object *objects,
                                                    size_t count, int timeout_ms,
                                                    size_t *ret_put);

/* A message's bytes; borrowed, until the call that is given them returns. */
typedef struct forkq_bytes {
  const void *data;
  size_t size;
} forkq_bytes_t;

/* The same with bytes that are msgpack already, as forkq_queue_put_packed takes them: each
 * exactly one object, which is checked before it is put. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_put_many_packed(forkq_queue_t *queue,
                                                           const forkq_bytes_t *messages,
                                                           size_t count, int timeout_ms,
                                                           size_t *ret_put);

/* Gets up to `count` items: waits, as forkq_queue_get, for the first, and takes with it
 * those small ones (up to some 4 KiB each) that are there already. *ret_got: how many, in
 * items[0] and on; it is set on success, and on FORKQ_EBADFRAME or -ENOMEM if the items were
 * taken and one or more of them could not be unpacked: such an item has `data`, and a nil
 * `object`. Errors, with none taken: those of forkq_queue_get.
 * No Python counterpart. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_get_many(forkq_queue_t *queue,
                                                    forkq_item_t *items, size_t count,
                                                    int timeout_ms, size_t *ret_got);

/* The same with the bytes only, as forkq_queue_get_packed: they are not unpacked, and not
 * checked. *ret_got is set on success. Errors, with none taken: those of
 * forkq_queue_get_packed. No Python counterpart. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_get_many_packed(forkq_queue_t *queue,
                                                           forkq_item_t *items,
                                                           size_t count, int timeout_ms,
                                                           size_t *ret_got);

/* One item that was got is done. Any process may say so, as in CPython, also after it has closed
 * the queue.
 *
 * What a process got and has not done when it ends is abandoned. It counts as done if the process
 * itself says so, or a child that it forked while it had tasks to do: such a child may do them
 * in its stead, and they are abandoned only when it has ended, too, or called exec. A process that
 * has no task of its own or of its parent's may say it for others; but should the getter die, its
 * task is still taken for abandoned, unless none is left.
 * Errors: FORKQ_ETASKDONE (more often than items were put), FORKQ_ENOTJOINABLE, FORKQ_ENULL,
 * FORKQ_EPACKING, FORKQ_ENAMESPACE, FORKQ_ENOROBUST, FORKQ_EBROKEN.
 * Python: JoinableQueue.task_done(). */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_task_done(forkq_queue_t *queue);

/* Waits until every item that was put is done, at most `timeout_ms`. It may come after
 * forkq_queue_close. Items that never
 * arrived, because their producer died or an immediate shutdown dropped them, do not count.
 *
 * 0: all are done. FORKQ_EABANDONED: none is left, but processes ended between their get and
 * their task_done; *ret_abandoned (may be NULL) is the number of such tasks since this
 * process last joined, and is set in this case only. Such a death is noticed within a tenth
 * of a second.
 * Errors: FORKQ_TIMEDOUT (also with timeout 0), FORKQ_ENOTJOINABLE, FORKQ_ENULL,
 * FORKQ_ETIMEOUT, FORKQ_EPACKING, FORKQ_ENAMESPACE, FORKQ_ENOROBUST.
 * Python: JoinableQueue.join(), without a timeout; a worker that dies makes it wait for
 * ever, and so does an item that does not serialize. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_join(forkq_queue_t *queue, int timeout_ms,
                                                uint64_t *ret_abandoned);

/* Ends the queue for all processes. Puts are FORKQ_ESHUTDOWN from now on, also those that
 * wait. Gets go on until nothing is left, then they are FORKQ_ESHUTDOWN as well, those that
 * wait at once. With `immediate` what is left is dropped and counts as worked off, and gets
 * are FORKQ_ESHUTDOWN at once; items that another process has not sent yet go within
 * moments. A second call may only add `immediate`. There is no way back. It does not wait for
 * gets and puts in progress; where a process is stopped while it holds an internal lock it takes a
 * tenth of a second longer, with `immediate` less than one second. Of an item whose put returned 0
 * a getter or a join that sees the shutdown knows: it is got, or counted.
 * Errors: FORKQ_ECLOSED, FORKQ_ENULL, FORKQ_EPACKING, FORKQ_ENAMESPACE, FORKQ_ENOROBUST,
 * -EDEADLK (forkq/base.h).
 * Python: queue.Queue.shutdown(immediate) of 3.13; multiprocessing has none. */
FORKQ_API int forkq_queue_shutdown(forkq_queue_t *queue, int immediate);

/* How many items were put and not yet got, by all processes, wherever they are: in an
 * outbox, in the pipe, or read ahead. True at one moment during the call; others may have
 * changed it since. Before it looks, it gives back what the dead held; for the locks that this
 * needs it waits for two tenths of a second at most, where somebody is stopped with one.
 * Errors: FORKQ_ENULL. Works until forkq_queue_destroy, and in every process.
 * Python: Queue.qsize(), without its NotImplementedError. */
FORKQ_API int64_t forkq_queue_qsize(forkq_queue_t *queue);

/* 1 if forkq_queue_qsize is 0, else 0. Errors: FORKQ_ENULL; FORKQ_EPACKING; FORKQ_ECLOSED
 * once the queue is closed and the items that this process put are sent, as CPython 3.13
 * has it; a queue that this process closed without having put goes on answering.
 * Python: Queue.empty(), which asks the pipe and says True while items wait in a feeder. */
FORKQ_API int forkq_queue_empty(forkq_queue_t *queue);

/* 1 if as many items are in the queue as it holds, or as many bytes in this process's outbox
 * (options->outbox_max_bytes), 0 if not or if it has no limit.
 * Errors: FORKQ_ENULL. Works until forkq_queue_destroy. Python: Queue.full(). */
FORKQ_API int forkq_queue_full(forkq_queue_t *queue);

/* A descriptor for a loop of the program's own: epoll, poll, GLib, libevent. (For libuv
 * see forkq/loop_handle.h.) It is readable, level-triggered, whenever a get would find an
 * item or a shutdown, also when another process has read the item ahead. Once it is
 * readable, get with timeout 0 until FORKQ_EMPTY, or what the program wants to do in one
 * turn: it stays readable while more is there. It may be readable and the get say
 * FORKQ_EMPTY, because another process was faster, and after a shutdown while items of
 * other processes are still on their way: who meets that waits for some milliseconds.
 *
 * The descriptor is the queue's: not to be read, written or closed; valid until
 * forkq_queue_close, before which it is taken out of the loop. It is created by the first
 * call, and from then on, in this process and the children that it forks, readers
 * anywhere tell it when the queue is no longer empty, which costs them two system calls
 * each time. Not for waiting for room.
 *
 * Errors: FORKQ_ENULL, FORKQ_ECLOSED, FORKQ_EPACKING, FORKQ_ENAMESPACE, FORKQ_ENOROBUST,
 * -EDEADLK (forkq/base.h), -ENOMEM, -EMFILE, -ENFILE.
 * Python: Queue._reader.fileno(), as programs use it, which misses nothing there because
 * nothing is read ahead. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_fileno(forkq_queue_t *queue);

/* What has happened since the queue was created, in all processes, and what waits in this
 * one. Each number is true at one moment of the call, not all at the same. */
typedef struct forkq_queue_stats {
  size_t size;        /* sizeof(struct), set by the caller */
  uint64_t put_items; /* accepted, with those that failed or were lost after that */
  uint64_t put_bytes; /* of msgpack */
  uint64_t got_items; /* with those that an immediate shutdown dropped */
  uint64_t got_bytes;
  uint64_t put_waits;    /* how often a putter slept for room */
  uint64_t get_waits;    /* how often a getter slept for an item */
  uint64_t outbox_items; /* put by this process, not yet sent */
  uint64_t outbox_bytes;
  uint64_t recoveries; /* locks and accounts of dead processes that were put right */
  uint64_t lost_items; /* put by processes that were killed, and lost with them */
} forkq_queue_stats_t;

/* Errors: FORKQ_ENULL, FORKQ_ERANGE (stats->size). Works until forkq_queue_destroy. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_stats(forkq_queue_t *queue,
                                                 forkq_queue_stats_t *stats);

/* This process puts and gets no more: both are FORKQ_ECLOSED from now on, also for threads
 * that wait in one of them, which this call waits for (half a second at most). The feeder
 * goes on until it has sent what was put, then the queue's descriptors are closed, right away
 * if nothing was put; those of the shared memory stay until forkq_queue_destroy if the queue is
 * joinable, for task_done and join. Other processes are not touched. Closing twice is allowed.
 * Errors: FORKQ_ENULL, FORKQ_EPACKING, -EDEADLK (forkq/base.h). Python: Queue.close(), which
 * closes no descriptor of a queue that the process never put into. */
FORKQ_API int forkq_queue_close(forkq_queue_t *queue);

/* Waits until the feeder of this process has sent all that was put, at most `timeout_ms`.
 * 0: all is sent, or was given up as nobody has the queue any more. If `ret_unsent` is not
 * NULL it is set to the number of items not sent; on 0 those are lost, and on
 * FORKQ_TIMEDOUT they are still on their way.
 * Errors: FORKQ_ENOTCLOSED before forkq_queue_close, FORKQ_TIMEDOUT, FORKQ_ENULL (queue),
 * FORKQ_ETIMEOUT, FORKQ_EPACKING, -EDEADLK (forkq/base.h). After forkq_queue_cancel_join_thread it returns 0 at once.
 * Python: Queue.join_thread(), which has no timeout. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_queue_join_thread(forkq_queue_t *queue, int timeout_ms, uint64_t *ret_unsent);

/* Exit, forkq_queue_join_thread and forkq_queue_destroy will not wait for the feeder in this
 * process: what it has not sent by then is lost, its slots are free again, and no lock stays
 * held. May come before the first put. Errors: FORKQ_ENULL.
 * Python: Queue.cancel_join_thread(). */
FORKQ_API int forkq_queue_cancel_join_thread(forkq_queue_t *queue);

/* Ends this process's use of the queue and frees the handle: forkq_queue_close, then
 * forkq_queue_join_thread without limit unless cancelled, then all memory. So it may block
 * as long as the pipe is full and another process has the queue. No other thread may be in a
 * call on the handle, or make one afterwards. In a handler, of a signal or of pthread_atfork(3), that
 * has come in a call of this thread on the handle it does nothing: call it again later. NULL is
 * allowed. Other processes go on. */
FORKQ_API void forkq_queue_destroy(forkq_queue_t *queue);

#ifdef __cplusplus
}
#endif

#endif
