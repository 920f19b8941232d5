/* Connecting to a server. */
#define _GNU_SOURCE
#include "redis/net.h"

#include "base/os_impl.h"
#include "base/os_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

/* A peer that is gone without a word is found after a minute. */
#define KEEPALIVE_IDLE_S 30
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_TRIES 3

static void set(int fd, int level, int name, int value) {
  (void)RETRY(setsockopt(fd, level, name, &value, sizeof value));
}

static void tune(int fd) {
  set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
  set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
  set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_TRIES);
}

static int await(int fd, const struct forkq__patience *patience) {
  struct pollfd writable = { .fd = fd, .events = POLLOUT };
  int r = patience->poll(patience->arg, &writable, patience->deadline);
  if (r <= 0)
    return r < 0 ? r : FORKQ_TIMEDOUT;
  int error = 0;
  r = RETRY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){ sizeof error }));
  return r < 0 ? r : -error;
}

static int connect_one(const struct addrinfo *info,
                       const struct forkq__patience *patience) {
  int fd = forkq__os_above_stdio(
      RETRY(socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
  if (fd < 0)
    return fd;
  int r = UNCANCELLED(connect(fd, info->ai_addr, info->ai_addrlen));
  if (r == -EINPROGRESS)
    r = await(fd, patience);
  if (r < 0) {
    forkq__os_close(fd);
    return r;
  }
  tune(fd);
  return fd;
}

/* getaddrinfo(3) is a cancellation point. */
static int look_up(const struct forkq__redis_config *config, struct addrinfo **ret_all) {
  const struct addrinfo wish = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  int failed = getaddrinfo(config->place, config->port, &wish, ret_all);
  pthread_setcancelstate(state, NULL);
  if (failed == 0)
    return 0;
  return failed == EAI_MEMORY ? -ENOMEM : -EHOSTUNREACH;
}

static int connect_host(const struct forkq__redis_config *config,
                        const struct forkq__patience *patience) {
  struct addrinfo *all;
  int r = look_up(config, &all);
  if (r < 0)
    return r;
  r = -EHOSTUNREACH;
  for (const struct addrinfo *info = all; r < 0 && info != NULL; info = info->ai_next)
    r = connect_one(info, patience);
  freeaddrinfo(all);
  return r;
}

static int connect_path(const struct forkq__redis_config *config, int64_t deadline) {
  struct forkq__address address;
  int r = forkq__os_address(config->place, &address);
  if (r < 0)
    return r;
  int fd = forkq__os_socket();
  if (fd < 0)
    return fd;
  r = forkq__os_connect(fd, &address, deadline);
  if (r == 0)
    r = RETRY(fcntl(fd, F_SETFL, O_NONBLOCK));
  if (r < 0) {
    forkq__os_close(fd);
    return r;
  }
  return fd;
}

int forkq__net_connect(const struct forkq__redis_config *config,
                       const struct forkq__patience *patience) {
  return config->is_unix ? connect_path(config, patience->deadline)
                         : connect_host(config, patience);
}

ssize_t forkq__net_write(int fd, const void *data, size_t size) {
  return UNCANCELLED(send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT));
}

ssize_t forkq__net_read(int fd, void *data, size_t size) {
  return UNCANCELLED(recv(fd, data, size, MSG_DONTWAIT));
}
