/* Public structs that begin with their `size` and to whose end later versions add fields. A program
 * that was built with an earlier version gives a smaller struct. */
#ifndef FORKQ_VERSIONED_H
#define FORKQ_VERSIONED_H

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>

/* Whether a struct that had `oldest` bytes at first, and now has `newest`, can have this size. */
static inline bool forkq__is_version(size_t size, size_t oldest, size_t newest) {
  return size >= oldest && size <= newest && size % alignof(size_t) == 0;
}

#endif
