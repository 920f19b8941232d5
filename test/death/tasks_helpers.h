/* A queue of tasks, a dispatcher that gets them, and its workers that do them. */
#ifndef FORKQ_TEST_TASKS_HELPERS_H
#define FORKQ_TEST_TASKS_HELPERS_H

#include "queue/queue_impl.h"
#include "queue_helpers.h"

#define TASKS 10

/* States of a cell, as ledger.c has them. */
enum { FREE, USED, DEAD, AT_TASKS };

/* How a process ends. */
enum end { EXITS, LEAVES, IS_KILLED, ENDS };

/* What the processes of a test say to each other. */
extern struct scene {
  enum end end;            /* of the dispatcher */
  _Atomic int started;     /* workers */
  _Atomic int go[TASKS];   /* each is to say task_done ... */
  _Atomic int done[TASKS]; /* ... and has */
  _Atomic int leave;       /* then they may end */
  _Atomic pid_t pids[TASKS];
  _Atomic int given_up;
  _Atomic int joined;
  _Atomic int ready;
  _Atomic uint32_t cell;
} * scene;

/* A fixture; queue_tear_down is its end. Workers whose parent has ended are this process's to wait
 * for. */
void set_up(void);

struct forkq__ledger *ledger(void);

int done(void);
int join(int timeout_ms);
void put_tasks(int count);

/* Joins, and wants to hear of that many abandoned tasks; of none: that all is done. */
void assert_joined(uint64_t expected);

_Noreturn void end_by(enum end end);
int status_of(enum end end);

/* ---- a dispatcher and its workers -------------------------------------------------------- */

/* In a worker, which outlives its parent. work is all that one does: its task, when it is told. */
void begin_worker(int number);
void work(int number);

/* In a dispatcher: forks a worker; or gets the tasks, forks for each who does it, and ends when they
 * run. */
void fork_one(int number, void (*worker)(int number));
void dispatch_to(void (*worker)(int number), int count);

/* Starts a dispatcher, and comes back when it has ended. */
void run_dispatcher(void (*run)(void *arg), enum end end);

/* Tells a worker to do its task; waits for the end of one, or of so many that may end now. */
void let_work(int number);
void see_off(int number);
void see_all_off(int count);

/* In a child: joins, and says when it has. */
void join_and_say(void *arg);

#endif
