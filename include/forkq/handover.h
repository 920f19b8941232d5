/* forkq/handover.h: giving a queue to another program.
 *
 * A child that is forked has its parent's queues. Any other program gets a queue by a handover:
 * five descriptors, and one line of text with their numbers. No name in any file system is
 * involved, so nothing is left when everybody is killed. The counterpart of the spawn and
 * forkserver contexts of multiprocessing.
 *
 * To a program that you start:
 *
 *   1. You call forkq_queue_hand_over, which fills in a forkq_handover_t.
 *   2. You fork, and the child calls forkq_handover_keep.
 *   3. The child calls exec, and passes the text in an argument or an environment variable.
 *   4. The program calls forkq_queue_attach with that text.
 *
 * With posix_spawn, you add for each of the descriptors, instead of the second step,
 * posix_spawn_file_actions_adddup2(&actions, fd, fd), which lets it survive.
 *
 * To a program that runs: you call forkq_queue_send on a Unix stream socket to it, and it calls
 * forkq_queue_receive on its end.
 *
 * Both programs must use the same layout of the shared memory and the same locks. That is: the
 * same version of forkq, the same version of the same C library (the text of
 * gnu_get_libc_version(3)), and the same size of a long. Anything else is refused
 * (FORKQ_EVERSION). Both must be in one PID namespace (forkq/queue.h).
 *
 * Both programs trust each other as far as a forked child is trusted: each can write to the
 * shared memory whatever it wants. What is checked here, is checked against mistakes.
 */
#ifndef FORKQ_HANDOVER_H
#define FORKQ_HANDOVER_H

#include <forkq/queue.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FORKQ_HANDOVER_FDS 5
#define FORKQ_HANDOVER_TEXT 80 /* bytes, with the NUL at the end */

/* `fds` are the queue's own descriptors, lent: they are good until the process closes the queue.
 * `text` names them. A forked child has them under the same numbers. */
typedef struct forkq_handover {
  int fds[FORKQ_HANDOVER_FDS];
  char text[FORKQ_HANDOVER_TEXT];
} forkq_handover_t;

/* Says what a handover of the queue consists of. The queue stays as it is, and the process's.
 *
 * Blocks only while another thread of the process is in the middle of a put or a close.
 * Returns 0, or
 *   FORKQ_ENULL      `queue` or `ret_handover` is NULL
 *   FORKQ_ECLOSED    this process has closed the queue
 *   FORKQ_EPACKING   a packing function makes the call
 *   -EDEADLK         the thread is in another call on the queue: a signal handler makes this one
 *
 * It may be called before the fork, or in the child. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_hand_over(forkq_queue_t *queue,
                                                     forkq_handover_t *ret_handover);

/* Lets the five descriptors survive the exec of the calling process.
 *
 * Never blocks. Returns 0, or
 *   FORKQ_ENULL      `handover` is NULL
 *   -EBADF           one of the descriptors is not open; those before it survive
 *
 * It is meant for a child between fork and exec, and safe there, also when the parent has threads:
 * it makes system calls and nothing else. It does not change the parent. In a process that does
 * not call exec next, programs that any of its threads starts inherit the descriptors. */
FORKQ_API FORKQ_MUST_CHECK int forkq_handover_keep(const forkq_handover_t *handover);

/* Opens the queue that was handed over with this text. The caller owns *ret_queue, and gives it
 * back with forkq_queue_destroy. `options` may be NULL. maxsize, max_message and joinable in it
 * do not count: the queue has its own.
 *
 * On success the five descriptors are the queue's, which closes them, and they are close-on-exec.
 * On failure each is as it was.
 *
 * Does not block. Returns 0, or
 *   FORKQ_EHANDOVER  this is not the text of a handover; or its descriptors are not those of one
 *                    queue, each in its place; or the memory is damaged
 *   -EBADF           one of the descriptors is not open: the program that called exec has not
 *                    called forkq_handover_keep
 *   FORKQ_EVERSION   it is a queue of another version of forkq, or of another C library
 *   FORKQ_ETWICE     this process has that queue already: it has not destroyed it
 *   FORKQ_ENAMESPACE the process that created the queue is in another PID namespace, or one of
 *                    the two namespaces cannot be told
 *   FORKQ_ENOROBUST  robust mutexes do not work on this system
 *   FORKQ_ENULL      `ret_queue` or `text` is NULL
 *   FORKQ_ERANGE     options->size is unknown, or options->max_message above FORKQ_MESSAGE_MAX
 *   FORKQ_EPACKING   a packing function makes the call
 *   -ENOMEM          there is no memory; or another negative errno of fstat(2), fcntl(2), pread(2)
 *                    or mmap(2)
 *
 * Two of the five are event descriptors. Which eventfd is which, Linux tells in /proc since 5.2.
 * Where the creator or this process cannot see that, an attach still checks that the two are not
 * one number, and are no files, pipes or sockets.
 *
 * A process may attach while its other threads fork: a child has the queue or has it not. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_attach(forkq_queue_t **ret_queue,
                                                  const char *text,
                                                  const forkq_queue_options_t *options);

/* Sends the queue over a connected Unix stream socket. The caller keeps the queue and the socket.
 * The queue lives on while it is on its way, also when the sender ends.
 *
 * Blocks while the socket's buffer is full. On a socket that does not block it is -EAGAIN then,
 * and nothing was sent. Returns 0, or
 *   FORKQ_ENULL      `queue` is NULL
 *   FORKQ_ECLOSED    this process has closed the queue
 *   FORKQ_EPACKING   a packing function makes the call
 *   -EDEADLK         as of forkq_queue_hand_over
 *   -ENOTSOCK        `socket` is no socket
 *   -EAFNOSUPPORT    it is a socket of another family, which passes no descriptors
 *   -EPIPE           nobody can receive it; there is no SIGPIPE
 *   -ETOOMANYREFS    too many descriptors of this user are on their way
 *   -EBADF, -ENOTCONN, -ENOMEM, ... another negative errno of sendmsg(2)
 *
 * No other thread may close the queue meanwhile. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_send(forkq_queue_t *queue, int socket);

/* Receives a queue that forkq_queue_send sent, and opens it as forkq_queue_attach does. The caller
 * owns *ret_queue, and keeps the socket. The descriptors of the queue are close-on-exec from the
 * beginning, and their numbers are above 2. Options of the socket that bring more than descriptors
 * (SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD) do no harm: the rest is thrown away.
 *
 * Blocks until something comes; to wait no longer than some time, poll the socket first. On a socket
 * that does not block it is -EAGAIN when nothing is there. Returns 0, or, with nothing taken
 * from the socket,
 *   FORKQ_ENULL      `ret_queue` is NULL
 *   FORKQ_ERANGE, FORKQ_EPACKING  as of forkq_queue_attach
 *   -EBADF, -ENOTSOCK, -EAGAIN, -ECONNRESET, ... a negative errno of recvmsg(2)
 * or
 *   FORKQ_EEOF       the other side has closed its end
 * or, with what came closed and gone, so that the queue has to be sent once more,
 *   -EMFILE          this process has no room for five more descriptors
 *   FORKQ_EHANDOVER  what came is not one handover, or is damaged. Where other bytes came, it is
 *                    not known where in the stream the next handover begins
 *   FORKQ_EVERSION, FORKQ_ETWICE, FORKQ_ENAMESPACE, FORKQ_ENOROBUST, -ENOMEM, ...
 *                    as of forkq_queue_attach
 *
 * Where a security module (SELinux) keeps the descriptors from this process, it is -EMFILE, too:
 * the kernel does not tell the one from the other. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_receive(forkq_queue_t **ret_queue, int socket,
                                                   const forkq_queue_options_t *options);

#ifdef __cplusplus
}
#endif

#endif
