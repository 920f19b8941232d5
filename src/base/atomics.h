/* How the library reads and writes a word that other threads or processes see. There are two ways:
 *
 * - FORKQ__LOAD and FORKQ__STORE (acquire and release): what was stored before a FORKQ__STORE is
 *   seen by who sees that store. A process that dies leaves its stores in their order.
 * - atomic_load, atomic_store and the other functions of <stdatomic.h> without an order in their
 *   name: in one total order for all (sequentially consistent). Every read-modify-write is of this
 *   kind. A plain load or store needs it where two sides each store one word, then look at the
 *   other's, and one of them must see the other.
 *
 * No word is used without one of these: `./dev lint` looks for other ways. One exception is a word of
 * the public loop_queue.h, which a C++ compiler reads, too. */
#ifndef FORKQ_ATOMICS_H
#define FORKQ_ATOMICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Processes share these words. So the compiler must not guard one with a lock, and none may lie in two
 * cache lines: on i386, GCC before 11.1 gave 64 bits in a struct an alignment of 4 bytes. */
struct forkq__word_in_struct {
  char before;
  _Atomic uint64_t word;
};
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
               "shared words need no lock");
_Static_assert(offsetof(struct forkq__word_in_struct, word) == 8,
               "64 bits that are shared are aligned to 8 bytes");

#define FORKQ__LOAD(field) atomic_load_explicit(&(field), memory_order_acquire)
#define FORKQ__STORE(field, value)                                                       \
  atomic_store_explicit(&(field), (value), memory_order_release)

#endif
