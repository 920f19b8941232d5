/* The private part of a served queue.
 *
 * server.c has its life, and its thread. server_name.c takes a path, and gives it up. server_clients.c
 * answers those who connect. connect.c is the other side.
 *
 * A client says one thing, FORKQ__GREETING with its layout. So who only looks whether there is a server,
 * and who says nothing, costs no descriptors on their way. The answer has FORKQ_HANDOVER_TEXT bytes: a
 * handover, with its descriptors; or a line that begins as one, with the reason why there are none. */
#ifndef FORKQ_SERVER_IMPL_H
#define FORKQ_SERVER_IMPL_H

#include "base/os_socket.h"
#include "queue/queue_impl.h"

#include <forkq/serve.h>

/* What a client says, and how every answer begins; and the bytes of the former, with NULs at the end. */
#define FORKQ__GREETING "forkq:%u:"
#define FORKQ__GREETING_SIZE 24

/* Reasons, after the layout. */
#define FORKQ__SAYS_REFUSED "refused"
#define FORKQ__SAYS_CLOSED "closed"
#define FORKQ__SAYS_BUSY "busy"
#define FORKQ__SAYS_VERSION "version"

/* Clients for which a server waits at a time. */
#define FORKQ__SERVER_WAITING 64

/* A path that this process has taken. `directory` is -1 if there is none. */
struct forkq__server_name {
  int directory;
  char *file; /* the name in the directory */
  uint64_t identity;
  bool taken;
};

/* A client that has not said yet that it wants the queue; or has, and cannot have it now. */
struct forkq__client {
  int fd; /* -1: nobody */
  bool has_asked;
  int64_t until;
};

/* One thread at a time serves. A fork may come at any time, and so each descriptor is -1 before it is
 * closed. */
struct forkq_server {
  struct forkq__life life;
  unsigned forks; /* of the process that serves */
  forkq_queue_t *queue;
  forkq_server_options_t options;
  struct forkq__server_name name;
  int listener;
  int set;            /* an epoll over all that follows, and the listener */
  int timer;          /* when to look again; also tells the thread to end */
  int64_t resume_at;  /* when to accept again; 0: now */
  bool is_queue_held; /* by another thread, as this turn has found */
  struct forkq__client waiting[FORKQ__SERVER_WAITING];
  uv_thread_t thread;
  uv_sem_t started;
  bool has_thread;
  _Atomic bool stopping;
};

/* open finds the directory of a path. take makes `listener` listen at the address, and shares it as the
 * options say. drop removes the path, if it is still this one, and may be called in any state. close
 * closes and frees what there is. They return 0, or the errors of forkq_queue_serve. */
int forkq__server_name_open(struct forkq__server_name *name, const char *path);
int forkq__server_name_take(struct forkq__server_name *name, int listener,
                            const struct forkq__address *address,
                            const forkq_server_options_t *options);
void forkq__server_name_drop(struct forkq__server_name *name);
void forkq__server_name_close(struct forkq__server_name *name);

/* Answers clients as far as they have asked, and plans the next time. */
void forkq__server_attend(forkq_server_t *server);

#endif
