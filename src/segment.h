/* The shared segment: the map of the memory that the processes of one queue share.
 *
 * Anonymous memory (memfd_create(2)) of fixed size, known only by its descriptor: it goes
 * with the last process that has it. Behind the mapped part there is room for a partial message
 * (partial.h). Memory is reserved before it is written, so that nobody meets a SIGBUS where the
 * system has none left: here all but the ledger's cells, which are as they come into use. */
#ifndef FORKQ_SEGMENT_H
#define FORKQ_SEGMENT_H

#include "channel.h"
#include "slots.h"

/* What a process must find in a segment to use it: the same layout of all shared structs. */
#define FORKQ__SEGMENT_MAGIC UINT64_C(0x746e656d67736671)
#define FORKQ__SEGMENT_LAYOUT 4u

#define FORKQ__LIBC_TEXT 32
#define FORKQ__LOCK_IMAGE 64

/* What programs must have in common besides, to share these structs and their C library's mutexes
 * in them. All bytes behind what is said are zero. */
struct forkq__abi {
  char libc[FORKQ__LIBC_TEXT]; /* name and version of the C library */
  uint32_t long_size;
  uint32_t lock_size; /* of a pthread_mutex_t */
  uint32_t lock_alignment;
  uint32_t unused;
  unsigned char new_lock[FORKQ__LOCK_IMAGE]; /* the bytes of one that nobody has taken */
};

/* Of any version, magic and layout stand where they do here. */
struct forkq__segment_head {
  _Atomic uint64_t magic; /* written last */
  uint32_t layout;
  uint32_t size; /* of the segment */
  struct forkq__abi abi;
};

struct forkq__segment {
  struct forkq__segment_head head;
  uint64_t pipe_identity; /* of the pipe that belongs to it */
  uint64_t pid_namespace; /* of the process that made it; 0: not known */
  uint64_t event_id; /* one more than the kernel's numbers for its event descriptors; */
  uint64_t room_id;  /* 0: not known */
  uint64_t max_message;
  uint32_t joinable;
  /* Those in join sleep on `event`, which changes when the last task is done. */
  alignas(64) _Atomic uint32_t joined_event;
  _Atomic uint32_t joiners;
  struct forkq__look_shared join_look;
  struct forkq__slots_shared slots;
  struct forkq__channel_shared channel;
  struct forkq__ledger ledger;
};

/* A new segment, mapped; *ret_fd is its descriptor. 0 or a negative errno. */
int forkq__segment_create(struct forkq__segment **ret_segment, int *ret_fd);

/* Maps the segment of another program: 0, FORKQ_EHANDOVER if it is none or is damaged,
 * FORKQ_EVERSION if it is one of another version or layout, or a negative errno. The
 * descriptor stays open. */
int forkq__segment_open(struct forkq__segment **ret_segment, int fd);

void forkq__segment_unmap(struct forkq__segment *segment);

#endif
