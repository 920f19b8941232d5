/* What threads wait for: the system call in which each sleeps, and its arguments.
 *
 * A thread sleeps on a word of a queue's memory, or on several, or polls the queue's descriptors. So the
 * address of the word, found in the process's mappings, says which queue it is and which wait. None of this
 * is stored by the library, and none of it costs it anything. */
#define _GNU_SOURCE
#include "base/heap.h"
#include "base/os.h"
#include "inspect/inspect_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

/* Of what a thread polls, or of the words on which it sleeps, so many are looked at. */
#define LOOKED_AT 32

/* A mapping of the beginning of a queue's memory. */
struct mapping {
  uint64_t begin, end;
  struct forkq__inspected *queue;
};

struct thread {
  forkq_inspect_t *inspect;
  pid_t pid, tid;
  const struct forkq__inspect_list *mappings;
  bool known; /* all threads of the process told what they do */
};

/* ---- the mappings of a process ------------------------------------------------------------ */

/* A line: BEGIN-END MODE OFFSET DEVICE INODE PATH. */
static int read_mapping(const forkq_inspect_t *inspect, struct forkq__inspect_list *list,
                        const char *line) {
  uint64_t begin, end, offset, inode;
  if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %" SCNu64, &begin, &end,
             &offset, &inode) != 4 ||
      offset != 0)
    return 0;
  for (size_t i = 0; i < inspect->queues.count; i++) {
    struct forkq__inspected *queue = forkq__inspected_at(inspect, i);
    if (queue->queue.inode != inode)
      continue;
    struct mapping *mapping = forkq__inspect_add(list, sizeof *mapping);
    if (mapping == NULL)
      return -ENOMEM;
    *mapping = (struct mapping){ begin, end, queue };
  }
  return 0;
}

static int read_mappings(const forkq_inspect_t *inspect, pid_t pid,
                         struct forkq__inspect_list *list) {
  char path[FORKQ__PROC_PATH], *line = NULL;
  size_t size = 0;
  int r = 0;
  snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
  FILE *maps = fopen(path, "re");
  if (maps == NULL)
    return 0;
  while (r == 0 && getline(&line, &size, maps) > 0)
    if (strstr(line, "/memfd:forkq") != NULL)
      r = read_mapping(inspect, list, line);
  free(line);
  fclose(maps);
  return r;
}

/* ---- one wait ----------------------------------------------------------------------------- */

static int add_wait(struct thread *thread, struct forkq__inspected *queue,
                    forkq_inspect_wait_kind_t kind, forkq_inspect_lock_kind_t lock) {
  forkq_inspect_wait_t *wait = forkq__inspect_add(&queue->waits, sizeof *wait);
  if (wait == NULL)
    return -ENOMEM;
  *wait = (forkq_inspect_wait_t){
    .pid = thread->pid, .tid = thread->tid, .kind = kind, .lock = lock
  };
  return 0;
}

/* Whether the offset is in the field. */
#define IS_IN(offset, field)                                                             \
  ((offset) >= offsetof(struct forkq__segment, field) &&                                 \
   (offset) < offsetof(struct forkq__segment, field) +                                   \
                  sizeof((struct forkq__segment *)NULL)->field)

static int waits_at(struct thread *thread, struct forkq__inspected *queue,
                    uint64_t offset) {
  if (IS_IN(offset, slots.event))
    return add_wait(thread, queue, FORKQ_INSPECT_WAITS_FOR_ROOM, 0);
  if (IS_IN(offset, joined_event))
    return add_wait(thread, queue, FORKQ_INSPECT_WAITS_FOR_TASKS, 0);
  if (IS_IN(offset, channel.turn))
    return add_wait(thread, queue, FORKQ_INSPECT_WAITS_FOR_ITEM, 0);
  if (IS_IN(offset, channel.write_lock))
    return add_wait(thread, queue, FORKQ_INSPECT_WAITS_FOR_LOCK,
                    FORKQ_INSPECT_WRITE_LOCK);
  if (IS_IN(offset, channel.read_lock))
    return add_wait(thread, queue, FORKQ_INSPECT_WAITS_FOR_LOCK, FORKQ_INSPECT_READ_LOCK);
  if (IS_IN(offset, ledger.lock))
    return add_wait(thread, queue, FORKQ_INSPECT_WAITS_FOR_LOCK,
                    FORKQ_INSPECT_LEDGER_LOCK);
  return 0;
}

static int waits_on_word(struct thread *thread, uint64_t address) {
  const struct mapping *mappings = thread->mappings->entries;
  for (size_t i = 0; i < thread->mappings->count; i++)
    if (address >= mappings[i].begin && address < mappings[i].end)
      return waits_at(thread, mappings[i].queue, address - mappings[i].begin);
  return 0;
}

static size_t at_most(uint64_t count) {
  return count < LOOKED_AT ? (size_t)count : LOOKED_AT;
}

#if defined FUTEX_32 && defined SYS_futex_waitv
static int waits_on_words(struct thread *thread, uint64_t address, uint64_t count) {
  struct futex_waitv words[LOOKED_AT];
  size_t looked_at = at_most(count);
  if (forkq__proc_memory(thread->pid, address, words, looked_at * sizeof words[0]) < 0) {
    thread->known = false;
    return 0;
  }
  int r = 0;
  for (size_t i = 0; i < looked_at && r == 0; i++)
    r = waits_on_word(thread, words[i].uaddr);
  return r;
}
#endif

/* Of a queue, a getter polls the reading end, and who sends the writing end. */
static int polls(struct thread *thread, const struct pollfd *polled) {
  for (size_t i = 0; i < thread->inspect->queues.count; i++) {
    struct forkq__inspected *queue = forkq__inspected_at(thread->inspect, i);
    const forkq_inspect_process_t *process =
        forkq__inspect_process_of(queue, thread->pid, false);
    if (process == NULL || polled->fd < 0)
      continue;
    if (polled->fd == process->fds[FORKQ__AT_READ] && polled->events & POLLIN)
      return add_wait(thread, queue, FORKQ_INSPECT_WAITS_FOR_ITEM, 0);
    if (polled->fd == process->fds[FORKQ__AT_WRITE] && polled->events & POLLOUT)
      return add_wait(thread, queue, FORKQ_INSPECT_WAITS_FOR_PIPE, 0);
  }
  return 0;
}

static int waits_in_poll(struct thread *thread, uint64_t address, uint64_t count) {
  struct pollfd polled[LOOKED_AT];
  size_t looked_at = at_most(count);
  if (looked_at == 0)
    return 0;
  if (forkq__proc_memory(thread->pid, address, polled, looked_at * sizeof polled[0]) <
      0) {
    thread->known = false;
    return 0;
  }
  int r = 0;
  for (size_t i = 0; i < looked_at && r == 0; i++)
    r = polls(thread, &polled[i]);
  return r;
}

/* ---- the threads of a process ------------------------------------------------------------- */

static int look_at_call(struct thread *thread, long call, const uint64_t arguments[2]) {
  switch (call) {
  case SYS_futex:
    return waits_on_word(thread, arguments[0]);
#if defined FUTEX_32 && defined SYS_futex_waitv
  case SYS_futex_waitv:
    return waits_on_words(thread, arguments[0], arguments[1]);
#endif
#ifdef SYS_poll
  case SYS_poll:
#endif
  case SYS_ppoll:
    return waits_in_poll(thread, arguments[0], arguments[1]);
  default:
    return 0;
  }
}

/* A line: NUMBER, and six arguments; or "running", or "-1" if the thread sleeps elsewhere. */
static int look_at_thread(int tid, void *arg) {
  struct thread *thread = arg;
  char path[FORKQ__PROC_PATH], text[256];
  long call;
  uint64_t arguments[2];
  snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", (int)thread->pid, tid);
  int r = forkq__proc_read(path, text, sizeof text);
  if (r < 0 && r != -ENOENT && r != -ESRCH)
    thread->known = false;
  if (r < 0 ||
      sscanf(text, "%ld %" SCNx64 " %" SCNx64, &call, &arguments[0], &arguments[1]) != 3)
    return 0;
  thread->tid = tid;
  return look_at_call(thread, call, arguments);
}

static void note_known(const struct thread *thread) {
  for (size_t i = 0; i < thread->inspect->queues.count; i++) {
    forkq_inspect_process_t *process = forkq__inspect_process_of(
        forkq__inspected_at(thread->inspect, i), thread->pid, false);
    if (process != NULL)
      process->waits_known = thread->known;
  }
}

static int look_at_threads(forkq_inspect_t *inspect, pid_t pid) {
  struct forkq__inspect_list mappings = { 0 };
  struct thread thread = {
    .inspect = inspect, .pid = pid, .mappings = &mappings, .known = true
  };
  char path[FORKQ__PROC_PATH];
  int r = read_mappings(inspect, pid, &mappings);
  snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
  if (r == 0)
    r = forkq__proc_each(path, look_at_thread, &thread);
  forkq__free(mappings.entries);
  note_known(&thread);
  return r == -ENOMEM ? r : 0;
}

int forkq__inspect_waits(forkq_inspect_t *inspect) {
  return forkq__inspect_each_process(inspect, look_at_threads);
}
