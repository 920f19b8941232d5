/* Finding queues, and the descriptors of each process that belong to them. */
#include "base/heap.h"
#include "base/os.h"
#include "inspect/inspect_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a link to a queue's memory begins with; then comes the name, or the end of it. */
#define MEMORY "/memfd:forkq"

static bool is_memory(const char *link) {
  char after = link[strlen(MEMORY)];
  return after == ':' || after == ' ' || after == '\0';
}

static void fd_path(char path[FORKQ__PROC_PATH], pid_t pid, int fd) {
  snprintf(path, FORKQ__PROC_PATH, "/proc/%d/fd/%d", (int)pid, fd);
}

/* ---- the memory of queues ----------------------------------------------------------------- */

struct finding {
  forkq_inspect_t *inspect;
  pid_t pid;
  bool only_known; /* queues that were not found before are left out */
};

static struct forkq__inspected *add_queue(forkq_inspect_t *inspect, uint64_t identity,
                                          uint64_t inode) {
  struct forkq__inspected *queue = forkq__calloc(sizeof *queue);
  struct forkq__inspected **entry =
      queue != NULL ? forkq__inspect_add(&inspect->queues, sizeof(void *)) : NULL;
  if (entry == NULL) {
    forkq__free(queue);
    return NULL;
  }
  *entry = queue;
  queue->identity = identity;
  queue->queue.inode = inode;
  queue->queue.self_ = queue;
  return queue;
}

static struct forkq__inspected *find_queue(forkq_inspect_t *inspect, uint64_t identity) {
  for (size_t i = 0; i < inspect->queues.count; i++)
    if (forkq__inspected_at(inspect, i)->identity == identity)
      return forkq__inspected_at(inspect, i);
  return NULL;
}

/* A process may have further descriptors of the memory, which show that it lives. The first is that of the
 * queue. */
static int note_memory(struct finding *finding, const char *path, int fd) {
  uint64_t identity, inode;
  if (forkq__proc_identity(path, &identity, &inode) < 0)
    return 0;
  struct forkq__inspected *queue = find_queue(finding->inspect, identity);
  if (queue == NULL && finding->only_known)
    return 0;
  if (queue == NULL)
    queue = add_queue(finding->inspect, identity, inode);
  forkq_inspect_process_t *process =
      queue != NULL ? forkq__inspect_process_of(queue, finding->pid, true) : NULL;
  if (process == NULL)
    return -ENOMEM;
  int *known = &process->fds[FORKQ__AT_MEMORY];
  if (*known < 0 || fd < *known)
    *known = fd;
  process->open = 1;
  return 0;
}

static int look_for_memory(int fd, void *arg) {
  struct finding *finding = arg;
  char path[FORKQ__PROC_PATH], link[sizeof MEMORY + 1];
  fd_path(path, finding->pid, fd);
  int r = forkq__proc_link(path, link, sizeof link);
  if (r == -EACCES || r == -EPERM)
    return r; /* as all others of the process will be */
  if (r < 0 || strncmp(link, MEMORY, strlen(MEMORY)) != 0 || !is_memory(link))
    return 0;
  return note_memory(finding, path, fd);
}

static int find_in(struct finding *finding, pid_t pid) {
  char path[FORKQ__PROC_PATH];
  snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
  finding->pid = pid;
  return forkq__proc_each(path, look_for_memory, finding);
}

/* A process that has ended since, or may not be looked at, is left out. */
static int find_in_any(int pid, void *arg) {
  int r = find_in(arg, pid);
  return r == -ENOMEM || r == -EMFILE || r == -ENFILE ? r : 0;
}

int forkq__inspect_find(forkq_inspect_t *inspect, pid_t pid) {
  struct finding finding = { .inspect = inspect };
  if (pid != 0) {
    int r = find_in(&finding, pid);
    if (r < 0)
      return r == -ENOENT ? -ESRCH : r;
    finding.only_known = true;
  }
  return forkq__proc_each("/proc", find_in_any, &finding);
}

/* ---- the other descriptors ---------------------------------------------------------------- */

struct looking {
  forkq_inspect_t *inspect;
  pid_t pid;
};

static void note_fd(struct forkq__inspected *queue, pid_t pid, int place, int fd) {
  forkq_inspect_process_t *process = forkq__inspect_process_of(queue, pid, false);
  if (process != NULL && process->fds[place] < 0)
    process->fds[place] = fd;
}

static void note_pipe(const struct looking *looking, const char *path, int fd) {
  uint64_t identity, inode;
  if (forkq__proc_identity(path, &identity, &inode) < 0)
    return;
  int place = forkq__proc_access(path) == FORKQ__READS ? FORKQ__AT_READ : FORKQ__AT_WRITE;
  for (size_t i = 0; i < looking->inspect->queues.count; i++) {
    struct forkq__inspected *queue = forkq__inspected_at(looking->inspect, i);
    if (queue->pipe_identity == identity && queue->queue.error == 0)
      note_fd(queue, looking->pid, place, fd);
  }
}

/* The number of an eventfd, plus 1; or 0. */
static uint64_t event_id(pid_t pid, int fd) {
  static const char label[] = "\neventfd-id:";
  char path[FORKQ__PROC_PATH], text[512];
  snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", (int)pid, fd);
  if (forkq__proc_read(path, text, sizeof text) < 0)
    return 0;
  const char *at = strstr(text, label);
  return at != NULL ? strtoull(at + strlen(label), NULL, 10) + 1 : 0;
}

static void note_event(const struct looking *looking, int fd) {
  uint64_t id = event_id(looking->pid, fd);
  for (size_t i = 0; i < looking->inspect->queues.count && id != 0; i++) {
    struct forkq__inspected *queue = forkq__inspected_at(looking->inspect, i);
    if (queue->event_id == id)
      note_fd(queue, looking->pid, FORKQ__AT_EVENT, fd);
    if (queue->room_id == id)
      note_fd(queue, looking->pid, FORKQ__AT_ROOM, fd);
  }
}

static int look_at_fd(int fd, void *arg) {
  const struct looking *looking = arg;
  char path[FORKQ__PROC_PATH], link[32];
  fd_path(path, looking->pid, fd);
  if (forkq__proc_link(path, link, sizeof link) < 0)
    return 0;
  if (strncmp(link, "pipe:", strlen("pipe:")) == 0)
    note_pipe(looking, path, fd);
  else if (strcmp(link, "anon_inode:[eventfd]") == 0)
    note_event(looking, fd);
  return 0;
}

/* Each process once, with all its queues: whether an earlier queue has it. */
static bool was_before(const forkq_inspect_t *inspect, size_t index, pid_t pid) {
  for (size_t i = 0; i < index; i++)
    if (forkq__inspect_process_of(forkq__inspected_at(inspect, i), pid, false) != NULL)
      return true;
  return false;
}

int forkq__inspect_each_process(forkq_inspect_t *inspect,
                                int (*fn)(forkq_inspect_t *inspect, pid_t pid)) {
  for (size_t i = 0; i < inspect->queues.count; i++) {
    const struct forkq__inspect_list *list = &forkq__inspected_at(inspect, i)->processes;
    for (size_t k = 0; k < list->count; k++) {
      const forkq_inspect_process_t *process =
          (const forkq_inspect_process_t *)list->entries + k;
      if (!process->open || was_before(inspect, i, process->pid))
        continue;
      int r = fn(inspect, process->pid);
      if (r < 0)
        return r;
    }
  }
  return 0;
}

static int look_at_fds(forkq_inspect_t *inspect, pid_t pid) {
  struct looking looking = { inspect, pid };
  char path[FORKQ__PROC_PATH];
  snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
  int r = forkq__proc_each(path, look_at_fd, &looking);
  return r == -ENOMEM ? r : 0;
}

int forkq__inspect_fds(forkq_inspect_t *inspect) {
  return forkq__inspect_each_process(inspect, look_at_fds);
}
