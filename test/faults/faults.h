/* Faults: the k-th allocation or system call of the library fails, once or from then on.
 *
 * The test programs are linked with the library's objects and with --wrap for each function
 * below (test/faults/meson.build), so the library itself has no hook for this. Nothing is counted
 * and nothing fails but between faults_begin and faults_end, on whatever thread. */
#ifndef FORKQ_TEST_FAULTS_H
#define FORKQ_TEST_FAULTS_H

#include <stdbool.h>

/* Each wrapped function; fcntl and syscall by what they are called for. */
enum fault_call {
  FAULT_MALLOC, /* and realloc and calloc, the library's and msgpack-c's */
  FAULT_PIPE2,
  FAULT_EVENTFD,
  FAULT_EVENTFD_READ,
  FAULT_EVENTFD_WRITE,
  FAULT_OPEN,
  FAULT_MEMFD,
  FAULT_FTRUNCATE,
  FAULT_SEALS,
  FAULT_FD_FLAGS,
  FAULT_RECORD_LOCK,
  FAULT_MMAP,
  FAULT_FALLOCATE,
  FAULT_PREAD,
  FAULT_PWRITE,
  FAULT_FSTAT,
  FAULT_IOCTL,
  FAULT_READ,
  FAULT_WRITE,
  FAULT_WRITEV,
  FAULT_PWRITEV2,
  FAULT_POLL,
  FAULT_CLOSE,
  FAULT_FUTEX_WAIT,
  FAULT_FUTEX_WAITV,
  FAULT_SOCKETPAIR,
  FAULT_GETSOCKOPT,
  FAULT_SOCKET,
  FAULT_BIND,
  FAULT_LISTEN,
  FAULT_ACCEPT,
  FAULT_CONNECT,
  FAULT_FLOCK,
  FAULT_TIMERFD,
  FAULT_EPOLL_CTL,
  FAULT_SENDMSG,
  FAULT_RECVMSG,
  FAULT_FORK,
  FAULT_WAITID,
  FAULT_PIDFD_OPEN,
  FAULT_PIDFD_SIGNAL,
  FAULT_THREAD,
  FAULT_MUTEX_INIT, /* libuv's */
  FAULT_SEM_INIT,
  FAULT_LOCK_ATTR, /* pthread's */
  FAULT_LOCK_INIT,
  FAULT_LOCK,
  FAULT_ATFORK,
  FAULT_ATEXIT,
  FAULT_CALLS
};

/* As an error: not a failure; the call reads or writes a part of what it was asked to. */
#define FAULT_SHORT (-1)

/* Likewise, of read: it brings nothing, and leaves what is there. */
#define FAULT_NOTHING (-2)

struct fault {
  enum fault_call call;
  int error;  /* an errno, FAULT_SHORT or FAULT_NOTHING */
  long first; /* the first call that fails, from 1; 0: none */
  long count; /* how many fail in a row, or FAULT_LASTS */
};

#define FAULT_LASTS 1000000000L

void faults_begin(const struct fault *fault);

/* From now on in this process the kernel is one that does not know RWF_NOSIGNAL. */
void faults_older_kernel(void);

/* Whether the fault came about. */
bool faults_end(void);

/* Calls of a kind between the last begin and now, or its end. */
long faults_calls(enum fault_call call);

/* Blocks that the library, msgpack-c and the test have allocated and not freed. */
long faults_live_blocks(void);

const char *faults_name(enum fault_call call);

/* Writes "write fails with EIO from the 3rd" into `text`. */
void faults_describe(const struct fault *fault, char *text, int size);

#endif
