/* Contracts: what must be true when a function is called. They are checked in the builds for the
 * tests (the option `contracts`). In other builds they cost nothing. */
#ifndef FORKQ_CONTRACT_H
#define FORKQ_CONTRACT_H

#include <stdbool.h>

#ifdef FORKQ__CONTRACTS
/* False in a program that damages shared memory on purpose: what must hold there is not checked. */
extern bool forkq__memory_trusted;

/* broken says which contract is broken, and aborts. CHECK is for what the processes must keep to,
 * CHECK_MEMORY for what must hold in shared memory. */
_Noreturn void forkq__contract_broken(const char *condition, const char *file, int line);

#  define FORKQ__CHECK(condition)                                                        \
    ((condition) ? (void)0 : forkq__contract_broken(#condition, __FILE__, __LINE__))
#  define FORKQ__CHECK_MEMORY(condition)                                                 \
    FORKQ__CHECK(!forkq__memory_trusted || (condition))
#else
#  define FORKQ__CHECK(condition) ((void)(0 && (condition)))
#  define FORKQ__CHECK_MEMORY(condition) FORKQ__CHECK(condition)
#endif

/* The calling thread has the mutex of its process; or it has the lock between processes. */
#define FORKQ__HELD(mutex) FORKQ__CHECK(forkq__mutex_is_mine(mutex))
#define FORKQ__HELD_LOCK(lock) FORKQ__CHECK(forkq__lock_is_mine(lock))

#endif
