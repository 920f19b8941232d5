/* The course that victims of one operation take from point to point, as the first to come
 * there took it in single steps. Those that follow run to a landmark before the next point at
 * full speed, and step from there. */
#ifndef FORKQ_TEST_STEPS_COURSE_H
#define FORKQ_TEST_STEPS_COURSE_H

#include <stdint.h>

/* From one point to the next: by one thread, without a system call. */
struct steps_leg {
  int thread;
  uintptr_t begin, end; /* program counters */
  uintptr_t landmark; /* one that was met once on the way, as late as there is; 0: none */
  long rest;          /* steps from there, or from the beginning, to the end */
  uint64_t changes;   /* see steps_changes */
};

#define STEPS_LEGS_MAX 2048

struct steps_course {
  long known; /* so many legs, from the first mark on */
  struct steps_leg legs[STEPS_LEGS_MAX];
};

/* The way of the leg at hand, step by step. */
void steps_trail_begin(uintptr_t pc);
void steps_trail_add(uintptr_t pc);
void steps_trail_end(struct steps_leg *leg);

/* Which words of two memories differ, as a number; 0: none does. */
uint64_t steps_changes(const void *before, const void *now, uintptr_t size);

#endif
