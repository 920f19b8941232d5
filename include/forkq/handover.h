/* forkq/handover.h: giving a queue to another program.
 *
 * A child that is forked has its parent's queues. A program that is started with exec, or one
 * that runs already, gets one by handover: five descriptors and one line of text. No name in
 * any file system is involved, so nothing is left when everybody is killed.
 *
 * To a program that you start: forkq_queue_hand_over fills in a forkq_handover_t. Between
 * fork and exec, call forkq_handover_keep, and put the text where the program finds it (an
 * environment variable, an argument); there, forkq_queue_attach opens the queue. With
 * posix_spawn, instead of forkq_handover_keep, add for each of the descriptors
 * posix_spawn_file_actions_adddup2(&actions, fd, fd), which keeps it open.
 *
 * To a program that runs: forkq_queue_send over a Unix stream socket to it, and
 * forkq_queue_receive there.
 *
 * Both programs must agree on the layout of the shared memory: the same version of forkq and
 * the same C library; anything else is refused. They trust each other as far as a forked
 * child is trusted. The counterpart of the spawn and forkserver contexts of multiprocessing.
 */
#ifndef FORKQ_HANDOVER_H
#define FORKQ_HANDOVER_H

#include <forkq/queue.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FORKQ_HANDOVER_FDS 5
#define FORKQ_HANDOVER_TEXT 80 /* bytes, with the NUL at the end */

/* `fds` are borrowed from the queue: valid as long as it is not closed. `text` names them. */
typedef struct forkq_handover {
  int fds[FORKQ_HANDOVER_FDS];
  char text[FORKQ_HANDOVER_TEXT];
} forkq_handover_t;

/* Errors: FORKQ_ENULL, FORKQ_ECLOSED, FORKQ_EPACKING. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_hand_over(forkq_queue_t *queue,
                                                     forkq_handover_t *ret_handover);

/* Lets the descriptors survive the exec that follows. For the child of a fork: it is safe
 * there whatever the threads of the parent did, and it changes the calling process only.
 * Errors: FORKQ_ENULL, -EBADF. */
FORKQ_API FORKQ_MUST_CHECK int forkq_handover_keep(const forkq_handover_t *handover);

/* Opens the queue that was handed over with this text. The five descriptors are the queue's
 * from now on, and close-on-exec again; on failure they are left as they are. `options` may
 * be NULL; maxsize, max_message and joinable in it do not count, they are the queue's own.
 *
 * That the five are those of one queue, and in their places, is checked. Two of them are event
 * descriptors: which ones is known by /proc, since Linux 5.2. Where that cannot be seen, by the
 * creator or here, it is checked only that they are two, and of a kind that may be an event's.
 *
 * Errors: FORKQ_EHANDOVER (not the text of a handover, or its descriptors are not those
 * of one queue, or its memory is damaged), FORKQ_EVERSION (another version of forkq, or
 * another C library), FORKQ_ETWICE (this process has that queue already), FORKQ_ENULL,
 * FORKQ_ERANGE, FORKQ_EPACKING, -ENOMEM, -EBADF (one of the descriptors is not open: without
 * forkq_handover_keep they do not survive exec). */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_attach(forkq_queue_t **ret_queue,
                                                  const char *text,
                                                  const forkq_queue_options_t *options);

/* Sends the queue over a connected Unix stream socket, which is not closed; the caller keeps
 * the queue. Blocks while the socket's buffer is full.
 * Errors: as forkq_queue_hand_over, and the negative errno of sendmsg(2). */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_send(forkq_queue_t *queue, int socket);

/* Receives a queue that was sent; blocks until it comes.
 * Errors: as forkq_queue_attach, FORKQ_EEOF, -EMFILE (this process has no room for five more
 * descriptors), and the negative errno of recvmsg(2). After -EMFILE, as after any error of
 * forkq_queue_attach, what came is gone: nothing of it is open, and the queue has to be sent
 * once more. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_receive(forkq_queue_t **ret_queue, int socket,
                                                   const forkq_queue_options_t *options);

#ifdef __cplusplus
}
#endif

#endif
