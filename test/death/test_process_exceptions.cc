// A run that throws: the exception ends the child, and no frame of the parent sees it there.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <forkq/process.h>
#include <stdexcept>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define MUST(condition)                                                                  \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: this does not hold: %s\n", __FILE__, __LINE__,        \
                   #condition);                                                          \
      std::_Exit(EXIT_FAILURE);                                                          \
    }                                                                                    \
  } while (0)

static volatile int *unwound; // by the child, in frames of the parent

struct Guard {
  pid_t owner = getpid();
  ~Guard() {
    if (getpid() != owner)
      ++*unwound;
  }
};

extern "C" {
static int throw_it(void *) {
  throw std::runtime_error("in the child");
}

static int catch_it(void *) {
  try {
    throw_it(nullptr);
  } catch (const std::runtime_error &) {
    return 3;
  }
  return 0;
}
}

static int exitcode_of(forkq_process_fn run) {
  forkq_process_t *process;
  int code = 1000;
  MUST(forkq_process_start(&process, run, nullptr, nullptr) == 0);
  MUST(forkq_process_join(process, 10000) == 0);
  MUST(forkq_process_exitcode(process, &code) == 1);
  forkq_process_destroy(process);
  return code;
}

static void where_the_parent_catches() {
  try {
    Guard guard;
    MUST(exitcode_of(throw_it) == -SIGABRT);
  } catch (...) {
    ++*unwound;
    std::_Exit(0);
  }
}

static void where_nobody_catches() {
  Guard guard;
  MUST(exitcode_of(throw_it) == -SIGABRT);
}

int main() {
  const struct rlimit no_core = { 0, 0 };
  setrlimit(RLIMIT_CORE, &no_core);
  void *memory = mmap(nullptr, sizeof(int), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  MUST(memory != MAP_FAILED);
  unwound = static_cast<volatile int *>(memory);
  where_the_parent_catches();
  where_nobody_catches();
  MUST(exitcode_of(catch_it) == 3);
  MUST(*unwound == 0);
  std::puts("100%: Checks: 3, Failures: 0, Errors: 0");
  return EXIT_SUCCESS;
}
