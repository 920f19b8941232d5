/* forkq/redis.h: a queue that a Redis server holds.
 *
 * The queue of forkq/queue.h, for processes on several machines: the server has the items, and so they outlive
 * the processes. A program changes where it opens its queue, and links libforkq-redis:
 *
 *   r = forkq_redis_open(&queue, "redis://host:6379/0?queue=jobs&maxsize=1000", NULL);
 *   r = forkq_queue_put_str(queue, "hello", -1);
 *
 * The functions of forkq/queue.h are the same. Their promises are the same unless a table below says otherwise.
 * Programs in other languages can use the queue, too: docs/redis.md has its keys and scripts. The server is
 * Redis 6.2 or later, or one that does the same, as Valkey does.
 *
 * What is different
 *
 *   put, and its variants  When it returns 0, the server has the item. It takes effect once, however often it
 *     had to be repeated. One whose connection was lost in the middle, and stayed so until the deadline, returns
 *     FORKQ_EUNKNOWN: the item may be in the queue, or not, but it does not appear after this thread's
 *     next call. A packing function is run before there is a look for room. A batch is put up to 64 items at a
 *     time; items of other processes may come between.
 *   get, and its variants  An item belongs to the process that got it until that process has done it; see "Leases".
 *     A batch has up to 64 items. forkq_queue_get_borrowed makes a copy. An item that forkq_queue_get_bytes_into
 *     does not take goes back to the head, and for a moment another process may get the one after it.
 *   task_done, join  In a queue with joinable=1. forkq_queue_task_done means the item that this process got first of
 *     those that it has not done, and forkq_queue_task_done_item another one. FORKQ_ELEASE: the item was given
 *     to another process, because this one did not show for too long that it lives. Neither works
 *     after forkq_queue_close. No item counts as abandoned.
 *   close  Gives back what is not done. It waits for the server for up to `answer_ms`.
 *   qsize, empty, full  Ask the server. They work until forkq_queue_close, and may fail.
 *   flush, join_thread  Return 0 at once: there is nothing that is not sent.
 *   forkq_queue_fileno, forkq_wait  The first call starts one more thread, with a connection. The descriptor is this process's
 *     own: a child calls the function itself. It is readable from when an item comes, until a get of this process with
 *     timeout 0 returns FORKQ_EMPTY: get until then. It is valid until forkq_queue_destroy. forkq_wait uses it, and
 *     says that a queue which another thread has closed is ready.
 *   shutdown  Is stored with the queue, and so lasts until the queue is deleted.
 *   timeouts  As in forkq/base.h. A call with timeout 0, and one without a timeout, waits for the server's answer
 *     for up to `answer_ms`; a put or get that waits tries again until its deadline.
 *   interrupt, cancellation  Of calls that wait for an item, for room, for tasks or for a connection. A call that
 *     waits for the server's answer looks up after `answer_ms`. A put whose thread is cancelled may
 *     have been let in at that very moment.
 *   fork  A child has the same queue, with connections of its own. Items that the parent got are the parent's.
 *
 * Errors of calls
 *
 *   Beside those of forkq/queue.h, a call can return these, with forkq_redis_error telling more:
 *
 *   FORKQ_ECONNLOST  there is no connection, or no answer, until the deadline, or for `answer_ms`. A put has not
 *     happened, since the request was not sent. What a get might have taken is got later
 *   FORKQ_EUNKNOWN  a put was sent, and there is no answer
 *   FORKQ_ESERVER  the server refuses: it is out of memory, or the keys have other values
 *   FORKQ_EAUTH  the server does not let the user do this, any more
 *   FORKQ_EDIFFERS, FORKQ_EVERSION, FORKQ_EUNSAFE  the queue, or the server, is another one by now
 *   FORKQ_ENOTHREAD  the first call of a child cannot start its thread
 *   FORKQ_ETOOBIG  the message has more than FORKQ_REDIS_MESSAGE_MAX bytes
 *
 * Not supported
 *
 *   These return -ENOTSUP, without effect: forkq_queue_reserve, forkq_queue_commit, forkq_queue_abandon,
 *   forkq_queue_room_fileno, forkq_queue_stats, forkq_queue_close_put, the requests of forkq/loop_handle.h,
 *   forkq_queue_hand_over, forkq_queue_send and forkq_queue_serve. forkq_queue_get_lost returns
 *   FORKQ_ENOTJOINABLE.
 *
 * Leases
 *
 *   Each process that has the queue tells the server, three times in each lease, that it lives; a thread of its own does
 *   that. If it does not for a whole lease, what it got and has not done goes back to the head of the queue, at the
 *   latest a third of a lease later. item->redelivered says how often that happened to an item. So no item is
 *   lost with its process, and an item may be done more than once: a process that was stopped for
 *   longer than its lease does not know that it lost its items.
 *
 *   In a queue with joinable=1 an item is done with its task_done. In any other queue, it is done with the next get
 *   of the thread that got it, or with forkq_queue_close. exit() closes the queue as well.
 *
 * What the server must do
 *
 *   A server that is killed keeps what it has on disk: with appendfsync=always all that a put has returned 0
 *   for, with everysec all but the last second or two, even if only its process is killed. Also then it may lose items
 *   if it is killed while it writes, unless its log is mended before its start: docs/redis.md, `aof-load-truncated`. A
 *   replica that takes over may lack the last puts and confirmations. A server that may evict keys may lose items: with a
 *   maxmemory-policy other than noeviction and a maxmemory, opening fails with FORKQ_EUNSAFE.
 *
 * URLs
 *
 *   redis://[[user]:password@]host[:port][/database]?queue=NAME...
 *   redis+unix://[[user]:password@]/path?queue=NAME...
 *
 *   user, password, path and values may have %XX for a character. After the ? stand, with & between them:
 *
 *   queue     its name: up to 63 of the characters A-Z, a-z, 0-9, '.', '_' and '-'. It must be given
 *   maxsize   the limit on the items in the queue; 0: none. Without it, it is as whoever made the queue has said,
 *             or else none
 *   joinable  1 or 0. Without it, it is as whoever made the queue has said, or else 0
 *   lease     in milliseconds, from 300 to 86400000; 30000 if not given. Each process has its own
 *   durable   1: refuse a server that may lose what it has acknowledged (FORKQ_EUNSAFE)
 *   db        the database of a Unix socket's server; 0 if not given
 *
 *   The first process that opens a queue makes it. It stays until its keys are deleted. The password is also taken from
 *   the options, or, where neither has one, from the environment: FORKQ_REDIS_PASSWORD=secret. It is never written to
 *   the log. There is no TLS: rediss:// returns -ENOTSUP. */
#ifndef FORKQ_REDIS_H
#define FORKQ_REDIS_H

#include <forkq/queue.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The most bytes of a message: what a server accepts as it is set up usually. */
#define FORKQ_REDIS_MESSAGE_MAX 0x1fffffffu

/* How to open a queue of a server. Begin with FORKQ_REDIS_OPTIONS_INIT. */
typedef struct forkq_redis_options {
  size_t size;      /* sizeof(forkq_redis_options_t) */
  const char *user; /* NULL, the default: that of the URL. It is copied */
  /* NULL, the default: that of the URL, or else of the environment. It is copied. */
  const char *password;
  /* How long to wait for an answer of the server, in milliseconds, before the connection counts as lost; 0, the
   * default: 5000. Also how long to wait for a connection in forkq_redis_open. */
  int answer_ms;
} forkq_redis_options_t;

#define FORKQ_REDIS_OPTIONS_INIT                                                         \
  { sizeof(forkq_redis_options_t), NULL, NULL, 0 }

/* Opens a queue of a server. It makes the queue if there is none. The caller owns *ret_queue and destroys it with
 * forkq_queue_destroy, in this process and in every child that inherits it. forkq_redis_error tells more of a
 * failure.
 *
 * `options` may be NULL. The process has one thread for the queue, two connections, and one more for each thread
 * that is in a call on the queue at the same time.
 *
 * Returns: 0. After a failure nothing is left behind.
 * Blocks: until the server has answered, for up to `answer_ms` of the options and the time to look up the host.
 * Errors:
 *   FORKQ_ENULL     `ret_queue` or `url` is NULL
 *   FORKQ_ERANGE    the URL is not valid; options->size is not the size of a struct; or another option is out
 *                   of range
 *   FORKQ_EAUTH     the server refuses the user or the password, or does not let the user do this
 *   FORKQ_EVERSION  the server is older than 6.2, or the queue was made by another version
 *   FORKQ_EDIFFERS  the queue is there with another maxsize, or joinable
 *   FORKQ_EUNSAFE   the server may evict items, or `durable` was asked for and it may lose them
 *   FORKQ_ESERVER   the server refuses: it is loading, read-only, or out of memory, or the keys have other
 *                   values
 *   FORKQ_ECONNLOST the server does not answer
 *   FORKQ_EPACKING  a packing function made the call
 *   FORKQ_ENOTHREAD the thread cannot be started
 *   -ENOTSUP        the URL begins with rediss://
 *   -EHOSTUNREACH   the host is not known
 *   -EDEADLK        see "Signals" in forkq/base.h
 *   -ENOMEM         there is no memory
 *   other           a negative errno of socket, connect or eventfd, such as -ECONNREFUSED
 * Python: multiprocessing.managers.BaseManager, with a queue, and connect(). */
FORKQ_API FORKQ_MUST_CHECK int forkq_redis_open(forkq_queue_t **ret_queue,
                                                const char *url,
                                                const forkq_redis_options_t *options);

/* Tells what the server, or the connection, said about the last failure of a call of this thread on a queue
 * of a server.
 *
 * Returns: the text, or "". It is valid until the thread's next call on such a queue.
 * Blocks: never.
 * Errors: none.
 * Python: str(exception). */
FORKQ_API const char *forkq_redis_error(void);

#ifdef __cplusplus
}
#endif

#endif
