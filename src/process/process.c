/* Processes: starting them, and what their parent knows of them.
 *
 * A process is registered (lifecycle.h) before the fork. So every other child of this process closes
 * the descriptors of it, and the parent finds all processes that it has not reaped. A process that is
 * destroyed while it runs stays registered until a later call finds that it has ended. */
#include <forkq/process.h>

#include "base/heap.h"
#include "base/lifecycle.h"
#include "base/mutex.h"
#include "base/os.h"
#include "base/times.h"
#include "base/versioned.h"
#include "process/child.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

/* A join looks this often where nothing tells it of the end: without a pidfd, or while a tracer has
 * not yet waited for the process. */
#define FIRST_LOOK_MS 1
#define LAST_LOOK_MS 20

struct descriptor {
  int fd; /* -1: none. Of a pidfd also the negative errno that says why */
  uint64_t identity;
};

struct forkq_process {
  struct forkq__life life;
  unsigned forks; /* of the process that started it */
  pid_t pid;
  struct descriptor pidfd;
  struct descriptor gate[2],
      tether[2];             /* the pipes of child.h; the tether is a daemon's */
  struct forkq__mutex mutex; /* guards what follows, and that nothing else reaps */
  bool ended, known;         /* it was reaped, by us */
  bool left;                 /* nobody has its handle any more */
  int exitcode;
};

/* The process that this thread is starting. */
static _Thread_local forkq_process_t *starting;

static forkq_process_t *process_of(struct forkq__life *life) {
  return (forkq_process_t *)((uintptr_t)life - offsetof(forkq_process_t, life));
}

/* ---- descriptors ----------------------------------------------------------------------------- */

/* Takes an open descriptor, or closes it. */
static int take_descriptor(struct descriptor *descriptor, int fd) {
  int r = forkq__os_identity(fd, &descriptor->identity);
  if (r < 0)
    forkq__os_close(fd);
  else
    descriptor->fd = fd;
  return r;
}

static void close_descriptor(struct descriptor *descriptor) {
  if (descriptor->fd >= 0)
    forkq__os_close_own(descriptor->fd, descriptor->identity);
  descriptor->fd = -1;
}

static void close_both(struct descriptor ends[2]) {
  close_descriptor(&ends[0]);
  close_descriptor(&ends[1]);
}

static void close_all(forkq_process_t *process) {
  close_descriptor(&process->pidfd);
  close_both(process->gate);
  close_both(process->tether);
}

/* The pidfd, or the negative errno that says why there is none. The program may have closed it, and opened
 * another file with its number. */
static int own_pidfd(const forkq_process_t *process) {
  const struct descriptor *pidfd = &process->pidfd;
  return pidfd->fd < 0 || forkq__os_is_file(pidfd->fd, pidfd->identity) ? pidfd->fd
                                                                        : -EBADF;
}

/* ---- fork ------------------------------------------------------------------------------------ */

/* In a child of this process. If it is the one that is being started, it needs the reading ends. */
static void after_fork_child(struct forkq__life *life) {
  forkq_process_t *process = process_of(life);
  close_descriptor(&process->pidfd);
  close_descriptor(&process->gate[1]);
  close_descriptor(&process->tether[1]);
  if (process != starting) {
    close_descriptor(&process->gate[0]);
    close_descriptor(&process->tether[0]);
  }
  forkq__mutex_init(&process->mutex); /* a thread of the parent may have had it */
}

static const struct forkq__life_ops process_ops = { .after_fork_child =
                                                        after_fork_child };

/* ---- the end of a process -------------------------------------------------------------------- */

/* Looks with the mutex, and keeps it, unless this fails. */
static int look_and_hold(forkq_process_t *process) {
  int r = forkq__mutex_lock(&process->mutex, FORKQ__FOREVER);
  if (r < 0 || process->ended)
    return r < 0 ? r : 1;
  r = forkq__os_reap(process->pid, own_pidfd(process), &process->exitcode);
  process->known = r > 0;
  process->ended = r > 0 || r == -ECHILD;
  if (process->ended)
    close_descriptor(&process->tether[1]);
  else if (r < 0)
    forkq__mutex_unlock(&process->mutex);
  return process->ended ? 1 : r;
}

/* Whether it has ended: 1, 0 or an error. */
static int look(forkq_process_t *process) {
  int r = look_and_hold(process);
  if (r >= 0)
    forkq__mutex_unlock(&process->mutex);
  return r;
}

static bool is_mine(const forkq_process_t *process) {
  return process->forks == forkq__life_forks();
}

/* No child inherits a descriptor of what is not registered any more. */
static void free_process(forkq_process_t *process) {
  close_all(process);
  forkq__life_end(&process->life);
  forkq__mutex_fini(&process->mutex);
  forkq__free(process);
}

/* Looks at all processes that this one has started. Returns one that nobody has the handle of, and
 * that has ended, or NULL. The caller holds the registry. */
static forkq_process_t *look_at_all(void) {
  struct forkq__life *life = NULL;
  while ((life = forkq__life_next(life, &process_ops)) != NULL) {
    forkq_process_t *process = process_of(life);
    if (process->pid > 0 && is_mine(process) && look(process) > 0 && process->left) {
      process->left = false; /* no other thread takes it */
      return process;
    }
  }
  return NULL;
}

/* As CPython does before it starts a process. */
static int reap_ended(void) {
  for (;;) {
    int r = forkq__life_hold();
    if (r < 0)
      return r;
    forkq_process_t *process = look_at_all();
    forkq__life_let_go();
    if (process == NULL)
      return 0;
    free_process(process);
  }
}

/* ---- starting -------------------------------------------------------------------------------- */

static int read_options(forkq_process_options_t *all,
                        const forkq_process_options_t *options) {
  *all = (forkq_process_options_t)FORKQ_PROCESS_OPTIONS_INIT;
  if (options == NULL)
    return 0;
  if (!forkq__is_version(options->size, sizeof *all, sizeof *all))
    return FORKQ_ERANGE;
  memcpy(all, options, options->size);
  return all->unused == 0 ? 0 : FORKQ_ERANGE;
}

/* `ends` has two. gcc 12 with -fsanitize warns of an array here. */
static int open_pipe(struct descriptor *ends) {
  int fds[2];
  int r = forkq__os_pipe(fds);
  if (r < 0)
    return r;
  r = take_descriptor(&ends[0], fds[0]);
  int other = take_descriptor(&ends[1], fds[1]);
  return r < 0 ? r : other;
}

/* No child can inherit the pipes before the process is registered. */
static int begin(forkq_process_t *process, bool daemon) {
  int r = forkq__life_hold();
  if (r < 0)
    return r;
  r = open_pipe(process->gate);
  if (r == 0 && daemon)
    r = open_pipe(process->tether);
  process->forks = forkq__life_forks();
  if (r == 0)
    forkq__life_begin(&process->life, &process_ops);
  else
    close_all(process);
  forkq__life_let_go();
  return r;
}

static int create(forkq_process_t **ret_process, bool daemon) {
  forkq_process_t *process = forkq__calloc(sizeof *process);
  if (process == NULL)
    return -ENOMEM;
  process->pidfd.fd = -1;
  process->gate[0].fd = process->gate[1].fd = -1;
  process->tether[0].fd = process->tether[1].fd = -1;
  int r = forkq__mutex_init(&process->mutex);
  if (r < 0)
    goto err_free;
  r = begin(process, daemon);
  if (r < 0)
    goto err_fini;
  *ret_process = process;
  return 0;

err_fini:
  forkq__mutex_fini(&process->mutex);
err_free:
  forkq__free(process);
  return r;
}

static int open_pidfd(forkq_process_t *process, pid_t pid) {
  int fd = forkq__os_pidfd_open(pid);
  if (fd >= 0)
    return take_descriptor(&process->pidfd, fd);
  process->pidfd.fd = fd;
  return forkq__os_refuses_pidfd(fd) ? 0 : fd;
}

static int let_run(forkq_process_t *process) {
  static const char byte;
  const struct iovec part = { (void *)(uintptr_t)&byte, 1 };
  ssize_t n = forkq__os_stream_write(process->gate[1].fd, &part, 1);
  close_descriptor(&process->gate[1]);
  return n < 0 ? (int)n : 0;
}

/* The child waits for the byte. So the number is surely still the child's when the descriptor is
 * opened, and a start that fails here has not called `run`. The caller has the registry: other threads
 * see the process with all that belongs to it, and other children get a descriptor that they close. */
static int attend(forkq_process_t *process, pid_t pid) {
  close_descriptor(&process->gate[0]);
  close_descriptor(&process->tether[0]);
  int r = open_pidfd(process, pid);
  if (r == 0)
    r = let_run(process);
  if (r == 0)
    process->pid = pid;
  return r;
}

static int fork_child(forkq_process_t *process, struct forkq__child *child) {
  starting = process;
  pid_t pid = forkq__os_fork();
  starting = NULL;
  if (pid == 0)
    forkq__child_main(child);
  if (pid < 0)
    return pid;
  int r = forkq__life_hold();
  if (r == 0) {
    r = attend(process, pid);
    forkq__life_let_go();
  }
  if (r < 0)
    forkq__os_kill_and_reap(pid, own_pidfd(process));
  return r;
}

static int start(forkq_process_t *process, struct forkq__child *child) {
  child->gate = process->gate[0].fd;
  child->tether = process->tether[0].fd;
  if (child->options->daemon) {
    int r = forkq__os_hangup_prepare(child->tether);
    if (r < 0)
      return r;
  }
  forkq__os_stdio_flush();
  forkq__os_signals_block(child->old_mask);
  int r = fork_child(process, child);
  forkq__os_signals_restore(child->old_mask);
  return r;
}

int forkq_process_start(forkq_process_t **ret_process, forkq_process_fn run, void *arg,
                        const forkq_process_options_t *options) {
  if (ret_process == NULL || run == NULL)
    return FORKQ_ENULL;
  forkq_process_options_t all;
  struct forkq__child child = { .run = run, .arg = arg, .options = &all };
  forkq_process_t *process = NULL;
  int r = read_options(&all, options);
  if (r < 0)
    return r;
  r = reap_ended();
  if (r < 0)
    return r;
  r = create(&process, all.daemon != 0);
  if (r < 0)
    return r;
  r = start(process, &child);
  if (r < 0) {
    free_process(process);
    return r;
  }
  *ret_process = process;
  return 0;
}

/* ---- what the parent asks -------------------------------------------------------------------- */

static int check(const forkq_process_t *process) {
  if (process == NULL)
    return FORKQ_ENULL;
  return is_mine(process) ? 0 : FORKQ_EFORKED;
}

/* Waits until the process may have ended. *ms is the last nap. A descriptor that says that it has
 * ended, though it could not be reaped, is not asked again at once. */
static int wait_for_end(const forkq_process_t *process, int64_t deadline, int *ms) {
  struct pollfd end = { .fd = own_pidfd(process), .events = POLLIN };
  if (end.fd >= 0 && *ms == 0) {
    int r = forkq__os_poll_cancellable(&end, 1, deadline, NULL, NULL);
    if (r > 0)
      *ms = FIRST_LOOK_MS;
    return r;
  }
  int64_t until = forkq__os_deadline_within(deadline, *ms);
  *ms = forkq__back_off(*ms, FIRST_LOOK_MS, LAST_LOOK_MS);
  return forkq__os_poll_cancellable(NULL, 0, until, NULL, NULL);
}

int forkq_process_join(forkq_process_t *process, int timeout_ms) {
  int r = check(process);
  if (r == 0 && timeout_ms < -1)
    r = FORKQ_ETIMEOUT;
  if (r < 0)
    return r;
  const int64_t deadline = forkq__os_deadline(timeout_ms);
  for (int ms = 0; (r = look(process)) == 0;) {
    if (deadline != FORKQ__FOREVER && forkq__os_now() >= deadline)
      return FORKQ_TIMEDOUT;
    r = wait_for_end(process, deadline, &ms);
    if (r < 0)
      return r;
  }
  return r < 0 ? r : 0;
}

int forkq_process_exitcode(forkq_process_t *process, int *ret_exitcode) {
  if (ret_exitcode == NULL)
    return FORKQ_ENULL;
  int r = check(process);
  if (r == 0)
    r = look(process);
  if (r <= 0)
    return r;
  if (!process->known)
    return -ECHILD;
  *ret_exitcode = process->exitcode;
  return 1;
}

int forkq_process_is_alive(forkq_process_t *process) {
  int r = check(process);
  if (r == 0)
    r = look(process);
  return r < 0 ? r : !r;
}

int forkq_process_pid(const forkq_process_t *process) {
  return process != NULL ? (int)process->pid : FORKQ_ENULL;
}

int forkq_process_fileno(const forkq_process_t *process) {
  int r = check(process);
  return r < 0 ? r : own_pidfd(process);
}

/* With the mutex, so that no other thread reaps the process, and its number stays its own. */
static int send_signal(forkq_process_t *process, int signo) {
  int r = check(process);
  if (r == 0)
    r = look_and_hold(process);
  if (r < 0)
    return r;
  r = r > 0 ? 0 : forkq__os_send_signal(process->pid, own_pidfd(process), signo);
  forkq__mutex_unlock(&process->mutex);
  return r;
}

int forkq_process_terminate(forkq_process_t *process) {
  return send_signal(process, SIGTERM);
}

int forkq_process_kill(forkq_process_t *process) {
  return send_signal(process, SIGKILL);
}

void forkq_process_destroy(forkq_process_t *process) {
  if (process == NULL)
    return;
  if (!is_mine(process)) {
    free_process(process);
    return;
  }
  if (forkq__life_hold() < 0)
    return; /* in a handler: the interrupted call still uses the process */
  process->left = true;
  forkq__life_let_go();
  (void)reap_ended();
}
