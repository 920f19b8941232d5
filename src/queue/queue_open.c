/* Creating a queue, and opening one of another program on the descriptors of a handover.
 *
 * Both keep the registry locked until the queue is registered. So a child that is forked meanwhile
 * either has the whole queue or nothing of it. */
#include "queue/queue_impl.h"

#include "base/heap.h"
#include "base/log.h"
#include "base/os.h"
#include "base/versioned.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static void feeder_lost(void *arg, int error, const void *data, size_t size) {
  forkq_queue_t *queue = arg;
  if (queue->on_feeder_error != NULL)
    queue->on_feeder_error(queue, error, data, size, queue->on_feeder_error_arg);
  else
    forkq__log(FORKQ_LOG_ERROR, queue->segment->ledger.name,
               "lost an item of %zu bytes: %s", size, forkq_strerror(error));
}

/* The feeder has let go of the channel. With the sender's mutex. */
static void feeder_finished(void *arg) {
  forkq__queue_close_descriptors(arg);
}

static void no_descriptors(forkq_queue_t *queue) {
  struct forkq__channel *channel = &queue->channel;
  channel->read_fd = channel->write_fd = channel->event_fd = -1;
  channel->account.liveness.memory_fd = -1;
  queue->slots.event_fd = -1;
}

/* Where a process can use so many CPUs, it copies messages of so many bytes without the read lock. On two
 * CPUs this costs a twentieth to a tenth of the rate (64 KiB, medians of 7): a message takes up its memory
 * for longer, and a second consumer that copies keeps a producer from running. */
#define LATE_CPUS 4
#define LATE_MIN (32 * 1024)

static forkq_queue_t *new_queue(const forkq_queue_options_t *options) {
  forkq_queue_t *queue = forkq__calloc(sizeof *queue);
  if (queue == NULL)
    return NULL;
  struct forkq__channel *channel = &queue->channel;
  channel->pieces = forkq__pieces_new();
  if (channel->pieces == NULL) {
    forkq__free(queue);
    return NULL;
  }
  no_descriptors(queue);
  queue->poll_set = -1;
  queue->room.set = queue->room.own_fd = -1;
  queue->room.look_at = queue->inherited.look_at = FORKQ__FOREVER;
  queue->lost_look_at = FORKQ__FOREVER;
  TAILQ_INIT(&queue->reservations);
  forkq__account_init(&channel->account);
  channel->late_min = forkq__os_cpus() >= LATE_CPUS ? LATE_MIN : UINT32_MAX;
  queue->direct_write = !options->no_direct_write;
  forkq__spin_init(&channel->spin, options->spin_us);
  forkq__spin_init(&queue->slots.spin, options->spin_us);
  queue->feeder.sender.max_bytes = options->outbox_max_bytes;
  forkq__arena_init(&queue->feeder.sender.arena, options->shared_max_bytes);
  queue->on_feeder_error = options->on_feeder_error;
  queue->on_feeder_error_arg = options->on_feeder_error_arg;
  return queue;
}

void forkq__queue_plan_look(forkq_queue_t *queue) {
  int64_t at = queue->inherited.look_at;
  at = queue->room.look_at < at ? queue->room.look_at : at;
  at = queue->lost_look_at < at ? queue->lost_look_at : at;
  forkq__feeder_plan_look(&queue->feeder, at);
}

static void feeder_looks(void *arg) {
  forkq_queue_t *queue = arg;
  int64_t now = forkq__os_now();
  if (now >= queue->inherited.look_at)
    forkq__queue_take_over(queue);
  if (now >= queue->room.look_at)
    forkq__queue_look_for_room(queue);
  if (now >= queue->lost_look_at)
    forkq__queue_look_for_lost(queue);
  forkq__queue_plan_look(queue);
}

/* Ties the parts together, after the segment and the descriptors are there. */
static int start(forkq_queue_t *queue) {
  struct forkq__segment *segment = queue->segment;
  struct forkq__channel *channel = &queue->channel;
  channel->shared = &segment->channel;
  channel->account.ledger = &segment->ledger;
  channel->account.number = forkq__os_inode(channel->account.liveness.identity);
  channel->max_message = (uint32_t)segment->max_message;
  channel->joinable = segment->joinable != 0;
  channel->keeps = forkq__keeps_tasks(&segment->ledger);
  channel->redelivers = forkq__redelivers(&segment->ledger);
  channel->pipe_identity = segment->pipe_identity;
  channel->process_bit = forkq__os_process_bit();
  channel->account.liveness.base = segment;
  channel->account.liveness.joinable = channel->joinable;
  queue->feeder.sender.channel = channel;
  queue->slots.shared = &segment->slots;
  queue->slots.account = &channel->account;
  queue->slots.interrupts = &channel->interrupts;
  queue->feeder.sender.slots = &queue->slots;
  queue->feeder.sender.lost = feeder_lost;
  queue->feeder.sender.arg = queue;
  queue->feeder.finished = feeder_finished;
  queue->feeder.look = feeder_looks;
  queue->feeder.arg = queue;
  int r = forkq__os_identity(channel->event_fd, &channel->event_identity);
  if (r == 0 && channel->keeps)
    r = forkq__kept_map(&channel->account);
  if (r == 0)
    r = forkq__feeder_init(&queue->feeder);
  if (r == 0)
    forkq__life_begin(&queue->life, &forkq__queue_life_ops);
  return r;
}

/* The number as the segment keeps it: one more, so that 0 means none. */
static uint64_t kept_id(int event_id) {
  return event_id < 0 ? 0 : (uint64_t)event_id + 1;
}

static int make_descriptors(forkq_queue_t *queue) {
  struct forkq__channel *channel = &queue->channel;
  int pipe[2];
  int r = forkq__os_packet_pipe(pipe);
  if (r < 0)
    return r;
  channel->read_fd = pipe[0];
  channel->write_fd = pipe[1];
  channel->event_fd = forkq__os_event_create();
  if (channel->event_fd < 0)
    return channel->event_fd;
  queue->slots.event_fd = forkq__os_event_create();
  if (queue->slots.event_fd < 0)
    return queue->slots.event_fd;
  queue->segment->event_id = kept_id(forkq__os_event_id(channel->event_fd));
  queue->segment->room_id = kept_id(forkq__os_event_id(queue->slots.event_fd));
  r = forkq__os_identity(channel->read_fd, &queue->segment->pipe_identity);
  return r < 0 ? r
               : forkq__os_identity(channel->account.liveness.memory_fd,
                                    &channel->account.liveness.identity);
}

/* The numbers of tasks begin at another one in each queue, so that an item of another queue is known. */
#define FIRST_NUMBER_BITS 16

static int keep_tasks(forkq_queue_t *queue, uint32_t lost_tasks) {
  struct forkq__segment *segment = queue->segment;
  const struct forkq__liveness *liveness = &queue->channel.account.liveness;
  int r = forkq__os_memory_back(liveness->memory_fd,
                                offsetof(struct forkq__segment, ledger.kept),
                                sizeof segment->ledger.kept);
  if (r < 0)
    return r;
  uint64_t first = liveness->identity & ((1u << FIRST_NUMBER_BITS) - 1);
  FORKQ__STORE(segment->ledger.kept.numbers, first << 32);
  segment->ledger.lost_tasks = lost_tasks;
  return 0;
}

/* With the registry locked, as adopt. */
static int create(forkq_queue_t *queue, const forkq_queue_options_t *options) {
  int r =
      forkq__segment_create(&queue->segment, &queue->channel.account.liveness.memory_fd,
                            options->name != NULL ? options->name : "");
  if (r < 0)
    return r;
  struct forkq__segment *segment = queue->segment;
  segment->slots.maxsize = options->maxsize > 0 ? options->maxsize : 0;
  segment->max_message = options->max_message;
  if (segment->max_message == 0)
    segment->max_message = options->lost_tasks == FORKQ_LOST_TASKS_COUNT
                               ? FORKQ_MESSAGE_MAX
                               : FORKQ_KEPT_MESSAGE_MAX;
  segment->joinable = options->joinable != 0;
  segment->creator = (uint32_t)getpid();
  segment->pid_namespace = forkq__os_pid_namespace();
  r = forkq__lock_check();
  if (r == 0)
    r = make_descriptors(queue);
  if (r == 0 && options->lost_tasks != FORKQ_LOST_TASKS_COUNT)
    r = keep_tasks(queue, (uint32_t)options->lost_tasks);
  return r < 0 ? r : start(queue);
}

/* Closes the descriptors of a queue whose creation failed. No other process or thread has them. */
static void close_new(forkq_queue_t *queue) {
  struct forkq__channel *channel = &queue->channel;
  const int fds[] = { channel->read_fd, channel->write_fd, channel->event_fd,
                      queue->slots.event_fd, channel->account.liveness.memory_fd };
  for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
    if (fds[i] >= 0)
      forkq__os_close(fds[i]);
  no_descriptors(queue);
}

static const size_t oldest_options = offsetof(forkq_queue_options_t, max_message);

/* Names appear in lists and lines of text, where others separate them from the rest. */
static bool is_name(const char *name) {
  size_t length =
      strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
  return length <= FORKQ_NAME_MAX && name[length] == '\0';
}

static bool is_lost_tasks(const forkq_queue_options_t *options) {
  return options->lost_tasks == FORKQ_LOST_TASKS_COUNT ||
         (options->lost_tasks > 0 && options->lost_tasks <= FORKQ_LOST_TASKS_REDELIVER &&
          options->joinable && options->max_message <= FORKQ_KEPT_MESSAGE_MAX);
}

/* Copies the caller's options: NULL, or as long as their `size` says. A field that they do not have
 * gets its default. */
static int read_options(const forkq_queue_options_t *given,
                        forkq_queue_options_t *ret_options) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  if (given != NULL) {
    if (!forkq__is_version(given->size, oldest_options, sizeof options))
      return FORKQ_ERANGE;
    memcpy(&options, given, given->size);
  }
  if (!is_lost_tasks(&options) || options.max_message > FORKQ_MESSAGE_MAX ||
      options.spin_us > FORKQ_SPIN_US_MAX ||
      options.shared_max_bytes > FORKQ_SHARED_MAX ||
      (options.name != NULL && !is_name(options.name)))
    return FORKQ_ERANGE;
  if (forkq__queue_packing_here())
    return FORKQ_EPACKING;
  if (options.shared_max_bytes == 0)
    options.shared_max_bytes = FORKQ_SHARED_MAX;
  *ret_options = options;
  return 0;
}

/* Makes a queue that has nothing yet, and locks the registry. */
static int begin_opening(const forkq_queue_options_t *given,
                         forkq_queue_options_t *ret_options, forkq_queue_t **ret_queue) {
  int r = read_options(given, ret_options);
  if (r < 0)
    return r;
  forkq_queue_t *queue = new_queue(ret_options);
  if (queue == NULL)
    return -ENOMEM;
  r = forkq__life_hold();
  if (r < 0)
    forkq__queue_free(queue);
  else
    *ret_queue = queue;
  return r;
}

/* Unlocks the registry. `r` says how the opening went: the queue is the caller's, or freed. */
static int end_opening(forkq_queue_t *queue, int r, forkq_queue_t **ret_queue) {
  FORKQ__STORE(queue->arrived, forkq__life_forks());
  forkq__life_let_go();
  if (r < 0)
    forkq__queue_free(queue);
  else
    *ret_queue = queue;
  return r;
}

int forkq_queue_create_with(forkq_queue_t **ret_queue,
                            const forkq_queue_options_t *given) {
  forkq_queue_options_t options;
  forkq_queue_t *queue;
  if (ret_queue == NULL || given == NULL)
    return FORKQ_ENULL;
  int r = begin_opening(given, &options, &queue);
  if (r < 0)
    return r;
  r = create(queue, &options);
  if (r < 0)
    close_new(queue);
  return end_opening(queue, r, ret_queue);
}

int forkq_queue_create(forkq_queue_t **ret_queue, int64_t maxsize) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.maxsize = maxsize;
  return forkq_queue_create_with(ret_queue, &options);
}

int forkq_joinable_queue_create(forkq_queue_t **ret_queue, int64_t maxsize) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.maxsize = maxsize;
  options.joinable = 1;
  return forkq_queue_create_with(ret_queue, &options);
}

/* ---- the queue of another program -------------------------------------------------------- */

static bool is_same(const struct forkq__life *life, const void *identity) {
  return life->ops == &forkq__queue_life_ops &&
         forkq__queue_of(life)->channel.account.liveness.identity ==
             *(const uint64_t *)identity;
}

/* Whether the five descriptors are open and different, and each is of the kind that belongs in its
 * place. */
static int check_kinds(const int fds[FORKQ_HANDOVER_FDS]) {
  static const int access[] = { FORKQ__READS, FORKQ__WRITES, FORKQ__BOTH, FORKQ__BOTH,
                                FORKQ__BOTH };
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++) {
    for (int k = 0; k < i; k++)
      if (fds[k] == fds[i])
        return FORKQ_EHANDOVER;
    int r = forkq__os_access(fds[i]);
    if (r < 0 && r != -EINVAL)
      return r;
    if (r != access[i])
      return FORKQ_EHANDOVER;
  }
  /* To raise an event is to write, so a descriptor with another use must not be taken for an
   * event. */
  bool events = forkq__os_is_anonymous(fds[2]) && forkq__os_is_anonymous(fds[3]);
  return events ? 0 : FORKQ_EHANDOVER;
}

static int adopt_segment(forkq_queue_t *queue, int fd) {
  uint64_t *identity = &queue->channel.account.liveness.identity;
  int r = forkq__os_identity(fd, identity);
  /* A process has one outbox for a queue, because its items have one order. */
  if (r == 0 && forkq__life_any(is_same, identity))
    return FORKQ_ETWICE;
  return r < 0 ? r : forkq__segment_open(&queue->segment, fd);
}

static bool is_its_pipe(const struct forkq__segment *segment, int read_fd, int write_fd) {
  uint64_t read_end, write_end;
  return forkq__os_identity(read_fd, &read_end) == 0 &&
         forkq__os_identity(write_fd, &write_end) == 0 && read_end == write_end &&
         read_end == segment->pipe_identity;
}

/* Whether a descriptor with this event number can be the event that the creator noted as `kept`. If
 * the creator found a number, this process finds the same number, or the descriptor is not that
 * event; unless there is no /proc here. */
static bool may_be_event(int id, uint64_t kept) {
  bool unknown = kept == 0 || (id < 0 && id != -ENODATA);
  return unknown || kept_id(id) == kept;
}

static bool may_be_its_events(const struct forkq__segment *segment, int event_fd,
                              int room_fd) {
  int event = forkq__os_event_id(event_fd), room = forkq__os_event_id(room_fd);
  bool same = event >= 0 && event == room;
  return !same && may_be_event(event, segment->event_id) &&
         may_be_event(room, segment->room_id);
}

static int adopt_descriptors(forkq_queue_t *queue, const int fds[FORKQ_HANDOVER_FDS]) {
  struct forkq__channel *channel = &queue->channel;
  if (!is_its_pipe(queue->segment, fds[0], fds[1]) ||
      !may_be_its_events(queue->segment, fds[2], fds[3]))
    return FORKQ_EHANDOVER;
  channel->read_fd = fds[0];
  channel->write_fd = fds[1];
  channel->event_fd = fds[2];
  queue->slots.event_fd = fds[3];
  channel->account.liveness.memory_fd = fds[4];
  return 0;
}

/* Whether this process is known to be in the PID namespace of the queue's creator. If one of the
 * two is unknown, the process is refused. */
static int check_namespace(const forkq_queue_t *queue) {
  uint64_t here = forkq__os_pid_namespace();
  bool same = here != 0 && here == queue->segment->pid_namespace;
  return same ? 0 : FORKQ_ENAMESPACE;
}

/* Makes those of the first `count` that survived exec survive it again. */
static void leave_to_exec(const int *fds, const bool *survived, int count) {
  for (int i = 0; i < count; i++)
    if (survived[i])
      (void)forkq__os_inheritable(fds[i], true);
}

/* Makes all close-on-exec. On failure they are as they were. */
static int keep_from_exec(const int fds[FORKQ_HANDOVER_FDS],
                          bool ret_survived[FORKQ_HANDOVER_FDS]) {
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++) {
    int r = forkq__os_is_inheritable(fds[i]);
    ret_survived[i] = r > 0;
    if (r > 0)
      r = forkq__os_inheritable(fds[i], false);
    if (r < 0) {
      leave_to_exec(fds, ret_survived, i);
      return r;
    }
  }
  return 0;
}

static int adopt(forkq_queue_t *queue, const int fds[FORKQ_HANDOVER_FDS]) {
  bool survived[FORKQ_HANDOVER_FDS] = { false };
  int r = check_kinds(fds);
  if (r == 0)
    r = adopt_segment(queue, fds[4]);
  if (r == 0)
    r = check_namespace(queue);
  if (r == 0)
    r = forkq__lock_check();
  if (r == 0)
    r = adopt_descriptors(queue, fds);
  if (r == 0)
    r = keep_from_exec(fds, survived);
  if (r < 0)
    return r;
  r = start(queue);
  if (r < 0)
    leave_to_exec(fds, survived, FORKQ_HANDOVER_FDS);
  return r;
}

int forkq__queue_adopt_allowed(const forkq_queue_options_t *options) {
  forkq_queue_options_t read;
  return read_options(options, &read);
}

int forkq__queue_adopt(forkq_queue_t **ret_queue, const int fds[FORKQ_HANDOVER_FDS],
                       const forkq_queue_options_t *given) {
  forkq_queue_options_t options;
  forkq_queue_t *queue;
  int r = begin_opening(given, &options, &queue);
  if (r < 0)
    return r;
  r = adopt(queue, fds);
  if (r < 0)
    no_descriptors(queue);
  return end_opening(queue, r, ret_queue);
}
