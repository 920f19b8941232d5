/* The length in front of a message, as CPython's Connection writes and reads it. */
#ifndef FORKQ_CONNECTION_FRAME_H
#define FORKQ_CONNECTION_FRAME_H

#include <stddef.h>
#include <stdint.h>

/* Four bytes; or twelve, of which the first four are -1, for what does not fit in
 * four. */
#define FORKQ__FRAME_SHORT 4
#define FORKQ__FRAME_LONG 12

/* Writes the header of a message of `size` bytes; its own size. */
size_t forkq__frame_write(unsigned char header[FORKQ__FRAME_LONG], uint64_t size);

/* Looks at the first four bytes of a header: how many it has, or FORKQ_EBADFRAME. */
int forkq__frame_length(const unsigned char header[FORKQ__FRAME_SHORT]);

/* The size of the message behind a complete header of `length` bytes. */
uint64_t forkq__frame_size(const unsigned char *header, int length);

#endif
