#define _GNU_SOURCE
#include "support.h"

#include "queue/queue_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <forkq/base.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 10000

static bool is_child;

/* A child that ends with _exit has to write down itself what it covered. */
#ifdef FORKQ_COVERAGE
void __gcov_dump(void);
static void write_coverage(void) {
  __gcov_dump();
}
#else
static void write_coverage(void) {}
#endif

void support_child_failed(const char *file, int line, const char *condition) {
  fprintf(stderr, "%s:%d: in a child, this does not hold: %s\n", file, line, condition);
  _exit(1);
}

/* Longer where a checker makes everything slow, which is told to Check in this way. */
static int64_t patience_ms(void) {
  const char *multiplier = getenv("CK_TIMEOUT_MULTIPLIER");
  int times = multiplier == NULL ? 1 : atoi(multiplier);
  return PATIENCE_MS * (int64_t)(times > 0 ? times : 1);
}

static void give_up(const char *what) {
  if (is_child)
    support_child_failed(__FILE__, __LINE__, what);
  ck_abort_msg("waited %lld ms in vain: %s", (long long)patience_ms(), what);
}

int64_t support_now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until the condition holds. */
static void until(bool (*holds)(const void *arg), const void *arg, const char *what) {
  const struct timespec moment = { 0, 100000 };
  int64_t deadline = support_now_ms() + patience_ms();
  while (!holds(arg)) {
    if (support_now_ms() > deadline)
      give_up(what);
    nanosleep(&moment, NULL);
  }
}

/* ---- children ---------------------------------------------------------------------- */

pid_t support_fork(void (*fn)(void *arg), void *arg) {
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid < 0)
    give_up("fork");
  if (pid > 0)
    return pid;
  is_child = true;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent)
    _exit(1);
  fn(arg);
  write_coverage();
  _exit(0);
}

int support_wait(pid_t child) {
  int status;
  while (waitpid(child, &status, 0) != child)
    if (errno != EINTR)
      give_up("waitpid");
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void wait_without_reaping(pid_t child, int events) {
  siginfo_t info;
  while (waitid(P_PID, (id_t)child, &info, events | WNOWAIT) != 0)
    if (errno != EINTR)
      give_up("waitid");
}

void support_end_after(unsigned seconds) {
  signal(SIGALRM, SIG_DFL);
  alarm(seconds);
}

void support_kill(pid_t child) {
  kill(child, SIGKILL);
  wait_without_reaping(child, WEXITED);
}

void support_kill_and_wait(pid_t child) {
  kill(child, SIGKILL);
  if (support_wait(child) != 128 + SIGKILL)
    give_up("a child ended before it was killed");
}

void support_stop(pid_t child) {
  kill(child, SIGSTOP);
  wait_without_reaping(child, WSTOPPED);
}

void support_stop_unless_ended(pid_t child) {
  kill(child, SIGSTOP);
  wait_without_reaping(child, WSTOPPED | WEXITED);
}

void *support_shared(size_t size) {
  void *memory =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    give_up("mmap");
  return memory;
}

/* ---- waiting for a state ----------------------------------------------------------- */

static bool is_set(const void *arg) {
  return atomic_load((const _Atomic int *)arg) != 0;
}

void support_until(_Atomic int *flag) {
  until(is_set, (const void *)flag, "a flag is set");
}

struct wanted {
  const _Atomic uint32_t *word;
  uint32_t value;
};

static bool is_equal(const void *arg) {
  const struct wanted *wanted = arg;
  return atomic_load(wanted->word) == wanted->value;
}

void support_until_equal(const _Atomic uint32_t *word, uint32_t value) {
  struct wanted wanted = { word, value };
  until(is_equal, &wanted, "a word has a value");
}

char support_state_in(const char *path) {
  char line[512] = "";
  FILE *file = fopen(path, "re");
  if (file == NULL)
    return 'X';
  bool has_line = fgets(line, sizeof line, file) != NULL;
  fclose(file);
  const char *name_end = strrchr(line, ')');
  return has_line && name_end != NULL ? name_end[2] : 'X';
}

bool support_asleep(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  return support_state_in(path) == 'S';
}

static bool pid_asleep(const void *arg) {
  return support_asleep(*(const pid_t *)arg);
}

void support_until_asleep(pid_t pid) {
  until(pid_asleep, &pid, "a process is asleep");
}

/* How many threads of this process sleep, and how many do not; the caller is not counted. */
static void count_threads(int *ret_asleep, int *ret_awake) {
  DIR *dir = opendir("/proc/self/task");
  char path[64];
  *ret_asleep = *ret_awake = 0;
  for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
    int tid = atoi(entry->d_name);
    if (tid <= 0 || tid == gettid())
      continue;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    *(support_state_in(path) == 'S' ? ret_asleep : ret_awake) += 1;
  }
  if (dir != NULL)
    closedir(dir);
}

static bool threads_asleep(const void *arg) {
  int asleep, awake;
  count_threads(&asleep, &awake);
  return asleep >= *(const int *)arg;
}

void support_until_threads_asleep(int count) {
  until(threads_asleep, &count, "threads are asleep");
}

static bool others_asleep(const void *arg) {
  (void)arg;
  int asleep, awake;
  count_threads(&asleep, &awake);
  return awake == 0;
}

void support_until_others_asleep(void) {
  until(others_asleep, NULL, "all other threads are asleep");
}

static bool thread_asleep(const void *arg) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)*(const pid_t *)arg);
  return support_state_in(path) == 'S';
}

void support_until_thread_asleep(pid_t thread) {
  until(thread_asleep, &thread, "a thread is asleep");
}

void *support_join(pthread_t thread) {
  struct timespec end;
  void *result = NULL;
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_sec += (time_t)(patience_ms() / 1000);
  if (pthread_timedjoin_np(thread, &result, &end) != 0)
    give_up("a thread ends");
  return result;
}

/* A packet pipe's writing end: only that end says O_DIRECT, and it tells the level too. */
static int packet_pipe(void) {
  DIR *dir = opendir("/proc/self/fd");
  int found = -1;
  for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
    int fd = atoi(entry->d_name);
    int flags = entry->d_name[0] == '.' || fd == dirfd(dir) ? -1 : fcntl(fd, F_GETFL);
    /* Only pipes have a size; a file may be open with O_DIRECT as well. */
    if (flags != -1 && (flags & O_DIRECT) && (flags & O_ACCMODE) == O_WRONLY &&
        fcntl(fd, F_GETPIPE_SZ) > 0)
      found = fd;
  }
  if (dir != NULL)
    closedir(dir);
  if (found < 0)
    give_up("this process has a packet pipe");
  return found;
}

static bool pipe_full(const void *arg) {
  struct pollfd end = { .fd = *(const int *)arg, .events = POLLOUT };
  return poll(&end, 1, 0) == 0;
}

static bool pipe_empty(const void *arg) {
  int bytes = -1;
  return ioctl(*(const int *)arg, FIONREAD, &bytes) == 0 && bytes == 0;
}

void support_keep_to_pipe(void *queue) {
  ((struct forkq_queue *)queue)->feeder.sender.arena.limit = 0;
}

void support_copy_late(void *queue) {
  ((struct forkq_queue *)queue)->channel.late_min = SUPPORT_LATE;
}

void support_until_pipe_full(const void *queue) {
  (void)queue;
  int fd = packet_pipe();
  until(pipe_full, &fd, "a pipe is full");
}

void support_until_pipe_empty(const void *queue) {
  (void)queue;
  int fd = packet_pipe();
  until(pipe_empty, &fd, "a pipe is empty");
}

void support_shrink_pipe(const void *queue) {
  (void)queue;
  if (fcntl(packet_pipe(), F_SETPIPE_SZ, 16 * 4096) < 0)
    give_up("a pipe can be made smaller");
}

/* ---- what is open, what is allocated ----------------------------------------------- */

int support_open_fds(void) {
  DIR *dir = opendir("/proc/self/fd");
  ck_assert_ptr_nonnull(dir);
  int count = 0;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
    if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(dir))
      count++;
  closedir(dir);
  return count;
}

int support_open_fds_below(int number) {
  int count = 0;
  for (int fd = 0; fd < number; fd++)
    count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

static _Atomic long heap_requests, heap_live, heap_countdown;
static _Atomic bool heap_persistent;

static bool request_fails(void) {
  atomic_fetch_add(&heap_requests, 1);
  if (atomic_load(&heap_countdown) <= 0)
    return false;
  /* It stays at 1, which is the next, for as long as all shall fail. */
  if (atomic_load(&heap_countdown) == 1 && atomic_load(&heap_persistent))
    return true;
  return atomic_fetch_sub(&heap_countdown, 1) == 1;
}

static void *heap_malloc(size_t size, void *arg) {
  (void)arg;
  void *memory = request_fails() ? NULL : malloc(size);
  if (memory != NULL)
    atomic_fetch_add(&heap_live, 1);
  return memory;
}

static void *heap_realloc(void *memory, size_t size, void *arg) {
  (void)arg;
  if (request_fails())
    return NULL;
  void *moved = realloc(memory, size);
  if (memory == NULL && moved != NULL)
    atomic_fetch_add(&heap_live, 1);
  return moved;
}

static void heap_free(void *memory, void *arg) {
  (void)arg;
  atomic_fetch_sub(&heap_live, 1);
  free(memory);
}

void support_heap_install(void) {
  static const forkq_heap_t heap = { heap_malloc, heap_realloc, heap_free, NULL };
  forkq_heap_set(&heap);
}

void support_heap_fail_at(long k, bool persistent) {
  atomic_store(&heap_countdown, 0);
  atomic_store(&heap_persistent, persistent);
  atomic_store(&heap_countdown, k);
}

long support_heap_live(void) {
  return atomic_load(&heap_live);
}

long support_heap_requests(void) {
  return atomic_load(&heap_requests);
}

/* ---- numbers ----------------------------------------------------------------------- */

/* splitmix64: a step of an odd constant, and a mix of its bits. */
uint64_t support_random(uint64_t *seed) {
  uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}

uint32_t support_random_below(uint64_t *seed, uint32_t limit) {
  return (uint32_t)(support_random(seed) % limit);
}

void support_fill(void *data, size_t size, uint64_t seed) {
  uint8_t *bytes = data;
  for (size_t i = 0; i < size; i++)
    bytes[i] = (uint8_t)(support_random(&seed) >> 56);
}

int support_main(Suite *suite) {
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
