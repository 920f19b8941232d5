/* forkq/queue.h: the queue that forked processes share.
 *
 * The counterpart of multiprocessing.Queue. Create a queue and fork: every process that
 * has the handle can put and get. A put packs the object and appends it to this process's
 * outbox. A background thread of the process, the feeder, writes the outbox into a pipe.
 * A get reads from the pipe. Items of one process arrive in the order of its puts. Items
 * of different processes have no order among them.
 *
 * When a process is killed, at any instruction
 *
 *   The other processes can rely on this:
 *   - No call hangs that would not have hung anyway. forkq recovers every lock of the
 *     dead process.
 *   - No item is torn, duplicated or misread, and the order of each producer's items is
 *     kept.
 *   - At most two things are lost: items that the dead process had put and its feeder had
 *     not written, and the item, or batch of items, that it was getting. With
 *     FORKQ_LOST_TASKS_REDELIVER the second is not lost, nor is what it had got and not done.
 *   - The slots of lost items become free again. A put that finds the queue full, qsize
 *     and full recover them at once. A put that already waits gets them within 0.1 s.
 *   - Nothing is left behind: no file, semaphore, shared memory or descriptor. All of
 *     these are anonymous, and the kernel frees them with the last process.
 *
 * fork
 *
 *   Any thread may fork at any time, also in a signal handler. A fork waits for other
 *   threads of the process for at most 0.1 s. The child has the same queue, with an empty
 *   outbox of its own. Threads of the parent that were in a call do not exist in the
 *   child. A child that was forked in a signal handler which interrupted a call must not
 *   return into that call. It must call exec or _exit, or continue within the handler.
 *
 *   Items that the parent had put but not sent are sent once, by the parent. If the
 *   parent ends without sending them, as after daemon(3) or a kill, the first child that
 *   notices sends them instead, unless another process has already recovered their slots.
 *   From its first call on the queue until it closes it, a child checks for this up to
 *   five times a second, on its feeder thread. A child that closes the queue or ends
 *   before its parent leaves these items to the parent. For this purpose a child keeps a
 *   copy of up to 64 MiB of unsent items. If there are more, it keeps none.
 *
 *   A child made with _Fork(3) is initialized by its first call. A child made with the
 *   raw clone(2) system call is unknown to the C library. It cannot use the queue
 *   (FORKQ_ENAMESPACE).
 *
 * exit
 *
 *   Returning from main and exit() first send the items that the process put, as in
 *   CPython. If no other process has the queue, nobody could read it: exit drops the
 *   items and continues. A process that has not used the queue does nothing at exit.
 *   _exit() and death by a signal send nothing: items that the feeder has not written are
 *   lost. Call forkq_queue_flush before _exit().
 *
 *   exit() in a signal handler also ends the process. If the handler interrupted a put,
 *   or another call that holds the queue's mutex, nothing is sent. If it interrupted a
 *   get, the feeder has 1 s to send.
 *
 *   If the main thread ends with pthread_exit, the process ends after its last thread.
 *   The feeder ends after it has been idle for 1 s; while large messages are not yet got,
 *   after a minute at most.
 *
 * The last process that could put
 *
 *   A getter waits as long as any process could still put: each that has the queue, whether or
 *   not it has ever put. A process that only gets says so with forkq_queue_close_put. When no
 *   process is left that could put, gets return what was sent, and then FORKQ_EALONE: at once,
 *   and however the last one ended, also by SIGKILL. So workers that get tasks end when their
 *   parent is gone, if each of them has called forkq_queue_close_put.
 *
 *   A process counts from the fork, or the handover, that gives it the queue, until it ends,
 *   calls exec, or closes the queue or its puts. This includes a child that never makes a call on
 *   the queue, a program that was handed the queue and has not attached it, a handover that
 *   waits in a socket, a server (forkq/serve.h), and the program forkq while it uses the
 *   queue. The kernel counts them: they are the processes that have a descriptor of the writing
 *   end of the queue's pipe.
 *
 * exec
 *
 *   The queue's descriptors are close-on-exec. Items that the process has not sent are
 *   lost.
 *
 * PID namespaces
 *
 *   All processes of a queue must be in one PID namespace (pid_namespaces(7)), because a
 *   lock identifies its owner by the thread's number there. In another namespace, every
 *   call that takes a lock returns FORKQ_ENAMESPACE and has no effect.
 *
 * Closed descriptors
 *
 *   A program may close descriptors that it does not know, as daemons do. forkq verifies
 *   that a descriptor is still its own before it closes it or writes to it. So it does
 *   not touch a file that the program has since opened under the same number. A process
 *   that has closed the queue's descriptors can no longer use the queue: calls return
 *   -EBADF, and its unsent items are lost.
 *
 * Common errors
 *
 *   Functions that list "the common errors" can return these, each without effect:
 *   FORKQ_ENULL       a required argument is NULL
 *   FORKQ_ETIMEOUT    timeout_ms is below -1
 *   FORKQ_EPACKING    a packing function made the call (forkq/item.h)
 *   FORKQ_ENAMESPACE  this process cannot use the queue: see "PID namespaces" and "fork"
 *   FORKQ_ENOROBUST   robust mutexes do not work on this system, as under some emulators
 *
 *   A call in a signal handler or in a fork handler can also return -EDEADLK: see
 *   "Signals" in forkq/base.h. */
#ifndef FORKQ_QUEUE_H
#define FORKQ_QUEUE_H

#include <forkq/base.h>
#include <forkq/item.h>
#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct forkq_queue forkq_queue_t;

/* Reports an item that this process put and the feeder could not send. It is called once
 * per item, on the feeder's thread. The item's slot is free again, and the feeder
 * continues.
 *
 * `error` is the negative errno of the failed write, or FORKQ_EBROKEN. `data` and `size`
 * are the item's msgpack bytes, borrowed until the function returns. `data` is NULL if
 * there was no memory to assemble a large item.
 *
 * The function may use any queue except `queue`. It must not fork or exit.
 * Python: Queue._on_queue_feeder_error. Unlike there, an object that cannot be serialized
 *   never gets here: it is an error of its put. */
typedef void (*forkq_feeder_error_fn)(forkq_queue_t *queue, int error, const char *data,
                                      size_t size, void *arg);

/* What becomes of the tasks of a process that ends without finishing them: see
 * forkq_queue_task_done, and `lost_tasks` of forkq_queue_options_t. */
typedef enum forkq_lost_tasks {
  FORKQ_LOST_TASKS_COUNT,    /* forkq_queue_join says how many they are */
  FORKQ_LOST_TASKS_TELL,     /* and forkq_queue_get_lost says which */
  FORKQ_LOST_TASKS_REDELIVER /* they are got again, before all other items */
} forkq_lost_tasks_t;

/* The most items that a process may have got from a queue that keeps tasks, and not done; and the
 * most bytes of a message of such a queue. */
#define FORKQ_KEPT_TASKS_MAX 64u
#define FORKQ_KEPT_MESSAGE_MAX 0x1000000u

/* How to create a queue. Begin with FORKQ_QUEUE_OPTIONS_INIT, which sets `size` and the
 * defaults, then set the fields you need. A designated initializer without
 * `size` is refused (FORKQ_ERANGE).
 *
 * Later versions of forkq only add fields at the end. `size` may be smaller than the
 * library's: fields that the caller's struct does not have get their defaults. The
 * smallest valid size ends after `maxsize`. Zeroed memory with `size` set is the same as
 * FORKQ_QUEUE_OPTIONS_INIT. */
typedef struct forkq_queue_options {
  size_t size; /* sizeof(forkq_queue_options_t) */
  /* Limit on the items in the queue, in outboxes and pipe together; 0 or less: none. */
  int64_t maxsize;
  /* Limit on a message, in bytes of msgpack; 0: FORKQ_MESSAGE_MAX. */
  size_t max_message;
  /* Limit on the bytes of msgpack that one process has put and not yet sent; 0: none. At
   * the limit, the queue is full for this process, whatever `maxsize` is. The limit can
   * be exceeded by one message, of any size. A forked child has the same limit for its
   * own outbox. */
  size_t outbox_max_bytes;
  /* Nonzero: a put never writes to the pipe on the caller's thread. By default it does,
   * without waiting, which saves the switch to the feeder: when a getter sleeps, when a
   * packet is full, or when puts are rare. It does not while the feeder is at work. A getter
   * that waits in forkq_wait, or on forkq_queue_fileno, does not count as one that sleeps. In a
   * stream of messages of 512 bytes and more, a message may wait for the next ones for
   * 50 microseconds. */
  int no_direct_write;
  /* Nonzero: the queue has task_done and join, as multiprocessing.JoinableQueue. */
  int joinable;
  /* Reports lost items; NULL, the default: forkq logs them. A forked child calls the same
   * function, in the child. */
  forkq_feeder_error_fn on_feeder_error;
  void *on_feeder_error_arg; /* passed to on_feeder_error */
  /* How long a get that finds no item, and a put that finds no room, look again and again
   * before they sleep, in microseconds; at most FORKQ_SPIN_US_MAX. 0, the default: not at
   * all. To wake a thread takes some 20 us, so 30 to 50 suit processes that answer each
   * other at once. They use a CPU meanwhile. After looks that were in vain, the next calls
   * sleep at once. A process that has a single CPU when it creates or attaches the queue
   * never looks; forkq_wait and loops do not either. A thread that is cancelled while it
   * looks ends after that. The option is this process's own; a forked child has the same. */
  uint64_t spin_us;
  /* The most shared memory, in bytes, into which one process packs messages of 512 bytes and
   * more, beside the pipe. 0: FORKQ_SHARED_MAX, which is 64 MiB and the most. FORKQ_SHARED_NONE,
   * and whatever else is below 64 KiB: none. A message for which there is no room goes through
   * the pipe, as a small one does, only more slowly. The memory of messages that were got goes
   * back to the system when the process has put nothing for a second, except for 256 KiB; that
   * of messages that nobody got within a minute goes back at a later put or at the end. A
   * process that ends leaves the memory of what it has put, until that is got and a get finds
   * the queue empty. A process that was killed leaves it until another one finds it dead, at
   * the latest in the first put of a new process. The option is this process's own; a forked child has the same. */
  size_t shared_max_bytes;
  /* Tells the queue from others: up to FORKQ_NAME_MAX of the characters A-Z, a-z, 0-9, '.', '_' and '-'.
   * NULL, the default, or "": none. It is copied. Its shared memory is then "memfd:forkq:NAME" instead of
   * "memfd:forkq" in /proc/PID/maps and /proc/PID/fd of each process, and messages to the log begin with
   * "NAME: ". It does not find the queue, and need not be unique. A queue that is handed over keeps it. */
  const char *name;
  /* A forkq_lost_tasks_t, for a joinable queue; its creator sets it for all processes. 0, the default:
   * FORKQ_LOST_TASKS_COUNT. With the others, the bytes of an item stay in shared memory from its get to
   * its task_done, so that they outlive the process that got it:
   * - A process may have got FORKQ_KEPT_TASKS_MAX items and not done them. Then a get is
   *   FORKQ_EUNDONE, and the item stays the next one. A batch gets as many items as it may.
   * - `max_message` is at most FORKQ_KEPT_MESSAGE_MAX, and 0 stands for that.
   * - Each process that has the queue maps 64 MiB more of it. For each item that was ever kept at the same
   *   time a page of it is memory. Messages of up to 512 KiB, of 64 tasks at a time, take their size in it,
   *   also for the next ones: until a getter has waited for a second, or a process closes the queue. All
   *   larger messages, and more at a time, take their size until task_done, and more time.
   * - A process says task_done of its own items, or of its parent's: see forkq_queue_task_done.
   * With FORKQ_LOST_TASKS_REDELIVER a task may be done more than once: its process may have died after
   * the work and before its task_done. It is got again as soon as another process finds that the
   * process has died: within 0.1 s if one waits in a get, in join or in forkq_wait, or watches the
   * queue (forkq_queue_fileno, a loop). It takes no slot. After a shutdown, or the end of the last
   * process that could put, a get of a process that has no unfinished task waits for those that others
   * have, and then says FORKQ_ESHUTDOWN or FORKQ_EALONE; an immediate shutdown drops what is to be got
   * again. */
  int lost_tasks;
} forkq_queue_options_t;

#define FORKQ_SPIN_US_MAX 1000000
#define FORKQ_SHARED_MAX 0x4000000u
#define FORKQ_SHARED_NONE 1u
#define FORKQ_NAME_MAX 31

#define FORKQ_QUEUE_OPTIONS_INIT                                                         \
  { sizeof(forkq_queue_options_t), 0, 0, 0, 0, 0, NULL, NULL, 0, 0, NULL, 0 }

/* Creates a queue that holds at most `maxsize` items. 0 or less: no limit.
 *
 * The caller owns *ret_queue and destroys it with forkq_queue_destroy, in this process
 * and in every child that inherits it. The queue uses five descriptors and one shared
 * mapping. A process that puts large messages maps shared_max_bytes more, and one that gets
 * some maps a MiB or more of each process that puts them, or 64 MiB where it borrows. A process that has
 * put uses two more descriptors, and one that has borrowed one more. With a joinable queue, a
 * process that has got uses two more, and one that has put uses three more. A process that has waited in
 * a get or in forkq_wait uses one more until it destroys the queue.
 *
 * Returns: 0. After a failure nothing is left behind.
 * Blocks: while another thread of the process forks, or creates, attaches or destroys a
 *   queue.
 * Errors:
 *   FORKQ_ENULL      `ret_queue` is NULL
 *   FORKQ_EPACKING   a packing function made the call
 *   FORKQ_ENOROBUST  robust mutexes do not work on this system, as under some emulators
 *   -EDEADLK         see "Signals" in forkq/base.h
 *   -ENOMEM          there is no memory
 *   -ENOSPC          no shared memory can be reserved
 *   -EFBIG           RLIMIT_FSIZE is below 4 MiB
 *   -EMFILE          the process has no descriptors left
 *   -ENFILE          the system has no descriptors left
 *   other            a negative errno of memfd_create, ftruncate, fallocate, mmap, pipe2
 *                    or eventfd
 * Python: multiprocessing.Queue(maxsize), whose unbounded queue is limited to 2^31-1
 *   items (32767 on macOS). */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_create(forkq_queue_t **ret_queue,
                                                  int64_t maxsize);

/* Creates a queue with options. Ownership, descriptors and blocking are as in
 * forkq_queue_create.
 *
 * Returns: 0.
 * Errors: those of forkq_queue_create, and:
 *   FORKQ_ENULL   `options` is NULL
 *   FORKQ_ERANGE  options->size is 0, too small, larger than this library's, or not the
 *                 size of a struct; or options->max_message is above FORKQ_MESSAGE_MAX,
 *                 spin_us above FORKQ_SPIN_US_MAX, or shared_max_bytes above
 *                 FORKQ_SHARED_MAX; or options->name is too long, or has another character;
 *                 or options->lost_tasks is no forkq_lost_tasks_t, or not 0 without `joinable`
 *                 or with a max_message above FORKQ_KEPT_MESSAGE_MAX
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_queue_create_with(forkq_queue_t **ret_queue, const forkq_queue_options_t *options);

/* Creates a queue that also has task_done and join. Everything else is as in
 * forkq_queue_create, including results and errors.
 * Python: multiprocessing.JoinableQueue(maxsize). */
FORKQ_API FORKQ_MUST_CHECK int forkq_joinable_queue_create(forkq_queue_t **ret_queue,
                                                           int64_t maxsize);

/* Puts one object. When it returns 0, the object is packed and accepted: the caller may
 * change or free it, and the item does not change.
 *
 * The first put of a process starts its feeder. A large item is packed before the put
 * waits for room.
 *
 * Returns: 0. After a failure the item is not in the queue, it takes no slot, and the
 *   queue stays usable.
 * Blocks: only while the queue is full, for at most `timeout_ms`; never on the pipe. It
 *   may take 0.1 s longer, if a signal handler of another thread interrupted that thread's
 *   put, or if another process is stopped in the middle of its first put.
 * Errors: the common errors, and:
 *   FORKQ_FULL        the queue is full (timeout 0)
 *   FORKQ_TIMEDOUT    the queue was full for the whole timeout
 *   FORKQ_EINTERRUPTED  see forkq_queue_interrupt
 *   FORKQ_ECLOSED     this process has closed the queue, or its puts, perhaps during the wait
 *   FORKQ_ESHUTDOWN   the queue is shut down, perhaps during the wait
 *   FORKQ_ETOODEEP    the object is nested deeper than FORKQ_DEPTH_MAX
 *   FORKQ_ETOOBIG     the message is larger than max_message
 *   FORKQ_EBADOBJECT  the object has a type that msgpack does not have
 *   FORKQ_ETOOMANY    4096 processes have put, or got from a joinable queue, and not
 *                     closed it
 *   FORKQ_ENOTHREAD   the feeder thread cannot be started
 *   FORKQ_EBROKEN     the shared memory is damaged
 *   -EDEADLK          see "Signals" in forkq/base.h
 *   -ENOMEM, -ENOSPC  there is no memory
 *   -EMFILE           the process has no descriptors left
 *   -EBADF            the program has closed the queue's descriptors. The put that
 *                     discovers this returns 0, and its item is reported as lost. Later
 *                     puts fail.
 * Python: Queue.put(obj, True, timeout), which accepts an object that cannot be
 *   serialized and loses it later. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_queue_put(forkq_queue_t *queue, const msgpack_object *object, int timeout_ms);

/* Puts `size` bytes that are exactly one msgpack object. The call validates them without
 * allocating. `data` stays the caller's.
 *
 * Returns, Blocks, Errors: as forkq_queue_put, and:
 *   FORKQ_EBADOBJECT  the bytes are not exactly one msgpack object
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_put_packed(forkq_queue_t *queue,
                                                      const void *data, size_t size,
                                                      int timeout_ms);

/* Puts the object that `pack` writes (forkq/item.h), called with `arg`. The call runs
 * `pack` before it waits for room. It does not run `pack` if the timeout is 0 and the
 * queue is full.
 *
 * Returns, Blocks, Errors: as forkq_queue_put, and:
 *   FORKQ_EPACK       `pack` returned nonzero
 *   FORKQ_EBADOBJECT  `pack` did not write exactly one object
 *   FORKQ_EPACKING    `pack` called forkq, and forkq noticed this only afterwards
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_queue_put_with(forkq_queue_t *queue, forkq_pack_fn pack, void *arg, int timeout_ms);

/* Reserves memory for a message of up to `size` bytes, which the caller writes and then
 * commits: for a camera, a decoder, or whoever else makes large bytes. The memory lies where
 * readers copy the message from, so the bytes are not copied on this side. Where there is no room for that (see
 * shared_max_bytes), and below 512 bytes, it is memory of this process, and the commit copies.
 *
 * A reservation is memory only: it takes no room in the queue, and has no place in the order.
 * A process may have any number of them, and commit them in any order, on any thread. Its
 * death leaves nothing behind. It is forkq's to free: by commit, abandon or destroy. The memory
 * is aligned for any object, and has bytes of earlier messages. A forked child must not touch
 * it. After a close it can still be written to, and not be committed. A process that closes the
 * queue's descriptors (see "Closed descriptors") must not write to it afterwards.
 *
 * Returns: 0.
 * Blocks: while another thread of the process has the queue's mutex, or forks; never for room.
 * Errors: the common errors, and:
 *   FORKQ_ECLOSED     this process has closed the queue, or its puts
 *   FORKQ_ESHUTDOWN   the queue is shut down
 *   FORKQ_ERANGE      `size` is 0
 *   FORKQ_ETOOBIG     `size` is larger than max_message
 *   -EDEADLK          see "Signals" in forkq/base.h
 *   -ENOMEM           there is no memory
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_reserve(forkq_queue_t *queue, size_t size,
                                                   void **ret_memory);

/* Puts the first `size` bytes of a reservation, which must be exactly one msgpack object. After a
 * success the memory must not be touched any more. After a failure the reservation is as it was:
 * the caller commits it again, or abandons it. The bytes of a str, bin or ext are not aligned, even though
 * the memory is: they come after its head (forkq/item.h).
 *
 * Returns, Blocks: as forkq_queue_put.
 * Errors: those of forkq_queue_put, and:
 *   FORKQ_EBADOBJECT  the bytes are not exactly one msgpack object
 *   FORKQ_ETOOBIG     `size` is larger than was reserved
 *   -EINVAL           `memory` is not reserved; a parent of this process has reserved it; or
 *                     another thread is just committing it
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_commit(forkq_queue_t *queue, void *memory,
                                                  size_t size, int timeout_ms);

/* Gives a reservation back without a put. Afterwards the memory must not be touched any more. Any
 * thread of the process that reserved it may call this.
 *
 * Returns: 0.
 * Blocks: while another thread of the process has the queue's mutex, or forks.
 * Errors: the common errors, and:
 *   -EDEADLK  see "Signals" in forkq/base.h
 *   -EINVAL   `memory` is not reserved; a parent of this process has reserved it; or another
 *             thread is just committing it
 * Python: none. */
FORKQ_API int forkq_queue_abandon(forkq_queue_t *queue, void *memory);

/* Puts one plain value: `size` bytes as a bin, a string up to its NUL as a str, an integer, or nil. `data` and
 * `text` stay the caller's. `data` may be NULL if `size` is 0. The call does not check that a string is
 * UTF-8. A get returns an object of that type. Its bytes are not aligned (forkq/item.h): copy a struct out
 * of them with memcpy(3), or get it with forkq_queue_get_bytes_into.
 *
 * Returns, Blocks, Errors: as forkq_queue_put.
 * Python: Queue.put(data), .put(text), .put(value), .put(None). */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_put_bytes(forkq_queue_t *queue,
                                                     const void *data, size_t size,
                                                     int timeout_ms);
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_put_str(forkq_queue_t *queue, const char *text,
                                                   int timeout_ms);
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_put_int(forkq_queue_t *queue, int64_t value,
                                                   int timeout_ms);
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_put_nil(forkq_queue_t *queue, int timeout_ms);

/* Puts one object of any shape, by a format and its arguments (forkq/format.h). The arguments must have
 * exactly the types that the format says. They stay the caller's. vputf takes them as a va_list, and
 * leaves it as it is.
 *
 *   r = forkq_queue_putf(queue, -1, "{s:s,s:i}", "path", path, "hits", hits);
 *
 * Returns, Blocks, Errors: as forkq_queue_put, and, with forkq_format_error telling more:
 *   FORKQ_EFORMAT  the format is not valid, whether or not there is room
 *   FORKQ_ENULL    an argument without `?` is NULL
 *   FORKQ_ERANGE   a number does not fit hi, hu, hhi or hhu
 * Python: Queue.put({"path": path, "hits": hits}). */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_putf(forkq_queue_t *queue, int timeout_ms,
                                                const char *format, ...);
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_vputf(forkq_queue_t *queue, int timeout_ms,
                                                 const char *format, va_list args);

/* The same as forkq_queue_put with timeout 0.
 * Python: Queue.put_nowait(obj). */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_put_nowait(forkq_queue_t *queue,
                                                      const msgpack_object *object);

/* Gets one item: the unpacked object in item->object, and its bytes in item->data. A
 * `timeout_ms` of -1 waits without limit, and 0 does not wait.
 *
 * The item begins as FORKQ_ITEM_INIT, serves any number of gets, and ends with
 * forkq_item_destroy: see forkq/item.h, which also says how its bytes are aligned.
 *
 * A process's own items are found by its own get with any timeout. An item of another
 * process can be got once that process's feeder has written it. Waiting getters are woken
 * one at a time.
 *
 * Returns: 0.
 * Blocks: until an item arrives, for at most `timeout_ms`. A waiting get holds no lock
 *   that others need: killing or stopping it blocks nobody. After a stop, another
 *   sleeping getter may take up to 500 ms to wake up. With timeout 0 the call may take
 *   some tenths of a second, if another process is stopped in the middle of its own get. A
 *   get may take 0.1 s longer than its timeout, if another thread of this process keeps an
 *   internal lock: see forkq_queue_put.
 * Errors: the common errors, and:
 *   FORKQ_EMPTY      the queue is empty (timeout 0)
 *   FORKQ_TIMEDOUT   no item arrived within the timeout
 *   FORKQ_EINTERRUPTED  see forkq_queue_interrupt
 *   FORKQ_ECLOSED    this process has closed the queue. A waiting get notices within 500
 *                    ms.
 *   FORKQ_ESHUTDOWN  the queue is shut down, and nothing is left to get
 *   FORKQ_EALONE     nothing is left to get, and no process is left that could put: only after
 *                    forkq_queue_close_put
 *   FORKQ_EBADFRAME  a foreign process wrote bytes that are not a valid item. The item is
 *                    gone and its slot is free. item->data has the bytes, if there are
 *                    any.
 *   FORKQ_EBROKEN    the shared memory is damaged
 *   -ENOMEM          the item stays in the queue. Exception: if only the unpacked object
 *                    did not fit, the item is taken, and item->data has its bytes.
 *   -EBADF           the program has closed the queue's descriptors
 *   other            the system refused read(2), poll(2) or fallocate(2), with this
 *                    negative errno
 *
 *   If the timeout ends in the middle of a large item, the next get continues with it. If
 *   there is no memory to keep the received part, the get continues past its timeout while
 *   more of the item arrives. If the sender also stops then, the item is lost, and the get
 *   returns -ENOSPC, -ENOMEM or -EFBIG.
 *
 *   The first get of a process from a joinable queue can also fail like a first put:
 *   FORKQ_ETOOMANY, -EMFILE, -EDEADLK or -EBADF.
 *
 *   A get from a queue that keeps tasks (`lost_tasks` of forkq_queue_options_t) can fail with FORKQ_EUNDONE,
 *   which says that this process has got too many items that it has not done; and if there is no memory to
 *   keep the item, with -ENOSPC, -ENOMEM or -EFBIG. The item stays the next one, unless it came in parts and
 *   there is no memory for these either. Where an item was taken though the call failed, it is a task of this
 *   process as any other.
 * Python: Queue.get(True, timeout). There the timeout does not cover a message that has
 *   arrived in part, and a killed getter leaves the queue unusable for all others. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_get(forkq_queue_t *queue, forkq_item_t *item,
                                               int timeout_ms);

/* Gets one item as bytes: item->data and item->size. The call neither unpacks the bytes
 * nor checks that they are msgpack.
 *
 * Returns, Blocks, Errors: as forkq_queue_get.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_get_packed(forkq_queue_t *queue,
                                                      forkq_item_t *item, int timeout_ms);

/* Gets one item without a copy of a large str, bin or ext: item->data, and what item->object
 * points to, lie where the producer packed them. Everything else is as in forkq_queue_get, also
 * the alignment: borrowed bytes are not aligned either (forkq/item.h). The
 * bytes of any other item are copied, which includes small ones, arrays and maps, and those for
 * which forkq has no way to borrow; forkq_item_is_borrowed tells. At most 64 items of one producer
 * can be borrowed at a time, by all processes together.
 *
 * Borrowed bytes are for reading only. They are valid until the item's next get, its destruction, or
 * the close of the queue by this process. Until then the producer cannot use this part of its memory
 * again (`shared_max_bytes`); it loses nothing else, also if this process is stopped. When this process
 * dies, the producer gets the memory back. In a child of a fork the borrowed item is the parent's: the
 * bytes may change as soon as the parent ends it. The child may only pass it to a get, or destroy it.
 *
 * A program that puts into this queue can change the bytes at any time: forkq's own puts never do, but
 * a hostile program may. So check what you read from them as you read it, and read it once. The type and
 * the length in item->object were checked when they were read, and do not change.
 *
 * The first call of a process takes a descriptor, and then the process counts as one that uses the queue
 * until it closes it, as with a first put. Where that fails, it copies. So does a process that gets large
 * items with other calls, on machines with four CPUs or more.
 *
 * Returns, Blocks, Errors: as forkq_queue_get.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_queue_get_borrowed(forkq_queue_t *queue, forkq_item_t *item, int timeout_ms);

/* Gets one item that is a bin or a str, and copies its bytes into `buffer`, which has room for `length`: what
 * forkq_queue_put_bytes has put, aligned as the buffer is. The buffer stays the caller's, and may be NULL if
 * `length` is 0. *ret_size (may be NULL) is the number of bytes.
 * A shorter item is no error: compare *ret_size with the size of a struct. An item that does not fit, or
 * is of another type, stays the next one to be got, by any process.
 *
 * Returns: 0.
 * Blocks: as forkq_queue_get.
 * Errors: those of forkq_queue_get, and:
 *   FORKQ_ETOOSHORT   the buffer is too short. *ret_size is the length that the item needs.
 *   FORKQ_EWRONGTYPE  the next item is neither a bin nor a str
 *   FORKQ_ENULL       `buffer` is NULL, and `length` is not 0
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_get_bytes_into(forkq_queue_t *queue,
                                                          void *buffer, size_t length,
                                                          int timeout_ms,
                                                          size_t *ret_size);

/* The same as forkq_queue_get with timeout 0.
 * Python: Queue.get_nowait(). */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_get_nowait(forkq_queue_t *queue,
                                                      forkq_item_t *item);

/* Puts up to `count` objects. The call waits for room for the first one, then puts as
 * many more as fit.
 *
 * Returns: 0 if it put at least one object, or if `count` is 0. *ret_put is the number
 *   put. If it is less than `count`, putting the next object returns the reason.
 * Blocks: as forkq_queue_put, for the first object only.
 * Errors: those of forkq_queue_put. Nothing was put.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_put_many(forkq_queue_t *queue,
                                                    const msgpack_object *objects,
                                                    size_t count, int timeout_ms,
                                                    size_t *ret_put);

/* The bytes of one message, borrowed until the call that receives them returns. */
typedef struct forkq_bytes {
  const void *data;
  size_t size;
} forkq_bytes_t;

#define FORKQ_BYTES_INIT                                                                 \
  { NULL, 0 }

/* Puts up to `count` messages that are already msgpack, as forkq_queue_put_many. Each must
 * be exactly one object. The call validates each message before it puts it.
 *
 * Returns, Blocks: as forkq_queue_put_many.
 * Errors: those of forkq_queue_put_packed. Nothing was put.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_put_many_packed(forkq_queue_t *queue,
                                                           const forkq_bytes_t *messages,
                                                           size_t count, int timeout_ms,
                                                           size_t *ret_put);

/* Puts up to `count` bins of plain bytes, as forkq_queue_put_many. Each is what forkq_queue_put_bytes puts:
 * `data` of an empty one may be NULL.
 *
 * Returns, Blocks: as forkq_queue_put_many.
 * Errors: those of forkq_queue_put_bytes. Nothing was put.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_put_many_bytes(forkq_queue_t *queue,
                                                          const forkq_bytes_t *items,
                                                          size_t count, int timeout_ms,
                                                          size_t *ret_put);

/* Gets up to `count` items into items[0], items[1] and so on. The call waits for the
 * first one, then takes more small items (up to about 4 KiB each) that are already there.
 *
 * Returns: 0. *ret_got is the number of items.
 * Blocks: as forkq_queue_get, for the first item only.
 * Errors: those of forkq_queue_get. No item was taken, with one exception:
 *   FORKQ_EBADFRAME, -ENOMEM  the items may have been taken, and some could not be
 *                             unpacked. *ret_got is then set. An item that could not be
 *                             unpacked has `data` and a nil `object`. Set *ret_got to 0
 *                             before the call to tell the two cases apart.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_get_many(forkq_queue_t *queue,
                                                    forkq_item_t *items, size_t count,
                                                    int timeout_ms, size_t *ret_got);

/* Gets up to `count` items as bytes only, as forkq_queue_get_many. They are neither unpacked
 * nor checked, as in forkq_queue_get_packed.
 *
 * Returns: 0. *ret_got is the number of items.
 * Blocks: as forkq_queue_get, for the first item only.
 * Errors: those of forkq_queue_get_packed. No item was taken.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_get_many_packed(forkq_queue_t *queue,
                                                           forkq_item_t *items,
                                                           size_t count, int timeout_ms,
                                                           size_t *ret_got);

/* Gets up to `count` items without a copy of large strs, bins and exts, as forkq_queue_get_many. Which items
 * are borrowed, and until when, is as in forkq_queue_get_borrowed. At most 64 items of one producer can be
 * borrowed at a time: the others of a larger batch are copied.
 *
 * Returns, Blocks, Errors: as forkq_queue_get_many.
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_get_many_borrowed(forkq_queue_t *queue,
                                                             forkq_item_t *items,
                                                             size_t count, int timeout_ms,
                                                             size_t *ret_got);

/* Marks one item that was got as done. Any process may call it for any item, also after
 * it has closed the queue. (Where tasks are kept, a process can only mark its own: see below.)
 *
 * A worker that has put a result calls forkq_queue_flush on the queue of results before. Else a
 * crash loses results of tasks that count as done.
 *
 * When a process ends, the items that it got and that are not done are abandoned. A call
 * of this function counts for the process itself if it has such items, or else for the
 * parent that had them when it forked this process. Such a child may finish them in the
 * parent's place: they are abandoned only when the child has also ended or called exec. A
 * process for which neither is true can mark other processes' items. If the getter of
 * such an item then dies, the item still counts as abandoned, unless no item is left
 * undone.
 *
 * In a queue that keeps tasks (`lost_tasks` of forkq_queue_options_t) it marks the item that this process
 * got first of those that it has not done, or else that its parent got first. FORKQ_ETASKDONE then says
 * that there is none. A process that does its items in another order calls forkq_queue_task_done_item.
 *
 * Returns: 0.
 * Blocks: while another process holds an internal lock, for microseconds unless that
 *   process is stopped.
 * Errors: the common errors, and:
 *   FORKQ_ETASKDONE     it was called more often than items were put
 *   FORKQ_ENOTJOINABLE  the queue was not created as joinable
 *   FORKQ_EBROKEN       the shared memory is damaged
 * Python: JoinableQueue.task_done(). */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_task_done(forkq_queue_t *queue);

/* Marks this item as done, in a queue that keeps tasks. `item` is the one of the get, which has been used
 * for no other get since; its bytes are not looked at. A child may mark an item that its parent got before
 * it forked the child. In other queues this is forkq_queue_task_done.
 *
 * Returns: 0.
 * Blocks: as forkq_queue_task_done.
 * Errors: those of forkq_queue_task_done, and:
 *   FORKQ_ETASKDONE  the item is done already; or it is not from a get of this queue; or this process
 *                    was taken for dead, as it had closed the queue's descriptors, and the item is
 *                    another's by now
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_task_done_item(forkq_queue_t *queue,
                                                          const forkq_item_t *item);

/* Gets an item whose process ended without finishing it, in a queue with FORKQ_LOST_TASKS_TELL; also after
 * forkq_queue_close. Each such item is told once, to one process, and in the order in which they were got. It
 * is not a task: it counts as abandoned. Where nobody asks, the oldest are forgotten when their
 * memory is needed for others; that is logged.
 *
 * Returns: 0.
 * Blocks: never for an item; as forkq_queue_qsize while it looks for processes that have ended.
 * Errors: the common errors, and:
 *   FORKQ_EMPTY         there is none, or not yet: of processes that ended, as far as is known
 *   FORKQ_ENOTJOINABLE  the queue was not created with FORKQ_LOST_TASKS_TELL
 *   FORKQ_EBADFRAME     the bytes are not valid msgpack. `item` then has `data` and a nil `object`.
 *   FORKQ_EBROKEN       the shared memory is damaged
 *   -ENOMEM             there is no memory: the item stays, or it has `data` and a nil `object`
 *   -EBADF              the program has closed the queue's descriptors
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_get_lost(forkq_queue_t *queue,
                                                    forkq_item_t *item);

/* Waits until every item that was put is done. Items that never arrived do not count:
 * their producer died, or an immediate shutdown dropped them. It may be called after
 * forkq_queue_close.
 *
 * Returns: 0 when all items are done.
 * Blocks: for at most `timeout_ms`. It notices the end of a process within 0.1 s.
 * Errors: the common errors, and:
 *   FORKQ_EABANDONED    no item is left, but processes ended between a get and its
 *                       task_done. Only then, *ret_abandoned is set, unless it is NULL:
 *                       the number of such items since this process last joined.
 *   FORKQ_TIMEDOUT      items are not done within the timeout, also with timeout 0
 *   FORKQ_EINTERRUPTED  see forkq_queue_interrupt
 *   FORKQ_ENOTJOINABLE  the queue was not created as joinable
 * Python: JoinableQueue.join(), without a timeout. It waits forever after a worker dies,
 *   or after an object that does not serialize. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_join(forkq_queue_t *queue, int timeout_ms,
                                                uint64_t *ret_abandoned);

/* Shuts the queue down for all processes. There is no way back. Puts fail with
 * FORKQ_ESHUTDOWN from now on, waiting ones included. Gets continue until nothing is
 * left, then they fail with FORKQ_ESHUTDOWN; gets that wait on an empty queue fail at
 * once.
 *
 * With `immediate` nonzero, the items that are left are dropped and count as done, and
 * gets fail at once. Items that another process has not sent yet disappear moments later.
 * A second call can only add `immediate`.
 *
 * An item whose put returned 0 is never forgotten: a getter that sees the shutdown can
 * get it, and a join that sees the shutdown counts it.
 *
 * Returns: 0.
 * Blocks: it does not wait for puts or gets in progress. If a process is stopped while it
 *   holds an internal lock, the call takes 0.1 s longer, or less than 1 s with
 *   `immediate`.
 * Errors: the common errors, and:
 *   FORKQ_ECLOSED  this process has closed the queue
 *   -EDEADLK       see "Signals" in forkq/base.h
 * Python: queue.Queue.shutdown(immediate) of 3.13. multiprocessing has none. */
FORKQ_API int forkq_queue_shutdown(forkq_queue_t *queue, int immediate);

/* Counts the items that were put and not yet got, by all processes, in outboxes, pipe and
 * read-ahead. The number is correct at one moment during the call. The call first
 * recovers slots of dead processes. It works until forkq_queue_destroy, in every process.
 *
 * Returns: the number of items.
 * Blocks: for at most 0.2 s, if a process is stopped while it holds a lock that the
 *   recovery needs.
 * Errors:
 *   FORKQ_ENULL  `queue` is NULL
 * Python: Queue.qsize(), which raises NotImplementedError on macOS. */
FORKQ_API int64_t forkq_queue_qsize(forkq_queue_t *queue);

/* Tells whether forkq_queue_qsize is 0.
 *
 * Returns: 1 if it is, else 0.
 * Blocks: as forkq_queue_qsize.
 * Errors: the common errors, and:
 *   FORKQ_ECLOSED  this process has closed the queue, and its feeder has sent all items
 *                  that it put, as in CPython 3.13. If it never put, the function
 *                  continues to answer.
 * Python: Queue.empty(), which asks the pipe and returns True while items wait in a
 *   feeder. */
FORKQ_API int forkq_queue_empty(forkq_queue_t *queue);

/* Tells whether a put of this process would find the queue full. It works until
 * forkq_queue_destroy.
 *
 * Returns: 1 if the queue holds `maxsize` items, or if this process is at its
 *   outbox_max_bytes; else 0.
 * Blocks: as forkq_queue_qsize.
 * Errors:
 *   FORKQ_ENULL  `queue` is NULL
 * Python: Queue.full(). */
FORKQ_API int forkq_queue_full(forkq_queue_t *queue);

/* Returns a descriptor for an event loop of the program: epoll, poll, GLib or libevent.
 * (For libuv see forkq/loop_handle.h.)
 *
 * The descriptor is readable, level-triggered, whenever a get would find an item, a
 * shutdown or FORKQ_EALONE, also when another process has read the item ahead. When it is
 * readable, get with timeout 0 until FORKQ_EMPTY, or stop earlier: it stays readable while
 * there is more. A spurious wake-up is possible: another process was faster, or items of other
 * processes are still on their way after a shutdown, or tasks of others may come again after
 * the end of the last process that could put. Then retry after some milliseconds.
 * The descriptor says nothing about room for puts: see forkq_queue_room_fileno.
 *
 * The queue owns the descriptor: do not read, write or close it. It is valid until
 * forkq_queue_close; remove it from the loop before. The first call creates it. From then
 * on, in this process and the children that it forks, readers in all processes signal
 * when the queue becomes non-empty. This costs them two system calls each time.
 *
 * Returns: the descriptor.
 * Blocks: while another thread of this process is in the middle of a put or a close.
 * Errors: the common errors, and:
 *   FORKQ_ECLOSED  this process has closed the queue
 *   -EDEADLK       see "Signals" in forkq/base.h
 *   -ENOMEM        there is no memory
 *   -EMFILE        the process has no descriptors left
 *   -ENFILE        the system has no descriptors left
 * Python: Queue._reader.fileno(), a private attribute. It misses nothing there, because
 *   nothing is read ahead. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_fileno(forkq_queue_t *queue);

/* Returns a descriptor for an event loop of the program that says that there may be room for a put.
 *
 * Put with timeout 0 until FORKQ_FULL. Then wait until the descriptor is readable, and put again. It is
 * readable, level-triggered, from the first call on until a put of this process with timeout 0 returns
 * FORKQ_FULL, and again once a put would not wait: there is room for an item, and in the outbox
 * (outbox_max_bytes), or puts have ended, by a shutdown or forkq_queue_close_put.
 * It may be readable although there is no room, when others were faster: the put then returns FORKQ_FULL. It
 * may be late by 0.1 s after the death of a process, which gives back the slots that this one had or forgets
 * to tell others, and by more while this process is in the middle of sending a large message. Nothing else
 * needs a timer.
 *
 * The queue owns the descriptor: do not read, write or close it. It is valid until forkq_queue_close; remove it
 * from the loop before. The first call creates it, with another one that is not returned. It is this
 * process's own: a forked child calls the function itself.
 *
 * While nobody has found the queue full, puts and gets do nothing for it; this process's feeder looks up ten
 * times a second while the pipe is full. After a FORKQ_FULL, the next process that frees a slot
 * makes two or three system calls more, and this process's feeder looks up to ten times a second until it
 * finds room.
 *
 * forkq_wait with an entry forkq_wait_on_fd(forkq_queue_room_fileno(queue)) waits for room and for other
 * things at once.
 *
 * Returns: the descriptor.
 * Blocks: while another thread of this process is in the middle of a put or a close.
 * Errors: the common errors, and:
 *   FORKQ_ECLOSED  this process has closed the queue
 *   -EDEADLK       see "Signals" in forkq/base.h
 *   -ENOMEM        there is no memory
 *   -EMFILE        the process has no descriptors left
 *   -ENFILE        the system has no descriptors left
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_room_fileno(forkq_queue_t *queue);

/* Counts of all processes since the queue was created, and the unsent items of this
 * process. Each number is correct at some moment of the call, but not all at the same
 * one. A child that is killed in the moment in which it takes over the items of its dead
 * parent may have counted them a second time, in put_items and lost_items. */
typedef struct forkq_queue_stats_s {
  size_t size;        /* sizeof(forkq_queue_stats_t), set by the caller */
  uint64_t put_items; /* accepted items, including those lost later */
  uint64_t put_bytes; /* their bytes of msgpack */
  uint64_t got_items; /* including items dropped by an immediate shutdown */
  /* The bytes of msgpack of these. */
  uint64_t got_bytes;
  uint64_t put_waits;    /* how often a putter slept for room */
  uint64_t get_waits;    /* how often a getter slept for an item */
  uint64_t outbox_items; /* put by this process and not yet sent */
  /* The bytes of msgpack of these. */
  uint64_t outbox_bytes;
  uint64_t recoveries; /* locks and accounts of dead processes that were repaired */
  uint64_t lost_items; /* put by processes that were killed, and lost with them */
  uint64_t redelivered_items; /* got again after the death of their process */
} forkq_queue_stats_t;

#define FORKQ_QUEUE_STATS_INIT                                                           \
  { sizeof(forkq_queue_stats_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Fills in *stats, counts of all processes. It first looks for processes that died, as
 * forkq_queue_qsize does. The caller sets stats->size before, as
 * FORKQ_QUEUE_STATS_INIT does. It may be smaller than the library's, as in
 * forkq_queue_options_t; the smallest valid size ends after `put_items`. It works until
 * forkq_queue_destroy.
 *
 * Returns: 0.
 * Blocks: as forkq_queue_qsize.
 * Errors:
 *   FORKQ_ENULL   `queue` or `stats` is NULL
 *   FORKQ_ERANGE  stats->size is too small, larger than this library's, or not the size of
 *                 a struct
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_stats(forkq_queue_t *queue,
                                                 forkq_queue_stats_t *stats);

/* Waits until everything is in the pipe that this process had put into the queue before the call, and that
 * can be sent: for instance before exec(3) or _exit(2), with which unsent items are lost. The queue stays
 * open. Other threads may go on putting. What a parent had put before it forked this process does not count.
 *
 * Returns: 0. *ret_unsent (may be NULL) is then 0. Items that could not be sent were reported
 *   (on_feeder_error).
 * Blocks: while the pipe is full, for at most `timeout_ms`, or 0.1 s longer: see forkq_queue_put. A
 *   cancellation point.
 * Errors: the common errors, and:
 *   FORKQ_TIMEDOUT  some items are not sent yet, and are still on their way. *ret_unsent is their number, or
 *                   unchanged if another thread kept an internal lock.
 *   FORKQ_ECLOSED   this process has closed the queue, perhaps during the wait: see
 *                   forkq_queue_join_thread
 *   FORKQ_EINTERRUPTED  see forkq_queue_interrupt
 *   -EDEADLK        see "Signals" in forkq/base.h
 * Python: none; close() and join_thread() end the use of the queue. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_flush(forkq_queue_t *queue, int timeout_ms,
                                                 uint64_t *ret_unsent);

/* Interrupts this process's calls on the queue. Each thread of the process is told once, with
 * FORKQ_EINTERRUPTED: by the call in which it is blocked, or else by its next call that would block.
 * That call has done nothing: no item was got, none was put, and a timeout is not used up. So a program
 * that ends its loops with a flag, in a signal handler or from another thread, sets the flag first and
 * then calls this function:
 *
 *   static volatile sig_atomic_t stop;
 *   static void on_sigint(int signo) { stop = 1; forkq_queue_interrupt(queue); }
 *
 *   while (!stop) {
 *     r = forkq_queue_get(queue, &item, -1);
 *     if (r == FORKQ_EINTERRUPTED)
 *       continue;
 *     ...
 *
 * A thread that has seen the flag may not have been told yet. Then a call after the loop, which cleans up,
 * returns FORKQ_EINTERRUPTED, once for one interrupt: repeat it.
 *
 * An interrupt is never lost. If it comes after a thread has looked at the flag and before its call
 * blocks, that call returns at once. It waits for each thread that is just not blocked, however long; a
 * thread that begins later may be told, too, because forkq cannot know whether that one saw the flag.
 * Several interrupts count as one for a thread that was not told of the first. A call that need not
 * wait goes on as usual, and so does one with timeout 0. A call that finds an item, or room, together
 * with the interrupt returns 0; the thread is told by its next call.
 *
 * It ends the calls that list FORKQ_EINTERRUPTED, and forkq_wait if it waits for the queue. Gets, puts,
 * joins and forkq_wait return at once. forkq_queue_flush, forkq_queue_join_thread and a call that waits
 * for an internal lock return within 0.5 s. Destruction, close and exit are not interrupted. Requests
 * on a loop are not either, because they do not block a thread: wake the loop with uv_async_send.
 * Other processes are not affected. A forked child begins without an interrupt, as it does without a
 * pending signal.
 *
 * It may be called in a signal handler, on any thread (async-signal-safe), in a packing function, and
 * again and again. It leaves errno unchanged. In a handler, see to it that forkq_queue_destroy has not
 * begun, as with any call.
 *
 * Returns: 0.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL  `queue` is NULL
 * Python: none. A signal interrupts a blocked call there, runs its handler in the main thread, and an
 *   exception ends the call. A binding does that with FORKQ_EINTERRUPTED: it calls
 *   PyErr_CheckSignals, and then the function again with the time that is left. */
FORKQ_API int forkq_queue_interrupt(forkq_queue_t *queue);

/* Ends the puts of this process, which goes on getting. Its puts return FORKQ_ECLOSED from now on, those
 * that wait included. Calling it twice is allowed. There is no way back.
 *
 * When no process is left that could put, gets of this process return what was sent, and then FORKQ_EALONE:
 * see "The last process that could put". A process that has not called this function could put itself, and
 * so never gets FORKQ_EALONE.
 *
 * The feeder first sends the items that were put. Until then this process counts as one that could put. A
 * child that is forked afterwards can only get, too. A process that can only get cannot hand the queue over
 * or serve it (FORKQ_ECLOSED). What its parent had put and not sent ("fork") it leaves to the parent, or
 * sends it first if the parent is dead.
 *
 * Returns: 0.
 * Blocks: never for the pipe. A child that kept unsent items of its parent may take 0.3 s.
 * Errors:
 *   FORKQ_ECLOSED   this process has closed the queue
 *   FORKQ_ENULL     `queue` is NULL
 *   FORKQ_EPACKING  a packing function made the call
 *   -EDEADLK        see "Signals" in forkq/base.h
 * Python: Queue._writer.close(), which is private, and which Pool's workers call. */
FORKQ_API int forkq_queue_close_put(forkq_queue_t *queue);

/* Closes the queue for this process: it can no longer put or get. Its threads that wait
 * in a put or get return FORKQ_ECLOSED. Other processes are not affected. Closing twice
 * is allowed.
 *
 * The feeder sends the items that were put, then the queue's descriptors are closed. If
 * nothing was put, they are closed at once. In a joinable queue the descriptors of the
 * shared memory stay open until forkq_queue_destroy, for task_done and join.
 *
 * Returns: 0.
 * Blocks: until this process's threads have left their gets, for at most 500 ms. A child
 *   that kept unsent items of its parent ("fork") may take 0.3 s more.
 * Errors:
 *   FORKQ_ENULL     `queue` is NULL
 *   FORKQ_EPACKING  a packing function made the call
 *   -EDEADLK        see "Signals" in forkq/base.h
 * Python: Queue.close(), which leaves descriptors open if the process never put. */
FORKQ_API int forkq_queue_close(forkq_queue_t *queue);

/* Waits until this process's feeder has sent all items that were put. Call it after
 * forkq_queue_close. After forkq_queue_cancel_join_thread it returns at once.
 *
 * Returns: 0 when all items are sent, or when the feeder has given up because no other
 *   process has the queue. *ret_unsent (may be NULL) is set on 0 and on FORKQ_TIMEDOUT:
 *   the number of items not sent. On 0 these items are lost (after
 *   forkq_queue_cancel_join_thread: unless the feeder still sends them before the process
 *   ends). On FORKQ_TIMEDOUT they are still on their way.
 * Blocks: for at most `timeout_ms`, or 0.1 s longer, if another thread of this process keeps
 *   an internal lock: see forkq_queue_put.
 * Errors:
 *   FORKQ_ENOTCLOSED  forkq_queue_close was not called before
 *   FORKQ_TIMEDOUT    the feeder has not finished within the timeout
 *   FORKQ_EINTERRUPTED  see forkq_queue_interrupt
 *   FORKQ_ENULL       `queue` is NULL
 *   FORKQ_ETIMEOUT    timeout_ms is below -1
 *   FORKQ_EPACKING    a packing function made the call
 *   -EDEADLK          see "Signals" in forkq/base.h
 * Python: Queue.join_thread(), which has no timeout. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_queue_join_thread(forkq_queue_t *queue, int timeout_ms, uint64_t *ret_unsent);

/* Makes the end of this process not wait for the feeder: exit, forkq_queue_join_thread and
 * forkq_queue_destroy. Items that the feeder has not sent by then are lost, their slots become
 * free, and no lock stays held. It may be called before the first put.
 *
 * Returns: 0.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL  `queue` is NULL
 * Python: Queue.cancel_join_thread(). */
FORKQ_API int forkq_queue_cancel_join_thread(forkq_queue_t *queue);

/* Ends this process's use of the queue and frees the handle. It closes the queue, joins
 * the feeder without limit unless that was cancelled, and frees all memory. NULL is
 * allowed. Other processes are not affected. No other thread may use the handle, then or
 * later.
 *
 * In a handler, of a signal or of pthread_atfork(3), that interrupted a call of this
 * thread on the handle, it does nothing: call it again later.
 *
 * Blocks: as long as the pipe is full and another process has the queue.
 * Errors: none.
 * Python: none; the garbage collector does it. */
FORKQ_API void forkq_queue_destroy(forkq_queue_t *queue);

#ifdef __cplusplus
}
#endif

#endif
