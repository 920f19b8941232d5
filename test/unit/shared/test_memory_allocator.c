/* The program's allocator in a get: others can get while it is asked, and without memory the item
 * stays in the queue. */
#define _GNU_SOURCE
#include "memory_helpers.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

/* It asks another process to get an item, and waits until it has; or it has no memory. */
static bool asking, refusing;
static struct talk { _Atomic int asked, answered; } * talk;

static void *allocate(void *memory, size_t size) {
  if (refusing)
    return NULL;
  if (asking) {
    asking = false;
    atomic_store(&talk->asked, 1);
    support_until(&talk->answered);
  }
  return realloc(memory, size);
}

static void *heap_malloc(size_t size, void *arg) {
  (void)arg;
  return allocate(NULL, size);
}

static void *heap_realloc(void *memory, size_t size, void *arg) {
  (void)arg;
  return allocate(memory, size);
}

static void heap_free(void *memory, void *arg) {
  (void)arg;
  free(memory);
}

static void answer(void *arg) {
  (void)arg;
  forkq_item_t got = FORKQ_ITEM_INIT;
  support_until(&talk->asked);
  CHILD_MUST(forkq_queue_get_packed(queue, &got, PATIENCE_MS) == 0);
  atomic_store(&talk->answered, 1);
  forkq_item_destroy(&got);
}

/* How a get comes to need memory. Three items are there; or three, behind what is being sent. */
enum need {
  FOR_A_SMALL_ONE,
  FOR_A_LARGE_ONE, /* that comes in fragments */
  FOR_ONE_BESIDE,  /* the pipe */
  FOR_THE_SECOND_OF_MANY,
  FOR_A_KEPT_PART,
  NEEDS
};

static pid_t sender;

static bool is_large(enum need need) {
  return need == FOR_A_LARGE_ONE || need == FOR_ONE_BESIDE;
}

static void put_three(enum need need) {
  sender = 0;
  if (need == FOR_A_LARGE_ONE)
    support_keep_to_pipe(queue);
  if (need == FOR_A_KEPT_PART) {
    forkq_item_t got = FORKQ_ITEM_INIT;
    sender = sender_in_the_middle();
    ck_assert_int_eq(forkq_queue_get_packed(queue, &got, 0), FORKQ_EMPTY);
    ck_assert(is_kept());
    forkq_item_destroy(&got);
    kill(sender, SIGCONT);
  }
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(is_large(need) ? put_bin(LARGE_ONE, 0) : put(i, 0), 0);
  if (need != FOR_A_KEPT_PART)
    until_sent(queue);
}

/* An item with room for a small message. */
static void make_room_in(forkq_item_t *small) {
  ck_assert_int_eq(put(9, 0), 0);
  ck_assert_int_eq(forkq_queue_get_packed(queue, small, PATIENCE_MS), 0);
}

static int get_in_need(enum need need, forkq_item_t items[2], size_t *ret_got) {
  *ret_got = 1;
  return need == FOR_THE_SECOND_OF_MANY
             ? forkq_queue_get_many_packed(queue, items, 2, PATIENCE_MS, ret_got)
             : forkq_queue_get_packed(queue, items, PATIENCE_MS);
}

static void end_sender(void) {
  if (sender != 0)
    ck_assert_int_eq(support_wait(sender), 0);
}

static void get_the_rest(int64_t count) {
  forkq_item_t got = FORKQ_ITEM_INIT;
  for (int64_t i = 0; i < count; i++)
    ck_assert_int_eq(forkq_queue_get_packed(queue, &got, PATIENCE_MS), 0);
  ck_assert_int_eq(forkq_queue_qsize(queue), 0);
  forkq_item_destroy(&got);
}

START_TEST(while_the_allocator_is_asked_others_can_get) {
  forkq_item_t items[] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT };
  size_t got;
  talk = support_shared(sizeof *talk);
  if (_i == FOR_THE_SECOND_OF_MANY)
    make_room_in(&items[0]);
  put_three((enum need)_i);
  pid_t other = support_fork(answer, NULL);
  int64_t there = _i == FOR_A_KEPT_PART ? 5 : 3;
  asking = true;
  ck_assert_int_eq(get_in_need((enum need)_i, items, &got), 0);
  ck_assert(!asking && atomic_load(&talk->answered));
  ck_assert_int_eq(support_wait(other), 0);
  get_the_rest(there - 1 - (int64_t)got);
  end_sender();
  forkq_item_destroy(&items[0]);
  forkq_item_destroy(&items[1]);
}
END_TEST

START_TEST(without_memory_for_an_item_it_stays_in_the_queue) {
  forkq_item_t items[] = { FORKQ_ITEM_INIT, FORKQ_ITEM_INIT };
  size_t got = 0;
  if (_i == FOR_THE_SECOND_OF_MANY)
    make_room_in(&items[0]);
  put_three((enum need)_i);
  int64_t there = forkq_queue_qsize(queue);
  refusing = true;
  int r = get_in_need((enum need)_i, items, &got);
  refusing = false;
  ck_assert_int_eq(r, _i == FOR_THE_SECOND_OF_MANY ? 0 : -ENOMEM);
  ck_assert_uint_eq(got, 1); /* of many, or as it was */
  there -= r == 0;
  end_sender();
  ck_assert_int_eq(forkq_queue_qsize(queue), _i == FOR_A_KEPT_PART ? 5 : there);
  if (is_large((enum need)_i))
    assert_get_bin(LARGE_ONE);
  else if (_i == FOR_A_KEPT_PART)
    assert_get_bin(HUGE);
  else
    ck_assert_int_eq(get(PATIENCE_MS), r == 0 ? 1 : 0);
  get_the_rest(forkq_queue_qsize(queue));
  forkq_item_destroy(&items[0]);
  forkq_item_destroy(&items[1]);
}
END_TEST

int main(void) {
  static const forkq_heap_t heap = { heap_malloc, heap_realloc, heap_free, NULL };
  forkq_heap_set(&heap);
  Suite *suite = suite_create("memory_allocator");
  TCase *with_queue = add_case(suite, "a queue");
  tcase_add_checked_fixture(with_queue, set_up_queue, queue_tear_down);
  tcase_add_loop_test(with_queue, while_the_allocator_is_asked_others_can_get, 0, NEEDS);
  tcase_add_loop_test(with_queue, without_memory_for_an_item_it_stays_in_the_queue, 0,
                      NEEDS);
  return support_main(suite);
}
