/* Packets: building them, reading their frames, and checking them. */
#include "codec/packet.h"

#include <limits.h>
#include <string.h>

_Static_assert(sizeof(struct forkq__packet) == FORKQ__PACKET_SIZE, "no padding");
_Static_assert(FORKQ__PACKET_SIZE <= PIPE_BUF, "one packet is one atomic write");

void forkq__packet_begin(struct forkq__packet *packet) {
  packet->magic = FORKQ__PACKET_MAGIC;
  packet->length = FORKQ__PACKET_HEAD;
  packet->frames = 0;
  packet->cell = 0;
  packet->flags = 0;
  packet->total = 0;
  packet->seq = 0;
}

static const uint8_t *at(const struct forkq__packet *packet, uint32_t offset) {
  return packet->body + (offset - FORKQ__PACKET_HEAD);
}

static uint16_t head_at(const struct forkq__packet *packet, uint32_t offset) {
  uint16_t head;
  memcpy(&head, at(packet, offset), sizeof head);
  return head;
}

struct forkq__frame forkq__packet_frame(const struct forkq__packet *packet,
                                        uint32_t offset) {
  uint16_t head = head_at(packet, offset);
  uint16_t size = head & (uint16_t)~FORKQ__REFERENCE;
  return (struct forkq__frame){
    .data = at(packet, offset) + FORKQ__FRAME_HEAD,
    .next = offset + FORKQ__FRAME_HEAD + size,
    .size = size,
    .is_reference = head & FORKQ__REFERENCE,
  };
}

struct forkq__reference forkq__frame_reference(struct forkq__frame frame) {
  struct forkq__reference reference;
  memcpy(&reference, frame.data, sizeof reference);
  return reference;
}

void forkq__packet_set_frame(struct forkq__packet *packet, uint32_t offset,
                             uint32_t size) {
  uint16_t size16 = (uint16_t)size;
  memcpy(packet->body + (offset - FORKQ__PACKET_HEAD), &size16, sizeof size16);
}

uint32_t forkq__packet_set_reference(struct forkq__packet *packet, uint32_t offset,
                                     struct forkq__reference reference) {
  forkq__packet_set_frame(packet, offset, FORKQ__REFERENCE | sizeof reference);
  offset += FORKQ__FRAME_HEAD;
  memcpy(packet->body + (offset - FORKQ__PACKET_HEAD), &reference, sizeof reference);
  packet->flags |= FORKQ__REFERENCES;
  return offset + (uint32_t)sizeof reference;
}

uint32_t forkq__packet_frames_before(const struct forkq__packet *packet,
                                     uint32_t offset) {
  uint32_t frames = 0;
  for (uint32_t o = FORKQ__PACKET_HEAD; o < offset;
       o = forkq__packet_frame(packet, o).next)
    frames++;
  return frames;
}

uint32_t forkq__packet_messages(const struct forkq__packet *packet) {
  if (packet->flags & FORKQ__FRAGMENT)
    return packet->flags & FORKQ__LAST ? 1 : 0;
  return packet->frames;
}

static uint64_t referred_bytes(const struct forkq__packet *packet) {
  uint64_t bytes = 0;
  for (uint32_t o = FORKQ__PACKET_HEAD; o < packet->length;) {
    struct forkq__frame frame = forkq__packet_frame(packet, o);
    if (frame.is_reference)
      bytes += (uint64_t)forkq__frame_reference(frame).size - frame.size;
    o = frame.next;
  }
  return bytes;
}

uint64_t forkq__packet_payload(const struct forkq__packet *packet) {
  uint64_t here =
      packet->length - FORKQ__PACKET_HEAD - packet->frames * FORKQ__FRAME_HEAD;
  return packet->flags & FORKQ__REFERENCES ? here + referred_bytes(packet) : here;
}

uint32_t forkq__packet_finish(struct forkq__packet *packet, uint32_t cell, uint64_t seq) {
  packet->cell = (uint16_t)cell;
  packet->seq = seq;
  memcpy(packet->body + (packet->length - FORKQ__PACKET_HEAD), &seq, sizeof seq);
  return packet->length + FORKQ__PACKET_TAIL;
}

static bool has_tail(const struct forkq__packet *packet) {
  uint64_t seq;
  memcpy(&seq, at(packet, packet->length), sizeof seq);
  return seq == packet->seq;
}

static bool is_reference(const struct forkq__packet *packet, uint16_t head,
                         uint32_t left) {
  return packet->flags & FORKQ__REFERENCES &&
         head == (FORKQ__REFERENCE | sizeof(struct forkq__reference)) &&
         left >= sizeof(struct forkq__reference);
}

/* An empty frame is not valid, because no message is empty. */
static bool frames_fill(const struct forkq__packet *packet) {
  uint32_t offset = FORKQ__PACKET_HEAD;
  for (uint32_t i = 0; i < packet->frames; i++) {
    if (packet->length - offset < FORKQ__FRAME_HEAD)
      return false;
    uint32_t size = head_at(packet, offset);
    uint32_t left = packet->length - offset - FORKQ__FRAME_HEAD;
    if (size == 0 || size > left) {
      if (!is_reference(packet, (uint16_t)size, left))
        return false;
      size = sizeof(struct forkq__reference);
    }
    offset += FORKQ__FRAME_HEAD + size;
  }
  return offset == packet->length;
}

bool forkq__packet_valid(const struct forkq__packet *packet, size_t size) {
  if (size < FORKQ__PACKET_HEAD + FORKQ__PACKET_TAIL || size > FORKQ__PACKET_SIZE ||
      packet->magic != FORKQ__PACKET_MAGIC || packet->frames == 0 ||
      packet->length != size - FORKQ__PACKET_TAIL || !has_tail(packet))
    return false;
  if (packet->flags & FORKQ__FRAGMENT) {
    if (packet->frames != 1 || packet->flags > 7)
      return false;
  } else if (packet->flags & ~FORKQ__REFERENCES) {
    return false;
  }
  return frames_fill(packet);
}
