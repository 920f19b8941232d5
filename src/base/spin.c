/* Spinning: how long, and whether at all. The counts are hints. Two threads that change them at the
 * same time spin once too often, or too rarely. */
#include "base/spin.h"

#include "base/os.h"

/* After n spins in vain, 2^n - 1 waits are without, and this many at most. */
#define SKIPS_MAX 255

/* Looks between two looks at the clock, which takes as long as some ten of them. */
#define LOOKS_PER_CLOCK 16

void forkq__spin_init(struct forkq__spin *spin, uint64_t us) {
  spin->ns = us > 0 && forkq__os_cpus() > 1 ? (int64_t)us * 1000 : 0;
  FORKQ__STORE(spin->skips, 0);
  FORKQ__STORE(spin->vain, 0);
}

/* Tells the CPU that this is a loop that waits. */
static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static bool look(bool (*over)(void *arg), void *arg) {
  for (int i = 0; i < LOOKS_PER_CLOCK; i++) {
    if (over(arg))
      return true;
    relax();
  }
  return false;
}

static void count(struct forkq__spin *spin, bool paid) {
  uint32_t vain = paid ? 0 : FORKQ__LOAD(spin->vain) + 1;
  uint32_t skips = vain < 8 ? (1u << vain) - 1 : SKIPS_MAX;
  FORKQ__STORE(spin->vain, vain);
  FORKQ__STORE(spin->skips, skips);
}

bool forkq__spin(struct forkq__spin *spin, bool (*over)(void *arg), void *arg,
                 int64_t deadline) {
  uint32_t skips = FORKQ__LOAD(spin->skips);
  if (spin->ns == 0)
    return false;
  if (skips > 0) {
    FORKQ__STORE(spin->skips, skips - 1);
    return false;
  }
  int64_t until = forkq__os_now() + spin->ns;
  bool paid;
  do
    paid = look(over, arg);
  while (!paid && forkq__os_now() < (until < deadline ? until : deadline));
  count(spin, paid);
  return paid;
}
