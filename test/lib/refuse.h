/* System calls that the kernel refuses to a process, as it does in containers and sandboxes: by a
 * filter (seccomp(2)), which its children and the programs that it starts have, too. */
#ifndef FORKQ_TEST_REFUSE_H
#define FORKQ_TEST_REFUSE_H

#include <stdbool.h>
#include <stddef.h>

struct refusal {
  long call;    /* its number; below 0: none */
  int error;    /* the errno that it says */
  int argument; /* 0: whatever it is called for; else the how manieth of the arguments ... */
  unsigned is; /* ... has to be this, to be refused */
};

/* Whether filters work here. */
bool can_refuse(void);

/* In a child: from now on. */
void refuse(const struct refusal *refusals, size_t count);

#endif
