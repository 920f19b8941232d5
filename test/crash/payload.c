#include "payload.h"

#include <string.h>

static uint64_t mix(uint64_t x) {
  x ^= x << 13;
  x ^= x >> 7;
  return x ^ x << 17;
}

static uint64_t begin(const struct payload *payload) {
  uint64_t x = (uint64_t)payload->by << 40 ^ (uint64_t)payload->generation << 20 ^
               payload->seq ^ (uint64_t)payload->size << 44;
  return mix(x | 1);
}

void payload_write(char *message, struct payload payload) {
  message[0] = (char)0xc6;
  for (int i = 0; i < 4; i++)
    message[1 + i] = (char)(payload.size >> (24 - 8 * i));
  char *body = message + PAYLOAD_HEAD;
  memcpy(body, &payload, sizeof payload);
  uint64_t x = begin(&payload);
  for (size_t i = sizeof payload; i < payload.size; i += sizeof x, x = mix(x)) {
    size_t left = payload.size - i;
    memcpy(body + i, &x, left < sizeof x ? left : sizeof x);
  }
}

/* The binary within the message; msgpack has three heads for it. */
static const char *body_of(const char *data, size_t size, size_t *ret_size) {
  const uint8_t *head = (const uint8_t *)data;
  size_t bytes = size < 1                             ? 0
                 : head[0] >= 0xc4 && head[0] <= 0xc6 ? (size_t)1 << (head[0] - 0xc4)
                                                      : 0;
  if (bytes == 0 || size < 1 + bytes)
    return NULL;
  size_t length = 0;
  for (size_t i = 0; i < bytes; i++)
    length = length << 8 | head[1 + i];
  *ret_size = length;
  return length == size - 1 - bytes ? data + 1 + bytes : NULL;
}

bool payload_read(const char *data, size_t size, struct payload *ret_payload) {
  size_t length = 0;
  const char *body = body_of(data, size, &length);
  if (body == NULL || length < sizeof *ret_payload)
    return false;
  memcpy(ret_payload, body, sizeof *ret_payload);
  if (ret_payload->size != length)
    return false;
  uint64_t x = begin(ret_payload);
  for (size_t i = sizeof *ret_payload; i < length; i += sizeof x, x = mix(x)) {
    size_t left = length - i;
    if (memcmp(body + i, &x, left < sizeof x ? left : sizeof x) != 0)
      return false;
  }
  return true;
}
