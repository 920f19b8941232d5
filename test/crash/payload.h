/* Messages that tell who put them, and of which every byte is known. */
#ifndef FORKQ_CRASH_PAYLOAD_H
#define FORKQ_CRASH_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct payload {
  uint32_t by;         /* the life that put it */
  uint32_t generation; /* of its place */
  uint32_t seq;
  uint32_t size; /* of all of it */
};

/* Room for the head of a msgpack binary before the payload itself. */
#define PAYLOAD_HEAD 5u

/* Writes the message: a msgpack binary of PAYLOAD_HEAD + payload.size bytes. */
void payload_write(char *message, struct payload payload);

/* Reads a message of msgpack: false if any byte of it is not what was put. */
bool payload_read(const char *data, size_t size, struct payload *ret_payload);

#endif
