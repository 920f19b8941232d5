/* Kills a process at every step of what it does.
 *
 * A victim is a child that is traced from its birth. Between its two marks it is run one
 * instruction at a time, one thread at a time, so that nothing else of it moves; and it is
 * killed at its n-th point. The points are all that its death can leave different for others:
 *
 *   - an instruction changed the shared memory, or the list of robust locks that the kernel
 *     will look through at its death;
 *   - a system call is about to begin; it sleeps in one; it has come back from one;
 *   - the operation has returned (other threads may go on).
 *
 * Between two points only memory of its own changes, which dies with it. For x86-64.
 *
 * A step costs some 20 us, and there are hundreds from point to point. So only the first victim
 * that comes to a point is stepped to it. It leaves a description of its way (steps_course.h),
 * by which those after it go at full speed, and against which they are held at each point: the
 * same instruction, the same words changed, no system call between. */
#ifndef FORKQ_TEST_STEPS_H
#define FORKQ_TEST_STEPS_H

#include <stdbool.h>
#include <stddef.h>

struct steps_course;

/* In the victim, twice: where its steps begin, and where they end. */
#define steps_mark() __asm__ volatile("int3" ::: "memory")

struct steps {
  void (*victim)(void *arg);
  /* Called once, when every thread of the victim sleeps before it is at its end: does what
   * it waits for. May be NULL, when it goes on by itself. */
  void (*wake)(void *arg);
  void *arg;
  /* The victim's memory that others see, in this process. */
  const void *shared;
  size_t shared_size;
  const void *more; /* of it, too, elsewhere; more_size may be 0 */
  size_t more_size;
  /* Which of its threads goes on when several can: the one that was there first, or the
   * newest. */
  bool newest_first;
  /* What is known of the way of such victims, all zero at first; grows from victim to victim.
   * NULL: each takes all its way in single steps. */
  struct steps_course *course;
};

enum steps_end {
  STEPS_KILLED,
  STEPS_AT_END,
  STEPS_STRAYED,
};

/* Runs a victim up to its point number `point`, from 0, which is its first mark, kills it, and
 * reaps it. AT_END if it came to its end before (it is killed there): the caller at its second
 * mark, or exited, and every other thread asleep or gone. STRAYED if it left the known course,
 * and died there; of which the rest is forgotten, so that the next victim steps. */
enum steps_end steps_kill(const struct steps *steps, long point);

/* Of the last victim: how many points it had, and where it died, for a message. */
long steps_points(void);
const char *steps_where(void);

#endif
