/* The loops of producers and consumers. Inlined into each peer with its functions, so that no
 * peer pays for a call through a pointer, and all do the same besides. */
#ifndef FORKQ_BENCH_LOOP_H
#define FORKQ_BENCH_LOOP_H

#include "peer.h"

#define LOOP_INLINE static inline __attribute__((always_inline))

typedef void loop_send_fn(void *channel, uint32_t producer, uint64_t number);
typedef struct message_head loop_receive_fn(void *channel);

LOOP_INLINE void loop_produce(void *channel, struct party *party, loop_send_fn *send) {
  for (uint64_t number = 1; number <= party->load->messages; number++)
    send(channel, party->index, number);
  for (unsigned i = 0; i < party->load->consumers; i++)
    send(channel, MESSAGE_LAST, 0);
}

/* One message that was received. */
LOOP_INLINE void loop_count(struct party *party, const struct message_head *head) {
  if (head->producer >= party->load->producers ||
      head->number <= party->seen[head->producer])
    errx(EXIT_FAILURE, "producer %u: message %ju is out of order", head->producer,
         (uintmax_t)head->number);
  party->seen[head->producer] = head->number;
  party->tally->count++;
  party->tally->sum += head->number;
}

/* Every consumer leaves with as many MESSAGE_LAST as there are producers: by then all
 * messages have been taken by somebody. The time is that of the first one behind a message,
 * since to look at the clock with each message would cost as much as some peers do. */
LOOP_INLINE void loop_consume(void *channel, struct party *party,
                              loop_receive_fn *receive) {
  uint64_t timed = 0;
  for (unsigned left = party->load->producers; left > 0;) {
    struct message_head head = receive(channel);
    if (head.producer != MESSAGE_LAST) {
      loop_count(party, &head);
      continue;
    }
    left--;
    if (party->tally->count > timed) {
      timed = party->tally->count;
      party->tally->end = now();
    }
  }
}

/* Defines the peer's two loops. */
#define LOOP_DEFINE(send, receive)                                                       \
  static void produce(void *channel, struct party *party) {                              \
    loop_produce(channel, party, send);                                                  \
  }                                                                                      \
  static void consume(void *channel, struct party *party) {                              \
    loop_consume(channel, party, receive);                                               \
  }

#endif
