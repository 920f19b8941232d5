/* A proxy between a queue and its server. */
#define _GNU_SOURCE
#include "proxy.h"

#include "redis_server.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PAIRS 64
#define PIECE (16 * 1024)
#define MILLION 1000000

enum action { PASS, CUT, FREEZE };
enum { NOT_YET, BEGINS, DONE };

/* Shared by the proxy and the tests. */
struct plan {
  _Atomic int action;
  _Atomic int way;
  _Atomic uint64_t at, passed;
  _Atomic int fired;
  _Atomic int down_after, down;
  _Atomic int thaw;
  _Atomic uint64_t seed;
  _Atomic uint32_t cut, late; /* of a million */
  _Atomic uint64_t cuts;
};

struct pair {
  int fds[2]; /* of the client, and of the server; -1: none */
  bool frozen;
};

static struct plan *plan;
static int listener, wake_fd;
static pid_t proxy;
static char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)], url[512];
static struct pair pairs[PAIRS];

/* ---- in the proxy --------------------------------------------------------------------------- */

static int dial(const char *to) {
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  snprintf(address.sun_path, sizeof address.sun_path, "%s", to);
  if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
    return fd;
  close(fd);
  return -1;
}

static void end_pair(struct pair *pair) {
  close(pair->fds[0]);
  close(pair->fds[1]);
  pair->fds[0] = pair->fds[1] = -1;
  pair->frozen = false;
}

static void let_in(void) {
  int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  struct pair *free_one = NULL;
  for (int i = 0; i < PAIRS; i++)
    if (pairs[i].fds[0] < 0)
      free_one = &pairs[i];
  if (client < 0)
    return;
  int server = atomic_load(&plan->down) || free_one == NULL ? -1 : dial(server_path());
  if (server < 0)
    close(client);
  else
    *free_one = (struct pair){ { client, server }, false };
}

static bool pass_on(int to, const char *piece, ssize_t size) {
  while (size > 0) {
    ssize_t n = send(to, piece, (size_t)size, MSG_NOSIGNAL);
    if (n < 0 && errno != EINTR)
      return false;
    piece += n > 0 ? n : 0;
    size -= n > 0 ? n : 0;
  }
  return true;
}

/* The plan is over with this pair. */
static void fire(struct pair *pair, int action) {
  atomic_store(&plan->action, PASS);
  if (atomic_load(&plan->down_after))
    atomic_store(&plan->down, 1);
  if (action == CUT)
    end_pair(pair);
  else
    pair->frozen = true;
  atomic_store(&plan->fired, DONE);
}

static void end_on_failure(struct pair *pair, bool passed) {
  if (!passed)
    end_pair(pair);
}

/* The test may see the answer before it sees what became of the plan: it is told first. */
static void pass_planned(struct pair *pair, int from, int action) {
  char piece[PIECE];
  uint64_t left = atomic_load(&plan->at) - atomic_load(&plan->passed);
  if (left == 0) {
    fire(pair, action);
    return;
  }
  ssize_t n = recv(pair->fds[from], piece, left < PIECE ? (size_t)left : PIECE, 0);
  bool last = n > 0 && (uint64_t)n == left;
  if (n > 0)
    atomic_fetch_add(&plan->passed, (uint64_t)n);
  if (last)
    atomic_store(&plan->fired, BEGINS);
  bool passed = n > 0 && pass_on(pair->fds[!from], piece, n);
  if (last)
    fire(pair, action);
  else
    end_on_failure(pair, passed);
}

static void pass_random(struct pair *pair, int from) {
  char piece[PIECE];
  uint64_t seed = atomic_load(&plan->seed);
  ssize_t n = recv(pair->fds[from], piece, PIECE, 0);
  bool cut = support_random_below(&seed, MILLION) < atomic_load(&plan->cut);
  bool late = support_random_below(&seed, MILLION) < atomic_load(&plan->late);
  if (late)
    usleep(support_random_below(&seed, 2000));
  if (n > 0 && cut)
    n = support_random_below(&seed, (uint32_t)n + 1);
  atomic_store(&plan->seed, seed);
  bool passed = (n > 0 || cut) && pass_on(pair->fds[!from], piece, n);
  if (cut)
    atomic_fetch_add(&plan->cuts, 1);
  end_on_failure(pair, passed && !cut);
}

static void pass(struct pair *pair, int from) {
  int action = atomic_load(&plan->action);
  if (action != PASS && atomic_load(&plan->way) == from)
    pass_planned(pair, from, action);
  else
    pass_random(pair, from);
}

/* What the client has sent before it went away is still there. */
static void thaw(void) {
  for (int i = 0; i < PAIRS; i++) {
    pairs[i].frozen = false;
    for (int way = 0; way < 2; way++) {
      struct pollfd fd = { .fd = pairs[i].fds[way], .events = POLLIN };
      while (pairs[i].fds[0] >= 0 && poll(&fd, 1, 0) > 0)
        pass(&pairs[i], way);
    }
  }
  atomic_store(&plan->thaw, 0);
}

static void turn(void) {
  struct pollfd fds[2 + 2 * PAIRS] = { { .fd = listener, .events = POLLIN },
                                       { .fd = wake_fd, .events = POLLIN } };
  for (int i = 0; i < 2 * PAIRS; i++) {
    bool watched = !pairs[i / 2].frozen;
    fds[2 + i] =
        (struct pollfd){ .fd = watched ? pairs[i / 2].fds[i % 2] : -1, .events = POLLIN };
  }
  if (poll(fds, 2 + 2 * PAIRS, -1) < 0)
    return;
  for (int i = 0; i < 2 * PAIRS; i++)
    if (fds[2 + i].revents != 0 && pairs[i / 2].fds[0] >= 0 && !pairs[i / 2].frozen)
      pass(&pairs[i / 2], i % 2);
  if (fds[0].revents != 0)
    let_in();
  if (fds[1].revents != 0) {
    eventfd_t value;
    eventfd_read(wake_fd, &value);
    thaw();
  }
}

static void run(void *arg) {
  (void)arg;
  for (int i = 0; i < PAIRS; i++)
    pairs[i].fds[0] = pairs[i].fds[1] = -1;
  for (;;)
    turn();
}

/* ---- in the test ---------------------------------------------------------------------------- */

void proxy_start(void) {
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  server_start(NULL);
  plan = support_shared(sizeof *plan);
  ck_assert_int_lt(snprintf(path, sizeof path, "%s.proxy", server_path()),
                   (int)sizeof path);
  memcpy(address.sun_path, path, sizeof path);
  listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  wake_fd = eventfd(0, EFD_CLOEXEC);
  ck_assert_int_ge(wake_fd, 0);
  ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
  ck_assert_int_eq(listen(listener, PAIRS), 0);
  proxy = support_fork(run, NULL);
  close(listener);
}

void proxy_stop(void) {
  support_kill_and_wait(proxy);
  close(wake_fd);
  server_stop();
}

const char *proxy_url(const char *query) {
  snprintf(url, sizeof url, "redis+unix://%s?%s", path, query);
  return url;
}

static void begin(enum action action, enum proxy_way way, uint64_t at) {
  atomic_store(&plan->action, PASS);
  atomic_store(&plan->way, way);
  atomic_store(&plan->at, at);
  atomic_store(&plan->passed, 0);
  atomic_store(&plan->fired, NOT_YET);
  atomic_store(&plan->down_after, 0);
  atomic_store(&plan->action, action);
}

void proxy_cut(enum proxy_way way, uint64_t at) {
  begin(CUT, way, at);
}

void proxy_freeze(enum proxy_way way, uint64_t at) {
  begin(FREEZE, way, at);
}

void proxy_pass(void) {
  begin(PASS, TO_SERVER, 0);
}

bool proxy_fired(void) {
  int64_t end = support_now_ms() + 10000;
  while (atomic_load(&plan->fired) == BEGINS) {
    ck_assert_int_lt(support_now_ms(), end);
    usleep(20);
  }
  return atomic_load(&plan->fired) == DONE;
}

uint64_t proxy_passed(void) {
  return atomic_load(&plan->passed);
}

void proxy_down_after(void) {
  atomic_store(&plan->down_after, 1);
}

void proxy_down(bool is) {
  atomic_store(&plan->down_after, 0);
  atomic_store(&plan->down, is);
}

void proxy_thaw(void) {
  int64_t end = support_now_ms() + 10000;
  atomic_store(&plan->thaw, 1);
  ck_assert_int_eq(eventfd_write(wake_fd, 1), 0);
  while (atomic_load(&plan->thaw)) {
    ck_assert_int_lt(support_now_ms(), end);
    usleep(20);
  }
}

void proxy_random(uint64_t seed, uint32_t cut, uint32_t late) {
  atomic_store(&plan->seed, seed);
  atomic_store(&plan->cut, cut);
  atomic_store(&plan->late, late);
}

uint64_t proxy_cuts(void) {
  return atomic_load(&plan->cuts);
}
