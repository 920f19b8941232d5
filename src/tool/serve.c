/* forkq serve: a process that does nothing but hold a queue, and give it to those who connect. */
#define _GNU_SOURCE
#include "tool/commands.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <forkq.h>
#include <grp.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define DRAIN_MS 5000 /* if not told otherwise */
#define LOOK_MS 20    /* how often it looks whether all was got */

/* sd_listen_fds(3) */
#define FIRST_OF_SYSTEMD 3

struct serve {
  forkq_queue_t *queue;
  forkq_server_t *server;
  const char *path; /* NULL: the socket is systemd's */
  forkq_queue_options_t queue_options;
  forkq_server_options_t server_options;
  int drain_ms;
  bool json;
};

/* ---- systemd ------------------------------------------------------------------------------- */

/* As sd_notify(3): says it to the socket that systemd names, if it does. */
static void notify(const char *state) {
  const char *name = getenv("NOTIFY_SOCKET");
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  size_t length = name != NULL ? strlen(name) : 0;
  if (length < 2 || length >= sizeof address.sun_path ||
      (name[0] != '/' && name[0] != '@'))
    return;
  memcpy(address.sun_path, name, length);
  if (name[0] == '@')
    address.sun_path[0] = '\0';
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return;
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
  (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
                size);
  close(fd);
}

/* How many sockets systemd has passed to this process. */
static int passed_sockets(void) {
  const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
  bool is_for_us = pid != NULL && fds != NULL && atoi(pid) == (int)getpid();
  return is_for_us ? atoi(fds) : 0;
}

static int take_socket(const struct forkq__tool_command *self, struct serve *serve) {
  int count = passed_sockets();
  if (count == 0)
    return forkq__tool_misuse(self, "at which path?");
  if (count != 1)
    return forkq__tool_misuse(self, "systemd passes %d sockets; one is served", count);
  if (fcntl(FIRST_OF_SYSTEMD, F_SETFD, FD_CLOEXEC) < 0)
    return forkq__tool_say_error(-errno, "the socket of systemd");
  serve->server_options.socket = FIRST_OF_SYSTEMD;
  return FORKQ__TOOL_GOES_ON;
}

/* ---- the end ------------------------------------------------------------------------------- */

/* Waits for one of the signals that end this process: whether it came. */
static bool wait_for_signal(const sigset_t *signals, const struct timespec *limit) {
  int r;
  do {
    r = limit != NULL ? sigtimedwait(signals, NULL, limit) : sigwaitinfo(signals, NULL);
  } while (r < 0 && errno == EINTR);
  return r > 0;
}

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Whether everything was got, and in a joinable queue done. */
static bool is_drained(const struct serve *serve) {
  if (forkq_queue_qsize(serve->queue) > 0)
    return false;
  return !serve->queue_options.joinable ||
         forkq_queue_join(serve->queue, 0, NULL) != FORKQ_TIMEDOUT;
}

/* Lets the clients get what is there. A second signal ends that. */
static bool drain(const struct serve *serve, const sigset_t *signals) {
  const struct timespec moment = { 0, LOOK_MS * 1000000L };
  const int64_t end = now_ms() + serve->drain_ms;
  while (!is_drained(serve))
    if (now_ms() >= end || wait_for_signal(signals, &moment))
      return false;
  return true;
}

/* What was put and will not be got, unless clients that have the queue do. */
static int say_what_is_left(const struct serve *serve, bool drained) {
  int64_t left = forkq_queue_qsize(serve->queue);
  if (serve->json)
    printf("{\"left\": %" PRId64 ", \"drained\": %s}\n", left > 0 ? left : 0,
           drained ? "true" : "false");
  else if (left > 0)
    forkq__tool_say("%" PRId64 " items were left", left);
  else if (!drained)
    forkq__tool_say("tasks were left that are not done");
  return drained ? FORKQ__TOOL_OK : FORKQ__TOOL_TIMEOUT;
}

static int end(struct serve *serve, const sigset_t *signals) {
  notify("STOPPING=1");
  int r = forkq_queue_shutdown(serve->queue, 0);
  if (r < 0)
    return forkq__tool_say_error(r, "cannot shut the queue down");
  return say_what_is_left(serve, drain(serve, signals));
}

/* ---- the beginning ------------------------------------------------------------------------- */

/* A group by its name or number. */
static bool read_group(const char *text, unsigned *ret_group) {
  const struct group *group = getgrnam(text);
  char *end;
  errno = 0;
  unsigned long number = strtoul(text, &end, 10);
  bool is_number = isdigit((unsigned char)text[0]) && *end == '\0' && errno == 0 &&
                   number < UINT32_MAX;
  if (group == NULL && !is_number)
    return false;
  *ret_group = group != NULL ? group->gr_gid : (unsigned)number;
  return true;
}

static int open_all(struct serve *serve) {
  int r = forkq_queue_create_with(&serve->queue, &serve->queue_options);
  if (r < 0)
    return forkq__tool_say_error(r, "cannot make a queue");
  r = forkq_queue_serve(&serve->server, serve->queue, serve->path,
                        &serve->server_options);
  if (r == FORKQ_EINUSE)
    return forkq__tool_say("a server has the name %s", serve->path);
  if (r == FORKQ_ERANGE)
    return forkq__tool_say("the name %s is empty, or has more than 107 bytes",
                           serve->path);
  return r < 0 ? forkq__tool_say_error(r, "cannot serve %s",
                                       serve->path != NULL ? serve->path
                                                           : "the socket of systemd")
               : FORKQ__TOOL_GOES_ON;
}

/* The signals that end this process: those that it was not started to ignore, as by nohup(1). The kernel
 * keeps a blocked signal also if it is ignored. */
static void choose_signals(sigset_t *ret_signals) {
  static const int ends[] = { SIGTERM, SIGINT, SIGHUP };
  sigemptyset(ret_signals);
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
    struct sigaction action;
    if (sigaction(ends[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
      sigaddset(ret_signals, ends[i]);
  }
}

/* The signals are blocked before there is a thread, which would be ended by them. */
static int serve_until_signal(struct serve *serve) {
  sigset_t signals;
  choose_signals(&signals);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  int code = open_all(serve);
  if (code == FORKQ__TOOL_GOES_ON) {
    notify("READY=1");
    (void)wait_for_signal(&signals, NULL);
    code = end(serve, &signals);
  }
  forkq_server_destroy(serve->server);
  forkq_queue_destroy(serve->queue);
  return code;
}

static int run(const struct forkq__tool_command *self, int argc, char **argv) {
  struct serve serve = { .queue_options = FORKQ_QUEUE_OPTIONS_INIT,
                         .server_options = FORKQ_SERVER_OPTIONS_INIT,
                         .drain_ms = DRAIN_MS };
  bool joinable = false;
  const char *name = NULL, *group = NULL;
  const struct forkq__tool_option options[] = {
    { .name = "maxsize",
      .argument = "N",
      .help = "room for N items; 0, or none: no limit",
      .number = &serve.queue_options.maxsize },
    { .name = "joinable", .help = "with task_done and join", .flag = &joinable },
    { .name = "name", .argument = "NAME", .help = "as forkq ls shows it", .text = &name },
    { .name = "group",
      .argument = "GROUP",
      .help = "members may have the queue, too; else only this user",
      .text = &group },
    { .name = "drain",
      .argument = "SECONDS",
      .help = "how long clients may get what is left, after a signal; none: 5",
      .timeout_ms = &serve.drain_ms },
    FORKQ__TOOL_JSON(&serve.json),
    { 0 },
  };
  int code = forkq__tool_parse(self, options, &argc, argv);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  if (argc > 1)
    return forkq__tool_misuse(self, "only one path is served");
  if (group != NULL && !read_group(group, &serve.server_options.group))
    return forkq__tool_misuse(self, "no such group: %s", group);
  serve.path = argc == 1 ? argv[0] : NULL;
  if (serve.path == NULL)
    code = take_socket(self, &serve);
  serve.queue_options.joinable = joinable;
  serve.queue_options.name = name;
  serve.server_options.by_group = group != NULL;
  return code != FORKQ__TOOL_GOES_ON ? code : serve_until_signal(&serve);
}

const struct forkq__tool_command forkq__tool_serve = {
  "serve", "[PATH]", "hold a queue, and give it to programs that connect to a path", run
};
