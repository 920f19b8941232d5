/* What the files of os.h share: two macros that repeat interrupted calls and disable cancellation,
 * and descriptors above the standard streams. */
#ifndef FORKQ_OS_IMPL_H
#define FORKQ_OS_IMPL_H

#include "base/os.h"

#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

/* Repeats a system call as long as a signal interrupts it. Its value is the result, or -errno. */
#define RETRY(call)                                                                      \
  ({                                                                                     \
    __typeof__(call) result_;                                                            \
    do {                                                                                 \
      result_ = (call);                                                                  \
    } while (result_ == -1 && errno == EINTR);                                           \
    result_ == -1 ? -errno : result_;                                                    \
  })

/* RETRY for a call that is a cancellation point (pthreads(7)), with cancellation disabled: a
 * thread that ended in the call would leave its locks locked. */
#define UNCANCELLED(call)                                                                \
  ({                                                                                     \
    int state_;                                                                          \
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state_);                             \
    __typeof__(call) done_ = RETRY(call);                                                \
    pthread_setcancelstate(state_, NULL);                                                \
    done_;                                                                               \
  })

/* Moves a new descriptor above the standard streams. Otherwise the output of a program that has
 * closed these streams would go into the queue. Returns it, or a negative errno: then it is closed.
 * both_above_stdio returns 0 or a negative errno. */
int forkq__os_above_stdio(int fd);
int forkq__os_both_above_stdio(int fds[2]);

static inline int64_t forkq__os_page_size(void) {
  return sysconf(_SC_PAGESIZE);
}

/* Anonymous files of one kind share a device, on which their inodes are unique. */
static inline uint64_t forkq__os_identity_of(const struct stat *status) {
  return (uint64_t)status->st_dev << FORKQ__INODE_BITS ^ (uint64_t)status->st_ino;
}

/* Whether the system call is not available. A filter of system calls (seccomp(2)) and an
 * emulator report this with different errors. */
static inline bool forkq__os_is_refusal(ssize_t r) {
  return r == -EOPNOTSUPP || r == -EINVAL || r == -ENOSYS || r == -EPERM || r == -EACCES;
}

#endif
