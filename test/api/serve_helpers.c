#define _GNU_SOURCE
#include "serve_helpers.h"
#include "shared/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_MS 20000

forkq_server_t *server;
char directory[SERVE_DIRECTORY], path[SERVE_DIRECTORY + 8];

void serve_set_up(void) {
  fds_before = support_open_fds();
  const char *parent = getenv("TMPDIR");
  int n = snprintf(directory, sizeof directory, "%s/forkq-serve-XXXXXX",
                   parent != NULL ? parent : "/tmp");
  ck_assert_msg(n < (int)sizeof directory, "TMPDIR is too long for the path of a socket");
  ck_assert_ptr_nonnull(mkdtemp(directory));
  ck_assert_int_lt(snprintf(path, sizeof path, "%s/queue", directory), (int)sizeof path);
  ck_assert_int_eq(forkq_queue_create(&queue, 2000), 0);
  server = NULL;
}

void served_set_up(void) {
  serve_set_up();
  ck_assert_int_eq(forkq_queue_serve(&server, queue, path, NULL), 0);
}

void serve_tear_down(void) {
  forkq_server_destroy(server);
  ck_assert_int_eq(names(), 0);
  ck_assert_int_eq(rmdir(directory), 0);
  queue_tear_down();
}

int names(void) {
  DIR *dir = opendir(directory);
  int count = -2; /* "." and ".." */
  ck_assert_ptr_nonnull(dir);
  while (readdir(dir) != NULL)
    count++;
  closedir(dir);
  return count;
}

int child_connect_result(const char *name, const forkq_connect_options_t *options) {
  forkq_queue_t *connected = NULL;
  forkq_queue_destroy(queue);
  queue = NULL;
  int r = forkq_queue_connect(&connected, name, PATIENCE_MS, options);
  forkq_queue_destroy(connected);
  return r;
}

forkq_queue_t *child_connect(const char *name) {
  forkq_queue_t *connected = NULL;
  forkq_queue_destroy(queue);
  queue = NULL;
  CHILD_MUST(forkq_queue_connect(&connected, name, PATIENCE_MS, NULL) == 0);
  return connected;
}

void connect_and_put(void *value) {
  forkq_queue_t *connected = child_connect(path);
  CHILD_MUST(put_int(connected, *(int *)value, -1) == 0);
  forkq_queue_destroy(connected);
}

static socklen_t address_of(const char *name, struct sockaddr_un *ret_address) {
  *ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
  memcpy(ret_address->sun_path, name, strlen(name));
  if (name[0] == '@')
    ret_address->sun_path[0] = '\0';
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name) +
                     (name[0] != '@'));
}

int raw_connect(const char *name) {
  struct sockaddr_un address;
  socklen_t size = address_of(name, &address);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, size), 0);
  return fd;
}

int raw_listen(const char *name, int type, int backlog) {
  struct sockaddr_un address;
  socklen_t size = address_of(name, &address);
  int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, size), 0);
  if (type == SOCK_STREAM)
    ck_assert_int_eq(listen(fd, backlog), 0);
  return fd;
}

void raw_greet(int socket) {
  char text[24] = "";
  snprintf(text, sizeof text, "forkq:%u:", FORKQ__SEGMENT_LAYOUT);
  ck_assert_int_eq(send(socket, text, sizeof text, MSG_NOSIGNAL), sizeof text);
}

int raw_answer(int socket, char *text, size_t size, int *ret_fds) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(16 * sizeof(int))];
  } control;
  struct iovec part = { text, size };
  struct msghdr message = { .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof control };
  struct pollfd ready = { .fd = socket, .events = POLLIN };
  ck_assert_int_eq(poll(&ready, 1, PATIENCE_MS), 1);
  int n = (int)recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  *ret_fds = 0;
  struct cmsghdr *header = n >= 0 ? CMSG_FIRSTHDR(&message) : NULL;
  if (header == NULL || header->cmsg_type != SCM_RIGHTS)
    return n;
  int count = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
  for (int i = 0; i < count; i++) {
    int fd;
    memcpy(&fd, CMSG_DATA(header) + (size_t)i * sizeof fd, sizeof fd);
    close(fd);
  }
  *ret_fds = count;
  return n;
}

void until_hung_up(int socket) {
  struct pollfd end = { .fd = socket };
  ck_assert_int_eq(poll(&end, 1, PATIENCE_MS), 1);
  ck_assert_int_ne(end.revents & POLLHUP, 0);
}
