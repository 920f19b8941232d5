/* Times that several files share, in milliseconds, and waiting longer from time to time. A time of
 * one file alone stands in that file. docs/limits.md lists them all. */
#ifndef FORKQ_TIMES_H
#define FORKQ_TIMES_H

#include <stdint.h>

#define FORKQ__NS_PER_MS INT64_C(1000000)

/* A moment: how long a caller waits for a lock that is held for microseconds, where it has a lock
 * itself, or may not wait. The holder is preempted, or stopped. */
#define FORKQ__MOMENT_MS 100

/* A call that waits looks this often for what dead processes held: after the first of these, then
 * at intervals that double up to the last. */
#define FORKQ__FIRST_LOOK_MS 5
#define FORKQ__LAST_LOOK_MS 100

/* A getter, or a thread in forkq_wait, looks this often once a shutdown is announced: the process
 * that announced it, or one that was to bring the last items, may have died. */
#define FORKQ__SHUTDOWN_LOOK_MS 20

/* A thread that waits where it cannot be cancelled looks this often whether it was. */
#define FORKQ__CANCEL_MS 100

/* The interval after `ms`: twice as long, from the first to the last. 0: there was none yet. */
static inline int forkq__back_off(int ms, int first_ms, int last_ms) {
  int next = 2 * ms;
  return next < first_ms ? first_ms : next > last_ms ? last_ms : next;
}

#endif
