/* Looking: the seats, and when the next look is due. */
#include "base/look.h"

#include "base/os.h"
#include "base/times.h"

struct forkq__look forkq__look_begin(struct forkq__look_shared *shared, int seats,
                                     int first_ms, int last_ms) {
  return (struct forkq__look){
    .shared = shared, .seats = seats, .seat = -1, .ms = first_ms, .last_ms = last_ms
  };
}

/* A time that is not in the past can only come from damaged memory. */
static bool is_within(int64_t time, int64_t now, int64_t ns) {
  return time > 0 && time <= now && now - time < ns;
}

/* An owner of a seat stores the time at least every `last_ms`. After twice that time the seat
 * is free. */
static bool is_taken(const struct forkq__look *look, int64_t sign, int64_t now) {
  return is_within(sign, now, 2 * look->last_ms * FORKQ__NS_PER_MS);
}

static bool take_seat(struct forkq__look *look, int64_t now) {
  for (int i = 0; i < look->seats; i++) {
    int64_t sign = atomic_load(&look->shared->seats[i]);
    if (!is_taken(look, sign, now) &&
        atomic_compare_exchange_strong(&look->shared->seats[i], &sign, now)) {
      look->seat = i;
      return true;
    }
  }
  return false;
}

/* The waiters of a crowd may all have come at one time. To look at different times, each comes
 * earlier or later than it should, by up to a half. */
static int64_t rarely(const struct forkq__look *look, int64_t now) {
  int64_t ns = look->last_ms * FORKQ__LOOK_CROWD * FORKQ__NS_PER_MS;
  return ns / 2 + now % ns;
}

int64_t forkq__look_until(struct forkq__look *look, int64_t deadline) {
  int64_t now = forkq__os_now();
  if (look->seat >= 0)
    atomic_store(&look->shared->seats[look->seat], now);
  bool often = look->seat >= 0 || take_seat(look, now);
  look->next = now + (often ? look->ms * FORKQ__NS_PER_MS : rarely(look, now));
  return look->next < deadline ? look->next : deadline;
}

bool forkq__look_due(struct forkq__look *look) {
  int64_t now = forkq__os_now();
  if (now < look->next)
    return false;
  bool due = !is_within(atomic_load(&look->shared->looked), now,
                        look->ms * FORKQ__NS_PER_MS / 2);
  if (due)
    atomic_store(&look->shared->looked, now);
  look->ms = forkq__back_off(look->ms, look->ms, look->last_ms);
  return due;
}

bool forkq__look_end(struct forkq__look *look) {
  if (look->seat < 0)
    return false;
  int64_t now = forkq__os_now();
  bool crowd = true;
  for (int i = 0; i < look->seats && crowd; i++)
    crowd = is_taken(look, atomic_load(&look->shared->seats[i]), now);
  atomic_store(&look->shared->seats[look->seat], 0);
  look->seat = -1;
  return crowd;
}
