/* Killed at every step of task_done, join, close, shutdown, destroy, and of the first use in a
 * process that came by the queue in another way. */
#define _GNU_SOURCE
#include "steps_world.h"

#include <forkq/handover.h>

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define MORE_THAN_A_PIPE 70000

static void one(void) {
  world_put(1);
}

static void three(void) {
  world_put(3);
}

static void get_one(void) {
  victim_get(1);
}

static void get_two(void) {
  victim_get(2);
}

static void put_one(void) {
  victim_put(1);
}

static void do_task(void) {
  CHILD_MUST(forkq_queue_task_done(world_queue) == 0);
}

static void join(void) {
  CHILD_MUST(forkq_queue_join(world_queue, -1, NULL) == 0);
}

static void get_and_do(void) {
  victim_get(1);
  do_task();
}

static void end(void) {
  CHILD_MUST(forkq_queue_close(world_queue) == 0);
  CHILD_MUST(forkq_queue_join_thread(world_queue, -1, NULL) == 0);
}

static void put_and_close(void) {
  victim_put(2);
  end();
}

static void put_and_end_puts(void) {
  victim_put(2);
  CHILD_MUST(forkq_queue_close_put(world_queue) == 0);
}

static void destroy(void) {
  forkq_queue_destroy(world_queue);
}

static void make_larger(void) {
  victim_make_large(MORE_THAN_A_PIPE);
}

/* Of the large one the pipe holds a part; nobody waits for the rest to go. */
static void put_and_give_up(void) {
  victim_put_large();
  victim_put(1);
  CHILD_MUST(forkq_queue_cancel_join_thread(world_queue) == 0);
  destroy();
}

static void shut_down(void) {
  CHILD_MUST(forkq_queue_shutdown(world_queue, 0) == 0);
}

static void shut_down_at_once(void) {
  CHILD_MUST(forkq_queue_shutdown(world_queue, 1) == 0);
}

static void put_and_shut_down_at_once(void) {
  victim_put(2);
  shut_down_at_once();
}

static int sockets[2];

static void send_queue(void) {
  world_must(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
  world_must(forkq_queue_send(world_queue, sockets[0]) == 0);
}

static void close_sockets(void) {
  close(sockets[0]);
  close(sockets[1]);
}

/* As a program that is started with exec has it: one handle of the queue in a process. */
static void forget_queue(void) {
  forkq_queue_destroy(world_queue);
}

static void receive_and_put(void) {
  CHILD_MUST(forkq_queue_receive(&world_queue, sockets[1], NULL) == 0);
  victim_put(1);
}

/* The same, with the descriptors where the text says. */
static forkq_handover_t handover;

static void leave_descriptors(void) {
  int kept[FORKQ_HANDOVER_FDS];
  CHILD_MUST(forkq_queue_hand_over(world_queue, &handover) == 0);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    CHILD_MUST((kept[i] = dup(handover.fds[i])) >= 0);
  forkq_queue_destroy(world_queue);
  for (int i = 0; i < FORKQ_HANDOVER_FDS; i++)
    CHILD_MUST(dup2(kept[i], handover.fds[i]) >= 0 && close(kept[i]) == 0);
}

static void attach_and_get(void) {
  CHILD_MUST(forkq_queue_attach(&world_queue, handover.text, NULL) == 0);
  victim_get(1);
}

/* What is put is sent first. */
static void put_and_exit(void) {
  victim_put(2);
  exit(0);
}

static void give_up_waiting(void) {
  CHILD_MUST(forkq_queue_cancel_join_thread(world_queue) == 0);
}

static void interrupt(void) {
  CHILD_MUST(forkq_queue_interrupt(world_queue) == 0);
}

static void create_another(void) {
  forkq_queue_t *another;
  CHILD_MUST(forkq_queue_create(&another, 3) == 0);
  forkq_queue_destroy(another);
}

static void look(void) {
  forkq_queue_stats_t stats = { .size = sizeof stats };
  CHILD_MUST(forkq_queue_qsize(world_queue) == 3);
  CHILD_MUST(forkq_queue_full(world_queue) == 1);
  CHILD_MUST(forkq_queue_empty(world_queue) == 0);
  CHILD_MUST(forkq_queue_stats(world_queue, &stats) == 0);
}

static const struct operation operations[] = {
  { .name = "task_done",
    .maxsize = 3,
    .joinable = true,
    .prepare = three,
    .begin = get_two,
    .act = do_task,
    .takes = 2,
    .floor = 12 },
  { .name = "task_done, the last, for one who joins",
    .joinable = true,
    .prepare = one,
    .begin = get_one,
    .act = do_task,
    .waiting = JOINER,
    .takes = 1,
    .unsteady = true,
    .floor = 12 },
  { .name = "get and task_done, the first of a process",
    .maxsize = 3,
    .joinable = true,
    .prepare = one,
    .act = get_and_do,
    .waiting = JOINER,
    .takes = 1,
    .unsteady = true,
    .floor = 50 },
  { .name = "join, that waits",
    .joinable = true,
    .prepare = one,
    .act = join,
    .wake = world_get,
    .waiting = JOINER,
    .unsteady = true,
    .floor = 15 },
  { .name = "put and close",
    .maxsize = 3,
    .act = put_and_close,
    .puts = 2,
    .floor = 100 },
  { .name = "put and close_put",
    .maxsize = 3,
    .act = put_and_end_puts,
    .puts = 2,
    .floor = 80 },
  { .name = "close, joinable",
    .maxsize = 3,
    .joinable = true,
    .prepare = one,
    .begin = get_one,
    .act = end,
    .takes = 1,
    .floor = 12 },
  { .name = "destroy",
    .maxsize = 3,
    .begin = put_one,
    .act = destroy,
    .puts = 1,
    .floor = 30 },
  { .name = "cancel_join_thread and destroy, with items unsent",
    .maxsize = 3,
    .begin = make_larger,
    .act = put_and_give_up,
    .withdrawn = 2,
    .large = true,
    .unsteady = true,
    .floor = 100 },
  { .name = "shutdown, with one who gets",
    .maxsize = 3,
    .act = shut_down,
    .waiting = GETTER,
    .ending = SHUT_DOWN,
    .floor = 8 },
  { .name = "shutdown, with one who puts and one who joins",
    .maxsize = 3,
    .joinable = true,
    .prepare = three,
    .act = shut_down,
    .waiting = PUTTER | JOINER,
    .ending = SHUT_DOWN,
    .floor = 8 },
  { .name = "shutdown at once, with one who gets",
    .maxsize = 3,
    .act = shut_down_at_once,
    .waiting = GETTER,
    .ending = SHUT_DOWN_AT_ONCE,
    .floor = 15 },
  { .name = "shutdown at once, with one who puts and one who joins",
    .maxsize = 3,
    .joinable = true,
    .prepare = three,
    .act = shut_down_at_once,
    .waiting = PUTTER | JOINER,
    .ending = SHUT_DOWN_AT_ONCE,
    .floor = 20 },
  { .name = "put, and shutdown at once",
    .maxsize = 3,
    .joinable = true,
    .prepare = one,
    .act = put_and_shut_down_at_once,
    .puts = 2,
    .waiting = JOINER,
    .ending = SHUT_DOWN_AT_ONCE,
    .floor = 80 },
  { .name = "receive a queue, and put",
    .maxsize = 3,
    .prepare = send_queue,
    .begin = forget_queue,
    .act = receive_and_put,
    .after = close_sockets,
    .puts = 1,
    .floor = 90 },
  { .name = "attach, and get",
    .maxsize = 3,
    .joinable = true,
    .prepare = three,
    .begin = leave_descriptors,
    .act = attach_and_get,
    .takes = 1,
    .floor = 90 },
  { .name = "interrupt, with one who puts and one who joins",
    .maxsize = 3,
    .joinable = true,
    .prepare = three,
    .act = interrupt,
    .waiting = PUTTER | JOINER,
    .unsteady = true,
    .floor = 4 },
  { .name = "put, and exit", .maxsize = 3, .act = put_and_exit, .puts = 2, .floor = 90 },
  { .name = "cancel_join_thread",
    .maxsize = 3,
    .begin = put_one,
    .act = give_up_waiting,
    .puts = 1,
    .floor = 1 },
  { .name = "create", .act = create_another, .floor = 20 },
  { .name = "qsize, full, empty, stats",
    .maxsize = 3,
    .prepare = three,
    .act = look,
    .floor = 40 },
};

int main(int count, char **arguments) {
  (void)count;
  return world_main(arguments,
                    &(struct world_work){
                        .name = "steps_tasks",
                        .operations = operations,
                        .operation_count = sizeof operations / sizeof *operations,
                        .sample = 1,
                    });
}
