/* A thread that is cancelled in a call, and what the tests of it have in common. */
#ifndef FORKQ_TEST_CANCEL_HELPERS_H
#define FORKQ_TEST_CANCEL_HELPERS_H

#include "base/os.h"
#include "queue/queue_impl.h"
#include "queue_helpers.h"

/* A fork is slow under a sanitizer, and a thread is. */
#if defined(__SANITIZE_ADDRESS__)
#  define ROUNDS 10
#else
#  define ROUNDS 20
#endif
#define LARGE (1u << 20)
#define CROWD 40

/* The queue of the test, and what of it is shared. */
void create(int64_t maxsize);
void create_joinable(void);
struct forkq__channel_shared *channel(void);
struct forkq__slots_shared *slots(void);

/* ---- a thread that is cancelled ---------------------------------------------------------- */

struct victim {
  pthread_t thread;
  _Atomic int tid;
  int (*call)(struct victim *victim);
  int result;
  _Atomic int returned;
  forkq_item_t items[2];
};

void start(struct victim *victim, int (*call)(struct victim *victim));
void until_asleep(struct victim *victim);
void cancel(struct victim *victim);

/* Whether it was cancelled before its call returned. */
bool join(struct victim *victim);

/* Cancels it, and it ends in its call. */
void assert_ends(struct victim *victim);

/* A time that is another each time, and no matter which. */
void pass_some_time(uint64_t *seed, uint32_t most);

/* A call that puts one item. */
int put_one(struct victim *victim);

/* A bin of `size` bytes, and a packing function that writes one of 100. */
int pack_bin(msgpack_packer *packer, size_t size);
int pack_small(msgpack_packer *packer, void *arg);

/* ---- a thread that does not want to be cancelled ----------------------------------------- */

/* It makes the call with cancellation off; and it ends after the call, when that has succeeded. */
void start_protected(struct victim *victim, int (*call)(struct victim *victim));
void assert_ends_afterwards(struct victim *victim);

/* ---- the test ---------------------------------------------------------------------------- */

/* How often the library has logged. Each time the thread looks whether it was cancelled. */
extern _Atomic int logged;

/* A test case with a queue to come. */
TCase *add_case(Suite *suite, const char *name);

/* Runs a suite with a heap that counts: what main returns. */
int cancel_main(Suite *suite);

#endif
