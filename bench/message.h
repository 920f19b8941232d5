/* What every message carries, so that whoever receives it can tell that it is whole, that it
 * is the next of its producer, and, added up, that none is missing.
 *
 * A message of bytes begins with a head; longer ones have a mark on every page and at the
 * end. The bytes in between are neither written nor read for each message: that would be
 * the same work for every peer, and would hide the difference between them. Only where
 * message_touched is set, all are: what is in the cache by then is another difference. */
#ifndef FORKQ_BENCH_MESSAGE_H
#define FORKQ_BENCH_MESSAGE_H

#include <err.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* In place of the producer: a producer has ended. Each sends one for every consumer. */
#define MESSAGE_LAST UINT32_MAX

#define MESSAGE_PAGE 4096

/* Set before the processes of a run are there. */
extern int message_touched;

struct message_head {
  uint32_t producer, check;
  uint64_t number; /* 1, 2, 3, ... of each producer */
};

static inline uint64_t message_mark(uint32_t producer, uint64_t number, size_t offset) {
  return (number + offset + 1) * 0x9e3779b97f4a7c15u ^ producer;
}

static inline void message_write_all(unsigned char *payload, size_t size, uint64_t mark) {
  for (size_t at = 0; at + sizeof mark <= size; at += sizeof mark)
    memcpy(payload + at, &mark, sizeof mark);
}

static inline void message_read_all(const unsigned char *payload, size_t size) {
  uint64_t sum = 0, word;
  for (size_t at = 0; at + sizeof word <= size; at += sizeof word) {
    memcpy(&word, payload + at, sizeof word);
    sum += word;
  }
  __asm__ volatile("" : : "r"(sum));
}

static inline void message_write(unsigned char *payload, size_t size, uint32_t producer,
                                 uint64_t number) {
  if (message_touched)
    message_write_all(payload, size, number);
  uint64_t mark = message_mark(producer, number, 0);
  struct message_head head = { producer, (uint32_t)(mark >> 32), number };
  memcpy(payload, &head, sizeof head);
  for (size_t at = MESSAGE_PAGE; at + sizeof mark < size; at += MESSAGE_PAGE) {
    mark = message_mark(producer, number, at);
    memcpy(payload + at, &mark, sizeof mark);
  }
  if (size >= sizeof head + sizeof mark) {
    mark = message_mark(producer, number, size);
    memcpy(payload + size - sizeof mark, &mark, sizeof mark);
  }
}

static inline void message_expect(const unsigned char *at, uint64_t expected) {
  uint64_t mark;
  memcpy(&mark, at, sizeof mark);
  if (mark != expected)
    errx(EXIT_FAILURE, "a message is torn or mixed with another");
}

static inline struct message_head message_read(const unsigned char *payload, size_t size,
                                               size_t expected_size) {
  struct message_head head;
  if (message_touched)
    message_read_all(payload, size);
  if (size != expected_size)
    errx(EXIT_FAILURE, "a message of %zu bytes instead of %zu", size, expected_size);
  memcpy(&head, payload, sizeof head);
  if (head.check != (uint32_t)(message_mark(head.producer, head.number, 0) >> 32))
    errx(EXIT_FAILURE, "a message has a damaged head");
  for (size_t at = MESSAGE_PAGE; at + sizeof(uint64_t) < size; at += MESSAGE_PAGE)
    message_expect(payload + at, message_mark(head.producer, head.number, at));
  if (size >= sizeof head + sizeof(uint64_t))
    message_expect(payload + size - sizeof(uint64_t),
                   message_mark(head.producer, head.number, size));
  return head;
}

#endif
