/* The header of a message, which is the message's length, as CPython's Connection writes and reads
 * it. */
#ifndef FORKQ_CONNECTION_FRAME_H
#define FORKQ_CONNECTION_FRAME_H

#include <stddef.h>
#include <stdint.h>

/* A header has four bytes. If the length does not fit in four, the header has twelve bytes, of
 * which the first four are -1. */
#define FORKQ__FRAME_SHORT 4
#define FORKQ__FRAME_LONG 12

/* Writes the header of a message of `size` bytes. Returns the size of the header. */
size_t forkq__frame_write(unsigned char header[FORKQ__FRAME_LONG], uint64_t size);

/* Returns the size of a header, from its first four bytes, or FORKQ_EBADFRAME. */
int forkq__frame_length(const unsigned char header[FORKQ__FRAME_SHORT]);

/* Returns the size of the message after a complete header of `length` bytes. */
uint64_t forkq__frame_size(const unsigned char *header, int length);

#endif
