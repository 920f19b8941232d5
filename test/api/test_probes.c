/* The probes of docs/tracing.md are met where they should be, with the arguments that the page names.
 *
 * As a tracer does it, the test reads the notes of the probes, puts a breakpoint in the place of a nop, and
 * reads the arguments where the note says that they are. It is its own tracer: the signal of a breakpoint is
 * handled by the thread that has met it. The feeder's thread lets no signal in; so what it may meet is not
 * looked at while it runs. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"
#include "queue_helpers.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <forkq.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

#define PATIENCE_MS 10000
#define NAME "probed"
#define BREAKPOINT 0xcc
#define NOP 0x90

enum { PROBES_MAX = 64, ARGUMENTS_MAX = 3, SEEN_MAX = 64 };

struct probe {
  uintptr_t pc;
  const char *name, *arguments; /* as in the note: "8@%rax 4@-12(%rbp) -4@$1" */
};

struct seen {
  const char *name;
  int64_t arguments[ARGUMENTS_MAX];
};

static struct probe probes[PROBES_MAX];
static int probe_count;
static struct seen seen[SEEN_MAX];
static int seen_count;

/* ---- the notes ----------------------------------------------------------------------------- */

static int note_base(struct dl_phdr_info *info, size_t size, void *arg) {
  (void)size;
  *(uintptr_t *)arg = info->dlpi_addr;
  return 1; /* the first is the program itself */
}

/* Three addresses and three texts. */
static void add_probe(uintptr_t base, const char *description) {
  Elf64_Addr addresses[3]; /* the note is at a multiple of 4 */
  memcpy(addresses, description, sizeof addresses);
  const char *provider = description + sizeof addresses;
  const char *name = provider + strlen(provider) + 1;
  if (strcmp(provider, "forkq") != 0)
    return;
  ck_assert_int_lt(probe_count, PROBES_MAX);
  probes[probe_count++] =
      (struct probe){ base + addresses[0], name, name + strlen(name) + 1 };
}

static size_t padded(size_t size) {
  return (size + 3) & ~(size_t)3;
}

static void read_notes(uintptr_t base, const char *at, size_t size) {
  const char *end = at + size;
  while (at < end) {
    const Elf64_Nhdr *note = (const Elf64_Nhdr *)at;
    at += sizeof *note;
    add_probe(base, at + padded(note->n_namesz));
    at += padded(note->n_namesz) + padded(note->n_descsz);
  }
}

/* The file stays mapped: the texts are in it. */
static void read_probes(void) {
  struct stat status;
  uintptr_t base = 0;
  int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  ck_assert_int_eq(fstat(fd, &status), 0);
  const char *file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  ck_assert_ptr_ne(file, MAP_FAILED);
  close(fd);
  dl_iterate_phdr(note_base, &base);
  const Elf64_Ehdr *head = (const Elf64_Ehdr *)file;
  const Elf64_Shdr *sections = (const Elf64_Shdr *)(file + head->e_shoff);
  const char *names = file + sections[head->e_shstrndx].sh_offset;
  for (int i = 0; i < head->e_shnum; i++)
    if (strcmp(names + sections[i].sh_name, ".note.stapsdt") == 0)
      read_notes(base, file + sections[i].sh_offset, sections[i].sh_size);
}

/* ---- an argument --------------------------------------------------------------------------- */

static int64_t in_register(const ucontext_t *context, const char *name, int *ret_size) {
  static const struct {
    const char *names[4]; /* of 8, 4, 2 and 1 bytes */
    int index;
  } registers[] = {
    { { "rax", "eax", "ax", "al" }, REG_RAX },
    { { "rbx", "ebx", "bx", "bl" }, REG_RBX },
    { { "rcx", "ecx", "cx", "cl" }, REG_RCX },
    { { "rdx", "edx", "dx", "dl" }, REG_RDX },
    { { "rsi", "esi", "si", "sil" }, REG_RSI },
    { { "rdi", "edi", "di", "dil" }, REG_RDI },
    { { "rbp", "ebp", "bp", "bpl" }, REG_RBP },
    { { "rsp", "esp", "sp", "spl" }, REG_RSP },
    { { "r8", "r8d", "r8w", "r8b" }, REG_R8 },
    { { "r9", "r9d", "r9w", "r9b" }, REG_R9 },
    { { "r10", "r10d", "r10w", "r10b" }, REG_R10 },
    { { "r11", "r11d", "r11w", "r11b" }, REG_R11 },
    { { "r12", "r12d", "r12w", "r12b" }, REG_R12 },
    { { "r13", "r13d", "r13w", "r13b" }, REG_R13 },
    { { "r14", "r14d", "r14w", "r14b" }, REG_R14 },
    { { "r15", "r15d", "r15w", "r15b" }, REG_R15 },
  };
  for (size_t i = 0; i < sizeof registers / sizeof *registers; i++)
    for (int k = 0; k < 4; k++)
      if (strcmp(registers[i].names[k], name) == 0) {
        *ret_size = 8 >> k;
        return context->uc_mcontext.gregs[registers[i].index];
      }
  abort();
}

static int64_t of_size(int64_t value, int size) {
  switch (size) {
  case 8:
    return value;
  case 4:
    return (uint32_t)value;
  case -4:
    return (int32_t)value;
  case -8:
    return value;
  case 1:
    return (uint8_t)value;
  default:
    abort();
  }
}

/* SIZE@$NUMBER, SIZE@%REGISTER or SIZE@OFFSET(%REGISTER). */
static int64_t read_argument(const ucontext_t *context, const char *text) {
  int size, width;
  char name[16];
  long offset = 0;
  int64_t number;
  if (sscanf(text, "%d@$%ld", &size, &number) == 2)
    return of_size(number, size);
  if (sscanf(text, "%d@%%%15[a-z0-9]", &size, name) == 2)
    return of_size(in_register(context, name, &width), size);
  if (sscanf(text, "%d@%ld(%%%15[a-z0-9])", &size, &offset, name) != 3 &&
      sscanf(text, "%d@(%%%15[a-z0-9])", &size, name) != 2)
    abort();
  memcpy(&number, (const char *)in_register(context, name, &width) + offset,
         (size_t)abs(size));
  return of_size(number, size);
}

static void read_arguments(const ucontext_t *context, const struct probe *probe,
                           struct seen *ret_seen) {
  const char *text = probe->arguments;
  ret_seen->name = probe->name;
  for (int i = 0; i < ARGUMENTS_MAX && *text != '\0'; i++) {
    ret_seen->arguments[i] = read_argument(context, text);
    text += strcspn(text, " ");
    text += strspn(text, " ");
  }
}

/* ---- the tracer ---------------------------------------------------------------------------- */

/* A nop is one byte, as the breakpoint is. So the thread just goes on. */
static void met(int signo, siginfo_t *info, void *context) {
  const ucontext_t *now = context;
  uintptr_t pc = (uintptr_t)now->uc_mcontext.gregs[REG_RIP] - 1;
  (void)signo, (void)info;
  for (int i = 0; i < probe_count; i++)
    if (probes[i].pc == pc) {
      if (seen_count < SEEN_MAX)
        read_arguments(now, &probes[i], &seen[seen_count++]);
      return;
    }
  abort();
}

static void write_code(uintptr_t pc, unsigned char from, unsigned char to) {
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  unsigned char *code = (unsigned char *)pc;
  ck_assert_uint_eq(*code, from);
  void *begin = (void *)(pc & ~(page - 1));
  ck_assert_int_eq(mprotect(begin, page, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
  *code = to;
  ck_assert_int_eq(mprotect(begin, page, PROT_READ | PROT_EXEC), 0);
}

static void change(const char *name, unsigned char from, unsigned char to) {
  int places = 0;
  for (int i = 0; i < probe_count; i++)
    if (strcmp(probes[i].name, name) == 0) {
      write_code(probes[i].pc, from, to);
      places++;
    }
  ck_assert_int_gt(places, 0);
}

static void trace(const char *name) {
  change(name, NOP, BREAKPOINT);
}

static void untrace(const char *name) {
  change(name, BREAKPOINT, NOP);
}

static int64_t number(void) {
  struct stat status;
  ck_assert_int_eq(fstat(queue->channel.account.liveness.memory_fd, &status), 0);
  return (int64_t)status.st_ino;
}

static void assert_seen(int index, const char *name, int64_t first, int64_t second,
                        int64_t third) {
  ck_assert_int_lt(index, seen_count);
  ck_assert_str_eq(seen[index].name, name);
  ck_assert_int_eq(seen[index].arguments[0], first);
  ck_assert_int_eq(seen[index].arguments[1], second);
  ck_assert_int_eq(seen[index].arguments[2], third);
}

/* Of those that say the queue by its name. */
static const int64_t *assert_named(int index, const char *name) {
  ck_assert_int_lt(index, seen_count);
  ck_assert_str_eq(seen[index].name, name);
  ck_assert_str_eq((const char *)seen[index].arguments[0], NAME);
  return seen[index].arguments;
}

/* ---- the tests ----------------------------------------------------------------------------- */

static void create(int64_t maxsize, int joinable, int lost_tasks) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.name = NAME;
  options.maxsize = maxsize;
  options.joinable = joinable;
  options.lost_tasks = lost_tasks;
  options.shared_max_bytes = FORKQ_SHARED_NONE;
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
}

static void set_up(void) {
  struct sigaction action = { .sa_sigaction = met, .sa_flags = SA_SIGINFO };
  sigaction(SIGTRAP, &action, NULL);
  read_probes();
  fds_before = support_open_fds();
}

START_TEST(put_and_get_have_the_bytes) {
  forkq_item_t items[3] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT, FORKQ_ITEM_INIT };
  size_t got;
  create(0, 0, 0);
  trace("put");
  ck_assert_int_eq(put_packed("\xa3one", 4, 0), 0);
  ck_assert_int_eq(put(1000, 0), 0);
  ck_assert_int_eq(put(1000, 0), 0);
  ck_assert_int_eq(put_bin(10000, 0), 0);
  untrace("put");
  trace("get");
  ck_assert_int_eq(forkq_queue_get_packed(queue, items, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_get_many_packed(queue, items, 1, PATIENCE_MS, &got), 0);
  ck_assert_int_eq(get(PATIENCE_MS), 1000);
  assert_get_bin(10000);
  untrace("get");
  const int64_t sizes[] = { 4, 3, 3, 10000 };
  for (int i = 0; i < 4; i++) {
    assert_seen(i, "put", number(), sizes[i], 0);
    assert_seen(4 + i, "get", number(), sizes[i], 1);
  }
  ck_assert_int_eq(seen_count, 8);
  for (int i = 0; i < 3; i++)
    forkq_item_destroy(&items[i]);
}
END_TEST

static void pass_a_batch(forkq_item_t items[3]) {
  const forkq_bytes_t messages[] = { { "\x01", 1 }, { "\x02", 1 }, { "\x03", 1 } };
  size_t count;
  ck_assert_int_eq(forkq_queue_put_many_packed(queue, messages, 3, 0, &count), 0);
  until_sent(queue);
  ck_assert_int_eq(forkq_queue_get_many_packed(queue, items, 3, PATIENCE_MS, &count), 0);
  ck_assert_uint_eq(count, 3);
}

/* What comes after the first item was in the packet with it, and is one step, if the items have memory. */
START_TEST(a_batch_is_got_in_two_steps) {
  forkq_item_t items[3] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT, FORKQ_ITEM_INIT };
  create(0, 0, 0);
  pass_a_batch(items);
  trace("get");
  pass_a_batch(items);
  untrace("get");
  ck_assert_int_eq(seen_count, 2);
  assert_seen(0, "get", number(), 1, 1);
  assert_seen(1, "get", number(), 2, 2);
  for (int i = 0; i < 3; i++)
    forkq_item_destroy(&items[i]);
}
END_TEST

START_TEST(waits_begin_and_end) {
  create(1, 1, 0);
  trace("wait_begin");
  trace("wait_end");
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
  ck_assert_int_eq(seen_count, 0);
  ck_assert_int_eq(get(1), FORKQ_TIMEDOUT);
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(2, 1), FORKQ_TIMEDOUT);
  ck_assert_int_eq(forkq_queue_join(queue, 1, NULL), FORKQ_TIMEDOUT);
  untrace("wait_begin");
  untrace("wait_end");
  const int64_t kinds[] = { FORKQ_INSPECT_WAITS_FOR_ITEM, FORKQ_INSPECT_WAITS_FOR_ROOM,
                            FORKQ_INSPECT_WAITS_FOR_TASKS };
  for (int i = 0; i < 3; i++) {
    assert_seen(2 * i, "wait_begin", number(), kinds[i], 0);
    assert_seen(2 * i + 1, "wait_end", number(), kinds[i], FORKQ_TIMEDOUT);
  }
  ck_assert_int_eq(seen_count, 6);
  ck_assert_int_eq(get(PATIENCE_MS), 1);
}
END_TEST

/* A put of a simple queue sends on its own thread. */
START_TEST(a_write_has_its_bytes_and_messages) {
  create_simple();
  trace("write");
  ck_assert_int_eq(put_packed("\xa3one", 4, -1), 0);
  untrace("write");
  ck_assert_int_eq(seen_count, 1);
  struct pollfd pipe = { .fd = queue->channel.read_fd, .events = POLLIN };
  char packet[sizeof(struct forkq__packet)];
  ck_assert_int_eq(poll(&pipe, 1, 0), 1);
  ssize_t size = read(queue->channel.read_fd, packet, sizeof packet);
  assert_seen(0, "write", number(), size, 1);
}
END_TEST

/* The put that waits is the last. Its write finds no room first. */
static void put_until_one_waits(void *arg) {
  (void)arg;
  trace("write");
  trace("wait_begin");
  trace("wait_end");
  do {
    seen_count = 0;
    CHILD_MUST(put_bin(3000, -1) == 0);
  } while (seen_count == 1);
  CHILD_MUST(seen_count >= 4);
  CHILD_MUST(seen[0].arguments[1] == -EAGAIN);
  CHILD_MUST(strcmp(seen[1].name, "wait_begin") == 0);
  CHILD_MUST(seen[1].arguments[1] == FORKQ_INSPECT_WAITS_FOR_PIPE);
  CHILD_MUST(strcmp(seen[2].name, "wait_end") == 0);
  CHILD_MUST(seen[2].arguments[1] == FORKQ_INSPECT_WAITS_FOR_PIPE);
  CHILD_MUST(seen[2].arguments[2] == 0);
}

START_TEST(a_put_that_waits_for_the_pipe) {
  create_simple();
  support_keep_to_pipe(queue);
  support_shrink_pipe(queue);
  pid_t child = support_fork(put_until_one_waits, NULL);
  support_until_pipe_full(queue);
  support_until_asleep(child);
  assert_get_bin(3000);
  ck_assert_int_eq(support_wait(child), 0);
}
END_TEST

/* ---- deaths -------------------------------------------------------------------------------- */

static void die_with_the_read_lock(void *arg) {
  (void)arg;
  CHILD_MUST(pthread_mutex_lock(&queue->segment->channel.read_lock.mutex) == 0);
}

START_TEST(a_lock_whose_owner_died) {
  create(0, 0, 0);
  ck_assert_int_eq(put(1, 0), 0);
  until_sent(queue);
  ck_assert_int_eq(support_wait(support_fork(die_with_the_read_lock, NULL)), 0);
  trace("lock_recovered");
  ck_assert_int_eq(get(PATIENCE_MS), 1);
  untrace("lock_recovered");
  ck_assert_int_eq(seen_count, 1);
  ck_assert_int_eq(assert_named(0, "lock_recovered")[1], FORKQ_INSPECT_READ_LOCK);
}
END_TEST

static void put_more_than_the_pipe_holds(void *arg) {
  (void)arg;
  for (;;)
    CHILD_MUST(put_bin(3000, -1) == 0);
}

START_TEST(a_death_and_what_was_lost) {
  create(900, 0, 0);
  pid_t child = support_fork(put_more_than_the_pipe_holds, NULL);
  support_until_equal(&queue->segment->slots.waiters, 1);
  support_kill_and_wait(child);
  trace("death");
  int64_t left = (int64_t)forkq_queue_qsize(queue);
  while (seen_count == 0)
    left = (int64_t)forkq_queue_qsize(queue);
  untrace("death");
  const int64_t *arguments = assert_named(0, "death");
  ck_assert_int_eq(arguments[1], child);
  ck_assert_int_eq(arguments[2], 900 - left);
}
END_TEST

static void get_and_die(void *arg) {
  (void)arg;
  CHILD_MUST(get(PATIENCE_MS) == 1000);
  kill(getpid(), SIGKILL);
}

START_TEST(a_lost_task_is_got_again) {
  create(0, 1, FORKQ_LOST_TASKS_REDELIVER);
  ck_assert_int_eq(put(1000, 0), 0);
  until_sent(queue);
  ck_assert_int_eq(support_wait(support_fork(get_and_die, NULL)), 128 + SIGKILL);
  trace("get_again");
  ck_assert_int_eq(get(PATIENCE_MS), 1000);
  untrace("get_again");
  ck_assert_int_eq(seen_count, 1);
  assert_seen(0, "get_again", number(), 3, 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("probes");
  TCase *tcase = tcase_create("probes");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  tcase_add_test(tcase, put_and_get_have_the_bytes);
  tcase_add_test(tcase, a_batch_is_got_in_two_steps);
  tcase_add_test(tcase, waits_begin_and_end);
  tcase_add_test(tcase, a_write_has_its_bytes_and_messages);
  tcase_add_test(tcase, a_put_that_waits_for_the_pipe);
  tcase_add_test(tcase, a_lock_whose_owner_died);
  tcase_add_test(tcase, a_death_and_what_was_lost);
  tcase_add_test(tcase, a_lost_task_is_got_again);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
