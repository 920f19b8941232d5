/* The system calls. Two macros repeat interrupted calls and disable cancellation. */
#define _GNU_SOURCE
#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <forkq/base.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/single_threaded.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

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

/* Anonymous files of one kind share a device, on which their inodes are unique. */
static uint64_t identity_of(const struct stat *status) {
  return (uint64_t)status->st_dev << 48 ^ (uint64_t)status->st_ino;
}

int64_t forkq__os_page_size(void) {
  return sysconf(_SC_PAGESIZE);
}

int64_t forkq__os_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t forkq__os_deadline(int timeout_ms) {
  if (timeout_ms < 0)
    return FORKQ__FOREVER;
  if (timeout_ms == 0)
    return FORKQ__NOWAIT;
  return forkq__os_now() + timeout_ms * NS_PER_MS;
}

int64_t forkq__os_deadline_within(int64_t deadline, int ms) {
  int64_t soon = forkq__os_now() + ms * NS_PER_MS;
  return soon < deadline ? soon : deadline;
}

int forkq__os_close(int fd) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  /* No retry: Linux has released the number even if a signal interrupted close. */
  int r = close(fd) == 0 || errno == EINTR ? 0 : -errno;
  pthread_setcancelstate(state, NULL);
  return r;
}

void forkq__os_cancellation_point(void (*leave)(void *arg), void *arg) {
  if (leave == NULL) {
    pthread_testcancel();
    return;
  }
  pthread_cleanup_push(leave, arg);
  pthread_testcancel();
  pthread_cleanup_pop(0);
}

/* Moves a new descriptor above the standard streams. Otherwise the output of a program that has
 * closed these streams would go into the queue. */
static int above_stdio(int fd) {
  if (fd < 0 || fd > STDERR_FILENO)
    return fd;
  int above = RETRY(fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  forkq__os_close(fd);
  return above;
}

static int both_above_stdio(int fds[2]) {
  fds[0] = above_stdio(fds[0]);
  fds[1] = above_stdio(fds[1]);
  int r = fds[0] < 0 ? fds[0] : fds[1] < 0 ? fds[1] : 0;
  for (int i = 0; r < 0 && i < 2; i++)
    if (fds[i] >= 0)
      forkq__os_close(fds[i]);
  return r;
}

/* How many packets a pipe should hold. Each packet takes one of its pages. With the kernel's
 * 16, the two sides keep waiting for each other. Beyond 128, nothing more was gained. */
#define PIPE_PACKETS 128
#define PIPE_PACKETS_LEAST 32

/* The kernel limits the pipes of a user without privileges (pipe(7)). Then the pipe gets fewer
 * pages, or keeps those it has. */
static void enlarge_pipe(int fd) {
  int64_t page = forkq__os_page_size();
  for (int packets = PIPE_PACKETS; packets >= PIPE_PACKETS_LEAST; packets /= 2)
    if (fcntl(fd, F_SETPIPE_SZ, (int)(packets * page)) >= 0)
      return;
}

int forkq__os_packet_pipe(int fds[2]) {
  int r = RETRY(pipe2(fds, O_DIRECT | O_CLOEXEC | O_NONBLOCK));
  if (r == 0)
    r = both_above_stdio(fds);
  if (r == 0)
    enlarge_pipe(fds[1]);
  return r;
}

int forkq__os_pipe_level(int fd) {
  int bytes = 0;
  int r = RETRY(ioctl(fd, FIONREAD, &bytes));
  return r < 0 ? r : bytes;
}

int forkq__os_pipe_capacity(int fd) {
  return RETRY(fcntl(fd, F_GETPIPE_SZ));
}

ssize_t forkq__os_read(int fd, void *data, size_t size) {
  return UNCANCELLED(read(fd, data, size));
}

ssize_t forkq__os_write(int fd, const void *data, size_t size) {
  return UNCANCELLED(write(fd, data, size));
}

struct timespec forkq__os_timespec(int64_t ns) {
  return (struct timespec){ .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = ns % NS_PER_S };
}

static int poll_until(struct pollfd *fds, nfds_t count, int64_t deadline) {
  for (;;) {
    struct timespec left = { 0, 0 };
    if (deadline != FORKQ__FOREVER && deadline != FORKQ__NOWAIT) {
      int64_t ns = deadline - forkq__os_now();
      left = forkq__os_timespec(ns > 0 ? ns : 0);
    }
    int r = ppoll(fds, count, deadline == FORKQ__FOREVER ? NULL : &left, NULL);
    if (r >= 0)
      return r;
    if (errno != EINTR)
      return -errno;
  }
}

int forkq__os_poll(struct pollfd *fds, nfds_t count, int64_t deadline) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  int r = poll_until(fds, count, deadline);
  pthread_setcancelstate(state, NULL);
  return r;
}

int forkq__os_poll_cancellable(struct pollfd *fds, nfds_t count, int64_t deadline,
                               void (*leave)(void *arg), void *arg) {
  if (leave == NULL)
    return poll_until(fds, count, deadline);
  int r;
  pthread_cleanup_push(leave, arg);
  r = poll_until(fds, count, deadline);
  pthread_cleanup_pop(0);
  return r;
}

bool forkq__os_has_threads(void) {
  return !__libc_single_threaded;
}

/* For the first thread, the C library asks the kernel, by reading a file. */
static bool own_stack(uintptr_t *ret_begin, size_t *ret_size) {
  pthread_attr_t attr;
  void *begin = NULL;
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  bool known = pthread_getattr_np(pthread_self(), &attr) == 0;
  if (known) {
    known = pthread_attr_getstack(&attr, &begin, ret_size) == 0;
    pthread_attr_destroy(&attr);
  }
  pthread_setcancelstate(state, NULL);
  *ret_begin = (uintptr_t)begin;
  return known;
}

bool forkq__os_on_stack(const void *const *places, size_t count) {
  uintptr_t begin;
  size_t size;
  if (!own_stack(&begin, &size))
    return false;
  for (size_t i = 0; i < count; i++)
    if ((uintptr_t)places[i] - begin >= size)
      return false;
  return true;
}

int forkq__os_event_create(void) {
  return above_stdio(RETRY(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
}

/* The write fails only with EAGAIN, at 2^64-2 raises, and the eventfd is readable then, too.
 * The function does nothing if the descriptor is no eventfd any more, because the program has
 * closed it and opened a file with its number. */
void forkq__os_event_raise(int fd) {
  if (forkq__os_is_anonymous(fd))
    (void)UNCANCELLED(eventfd_write(fd, 1));
}

void forkq__os_event_lower(int fd) {
  eventfd_t count;
  if (forkq__os_is_anonymous(fd))
    (void)UNCANCELLED(eventfd_read(fd, &count));
}

int forkq__os_poll_set_create(const int *fds, int count) {
  int set = above_stdio(RETRY(epoll_create1(EPOLL_CLOEXEC)));
  if (set < 0)
    return set;
  for (int i = 0; i < count; i++) {
    struct epoll_event event = { .events = EPOLLIN };
    int r = RETRY(epoll_ctl(set, EPOLL_CTL_ADD, fds[i], &event));
    if (r < 0) {
      forkq__os_close(set);
      return r;
    }
  }
  return set;
}

int forkq__os_duplicate(int fd) {
  return RETRY(fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

/* The largest file that the process may make. A write beyond this size raises SIGXFSZ, which
 * kills. */
static int64_t file_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur > INT64_MAX)
    return INT64_MAX;
  return (int64_t)limit.rlim_cur;
}

static int set_size(int fd, size_t size, int64_t more) {
  int64_t limit = file_limit();
  if ((int64_t)size > limit)
    return -EFBIG;
  int64_t whole = limit - (int64_t)size < more ? limit : (int64_t)size + more;
  int r = RETRY(ftruncate(fd, whole));
  return r < 0 ? r : RETRY(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL));
}

int forkq__os_memory_create(const char *name, size_t size, int64_t more) {
  int fd = above_stdio(RETRY(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)));
  if (fd < 0)
    return fd;
  int r = set_size(fd, size, more);
  if (r < 0) {
    forkq__os_close(fd);
    return r;
  }
  return fd;
}

/* Whether the system call is not available. A filter of system calls (seccomp(2)) and an
 * emulator report this with different errors. */
static bool is_refusal(ssize_t r) {
  return r == -EOPNOTSUPP || r == -EINVAL || r == -ENOSYS || r == -EPERM || r == -EACCES;
}

/* Reserves pages without fallocate: writes one byte of each, unchanged. The kernel then makes
 * the page, or reports that it cannot. */
static int touch_pages(int fd, int64_t offset, int64_t end) {
  int64_t page = forkq__os_page_size();
  if (end > file_limit())
    return -EFBIG;
  for (int64_t at = offset; at < end; at += page - at % page) {
    char byte;
    ssize_t n = UNCANCELLED(pread(fd, &byte, 1, at));
    if (n == 1)
      n = UNCANCELLED(pwrite(fd, &byte, 1, at));
    if (n != 1)
      return n < 0 ? (int)n : -EIO;
  }
  return 0;
}

/* Bytes that one fallocate reserves. Before Linux 6.11, the call began again at each signal. */
#define BACKED_AT_ONCE (1024 * 1024)

int forkq__os_memory_back(int fd, int64_t offset, size_t size) {
  int64_t end = offset + (int64_t)size;
  int r = 0;
  for (int64_t at = offset; at < end && r == 0; at += BACKED_AT_ONCE) {
    int64_t piece = end - at < BACKED_AT_ONCE ? end - at : BACKED_AT_ONCE;
    r = UNCANCELLED(fallocate(fd, FALLOC_FL_KEEP_SIZE, at, piece));
    if (is_refusal(r))
      return touch_pages(fd, at, end);
  }
  return r;
}

int forkq__os_memory_map(int fd, size_t size, void **ret_memory) {
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED)
    return -errno;
  *ret_memory = memory;
  return 0;
}

void forkq__os_memory_unmap(void *memory, size_t size) {
  munmap(memory, size);
}

int forkq__os_memory_read(int fd, void *data, size_t size, int64_t offset) {
  for (size_t done = 0; done < size;) {
    ssize_t n =
        UNCANCELLED(pread(fd, (char *)data + done, size - done, offset + (off_t)done));
    if (n <= 0)
      return n < 0 ? (int)n : -EIO;
    done += (size_t)n;
  }
  return 0;
}

/* The range that a write of `size` bytes at `offset` maps: from the beginning of a page. */
struct window {
  int64_t offset;
  size_t size;
};

static struct window window_of(int64_t offset, size_t size) {
  int64_t page = forkq__os_page_size();
  int64_t begin = offset - offset % page;
  return (struct window){ begin, (size_t)(offset - begin) + size };
}

/* Writes through a mapping. pwrite(2) raises SIGXFSZ beyond RLIMIT_FSIZE, even within the size
 * that the file has. */
int forkq__os_memory_write(int fd, const void *data, size_t size, int64_t offset) {
  struct stat status;
  struct window window = window_of(offset, size);
  if (fstat(fd, &status) != 0)
    return -errno;
  if (offset > status.st_size || (int64_t)size > status.st_size - offset)
    return -EFBIG;
  int r = forkq__os_memory_back(fd, offset, size);
  if (r < 0)
    return r;
  char *memory = mmap(NULL, window.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                      (off_t)window.offset);
  if (memory == MAP_FAILED)
    return -errno;
  memcpy(memory + (offset - window.offset), data, size);
  munmap(memory, window.size);
  return 0;
}

void forkq__os_memory_release(int fd, int64_t offset) {
  struct stat status;
  if (fstat(fd, &status) == 0 && status.st_size > offset)
    (void)UNCANCELLED(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
                                status.st_size - offset));
}

static struct flock life_lock(short type, int64_t byte) {
  struct flock lock = {
    .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1
  };
  return lock;
}

int forkq__os_open_again(int fd) {
  char path[sizeof "/proc/self/fd/-2147483648"];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return above_stdio(UNCANCELLED(open(path, O_RDWR | O_CLOEXEC)));
}

int forkq__os_life_take(int fd, int64_t byte, bool own_description) {
  struct flock lock = life_lock(F_WRLCK, byte);
  int r = RETRY(fcntl(fd, own_description ? F_OFD_SETLK : F_SETLK, &lock));
  return r == -EAGAIN || r == -EACCES ? FORKQ__BUSY : r;
}

int forkq__os_life_drop(int fd, int64_t byte, bool own_description) {
  struct flock lock = life_lock(F_UNLCK, byte);
  return RETRY(fcntl(fd, own_description ? F_OFD_SETLK : F_SETLK, &lock));
}

int forkq__os_life_taken(int fd, int64_t byte) {
  struct flock lock = life_lock(F_WRLCK, byte);
  int r = RETRY(fcntl(fd, F_OFD_GETLK, &lock));
  return r < 0 ? r : lock.l_type != F_UNLCK;
}

/* The pidfd of a zombie is readable (pidfd_open(2)). */
static bool is_zombie(pid_t pid) {
  int fd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0)
    return false;
  struct pollfd ended = { .fd = fd, .events = POLLIN };
  bool zombie = forkq__os_poll(&ended, 1, FORKQ__NOWAIT) > 0;
  forkq__os_close(fd);
  return zombie;
}

bool forkq__os_process_gone(pid_t pid) {
  return (kill(pid, 0) != 0 && errno == ESRCH) || is_zombie(pid);
}

/* Since Linux 6.11, the kernel reports the namespace without /proc. The headers of Debian 12
 * are older. */
#ifndef PIDFD_GET_PID_NAMESPACE
#  define PIDFD_GET_PID_NAMESPACE _IO(0xff, 5)
#endif

static uint64_t namespace_by_pidfd(void) {
  uint64_t identity = 0;
  int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
  if (self < 0)
    return 0;
  int space = ioctl(self, PIDFD_GET_PID_NAMESPACE, 0);
  if (space >= 0) {
    (void)forkq__os_identity(space, &identity);
    forkq__os_close(space);
  }
  forkq__os_close(self);
  return identity;
}

uint64_t forkq__os_pid_namespace(void) {
  struct stat status;
  if (stat("/proc/self/ns/pid", &status) == 0)
    return identity_of(&status);
  return namespace_by_pidfd();
}

bool forkq__os_parent_is_outside(void) {
  return getppid() == 0;
}

pid_t forkq__os_thread(void) {
  return (pid_t)syscall(SYS_gettid);
}

int forkq__os_robust_list(void **ret_list) {
  size_t size;
  return syscall(SYS_get_robust_list, 0, ret_list, &size) < 0 ? -errno : 0;
}

void *forkq__os_wiped_page(void) {
  size_t size = (size_t)forkq__os_page_size();
  void *page =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED)
    return NULL;
  if (madvise(page, size, MADV_WIPEONFORK) == 0)
    return page;
  munmap(page, size);
  return NULL;
}

/* FUTEX_WAIT_BITSET takes an absolute time on CLOCK_MONOTONIC (futex(2)). */
static long futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline,
                       uint32_t bits) {
  struct timespec at = forkq__os_timespec(deadline);
  return syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected,
                 deadline == FORKQ__FOREVER ? NULL : &at, NULL, bits);
}

int forkq__os_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline) {
  long r = futex_wait(word, expected, deadline, FORKQ__ANY_BITS);
  return r == -1 && errno == ETIMEDOUT ? -ETIMEDOUT : 0;
}

/* Cancellation is asynchronous only around the system call, as at the C library's own
 * cancellation points. The function must have nothing to clean up: the compiler does not see
 * that a thread can end in the system call, only that it can end in the call of this function.
 *
 * After the wait, the signal of a cancellation may still be on its way. glibc (2.36) acts on it
 * if it comes in any system call that may be cancelled, even if cancellation is disabled by
 * then. glibc's own functions wait for the signal before they return. So one of them, poll,
 * follows. */
int __attribute__((noinline))
forkq__os_futex_wait_cancellable(_Atomic uint32_t *word, uint32_t expected,
                                 int64_t deadline, uint32_t bits) {
  int type;
  /* NOLINTNEXTLINE(cert-pos47-c,concurrency-thread-canceltype-asynchronous): see above */
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
  long r = futex_wait(word, expected, deadline, bits);
  int error = errno;
  pthread_setcanceltype(type, NULL);
  (void)poll(NULL, 0, 0);
  return r == -1 && error == ETIMEDOUT ? -ETIMEDOUT : 0;
}

void forkq__os_futex_wake(_Atomic uint32_t *word, int count) {
  syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

void forkq__os_futex_wake_some(_Atomic uint32_t *word, uint32_t bits) {
  syscall(SYS_futex, word, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL, bits);
}

uint32_t forkq__os_process_bit(void) {
  return UINT32_C(1) << (getpid() % 32);
}

#if defined(__SANITIZE_THREAD__)
#  define UNDER_TSAN 1
#elif defined(__has_feature)
#  if __has_feature(thread_sanitizer)
#    define UNDER_TSAN 1
#  endif
#endif

#ifdef UNDER_TSAN
#  include <sanitizer/tsan_interface.h>
#endif

/* ThreadSanitizer (gcc 12, clang 14) does not know pthread_mutex_clocklock, so it is told. */
int forkq__os_clocklock(pthread_mutex_t *mutex, int64_t deadline) {
  struct timespec at = forkq__os_timespec(deadline);
#ifdef UNDER_TSAN
  __tsan_mutex_pre_lock(mutex, __tsan_mutex_try_lock);
#endif
  int r = pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &at);
#ifdef UNDER_TSAN
  bool got = r == 0 || r == EOWNERDEAD;
  __tsan_mutex_post_lock(
      mutex, __tsan_mutex_try_lock | (got ? 0 : __tsan_mutex_try_lock_failed), 0);
#endif
  return r;
}

void forkq__os_signals_block(void *ret_old_mask) {
  _Static_assert(sizeof(sigset_t) <= FORKQ__SIGNAL_MASK_SIZE, "mask fits");
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  memcpy(ret_old_mask, &old, sizeof old);
}

void forkq__os_signals_restore(const void *old_mask) {
  sigset_t old;
  memcpy(&old, old_mask, sizeof old);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
}

int forkq__os_pipe(int fds[2]) {
  int r = RETRY(pipe2(fds, O_CLOEXEC));
  return r < 0 ? r : both_above_stdio(fds);
}

int forkq__os_socket_pair(int fds[2]) {
  int r = RETRY(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
  return r < 0 ? r : both_above_stdio(fds);
}

int forkq__os_is_socket(int fd) {
  struct stat status;
  int r = RETRY(fstat(fd, &status));
  return r < 0 ? r : S_ISSOCK(status.st_mode);
}

ssize_t forkq__os_socket_write(int fd, const struct iovec *parts, int count) {
  struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)parts,
                            .msg_iovlen = (size_t)count };
  return UNCANCELLED(sendmsg(fd, &message, MSG_NOSIGNAL));
}

static bool sigpipe_pending(void) {
  sigset_t pending;
  return sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
}

/* Takes the SIGPIPE that a write of this thread may have raised while SIGPIPE was blocked. The
 * kernel delivers a thread's own signals, such as this one, before the process's. A SIGPIPE
 * from another sender is put back: pthread_kill and sigqueue have codes below 0, and kill has
 * the pid of the sender. If a SIGPIPE was pending before, one must be pending after.
 *
 * The system call is direct, because glibc's sigtimedwait reports SI_USER for pthread_kill. */
static void take_sigpipe(const sigset_t *sigpipe, bool pending_before) {
  const struct timespec now = { 0, 0 };
  siginfo_t info = { .si_signo = 0 };
  if (RETRY(syscall(SYS_rt_sigtimedwait, sigpipe, &info, &now, _NSIG / 8)) < 0)
    return;
  bool sent = info.si_code < 0 || (info.si_code == SI_USER && info.si_pid != getpid());
  if (sent || (pending_before && !sigpipe_pending()))
    pthread_kill(pthread_self(), SIGPIPE);
}

/* SIGPIPE while it is blocked for a write. let_sigpipe_go restores everything. */
struct held_sigpipe {
  sigset_t sigpipe, old;
  bool was_blocked, pending_before;
  bool raised; /* or may have been */
};

static void hold_sigpipe(struct held_sigpipe *held) {
  sigemptyset(&held->sigpipe);
  sigaddset(&held->sigpipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &held->sigpipe, &held->old);
  held->was_blocked = sigismember(&held->old, SIGPIPE) == 1;
  held->pending_before = held->was_blocked && sigpipe_pending();
  held->raised = true;
}

static void let_sigpipe_go(void *arg) {
  const struct held_sigpipe *held = arg;
  if (held->raised)
    take_sigpipe(&held->sigpipe, held->pending_before);
  if (!held->was_blocked)
    pthread_sigmask(SIG_SETMASK, &held->old, NULL);
}

/* A cancellation point. */
static ssize_t write_with_sigpipe_blocked(int fd, const struct iovec *parts, int count) {
  size_t size = 0;
  for (int i = 0; i < count; i++)
    size += parts[i].iov_len;
  struct held_sigpipe held;
  ssize_t r;
  hold_sigpipe(&held);
  pthread_cleanup_push(let_sigpipe_go, &held);
  r = RETRY(writev(fd, parts, count));
  /* If the last reader of a pipe closes it during a write, the write returns the bytes that it
   * wrote, and raises SIGPIPE. */
  held.raised = r == -EPIPE || (r >= 0 && (size_t)r < size);
  pthread_cleanup_pop(1);
  return r;
}

/* Since Linux 6.18, a write to a pipe has this flag against SIGPIPE. The headers of Debian 12
 * are older. */
#ifndef RWF_NOSIGNAL
#  define RWF_NOSIGNAL 0x00000100
#endif
#define WHERE_IT_IS (-1) /* as an offset: the file's own position */

/* The kernel has no RWF_NOSIGNAL. The thread that finds this out sets this for all threads. */
static atomic_bool without_nosignal;

/* Only a refusal by a pipe counts. Other files refuse the flag on newer kernels, too. */
static void remember_refusal(int fd) {
  struct stat status;
  if (fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode))
    atomic_store_explicit(&without_nosignal, true, memory_order_relaxed);
}

ssize_t forkq__os_pipe_write_cancellable(int fd, const struct iovec *parts, int count) {
  if (!atomic_load_explicit(&without_nosignal, memory_order_relaxed)) {
    ssize_t r = RETRY(pwritev2(fd, parts, count, WHERE_IT_IS, RWF_NOSIGNAL));
    if (!is_refusal(r))
      return r;
    remember_refusal(fd);
  }
  return write_with_sigpipe_blocked(fd, parts, count);
}

ssize_t forkq__os_stream_write(int fd, const struct iovec *parts, int count) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  ssize_t r = forkq__os_pipe_write_cancellable(fd, parts, count);
  pthread_setcancelstate(state, NULL);
  return r;
}

ssize_t forkq__os_socket_read_soon(int fd, void *data, size_t size) {
  return UNCANCELLED(recv(fd, data, size, MSG_DONTWAIT));
}

ssize_t forkq__os_socket_write_soon(int fd, const struct iovec *parts, int count) {
  struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)parts,
                            .msg_iovlen = (size_t)count };
  return UNCANCELLED(sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
}

/* The kernel is older than 6.4. Since 6.4, a read of a pipe has RWF_NOWAIT. */
static atomic_bool without_nowait;

ssize_t forkq__os_pipe_read_soon(int fd, void *data, size_t size) {
  if (atomic_load_explicit(&without_nowait, memory_order_relaxed))
    return -EAGAIN;
  const struct iovec part = { data, size };
  ssize_t r = UNCANCELLED(preadv2(fd, &part, 1, WHERE_IT_IS, RWF_NOWAIT));
  if (!is_refusal(r))
    return r;
  atomic_store_explicit(&without_nowait, true, memory_order_relaxed);
  return -EAGAIN;
}

int forkq__os_is_pipe(int fd) {
  struct stat status;
  int r = RETRY(fstat(fd, &status));
  return r < 0 ? r : S_ISFIFO(status.st_mode);
}

bool forkq__os_socket_full(int fd) {
  int used = 0, room = 0;
  return ioctl(fd, SIOCOUTQ, &used) == 0 &&
         getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, &(socklen_t){ sizeof room }) == 0 &&
         used >= room;
}

/* Since Linux 6.5. The headers of Debian 12 are older. */
#ifndef SCM_PIDFD
#  define SCM_PIDFD 0x04
#endif

/* Room for everything that may come beside the bytes. Linux lets a message carry 253
 * descriptors. The program may also have told the socket to bring the sender's credentials
 * (SO_PASSCRED), the name that a security module has for the sender (SO_PASSSEC), and a
 * descriptor of the sender's process (SO_PASSPIDFD). The kernel leaves out the data for which
 * there is no room. */
#define BESIDE_MAX 8192

union beside {
  struct cmsghdr header;
  char space[BESIDE_MAX];
};

/* Sockets of other families would accept the bytes and ignore the descriptors. */
static int check_unix(int socket) {
  int family = 0;
  int r = RETRY(
      getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &family, &(socklen_t){ sizeof family }));
  return r < 0 ? r : family == AF_UNIX ? 0 : -EAFNOSUPPORT;
}

static ssize_t send_beside(int socket, const void *data, size_t size, const int *fds,
                           size_t count) {
  int r = check_unix(socket);
  if (r < 0)
    return r;
  union beside beside = { .space = { 0 } };
  struct iovec part = { (void *)(uintptr_t)data, size };
  struct msghdr message = { .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = &beside,
                            .msg_controllen = CMSG_SPACE(count * sizeof *fds) };
  beside.header.cmsg_level = SOL_SOCKET;
  beside.header.cmsg_type = SCM_RIGHTS;
  beside.header.cmsg_len = CMSG_LEN(count * sizeof *fds);
  memcpy(CMSG_DATA(&beside.header), fds, count * sizeof *fds);
  return UNCANCELLED(sendmsg(socket, &message, MSG_NOSIGNAL));
}

/* Closes the descriptor of the sender's process, which forkq did not ask for. The number may be
 * an error instead. */
static void close_pidfd(struct cmsghdr *header) {
  int pidfd;
  memcpy(&pidfd, CMSG_DATA(header), sizeof pidfd);
  if (pidfd >= 0)
    forkq__os_close(pidfd);
}

/* Adds the descriptors of a control message to the `count` in `fds`, and closes those for which
 * there is no room. Returns the new count, as if there had been room for all. */
static size_t take_fds(struct cmsghdr *header, int *fds, size_t room, size_t count) {
  size_t more = (header->cmsg_len - CMSG_LEN(0)) / sizeof *fds;
  for (size_t i = 0; i < more; i++, count++) {
    int fd;
    memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
    if (count < room)
      fds[count] = fd;
    else
      forkq__os_close(fd);
  }
  return count;
}

/* recvmsg(2). The caller owns the first `room` descriptors that came; the others are closed.
 * *ret_count is the number of descriptors that came. *ret_cut says that there were more, which
 * did not fit into the process's table. */
static ssize_t receive_beside(int socket, struct iovec part, int flags, int *fds,
                              size_t room, size_t *ret_count, bool *ret_cut) {
  union beside beside;
  struct msghdr message = { .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = &beside,
                            .msg_controllen = sizeof beside };
  ssize_t r = UNCANCELLED(recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags));
  if (r < 0)
    return r;
  *ret_count = 0;
  *ret_cut = (message.msg_flags & MSG_CTRUNC) != 0;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET)
      continue;
    if (header->cmsg_type == SCM_RIGHTS)
      *ret_count = take_fds(header, fds, room, *ret_count);
    else if (header->cmsg_type == SCM_PIDFD)
      close_pidfd(header);
  }
  return r;
}

ssize_t forkq__os_fd_send(int socket, unsigned char byte, int fd) {
  return send_beside(socket, &byte, 1, &fd, 1);
}

ssize_t forkq__os_fd_receive(int socket, unsigned char *ret_byte, int *ret_fd,
                             bool *ret_lost) {
  int fd = -1;
  size_t count;
  bool cut;
  ssize_t r =
      receive_beside(socket, (struct iovec){ ret_byte, 1 }, 0, &fd, 1, &count, &cut);
  if (r < 0)
    return r;
  /* If no byte came, a descriptor can only come from a sender that sent no bytes. */
  if (r == 0 && fd >= 0)
    forkq__os_close(fd);
  *ret_fd = r == 0 ? -1 : fd;
  *ret_lost = cut || count > 1;
  return r;
}

int forkq__os_identity(int fd, uint64_t *ret_identity) {
  struct stat status;
  if (fstat(fd, &status) != 0)
    return -errno;
  *ret_identity = identity_of(&status);
  return 0;
}

void forkq__os_close_own(int fd, uint64_t identity) {
  if (forkq__os_is_file(fd, identity))
    forkq__os_close(fd);
}

bool forkq__os_is_file(int fd, uint64_t identity) {
  uint64_t now = 0;
  int r = forkq__os_identity(fd, &now);
  return r == 0 ? now == identity : r == -ENOMEM;
}

int forkq__os_access(int fd) {
  int flags = RETRY(fcntl(fd, F_GETFL));
  struct stat status;
  if (flags < 0)
    return flags;
  if (fstat(fd, &status) != 0)
    return -errno;
  if (!(flags & O_NONBLOCK) && !S_ISREG(status.st_mode))
    return -EINVAL;
  switch (flags & O_ACCMODE) {
  case O_RDONLY:
    return FORKQ__READS;
  case O_WRONLY:
    return FORKQ__WRITES;
  default:
    return FORKQ__BOTH;
  }
}

bool forkq__os_is_anonymous(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && (status.st_mode & S_IFMT) == 0;
}

/* The number after `label` on its line. -ENODATA if the text has no such line, -EIO if the line
 * is not complete. */
static int number_behind(const char *label, const char *text) {
  const char *at = strstr(text, label);
  if (at == NULL)
    return -ENODATA;
  char *end;
  long number = strtol(at + strlen(label), &end, 10);
  return *end == '\n' && number >= 0 && number <= INT_MAX ? (int)number : -EIO;
}

int forkq__os_event_id(int fd) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/thread-self/fdinfo/%d", fd);
  int info = above_stdio(UNCANCELLED(open(path, O_RDONLY | O_CLOEXEC)));
  if (info < 0)
    return info;
  ssize_t n = UNCANCELLED(read(info, text, sizeof text - 1));
  forkq__os_close(info);
  if (n < 0)
    return (int)n;
  text[n] = '\0';
  return number_behind("\neventfd-id:", text);
}

int forkq__os_inheritable(int fd, bool inheritable) {
  int r = RETRY(fcntl(fd, F_SETFD, inheritable ? 0 : FD_CLOEXEC));
  return r < 0 ? r : 0;
}

int forkq__os_is_inheritable(int fd) {
  int flags = RETRY(fcntl(fd, F_GETFD));
  return flags < 0 ? flags : !(flags & FD_CLOEXEC);
}

int forkq__os_memory_check(int fd, size_t size) {
  struct stat status;
  int seals = RETRY(fcntl(fd, F_GET_SEALS));
  bool good = seals >= 0 && (seals & F_SEAL_SHRINK) && fstat(fd, &status) == 0 &&
              status.st_size >= (off_t)size;
  return good ? 0 : FORKQ_EHANDOVER;
}

int forkq__os_fds_send(int socket, const void *data, size_t size, const int *fds,
                       size_t count) {
  ssize_t n = send_beside(socket, data, size, fds, count);
  if (n < 0)
    return (int)n;
  return (size_t)n == size ? 0 : -EMSGSIZE;
}

/* Moves all descriptors above the standard streams. After a failure, none is open. */
static int all_above_stdio(int *fds, size_t count) {
  int r = 0;
  for (size_t i = 0; i < count; i++) {
    fds[i] = above_stdio(fds[i]);
    if (fds[i] < 0)
      r = fds[i];
  }
  for (size_t i = 0; r < 0 && i < count; i++)
    if (fds[i] >= 0)
      forkq__os_close(fds[i]);
  return r;
}

/* The error for a message that is not as expected. The kernel keeps back the descriptors that
 * do not fit into the process's table, from the first such one on. */
static int judge_arrival(bool all_bytes, bool too_many, bool cut) {
  return all_bytes && !too_many && cut ? -EMFILE : FORKQ_EHANDOVER;
}

int forkq__os_fds_receive(int socket, void *data, size_t size, int *fds, size_t count) {
  size_t came;
  bool cut;
  ssize_t n = receive_beside(socket, (struct iovec){ data, size }, MSG_WAITALL, fds,
                             count, &came, &cut);
  if (n < 0)
    return (int)n;
  if ((size_t)n == size && came == count && !cut)
    return all_above_stdio(fds, count);
  for (size_t i = 0; i < came && i < count; i++)
    forkq__os_close(fds[i]);
  if (n == 0 && came == 0 && !cut)
    return FORKQ_EEOF;
  return judge_arrival((size_t)n == size, came > count, cut);
}
