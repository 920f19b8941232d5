/* The packet decoder: what it accepts can be walked to its end, and nothing else is read.
 *
 * The first byte says whether the others are a packet as they are, or one whose header and
 * tail are put right first, so that the frames in it are looked at. */
#include "fuzz.h"

#include "codec/packet.h"

#include <string.h>

static void put_right(struct forkq__packet *packet, size_t size) {
  if (size < FORKQ__PACKET_HEAD + FORKQ__PACKET_TAIL)
    return;
  packet->magic = FORKQ__PACKET_MAGIC;
  packet->length = (uint16_t)(size - FORKQ__PACKET_TAIL);
  packet->flags &= 7;
  packet->frames = (uint16_t)(packet->frames % 8);
  (void)forkq__packet_finish(packet, packet->cell, packet->seq);
}

/* AddressSanitizer objects if it is not. */
static bool all_readable(struct forkq__frame frame) {
  const volatile uint8_t *bytes = frame.data;
  uint32_t read = 0;
  while (read < frame.size)
    (void)bytes[read++];
  return read == frame.size;
}

static void walk(const struct forkq__packet *packet, size_t size) {
  uint32_t offset = FORKQ__PACKET_HEAD, frames = 0;
  uint64_t payload = 0;
  while (offset < packet->length) {
    struct forkq__frame frame = forkq__packet_frame(packet, offset);
    MUST(forkq__packet_frames_before(packet, offset) == frames);
    MUST(frame.size > 0 && frame.size <= FORKQ__FRAME_MAX && frame.next > offset);
    MUST(all_readable(frame));
    offset = frame.next;
    payload += frame.is_reference ? forkq__frame_reference(frame).size : frame.size;
    frames++;
  }
  MUST(offset == packet->length && offset + FORKQ__PACKET_TAIL == size);
  MUST(frames == packet->frames && payload == forkq__packet_payload(packet));
  uint32_t messages = forkq__packet_messages(packet);
  MUST(packet->flags & FORKQ__FRAGMENT ? frames == 1 && messages <= 1
                                       : messages == frames);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = { data, size };
  if (size == 0)
    return 0;
  bool right = fuzz_number(&input, 1) & 1;
  /* The decoder reads only as much as came: the memory ends there. But the header is always
   * there, as it is in the reader's memory. */
  size_t room = input.size < FORKQ__PACKET_HEAD ? FORKQ__PACKET_HEAD : input.size;
  struct forkq__packet *packet = calloc(1, room);
  MUST(packet != NULL);
  memcpy(packet, input.data, input.size);
  if (right && input.size <= FORKQ__PACKET_SIZE)
    put_right(packet, input.size);
  if (forkq__packet_valid(packet, input.size))
    walk(packet, input.size);
  free(packet);
  return 0;
}
