#define _GNU_SOURCE
#include "connection_helpers.h"

#include <fcntl.h>
#include <string.h>

void reap(pid_t pid) {
  ck_assert_int_eq(support_wait(pid), 0);
}

static int descriptors_before;

void count_descriptors(void) {
  descriptors_before = support_open_fds();
}

void check_descriptors(void) {
  ck_assert_int_eq(support_open_fds(), descriptors_before);
}

void write_all(int fd, const void *data, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t n = write(fd, (const char *)data + done, size - done);
    CHILD_MUST(n > 0);
    done += (size_t)n;
  }
}

void read_all(int fd, void *data, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t n = read(fd, (char *)data + done, size - done);
    CHILD_MUST(n > 0);
    done += (size_t)n;
  }
}

/* Never repeats at a distance that reads or writes are likely to have. */
static char pattern_at(size_t place, unsigned seed) {
  return (char)((place * 31 + place / 251 + seed) & 0xff);
}

char *pattern(size_t size, unsigned seed) {
  char *data = malloc(size + 1);
  CHILD_MUST(data != NULL);
  for (size_t i = 0; i < size; i++)
    data[i] = pattern_at(i, seed);
  return data;
}

int is_pattern(const void *data, size_t size, unsigned seed) {
  for (size_t i = 0; i < size; i++)
    if (((const char *)data)[i] != pattern_at(i, seed))
      return 0;
  return 1;
}

void set_nonblocking(const forkq_connection_t *connection) {
  int fd = forkq_connection_fileno(connection);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

void make_stream(int kind, forkq_connection_t **ret_reader,
                 forkq_connection_t **ret_writer) {
  OK(forkq_pipe(ret_reader, ret_writer, kind == SOCKET || kind == SOCKET_NONBLOCKING));
  if (kind == PIPE_NONBLOCKING || kind == SOCKET_NONBLOCKING) {
    set_nonblocking(*ret_reader);
    set_nonblocking(*ret_writer);
  }
}

struct test_heap test_heap;

/* In front of each block stands its size. */
#define HEAD 16

static int heap_fails(void) {
  int n = ++test_heap.requests;
  return test_heap.fail_at > 0 && n >= test_heap.fail_at &&
         n < test_heap.fail_at + test_heap.fail_count;
}

static void *heap_realloc(void *memory, size_t size, void *arg) {
  (void)arg;
  if (heap_fails())
    return NULL;
  char *old = memory != NULL ? (char *)memory - HEAD : NULL;
  size_t old_size = 0;
  if (old != NULL)
    memcpy(&old_size, old, sizeof old_size);
  char *block = realloc(old, HEAD + size);
  if (block == NULL)
    return NULL;
  memcpy(block, &size, sizeof size);
  test_heap.now += size - old_size;
  if (test_heap.now > test_heap.peak)
    test_heap.peak = test_heap.now;
  return block + HEAD;
}

static void *heap_malloc(size_t size, void *arg) {
  return heap_realloc(NULL, size, arg);
}

static void heap_free(void *memory, void *arg) {
  (void)arg;
  size_t size;
  memcpy(&size, (char *)memory - HEAD, sizeof size);
  test_heap.now -= size;
  free((char *)memory - HEAD);
}

void use_test_heap(void) {
  const forkq_heap_t heap = { heap_malloc, heap_realloc, heap_free, NULL };
  forkq_heap_set(&heap);
  test_heap = (struct test_heap){ .fail_count = 1 };
}
