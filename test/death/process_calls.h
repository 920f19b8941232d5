/* What the tests of forkq_process_start have in common. */
#ifndef FORKQ_TEST_PROCESS_CALLS_H
#define FORKQ_TEST_PROCESS_CALLS_H

#include "support.h"

#include <forkq/process.h>

#define PATIENCE_MS 10000

/* Starts a process, or fails the test. `daemon` for those that a failing test must not leave behind. */
forkq_process_t *start(forkq_process_fn run, void *arg);
forkq_process_t *start_with(forkq_process_fn run, void *arg,
                            forkq_process_options_t options);

/* Waits for the end: the exit code. end also destroys the process. */
int exitcode_of(forkq_process_t *process);
int end(forkq_process_t *process);

/* Runs for processes: one returns the number in its argument, one sleeps until a signal ends it. */
int return_it(void *number);
int sleep_on(void *nothing);

/* Whether a process has ended and nobody has reaped it; whether there is no such child. */
bool is_zombie(pid_t pid);
bool is_reaped(pid_t pid);

/* Waits until a child is a zombie. */
void until_zombie(pid_t pid);

/* Waits for the end of a process that need not be a child. */
void until_gone(pid_t pid);

#endif
