/* What may be left behind: descriptors, processes, entries of /dev/shm. */
#ifndef FORKQ_CRASH_LEAKS_H
#define FORKQ_CRASH_LEAKS_H

#include <sys/types.h>

struct leaks {
  int fds;
  int shm;
};

/* What this process and the machine have now. */
struct leaks leaks_now(void);

/* Whether a process of the group is left; those that are are killed, and reaped. */
int leaks_end_group(pid_t group);

#endif
