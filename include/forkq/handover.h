/* forkq/handover.h: passing a queue to another program.
 *
 * A forked child has its parent's queues. Any other program gets a queue by a handover:
 * five descriptors, and one line of text with their numbers. No name in a file system is
 * involved, so nothing is left behind if all processes are killed. It is the counterpart
 * of multiprocessing's spawn and forkserver contexts.
 *
 * To a program that you start
 *
 *   1. Call forkq_queue_hand_over, which fills in a forkq_handover_t.
 *   2. Fork. The child calls forkq_handover_keep.
 *   3. The child calls exec, and passes the text in an argument or environment variable.
 *   4. The new program calls forkq_queue_attach with that text.
 *
 *   With posix_spawn, replace step 2: for each of the descriptors call
 *   posix_spawn_file_actions_adddup2(&actions, fd, fd), which keeps it open.
 *
 * To a program that already runs
 *
 *   Call forkq_queue_send on a Unix stream socket. The other program calls
 *   forkq_queue_receive on its end.
 *
 * Requirements
 *
 *   Both programs must use the same layout of the shared memory and the same locks: the
 *   same version of forkq, the same version of the same C library (the text of
 *   gnu_get_libc_version(3)), and the same size of a long. Anything else is refused
 *   (FORKQ_EVERSION). Both must be in one PID namespace (forkq/queue.h).
 *
 *   Both programs must trust each other as a parent and its forked child do: each can
 *   write anything to the shared memory. The checks here find mistakes, not attacks. */
#ifndef FORKQ_HANDOVER_H
#define FORKQ_HANDOVER_H

#include <forkq/queue.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FORKQ_HANDOVER_FDS 5
#define FORKQ_HANDOVER_TEXT 80 /* bytes, including the NUL at the end */

/* What another program needs to open the queue. `fds` are the queue's own descriptors,
 * borrowed: they are valid until the process closes the queue, or its puts. `text` names
 * them. A forked child has them under the same numbers. */
typedef struct forkq_handover {
  int fds[FORKQ_HANDOVER_FDS];
  char text[FORKQ_HANDOVER_TEXT];
} forkq_handover_t;

#define FORKQ_HANDOVER_INIT                                                              \
  { { -1, -1, -1, -1, -1 }, "" }

/* Fills in *ret_handover with the queue's descriptors and their text. The process keeps
 * the queue, which does not change. Call it before the fork or in the child.
 *
 * Returns: 0.
 * Blocks: only while another thread of the process is in the middle of a put or a close.
 * Errors:
 *   FORKQ_ENULL     `queue` or `ret_handover` is NULL
 *   FORKQ_ECLOSED   this process has closed the queue, or its puts
 *   FORKQ_EPACKING  a packing function made the call
 *   -EDEADLK        a signal handler made the call and interrupted another call on the
 *                   queue
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_hand_over(forkq_queue_t *queue,
                                                     forkq_handover_t *ret_handover);

/* Keeps the five descriptors open across the exec of the calling process. Call it in a
 * child between fork and exec. The parent does not change. If the process does not call
 * exec next, programs that any of its threads starts inherit the descriptors.
 *
 * Returns: 0.
 * Blocks: never. It only makes system calls, so it is safe in a child of a process with
 *   threads.
 * Errors:
 *   FORKQ_ENULL  `handover` is NULL
 *   -EBADF       a descriptor is not open; those before it survive exec
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_handover_keep(const forkq_handover_t *handover);

/* Opens the queue that was handed over with `text`. The caller owns *ret_queue and
 * destroys it with forkq_queue_destroy. `options` may be NULL. forkq ignores maxsize,
 * max_message, joinable and name in it: the queue has its own.
 *
 * On success the queue owns the five descriptors, which become close-on-exec. On failure
 * each is as it was.
 *
 * Linux 5.2 and later tell in /proc which eventfd is which. If the creator or this
 * process cannot read that, the call still checks that the two event descriptors are
 * different, and are not files, pipes or sockets.
 *
 * Returns: 0.
 * Blocks: as forkq_queue_create. A child that is forked meanwhile either has the queue or
 *   does not.
 * Errors:
 *   FORKQ_EHANDOVER   the text is not a handover; or the descriptors are not those of one
 *                     queue, each in its place; or the memory is damaged
 *   -EBADF            a descriptor is not open: forkq_handover_keep was not called before
 *                     exec
 *   FORKQ_EVERSION    the queue has another version of forkq or of the C library
 *   FORKQ_ETWICE      this process already has the queue and has not destroyed it
 *   FORKQ_ENAMESPACE  the creator of the queue is in another PID namespace, or one of the
 *                     two namespaces is unknown
 *   FORKQ_ENOROBUST   robust mutexes do not work on this system
 *   FORKQ_ENULL       `ret_queue` or `text` is NULL
 *   FORKQ_ERANGE      options->size, max_message, spin_us, shared_max_bytes or name is not
 *                     valid (forkq_queue_create_with)
 *   FORKQ_EPACKING    a packing function made the call
 *   -EDEADLK          see "Signals" in forkq/base.h
 *   -ENOMEM           there is no memory
 *   other             a negative errno of fstat(2), fcntl(2), pread(2) or mmap(2)
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_attach(forkq_queue_t **ret_queue,
                                                  const char *text,
                                                  const forkq_queue_options_t *options);

/* Sends the queue over a connected Unix stream socket. The caller keeps the queue and the
 * socket. The queue stays alive while it is on its way, even if the sender ends. No other
 * thread may close the queue, or its puts, during the call.
 *
 * Returns: 0.
 * Blocks: while the socket's buffer is full.
 * Errors:
 *   FORKQ_ENULL     `queue` is NULL
 *   FORKQ_ECLOSED   this process has closed the queue, or its puts
 *   FORKQ_EPACKING  a packing function made the call
 *   -EDEADLK        as in forkq_queue_hand_over
 *   -EAGAIN         the socket is nonblocking and its buffer is full; nothing was sent
 *   -ENOTSOCK       `socket` is not a socket
 *   -EAFNOSUPPORT   the socket is of another family, which passes no descriptors
 *   -EPIPE          nobody can receive it; SIGPIPE is not raised
 *   -ETOOMANYREFS   too many descriptors of this user are on their way
 *   other           a negative errno of sendmsg(2), such as -EBADF, -ENOTCONN or -ENOMEM
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_send(forkq_queue_t *queue, int socket);

/* Receives a queue that forkq_queue_send sent, and opens it as forkq_queue_attach does.
 * The caller owns *ret_queue and keeps the socket. The descriptors of the queue are
 * close-on-exec from the start, and their numbers are above 2. forkq discards other
 * control messages that socket options add (SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD).
 *
 * Returns: 0.
 * Blocks: until something arrives. To limit the wait, poll the socket first.
 * Errors: after these, nothing is taken from the socket:
 *   FORKQ_ENULL     `ret_queue` is NULL
 *   FORKQ_ERANGE    as in forkq_queue_attach
 *   FORKQ_EPACKING  a packing function made the call
 *   -EAGAIN         the socket is nonblocking and nothing has arrived
 *   other           a negative errno of recvmsg(2), such as -EBADF, -ENOTSOCK or
 *                   -ECONNRESET
 *
 *   At the end of the stream:
 *   FORKQ_EEOF  the other side has closed its end
 *
 *   After these, everything that arrived is taken and closed, and the queue must be sent
 *   again:
 *   -EMFILE          the process has no room for five more descriptors, or a security
 *                    module (SELinux) withholds them: the kernel does not distinguish the
 *                    two
 *   FORKQ_EHANDOVER  what arrived is not one handover, or is damaged. If other bytes
 *                    arrived, the start of the next handover in the stream is unknown.
 *   other            FORKQ_EVERSION, FORKQ_ETWICE, FORKQ_ENAMESPACE, FORKQ_ENOROBUST,
 *                    -EDEADLK, -ENOMEM and others, as in forkq_queue_attach
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_receive(forkq_queue_t **ret_queue, int socket,
                                                   const forkq_queue_options_t *options);

#ifdef __cplusplus
}
#endif

#endif
