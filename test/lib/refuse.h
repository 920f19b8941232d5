/* System calls that the kernel refuses to a process, as it does in containers and sandboxes: by a
 * filter (seccomp(2)), which its children and the programs that it starts have, too. */
#ifndef FORKQ_TEST_REFUSE_H
#define FORKQ_TEST_REFUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>

struct refusal {
  long call;    /* its number; below 0: none */
  int error;    /* the errno that it says */
  int argument; /* 0: whatever it is called for; else the how manieth of the arguments ... */
  unsigned is; /* ... has to be this, to be refused */
};

/* The calls by which the C library maps memory and reserves it, and where the latter has its size. Where
 * a long has 32 bits, a size in a file takes two arguments. */
#ifdef SYS_mmap2
#  define REFUSE_MMAP SYS_mmap2
#  define REFUSE_FALLOCATE_SIZE 5
#else
#  define REFUSE_MMAP SYS_mmap
#  define REFUSE_FALLOCATE_SIZE 4
#endif

/* Whether filters work here. */
bool can_refuse(void);

/* In a child: from now on. */
void refuse(const struct refusal *refusals, size_t count);

#endif
