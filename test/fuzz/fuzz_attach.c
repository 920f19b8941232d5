/* The handover of a queue: its text, its descriptors, its shared memory.
 *
 * The first byte says which. Whatever the text: attach opens the queue that it names, in the
 * one spelling that a handover has, or fails and leaves every descriptor as it was. Whatever
 * comes over a socket: receive opens a queue or fails, and keeps no descriptor. Of descriptors
 * that are at hand, attach opens those of one queue in their order, and no others.
 *
 * Whatever the memory says: attach opens or refuses it, and reads no memory that is not the
 * segment's; where its head was changed, it says so. If it opens it, what the processes of the
 * queue can always ask (the counts, a get and a put that do not wait) does not crash, if only the
 * locks are sound. What else holds of a queue whose memory lies is not promised: who has it is
 * trusted as a forked child is (forkq/handover.h), and glibc's locks cannot be shared with anybody
 * who is not.
 *
 * So that a corpus outlives a layout, an L in a text is the number of the layout, and places in the
 * memory are counted from the beginning of one of its parts. */
#define _GNU_SOURCE
#include "fuzz.h"

#include "base/contract.h"
#include "queue/queue_impl.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* Where the descriptors are, so that a corpus can name them. */
#define FIRST_FD 100

static int fds[FORKQ_HANDOVER_FDS];

/* The descriptors of a queue that this process does not have open, from a number on. */
static void make_descriptors_at(int first, const forkq_queue_options_t *options) {
  forkq_queue_t *queue;
  forkq_handover_t handover;
  MUST(forkq_queue_create_with(&queue, options) == 0);
  MUST(forkq_queue_hand_over(queue, &handover) == 0);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    MUST(dup3(handover.fds[i], first + i, O_CLOEXEC) == first + i);
  forkq_queue_destroy(queue);
}

static void make_descriptors(int joinable, int64_t maxsize) {
  forkq_queue_options_t options = { .size = sizeof options,
                                    .joinable = joinable,
                                    .maxsize = maxsize };
  make_descriptors_at(FIRST_FD, &options);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    fds[i] = FIRST_FD + i;
}

/* The text of a handover of these. */
static const char *text_of(const int named[FORKQ_HANDOVER_FDS]) {
  static char text[FORKQ_HANDOVER_TEXT];
  snprintf(text, sizeof text, "forkq:%u:%d:%d:%d:%d:%d", FORKQ__SEGMENT_LAYOUT, named[0],
           named[1], named[2], named[3], named[4]);
  return text;
}

/* The bytes as a text, cut where it is full. */
static size_t make_text(char *text, size_t room, struct fuzz_input input) {
  size_t size = 0;
  for (; input.size > 0 && size + 16 < room; input.data++, input.size--)
    if (*input.data == 'L')
      size += (size_t)snprintf(text + size, room - size, "%u", FORKQ__SEGMENT_LAYOUT);
    else
      text[size++] = (char)*input.data;
  text[size] = '\0';
  return size;
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
  make_text(text, sizeof text, input);
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
  char text[256];
  forkq_queue_t *queue = NULL;
  make_descriptors(0, 0);
  size_t count = (size_t)fuzz_number(&input, 1) % (FORKQ_HANDOVER_FDS + 1);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    sent[i] = fds[fuzz_number(&input, 1) % FORKQ_HANDOVER_FDS];
  struct fuzz_input bytes = { (const uint8_t *)text,
                              make_text(text, sizeof text, input) };
  MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
  int next = dup(sockets[0]); /* the lowest number that is free */
  close(next);
  if (bytes.size > 0)
    send_bytes(sockets[0], bytes, sent, count);
  close(sockets[0]);
  if (forkq_queue_receive(&queue, sockets[1], NULL) == 0) {
    MUST(count == FORKQ_HANDOVER_FDS && memcmp(sent, fds, sizeof fds) == 0);
    must_work(queue);
    forkq_queue_destroy(queue);
  }
  int after = dup(sockets[1]);
  MUST(after == (next < sockets[0] ? next : sockets[0]));
  close(after);
  close(sockets[1]);
  close_all();
}

/* ---- which descriptors ------------------------------------------------------------------------- */

/* At hand are the queue's, each once more under another number, another queue's, and others. */
enum { OWN, AGAIN, ANOTHER, SETS, OTHERS = 4 };
#define AT_HAND (SETS * FORKQ_HANDOVER_FDS + OTHERS)

static void make_at_hand(void) {
  const forkq_queue_options_t options = { .size = sizeof options };
  int next = FIRST_FD + SETS * FORKQ_HANDOVER_FDS;
  make_descriptors(0, 0);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    MUST(dup2(fds[i], fds[i] + AGAIN * FORKQ_HANDOVER_FDS) >= 0);
  make_descriptors_at(FIRST_FD + ANOTHER * FORKQ_HANDOVER_FDS, &options);
  const int others[OTHERS] = { eventfd(0, EFD_NONBLOCK), epoll_create1(0),
                               socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0),
                               open("/dev/null", O_RDWR) };
  for (int i = 0; i < OTHERS; i++, next++) {
    MUST(others[i] >= 0 && dup2(others[i], next) == next);
    close(others[i]);
  }
}

/* Each in its place, of one queue. */
static bool is_right(const int named[FORKQ_HANDOVER_FDS]) {
  bool of_another = named[0] - FIRST_FD >= ANOTHER * FORKQ_HANDOVER_FDS;
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++) {
    int at = named[i] - FIRST_FD, set = at / FORKQ_HANDOVER_FDS;
    if (set >= SETS || at % FORKQ_HANDOVER_FDS != i || (set == ANOTHER) != of_another)
      return false;
  }
  return true;
}

static void attach_at_hand(struct fuzz_input input) {
  int named[FORKQ_HANDOVER_FDS], flags[AT_HAND];
  forkq_queue_t *queue = NULL;
  make_at_hand();
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    named[i] = FIRST_FD + (int)(fuzz_number(&input, 1) % AT_HAND);
  for (int i = 0; i < AT_HAND; i++)
    flags[i] = fcntl(FIRST_FD + i, F_GETFD);
  int r = forkq_queue_attach(&queue, text_of(named), NULL);
  MUST(r == (is_right(named) ? 0 : FORKQ_EHANDOVER));
  for (int i = 0; r < 0 && i < AT_HAND; i++)
    MUST(fcntl(FIRST_FD + i, F_GETFD) == flags[i]);
  if (r == 0) {
    must_work(queue);
    forkq_queue_destroy(queue);
  }
  for (int i = 0; i < AT_HAND; i++)
    close(FIRST_FD + i);
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

/* Where a part of the segment begins; the head is the first. */
static size_t part_offset(uint64_t part) {
  static const size_t parts[] = {
    0,
    offsetof(struct forkq__segment, pipe_identity),
    offsetof(struct forkq__segment, event_id),
    offsetof(struct forkq__segment, max_message),
    offsetof(struct forkq__segment, slots),
    offsetof(struct forkq__segment, channel),
    offsetof(struct forkq__segment, ledger),
    offsetof(struct forkq__segment, ledger.cells),
  };
  return parts[part % (sizeof parts / sizeof *parts)];
}

/* Runs of bytes somewhere in the segment, or just behind it: a part and an offset in or behind it,
 * a length, the bytes. */
static void damage(struct fuzz_input *input, bool locks_too) {
  const size_t end = sizeof(struct forkq__segment) + 64;
  while (input->size > 0) {
    size_t part = part_offset(fuzz_number(input, 1));
    size_t offset = part + (size_t)fuzz_number(input, 3) % (end - part);
    struct fuzz_input bytes = fuzz_take(input, fuzz_number(input, 1) % 16 + 1);
    for (size_t i = 0; i < bytes.size; i++)
      if (locks_too || !in_lock(offset + i))
        MUST(pwrite(fds[4], bytes.data + i, 1, (off_t)(offset + i)) == 1);
  }
}

static struct forkq__segment_head read_head(void) {
  struct forkq__segment_head head;
  MUST(pread(fds[4], &head, sizeof head, 0) == sizeof head);
  return head;
}

/* What attach may say to a head that was damaged, or was not. */
static bool fits(const struct forkq__segment_head *before,
                 const struct forkq__segment_head *after, int result) {
  if (after->magic != before->magic)
    return result == FORKQ_EHANDOVER;
  if (memcmp(after, before, sizeof *after) != 0)
    return result == FORKQ_EVERSION;
  return result == 0 || result == FORKQ_EHANDOVER || result == FORKQ_ENAMESPACE;
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
  forkq_queue_t *queue = NULL;
  uint8_t options = (uint8_t)fuzz_number(&input, 1);
  bool only_attach = options & 1;
  make_descriptors(options & 2, options & 4 ? 5 : 0);
  struct forkq__segment_head before = read_head();
  damage(&input, only_attach);
  struct forkq__segment_head after = read_head();
  int r = forkq_queue_attach(&queue, text_of(fds), NULL);
  MUST(fits(&before, &after, r));
  if (r < 0) {
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
  static void (*const targets[])(
      struct fuzz_input input) = { attach_text, receive, attach_at_hand, attach_memory };
  struct fuzz_input input = { data, size };
#ifdef FORKQ__CONTRACTS
  forkq__memory_trusted = false;
#endif
  if (size > 0)
    targets[fuzz_number(&input, 1) % (sizeof targets / sizeof *targets)](input);
  return 0;
}
