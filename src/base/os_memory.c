/* Shared memory: making it, reserving it, and reading and writing it as a file. */
#define _GNU_SOURCE
#include "base/os_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <forkq/base.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

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
  int fd =
      forkq__os_above_stdio(RETRY(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)));
  if (fd < 0)
    return fd;
  int r = set_size(fd, size, more);
  if (r < 0) {
    forkq__os_close(fd);
    return r;
  }
  return fd;
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
    if (forkq__os_is_refusal(r))
      return touch_pages(fd, at, end);
  }
  return r;
}

/* An access beyond the end of the file would be a SIGBUS. */
int forkq__os_memory_map(int fd, int64_t offset, size_t size, void **ret_memory) {
  struct stat status;
  if (fstat(fd, &status) != 0)
    return -errno;
  if (offset > status.st_size || (int64_t)size > status.st_size - offset)
    return -EFBIG;
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
  if (memory == MAP_FAILED)
    return -errno;
  *ret_memory = memory;
  return 0;
}

/* A dump would read all of it, also what is a hole, which makes the hole memory. */
void forkq__os_memory_omit(void *memory, size_t size) {
  (void)madvise(memory, size, MADV_DONTDUMP);
}

/* All of it, as a part would split the mapping, of which a process may have only so many. */
int forkq__os_memory_forget(void *memory, size_t size) {
  void *mapped = mmap(memory, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  return mapped == MAP_FAILED ? -errno : 0;
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

void forkq__os_memory_release(int fd, int64_t offset, int64_t size) {
  (void)UNCANCELLED(
      fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size));
}

int forkq__os_memory_check(int fd, size_t size) {
  struct stat status;
  int seals = RETRY(fcntl(fd, F_GET_SEALS));
  bool good = seals >= 0 && (seals & F_SEAL_SHRINK) && fstat(fd, &status) == 0 &&
              status.st_size >= (off_t)size;
  return good ? 0 : FORKQ_EHANDOVER;
}
