/* Looking at a queue (forkq/inspect.h) whose memory and pipe somebody has damaged.
 *
 * The input damages a copy of a queue's memory, and writes packets into the queue's pipe; one of them may
 * stand in the memory as the packet that was read ahead. Whatever they say: the look ends, with numbers or
 * with one of two errors; what it tells is what the header says that a name, a state or an item can be; it
 * changes neither memory nor pipe, and keeps no descriptor and no memory.
 *
 * So that a corpus outlives a layout, places in the memory are counted from the beginning of one of its
 * parts. */
#define _GNU_SOURCE
#include "fuzz.h"

#include "base/os.h"
#include "codec/serializer.h"
#include "inspect/inspect_impl.h"
#include "queue/queue_impl.h"
#include "shared/arena.h"

#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PACKETS_MAX 4
#define SHOWN_MAX 100
#define LARGE 2000 /* lies beside the pipe */

/* What has content of a queue with one or two processes: the beginning, and that of the first arena. */
#define BEGINNING offsetof(struct forkq__segment, ledger.cells[2])
#define ARENA_PART 8192

/* A queue as it should be. */
struct model {
  forkq_queue_t *queue;
  int read_fd, write_fd;
  uint8_t beginning[BEGINNING];
  uint8_t arena[ARENA_PART];
};

static struct model models[2];
static struct forkq__segment *room; /* for what is read */

/* ---- the queues -------------------------------------------------------------------------------- */

static void fill(forkq_queue_t *queue) {
  static const char data[LARGE];
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (int i = 0; i < 3; i++)
    MUST(forkq_queue_put_int(queue, i, -1) == 0);
  MUST(forkq_queue_put_bytes(queue, data, sizeof data, -1) == 0);
  MUST(forkq_queue_flush(queue, -1, NULL) == 0);
  MUST(forkq_queue_get(queue, &item, 10000) == 0);
  forkq_item_destroy(&item);
}

static void empty_pipe(const struct model *model) {
  struct forkq__packet packet;
  while (read(model->read_fd, &packet, sizeof packet) > 0)
    ;
}

static void make_model(struct model *model, bool keeps) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  forkq_handover_t handover;
  options.name = "model";
  options.maxsize = 10;
  options.joinable = keeps;
  options.lost_tasks = keeps ? FORKQ_LOST_TASKS_REDELIVER : FORKQ_LOST_TASKS_COUNT;
  MUST(forkq_queue_create_with(&model->queue, &options) == 0);
  MUST(forkq_queue_hand_over(model->queue, &handover) == 0);
  fill(model->queue);
  model->read_fd = handover.fds[FORKQ__AT_READ];
  model->write_fd = handover.fds[FORKQ__AT_WRITE];
  int memory = handover.fds[FORKQ__AT_MEMORY];
  MUST(pread(memory, model->beginning, BEGINNING, 0) == (ssize_t)BEGINNING);
  MUST(pread(memory, model->arena, ARENA_PART, forkq__arena_begin(0)) == ARENA_PART);
  empty_pipe(model);
}

static void make_models(void) {
  if (room != NULL)
    return;
  room = aligned_alloc(alignof(struct forkq__segment), sizeof *room);
  MUST(room != NULL);
  for (int i = 0; i < 2; i++)
    make_model(&models[i], i == 1);
}

/* ---- the damage -------------------------------------------------------------------------------- */

static int copy_memory(const struct model *model) {
  int fd = memfd_create("copy", MFD_CLOEXEC);
  MUST(fd >= 0 && pwrite(fd, model->beginning, BEGINNING, 0) == (ssize_t)BEGINNING);
  MUST(pwrite(fd, model->arena, ARENA_PART, forkq__arena_begin(0)) == ARENA_PART);
  return fd;
}

/* Where a part of the memory begins; the head is the first. */
static size_t part_offset(uint64_t part) {
  const size_t parts[] = {
    0,
    offsetof(struct forkq__segment, pipe_identity),
    offsetof(struct forkq__segment, max_message),
    offsetof(struct forkq__segment, slots),
    offsetof(struct forkq__segment, channel),
    offsetof(struct forkq__segment, channel.packet),
    offsetof(struct forkq__segment, ledger),
    offsetof(struct forkq__segment, ledger.cells),
    offsetof(struct forkq__segment, ledger.kept),
    (size_t)forkq__arena_begin(0),
  };
  return parts[part % (sizeof parts / sizeof *parts)];
}

/* Runs of bytes: a part, an offset in it or behind it, a length, the bytes. */
static void damage(struct fuzz_input *input, int fd) {
  while (input->size > 0) {
    size_t offset = part_offset(fuzz_number(input, 1));
    offset += (size_t)fuzz_number(input, 2);
    struct fuzz_input bytes = fuzz_take(input, fuzz_number(input, 1) % 16 + 1);
    MUST(pwrite(fd, bytes.data, bytes.size, (off_t)offset) == (ssize_t)bytes.size);
  }
}

/* Bytes as a packet; `right`: one whose header and end are in order, so that what is in it is looked at. */
static size_t make_packet(struct forkq__packet *packet, struct fuzz_input bytes,
                          bool right) {
  memset(packet, 0, sizeof *packet);
  memcpy(packet, bytes.data, bytes.size);
  if (!right || bytes.size < FORKQ__PACKET_HEAD + FORKQ__PACKET_TAIL)
    return bytes.size;
  packet->magic = FORKQ__PACKET_MAGIC;
  packet->length = (uint16_t)(bytes.size - FORKQ__PACKET_TAIL);
  packet->flags &= 15;
  packet->frames = (uint16_t)(packet->frames % 8);
  (void)forkq__packet_finish(packet, packet->cell % 4, packet->seq);
  return bytes.size;
}

#define WRITE_FIELD(fd, field, value)                                                    \
  MUST(pwrite(fd, value, sizeof *(value), offsetof(struct forkq__segment, field)) ==     \
       (ssize_t)sizeof *(value))

static void read_ahead(int fd, const struct forkq__packet *packet, uint32_t offset) {
  WRITE_FIELD(fd, channel.packet, packet);
  WRITE_FIELD(fd, channel.read_seq, &packet->seq);
  WRITE_FIELD(fd, channel.offset, &offset);
}

/* The first may be read ahead, the others are in the pipe. */
static void write_packets(struct fuzz_input *input, const struct model *model, int fd) {
  static struct forkq__packet packet;
  uint64_t count = fuzz_number(input, 1) % (PACKETS_MAX + 1);
  for (uint64_t i = 0; i < count; i++) {
    uint8_t how = (uint8_t)fuzz_number(input, 1);
    struct fuzz_input bytes =
        fuzz_take(input, fuzz_number(input, 2) % (FORKQ__PACKET_SIZE + 1));
    size_t size = make_packet(&packet, bytes, how & 1);
    if (i == 0 && how & 2)
      read_ahead(fd, &packet, FORKQ__PACKET_HEAD + (how >> 2));
    else if (size > 0)
      MUST(write(model->write_fd, &packet, size) == (ssize_t)size);
  }
}

/* ---- the look ---------------------------------------------------------------------------------- */

static int shown;

static int show(const char *data, size_t size, void *arg) {
  (void)arg;
  MUST(forkq__scan(data, size, NULL) == 0);
  return ++shown == SHOWN_MAX;
}

static void must_be_possible(const forkq_inspect_queue_t *queue) {
  MUST(strlen(queue->name) <= FORKQ_NAME_MAX);
  MUST(strspn(queue->name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                           "0123456789._-?") == strlen(queue->name));
  MUST((unsigned)queue->state <= FORKQ_INSPECT_DROPPED);
  MUST(queue->maxsize >= 0);
  MUST(queue->maxsize == 0 || queue->size <= (uint64_t)queue->maxsize);
  for (unsigned kind = 0; kind < FORKQ_INSPECT_LOCKS; kind++)
    MUST(forkq_inspect_lock_of(queue, kind)->tid >= 0);
}

/* As it is found by its descriptors, in this process. */
static void found(struct forkq__inspected *queue, const struct model *model, int fd) {
  MUST(forkq__os_identity(fd, &queue->identity) == 0);
  queue->queue.self_ = queue;
  forkq_inspect_process_t *process = forkq__inspect_process_of(queue, getpid(), true);
  MUST(process != NULL);
  process->open = 1;
  process->fds[FORKQ__AT_READ] = model->read_fd;
  process->fds[FORKQ__AT_MEMORY] = fd;
}

static void look(const struct model *model, int fd) {
  struct forkq__inspected queue = { .queue = { .inode = 0 } };
  found(&queue, model, fd);
  MUST(forkq__inspect_memory(&queue, room, fd) == 0);
  int error = queue.queue.error;
  MUST(error == 0 || error == FORKQ_EHANDOVER || error == FORKQ_EVERSION);
  if (error == 0) {
    must_be_possible(&queue.queue);
    shown = 0;
    int r = forkq_inspect_peek(&queue.queue, show, NULL);
    MUST(r < 0 ? shown == 0 : r == shown);
  }
  free(queue.processes.entries);
  free(queue.waits.entries);
}

/* ---- that nothing changes ---------------------------------------------------------------------- */

struct state {
  uint8_t memory[BEGINNING];
  int level; /* bytes in the pipe */
  int next;  /* the lowest descriptor that is free */
};

static void read_state(struct state *state, const struct model *model, int fd) {
  memset(state, 0, sizeof *state);
  MUST(pread(fd, state->memory, BEGINNING, 0) == (ssize_t)BEGINNING);
  MUST(ioctl(model->read_fd, FIONREAD, &state->level) == 0);
  state->next = dup(fd);
  close(state->next);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct state before, after;
  struct fuzz_input input = { data, size };
  make_models();
  const struct model *model = &models[fuzz_number(&input, 1) % 2];
  int fd = copy_memory(model);
  write_packets(&input, model, fd);
  damage(&input, fd);
  read_state(&before, model, fd);
  look(model, fd);
  read_state(&after, model, fd);
  MUST(memcmp(&before, &after, sizeof before) == 0);
  close(fd);
  empty_pipe(model);
  return 0;
}
