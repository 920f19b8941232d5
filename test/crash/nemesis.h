/* The nemesis: kills, stops and continues workers, and starts others in their place. Runs in
 * the parent of the workers. */
#ifndef FORKQ_CRASH_NEMESIS_H
#define FORKQ_CRASH_NEMESIS_H

#include "book.h"

struct nemesis {
  struct book *book;
  uint64_t random;
};

void nemesis_init(struct nemesis *nemesis, struct book *book);

/* Starts the workers of the plan. */
void nemesis_populate(struct nemesis *nemesis);

/* Does one thing to somebody. */
void nemesis_strike(struct nemesis *nemesis);

/* Finds out who has ended, and in phase RUN starts others of their kinds in their place. */
void nemesis_tend(struct nemesis *nemesis);

/* Nobody dies any more: who was to, has. */
void nemesis_rest(struct nemesis *nemesis);

/* How many workers of a kind run. */
uint32_t nemesis_running(const struct book *book, enum kind kind);

/* The zombies that were left, and the children that workers have left behind, which end soon. */
void nemesis_bury(struct book *book);

/* Whether a worker is just exiting that has a thread in a get. */
bool nemesis_exits(const struct book *book);

#endif
