/* Ways into another PID namespace, and what a queue of this one is asked there. */
#ifndef FORKQ_TEST_NAMESPACE_HELPERS_H
#define FORKQ_TEST_NAMESPACE_HELPERS_H

#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <forkq/handover.h>

#define SKIPPED 77
#define PATIENCE_MS 10000
#define PATIENCE_S 60
#define HUGE (1u << 20) /* bytes: more than the pipe holds */

/* ---- ways into another namespace ----------------------------------------------------------- */

enum way {
  FORKED,       /* by fork, after unshare */
  ITS_CHILD,    /* that one's, who has called nothing of forkq's */
  CLONED,       /* by glibc's clone */
  CLONED_BARE,  /* by the system call */
  JOINED,       /* by fork, after setns */
  JOINED_CHILD, /* that one's child */
  WAYS
};

/* The first process of a namespace that others join. It dies with its parent. */
void make_space(void);

/* Runs it in another namespace: 0 if all was well there. */
int run_apart(int way, void (*run)(void *arg), void *arg);

/* Waits for a child, where this process may be one itself: its exit status, or 128 and the signal
 * that ended it. */
int wait_for(pid_t pid);

/* ---- calls --------------------------------------------------------------------------------- */

extern const msgpack_object nil;

#define CALLS 13
extern const struct call {
  const char *name;
  int (*make)(void);
} calls[CALLS];

/* In another namespace: all of them are refused. */
void call_all(void *arg);

/* The same, and what can be told without a lock is told: how many items there are. */
void tell_first(void *arg);

/* ---- what must stay as it is --------------------------------------------------------------- */

/* All that a lock guards, and the locks. */
struct record;
extern struct record *before;
void write_down(struct record *record);
bool is_as_it_was(void);

/* In a child: a process that went that way makes the call first, and is refused. */
void one_refused(int way, const struct call *call);

/* In a child. Each call comes first to some. */
void refused_by_every_way(int64_t items);

/* ---- handing over -------------------------------------------------------------------------- */

/* In a child, which gives up its own handle: what attach says to it. */
void attach_refused(void *arg);
void attach_well(void *arg);

/* ---- the test ------------------------------------------------------------------------------ */

/* Whether this process may do all that; says so if it may not, and is to exit with SKIPPED. */
bool has_the_right(void);

/* A test case with a queue of one namespace, and a space to join. */
TCase *add_case(Suite *suite);

/* An item that stays in the queue. */
void put_one_that_arrives(void);

#endif
