/* Unix sockets that have a name, and the names of sockets in directories. */
#define _GNU_SOURCE
#include "base/os_socket.h"

#include "base/os_impl.h"
#include "base/times.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Of a process that is in more groups than this, the kernel tells none of them. */
#define GROUPS_MAX 1024

/* A thread that waits for the lock of a directory looks this often. */
#define FIRST_LOOK_MS 1
#define LAST_LOOK_MS 20

/* The kernel takes a path without a NUL at its end, but other programs do not. */
int forkq__os_address(const char *path, struct forkq__address *ret_address) {
  struct sockaddr_un *un = &ret_address->un;
  bool is_abstract = path[0] == '@';
  const char *name = is_abstract ? path + 1 : path;
  size_t length = strlen(name);
  if (length == 0 || length >= sizeof un->sun_path)
    return FORKQ_ERANGE;
  *ret_address = (struct forkq__address){ .un = { .sun_family = AF_UNIX },
                                          .is_abstract = is_abstract };
  memcpy(un->sun_path + is_abstract, name, length);
  ret_address->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
  return 0;
}

int forkq__os_socket(void) {
  return forkq__os_above_stdio(RETRY(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)));
}

static const struct sockaddr *address_of(const struct forkq__address *address) {
  return (const struct sockaddr *)&address->un;
}

/* The file of a socket gets the permissions that the socket has. */
int forkq__os_listen(int socket, const struct forkq__address *address) {
  int r = RETRY(fcntl(socket, F_SETFL, O_NONBLOCK));
  if (r == 0)
    r = RETRY(fchmod(socket, S_IRUSR | S_IWUSR));
  if (r == 0)
    r = RETRY(bind(socket, address_of(address), address->size));
  if (r < 0)
    return r;
  r = RETRY(listen(socket, SOMAXCONN));
  if (r < 0 && !address->is_abstract)
    unlink(address->un.sun_path);
  return r;
}

void forkq__os_refuse(int socket) {
  (void)RETRY(shutdown(socket, SHUT_RDWR));
}

static int option_of(int socket, int name) {
  int value = 0;
  int r =
      RETRY(getsockopt(socket, SOL_SOCKET, name, &value, &(socklen_t){ sizeof value }));
  return r < 0 ? r : value;
}

int forkq__os_adopt_listener(int socket) {
  if (option_of(socket, SO_DOMAIN) != AF_UNIX ||
      option_of(socket, SO_TYPE) != SOCK_STREAM || option_of(socket, SO_ACCEPTCONN) != 1)
    return -EINVAL;
  int flags = RETRY(fcntl(socket, F_GETFL));
  return flags < 0 ? flags : RETRY(fcntl(socket, F_SETFL, flags | O_NONBLOCK));
}

/* A client that has gone again is no failure of the socket that listens. */
int forkq__os_accept(int socket) {
  int fd;
  do {
    fd = UNCANCELLED(accept4(socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
  } while (fd == -ECONNABORTED);
  return forkq__os_above_stdio(fd);
}

/* connect(2) of a Unix socket waits while the line of those who are to be accepted is full, as long as
 * a send would. 0 means without limit. */
static int connect_until(int socket, const struct forkq__address *address,
                         int64_t deadline) {
  int r;
  do {
    int64_t left = deadline - forkq__os_now();
    struct timeval limit = { 0, 0 };
    if (deadline != FORKQ__FOREVER) {
      limit.tv_sec = left > 0 ? (time_t)(left / (1000 * FORKQ__NS_PER_MS)) : 0;
      limit.tv_usec =
          left > 0 ? (suseconds_t)(left / 1000 % (1000 * 1000)) : (suseconds_t)0;
      limit.tv_usec += limit.tv_sec == 0 && limit.tv_usec == 0;
    }
    if (setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0)
      return -errno;
    r = connect(socket, address_of(address), address->size);
  } while (r < 0 && errno == EINTR);
  return r < 0 ? -errno : 0;
}

int forkq__os_connect(int socket, const struct forkq__address *address,
                      int64_t deadline) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  int r = connect_until(socket, address, deadline);
  pthread_setcancelstate(state, NULL);
  return r == -EAGAIN ? FORKQ_TIMEDOUT : r;
}

int forkq__os_peer(int socket, forkq_peer_t *ret_peer) {
  struct ucred credentials;
  socklen_t size = sizeof credentials;
  int r = RETRY(getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size));
  if (r < 0)
    return r;
  *ret_peer = (forkq_peer_t){ .pid = credentials.pid,
                              .user = credentials.uid,
                              .group = credentials.gid,
                              .socket = socket };
  return 0;
}

/* On an older kernel, only the group that counts for the process's files is known. */
bool forkq__os_is_peer_in_group(int socket, const forkq_peer_t *peer, unsigned group) {
  gid_t groups[GROUPS_MAX];
  socklen_t size = sizeof groups;
  if (peer->group == group)
    return true;
  if (RETRY(getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &size)) < 0)
    return false;
  for (size_t i = 0; i < size / sizeof *groups; i++)
    if (groups[i] == group)
      return true;
  return false;
}

unsigned forkq__os_user(void) {
  return geteuid();
}

ssize_t forkq__os_socket_peek(int socket, void *data, size_t size) {
  return UNCANCELLED(recv(socket, data, size, MSG_PEEK | MSG_DONTWAIT));
}

int forkq__os_directory_open(const char *path) {
  return forkq__os_above_stdio(
      UNCANCELLED(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
}

int forkq__os_directory_lock(int directory, int64_t deadline) {
  for (int ms = 0;;) {
    int r = RETRY(flock(directory, LOCK_EX | LOCK_NB));
    if (r != -EWOULDBLOCK)
      return r;
    if (forkq__os_now() >= deadline)
      return FORKQ_TIMEDOUT;
    ms = forkq__back_off(ms, FIRST_LOOK_MS, LAST_LOOK_MS);
    forkq__os_poll(NULL, 0, forkq__os_deadline_within(deadline, ms));
  }
}

void forkq__os_directory_unlock(int directory) {
  (void)RETRY(flock(directory, LOCK_UN));
}

int forkq__os_name_identify(int directory, const char *name, uint64_t *ret_identity) {
  struct stat status;
  if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
    return -errno;
  *ret_identity = forkq__os_identity_of(&status);
  return S_ISSOCK(status.st_mode);
}

int forkq__os_name_remove(int directory, const char *name) {
  return RETRY(unlinkat(directory, name, 0));
}

/* Whoever may write to the directory may have put a link in the place of the name. */
int forkq__os_name_share(int directory, const char *name, unsigned mode,
                         const unsigned *group) {
  int r = 0;
  if (group != NULL)
    r = RETRY(fchownat(directory, name, (uid_t)-1, *group, AT_SYMLINK_NOFOLLOW));
  return r < 0 ? r : RETRY(fchmodat(directory, name, mode, AT_SYMLINK_NOFOLLOW));
}

int forkq__os_timer_create(void) {
  return forkq__os_above_stdio(
      RETRY(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)));
}

/* A time that is over is one that comes at once; zero would be never. */
void forkq__os_timer_set(int timer, int64_t at) {
  struct itimerspec spec = { .it_value = { 0, 0 } };
  if (at != FORKQ__FOREVER)
    spec.it_value = forkq__os_timespec(at > 0 ? at : 1);
  (void)RETRY(timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, NULL));
}
