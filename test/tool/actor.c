/* actor SCENE: processes and a queue in a state that the tests of the program forkq look at.
 *
 * It prints a line "ROLE PID" for each process and then "ready". It goes on until its standard input ends,
 * and then kills its children. Who looks waits until what it expects is there: a child says that it is in
 * its call right before the call. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"

#include <forkq.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILDREN_MAX 64
#define LARGE 3000 /* bytes of a message of which the pipe holds some hundreds at most */

static forkq_queue_t *queue;
static pid_t children[CHILDREN_MAX];
static int child_count;
static const char *scene_argument;

static void must(int result) {
  if (result >= 0)
    return;
  fprintf(stderr, "actor: %s\n", forkq_strerror(result));
  _exit(EXIT_FAILURE);
}

/* ---- children ------------------------------------------------------------------------------ */

static int told[2];

static void tell(void) {
  if (write(told[1], "x", 1) != 1)
    _exit(EXIT_FAILURE);
}

/* Forks a child that calls `act`, which tells when it has come so far. */
static pid_t start(const char *role, void (*act)(void)) {
  char byte;
  if (pipe(told) != 0)
    _exit(EXIT_FAILURE);
  pid_t parent = getpid(), child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
      _exit(EXIT_FAILURE);
    prctl(PR_SET_NAME, role);
    act();
    exit(EXIT_SUCCESS);
  }
  close(told[1]);
  if (child < 0 || child_count == CHILDREN_MAX || read(told[0], &byte, 1) != 1)
    _exit(EXIT_FAILURE);
  close(told[0]);
  children[child_count++] = child;
  printf("%s %d\n", role, (int)child);
  return child;
}

static void stop(pid_t child) {
  kill(child, SIGSTOP);
  waitpid(child, NULL, WUNTRACED);
}

static void end(pid_t child) {
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
}

static void end_all(void) {
  for (int i = 0; i < child_count; i++)
    kill(children[i], SIGKILL);
  while (wait(NULL) > 0)
    ;
}

/* ---- what they do -------------------------------------------------------------------------- */

static void create(const char *name, int64_t maxsize, int joinable) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.name = name;
  options.maxsize = maxsize;
  options.joinable = joinable;
  options.shared_max_bytes = FORKQ_SHARED_NONE;
  must(forkq_queue_create_with(&queue, &options));
}

static void put_numbers(int count) {
  for (int i = 0; i < count; i++)
    must(forkq_queue_put_int(queue, i, -1));
  must(forkq_queue_flush(queue, -1, NULL));
}

static void put_large(int count) {
  static char data[LARGE];
  for (int i = 0; i < count; i++)
    must(forkq_queue_put_bytes(queue, data, sizeof data, -1));
}

static void idle(void) {
  tell();
  for (;;)
    pause();
}

static void put_one(void) {
  tell();
  must(forkq_queue_put_int(queue, 7, -1));
}

static void get_one(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  tell();
  must(forkq_queue_get(queue, &item, -1));
}

/* Puts more than the pipe holds, and ends. */
static void put_and_exit(void) {
  put_large(900);
  tell();
}

/* Puts more than the pipe holds, and stays. */
static void put_and_stay(void) {
  put_large(900);
  idle();
}

static void join(void) {
  tell();
  must(forkq_queue_join(queue, -1, NULL));
}

/* Gets three, has done one, and goes on. */
static void work(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (int i = 0; i < 3; i++)
    must(forkq_queue_get(queue, &item, -1));
  must(forkq_queue_task_done(queue));
  idle();
}

/* In the middle of a get, for whoever looks. */
static void keep_read_lock(void) {
  if (pthread_mutex_lock(&queue->segment->channel.read_lock.mutex) != 0)
    _exit(EXIT_FAILURE);
  idle();
}

static void get_all(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  tell();
  for (;;)
    must(forkq_queue_get(queue, &item, -1));
}

/* ---- when they have come so far ------------------------------------------------------------ */

static void until(_Atomic uint32_t *word, uint32_t value) {
  while (atomic_load(word) != value)
    poll(NULL, 0, 1);
}

static void until_putter_waits(void) {
  until(&queue->segment->slots.waiters, 1);
}

static void until_getter_sleeps(void) {
  until(&queue->segment->channel.asleep, 1);
}

static void until_another_waits(void) {
  until(&queue->segment->channel.turn_waiting, 1);
}

/* ---- scenes -------------------------------------------------------------------------------- */

static void quiet(void) {
  create("quiet", 10, 0);
  put_numbers(3);
  start("idler", idle);
}

static void full(void) {
  create("full", 3, 0);
  put_numbers(3);
  start("idler", idle);
  start("putter", put_one);
}

/* Whose threads nobody may look at without a right to do so. */
static void hide_and_put(void) {
  if (prctl(PR_SET_DUMPABLE, 0) != 0)
    _exit(EXIT_FAILURE);
  put_one();
}

static void hidden(void) {
  create("hidden", 3, 0);
  put_numbers(3);
  start("putter", hide_and_put);
}

static void unread(void) {
  create("unread", 0, 0);
  start("worker", put_and_exit);
}

static void stopped(void) {
  create("stopped", 0, 0);
  pid_t reader = start("reader", get_one);
  until_getter_sleeps();
  stop(reader);
  start("worker", put_and_exit);
  must(forkq_queue_close(queue));
}

static void full_stopped(void) {
  create("fullstopped", 3, 0);
  pid_t reader = start("reader", get_one);
  until_getter_sleeps();
  stop(reader);
  put_numbers(3);
  start("putter", put_one);
}

/* The putter is stopped, so it does not notice. */
static void full_dead(void) {
  create("fulldead", 900, 0);
  pid_t victim = start("victim", put_and_stay);
  pid_t putter = start("putter", put_one);
  until_putter_waits();
  stop(putter);
  end(victim);
}

static void slow(void) {
  create("slow", 3, 0);
  put_numbers(3);
  start("getter", keep_read_lock);
  start("putter", put_one);
}

static void unheard(void) {
  create("unheard", 0, 0);
  start("putter", put_and_stay);
  must(forkq_queue_close(queue));
}

static void unsent_slow(void) {
  create("unsentslow", 0, 0);
  start("getter", keep_read_lock);
  start("putter", put_and_stay);
}

static void unnoticed(void) {
  create("unnoticed", 0, 0);
  end(start("victim", put_and_stay));
  start("getter", get_all);
}

static void sender_stopped(void) {
  create("senderstopped", 0, 0);
  stop(start("putter", put_and_stay));
  start("getter", get_all);
}

/* Who waits for the turn looks beside it. So both are stopped. */
static void reader_stopped(void) {
  create("readerstopped", 0, 0);
  pid_t reader = start("reader", get_one);
  until_getter_sleeps();
  stop(reader);
  pid_t getter = start("getter", get_one);
  until_another_waits();
  stop(getter);
  put_numbers(3);
}

static void shut_stopped(void) {
  create("shutstopped", 0, 0);
  pid_t getter = start("getter", get_one);
  until_getter_sleeps();
  stop(getter);
  must(forkq_queue_shutdown(queue, 0));
}

static void locked(void) {
  create("locked", 0, 0);
  put_numbers(3);
  start("owner", keep_read_lock);
  start("waiter", get_one);
}

static void empty(void) {
  create("empty", 0, 0);
  start("putter", idle);
  start("getter", get_one);
  start("second", get_one);
}

static void alone(void) {
  create("alone", 0, 0);
  start("getter", get_one);
  must(forkq_queue_close(queue));
}

static void no_getters(void) {
  create("nogetters", 2, 0);
  put_numbers(2);
  start("putter", put_one);
  must(forkq_queue_close(queue));
}

static void dead_owner(void) {
  create("dead", 0, 0);
  start("getter", get_one);
  pid_t victim = start("victim", put_and_stay);
  end(victim);
  printf("gone %d\n", (int)victim);
}

static void tasks(void) {
  create("tasks", 0, 1);
  put_numbers(5);
  start("worker", work);
  start("joiner", join);
}

/* Two messages that lie in the pipe in fragments. */
static void fragments(void) {
  static char text[20000];
  create("fragments", 0, 0);
  memset(text, 'x', sizeof text);
  for (int i = 0; i < 2; i++)
    must(forkq_queue_putf(queue, -1, "s#", text, sizeof text));
  must(forkq_queue_flush(queue, -1, NULL));
}

static void down(void) {
  create("down", 0, 0);
  put_numbers(3);
  must(forkq_queue_shutdown(queue, 0));
}

/* Three queues, of which the first in the order of names is not the fullest. */
static void named(void) {
  create("a", 10, 0);
  put_numbers(5);
  create("b", 10, 0);
  create("c", 10, 0);
  put_numbers(9);
}

/* As many queues as the argument says. */
static void many(void) {
  for (int i = 0; i < atoi(scene_argument); i++)
    create("many", 0, 0);
}

/* A producer and a consumer that never rest. */
static void busy_put(void) {
  tell();
  for (int64_t i = 0;; i++)
    must(forkq_queue_put_int(queue, i, -1));
}

static void busy(void) {
  create("busy", 100, 0);
  start("producer", busy_put);
  start("consumer", get_all);
}

static const struct {
  const char *name;
  void (*begin)(void);
} scenes[] = {
  { "quiet", quiet },
  { "full", full },
  { "hidden", hidden },
  { "fullstopped", full_stopped },
  { "fulldead", full_dead },
  { "slow", slow },
  { "unread", unread },
  { "stopped", stopped },
  { "unheard", unheard },
  { "unsentslow", unsent_slow },
  { "empty", empty },
  { "alone", alone },
  { "unnoticed", unnoticed },
  { "senderstopped", sender_stopped },
  { "readerstopped", reader_stopped },
  { "shutstopped", shut_stopped },
  { "tasks", tasks },
  { "locked", locked },
  { "down", down },
  { "fragments", fragments },
  { "nogetters", no_getters },
  { "dead", dead_owner },
  { "many", many },
  { "named", named },
  { "busy", busy },
};

int main(int argc, char **argv) {
  char byte;
  if (argc < 2)
    return EXIT_FAILURE;
  scene_argument = argc > 2 ? argv[2] : "0";
  for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++)
    if (strcmp(scenes[i].name, argv[1]) == 0)
      scenes[i].begin();
  printf("actor %d\nready\n", (int)getpid());
  fflush(stdout);
  while (read(STDIN_FILENO, &byte, 1) > 0)
    ;
  end_all();
  if (queue != NULL) {
    (void)forkq_queue_cancel_join_thread(queue);
    forkq_queue_destroy(queue);
  }
  return EXIT_SUCCESS;
}
