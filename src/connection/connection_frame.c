/* Headers of messages: big-endian numbers of four or eight bytes. */
#include "connection/connection_frame.h"

#include <forkq/base.h>

static void write_number(unsigned char *bytes, int count, uint64_t number) {
  for (int i = count - 1; i >= 0; i--, number >>= 8)
    bytes[i] = (unsigned char)(number & 0xff);
}

static uint64_t read_number(const unsigned char *bytes, int count) {
  uint64_t number = 0;
  for (int i = 0; i < count; i++)
    number = number << 8 | bytes[i];
  return number;
}

size_t forkq__frame_write(unsigned char header[FORKQ__FRAME_LONG], uint64_t size) {
  if (size <= INT32_MAX) {
    write_number(header, 4, size);
    return FORKQ__FRAME_SHORT;
  }
  write_number(header, 4, UINT32_MAX);
  write_number(header + 4, 8, size);
  return FORKQ__FRAME_LONG;
}

int forkq__frame_length(const unsigned char header[FORKQ__FRAME_SHORT]) {
  uint64_t number = read_number(header, 4);
  if (number == UINT32_MAX)
    return FORKQ__FRAME_LONG;
  return number <= INT32_MAX ? FORKQ__FRAME_SHORT : FORKQ_EBADFRAME;
}

uint64_t forkq__frame_size(const unsigned char *header, int length) {
  return length == FORKQ__FRAME_SHORT ? read_number(header, 4)
                                      : read_number(header + 4, 8);
}
