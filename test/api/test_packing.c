/* Packing functions that do not return: by longjmp, at the end of their thread, or cancelled. The
 * queue is whole afterwards, and can be used from anywhere. Those that leave by an exception are in
 * test_exceptions.cc. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"

#include "loop_support.h"
#include "packing_without_tables.h"

#include <setjmp.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

/* ---- a function that leaves -------------------------------------------------------------- */

enum way { BY_LONGJMP, BY_SIGLONGJMP, BY_EXIT, BY_CANCELLATION, BY_THAT_OF_ANOTHER };

struct leaving {
  int way;
  size_t bytes; /* that it has written */
  _Atomic int asleep;
};

/* Nothing, part of a packet, many packets. */
static const size_t sizes[] = { 0, 100, 100000 };
#define SIZES ((int)(sizeof sizes / sizeof *sizes))

static jmp_buf back;
static sigjmp_buf signal_back;

static int leave(msgpack_packer *packer, void *arg) {
  static char body[100000];
  struct leaving *leaving = arg;
  if (leaving->bytes > 0) {
    msgpack_pack_bin(packer, leaving->bytes + 1);
    msgpack_pack_bin_body(packer, body, leaving->bytes);
  }
  switch (leaving->way) {
  case BY_LONGJMP:
    longjmp(back, 1);
  case BY_SIGLONGJMP:
    siglongjmp(signal_back, 1);
  case BY_EXIT:
    pthread_exit(leaving);
  case BY_CANCELLATION:
    pthread_cancel(pthread_self());
    pthread_testcancel();
    break;
  case BY_THAT_OF_ANOTHER:
    atomic_store(&leaving->asleep, 1);
    for (;;)
      pause();
  }
  return -1;
}

/* ---- the calls that are given the function ----------------------------------------------- */

static struct outcome outcome;

static int put_with(struct leaving *leaving) {
  return forkq_queue_put_with(queue, leave, leaving, -1);
}

static int put_with_at_once(struct leaving *leaving) {
  return forkq_queue_put_with(queue, leave, leaving, 0);
}

static int loop_put_with(struct leaving *leaving) {
  return forkq_loop_put_with(&outcome.req, handle, leave, leaving, -1, keep_outcome);
}

static int (*const calls[])(struct leaving *) = { put_with, put_with_at_once,
                                                  loop_put_with };
#define CALLS ((int)(sizeof calls / sizeof *calls))

static void set_up(void) {
  loop_set_up_bounded(); /* two items */
}

/* A thread keeps the memory of one packet. */
static void tear_down(void) {
  loop_tear_down();
  free_outcome(&outcome);
  ck_assert_int_le(support_heap_live(), 1);
}

/* The type exists for its users only: what is inside is a queue. */
static forkq_simple_queue_t *simple;

static void set_up_simple(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_simple_queue_create(&simple), 0);
  queue = (forkq_queue_t *)simple;
}

static void tear_down_simple(void) {
  queue_tear_down();
  ck_assert_int_le(support_heap_live(), 1);
}

static int simple_put_with(struct leaving *leaving) {
  return forkq_simple_queue_put_with(simple, leave, leaving);
}

/* Not inlined: its frame is gone when it returns. */
static __attribute__((noinline)) void leave_once(int (*call)(struct leaving *), int way,
                                                 size_t bytes) {
  static struct leaving leaving;
  leaving = (struct leaving){ .way = way, .bytes = bytes };
  if (way == BY_LONGJMP ? setjmp(back) == 0 : sigsetjmp(signal_back, 1) == 0) {
    (void)call(&leaving);
    ck_abort_msg("a packing function has returned");
  }
}

/* ---- the first call after that, of all kinds and from everywhere ------------------------- */

/* Each leaves the queue as it was. */
static void first_put(void) {
  ck_assert_int_eq(put(1, 1000), 0);
  ck_assert_int_eq(get(1000), 1);
}

static void first_get(void) {
  ck_assert_int_eq(get(0), FORKQ_EMPTY);
}

static int pack_one(msgpack_packer *packer, void *arg) {
  (void)arg;
  return msgpack_pack_int(packer, 1);
}

static void first_put_with(void) {
  ck_assert_int_eq(forkq_queue_put_with(queue, pack_one, NULL, 0), 0);
  ck_assert_int_eq(get(1000), 1);
}

static void first_create(void) {
  forkq_queue_t *another;
  ck_assert_int_eq(forkq_queue_create(&another, 0), 0);
  ck_assert_int_eq(put_int(another, 1, 0), 0);
  forkq_queue_destroy(another);
}

static void first_empty(void) {
  ck_assert_int_eq(forkq_queue_empty(queue), 1);
}

static void (*const firsts[])(void) = { first_put, first_get, first_put_with,
                                        first_create, first_empty };
#define FIRSTS ((int)(sizeof firsts / sizeof *firsts))

/* From a frame that lies deeper than that of the function that has left. */
static __attribute__((noinline)) int from_deeper(void (*first)(void), int frames) {
  volatile char room[1000];
  memset((void *)(uintptr_t)room, frames, sizeof room);
  if (frames == 0)
    first();
  else
    (void)from_deeper(first, frames - 1);
  return room[sizeof room / 2];
}

static void *from_thread(void *first) {
  (*(void (*const *)(void))first)();
  return NULL;
}

static void from_another_thread(void (*first)(void)) {
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, from_thread, &first), 0);
  ck_assert_ptr_null(support_join(thread));
}

static void in_child(void *first) {
  (*(void (*const *)(void))first)();
}

static void from_child(void (*first)(void)) {
  support_until_others_asleep();
  ck_assert_int_eq(support_wait(support_fork(in_child, &first)), 0);
}

/* The call after it is from another place. */
static void call_from(int place, void (*first)(void)) {
  switch (place) {
  case 0:
    first();
    break;
  case 1:
    (void)from_deeper(first, 20);
    break;
  case 2:
    from_another_thread(first);
    break;
  case 3:
    from_child(first);
    break;
  }
}
#define PLACES 4

static void assert_room_for_two(void) {
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(put(3, 0), FORKQ_FULL);
  ck_assert_int_eq(get(1000), 1);
  ck_assert_int_eq(get(1000), 2);
}

/* Into what the functions write: packets, or a piece of the arena. */
enum { INTO_PACKETS, INTO_PIECE, WAYS };

static int pack_much(msgpack_packer *packer, void *data) {
  return packer->callback(packer->data, data, 100001);
}

/* What a burst of packets leaves for the next is freed little by little; so it comes first. And the size
 * of the last object is that of the next one's piece. */
static void warm_up(int way) {
  static char data[100001];
  if (way == INTO_PACKETS)
    support_keep_to_pipe(queue);
  make_bin(data, sizeof data);
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(forkq_queue_put_with(queue, pack_much, data, -1), 0);
    assert_get_bin(sizeof data);
  }
  ck_assert_int_eq(queue->feeder.sender.arena.memory != NULL, way == INTO_PIECE);
}

static void leave_and_call(int (*call)(struct leaving *), int way, size_t bytes,
                           int place, void (*first)(void)) {
  long live = support_heap_live();
  leave_once(call, way, bytes);
  call_from(place, first);
  first_get(); /* a call of this thread */
  assert_no_piece_is_used();
  ck_assert_int_le(support_heap_live(), live + 1);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  assert_nothing_held();
}

/* Every call, size and way with every place and first call. */
START_TEST(it_may_leave_by_longjmp) {
  int (*call)(struct leaving *) = calls[_i / WAYS];
  warm_up(_i % WAYS);
  for (int n = 0; n < SIZES * PLACES * FIRSTS; n++) {
    leave_and_call(call, n % 2 ? BY_LONGJMP : BY_SIGLONGJMP, sizes[n % SIZES],
                   n / SIZES % PLACES, firsts[n / SIZES / PLACES]);
    assert_room_for_two();
  }
  assert_whole();
}
END_TEST

/* The request had to wait for room: it is as if it had not been started. */
START_TEST(it_may_leave_by_longjmp_where_a_loop_has_to_wait) {
  for (int n = 0; n < 2 * SIZES; n++) {
    ck_assert_int_eq(put(1, 0), 0);
    ck_assert_int_eq(put(2, 0), 0);
    long live = support_heap_live();
    leave_once(loop_put_with, n % 2 ? BY_LONGJMP : BY_SIGLONGJMP, sizes[n / 2]);
    ck_assert_int_eq(forkq_queue_full(queue), 1);
    ck_assert_int_eq(put(3, 0), FORKQ_FULL);
    ck_assert_int_le(support_heap_live(), live + 1);
    ck_assert_int_eq(forkq_loop_cancel(&outcome.req), FORKQ_ENOTPENDING);
    ck_assert_int_eq(start_put(&outcome, 3, -1), 0);
    ck_assert_int_eq(get(1000), 1);
    run_until(&outcome);
    ck_assert_int_eq(outcome.status, 0);
    outcome.calls = 0;
    ck_assert_int_eq(get(1000), 2);
    ck_assert_int_eq(get(1000), 3);
    assert_nothing_held();
  }
}
END_TEST

/* What it leaves in the middle of a wait of the loop's: a put that waits there goes on. */
START_TEST(it_may_leave_by_longjmp_beside_a_put_that_waits) {
  struct outcome waiting = { .calls = 0 };
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(put(2, 0), 0);
  ck_assert_int_eq(start_put(&waiting, 3, -1), 0);
  leave_once(loop_put_with, BY_LONGJMP, 100000);
  ck_assert_int_eq(get(1000), 1);
  run_until(&waiting);
  ck_assert_int_eq(waiting.status, 0);
  ck_assert_int_eq(get(1000), 2);
  ck_assert_int_eq(get(1000), 3);
  free_outcome(&waiting);
}
END_TEST

START_TEST(it_may_leave_a_simple_queue_by_longjmp) {
  warm_up(_i);
  for (int n = 0; n < SIZES * PLACES * FIRSTS; n++)
    leave_and_call(simple_put_with, n % 2 ? BY_LONGJMP : BY_SIGLONGJMP, sizes[n % SIZES],
                   n / SIZES % PLACES, firsts[n / SIZES / PLACES]);
  assert_whole();
}
END_TEST

START_TEST(the_queue_can_be_closed_after_it_left) {
  leave_once(put_with, BY_LONGJMP, 100000);
  ck_assert_int_eq(put(1, 0), 0);
  leave_once(put_with, BY_LONGJMP, 100000);
  loop_close_handle();
  leave_once(put_with, BY_LONGJMP, 100);
  ck_assert_int_eq(forkq_queue_close(queue), 0);
  ck_assert_int_eq(forkq_queue_join_thread(queue, 10000, NULL), 0);
}
END_TEST

/* ---- threads that end in it -------------------------------------------------------------- */

struct thread {
  pthread_t thread;
  int (*call)(struct leaving *);
  struct leaving leaving;
};

static void *call_in_thread(void *arg) {
  struct thread *thread = arg;
  (void)thread->call(&thread->leaving);
  return NULL;
}

static void end_in_function(int (*call)(struct leaving *), int way, size_t bytes) {
  struct thread thread = { .call = call, .leaving = { .way = way, .bytes = bytes } };
  ck_assert_int_eq(pthread_create(&thread.thread, NULL, call_in_thread, &thread), 0);
  if (way == BY_THAT_OF_ANOTHER) {
    support_until(&thread.leaving.asleep);
    ck_assert_int_eq(forkq_queue_qsize(queue), 0);
    first_put(); /* nobody has to wait for it */
    ck_assert_int_eq(pthread_cancel(thread.thread), 0);
  }
  void *result = way == BY_EXIT ? (void *)&thread.leaving : PTHREAD_CANCELED;
  ck_assert_ptr_eq(support_join(thread.thread), result);
}

static void end_in_functions(int (*call)(struct leaving *), int way) {
  warm_up(way);
  for (int n = 0; n < 3 * SIZES; n++) {
    long live = support_heap_live();
    end_in_function(call, BY_EXIT + n % 3, sizes[n / 3]);
    assert_no_piece_is_used();
    ck_assert_int_le(support_heap_live(), live);
    assert_whole();
  }
}

START_TEST(its_thread_may_end_in_it) {
  static int (*const in_threads[])(struct leaving *) = { put_with, put_with_at_once };
  end_in_functions(in_threads[_i / WAYS], _i % WAYS);
  assert_room_for_two();
}
END_TEST

START_TEST(its_thread_may_end_in_it_in_a_put_to_a_simple_queue) {
  end_in_functions(simple_put_with, _i);
}
END_TEST

static void *leave_and_end(void *arg) {
  leave_once(arg == NULL ? put_with : simple_put_with, BY_LONGJMP, 100000);
  return NULL;
}

/* No other call gives back what it had written. */
START_TEST(a_thread_may_end_after_it_left) {
  pthread_t thread;
  long live = support_heap_live();
  ck_assert_int_eq(pthread_create(&thread, NULL, leave_and_end, NULL), 0);
  ck_assert_ptr_null(support_join(thread));
  ck_assert_int_le(support_heap_live(), live);
}
END_TEST

/* ---- those that are not over ------------------------------------------------------------- */

static int inner_result;

static void put_inside(void) {
  inner_result = put(5, 0);
}

static int pack_and_put(msgpack_packer *packer, void *arg) {
  int place = *(const int *)arg;
  if (place == 0)
    put_inside();
  else if (place == 1)
    (void)from_deeper(put_inside, 20);
  else
    call_without_tables(put_inside);
  msgpack_pack_array(packer, 1);
  return msgpack_pack_int(packer, 1);
}

static void assert_got_array_of_one(void) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  ck_assert_int_eq(forkq_queue_get(queue, &item, 1000), 0);
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_ARRAY);
  forkq_item_destroy(&item);
}

/* That others have left before changes nothing. */
START_TEST(inside_it_calls_are_refused_also_after_another_has_left) {
  for (int place = 0; place < 2; place++) {
    leave_once(put_with, BY_LONGJMP, 100);
    ck_assert_int_eq(forkq_queue_put_with(queue, pack_and_put, &place, 0), 0);
    ck_assert_int_eq(inner_result, FORKQ_EPACKING);
    assert_got_array_of_one();
    first_put();
  }
}
END_TEST

/* Where it is not seen that the function runs one of the two is refused, and the other is put. */
static void assert_one_of_two_was_put(int outer_result) {
  if (inner_result == 0) {
    ck_assert_int_eq(outer_result, FORKQ_EPACKING);
    ck_assert_int_eq(get(1000), 5);
  } else {
    ck_assert_int_eq(inner_result, FORKQ_EPACKING);
    ck_assert_int_eq(outer_result, 0);
    assert_got_array_of_one();
  }
  assert_room_for_two();
  assert_nothing_held();
}

START_TEST(inside_it_behind_a_frame_that_cannot_be_unwound) {
  int place = 2;
  assert_one_of_two_was_put(forkq_queue_put_with(queue, pack_and_put, &place, 0));
}
END_TEST

static ucontext_t main_context, other_context;

static int pack_and_switch(msgpack_packer *packer, void *arg) {
  (void)arg;
  msgpack_pack_array(packer, 1);
  swapcontext(&other_context, &main_context);
  return msgpack_pack_int(packer, 1);
}

static int outer_result;

static void put_in_context(void) {
  outer_result = forkq_queue_put_with(queue, pack_and_switch, NULL, 0);
}

/* A stack of the program's own, on which it waits in the function while another stack puts. */
START_TEST(inside_it_on_another_stack) {
  static char stack[256 * 1024];
  getcontext(&other_context);
  other_context.uc_stack.ss_sp = stack;
  other_context.uc_stack.ss_size = sizeof stack;
  other_context.uc_link = &main_context;
  makecontext(&other_context, put_in_context, 0);
  swapcontext(&main_context, &other_context);
  put_inside();
  swapcontext(&main_context, &other_context);
  assert_one_of_two_was_put(outer_result);
}
END_TEST

/* ---- fork in it -------------------------------------------------------------------------- */

static pid_t child;

/* The child leaves, and uses the queue; the parent's function goes on. */
static int pack_and_fork(msgpack_packer *packer, void *arg) {
  (void)arg;
  child = fork();
  if (child == 0)
    longjmp(back, 1);
  return msgpack_pack_int(packer, 7);
}

static void fork_in_function(void) {
  if (setjmp(back) == 0) {
    ck_assert_int_eq(forkq_queue_put_with(queue, pack_and_fork, NULL, 0), 0);
    return;
  }
  support_end_after(20);
  CHILD_MUST(put(8, 10000) == 0);
  exit(0);
}

START_TEST(a_child_of_a_fork_in_it_may_leave) {
  for (int i = 0; i < 10; i++) {
    support_until_others_asleep();
    fork_in_function();
    ck_assert_int_eq(support_wait(child), 0);
    int64_t first = get(10000), second = get(10000);
    ck_assert(first + second == 15 && (first == 7 || first == 8));
  }
  assert_whole();
}
END_TEST

int main(void) {
  Suite *suite = suite_create("packing");
  TCase *tcase = tcase_create("queue");
  support_heap_install();
  tcase_set_timeout(tcase, 100);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_loop_test(tcase, it_may_leave_by_longjmp, 0, CALLS * WAYS);
  tcase_add_test(tcase, it_may_leave_by_longjmp_where_a_loop_has_to_wait);
  tcase_add_test(tcase, it_may_leave_by_longjmp_beside_a_put_that_waits);
  tcase_add_test(tcase, the_queue_can_be_closed_after_it_left);
  tcase_add_loop_test(tcase, its_thread_may_end_in_it, 0, 2 * WAYS);
  tcase_add_test(tcase, a_thread_may_end_after_it_left);
  tcase_add_test(tcase, inside_it_calls_are_refused_also_after_another_has_left);
  tcase_add_test(tcase, inside_it_behind_a_frame_that_cannot_be_unwound);
  tcase_add_test(tcase, inside_it_on_another_stack);
  tcase_add_test(tcase, a_child_of_a_fork_in_it_may_leave);
  suite_add_tcase(suite, tcase);
  tcase = tcase_create("simple");
  tcase_set_timeout(tcase, 100);
  tcase_add_checked_fixture(tcase, set_up_simple, tear_down_simple);
  tcase_add_loop_test(tcase, it_may_leave_a_simple_queue_by_longjmp, 0, WAYS);
  tcase_add_loop_test(tcase, its_thread_may_end_in_it_in_a_put_to_a_simple_queue, 0,
                      WAYS);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
