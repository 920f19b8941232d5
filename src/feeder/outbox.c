/* The deque, its spare packets, and the message that is open in it. A message begins in the
 * tail if it is worth it, or else in a packet of its own. A message that outgrows the tail
 * moves out of it as a whole. A message that outgrows its packet continues in the next one, as
 * fragments. A draft's message begins in the piece that the draft was lent, if there is one, and moves
 * out of it into packets if it outgrows it. */
#include "feeder/outbox.h"

#include "base/contract.h"
#include "base/heap.h"
#include "base/lifecycle.h"

#include <errno.h>
#include <forkq/base.h>
#include <string.h>

/* Packets kept for reuse: the most, and the number that stays even if unneeded. A stream of
 * large messages needs many packets, again and again. Spares that a burst has left are freed
 * by halves, each time that this many packets (SPARES_PERIOD) have come back. */
#define SPARES_MAX 1024
#define SPARES_LEAST 32
#define SPARES_PERIOD 256

/* A message is begun in the tail only if this many bytes fit there. Otherwise most of its
 * bytes would be copied once more, into a packet of its own. */
#define WORTHWHILE 64

/* The deque between two calls: its last packet is where it ends, and has whole messages only, or the
 * end of one. */
static bool is_sound(const struct forkq__outbox *outbox) {
  const struct forkq__buffer *tail = outbox->tail;
  if ((outbox->head == NULL) != (tail == NULL) ||
      (outbox->spare == NULL) != (outbox->spares == 0))
    return false;
  return tail == NULL ||
         (tail->next == NULL && tail->packet.frames > 0 &&
          tail->packet.length <= FORKQ__PACKET_END &&
          (!(tail->packet.flags & FORKQ__FRAGMENT) || tail->packet.flags & FORKQ__LAST));
}

void forkq__outbox_init(struct forkq__outbox *outbox) {
  memset(outbox, 0, sizeof *outbox);
}

void forkq__outbox_free(struct forkq__buffer *list) {
  while (list != NULL) {
    struct forkq__buffer *next = list->next;
    forkq__free(list);
    list = next;
  }
}

/* Takes the loan from the draft first: a handler that forks may come in between. */
static struct forkq__loan *take_loan(struct forkq__outbox *draft) {
  struct forkq__loan *loan = draft->loan;
  draft->loan = NULL;
  if (draft->open.place == FORKQ__IN_LOAN) {
    draft->open.place = FORKQ__IN_PACKETS;
    draft->open.end = draft->open.start + FORKQ__FRAME_HEAD;
  }
  return loan;
}

/* A function that packs a message may not have returned, so a message may be open. */
void forkq__outbox_fini(struct forkq__outbox *outbox) {
  if (outbox->loan != NULL)
    forkq__loan_drop(take_loan(outbox));
  forkq__outbox_free(outbox->open.first);
  forkq__outbox_free(outbox->head);
  forkq__outbox_free(outbox->spare);
  forkq__outbox_init(outbox);
}

static struct forkq__buffer *take_spare(struct forkq__outbox *outbox) {
  struct forkq__buffer *buffer = outbox->spare;
  outbox->spare = buffer->next;
  outbox->spares--;
  if (outbox->spares < outbox->unneeded)
    outbox->unneeded = outbox->spares;
  return buffer;
}

static struct forkq__buffer *new_buffer(struct forkq__outbox *outbox) {
  struct forkq__buffer *buffer =
      outbox->spare != NULL ? take_spare(outbox) : forkq__malloc(sizeof *buffer);
  if (buffer == NULL)
    return NULL;
  buffer->next = NULL;
  forkq__packet_begin(&buffer->packet);
  return buffer;
}

/* Frees half of the spares that were not needed since the last call. */
static void free_unneeded(struct forkq__outbox *outbox) {
  uint32_t unneeded = outbox->unneeded;
  for (; unneeded > SPARES_LEAST; unneeded -= 2)
    forkq__free(take_spare(outbox));
  outbox->unneeded = outbox->spares;
  outbox->recycled = 0;
}

static void add_spare(struct forkq__outbox *outbox, struct forkq__buffer *buffer) {
  buffer->next = outbox->spare;
  outbox->spare = buffer;
  outbox->spares++;
}

struct forkq__buffer *forkq__outbox_keep(struct forkq__outbox *outbox,
                                         struct forkq__buffer *list) {
  if (outbox->recycled >= SPARES_PERIOD)
    free_unneeded(outbox);
  while (list != NULL && outbox->spares < SPARES_MAX) {
    struct forkq__buffer *next = list->next;
    add_spare(outbox, list);
    outbox->recycled++;
    list = next;
  }
  return list;
}

void forkq__outbox_recycle(struct forkq__outbox *outbox, struct forkq__buffer *list) {
  forkq__outbox_free(forkq__outbox_keep(outbox, list));
}

struct forkq__buffer *forkq__outbox_pop(struct forkq__outbox *outbox) {
  struct forkq__buffer *first = outbox->head;
  outbox->head = first->next;
  if (outbox->head == NULL)
    outbox->tail = NULL;
  first->next = NULL;
  FORKQ__CHECK(is_sound(outbox));
  return first;
}

struct forkq__buffer *forkq__outbox_take(struct forkq__outbox *outbox) {
  struct forkq__buffer *list = outbox->head;
  outbox->head = outbox->tail = NULL;
  return list;
}

static bool tail_has_room(const struct forkq__outbox *outbox) {
  const struct forkq__buffer *tail = outbox->tail;
  return tail != NULL && !(tail->packet.flags & FORKQ__FRAGMENT) &&
         tail->packet.length + FORKQ__FRAME_HEAD + WORTHWHILE <= FORKQ__PACKET_END;
}

static void open_frame(struct forkq__outbox *outbox, struct forkq__buffer *buffer) {
  outbox->open.last = buffer;
  outbox->open.start = buffer->packet.length;
  outbox->open.end = outbox->open.start + FORKQ__FRAME_HEAD;
}

/* In the piece nothing is appended to the packet: it seems full. */
static void begin_in_loan(struct forkq__outbox *draft) {
  draft->open.place = FORKQ__IN_LOAN;
  draft->open.end = FORKQ__PACKET_END;
}

static __attribute__((noinline)) int begin_new_packet(struct forkq__outbox *outbox) {
  outbox->open.first = new_buffer(outbox);
  if (outbox->open.first == NULL)
    return -ENOMEM;
  open_frame(outbox, outbox->open.first);
  if (outbox->loan != NULL)
    begin_in_loan(outbox);
  return 0;
}

/* What is rare stands apart, so that this is inlined where small messages are packed. */
int forkq__outbox_begin(struct forkq__outbox *outbox, uint32_t limit) {
  outbox->open.first = NULL;
  outbox->open.size = 0;
  outbox->open.limit = limit;
  outbox->open.error = 0;
  outbox->open.place = FORKQ__IN_PACKETS;
  FORKQ__CHECK(is_sound(outbox));
  if (!tail_has_room(outbox))
    return begin_new_packet(outbox);
  open_frame(outbox, outbox->tail);
  return 0;
}

static uint8_t *frame_bytes(struct forkq__buffer *buffer, uint32_t offset) {
  return buffer->packet.body + (offset - FORKQ__PACKET_HEAD);
}

/* Moves the message, which does not fit into the tail, into a packet of its own. */
static void move_out_of_tail(struct forkq__outbox *outbox, struct forkq__buffer *buffer) {
  const uint8_t *bytes =
      frame_bytes(outbox->open.last, outbox->open.start + FORKQ__FRAME_HEAD);
  uint32_t size = outbox->open.size;
  outbox->open.first = buffer;
  open_frame(outbox, buffer);
  memcpy(frame_bytes(buffer, outbox->open.end), bytes, size);
  outbox->open.end += size;
}

/* Ends the packet that the message has filled, as a fragment. */
static void seal(struct forkq__outbox *outbox, uint16_t last) {
  struct forkq__packet *packet = &outbox->open.last->packet;
  uint32_t size = outbox->open.end - outbox->open.start - FORKQ__FRAME_HEAD;
  uint16_t first = outbox->open.last == outbox->open.first ? FORKQ__FIRST : 0;
  forkq__packet_set_frame(packet, outbox->open.start, size);
  packet->frames = 1;
  packet->length = (uint16_t)outbox->open.end;
  packet->flags = (uint16_t)(FORKQ__FRAGMENT | first | last);
}

static int grow(struct forkq__outbox *outbox) {
  struct forkq__buffer *buffer = new_buffer(outbox);
  if (buffer == NULL)
    return -ENOMEM;
  if (outbox->open.first == NULL) {
    move_out_of_tail(outbox, buffer);
    return 0;
  }
  seal(outbox, 0);
  outbox->open.last->next = buffer;
  open_frame(outbox, buffer);
  return 0;
}

static void append_to_packets(struct forkq__outbox *outbox, const void *data,
                              size_t size) {
  while (size > 0 && outbox->open.error == 0) {
    uint32_t room = FORKQ__PACKET_END - outbox->open.end;
    uint32_t n = size < room ? (uint32_t)size : room;
    if (n < size && outbox->open.first == NULL)
      n = 0; /* the message moves out of the tail, as a whole */
    memcpy(frame_bytes(outbox->open.last, outbox->open.end), data, n);
    outbox->open.end += n;
    outbox->open.size += n;
    data = (const char *)data + n;
    size -= n;
    if (size > 0)
      outbox->open.error = grow(outbox);
  }
}

/* The queue may be closed, or the process taken for dead, while the bytes are copied. */
static int move_to_packets(struct forkq__outbox *draft, const struct forkq__loan *loan) {
  uint32_t size = draft->open.size;
  draft->open.size = 0;
  int r = forkq__loan_check(loan);
  if (r < 0)
    return r;
  append_to_packets(draft, loan->memory, size);
  r = forkq__loan_check(loan);
  return r < 0 ? r : draft->open.error;
}

void forkq__outbox_leave_loan(struct forkq__outbox *draft) {
  if (draft->loan == NULL)
    return;
  bool in_loan = draft->open.place == FORKQ__IN_LOAN;
  struct forkq__loan *loan = take_loan(draft);
  if (in_loan)
    draft->open.error = move_to_packets(draft, loan);
  forkq__loan_drop(loan);
}

void forkq__outbox_lose_loan(struct forkq__outbox *draft, int error) {
  if (draft->loan == NULL)
    return;
  draft->open.error = error;
  forkq__loan_drop(take_loan(draft));
}

static bool fits_in_loan(const struct forkq__outbox *draft, size_t size) {
  return draft->open.place == FORKQ__IN_LOAN &&
         size <= draft->loan->reference.size - draft->open.size &&
         forkq__loan_check(draft->loan) == 0;
}

/* The loan itself has gone with the parent's arena. */
void forkq__outbox_check_fork(struct forkq__outbox *draft) {
  if (draft->loan == NULL || draft->loan_forks == forkq__life_forks() ||
      draft->loan == NULL) /* the call may have put this process right */
    return;
  draft->open.error = FORKQ_ECLOSED;
  (void)take_loan(draft);
}

/* A handler that forks leaves the loan alone while in_step is set. */
static bool append_to_loan(struct forkq__outbox *draft, const void *data, size_t size) {
  forkq__outbox_check_fork(draft);
  draft->in_step = true;
  atomic_signal_fence(memory_order_seq_cst);
  bool fits = fits_in_loan(draft, size);
  if (fits) {
    memcpy(draft->loan->memory + draft->open.size, data, size);
    draft->open.size += (uint32_t)size;
  }
  atomic_signal_fence(memory_order_seq_cst);
  draft->in_step = false;
  return fits;
}

int forkq__outbox_append_beyond(struct forkq__outbox *outbox, const void *data,
                                size_t size) {
  if (outbox->open.error == 0 && size > outbox->open.limit - outbox->open.size)
    outbox->open.error = FORKQ_ETOOBIG;
  if (outbox->open.error != 0 || size == 0)
    return outbox->open.error;
  if (outbox->open.place == FORKQ__IN_LOAN && append_to_loan(outbox, data, size))
    return 0;
  forkq__outbox_leave_loan(outbox);
  if (outbox->open.error == 0)
    append_to_packets(outbox, data, size);
  return outbox->open.error;
}

static bool fragmented(const struct forkq__outbox *outbox) {
  return outbox->open.first != NULL && outbox->open.first != outbox->open.last;
}

static void link_at_end(struct forkq__outbox *outbox, struct forkq__buffer *first,
                        struct forkq__buffer *last) {
  if (outbox->tail != NULL)
    outbox->tail->next = first;
  else
    outbox->head = first;
  outbox->tail = last;
}

void forkq__outbox_refer(struct forkq__outbox *outbox, struct forkq__reference piece) {
  FORKQ__CHECK(!fragmented(outbox));
  outbox->open.place = FORKQ__REFERRED;
  outbox->open.size = piece.size;
  outbox->open.end =
      forkq__packet_set_reference(&outbox->open.last->packet, outbox->open.start, piece);
}

static void end_frame(struct forkq__outbox *outbox) {
  struct forkq__packet *packet = &outbox->open.last->packet;
  if (outbox->open.place == FORKQ__IN_PACKETS)
    forkq__packet_set_frame(packet, outbox->open.start, outbox->open.size);
  packet->frames++;
  packet->length = (uint16_t)outbox->open.end;
}

void forkq__outbox_commit(struct forkq__outbox *outbox) {
  if (outbox->open.place == FORKQ__IN_LOAN)
    forkq__outbox_refer(outbox,
                        (struct forkq__reference){ .at = outbox->loan->reference.at,
                                                   .size = outbox->open.size });
  if (fragmented(outbox)) {
    seal(outbox, FORKQ__LAST);
    outbox->open.first->packet.total = outbox->open.size;
  } else {
    end_frame(outbox);
  }
  if (outbox->open.first != NULL)
    link_at_end(outbox, outbox->open.first, outbox->open.last);
  outbox->open.first = NULL;
  FORKQ__CHECK(is_sound(outbox));
}

void forkq__outbox_rollback(struct forkq__outbox *outbox) {
  forkq__outbox_recycle(outbox, outbox->open.first);
  outbox->open.first = NULL;
}

const uint8_t *forkq__outbox_whole(struct forkq__outbox *outbox) {
  if (fragmented(outbox))
    return NULL;
  if (outbox->open.place == FORKQ__IN_LOAN)
    return outbox->loan->memory;
  return frame_bytes(outbox->open.last, outbox->open.start + FORKQ__FRAME_HEAD);
}

int forkq__outbox_visit(struct forkq__outbox *outbox, forkq__visit_fn visit, void *arg) {
  if (outbox->open.place == FORKQ__IN_LOAN)
    return visit(arg, outbox->loan->memory, outbox->open.size);
  if (fragmented(outbox)) {
    struct forkq__buffer *buffer = outbox->open.first;
    for (; buffer != outbox->open.last; buffer = buffer->next) {
      struct forkq__frame frame =
          forkq__packet_frame(&buffer->packet, FORKQ__PACKET_HEAD);
      int r = visit(arg, frame.data, frame.size);
      if (r != 0)
        return r;
    }
  }
  uint32_t offset = outbox->open.start + FORKQ__FRAME_HEAD;
  return visit(arg, frame_bytes(outbox->open.last, offset), outbox->open.end - offset);
}

void forkq__outbox_lend(struct forkq__outbox *outbox, struct forkq__outbox *draft,
                        uint32_t count) {
  while (count-- > 0 && outbox->spare != NULL)
    add_spare(draft, take_spare(outbox));
}

/* Whether the draft is a small message that fits into the last packet, after the others. */
static bool fits_in_tail(const struct forkq__outbox *outbox,
                         const struct forkq__packet *draft) {
  return tail_has_room(outbox) && !(draft->flags & FORKQ__FRAGMENT) &&
         outbox->tail->packet.length + (draft->length - FORKQ__PACKET_HEAD) <=
             FORKQ__PACKET_END;
}

static void copy_to_tail(struct forkq__outbox *outbox, struct forkq__buffer *draft) {
  struct forkq__packet *tail = &outbox->tail->packet;
  uint32_t size = draft->packet.length - FORKQ__PACKET_HEAD;
  memcpy(frame_bytes(outbox->tail, tail->length), frame_bytes(draft, FORKQ__PACKET_HEAD),
         size);
  tail->length = (uint16_t)(tail->length + size);
  tail->flags |= draft->packet.flags; /* it may be a reference */
  tail->frames++;
}

void forkq__outbox_join(struct forkq__outbox *outbox, struct forkq__outbox *draft) {
  struct forkq__buffer *first = draft->head;
  if (fits_in_tail(outbox, &first->packet)) {
    copy_to_tail(outbox, first);
    add_spare(draft, first);
  } else {
    link_at_end(outbox, first, draft->tail);
    if (draft->spare == NULL)
      forkq__outbox_lend(outbox, draft, 1);
  }
  while (draft->spares > 1 && draft->spare != NULL)
    add_spare(outbox, take_spare(draft));
  draft->head = draft->tail = NULL;
  FORKQ__CHECK(is_sound(outbox) && is_sound(draft));
}

/* ---- copying ----------------------------------------------------------------------------- */

uint64_t forkq__outbox_count(const struct forkq__buffer *list) {
  uint64_t count = 0;
  for (const struct forkq__buffer *b = list; b != NULL; b = b->next)
    count += forkq__packet_messages(&b->packet);
  return count;
}

/* From where the bytes of pieces come. */
struct fetch {
  forkq__fetch_fn fn;
  void *arg;
};

static int append_piece(struct forkq__outbox *outbox, struct forkq__reference piece,
                        struct fetch fetch) {
  void *data = forkq__malloc(piece.size);
  if (data == NULL)
    return -ENOMEM;
  int r = fetch.fn(fetch.arg, piece, data);
  if (r == 0)
    r = forkq__outbox_append(outbox, data, piece.size);
  forkq__free(data);
  return r;
}

/* Copies one frame. Begins a message if the frame is the first of one, and commits it if the
 * frame is the last. */
static int copy_frame(struct forkq__outbox *outbox, struct forkq__frame frame, bool first,
                      bool last, struct fetch fetch) {
  int r = first ? forkq__outbox_begin(outbox, UINT32_MAX) : 0;
  if (r == 0)
    r = frame.is_reference ? append_piece(outbox, forkq__frame_reference(frame), fetch)
                           : forkq__outbox_append(outbox, frame.data, frame.size);
  if (r < 0)
    forkq__outbox_rollback(outbox);
  else if (last)
    forkq__outbox_commit(outbox);
  return r;
}

/* Copies the frames of one packet. *skip counts whole messages. */
static int copy_packet(struct forkq__outbox *outbox, const struct forkq__packet *packet,
                       struct fetch fetch, uint64_t *skip, struct forkq__copied *copied) {
  bool fragment = packet->flags & FORKQ__FRAGMENT;
  bool first = !fragment || packet->flags & FORKQ__FIRST;
  bool last = !fragment || packet->flags & FORKQ__LAST;
  for (uint32_t at = FORKQ__PACKET_HEAD; at < packet->length;) {
    struct forkq__frame frame = forkq__packet_frame(packet, at);
    at = frame.next;
    if (*skip > 0) {
      *skip -= last;
      continue;
    }
    int r = copy_frame(outbox, frame, first, last, fetch);
    if (r < 0)
      return r;
    copied->messages += last;
    copied->bytes += last ? outbox->open.size : 0;
  }
  return 0;
}

struct forkq__copied forkq__outbox_copy(struct forkq__outbox *outbox,
                                        const struct forkq__buffer *list, uint64_t skip,
                                        forkq__fetch_fn fetch, void *arg) {
  struct forkq__copied copied = { 0 };
  struct fetch fetching = { fetch, arg };
  int r = 0;
  for (const struct forkq__buffer *b = list; b != NULL && r == 0; b = b->next)
    r = copy_packet(outbox, &b->packet, fetching, &skip, &copied);
  return copied;
}
