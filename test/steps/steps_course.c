#include "steps_course.h"

#include <stdbool.h>
#include <string.h>

#define TRAIL_MAX (1 << 16)

static uintptr_t trail[TRAIL_MAX];
static long trail_length; /* may be more than is kept */
static uintptr_t last;

void steps_trail_begin(uintptr_t pc) {
  trail[0] = last = pc;
  trail_length = 1;
}

void steps_trail_add(uintptr_t pc) {
  if (trail_length < TRAIL_MAX)
    trail[trail_length] = pc;
  trail_length++;
  last = pc;
}

static bool is_met_once(long at) {
  for (long i = 0; i < trail_length; i++)
    if (i != at && trail[i] == trail[at])
      return false;
  return true;
}

/* The beginning is no landmark: it is met at once. */
void steps_trail_end(struct steps_leg *leg) {
  leg->begin = trail[0];
  leg->end = last;
  leg->landmark = 0;
  leg->rest = trail_length - 1;
  if (trail_length > TRAIL_MAX)
    return;
  for (long i = trail_length - 1; i > 0 && leg->landmark == 0; i--)
    if (is_met_once(i)) {
      leg->landmark = trail[i];
      leg->rest = trail_length - 1 - i;
    }
}

uint64_t steps_changes(const void *before, const void *now, uintptr_t size) {
  uint64_t changes = 0;
  if (memcmp(before, now, size) == 0)
    return 0;
  for (uintptr_t i = 0; i < size; i += 8)
    if (memcmp((const char *)before + i, (const char *)now + i,
               size - i < 8 ? size - i : 8) != 0)
      changes = changes * 0x9e3779b97f4a7c15u + i + 1;
  return changes | 1;
}
