/* Descriptors over a Unix socket. */
#define _GNU_SOURCE
#include "base/os_impl.h"

#include <errno.h>
#include <forkq/base.h>
#include <string.h>
#include <sys/socket.h>

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
                           size_t count, int flags) {
  int r = check_unix(socket);
  if (r < 0)
    return r;
  union beside beside = { .space = { 0 } };
  struct iovec part = { (void *)(uintptr_t)data, size };
  struct msghdr message = { .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = &beside,
                            .msg_controllen =
                                (socklen_t)CMSG_SPACE(count * sizeof *fds) };
  beside.header.cmsg_level = SOL_SOCKET;
  beside.header.cmsg_type = SCM_RIGHTS;
  beside.header.cmsg_len = (socklen_t)CMSG_LEN(count * sizeof *fds);
  memcpy(CMSG_DATA(&beside.header), fds, count * sizeof *fds);
  return UNCANCELLED(sendmsg(socket, &message, MSG_NOSIGNAL | flags));
}

/* Closes the descriptor of the sender's process, which forkq did not ask for. The number may be
 * an error instead. */
static void close_pidfd(struct cmsghdr *header) {
  int pidfd;
  memcpy(&pidfd, CMSG_DATA(header), sizeof pidfd);
  if (pidfd >= 0)
    forkq__os_close(pidfd);
}

/* Descriptors that come with a message. The receiver owns the first `room` of them; the others are
 * closed. */
struct arrival {
  int *fds;
  size_t room;
  size_t count; /* how many came */
  bool cut;     /* there were more, which did not fit into the process's table */
};

/* Takes the descriptors of a control message. */
static void take_fds(struct cmsghdr *header, struct arrival *arrival) {
  size_t more = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  for (size_t i = 0; i < more; i++, arrival->count++) {
    int fd;
    memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
    if (arrival->count < arrival->room)
      arrival->fds[arrival->count] = fd;
    else
      forkq__os_close(fd);
  }
}

/* recvmsg(2). Fills in `count` and `cut`. */
static ssize_t receive_beside(int socket, struct iovec part, int flags,
                              struct arrival *arrival) {
  union beside beside;
  struct msghdr message = { .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = &beside,
                            .msg_controllen = sizeof beside };
  ssize_t r = UNCANCELLED(recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags));
  if (r < 0)
    return r;
  arrival->count = 0;
  arrival->cut = (message.msg_flags & MSG_CTRUNC) != 0;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET)
      continue;
    if (header->cmsg_type == SCM_RIGHTS)
      take_fds(header, arrival);
    else if (header->cmsg_type == SCM_PIDFD)
      close_pidfd(header);
  }
  return r;
}

ssize_t forkq__os_fd_send(int socket, unsigned char byte, int fd) {
  return send_beside(socket, &byte, 1, &fd, 1, 0);
}

ssize_t forkq__os_fd_receive(int socket, unsigned char *ret_byte, int *ret_fd,
                             bool *ret_lost) {
  int fd = -1;
  struct arrival arrival = { .fds = &fd, .room = 1 };
  ssize_t r = receive_beside(socket, (struct iovec){ ret_byte, 1 }, 0, &arrival);
  if (r < 0)
    return r;
  /* If no byte came, a descriptor can only come from a sender that sent no bytes. */
  if (r == 0 && fd >= 0)
    forkq__os_close(fd);
  *ret_fd = r == 0 ? -1 : fd;
  *ret_lost = arrival.cut || arrival.count > 1;
  return r;
}

static int send_whole(int socket, const void *data, size_t size, const int *fds,
                      size_t count, int flags) {
  ssize_t n = send_beside(socket, data, size, fds, count, flags);
  if (n < 0)
    return (int)n;
  return (size_t)n == size ? 0 : -EMSGSIZE;
}

int forkq__os_fds_send(int socket, const void *data, size_t size, const int *fds,
                       size_t count) {
  return send_whole(socket, data, size, fds, count, 0);
}

int forkq__os_fds_send_soon(int socket, const void *data, size_t size, const int *fds,
                            size_t count) {
  return send_whole(socket, data, size, fds, count, MSG_DONTWAIT);
}

/* Moves all descriptors above the standard streams. After a failure, none is open. */
static int all_above_stdio(int *fds, size_t count) {
  int r = 0;
  for (size_t i = 0; i < count; i++) {
    fds[i] = forkq__os_above_stdio(fds[i]);
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
static int judge_arrival(bool whole, const struct arrival *arrival) {
  return whole && arrival->count <= arrival->room && arrival->cut ? -EMFILE
                                                                  : FORKQ_EHANDOVER;
}

int forkq__os_fds_receive(int socket, void *data, size_t size, int *fds, size_t count) {
  struct arrival arrival = { .fds = fds, .room = count };
  ssize_t n = receive_beside(socket, (struct iovec){ data, size }, MSG_WAITALL, &arrival);
  if (n < 0)
    return (int)n;
  bool whole = (size_t)n == size;
  if (whole && arrival.count == count && !arrival.cut)
    return all_above_stdio(fds, count);
  for (size_t i = 0; i < arrival.count && i < count; i++)
    forkq__os_close(fds[i]);
  if (n == 0 && arrival.count == 0 && !arrival.cut)
    return FORKQ_EEOF;
  return judge_arrival(whole, &arrival);
}
