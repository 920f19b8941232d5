/* The child of forkq_process_start, from the fork to its end. */
#ifndef FORKQ_CHILD_H
#define FORKQ_CHILD_H

#include <forkq/process.h>

#include "base/os.h"

/* The reading ends of two pipes, whose writing ends are the parent's alone. A byte in the gate says that the
 * child may run, and its end, that the parent has given up, or died. The end of the tether says to a daemon
 * that its parent has ended. Nothing is written into it: the kernel sends the signal for a byte after the
 * reader has woken, which may be after the daemon has asked for signals. */
struct forkq__child {
  forkq_process_fn run;
  void *arg;
  const forkq_process_options_t *options;
  int gate;
  int tether; /* -1: no daemon */
  /* What the parent's thread had blocked. The child begins with all signals blocked. */
  unsigned char old_mask[FORKQ__SIGNAL_MASK_SIZE];
};

_Noreturn void forkq__child_main(const struct forkq__child *child);

#endif
