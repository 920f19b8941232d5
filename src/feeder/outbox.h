/* The outbox: the deque of packets that a process has put and not yet sent.
 *
 * A message is packed straight into the last packet. If the message does not fit there, it
 * goes into packets of its own, as fragments. A large message may lie in a piece of the arena
 * (arena.h) instead; then its frame is a reference. So there is one copy of a message, in the form
 * in which it is written, and in steady state no allocation: packets come back and are used
 * again, the last used first, while they are still in the cache. The outbox has no lock of its
 * own. */
#ifndef FORKQ_OUTBOX_H
#define FORKQ_OUTBOX_H

#include "codec/packet.h"
#include "shared/arena.h"

#include <string.h>

struct forkq__buffer {
  struct forkq__buffer *next;
  struct forkq__packet packet;
};

struct forkq__outbox {
  struct forkq__buffer *head;
  struct forkq__buffer *tail;
  struct forkq__buffer *spare;
  uint32_t spares;
  uint32_t recycled; /* packets that came back since spares were last freed */
  uint32_t unneeded; /* the fewest spares since then */
  /* A piece for the message of a draft, or NULL. The message goes there first. */
  struct forkq__loan *loan;
  unsigned loan_forks; /* the process whose loan it is, see forkq__life_forks */
  bool in_step;        /* bytes are being copied into it */
  /* The message being written. It is not in the deque until it is committed. */
  struct {
    struct forkq__buffer *first; /* its own packets; NULL while it is in the tail */
    struct forkq__buffer *last;  /* the packet in which it continues */
    uint32_t start;              /* offset of its frame in `last` */
    uint32_t end;
    uint32_t size;
    uint32_t limit;
    int error;
    enum {
      FORKQ__IN_PACKETS,
      FORKQ__IN_LOAN, /* all of it is in the draft's piece; its only packet is empty */
      FORKQ__REFERRED /* its frame is a reference */
    } place;
  } open;
};

void forkq__outbox_init(struct forkq__outbox *outbox);

/* Frees every packet with its messages, and the packets of a message that is being written. */
void forkq__outbox_fini(struct forkq__outbox *outbox);

/* Writing a message: begin, any number of appends, then commit or rollback. begin returns 0 or
 * -ENOMEM. append returns 0, -ENOMEM, or FORKQ_ETOOBIG when the message grows beyond `limit`;
 * after an error the caller must roll back. */
int forkq__outbox_begin(struct forkq__outbox *outbox, uint32_t limit);
static inline int forkq__outbox_append(struct forkq__outbox *outbox, const void *data,
                                       size_t size);
void forkq__outbox_commit(struct forkq__outbox *outbox);
void forkq__outbox_rollback(struct forkq__outbox *outbox);

/* Makes the message being written, which is in one packet or has no bytes yet, a reference to a piece
 * that has its bytes. */
void forkq__outbox_refer(struct forkq__outbox *outbox, struct forkq__reference piece);

/* leave_loan moves the message being written, if it is in the draft's piece, into packets, and drops the
 * loan. If that fails, so do appends from now on. lose_loan drops the loan with its bytes: appends fail
 * with this error. */
void forkq__outbox_leave_loan(struct forkq__outbox *draft);
void forkq__outbox_lose_loan(struct forkq__outbox *draft, int error);

/* In a child whose parent made the draft, and which came here by other threads than the one that put it
 * right: loses the loan with FORKQ_ECLOSED. */
void forkq__outbox_check_fork(struct forkq__outbox *draft);

/* The bytes of the message being written, if they lie in one piece, or NULL. */
const uint8_t *forkq__outbox_whole(struct forkq__outbox *outbox);

/* Calls `visit` for the pieces of the message being written, in order, until it returns other
 * than 0. Returns the last result of `visit`. */
typedef int (*forkq__visit_fn)(void *arg, const void *data, size_t size);
int forkq__outbox_visit(struct forkq__outbox *outbox, forkq__visit_fn visit, void *arg);

/* count: the messages in a list of packets. copy: copies all of them but the first `skip` to
 * the end of the outbox, as far as there is memory, and returns what it copied. `fetch` copies
 * the bytes of a piece; it returns 0 or a negative errno. */
struct forkq__copied {
  uint64_t messages;
  uint64_t bytes;
};
uint64_t forkq__outbox_count(const struct forkq__buffer *list);
typedef int (*forkq__fetch_fn)(void *arg, struct forkq__reference piece, void *data);
struct forkq__copied forkq__outbox_copy(struct forkq__outbox *outbox,
                                        const struct forkq__buffer *list, uint64_t skip,
                                        forkq__fetch_fn fetch, void *arg);

/* Removes the first packet of the deque. The caller owns it. */
struct forkq__buffer *forkq__outbox_pop(struct forkq__outbox *outbox);

/* Removes all packets from the deque. Returns them as a list; the caller owns it. */
struct forkq__buffer *forkq__outbox_take(struct forkq__outbox *outbox);

/* Takes back a list of packets for reuse. recycle frees the packets that are too many. keep
 * returns these instead, for forkq__outbox_free, which may take a while for a large message. */
void forkq__outbox_recycle(struct forkq__outbox *outbox, struct forkq__buffer *list);
struct forkq__buffer *forkq__outbox_keep(struct forkq__outbox *outbox,
                                         struct forkq__buffer *list);
void forkq__outbox_free(struct forkq__buffer *list);

/* A message can be written into an outbox of its own, the draft, so that no other thread has
 * to wait meanwhile. A draft has no packets at first. lend gives the draft up to `count` spare
 * packets. join takes the draft's message over, at the end of the outbox, and takes back all
 * spare packets but one. If the draft has a loan, the caller has ended it. */
void forkq__outbox_lend(struct forkq__outbox *outbox, struct forkq__outbox *draft,
                        uint32_t count);
void forkq__outbox_join(struct forkq__outbox *outbox, struct forkq__outbox *draft);

/* An append of bytes that do not go into the packet that is open, or exceed the limit; or of none. */
__attribute__((noinline)) int forkq__outbox_append_beyond(struct forkq__outbox *outbox,
                                                          const void *data, size_t size);

static inline int forkq__outbox_append(struct forkq__outbox *outbox, const void *data,
                                       size_t size) {
  /* 0 bytes, which may be at NULL, are not below what wraps. */
  if (outbox->open.error != 0 || size - 1 >= FORKQ__PACKET_END - outbox->open.end ||
      size > outbox->open.limit - outbox->open.size)
    return forkq__outbox_append_beyond(outbox, data, size);
  memcpy(outbox->open.last->packet.body + (outbox->open.end - FORKQ__PACKET_HEAD), data,
         size);
  outbox->open.end += (uint32_t)size;
  outbox->open.size += (uint32_t)size;
  return 0;
}

#endif
