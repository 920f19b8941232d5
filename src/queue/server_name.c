/* The path of a server: taking it from nobody or from a dead server, and giving it up.
 *
 * A socket at the path is a dead server's if it refuses a connection. But a server that has bound its
 * socket and does not listen yet refuses, too; and two servers that find a dead one's socket could each
 * remove the other's new one. So a server has a lock of the directory while it looks, removes, binds and
 * listens. The kernel drops that lock with its process, so it cannot be left behind, as a lock file
 * can. It also works where file systems are shared and abstract names are not. To bind elsewhere and
 * rename would need no lock, but a killed server would leave its temporary name.
 *
 * The path is removed without the lock: as long as this process listens, no other server takes it. */
#include "queue/server_impl.h"

#include "base/heap.h"
#include "base/os.h"

#include <errno.h>
#include <string.h>

/* How long a server waits for the lock. Others have it for less than a millisecond. */
#define LOCK_MS 5000

/* A program that does not lock may take the path, or remove it, so many times. */
#define TRIES_MAX 8

int forkq__server_name_open(struct forkq__server_name *name, const char *path) {
  const char *slash = strrchr(path, '/');
  const char *file = slash != NULL ? slash + 1 : path;
  char directory[sizeof(struct sockaddr_un)];
  size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
  if (*file == '\0' || length >= sizeof directory)
    return FORKQ_ERANGE;
  memcpy(directory, path, length);
  directory[length] = '\0';
  name->file = forkq__malloc(strlen(file) + 1);
  if (name->file == NULL)
    return -ENOMEM;
  memcpy(name->file, file, strlen(file) + 1);
  int r = forkq__os_directory_open(length > 0 ? directory : ".");
  name->directory = r;
  return r < 0 ? r : 0;
}

/* Whether a server lives there: 1, 0, or a negative errno. */
static int is_served(const struct forkq__address *address) {
  int socket = forkq__os_socket();
  if (socket < 0)
    return socket;
  int r = forkq__os_connect(socket, address, FORKQ__NOWAIT);
  forkq__os_close(socket);
  if (r == -ECONNREFUSED)
    return 0;
  bool is_other_kind = r == -EPROTOTYPE;
  return r == 0 || r == FORKQ_TIMEDOUT || is_other_kind ? 1 : r;
}

/* Removes the socket of a dead server: 0, if the path can be tried again. */
static int remove_dead(const struct forkq__server_name *name,
                       const struct forkq__address *address) {
  uint64_t identity;
  int r = forkq__os_name_identify(name->directory, name->file, &identity);
  if (r == 0)
    return -EEXIST;
  if (r > 0)
    r = is_served(address);
  if (r > 0)
    return FORKQ_EINUSE;
  if (r == 0)
    r = forkq__os_name_remove(name->directory, name->file);
  return r == -ENOENT ? 0 : r;
}

static int listen_at(const struct forkq__server_name *name, int listener,
                     const struct forkq__address *address) {
  int r = -EADDRINUSE;
  for (int i = 0; i < TRIES_MAX && r == -EADDRINUSE; i++) {
    r = forkq__os_listen(listener, address);
    if (r != -EADDRINUSE || name->directory < 0)
      break;
    r = remove_dead(name, address);
    if (r < 0)
      return r;
    r = -EADDRINUSE;
  }
  return r == -EADDRINUSE ? FORKQ_EINUSE : r;
}

/* Whoever is allowed must be able to reach the socket. */
static int share(struct forkq__server_name *name, const forkq_server_options_t *options) {
  unsigned mode = options->by_group ? 0660 : options->allow != NULL ? 0666 : 0600;
  int r = forkq__os_name_identify(name->directory, name->file, &name->identity);
  if (r < 0)
    return r;
  name->taken = true;
  r = forkq__os_name_share(name->directory, name->file, mode,
                           options->by_group ? &options->group : NULL);
  if (r < 0)
    forkq__server_name_drop(name);
  return r;
}

int forkq__server_name_take(struct forkq__server_name *name, int listener,
                            const struct forkq__address *address,
                            const forkq_server_options_t *options) {
  if (name->directory < 0)
    return listen_at(name, listener, address);
  int r = forkq__os_directory_lock(name->directory,
                                   forkq__os_deadline_within(FORKQ__FOREVER, LOCK_MS));
  if (r < 0)
    return r;
  r = listen_at(name, listener, address);
  if (r == 0)
    r = share(name, options);
  forkq__os_directory_unlock(name->directory);
  return r;
}

void forkq__server_name_drop(struct forkq__server_name *name) {
  uint64_t identity;
  if (!name->taken)
    return;
  name->taken = false;
  if (forkq__os_name_identify(name->directory, name->file, &identity) == 1 &&
      identity == name->identity)
    (void)forkq__os_name_remove(name->directory, name->file);
}

void forkq__server_name_close(struct forkq__server_name *name) {
  int directory = name->directory;
  name->directory = -1;
  if (directory >= 0)
    forkq__os_close(directory);
  forkq__free(name->file);
  name->file = NULL;
}
