/* Processes and threads: whether one lives, which namespace it is in, its number. */
#define _GNU_SOURCE
#include "base/os_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct flock life_lock(short type, int64_t byte) {
  struct flock lock = {
    .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1
  };
  return lock;
}

int forkq__os_open_again(int fd) {
  char path[sizeof "/proc/self/fd/-2147483648"];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return forkq__os_above_stdio(UNCANCELLED(open(path, O_RDWR | O_CLOEXEC)));
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
    return forkq__os_identity_of(&status);
  return namespace_by_pidfd();
}

bool forkq__os_is_parent(pid_t pid) {
  return getppid() == pid;
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

/* On a machine with more CPUs than the set has bits, the call fails. */
int forkq__os_cpus(void) {
  cpu_set_t cpus;
  return sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : CPU_SETSIZE;
}
