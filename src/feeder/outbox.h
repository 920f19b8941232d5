/* The outbox: the deque of packets that a process has put and not yet sent.
 *
 * Messages are packed straight into its last packet; what does not fit goes on in packets of
 * its own, as fragments. So there is one copy of a message, in the form in which it will be
 * written, and in steady state no allocation: packets come back and are used again, last used
 * first, while they are still in the cache. Not locked. */
#ifndef FORKQ_OUTBOX_H
#define FORKQ_OUTBOX_H

#include "codec/packet.h"

struct forkq__buffer {
  struct forkq__buffer *next;
  struct forkq__packet packet;
};

struct forkq__outbox {
  struct forkq__buffer *head;
  struct forkq__buffer *tail;
  struct forkq__buffer *spare;
  uint32_t spares;
  uint32_t recycled; /* since spares were last given back */
  uint32_t unneeded; /* the fewest spares there were since */
  /* The message being written. Until it is committed the deque does not know of it. */
  struct {
    struct forkq__buffer *first; /* its own packets; NULL while it is in the tail */
    struct forkq__buffer *last;  /* where it goes on */
    uint32_t start;              /* offset of its frame in `last` */
    uint32_t end;
    uint32_t size;
    uint32_t limit;
    int error;
  } open;
};

void forkq__outbox_init(struct forkq__outbox *outbox);

/* Frees every packet, with all that is in them, and of a message that is being written. */
void forkq__outbox_fini(struct forkq__outbox *outbox);

/* begin, append as often as you like, then commit or roll back. begin: 0 or -ENOMEM; append:
 * 0, -ENOMEM, or FORKQ_ETOOBIG when the message grows beyond `limit`; after an error it has to
 * be rolled back. */
int forkq__outbox_begin(struct forkq__outbox *outbox, uint32_t limit);
int forkq__outbox_append(struct forkq__outbox *outbox, const void *data, size_t size);
void forkq__outbox_commit(struct forkq__outbox *outbox);
void forkq__outbox_rollback(struct forkq__outbox *outbox);

/* The message being written, if it lies in one piece, or NULL. */
const uint8_t *forkq__outbox_whole(struct forkq__outbox *outbox);

/* Calls `visit` for the pieces of the message being written, in order, until it returns other
 * than 0; returns that. */
typedef int (*forkq__visit_fn)(void *arg, const void *data, size_t size);
int forkq__outbox_visit(struct forkq__outbox *outbox, forkq__visit_fn visit, void *arg);

/* Messages in a list of packets; and copies all but the first `skip` of them to the end of the
 * outbox, as far as there is memory. */
struct forkq__copied {
  uint64_t messages;
  uint64_t bytes;
};
uint64_t forkq__outbox_count(const struct forkq__buffer *list);
struct forkq__copied forkq__outbox_copy(struct forkq__outbox *outbox,
                                        const struct forkq__buffer *list, uint64_t skip);

/* The first packets of the deque, up to `last`, as a list that is the caller's. */
struct forkq__buffer *forkq__outbox_pop(struct forkq__outbox *outbox,
                                        struct forkq__buffer *last);

/* All packets in the deque, as a list that is the caller's. */
struct forkq__buffer *forkq__outbox_take(struct forkq__outbox *outbox);

/* A list of packets to use again. What is too much is freed. keep: it is returned instead, for
 * forkq__outbox_free, which may take a while for a large message. */
void forkq__outbox_recycle(struct forkq__outbox *outbox, struct forkq__buffer *list);
struct forkq__buffer *forkq__outbox_keep(struct forkq__outbox *outbox,
                                         struct forkq__buffer *list);
void forkq__outbox_free(struct forkq__buffer *list);

/* A message can be written into an outbox of its own, the draft, which has none at first: so that
 * nobody else has to wait meanwhile. lend gives the draft up to `count` spare packets; join takes
 * over its message, at the end, and gives back all spare packets but one. */
void forkq__outbox_lend(struct forkq__outbox *outbox, struct forkq__outbox *draft,
                        uint32_t count);
void forkq__outbox_join(struct forkq__outbox *outbox, struct forkq__outbox *draft);

#endif
