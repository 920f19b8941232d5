/* The child of forkq_process_start, from the fork to its end. */
#ifndef FORKQ_CHILD_H
#define FORKQ_CHILD_H

#include <forkq/process.h>

#include "base/os.h"

/* `tether` is the reading end of a pipe. Its writing end is the parent's alone. A byte in it says
 * that the child may run. The end of the pipe says that the parent has given up, or died. */
struct forkq__child {
  forkq_process_fn run;
  void *arg;
  const forkq_process_options_t *options;
  int tether;
  /* What the parent's thread had blocked. The child begins with all signals blocked. */
  unsigned char old_mask[FORKQ__SIGNAL_MASK_SIZE];
};

_Noreturn void forkq__child_main(const struct forkq__child *child);

#endif
