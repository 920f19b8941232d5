/* One queue, a victim that is killed at every step of one operation, and survivors that then
 * check what they were promised (test/README.md). */
#ifndef FORKQ_TEST_STEPS_WORLD_H
#define FORKQ_TEST_STEPS_WORLD_H

#include "queue/queue_impl.h"
#include "steps.h"
#include "support.h"

#include <forkq.h>

/* Survivors that wait already when the victim dies. */
enum {
  GETTER = 1,
  PUTTER = 2, /* the queue is to be full */
  JOINER = 4,
};

/* How the queue ends when the victim is dead. */
enum ending { STAYS_OPEN, SHUT_DOWN, SHUT_DOWN_AT_ONCE };

struct operation {
  const char *name;
  int64_t maxsize;
  bool joinable;
  int lost_tasks; /* a forkq_lost_tasks_t. Then `takes` counts those that it does, or is told of */
  bool simple;
  bool newest_first;     /* the order of the victim's threads, see steps.h */
  void (*prepare)(void); /* in the test's process, before the victim is there */
  void (*begin)(void);   /* in the victim, before its steps */
  void (*act)(void);     /* in the victim, step by step */
  void (*wake)(void);    /* in the test's process, when the victim sleeps */
  void (*after)(void);   /* in the test's process, when the victim is dead */
  int waiting;           /* bystanders that wait meanwhile ... */
  bool on_loops;         /* ... each with a handle on a loop */
  bool gets_twice;    /* the getter among them, two items; see victim_put_and_let_sleep */
  enum ending ending; /* of what the victim does to the queue */
  int puts;           /* items of its that arrive, when it has come to its end */
  int takes;          /* items that it takes, at the most */
  int leaves;         /* of which it has given back so many at its end */
  int gets_own;       /* items of its own that it takes itself, besides `puts` */
  int withdrawn;      /* items whose packing fails */
  bool large;         /* with messages of which a part may stay behind */
  bool beside;        /* large messages go beside the pipe */
  bool unsteady;      /* others run meanwhile, so that its points move a little */
  long floor;         /* that many points it has, at the least */
};

/* The queue, in every process. */
extern forkq_queue_t *world_queue;

/* Items by number. A survivor's come from `world_put`, numbered 1, 2, ...; a victim's from
 * `victim_put`. Large ones fill several packets. Items are checked as they are got. */
void world_put(int count);
void world_put_many(int count);
void world_put_large(size_t size);
void world_put_large_and_die(
    size_t size);           /* another process, which has a cell of its own */
void world_lose(int count); /* the tasks that another process gets, which then dies */
void victim_put(int count);
void victim_put_and_let_sleep(void); /* until the getter has got it and sleeps again */
void victim_make_large(size_t size); /* which takes its time */
void victim_put_large(void);
void victim_put_bytes(void); /* what it has made */
void victim_reserve_and_commit(void);
void victim_put_many(
    int count); /* all of them; the other: as many as there is room for */
void victim_put_some_packed(int count);
int victim_number(void); /* of its next item */

/* For the victim, gets. */
void victim_get(int count);
void victim_get_into(void);
void victim_borrow(void);
void victim_borrow_many(int count);
void victim_end_borrow(void);
void victim_get_many(int count);
void victim_get_many_packed(int count);

/* In the test's process: gets one item and notes it. */
void world_get(void);

/* In the test's process: another getter waits from now on. */
void world_wait_in_get(void);

/* Another process that begins to put a large message, and is stopped in the middle of it,
 * when the pipe is full; goes on and ends. */
void world_stop_in_put(size_t size);
void world_go_on(void);

/* A death, then that of who recovers from it: for each point at which `first` is killed, or
 * some of them, another victim, that does `second`, is killed at each of its points. */
struct pair {
  const struct operation *first;
  const struct operation *second;
};

/* A failure, with where the victim died. */
#define world_must(condition)                                                            \
  do {                                                                                   \
    if (!(condition))                                                                    \
      world_failed(__FILE__, __LINE__, #condition);                                      \
  } while (0)
_Noreturn void world_failed(const char *file, int line, const char *condition);

/* ---- for steps_sweep.c ----------------------------------------------------------------- */

/* A world with its survivors; a life and death in it, perhaps several; and the end of it, when
 * the promises have been checked, in how many milliseconds. `look`: who finds the dead first,
 * one of LOOKS in turn. */
#define LOOKS 5
void world_begin(const struct operation *operation, long look);
enum steps_end world_kill(const struct operation *operation, long point,
                          struct steps_course *course);
int64_t world_check(const struct operation *operation);

/* In the last world: items of victims that arrived, and of survivors that did not. */
int world_arrived(void);
int world_missing(void);

/* ---- what a program runs --------------------------------------------------------------- */

/* What a program kills its victims in: at the points of each operation, then of the pairs.
 * Every `sample`-th point is taken, or as the environment has it:
 *
 *   FORKQ_STEPS        another such number; "all": all points, with every way to find the dead
 *   FORKQ_STEPS_SEED   where the sample begins, 0 otherwise
 *   FORKQ_STEPS_ONLY   a part of the names of what is to be run
 */
struct world_work {
  const char *name;
  const struct operation *operations;
  size_t operation_count;
  const struct pair *pairs;
  size_t pair_count;
  long sample;
};

/* What main returns. Of the arguments the first says what to do: nothing else, all in this
 * process; --list, say what there is; or a number of that list. */
int world_main(char **arguments, const struct world_work *work);

#endif
