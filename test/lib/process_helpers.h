/* What the tests of processes that end, fork and die in unforeseen ways have in common. */
#ifndef FORKQ_TEST_PROCESS_HELPERS_H
#define FORKQ_TEST_PROCESS_HELPERS_H

#include "queue_helpers.h"

/* More than the pipe of a queue holds. */
#define LARGE (1u << 20)

/* Nothing is in the queue of the test, and it does what a queue does. */
void assert_empty_and_works(void);

/* What came out of it: the large one, and numbers below 128 from `first` on, in their order. */
struct harvest {
  int first;
  bool large;
  int numbers;
};

/* Gets what is there; and what comes until that child has ended. */
void gather(struct harvest *harvest);
void gather_until_its_end(struct harvest *harvest, pid_t pid);

/* In a child: a handler, which no system call is restarted after. */
void handle_signal(int signo, void (*handler)(int));
void exit_now(int signo);

/* In a child: its feeder has sent all that was put, and sleeps. */
void send_all(void);

#endif
