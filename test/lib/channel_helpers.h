/* A channel without a queue around it, which the tests of its rooms begin with: what a feeder, a
 * getter and a reaper do with it. */
#ifndef FORKQ_TEST_CHANNEL_HELPERS_H
#define FORKQ_TEST_CHANNEL_HELPERS_H

#include "base/os.h"
#include "codec/serializer.h"
#include "feeder/outbox.h"
#include "pipe/channel.h"
#include "pipe/reap.h"
#include "shared/segment.h"
#include "support.h"

#define LARGE 15000 /* bytes: four packets */
#define STRANGER 9  /* a cell that nobody has */

/* Made anew for each test of a case. */
extern struct forkq__channel channel;
extern struct forkq__channel_shared *shared;
extern struct forkq__ledger *ledger;
extern forkq_item_t item; /* what is received */
extern _Atomic int *flag; /* four of them, shared with children */
TCase *channel_case(Suite *suite, const char *name);
void make_channel_anew(void);

/* A cell for the process, which is the channel's from now on. */
uint32_t open_cell(void);

/* ---- sending: a message's bytes are made from its seed ----------------------------- */

struct forkq__buffer *packets_of(uint64_t seed, uint32_t size);
void free_packets(struct forkq__buffer *list);

/* As a feeder does, with the write lock. */
void write_packet(struct forkq__packet *packet);

/* Writes one packet if it has room, and takes the write lock for that. */
int try_write(struct forkq__packet *packet);

/* All of a message; its packets `from` to `to` - 1, or to its end; three small ones of 10 bytes
 * in one packet, with the seeds from `seed` on. */
void send_message(uint64_t seed, uint32_t size);
void send_part(uint64_t seed, uint32_t size, int from, int to);
void send_three(uint64_t seed);

/* Whatever it is, as a stranger would. */
void write_raw(const void *data, size_t size);

/* ---- receiving --------------------------------------------------------------------- */

int receive(void); /* without waiting */
int receive_within(int ms);

/* Whether the item is that message; that it is there without waiting; that nothing is, and the
 * books say so. */
bool holds(uint64_t seed, uint32_t size);
void assert_receives(uint64_t seed, uint32_t size);
void assert_empty(void);

/* A child that receives that message, and ends with 0; that sleeps already. */
pid_t receiver(uint64_t seed, uint32_t size);
pid_t sleeping_receiver(uint64_t seed, uint32_t size);

/* ---- recovery ---------------------------------------------------------------------- */

void reap(void);

/* Bytes of packets that are known to be written. */
uint64_t wire_sent(void);

/* For a child that takes the read lock only to die with it. */
void no_repair(void *arg);

#endif
