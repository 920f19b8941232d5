/* The handover of a queue: its text, its descriptors, its shared memory.
 *
 * The first byte says which. Whatever the text: attach opens the queue that it names, in the
 * one spelling that a handover has, or fails and leaves every descriptor as it was. Whatever
 * comes over a socket: receive opens a queue or fails, and keeps no descriptor.
 *
 * Whatever the memory says: attach opens or refuses it, and reads no memory that is not the
 * segment's. If it opens it, what the processes of the queue can always ask (the counts, a get
 * and a put that do not wait) does not crash, if only the locks are sound. What else holds of
 * a queue whose memory lies is not promised: who has it is trusted as a forked child is
 * (forkq/handover.h), and glibc's locks cannot be shared with anybody who is not. */
#define _GNU_SOURCE
#include "fuzz.h"

#include "queue.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Where the four descriptors are, so that a corpus can name them. */
#define FIRST_FD 100

static int fds[FORKQ_HANDOVER_FDS];

/* The descriptors of a queue that this process does not have open. */
static void make_descriptors(int joinable, int64_t maxsize) {
  forkq_queue_options_t options = { .size = sizeof options,
                                    .joinable = joinable,
                                    .maxsize = maxsize };
  forkq_queue_t *queue;
  forkq_handover_t handover;
  MUST(forkq_queue_create_with(&queue, &options) == 0);
  MUST(forkq_queue_hand_over(queue, &handover) == 0);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++) {
    fds[i] = FIRST_FD + i;
    MUST(dup3(handover.fds[i], fds[i], O_CLOEXEC) == fds[i]);
  }
  forkq_queue_destroy(queue);
}

static bool is_open(int fd) {
  return fcntl(fd, F_GETFD) != -1;
}

/* What must be as it was after a failure, and gone after the end of a queue. */
static void must_all_be(bool open) {
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    MUST(is_open(fds[i]) == open);
}

static void close_all(void) {
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    close(fds[i]);
}

static void must_work(forkq_queue_t *queue) {
  msgpack_object object = { .type = MSGPACK_OBJECT_BOOLEAN, .via.boolean = true };
  forkq_item_t item = FORKQ_ITEM_INIT;
  MUST(forkq_queue_put(queue, &object, 0) == 0);
  MUST(forkq_queue_get(queue, &item, 10000) == 0);
  MUST(item.object.type == MSGPACK_OBJECT_BOOLEAN);
  forkq_item_destroy(&item);
}

/* ---- the text -------------------------------------------------------------------------------- */

static void attach_text(struct fuzz_input input) {
  char text[256] = "";
  forkq_queue_t *queue = NULL;
  memcpy(text, input.data, input.size < 255 ? input.size : 255);
  make_descriptors(0, 0);
  int r = forkq_queue_attach(&queue, text, NULL);
  if (r < 0) {
    MUST(queue == NULL);
    must_all_be(true);
    close_all();
    return;
  }
  forkq_handover_t handover;
  MUST(forkq_queue_hand_over(queue, &handover) == 0);
  MUST(strcmp(text, handover.text) == 0);
  MUST(memcmp(fds, handover.fds, sizeof fds) == 0);
  must_work(queue);
  forkq_queue_destroy(queue);
  must_all_be(false);
}

/* ---- what comes over a socket ------------------------------------------------------------------ */

static void send_bytes(int socket, struct fuzz_input bytes, const int *sent,
                       size_t count) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(FORKQ_HANDOVER_FDS * sizeof(int))];
  } control = { 0 };
  struct iovec part = { (void *)(uintptr_t)bytes.data, bytes.size };
  struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
  if (count > 0) {
    message.msg_control = control.space;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), sent, count * sizeof(int));
  }
  MUST(sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)bytes.size);
}

static void receive(struct fuzz_input input) {
  int sockets[2], sent[FORKQ_HANDOVER_FDS];
  forkq_queue_t *queue = NULL;
  make_descriptors(0, 0);
  size_t count = fuzz_number(&input, 1) % (FORKQ_HANDOVER_FDS + 1);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    sent[i] = fds[fuzz_number(&input, 1) % FORKQ_HANDOVER_FDS];
  MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
  int next = dup(sockets[0]); /* the lowest number that is free */
  close(next);
  if (input.size > 0)
    send_bytes(sockets[0], input, sent, count);
  close(sockets[0]);
  if (forkq_queue_receive(&queue, sockets[1], NULL) == 0) {
    must_work(queue);
    forkq_queue_destroy(queue);
  }
  int after = dup(sockets[1]);
  MUST(after == (next < sockets[0] ? next : sockets[0]));
  close(after);
  close(sockets[1]);
  close_all();
}

/* ---- the memory -------------------------------------------------------------------------------- */

static bool in_lock(size_t offset) {
  static const size_t locks[] = {
    offsetof(struct forkq__segment, channel.write_lock),
    offsetof(struct forkq__segment, channel.read_lock),
    offsetof(struct forkq__segment, channel.turn),
    offsetof(struct forkq__segment, ledger.lock),
  };
  for (size_t i = 0; i < sizeof locks / sizeof *locks; i++)
    if (offset >= locks[i] && offset < locks[i] + sizeof(struct forkq__lock))
      return true;
  return false;
}

/* Runs of bytes somewhere in the segment: an offset, a length, the bytes. */
static void damage(struct fuzz_input *input, bool locks_too) {
  while (input->size > 0) {
    size_t offset = fuzz_number(input, 3) % (sizeof(struct forkq__segment) + 64);
    struct fuzz_input bytes = fuzz_take(input, fuzz_number(input, 1) % 16 + 1);
    for (size_t i = 0; i < bytes.size; i++)
      if (locks_too || !in_lock(offset + i))
        MUST(pwrite(fds[4], bytes.data + i, 1, (off_t)(offset + i)) == 1);
  }
}

static void ask(forkq_queue_t *queue) {
  const msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  forkq_queue_stats_t stats = { .size = sizeof stats };
  forkq_item_t items[2] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT };
  size_t got;
  (void)forkq_queue_qsize(queue);
  (void)forkq_queue_empty(queue);
  (void)forkq_queue_full(queue);
  (void)!forkq_queue_stats(queue, &stats);
  (void)!forkq_queue_get(queue, items, 0);
  (void)!forkq_queue_get_many(queue, items, 2, 0, &got);
  (void)!forkq_queue_put(queue, &nil, 0);
  (void)!forkq_queue_get(queue, items, 0);
  (void)!forkq_queue_task_done(queue);
  (void)!forkq_queue_join(queue, 0, NULL);
  forkq_item_destroy(&items[0]);
  forkq_item_destroy(&items[1]);
}

static void attach_memory(struct fuzz_input input) {
  char text[64];
  forkq_queue_t *queue = NULL;
  uint8_t options = (uint8_t)fuzz_number(&input, 1);
  bool only_attach = options & 1;
  make_descriptors(options & 2, options & 4 ? 5 : 0);
  snprintf(text, sizeof text, "forkq:%u:%d:%d:%d:%d:%d", FORKQ__SEGMENT_LAYOUT, fds[0],
           fds[1], fds[2], fds[3], fds[4]);
  damage(&input, only_attach);
  if (forkq_queue_attach(&queue, text, NULL) < 0) {
    must_all_be(true);
    close_all();
    return;
  }
  if (!only_attach)
    ask(queue);
  forkq_queue_cancel_join_thread(queue);
  forkq_queue_destroy(queue);
  must_all_be(false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = { data, size };
  if (size == 0)
    return 0;
  switch (fuzz_number(&input, 1) % 3) {
  case 0:
    attach_text(input);
    break;
  case 1:
    receive(input);
    break;
  default:
    attach_memory(input);
    break;
  }
  return 0;
}
