/* The child of forkq_process_start: it waits for its parent, sets up its signals, runs, and leaves.
 *
 * It leaves by exit(3), with a handler that ends the process: the fence. exit calls handlers in the
 * reverse order of their registration. So it calls those that the child has registered, then the
 * fence, and never those of the parent. */
#define _GNU_SOURCE
#include "process/child.h"

#include "base/lifecycle.h"
#include "base/log.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

/* The order is that of exit: first the handlers, of which forkq has one, then stdio. */
static void fence(int status, void *arg) {
  (void)arg;
  forkq__life_exit();
  forkq__os_stdio_finish();
  forkq__os_exit(status);
}

static void wait_for_parent(int gate) {
  char byte;
  if (forkq__os_read(gate, &byte, 1) != 1)
    forkq__os_exit(EXIT_FAILURE);
  forkq__os_close(gate);
}

/* A SIGTERM that comes now is blocked. It ends the child when nothing is blocked any more. */
static void end_with_parent(int tether) {
  if (forkq__os_hangup_own(tether) < 0)
    forkq__os_exit(EXIT_FAILURE);
}

static void set_up_signals(const struct forkq__child *child) {
  if (!child->options->keep_signals)
    forkq__os_signals_reset();
  if (child->options->ignore_sigint)
    forkq__os_signal_ignore(SIGINT);
  if (child->options->keep_signals)
    forkq__os_signals_restore(child->old_mask);
  else
    forkq__os_signals_unblock();
}

/* A C++ exception, a cancellation or pthread_exit unwinds the stack, and would go on with the
 * parent's frames. */
static void refuse_unwinding(void *arg) {
  (void)arg;
  forkq__log(FORKQ_LOG_ERROR, "",
             "an exception or pthread_exit has left the run of a process");
  abort();
}

/* The library is compiled with -fexceptions, so the handler runs for exceptions as well. */
static int run(const struct forkq__child *child) {
  int status;
  pthread_cleanup_push(refuse_unwinding, NULL);
  status = child->run(child->arg);
  pthread_cleanup_pop(0);
  return status;
}

void forkq__child_main(const struct forkq__child *child) {
  forkq__os_cancellation_disable(); /* one may be pending for the parent's thread */
  forkq__os_stdio_forget();
  wait_for_parent(child->gate);
  if (child->tether >= 0)
    end_with_parent(child->tether);
  set_up_signals(child);
  if (on_exit(fence, NULL) != 0)
    forkq__os_exit(EXIT_FAILURE);
  exit(run(child));
}
