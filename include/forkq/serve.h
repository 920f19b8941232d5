/* forkq/serve.h: a queue for programs that do not know each other.
 *
 * One program serves its queue under a name, and any other program of the same user connects
 * to it by that name. After that both have the queue as a parent and its forked child have it
 * (forkq/handover.h): no item goes through the server, and clients and server may end in any
 * order. It is the counterpart of a queue that multiprocessing's managers serve.
 *
 *     forkq_queue_serve(&server, queue, "/run/user/1000/jobs", NULL);
 *
 *     forkq_queue_connect(&queue, "/run/user/1000/jobs", 1000, NULL);
 *
 * Names
 *
 *   A name is a path, at which a Unix socket appears, or an '@' and an abstract name
 *   (unix(7)), of which nothing is in any file system: "@jobs". A path that begins with '@'
 *   is written "./@jobs". A path has at most 107 bytes, and so has what follows an '@'.
 *   Network namespaces separate abstract names. Paths only need a file system in common.
 *
 *   Only one server has a name. If the socket at a path is that of a server that lives,
 *   forkq_queue_serve returns FORKQ_EINUSE. If its server was killed, the new server replaces
 *   it. Servers of forkq that start at the same time lock the directory (flock(2)) while they
 *   look at the name and take it, so exactly one of them gets it.
 *
 *   forkq_server_destroy removes the path, and so does exit() in the process that called
 *   forkq_queue_serve. A process that was killed leaves the path, until the next server takes
 *   it. Nothing else is left behind: no lock file, no temporary file.
 *
 * Access
 *
 *   The kernel tells the server which user and process connects (SO_PEERCRED, unix(7)). The
 *   server asks for this before it sends anything of the queue. By default only processes with
 *   the server's effective user get the queue. Options also allow the members of a group, or
 *   let a function decide. Everybody else gets -EACCES.
 *
 *   The client likewise looks who listens, before it opens the queue: by default its own user
 *   or root.
 *
 *   Who has the queue can write anything to its shared memory (SECURITY.md). So the users that
 *   a server allows must trust each other as parent and child do.
 *
 * The server
 *
 *   A server runs on a thread of its own, or on a loop of the program (forkq_server_fileno,
 *   and for libuv forkq/loop_serve.h). A client gets the queue as soon as it has said that it
 *   speaks forkq. A client that says nothing, or does not read, blocks nobody: the server
 *   waits for at most 64 clients at a time, and not longer than 5 s for one. If there are
 *   more, the one that has waited longest is dropped.
 *
 *   The kernel counts the descriptors that are sent and not yet received. Where they are too
 *   many (RLIMIT_NOFILE of the server; some 200 clients that do not read), clients wait until
 *   others have read.
 *
 *   The server needs the queue open in its process, and could hand it to one that puts. So no getter gets
 *   FORKQ_EALONE while the server lives. After a forkq_queue_close, or forkq_queue_close_put, there,
 *   clients get FORKQ_ECLOSED. Destroy the server before the queue.
 *
 * fork
 *
 *   A forked child does not serve: it closes its copies of the server's descriptors, and does
 *   not remove the path. It may call forkq_server_destroy, which frees the memory. A child that
 *   was made with a bare clone(2) and does not call forkq keeps the socket open, and after the
 *   server was killed the name looks as if it were in use until that child ends. */
#ifndef FORKQ_SERVE_H
#define FORKQ_SERVE_H

#include <forkq/queue.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A served queue. */
typedef struct forkq_server forkq_server_t;

/* A process at the other end of a socket, as it was when it connected or began to listen.
 *
 * `pid`     its number; 0 if it is in another PID namespace
 * `user`    its effective user
 * `group`   its effective group
 * `socket`  the connection, for further questions (unix(7)). It stays forkq's. */
typedef struct forkq_peer {
  int pid;
  unsigned user;
  unsigned group;
  int socket;
} forkq_peer_t;

#define FORKQ_PEER_INIT                                                                  \
  { 0, 0, 0, -1 }

/* Decides whether a process may have the queue, or, at a client, whether its queue is to be
 * opened. The result is nonzero if so. `arg` is that of the options. The function runs on the
 * server's thread, or on that of its loop. It must return soon, because other clients wait
 * meanwhile. It must not call forkq, must not throw or jump, and must not end the thread. */
typedef int (*forkq_peer_fn)(const forkq_peer_t *peer, void *arg);

/* How to serve a queue. Begin with FORKQ_SERVER_OPTIONS_INIT, which sets `size` and the
 * defaults, then set the fields you need.
 *
 * Later versions of forkq only add fields at the end. `size` may be smaller than the
 * library's: fields that the caller's struct does not have get their defaults. The smallest
 * valid size is that of this version. Zeroed memory with `size` set is the same as
 * FORKQ_SERVER_OPTIONS_INIT. */
typedef struct forkq_server_options {
  size_t size; /* sizeof(forkq_server_options_t) */
  /* Decides on each process that connects, also of the server's user. NULL: see "Access". A
   * server that is just looking for a free name connects, too, and asks for nothing. */
  forkq_peer_fn allow;
  void *arg; /* for `allow` */
  /* Nonzero: members of `group` may have the queue, too, and the socket's file belongs to that
   * group. Its permissions are 0600 by default, 0660 with a group, and 0666 with `allow` and
   * no group. */
  int by_group;
  unsigned group;
  /* Above 0: a Unix stream socket that listens already, such as one of systemd, and `path` must
   * be NULL. forkq makes it nonblocking. The caller keeps it, and closes it after the server.
   * A forked child has it as well. */
  int socket;
  /* Nonzero: there is no thread. The program calls forkq_server_turn. */
  int no_thread;
} forkq_server_options_t;

#define FORKQ_SERVER_OPTIONS_INIT                                                        \
  { sizeof(forkq_server_options_t), NULL, NULL, 0, 0, 0, 0 }

/* How to connect. Begin with FORKQ_CONNECT_OPTIONS_INIT. `size` is as in
 * forkq_server_options_t. */
typedef struct forkq_connect_options {
  size_t size; /* sizeof(forkq_connect_options_t) */
  /* How this process uses the queue, as in forkq_queue_attach. NULL: the defaults. Borrowed
   * for the call. */
  const forkq_queue_options_t *queue;
  /* Decides whether the process that listens is the right one. NULL: it must have this
   * process's effective user, or be root's. */
  forkq_peer_fn allow;
  void *arg; /* for `allow` */
} forkq_connect_options_t;

#define FORKQ_CONNECT_OPTIONS_INIT                                                       \
  { sizeof(forkq_connect_options_t), NULL, NULL, NULL }

/* Serves the queue under a name. The caller owns *ret_server and destroys it with
 * forkq_server_destroy, before it destroys the queue. `options` may be NULL: the defaults. It
 * uses four descriptors, and one for each client that has not asked yet.
 *
 * Returns: 0. Clients that connect from now on get the queue. After a failure nothing is left
 *   behind.
 * Blocks: while another server takes a name in the directory, or another program has a lock of
 *   it (flock(2)), for at most 5 s. It is not a cancellation point.
 * Errors:
 *   FORKQ_ENULL     `ret_server` or `queue` is NULL; or `path` is, and there is no socket in
 *                   the options
 *   FORKQ_ERANGE    the name is empty, or has more than 107 bytes; `path` ends with '/'; there
 *                   are a path and a socket; options->size is not valid, or options->socket is
 *                   below 0
 *   FORKQ_EINUSE    a server that lives has the name
 *   FORKQ_ECLOSED   this process has closed the queue, or its puts
 *   FORKQ_EPACKING  a packing function made the call
 *   FORKQ_TIMEDOUT  another process has a lock of the directory
 *   FORKQ_ENOTHREAD the thread cannot be started
 *   -EEXIST         the path is not that of a socket. It is left as it is.
 *   -EACCES         the path cannot be made there; or the directory cannot be read; or a socket
 *                   is there to which this process cannot connect
 *   -EINVAL         options->socket is not a Unix stream socket that listens
 *   -EPERM          this process may not give the file to the group
 *   -EDEADLK        see "Signals" in forkq/base.h
 *   -ENOMEM         there is no memory
 *   other           a negative errno of open, bind, fchown and other calls, such as -ENOENT,
 *                   -EROFS, -EMFILE
 * Python: BaseManager(address=path).start() with a registered queue.Queue. There, each call of
 *   a client goes through the manager's process. */
FORKQ_API FORKQ_MUST_CHECK int forkq_queue_serve(forkq_server_t **ret_server,
                                                 forkq_queue_t *queue, const char *path,
                                                 const forkq_server_options_t *options);

/* Gets a descriptor that is readable when a server without a thread has something to do. Poll
 * it, and call forkq_server_turn. It is close-on-exec, and borrowed: valid until
 * forkq_server_destroy.
 *
 * Returns: the descriptor.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL    `server` is NULL
 *   FORKQ_EFORKED  another process serves
 * Python: none. */
FORKQ_API int forkq_server_fileno(const forkq_server_t *server);

/* Gives the queue to clients that ask for it, as far as there are any. For a server without a
 * thread. One thread at a time may call it.
 *
 * Returns: 0.
 * Blocks: never for a client. If another thread of the process is in the middle of a put or a
 *   close, up to 0.1 s.
 * Errors:
 *   FORKQ_ENULL    `server` is NULL
 *   FORKQ_EFORKED  another process serves
 *   -EINVAL        the server has a thread
 * Python: none. */
FORKQ_API int forkq_server_turn(forkq_server_t *server);

/* Ends a server, and frees it. NULL is allowed. The path is removed, if it is still that of this
 * server. Clients that have the queue keep it. Those that wait get FORKQ_EEOF. In a forked child
 * it only frees the child's memory. No other thread may use the server, then or later.
 *
 * Blocks: while the thread serves a client, or is in the function that decides; and while another
 *   thread of the process forks, or creates or destroys a queue.
 * Errors: none.
 * Python: BaseManager.shutdown(), which ends the queue for all. */
FORKQ_API void forkq_server_destroy(forkq_server_t *server);

/* Connects to the server of a name, and opens its queue, as forkq_queue_attach does. The caller
 * owns *ret_queue and destroys it with forkq_queue_destroy. `options` may be NULL: the defaults.
 * The connection is closed before the call returns.
 *
 * If there is no server yet, the call fails at once. A program that may be started before its
 * server calls again, or has systemd make the socket (forkq(1), serve).
 *
 * Returns: 0.
 * Blocks: for at most `timeout_ms`, which covers everything; -1: without limit. It waits for a
 *   place among the clients, and for the answer. With 0, there is hardly time for the answer. It
 *   is neither interrupted (forkq_queue_interrupt) nor a cancellation point.
 * Errors:
 *   FORKQ_TIMEDOUT    the server did not answer in time
 *   FORKQ_ENULL       `ret_queue` or `path` is NULL
 *   FORKQ_ETIMEOUT    timeout_ms is below -1
 *   FORKQ_ERANGE      the name is empty, or has more than 107 bytes; or options->size, or
 *                     something in options->queue, is not valid
 *   -ENOENT           the path does not exist
 *   -ECONNREFUSED     nobody listens at the path, or with that abstract name: the server has
 *                     ended
 *   -EACCES           the server does not give the queue to this process; or this process may not
 *                     write to the socket's file; or the process that listens has another user
 *   FORKQ_EHANDOVER   the process that listens is not forkq
 *   FORKQ_EVERSION    the server has another version of forkq or of the C library
 *   FORKQ_EEOF        the server closed the connection: it ended, or is not forkq
 *   FORKQ_ECLOSED     the server has closed the queue, or its puts
 *   FORKQ_ETWICE      this process already has the queue, and has not destroyed it
 *   FORKQ_ENAMESPACE  the creator of the queue is in another PID namespace, or one of the two
 *                     namespaces is unknown
 *   FORKQ_ENOROBUST   robust mutexes do not work on this system
 *   FORKQ_EPACKING    a packing function made the call
 *   -EPROTOTYPE       the socket is not a stream socket
 *   -ETOOMANYREFS     too many descriptors of the server's user were on their way for 5 s
 *   -EMFILE           the process has no room for the descriptors
 *   -EDEADLK          see "Signals" in forkq/base.h
 *   -ENOMEM           there is no memory
 *   other             a negative errno of socket, connect, recvmsg or mmap
 * Python: BaseManager(address=path).connect(), and a proxy of the queue. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_queue_connect(forkq_queue_t **ret_queue, const char *path, int timeout_ms,
                    const forkq_connect_options_t *options);

#ifdef __cplusplus
}
#endif

#endif
