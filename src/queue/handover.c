/* Handing a queue over to another program: its descriptors and a text that names them, through exec
 * or over a Unix socket. */
#include "queue/queue_impl.h"

#include "base/os.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* forkq:LAYOUT:READ:WRITE:EVENT:ROOM:MEMORY. The last five are descriptors. */
#define FORMAT "forkq:%u:%d:%d:%d:%d:%d"

static void write_text(forkq_handover_t *handover) {
  const int *fds = handover->fds;
  snprintf(handover->text, sizeof handover->text, FORMAT, FORKQ__SEGMENT_LAYOUT, fds[0],
           fds[1], fds[2], fds[3], fds[4]);
}

/* On success the caller has the sender's mutex: no thread closes the queue before it lets go. */
static int hold_handover(forkq_queue_t *queue, int64_t deadline,
                         forkq_handover_t *ret_handover) {
  const struct forkq__channel *channel = &queue->channel;
  (void)forkq__life_forks(); /* puts a forked child right */
  if (forkq__queue_is_elsewhere(queue))
    return -ENOTSUP;
  int r = forkq__sender_lock(&queue->feeder.sender, deadline);
  if (r < 0)
    return r;
  const int fds[] = { channel->read_fd, channel->write_fd, channel->event_fd,
                      queue->slots.event_fd, channel->account.liveness.memory_fd };
  if (fds[0] < 0 || atomic_load(&channel->puts_closed)) {
    forkq__sender_unlock(&queue->feeder.sender);
    return FORKQ_ECLOSED;
  }
  memcpy(ret_handover->fds, fds, sizeof fds);
  write_text(ret_handover);
  return 0;
}

int forkq_queue_hand_over(forkq_queue_t *queue, forkq_handover_t *ret_handover) {
  if (queue == NULL || ret_handover == NULL)
    return FORKQ_ENULL;
  if (forkq__queue_packing_here())
    return FORKQ_EPACKING;
  int r = hold_handover(queue, FORKQ__FOREVER, ret_handover);
  if (r == 0)
    forkq__sender_unlock(&queue->feeder.sender);
  return r;
}

int forkq__queue_send_soon(forkq_queue_t *queue, int socket) {
  forkq_handover_t handover = { .text = "" };
  int r = hold_handover(queue, FORKQ__NOWAIT, &handover);
  if (r < 0)
    return r;
  r = forkq__os_fds_send_soon(socket, handover.text, sizeof handover.text, handover.fds,
                              FORKQ_HANDOVER_FDS);
  forkq__sender_unlock(&queue->feeder.sender);
  return r;
}

int forkq_handover_keep(const forkq_handover_t *handover) {
  if (handover == NULL)
    return FORKQ_ENULL;
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++) {
    int r = forkq__os_inheritable(handover->fds[i], true);
    if (r < 0)
      return r;
  }
  return 0;
}

static bool all_are_numbers(const int fds[FORKQ_HANDOVER_FDS]) {
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    if (fds[i] < 0)
      return false;
  return true;
}

/* The text must be exactly the one that write_text would write: no spaces, signs or leading zeros,
 * which sscanf accepts. */
static int parse(const char *text, forkq_handover_t *ret_handover) {
  unsigned layout;
  int *fds = ret_handover->fds;
  if (strlen(text) >= sizeof ret_handover->text ||
      sscanf(text, FORMAT, &layout, &fds[0], &fds[1], &fds[2], &fds[3], &fds[4]) != 6)
    return FORKQ_EHANDOVER;
  if (layout != FORKQ__SEGMENT_LAYOUT)
    return FORKQ_EVERSION;
  write_text(ret_handover);
  bool same = strcmp(text, ret_handover->text) == 0;
  return same && all_are_numbers(fds) ? 0 : FORKQ_EHANDOVER;
}

int forkq_queue_attach(forkq_queue_t **ret_queue, const char *text,
                       const forkq_queue_options_t *options) {
  if (ret_queue == NULL || text == NULL)
    return FORKQ_ENULL;
  forkq_handover_t handover = { .text = "" };
  int r = parse(text, &handover);
  return r < 0 ? r : forkq__queue_adopt(ret_queue, handover.fds, options);
}

/* Over a socket the descriptors travel beside the text. Their numbers at the receiver differ from
 * those in the text. */
int forkq_queue_send(forkq_queue_t *queue, int socket) {
  forkq_handover_t handover;
  int r = forkq_queue_hand_over(queue, &handover);
  if (r < 0)
    return r;
  return forkq__os_fds_send(socket, handover.text, sizeof handover.text, handover.fds,
                            FORKQ_HANDOVER_FDS);
}

static void drop(const int fds[FORKQ_HANDOVER_FDS]) {
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    forkq__os_close(fds[i]);
}

int forkq_queue_receive(forkq_queue_t **ret_queue, int socket,
                        const forkq_queue_options_t *options) {
  if (ret_queue == NULL)
    return FORKQ_ENULL;
  /* Checked before the call takes anything from the socket. */
  int r = forkq__queue_adopt_allowed(options);
  if (r < 0)
    return r;
  char text[FORKQ_HANDOVER_TEXT];
  int fds[FORKQ_HANDOVER_FDS];
  r = forkq__os_fds_receive(socket, text, sizeof text, fds, FORKQ_HANDOVER_FDS);
  if (r < 0)
    return r;
  text[sizeof text - 1] = '\0';
  forkq_handover_t handover = { .text = "" };
  r = parse(text, &handover);
  if (r == 0)
    r = forkq__queue_adopt(ret_queue, fds, options);
  if (r < 0)
    drop(fds);
  return r;
}
