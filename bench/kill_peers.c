/* The kill test, for forkq's queue and for others: who goes on when a user of the queue dies?
 *
 *   receivers  Three processes that wait for a message are killed with SIGKILL, each for
 *              itself, then one process sends and another one receives.
 *   sender     A process that sends large messages without end, to one that receives, is
 *              killed at a random moment, often in the middle of a message. Then another
 *              one sends 3 messages, and one receives until it has them.
 *
 * Every round has a queue of its own. A round that does not end within two seconds counts as
 * hung; one where a process failed, or met a message that is not what was sent, as failed.
 * What the killed had not handed over may be missing. The seed of the random moments is fixed. */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "peer.h"

#define ROUNDS 50
#define RECEIVERS 3
#define AFTER 3
#define HUNG_SECONDS 2
#define KILL_WITHIN_US 3000
#define SMALL 64
#define LARGE (256 * 1024)
#define LARGE_MQ (64 * 1024)

enum verdict { GOES_ON, HUNG, FAILED, VERDICTS };

enum test { KILLED_RECEIVERS, KILLED_SENDER, TESTS };

struct subject {
  const char *peer; /* NULL: CPython's, by kill_peers.py */
  const char *label;
};

static const struct subject subjects[] = {
  { "forkq", "forkq queue" },
  { NULL, "CPython multiprocessing.Queue" },
  { "mq", "POSIX mq" },
  { "boost", "Boost.Interprocess message_queue" },
  { "zmq", "ZeroMQ PUSH/PULL over ipc" },
};

/* ---- processes --------------------------------------------------------------------- */

struct round {
  const struct peer *peer;
  struct load load;
  void *channel;
};

typedef void part_fn(const struct round *round, unsigned index);

static pid_t start(const struct round *round, part_fn *part, unsigned index) {
  pid_t pid = fork_child();
  if (pid == 0) {
    part(round, index);
    exit(EXIT_SUCCESS);
  }
  return pid;
}

static void nap(long microseconds) {
  const struct timespec time = { .tv_nsec = microseconds * 1000 };
  nanosleep(&time, NULL);
}

/* Until the first thread of a process sleeps. */
static void wait_until_asleep(pid_t pid) {
  char path[64], state = 'R';
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  while (state != 'S') {
    FILE *file = fopen(path, "re");
    if (file == NULL || fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
      errx(EXIT_FAILURE, "%s cannot be read", path);
    fclose(file);
    nap(200);
  }
}

static void kill_and_wait(pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
}

static void must_end(pid_t pid) {
  int status;
  if (waitpid(pid, &status, 0) != pid || status != 0)
    _exit(EXIT_FAILURE);
}

static void join(const struct round *round, enum role role, unsigned index) {
  if (round->peer->join != NULL)
    round->peer->join(round->channel, role, index);
}

static void leave(const struct round *round) {
  if (round->peer->leave != NULL)
    round->peer->leave(round->channel);
}

/* ---- the parts --------------------------------------------------------------------- */

static void be_idle(const struct round *round, unsigned index) {
  join(round, ROLE_CONSUMER, index);
  round->peer->receive(round->channel);
}

static void be_killed_sender(const struct round *round, unsigned index) {
  join(round, ROLE_PRODUCER, index);
  for (uint64_t number = 1;; number++)
    round->peer->send(round->channel, 0, number);
}

static void be_next_sender(const struct round *round, unsigned index) {
  join(round, ROLE_PRODUCER, index);
  for (unsigned i = 1; i <= AFTER; i++)
    round->peer->send(round->channel, 1, i);
  leave(round);
}

/* Leaves with the last message of the next sender. A message that is not whole ends it with
 * a failure (message_read). */
static void be_receiver(const struct round *round, unsigned index) {
  struct message_head head;
  join(round, ROLE_CONSUMER, index);
  do
    head = round->peer->receive(round->channel);
  while (head.producer != 1 || head.number != AFTER);
  leave(round);
}

/* ---- rounds ------------------------------------------------------------------------ */

/* ZeroMQ's consumers each have an address: that of the fourth is free. */
static void kill_receivers(struct round *round) {
  pid_t idle[RECEIVERS];
  for (unsigned i = 0; i < RECEIVERS; i++)
    idle[i] = start(round, be_idle, i);
  for (unsigned i = 0; i < RECEIVERS; i++) {
    wait_until_asleep(idle[i]);
    nap(1000);
    kill_and_wait(idle[i]);
  }
  pid_t receiver = start(round, be_receiver, RECEIVERS);
  pid_t sender = start(round, be_next_sender, 0);
  must_end(receiver);
  must_end(sender);
}

static void kill_sender(struct round *round) {
  pid_t receiver = start(round, be_receiver, 0);
  pid_t sender = start(round, be_killed_sender, 0);
  nap(1000 + random() % KILL_WITHIN_US);
  kill_and_wait(sender);
  pid_t next = start(round, be_next_sender, 0);
  must_end(receiver);
  must_end(next);
}

static struct load load_of(const struct peer *peer, enum test test) {
  bool mq = strcmp(peer->name, "mq") == 0;
  return (struct load){
    .producers = 1,
    .consumers = test == KILLED_RECEIVERS ? RECEIVERS + 1 : 1,
    .size = test == KILLED_RECEIVERS ? SMALL
            : mq                     ? LARGE_MQ
                                     : LARGE,
    .bound = 10,
    .bounded = true,
  };
}

/* In a process of its own, whose end is the end of all that it has started. */
static void lead(const struct peer *peer, enum test test) {
  struct round round = { .peer = peer, .load = load_of(peer, test) };
  char name[64];
  alarm(HUNG_SECONDS);
  snprintf(name, sizeof name, "/forkq-kill-%d", (int)getpid());
  round.channel = peer->open(&round.load, name);
  if (test == KILLED_RECEIVERS)
    kill_receivers(&round);
  else
    kill_sender(&round);
  _exit(EXIT_SUCCESS);
}

static enum verdict run_round(const struct peer *peer, enum test test) {
  fflush(stdout);
  pid_t leader = fork_child();
  int status;
  if (leader == 0)
    lead(peer, test);
  random();
  waitpid(leader, &status, 0);
  if (status == 0)
    return GOES_ON;
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? HUNG : FAILED;
}

static bool run_peer(const struct peer *peer, enum test test, unsigned rounds,
                     unsigned verdicts[VERDICTS]) {
  srandom(1);
  for (unsigned i = 0; i < rounds; i++)
    verdicts[run_round(peer, test)]++;
  return true;
}

/* The script prints how many rounds had which verdict. */
static bool run_script(enum test test, unsigned rounds, unsigned verdicts[VERDICTS]) {
#ifdef BENCH_PYTHON
  char command[4096];
  snprintf(command, sizeof command, "'%s' '%s' %s %u", BENCH_PYTHON, BENCH_KILL_SCRIPT,
           test == KILLED_RECEIVERS ? "receivers" : "sender", rounds);
  FILE *out = popen(command, "re");
  bool ok = out != NULL && fscanf(out, "%u %u %u", &verdicts[GOES_ON], &verdicts[HUNG],
                                  &verdicts[FAILED]) == VERDICTS;
  return out != NULL && pclose(out) == 0 && ok;
#else
  (void)test, (void)rounds, (void)verdicts;
  return false;
#endif
}

static bool run(const struct subject *subject, enum test test, unsigned rounds,
                unsigned verdicts[VERDICTS]) {
  if (subject->peer == NULL)
    return run_script(test, rounds, verdicts);
  const struct peer *peer = peer_find(subject->peer);
  return peer != NULL && run_peer(peer, test, rounds, verdicts);
}

/* Returns whether it went on in all rounds. */
static bool print_row(const struct subject *subject, unsigned rounds) {
  unsigned all = 0;
  printf("| %s |", subject->label);
  for (int test = 0; test < TESTS; test++) {
    unsigned verdicts[VERDICTS] = { 0 };
    if (!run(subject, (enum test)test, rounds, verdicts)) {
      printf(" not installed | | |");
      continue;
    }
    all += verdicts[GOES_ON];
    printf(" %u | %u | %u |", verdicts[GOES_ON], verdicts[HUNG], verdicts[FAILED]);
    fflush(stdout);
  }
  putchar('\n');
  return all == TESTS * rounds;
}

int main(int argc, char **argv) {
  unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : ROUNDS;
  bool ok = true;
  if (argc > 2 || rounds == 0)
    errx(2, "usage: kill_peers [ROUNDS]");
  printf("%u rounds each\n\n"
         "| | 3 waiting receivers killed: goes on | hangs | fails "
         "| a sender killed in mid-message: goes on | hangs | fails |\n"
         "|---|--:|--:|--:|--:|--:|--:|\n",
         rounds);
  for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
    bool all = print_row(&subjects[i], rounds);
    ok = ok && (i > 0 || all); /* forkq has to */
  }
  return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
