/* Packets: how frames lie in the bytes that go through the pipe. Pure functions on memory.
 *
 * A packet is at most PIPE_BUF bytes, so the kernel writes all of it or nothing: a killed
 * writer leaves no half packet. A packet consists of a header, frames and a tail. A frame is
 * two bytes of length and that many bytes of payload. Either the packet holds whole small
 * messages, one in each frame. Or it has the flag FRAGMENT and one frame, a piece of a large
 * message: FIRST has the message's length in `total`, and LAST ends the message. The fragments
 * of a message follow each other in the pipe with nothing between them.
 *
 * Where the packet has the flag REFERENCES, some of its frames are references: the message lies
 * beside the pipe, in the arena of the packet's cell (arena.h), and the payload says where.
 *
 * The tail repeats `seq`. If it is there, the packet is in memory to its end. Numbers are in
 * the machine's byte order, because they never leave the machine. */
#ifndef FORKQ_PACKET_H
#define FORKQ_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FORKQ__PACKET_SIZE 4096 /* PIPE_BUF on Linux (pipe(7)) */
#define FORKQ__PACKET_MAGIC UINT32_C(0x31716b66)
#define FORKQ__FRAME_HEAD 2u

enum {
  FORKQ__FRAGMENT = 1,
  FORKQ__FIRST = 2,
  FORKQ__LAST = 4,
  FORKQ__REFERENCES = 8,
};

/* This bit of a frame's length marks a reference. */
#define FORKQ__REFERENCE 0x8000u

/* Where a message lies that is not in the packet: `size` bytes of the arena, from `at` on. */
struct forkq__reference {
  uint32_t at;
  uint32_t size;
};

struct forkq__packet {
  uint32_t magic;
  uint16_t length; /* of header and frames; the tail comes after them */
  uint16_t frames;
  uint16_t cell; /* of the process that sent it, see ledger.h */
  uint16_t flags;
  uint32_t total; /* with FIRST: bytes of the whole message */
  uint64_t seq;   /* grows from packet to packet, with gaps */
  uint8_t body[FORKQ__PACKET_SIZE - 24];
};

#define FORKQ__PACKET_HEAD ((uint32_t)offsetof(struct forkq__packet, body))
#define FORKQ__PACKET_TAIL ((uint32_t)sizeof(uint64_t))
#define FORKQ__PACKET_END (FORKQ__PACKET_SIZE - FORKQ__PACKET_TAIL) /* of the frames */
#define FORKQ__FRAME_MAX (FORKQ__PACKET_END - FORKQ__PACKET_HEAD - FORKQ__FRAME_HEAD)

/* Makes the packet empty, for whole messages. */
void forkq__packet_begin(struct forkq__packet *packet);

/* The frame at `offset` from the packet's start: its payload, its size, and the offset of the
 * next frame. The packet must be valid, and `offset` below its length. */
struct forkq__frame { /* 16 bytes, so that it is returned in registers */
  const uint8_t *data;
  uint32_t next;
  uint16_t size;
  bool is_reference;
};
struct forkq__frame forkq__packet_frame(const struct forkq__packet *packet,
                                        uint32_t offset);

/* The reference that is a frame's payload. */
struct forkq__reference forkq__frame_reference(struct forkq__frame frame);

/* Writes the length of the frame at `offset`, whose payload has `size` bytes. */
void forkq__packet_set_frame(struct forkq__packet *packet, uint32_t offset,
                             uint32_t size);

/* Makes the frame at `offset` a reference. Returns the offset of its end. */
uint32_t forkq__packet_set_reference(struct forkq__packet *packet, uint32_t offset,
                                     struct forkq__reference reference);

/* Returns the number of frames before `offset`. */
uint32_t forkq__packet_frames_before(const struct forkq__packet *packet, uint32_t offset);

/* Returns the number of messages that end in this packet. */
uint32_t forkq__packet_messages(const struct forkq__packet *packet);

/* Returns the bytes of messages in this packet, and of those that it refers to. */
uint64_t forkq__packet_payload(const struct forkq__packet *packet);

/* Completes a packet for its write: its cell, its number and its tail. Returns the number of
 * bytes to write. */
uint32_t forkq__packet_finish(struct forkq__packet *packet, uint32_t cell, uint64_t seq);

/* Whether `size` received bytes are a packet in which every length is in bounds. */
bool forkq__packet_valid(const struct forkq__packet *packet, size_t size);

#endif
