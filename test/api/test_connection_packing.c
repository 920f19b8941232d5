/* Packing functions that do not return: by longjmp, or with their thread. What throws is in
 * test_connection_exceptions.cc. */
#define _GNU_SOURCE
#include "connection/connection_impl.h"
#include "connection_ends.h"

#include <pthread.h>
#include <setjmp.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

/* ---- longjmp ------------------------------------------------------------------------------ */

static jmp_buf out_of_it;

static int pack_and_jump(msgpack_packer *packer, void *arg) {
  (void)arg;
  msgpack_pack_array(packer, 2);
  longjmp(out_of_it, 1);
}

static int pack_nil(msgpack_packer *packer, void *arg) {
  (void)arg;
  return msgpack_pack_nil(packer);
}

static void jump_out(void) {
  if (setjmp(out_of_it) == 0) {
    (void)!forkq_connection_send_with(b, pack_and_jump, NULL);
    ck_abort_msg("came back from the send");
  }
  ck_assert_ptr_nonnull(b->packing.frame);
}

static void check_stream(void) {
  ck_assert_int_eq(forkq_connection_poll(a, 0), 0);
  OK(send_text(b, "after"));
  RECEIVES(a, "after");
}

START_TEST(after_a_jump_each_call_goes_on) {
  msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  int fd = -1;
  jump_out();
  OK(forkq_connection_send(b, &nil));
  jump_out();
  OK(forkq_connection_send_with(b, pack_nil, NULL));
  jump_out();
  OK(forkq_connection_send_packed(b, "\xc0", 1));
  for (int i = 0; i < 3; i++) {
    OK(forkq_connection_recv(a, &item));
    ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_NIL);
  }
  jump_out();
  OK(forkq_connection_send_bytes(b, "text", 4, 0, FORKQ_ALL));
  RECEIVES(a, "text");
  jump_out();
  OK(forkq_connection_send_fd(b, 0));
  OK(forkq_connection_recv_fd(a, &fd));
  close(fd);
  check_stream();
  jump_out();
  OK(forkq_connection_close(b));
}
END_TEST

/* In the very function that jumped. */
START_TEST(after_a_jump_its_own_function_goes_on) {
  if (setjmp(out_of_it) == 0)
    (void)!forkq_connection_send_with(b, pack_and_jump, NULL);
  OK(forkq_connection_send_bytes(b, "text", 4, 0, FORKQ_ALL));
  RECEIVES(a, "text");
  check_stream();
}
END_TEST

START_TEST(after_a_jump_nothing_is_lost) {
  use_test_heap();
  OK(forkq_pipe(&a, &b, 0));
  jump_out();
  close_a();
  close_b();
  ck_assert_uint_eq(test_heap.now, 0);
}
END_TEST

/* ---- a stack of the program's own --------------------------------------------------------- */

/* Far apart, so that valgrind tells them from one stack. */
#define STACK ((size_t)256 * 1024)
#define APART ((size_t)16 * 1024 * 1024)

static ucontext_t packing_context, other_context;
static int from_other_stack;

static void send_on_other_stack(void) {
  from_other_stack = forkq_connection_send_bytes(b, "x", 1, 0, 1);
}

static int pack_and_switch(msgpack_packer *packer, void *arg) {
  getcontext(&other_context);
  other_context.uc_stack.ss_sp = arg;
  other_context.uc_stack.ss_size = STACK;
  other_context.uc_link = &packing_context;
  makecontext(&other_context, send_on_other_stack, 0);
  swapcontext(&packing_context, &other_context);
  return msgpack_pack_nil(packer);
}

static void *send_with_other_stack(void *arg) {
  OK(forkq_connection_send_with(b, pack_and_switch, arg));
  return NULL;
}

/* It lies above the thread's: what is called there looks as if the send had been left. */
START_TEST(another_stack_is_inside_the_function) {
  pthread_attr_t attr;
  pthread_t thread;
  char *stacks = mmap(NULL, APART + STACK, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  ck_assert_ptr_ne(stacks, MAP_FAILED);
  pthread_attr_init(&attr);
  ck_assert_int_eq(pthread_attr_setstack(&attr, stacks, STACK), 0);
  ck_assert_int_eq(pthread_create(&thread, &attr, send_with_other_stack, stacks + APART),
                   0);
  pthread_attr_destroy(&attr);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  CODE(from_other_stack, FORKQ_EPACKING);
  OK(forkq_connection_recv(a, &item));
  munmap(stacks, APART + STACK);
  check_stream();
}
END_TEST

/* ---- the end of the thread ---------------------------------------------------------------- */

/* More than the connection keeps. */
static void pack_much(msgpack_packer *packer) {
  enum { SIZE = 1 << 20 };
  char *bytes = pattern(SIZE, 1);
  msgpack_pack_bin(packer, SIZE);
  msgpack_pack_bin_body(packer, bytes, SIZE);
  free(bytes);
}

static int pack_and_exit(msgpack_packer *packer, void *arg) {
  pack_much(packer);
  pthread_exit(arg);
}

static int pack_cancelled(msgpack_packer *packer, void *arg) {
  (void)arg;
  pack_much(packer);
  pthread_cancel(pthread_self());
  pthread_testcancel();
  return 0;
}

static void *send_with_function(void *arg) {
  forkq_pack_fn *pack = arg;
  (void)!forkq_connection_send_with(b, *pack, NULL);
  ck_abort_msg("came back from the send");
}

/* The next to send is deeper in its stack, whichever thread it is. */
static void send_from_below(void) {
  volatile char room[10000];
  room[0] = room[sizeof room - 1] = 0;
  check_stream();
}

START_TEST(a_thread_that_ends_in_its_function_leaves_the_connection_usable) {
  static forkq_pack_fn functions[] = { pack_and_exit, pack_cancelled };
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, send_with_function, &functions[_i]), 0);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
  ck_assert_uint_le(b->out.capacity, 64 * 1024);
  send_from_below();
}
END_TEST

int main(void) {
  Suite *suite = suite_create("packing functions that do not return");
  TCase *tc = add_case(suite, "packing", setup_duplex);
  tcase_add_test(tc, after_a_jump_each_call_goes_on);
  tcase_add_test(tc, after_a_jump_its_own_function_goes_on);
  tcase_add_test(tc, another_stack_is_inside_the_function);
  tcase_add_loop_test(tc, a_thread_that_ends_in_its_function_leaves_the_connection_usable,
                      0, 2);
  tcase_add_test(add_case(suite, "memory", setup_nothing), after_a_jump_nothing_is_lost);
  return support_main(suite);
}
