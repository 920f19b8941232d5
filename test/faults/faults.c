#define _GNU_SOURCE
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

static _Atomic bool active, met, older_kernel;
static struct fault current;
static _Atomic long calls[FAULT_CALLS];
static _Atomic long live_blocks;

void faults_begin(const struct fault *fault) {
  for (int i = 0; i < FAULT_CALLS; i++)
    atomic_store(&calls[i], 0);
  current = *fault;
  atomic_store(&met, false);
  atomic_store(&active, true);
}

void faults_older_kernel(void) {
  atomic_store(&older_kernel, true);
}

bool faults_end(void) {
  atomic_store(&active, false);
  return atomic_load(&met);
}

long faults_calls(enum fault_call call) {
  return atomic_load(&calls[call]);
}

long faults_live_blocks(void) {
  return atomic_load(&live_blocks);
}

const char *faults_name(enum fault_call call) {
  static const char *const names[FAULT_CALLS] = {
    [FAULT_MALLOC] = "malloc",
    [FAULT_PIPE2] = "pipe2",
    [FAULT_EVENTFD] = "eventfd",
    [FAULT_EVENTFD_READ] = "eventfd_read",
    [FAULT_EVENTFD_WRITE] = "eventfd_write",
    [FAULT_OPEN] = "open",
    [FAULT_MEMFD] = "memfd_create",
    [FAULT_FTRUNCATE] = "ftruncate",
    [FAULT_SEALS] = "fcntl (seals)",
    [FAULT_FD_FLAGS] = "fcntl (flags)",
    [FAULT_RECORD_LOCK] = "fcntl (record lock)",
    [FAULT_MMAP] = "mmap",
    [FAULT_FALLOCATE] = "fallocate",
    [FAULT_PREAD] = "pread",
    [FAULT_PWRITE] = "pwrite",
    [FAULT_FSTAT] = "fstat",
    [FAULT_IOCTL] = "ioctl",
    [FAULT_READ] = "read",
    [FAULT_WRITE] = "write",
    [FAULT_WRITEV] = "writev",
    [FAULT_PWRITEV2] = "pwritev2",
    [FAULT_POLL] = "ppoll",
    [FAULT_CLOSE] = "close",
    [FAULT_FUTEX_WAIT] = "futex wait",
    [FAULT_FUTEX_WAITV] = "futex_waitv",
    [FAULT_SOCKETPAIR] = "socketpair",
    [FAULT_GETSOCKOPT] = "getsockopt",
    [FAULT_SOCKET] = "socket",
    [FAULT_BIND] = "bind",
    [FAULT_LISTEN] = "listen",
    [FAULT_ACCEPT] = "accept4",
    [FAULT_CONNECT] = "connect",
    [FAULT_FLOCK] = "flock",
    [FAULT_TIMERFD] = "timerfd_create",
    [FAULT_EPOLL_CTL] = "epoll_ctl",
    [FAULT_SENDMSG] = "sendmsg",
    [FAULT_RECVMSG] = "recvmsg",
    [FAULT_FORK] = "fork",
    [FAULT_WAITID] = "waitid",
    [FAULT_PIDFD_OPEN] = "pidfd_open",
    [FAULT_PIDFD_SIGNAL] = "pidfd_send_signal",
    [FAULT_THREAD] = "uv_thread_create_ex",
    [FAULT_MUTEX_INIT] = "uv_mutex_init",
    [FAULT_SEM_INIT] = "uv_sem_init",
    [FAULT_LOCK_ATTR] = "pthread_mutexattr_init",
    [FAULT_LOCK_INIT] = "pthread_mutex_init",
    [FAULT_LOCK] = "pthread_mutex_trylock",
    [FAULT_ATFORK] = "pthread_atfork",
    [FAULT_ATEXIT] = "atexit",
  };
  return names[call];
}

void faults_describe(const struct fault *fault, char *text, int size) {
  const char *how = fault->count == FAULT_LASTS ? "from then on" : "in a row";
  long count = fault->count == FAULT_LASTS ? 1 : fault->count;
  snprintf(text, (size_t)size, "%s %s at call %ld, %ld %s", faults_name(fault->call),
           fault->error == FAULT_SHORT ? "is short" : strerrorname_np(fault->error),
           fault->first, count, how);
}

/* Counts the call; the error that it shall have, FAULT_SHORT, FAULT_NOTHING, or 0. */
static int error_of(enum fault_call call) {
  if (!atomic_load(&active))
    return 0;
  long number = atomic_fetch_add(&calls[call], 1) + 1;
  if (call != current.call || current.first == 0 || number < current.first ||
      number - current.first >= current.count)
    return 0;
  atomic_store(&met, true);
  return current.error;
}

/* For calls that fail with -1 and errno. */
static bool fails(enum fault_call call) {
  int error = error_of(call);
  if (error > 0)
    errno = error;
  return error > 0;
}

/* The same for reads and writes, whose size may be cut. */
static bool fails_or_cuts(enum fault_call call, size_t *size) {
  int error = error_of(call);
  if (error == FAULT_SHORT && *size > 1)
    *size /= 2;
  if (error > 0)
    errno = error;
  return error > 0;
}

/* ---- memory ------------------------------------------------------------------------ */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __wrap_free(void *memory);

static void *counted(void *memory) {
  if (memory != NULL)
    atomic_fetch_add(&live_blocks, 1);
  return memory;
}

void *__wrap_malloc(size_t size) {
  return fails(FAULT_MALLOC) ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size) {
  return fails(FAULT_MALLOC) ? NULL : counted(__real_calloc(count, size));
}

void *__wrap_realloc(void *memory, size_t size) {
  if (fails(FAULT_MALLOC))
    return NULL;
  void *moved = __real_realloc(memory, size);
  return memory == NULL ? counted(moved) : moved;
}

void __wrap_free(void *memory) {
  if (memory != NULL)
    atomic_fetch_sub(&live_blocks, 1);
  __real_free(memory);
}

/* ---- calls that make something ----------------------------------------------------- */

/* A function and its wrapper, which fails or hands over. */
#define WRAP(call, type, name, parameters, arguments)                                    \
  type __real_##name parameters;                                                         \
  type __wrap_##name parameters;                                                         \
  type __wrap_##name parameters {                                                        \
    return fails(call) ? -1 : __real_##name arguments;                                   \
  }

WRAP(FAULT_PIPE2, int, pipe2, (int fds[2], int flags), (fds, flags))
WRAP(FAULT_EVENTFD, int, eventfd, (unsigned count, int flags), (count, flags))
WRAP(FAULT_EVENTFD_READ, int, eventfd_read, (int fd, eventfd_t *value), (fd, value))
WRAP(FAULT_EVENTFD_WRITE, int, eventfd_write, (int fd, eventfd_t value), (fd, value))
WRAP(FAULT_MEMFD, int, memfd_create, (const char *name, unsigned flags), (name, flags))
WRAP(FAULT_FTRUNCATE, int, ftruncate64, (int fd, off64_t size), (fd, size))
WRAP(FAULT_FALLOCATE, int, fallocate64, (int fd, int mode, off64_t at, off64_t size),
     (fd, mode, at, size))
WRAP(FAULT_FSTAT, int, fstat64, (int fd, struct stat64 *status), (fd, status))
WRAP(FAULT_SOCKETPAIR, int, socketpair, (int domain, int type, int protocol, int fds[2]),
     (domain, type, protocol, fds))
WRAP(FAULT_GETSOCKOPT, int, getsockopt,
     (int fd, int level, int name, void *value, socklen_t *size),
     (fd, level, name, value, size))
WRAP(FAULT_SOCKET, int, socket, (int domain, int type, int protocol),
     (domain, type, protocol))
WRAP(FAULT_BIND, int, bind, (int fd, const struct sockaddr *address, socklen_t size),
     (fd, address, size))
WRAP(FAULT_LISTEN, int, listen, (int fd, int backlog), (fd, backlog))
WRAP(FAULT_ACCEPT, int, accept4,
     (int fd, struct sockaddr *address, socklen_t *size, int flags),
     (fd, address, size, flags))
WRAP(FAULT_CONNECT, int, connect,
     (int fd, const struct sockaddr *address, socklen_t size), (fd, address, size))
WRAP(FAULT_FLOCK, int, flock, (int fd, int operation), (fd, operation))
WRAP(FAULT_TIMERFD, int, timerfd_create, (int clock, int flags), (clock, flags))
WRAP(FAULT_EPOLL_CTL, int, epoll_ctl,
     (int set, int operation, int fd, struct epoll_event *event),
     (set, operation, fd, event))
WRAP(FAULT_POLL, int, ppoll,
     (struct pollfd * fds, nfds_t count, const struct timespec *timeout,
      const sigset_t *mask),
     (fds, count, timeout, mask))
WRAP(FAULT_RECVMSG, ssize_t, recvmsg, (int fd, struct msghdr *message, int flags),
     (fd, message, flags))
WRAP(FAULT_FORK, pid_t, fork, (void), ())
WRAP(FAULT_WAITID, int, waitid, (idtype_t type, id_t id, siginfo_t *info, int options),
     (type, id, info, options))

void *__real_mmap64(void *at, size_t size, int access, int flags, int fd, off64_t offset);
void *__wrap_mmap64(void *at, size_t size, int access, int flags, int fd, off64_t offset);
void *__wrap_mmap64(void *at, size_t size, int access, int flags, int fd,
                    off64_t offset) {
  return fails(FAULT_MMAP) ? MAP_FAILED
                           : __real_mmap64(at, size, access, flags, fd, offset);
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...) {
  return fails(FAULT_OPEN) ? -1 : __real_open64(path, flags);
}

/* Linux gives the number back whatever close returns. */
int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd) {
  int error = error_of(FAULT_CLOSE);
  int r = __real_close(fd);
  if (error == 0)
    return r;
  errno = error;
  return -1;
}

int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  void *argument = va_arg(list, void *);
  va_end(list);
  bool fail;
  switch (command) {
  case F_SETLK:
  case F_OFD_SETLK:
  case F_OFD_GETLK:
    fail = fails(FAULT_RECORD_LOCK);
    break;
  case F_ADD_SEALS:
  case F_GET_SEALS:
    fail = fails(FAULT_SEALS);
    break;
  default:
    fail = fails(FAULT_FD_FLAGS);
    break;
  }
  return fail ? -1 : __real_fcntl64(fd, command, argument);
}

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...) {
  va_list list;
  va_start(list, request);
  void *argument = va_arg(list, void *);
  va_end(list);
  return fails(FAULT_IOCTL) ? -1 : __real_ioctl(fd, request, argument);
}

/* Not the library's other bare calls, such as sigtimedwait, which takes what is there. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
  long a[6];
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; i++)
    a[i] = va_arg(list, long);
  va_end(list);
  if (number == SYS_futex && a[1] == FUTEX_WAIT_BITSET && fails(FAULT_FUTEX_WAIT))
    return -1;
#ifdef SYS_futex_waitv /* headers of Linux 5.16 */
  if (number == SYS_futex_waitv && fails(FAULT_FUTEX_WAITV))
    return -1;
#endif
  if (number == SYS_pidfd_open && fails(FAULT_PIDFD_OPEN))
    return -1;
  if (number == SYS_pidfd_send_signal && fails(FAULT_PIDFD_SIGNAL))
    return -1;
  return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- reading and writing ----------------------------------------------------------- */

#define WRAP_SIZED(call, name, parameters, arguments)                                    \
  ssize_t __real_##name parameters;                                                      \
  ssize_t __wrap_##name parameters;                                                      \
  ssize_t __wrap_##name parameters {                                                     \
    return fails_or_cuts(call, &size) ? -1 : __real_##name arguments;                    \
  }

ssize_t __real_read(int fd, void *data, size_t size);
ssize_t __wrap_read(int fd, void *data, size_t size);
ssize_t __wrap_read(int fd, void *data, size_t size) {
  int error = error_of(FAULT_READ);
  if (error > 0) {
    errno = error;
    return -1;
  }
  if (error == FAULT_NOTHING)
    return 0;
  return __real_read(fd, data, error == FAULT_SHORT && size > 1 ? size / 2 : size);
}

WRAP_SIZED(FAULT_WRITE, write, (int fd, const void *data, size_t size), (fd, data, size))
WRAP_SIZED(FAULT_PREAD, pread64, (int fd, void *data, size_t size, off64_t offset),
           (fd, data, size, offset))
WRAP_SIZED(FAULT_PWRITE, pwrite64,
           (int fd, const void *data, size_t size, off64_t offset),
           (fd, data, size, offset))

/* The half, or all if that is one byte, of the first part that has any. */
static struct iovec cut(const struct iovec *parts, int count) {
  int i = 0;
  while (i + 1 < count && parts[i].iov_len == 0)
    i++;
  struct iovec part = parts[i];
  if (part.iov_len > 1)
    part.iov_len /= 2;
  return part;
}

ssize_t __real_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count) {
  int error = error_of(FAULT_WRITEV);
  if (error > 0) {
    errno = error;
    return -1;
  }
  struct iovec part = cut(parts, count);
  return error == FAULT_SHORT ? __real_writev(fd, &part, 1)
                              : __real_writev(fd, parts, count);
}

ssize_t __real_pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at,
                           int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at,
                           int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at,
                           int flags) {
  int error = error_of(FAULT_PWRITEV2);
  if (error <= 0 && atomic_load(&older_kernel))
    error = EOPNOTSUPP;
  if (error > 0) {
    errno = error;
    return -1;
  }
  struct iovec part = cut(parts, count);
  return error == FAULT_SHORT ? __real_pwritev64v2(fd, &part, 1, at, flags)
                              : __real_pwritev64v2(fd, parts, count, at, flags);
}

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags) {
  int error = error_of(FAULT_SENDMSG);
  if (error > 0) {
    errno = error;
    return -1;
  }
  struct msghdr copy = *message;
  struct iovec part = cut(message->msg_iov, (int)message->msg_iovlen);
  if (error == FAULT_SHORT) {
    copy.msg_iov = &part;
    copy.msg_iovlen = 1;
  }
  return __real_sendmsg(fd, &copy, flags);
}

/* ---- threads and locks: these return their error ----------------------------------- */

#define WRAP_RESULT(call, sign, name, parameters, arguments)                             \
  int __real_##name parameters;                                                          \
  int __wrap_##name parameters;                                                          \
  int __wrap_##name parameters {                                                         \
    int error = error_of(call);                                                          \
    return error != 0 ? sign error : __real_##name arguments;                            \
  }

WRAP_RESULT(FAULT_THREAD, -, uv_thread_create_ex,
            (uv_thread_t * thread, const uv_thread_options_t *options, uv_thread_cb run,
             void *arg),
            (thread, options, run, arg))
WRAP_RESULT(FAULT_MUTEX_INIT, -, uv_mutex_init, (uv_mutex_t * mutex), (mutex))
WRAP_RESULT(FAULT_SEM_INIT, -, uv_sem_init, (uv_sem_t * sem, unsigned value),
            (sem, value))
WRAP_RESULT(FAULT_LOCK_ATTR, , pthread_mutexattr_init, (pthread_mutexattr_t * attr),
            (attr))
WRAP_RESULT(FAULT_LOCK_INIT, , pthread_mutex_init,
            (pthread_mutex_t * mutex, const pthread_mutexattr_t *attr), (mutex, attr))
WRAP_RESULT(FAULT_LOCK, , pthread_mutex_trylock, (pthread_mutex_t * mutex), (mutex))
WRAP_RESULT(FAULT_ATFORK, , pthread_atfork,
            (void (*before)(void), void (*parent)(void), void (*child)(void)),
            (before, parent, child))
WRAP_RESULT(FAULT_ATEXIT, , atexit, (void (*run)(void)), (run))
