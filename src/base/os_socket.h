/* Unix sockets that have a name: listening, connecting, and who is at the other end; and the names
 * of sockets in directories. As os.h: results, EINTR, cancellation, close-on-exec. */
#ifndef FORKQ_OS_SOCKET_H
#define FORKQ_OS_SOCKET_H

#include <forkq/serve.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

/* The address of a path, or of the abstract name after an '@'. address returns 0, or FORKQ_ERANGE
 * if the path is too long, or empty. */
struct forkq__address {
  struct sockaddr_un un;
  socklen_t size;
  bool is_abstract;
};
int forkq__os_address(const char *path, struct forkq__address *ret_address);

/* A stream socket. */
int forkq__os_socket(void);

/* listen binds the socket, and listens. The file of a path is made for this user alone. It returns
 * -EADDRINUSE if the name is taken. After another failure, the name is not taken. */
int forkq__os_listen(int socket, const struct forkq__address *address);

/* Refuses all who connect from now on, whoever else has the socket. */
void forkq__os_refuse(int socket);

/* Makes a socket that listens fit for accept. -EINVAL: it is no Unix stream socket that listens. */
int forkq__os_adopt_listener(int socket);

/* Accepts a connection. -EAGAIN: there is none. */
int forkq__os_accept(int socket);

/* Connects, or waits until the deadline for a place in the line: 0, FORKQ_TIMEDOUT, or a negative errno. */
int forkq__os_connect(int socket, const struct forkq__address *address, int64_t deadline);

/* Who has connected; or, where this process has connected, who listened. is_peer_in_group also looks at
 * the groups that a process has beside its own. */
int forkq__os_peer(int socket, forkq_peer_t *ret_peer);
bool forkq__os_is_peer_in_group(int socket, const forkq_peer_t *peer, unsigned group);
unsigned forkq__os_user(void);

/* Reads what has come without taking it, and without waiting. */
ssize_t forkq__os_socket_peek(int socket, void *data, size_t size);

/* A directory, with a lock (flock(2)) that one process has at a time. lock waits until the deadline:
 * FORKQ_TIMEDOUT. */
int forkq__os_directory_open(const char *path);
int forkq__os_directory_lock(int directory, int64_t deadline);
void forkq__os_directory_unlock(int directory);

/* A name in a directory. identify returns 1 for a socket, which has *ret_identity then, 0 for anything
 * else, or a negative errno. share gives the file these permissions, and, unless it is NULL, this
 * group. */
int forkq__os_name_identify(int directory, const char *name, uint64_t *ret_identity);
int forkq__os_name_remove(int directory, const char *name);
int forkq__os_name_share(int directory, const char *name, unsigned mode,
                         const unsigned *group);

/* A descriptor that is readable from a time on; FORKQ__FOREVER: never. */
int forkq__os_timer_create(void);
void forkq__os_timer_set(int timer, int64_t at);

#endif
