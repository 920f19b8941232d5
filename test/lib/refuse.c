#include "refuse.h"

#include "support.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/prctl.h>

#define INSTRUCTIONS_MAX 400

/* The lower half of an argument, which is all that the kernel uses of an int. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#  define LOWER_HALF 0
#else
#  define LOWER_HALF 4
#endif

static uint32_t place_of_argument(int argument) {
  return (uint32_t)(offsetof(struct seccomp_data, args) +
                    (size_t)(argument - 1) * sizeof(uint64_t) + LOWER_HALF);
}

/* Each refusal is a few instructions, of which those that do not fit jump to its end. */
static size_t add(struct sock_filter *at, const struct refusal *refusal) {
  const struct sock_filter load_call =
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  const struct sock_filter say = BPF_STMT(
      BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned)refusal->error & SECCOMP_RET_DATA));
  uint8_t after_call = refusal->argument > 0 ? 3 : 1;
  size_t n = 0;
  at[n++] = load_call;
  at[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                         (uint32_t)refusal->call, 0, after_call);
  if (refusal->argument > 0) {
    at[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                           place_of_argument(refusal->argument));
    at[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refusal->is, 0, 1);
  }
  at[n++] = say;
  return n;
}

void refuse(const struct refusal *refusals, size_t count) {
  static struct sock_filter instructions[INSTRUCTIONS_MAX];
  size_t n = 0;
  for (size_t i = 0; i < count; i++) {
    CHILD_MUST(n + 6 < INSTRUCTIONS_MAX);
    if (refusals[i].call >= 0)
      n += add(instructions + n, &refusals[i]);
  }
  instructions[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = { (unsigned short)n, instructions };
  CHILD_MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHILD_MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void refuse_nothing(void *arg) {
  (void)arg;
  refuse(NULL, 0);
}

/* The child that cannot says why not. */
bool can_refuse(void) {
  return support_wait(support_fork(refuse_nothing, NULL)) == 0;
}
