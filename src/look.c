#include "look.h"

#include "os.h"

#define NS_PER_MS INT64_C(1000000)

/* More than these that wait are a crowd. */
#define CROWD 4

static int limited(int64_t ms) {
  return ms < FORKQ__LOOK_CROWD_MS ? (int)ms : FORKQ__LOOK_CROWD_MS;
}

/* Those of a crowd, who may all have come at the same time, do not come again at the same time:
 * some earlier, some later than they should, by up to a half. */
static void set_next(struct forkq__look *look, int64_t now) {
  int64_t ns = look->ms * NS_PER_MS;
  if (look->ms > look->last_ms)
    ns = ns / 2 + now % ns;
  look->next = now + ns;
}

void forkq__look_begin(struct forkq__look *look, int first_ms, int last_ms,
                       uint32_t waiting) {
  look->last_ms = last_ms;
  look->ms = waiting > CROWD ? limited((int64_t)last_ms * waiting) : first_ms;
  set_next(look, forkq__os_now());
}

int64_t forkq__look_deadline(const struct forkq__look *look, int64_t deadline) {
  return look->next < deadline ? look->next : deadline;
}

static int smaller(int a, int b) {
  return a < b ? a : b;
}

/* Where others look often enough, it comes more rarely; where they do not, as often as one alone. */
bool forkq__look_due(struct forkq__look *look, _Atomic int64_t *looked) {
  int64_t now = forkq__os_now();
  if (now < look->next)
    return false;
  int64_t since = now - atomic_load(looked);
  int64_t often = smaller(look->ms, look->last_ms) * NS_PER_MS;
  bool due = since < 0 || since >= often / 2; /* below 0: the memory was damaged */
  if (due)
    atomic_store(looked, now);
  if (!due)
    look->ms = limited(2 * (int64_t)look->ms);
  else if (look->ms < look->last_ms || since > 4 * often)
    look->ms = smaller(2 * look->ms, look->last_ms);
  set_next(look, now);
  return due;
}
