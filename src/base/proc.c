/* Reading /proc, and the memory of processes. */
#define _GNU_SOURCE
#include "base/proc.h"

#include "base/os_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

/* The number that a name is, or -1. */
static int number_of(const char *name) {
  char *end;
  long number = strtol(name, &end, 10);
  bool is = end != name && *end == '\0' && number >= 0 && number <= INT_MAX;
  return is ? (int)number : -1;
}

static int each(DIR *directory, forkq__proc_fn fn, void *arg) {
  for (;;) {
    errno = 0;
    const struct dirent *entry = readdir(directory);
    if (entry == NULL)
      return -errno;
    int number = number_of(entry->d_name);
    int r = number >= 0 ? fn(number, arg) : 0;
    if (r < 0)
      return r;
  }
}

int forkq__proc_each(const char *path, forkq__proc_fn fn, void *arg) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  DIR *directory = opendir(path);
  int r = directory != NULL ? each(directory, fn, arg) : -errno;
  if (directory != NULL)
    closedir(directory);
  pthread_setcancelstate(state, NULL);
  return r;
}

/* What the name stands for may be a pipe or a terminal by now. */
int forkq__proc_open(const char *path) {
  return forkq__os_above_stdio(
      UNCANCELLED(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)));
}

int forkq__proc_read(const char *path, char *text, size_t size) {
  int fd = forkq__proc_open(path);
  if (fd < 0)
    return fd;
  size_t length = 0;
  ssize_t n = 1;
  while (n > 0 && length < size - 1) {
    n = forkq__os_read(fd, text + length, size - 1 - length);
    length += n > 0 ? (size_t)n : 0;
  }
  forkq__os_close(fd);
  text[length] = '\0';
  return n < 0 ? (int)n : (int)length;
}

int forkq__proc_link(const char *path, char *text, size_t size) {
  ssize_t n = readlink(path, text, size - 1);
  if (n < 0)
    return -errno;
  text[n] = '\0';
  return (int)n;
}

int forkq__proc_identity(const char *path, uint64_t *ret_identity, uint64_t *ret_inode) {
  struct stat status;
  if (stat(path, &status) != 0)
    return -errno;
  *ret_identity = forkq__os_identity_of(&status);
  *ret_inode = status.st_ino;
  return 0;
}

/* The link's own mode tells it. */
int forkq__proc_access(const char *path) {
  struct stat status;
  if (lstat(path, &status) != 0)
    return -errno;
  return (status.st_mode & S_IRUSR ? FORKQ__READS : 0) |
         (status.st_mode & S_IWUSR ? FORKQ__WRITES : 0);
}

/* The command, in parentheses, may have any character in it. */
char forkq__proc_state(pid_t pid) {
  char path[FORKQ__PROC_PATH], text[256];
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  if (forkq__proc_read(path, text, sizeof text) < 0)
    return 0;
  const char *end = strrchr(text, ')');
  return (char)(end != NULL && end[1] == ' ' ? end[2] : 0);
}

pid_t forkq__proc_of_thread(pid_t tid) {
  static const char label[] = "\nTgid:";
  char path[FORKQ__PROC_PATH], text[512];
  snprintf(path, sizeof path, "/proc/%d/status", (int)tid);
  if (forkq__proc_read(path, text, sizeof text) < 0)
    return 0;
  const char *at = strstr(text, label);
  return at != NULL ? (pid_t)strtol(at + strlen(label), NULL, 10) : 0;
}

int forkq__proc_memory(pid_t pid, uint64_t address, void *data, size_t size) {
  struct iovec to = { data, size };
  struct iovec from = { (void *)(uintptr_t)address, size };
  ssize_t n = process_vm_readv(pid, &to, 1, &from, 1, 0);
  return n < 0 ? -errno : (size_t)n == size ? 0 : -EFAULT;
}
