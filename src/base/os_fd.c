/* Descriptors: what they are, events, and sets of them. */
#define _GNU_SOURCE
#include "base/os_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

int forkq__os_close(int fd) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  /* No retry: Linux has released the number even if a signal interrupted close. */
  int r = close(fd) == 0 || errno == EINTR ? 0 : -errno;
  pthread_setcancelstate(state, NULL);
  return r;
}

int forkq__os_above_stdio(int fd) {
  if (fd < 0 || fd > STDERR_FILENO)
    return fd;
  int above = RETRY(fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  forkq__os_close(fd);
  return above;
}

int forkq__os_both_above_stdio(int fds[2]) {
  fds[0] = forkq__os_above_stdio(fds[0]);
  fds[1] = forkq__os_above_stdio(fds[1]);
  int r = fds[0] < 0 ? fds[0] : fds[1] < 0 ? fds[1] : 0;
  for (int i = 0; r < 0 && i < 2; i++)
    if (fds[i] >= 0)
      forkq__os_close(fds[i]);
  return r;
}

ssize_t forkq__os_read(int fd, void *data, size_t size) {
  return UNCANCELLED(read(fd, data, size));
}

ssize_t forkq__os_write(int fd, const void *data, size_t size) {
  return UNCANCELLED(write(fd, data, size));
}

int forkq__os_event_create(void) {
  return forkq__os_above_stdio(RETRY(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
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

int forkq__os_poll_set_add(int set, int fd) {
  struct epoll_event event = { .events = EPOLLIN };
  return RETRY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
}

void forkq__os_poll_set_remove(int set, int fd) {
  struct epoll_event event = { .events = 0 };
  (void)RETRY(epoll_ctl(set, EPOLL_CTL_DEL, fd, &event));
}

int forkq__os_poll_set_create(const int *fds, int count) {
  int set = forkq__os_above_stdio(RETRY(epoll_create1(EPOLL_CLOEXEC)));
  if (set < 0)
    return set;
  for (int i = 0; i < count; i++) {
    int r = forkq__os_poll_set_add(set, fds[i]);
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

int forkq__os_identity(int fd, uint64_t *ret_identity) {
  struct stat status;
  if (fstat(fd, &status) != 0)
    return -errno;
  *ret_identity = forkq__os_identity_of(&status);
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
  int info = forkq__os_above_stdio(UNCANCELLED(open(path, O_RDONLY | O_CLOEXEC)));
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
