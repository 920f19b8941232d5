/* Looking at items without taking them.
 *
 * The packet that was read ahead lies in the memory. The packets behind it are copied out of the pipe with
 * tee(2), which leaves them there. A getter may read a packet between these two steps: then the number of the
 * packet read ahead has changed, and both are done again, a few times.
 *
 * A message beside the pipe stays where it is until its reference is taken. So it is copied first, and
 * counts if the reference is still not taken after that. */
#include "base/heap.h"
#include "base/os.h"
#include "codec/serializer.h"
#include "inspect/inspect_impl.h"
#include "shared/piece.h"
#include "shared/segment.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Readings of a queue that changes meanwhile. */
#define PEEKS_MAX 8

struct peek {
  int memory, pipe; /* descriptors */
  int copy[2];      /* a pipe of our own */
  forkq_inspect_item_fn item;
  void *arg;
  int count;
  bool stopped;
  struct forkq__packet packet;
  uint64_t seq;    /* of the packet that is looked at */
  char *data;      /* the message beside the pipe, or in fragments */
  size_t capacity; /* of `data` */
  size_t have, total;
  uint32_t cell; /* whose fragments they are */
};

/* Where the next getter goes on. */
struct place {
  uint64_t seq;
  uint32_t offset;
};

static int read_field(const struct peek *peek, void *field, size_t size, size_t offset) {
  return forkq__os_memory_read(peek->memory, field, size, (int64_t)offset);
}

#define READ_CHANNEL(peek, field, variable)                                              \
  read_field(peek, variable, sizeof *(variable),                                         \
             offsetof(struct forkq__segment, channel.field))

static int read_place(const struct peek *peek, struct place *place) {
  int r = READ_CHANNEL(peek, read_seq, &place->seq);
  return r == 0 ? READ_CHANNEL(peek, offset, &place->offset) : r;
}

static int grow(struct peek *peek, size_t size) {
  if (size <= peek->capacity)
    return 0;
  char *data = forkq__realloc(peek->data, size);
  if (data == NULL)
    return -ENOMEM;
  peek->data = data;
  peek->capacity = size;
  return 0;
}

static void show(struct peek *peek, const char *data, size_t size) {
  if (peek->stopped || forkq__scan(data, size, NULL) < 0)
    return;
  peek->count++;
  peek->stopped = peek->item(data, size, peek->arg) != 0;
}

/* ---- a packet ----------------------------------------------------------------------------- */

/* Whether the frame that ends there was taken. A reader that goes on to the next packet stores 0 in `offset`,
 * reads the packet, and stores its `offset` before its number (channel_read.c). */
static bool is_taken(const struct peek *peek, uint32_t end) {
  struct place now = { 0 };
  uint64_t there = 0;
  if (read_place(peek, &now) < 0 || READ_CHANNEL(peek, packet.seq, &there) < 0)
    return true;
  if (now.seq != peek->seq)
    return now.seq > peek->seq;
  return now.offset == 0 || now.offset >= end || there != peek->seq;
}

static int show_piece(struct peek *peek, struct forkq__frame frame) {
  struct forkq__reference piece = forkq__frame_reference(frame);
  if (!forkq__piece_in_bounds(piece))
    return 0;
  int r = grow(peek, piece.size);
  if (r < 0)
    return r;
  r = forkq__os_memory_read(peek->memory, peek->data, piece.size,
                            forkq__arena_begin(peek->packet.cell) + piece.at);
  if (r == 0 && !is_taken(peek, frame.next))
    show(peek, peek->data, piece.size);
  return 0;
}

static int show_frames(struct peek *peek, uint32_t offset) {
  int r = 0;
  while (offset < peek->packet.length && r == 0 && !peek->stopped) {
    struct forkq__frame frame = forkq__packet_frame(&peek->packet, offset);
    if (frame.is_reference)
      r = show_piece(peek, frame);
    else
      show(peek, (const char *)frame.data, frame.size);
    offset = frame.next;
  }
  return r;
}

/* Fragments of which the first was not seen are left out. */
static int add_fragment(struct peek *peek) {
  const struct forkq__packet *packet = &peek->packet;
  struct forkq__frame frame = forkq__packet_frame(packet, FORKQ__PACKET_HEAD);
  if (packet->flags & FORKQ__FIRST) {
    peek->have = 0;
    peek->total = packet->total;
    peek->cell = packet->cell;
  }
  if (peek->total == 0 || packet->cell != peek->cell ||
      frame.size > peek->total - peek->have) {
    peek->total = 0;
    return 0;
  }
  int r = grow(peek, peek->have + frame.size);
  if (r < 0)
    return r;
  memcpy(peek->data + peek->have, frame.data, frame.size);
  peek->have += frame.size;
  if (packet->flags & FORKQ__LAST) {
    if (peek->have == peek->total)
      show(peek, peek->data, peek->have);
    peek->total = 0;
  }
  return 0;
}

static int show_packet(struct peek *peek, uint32_t offset) {
  peek->seq = peek->packet.seq;
  if (peek->packet.cell >= FORKQ__CELLS_MAX)
    return 0;
  return peek->packet.flags & FORKQ__FRAGMENT ? add_fragment(peek)
                                              : show_frames(peek, offset);
}

/* ---- what was read ahead, and what is in the pipe ----------------------------------------- */

static void empty_copy(struct peek *peek) {
  while (forkq__os_read(peek->copy[0], &peek->packet, sizeof peek->packet) > 0)
    ;
}

/* Reads the packet read ahead, then copies the pipe. 1: a getter has read another packet meanwhile. */
static int copy_both(struct peek *peek, struct place *place) {
  struct place after = { 0 };
  int r = read_place(peek, place);
  if (r == 0)
    r = READ_CHANNEL(peek, packet, &peek->packet);
  if (r == 0)
    r = forkq__os_tee(peek->pipe, peek->copy[1]);
  if (r == 0)
    r = read_place(peek, &after);
  return r < 0 ? r : after.seq != place->seq;
}

static int show_read_ahead(struct peek *peek, struct place place) {
  const struct forkq__packet *packet = &peek->packet;
  bool is_one = place.offset >= FORKQ__PACKET_HEAD && packet->seq == place.seq &&
                packet->length <= FORKQ__PACKET_END &&
                forkq__packet_valid(packet, packet->length + FORKQ__PACKET_TAIL);
  /* What is there is a frame's beginning, or the packet's end. */
  uint32_t offset = FORKQ__PACKET_HEAD;
  while (is_one && offset < place.offset && offset < packet->length)
    offset = forkq__packet_frame(packet, offset).next;
  return is_one && offset == place.offset && offset < packet->length
             ? show_packet(peek, offset)
             : 0;
}

static int show_pipe(struct peek *peek) {
  ssize_t size;
  int r = 0;
  while (r == 0 && !peek->stopped &&
         (size = forkq__os_read(peek->copy[0], &peek->packet, sizeof peek->packet)) > 0)
    if (forkq__packet_valid(&peek->packet, (size_t)size))
      r = show_packet(peek, FORKQ__PACKET_HEAD);
  return r;
}

static int peek_at(struct peek *peek) {
  struct place place = { 0 };
  int tries = 0, r;
  while ((r = copy_both(peek, &place)) == 1 && ++tries < PEEKS_MAX)
    empty_copy(peek);
  if (r >= 0)
    r = show_read_ahead(peek, place);
  if (r == 0)
    r = show_pipe(peek);
  return r < 0 ? r : peek->count;
}

/* ---- opening ------------------------------------------------------------------------------ */

/* Opens what the process has at that place, if it is the file with this identity. */
static int open_of(const forkq_inspect_process_t *process, int place, uint64_t identity) {
  char path[FORKQ__PROC_PATH];
  if (process->fds[place] < 0)
    return -ESRCH;
  snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)process->pid, process->fds[place]);
  int fd = forkq__proc_open(path);
  if (fd >= 0 && !forkq__os_is_file(fd, identity)) {
    forkq__os_close(fd);
    fd = -ESRCH;
  }
  return fd == -ENOENT ? -ESRCH : fd;
}

static int open_through_any(const struct forkq__inspected *queue, int place,
                            uint64_t identity) {
  const forkq_inspect_process_t *processes = queue->processes.entries;
  int fd = -ESRCH;
  for (size_t i = 0; i < queue->processes.count && fd < 0; i++)
    fd = open_of(&processes[i], place, identity);
  return fd;
}

static void close_if_open(int fd) {
  if (fd >= 0)
    forkq__os_close(fd);
}

static int open_all(struct peek *peek, const struct forkq__inspected *queue) {
  peek->memory = open_through_any(queue, FORKQ__AT_MEMORY, queue->identity);
  if (peek->memory < 0)
    return peek->memory;
  peek->pipe = open_through_any(queue, FORKQ__AT_READ, queue->pipe_identity);
  if (peek->pipe < 0)
    return peek->pipe;
  int r = forkq__os_packet_pipe(peek->copy);
  return r < 0 ? r : forkq__os_pipe_as_large(peek->copy[1], peek->pipe);
}

static int peek_opened(struct peek *peek, const struct forkq__inspected *queue) {
  int r = open_all(peek, queue);
  if (r == 0)
    r = peek_at(peek);
  close_if_open(peek->copy[0]);
  close_if_open(peek->copy[1]);
  close_if_open(peek->pipe);
  close_if_open(peek->memory);
  forkq__free(peek->data);
  return r;
}

int forkq_inspect_peek(const forkq_inspect_queue_t *queue, forkq_inspect_item_fn item,
                       void *arg) {
  if (queue == NULL || item == NULL)
    return FORKQ_ENULL;
  if (queue->error != 0)
    return FORKQ_EHANDOVER;
  struct peek *peek = forkq__calloc(sizeof *peek);
  if (peek == NULL)
    return -ENOMEM;
  peek->memory = peek->pipe = peek->copy[0] = peek->copy[1] = -1;
  peek->item = item;
  peek->arg = arg;
  int r = peek_opened(peek, queue->self_);
  forkq__free(peek);
  return r;
}
