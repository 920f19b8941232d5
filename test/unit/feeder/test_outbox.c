/* The outbox: what is put into it comes out of its packets, whatever happens on the way. */
#include "feeder/outbox.h"
#include "support.h"

#include <errno.h>
#include <forkq/base.h>
#include <stdlib.h>
#include <string.h>

#define SPARES_MAX 1024 /* as outbox.c has them */
#define SPARES_LEAST 32
#define SPARES_PERIOD 256
#define LARGE_PACKET 4000 /* one that fills a packet alone */
#define LARGE 12300       /* bytes: a little more than three packets */

static struct forkq__outbox outbox;
static uint64_t seed;

/* Bytes to take messages from: message i begins at byte i. */
static uint8_t bytes[1 << 17];

static void set_up(void) {
  seed = 11;
  support_fill(bytes, sizeof bytes, 5);
  support_heap_install();
  forkq__outbox_init(&outbox);
}

static void tear_down(void) {
  support_heap_fail_at(0, false);
  forkq__outbox_fini(&outbox);
  ck_assert_int_eq(support_heap_live(), 0);
}

/* ---- putting ----------------------------------------------------------------------- */

/* Appends a message in pieces of random sizes: many small ones, some large. */
static int append(uint32_t number, uint32_t size) {
  int r = 0;
  for (uint32_t at = 0; at < size && r == 0;) {
    uint32_t most = support_random_below(&seed, 2) ? 9 : 6000;
    uint32_t n = support_random_below(&seed, most + 1);
    n = n < size - at ? n : size - at;
    uint8_t *piece = malloc(n > 0 ? n : 1);
    memcpy(piece, bytes + number + at, n);
    r = forkq__outbox_append(&outbox, piece, n);
    free(piece);
    at += n;
  }
  return r;
}

static int put_limited(uint32_t number, uint32_t size, uint32_t limit) {
  int r = forkq__outbox_begin(&outbox, limit);
  if (r == 0)
    r = append(number, size);
  if (r == 0)
    forkq__outbox_commit(&outbox);
  else
    forkq__outbox_rollback(&outbox);
  return r;
}

static void put(uint32_t number, uint32_t size) {
  support_assert(put_limited(number, size, UINT32_MAX) == 0);
}

/* ---- getting it back --------------------------------------------------------------- */

/* Puts messages together again from a list of packets. */
struct receiver {
  uint8_t data[sizeof bytes];
  uint32_t have;
  bool open;
  uint32_t total;
  void (*receive)(const uint8_t *data, uint32_t size);
};
static struct receiver receiver;

static void receive_fragment(const struct forkq__packet *packet) {
  struct forkq__frame frame = forkq__packet_frame(packet, FORKQ__PACKET_HEAD);
  support_assert(receiver.open != ((packet->flags & FORKQ__FIRST) != 0));
  if (packet->flags & FORKQ__FIRST) {
    receiver.open = true;
    receiver.have = 0;
    receiver.total = packet->total;
  }
  support_assert(receiver.have + frame.size <= receiver.total);
  memcpy(receiver.data + receiver.have, frame.data, frame.size);
  receiver.have += frame.size;
  if (packet->flags & FORKQ__LAST) {
    support_assert(receiver.have == receiver.total);
    receiver.open = false;
    receiver.receive(receiver.data, receiver.have);
  }
}

static void receive_packet(struct forkq__packet *packet) {
  support_assert(forkq__packet_valid(packet, forkq__packet_finish(packet, 0, 1)));
  if (packet->flags & FORKQ__FRAGMENT) {
    receive_fragment(packet);
    return;
  }
  support_assert(!receiver.open);
  for (uint32_t offset = FORKQ__PACKET_HEAD; offset < packet->length;) {
    struct forkq__frame frame = forkq__packet_frame(packet, offset);
    receiver.receive(frame.data, frame.size);
    offset = frame.next;
  }
}

static void receive_list(struct forkq__buffer *list) {
  for (; list != NULL; list = list->next)
    receive_packet(&list->packet);
  support_assert(!receiver.open);
}

/* Messages come in the order in which they were put: sizes in `wanted`, numbers from 0. */
static uint32_t wanted[LARGE + 1];
static uint32_t received;

static void compare(const uint8_t *data, uint32_t size) {
  support_assert(size == wanted[received]);
  support_assert(memcmp(data, bytes + received, size) == 0);
  received++;
}

/* Takes all packets and checks that they hold the `count` messages of `wanted`. */
static void assert_messages(uint32_t count) {
  struct forkq__buffer *list = forkq__outbox_take(&outbox);
  received = 0;
  receiver.receive = compare;
  receive_list(list);
  ck_assert_uint_eq(received, count);
  forkq__outbox_recycle(&outbox, list);
  ck_assert_ptr_null(forkq__outbox_take(&outbox));
}

static uint32_t packets(void) {
  uint32_t count = 0;
  for (const struct forkq__buffer *b = outbox.head; b != NULL; b = b->next)
    count++;
  return count;
}

/* ---- round trips ------------------------------------------------------------------- */

START_TEST(every_size_goes_through_on_its_own) {
  for (uint32_t size = 1; size <= LARGE; size++) {
    wanted[0] = size;
    put(0, size);
    received = 0;
    receiver.receive = compare;
    struct forkq__buffer *list = forkq__outbox_take(&outbox);
    receive_list(list);
    support_assert(received == 1);
    forkq__outbox_recycle(&outbox, list);
  }
}
END_TEST

START_TEST(every_size_goes_through_behind_the_one_before) {
  for (uint32_t i = 0; i < LARGE; i++)
    put(i, wanted[i] = i + 1);
  assert_messages(LARGE);
}
END_TEST

START_TEST(sizes_in_random_order_keep_their_order) {
  for (uint32_t i = 0; i < 5000; i++) {
    uint32_t most = (uint32_t[]){ 20, 200, 4100, LARGE }[support_random_below(&seed, 4)];
    wanted[i] = 1 + support_random_below(&seed, most);
    put(i, wanted[i]);
  }
  assert_messages(5000);
}
END_TEST

START_TEST(small_messages_share_a_packet) {
  for (uint32_t i = 0; i < 30; i++)
    put(i, wanted[i] = 100);
  ck_assert_uint_eq(packets(), 1);
  assert_messages(30);
}
END_TEST

/* Whatever room the tail has left: too little, just enough, one too many. */
START_TEST(a_message_meets_every_room_in_the_tail) {
  for (uint32_t first = 3800; first <= FORKQ__FRAME_MAX; first++) {
    uint32_t room = FORKQ__FRAME_MAX - first;
    for (int by = -3; by <= 1; by++) {
      wanted[0] = first;
      wanted[1] = (int)room + by > 0 ? room + (uint32_t)by : 1;
      wanted[2] = 3;
      for (uint32_t i = 0; i < 3; i++)
        put(i, wanted[i]);
      received = 0;
      receiver.receive = compare;
      struct forkq__buffer *list = forkq__outbox_take(&outbox);
      receive_list(list);
      support_assert(received == 3);
      forkq__outbox_recycle(&outbox, list);
    }
  }
}
END_TEST

START_TEST(a_message_that_outgrows_the_tail_leaves_it_as_it_was) {
  for (uint32_t size = 4030; size < LARGE; size += 100) {
    put(0, wanted[0] = 50);
    static struct forkq__packet before;
    before = outbox.head->packet;
    put(1, wanted[1] = size);
    ck_assert_ptr_ne(outbox.head, outbox.tail);
    ck_assert_mem_eq(&outbox.head->packet, &before, before.length);
    assert_messages(2);
  }
}
END_TEST

START_TEST(behind_a_fragment_begins_a_new_packet) {
  put(0, wanted[0] = 5000);
  uint32_t before = packets();
  put(1, wanted[1] = 1);
  ck_assert_uint_eq(packets(), before + 1);
  assert_messages(2);
}
END_TEST

START_TEST(packets_pop_in_order) {
  received = 0;
  receiver.receive = compare;
  for (uint32_t i = 0; i < 100; i++)
    put(i, wanted[i] = 1 + i * 100);
  while (outbox.head != NULL) {
    struct forkq__buffer *buffer = forkq__outbox_pop(&outbox);
    ck_assert_ptr_null(buffer->next);
    receive_packet(&buffer->packet);
    forkq__outbox_recycle(&outbox, buffer);
  }
  ck_assert_uint_eq(received, 100);
  ck_assert_ptr_null(outbox.tail);
  put(0, wanted[0] = 7);
  assert_messages(1);
}
END_TEST

/* ---- giving up --------------------------------------------------------------------- */

START_TEST(rollback_leaves_the_deque_as_it_was) {
  static const uint32_t sizes[] = { 0, 1, 50, 100, 4060, 4070, 4071, 9000, LARGE };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    put(0, wanted[0] = 60);
    put(1, wanted[1] = i % 2 ? 4500 : 60);
    struct forkq__outbox before = outbox;
    uint16_t length = outbox.tail->packet.length, frames = outbox.tail->packet.frames;
    ck_assert_int_eq(forkq__outbox_begin(&outbox, UINT32_MAX), 0);
    ck_assert_int_eq(append(7, sizes[i]), 0);
    forkq__outbox_rollback(&outbox);
    ck_assert(outbox.head == before.head && outbox.tail == before.tail);
    ck_assert_ptr_null(outbox.tail->next);
    ck_assert_uint_eq(outbox.tail->packet.length, length);
    ck_assert_uint_eq(outbox.tail->packet.frames, frames);
    put(2, wanted[2] = 70);
    assert_messages(3);
  }
}
END_TEST

START_TEST(the_limit_is_exact) {
  static const uint32_t limits[] = { 2, 100, FORKQ__FRAME_MAX, FORKQ__FRAME_MAX + 1,
                                     9000 };
  for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
    uint32_t limit = limits[i];
    ck_assert_int_eq(put_limited(0, wanted[0] = limit - 1, limit), 0);
    ck_assert_int_eq(put_limited(1, wanted[1] = limit, limit), 0);
    ck_assert_int_eq(put_limited(2, limit + 1, limit), FORKQ_ETOOBIG);
    ck_assert_int_eq(put_limited(2, limit + 5000, limit), FORKQ_ETOOBIG);
    ck_assert_int_eq(put_limited(2, wanted[2] = limit, limit), 0);
    assert_messages(3);
  }
}
END_TEST

START_TEST(an_absurd_size_is_refused_before_it_is_read) {
  volatile size_t absurd = SIZE_MAX; /* the compiler would warn of it */
  ck_assert_int_eq(forkq__outbox_begin(&outbox, 100), 0);
  ck_assert_int_eq(forkq__outbox_append(&outbox, bytes, 99), 0);
  ck_assert_int_eq(forkq__outbox_append(&outbox, bytes, absurd), FORKQ_ETOOBIG);
  forkq__outbox_rollback(&outbox);
  assert_messages(0);
}
END_TEST

START_TEST(after_an_error_nothing_more_is_appended) {
  ck_assert_int_eq(forkq__outbox_begin(&outbox, 10), 0);
  ck_assert_int_eq(forkq__outbox_append(&outbox, bytes, 11), FORKQ_ETOOBIG);
  ck_assert_int_eq(forkq__outbox_append(&outbox, bytes, 1), FORKQ_ETOOBIG);
  forkq__outbox_rollback(&outbox);
  put(0, wanted[0] = 10);
  assert_messages(1);
}
END_TEST

static void run_out_of_memory(long k, bool persistent, bool *ret_clean) {
  uint32_t count = 0;
  *ret_clean = true;
  support_heap_fail_at(k, persistent);
  for (uint32_t i = 0; i < 6; i++) {
    uint32_t size = (uint32_t[]){ 60, 3000, 3000, LARGE, 5, 6000 }[i];
    int r = put_limited(count, size, UINT32_MAX);
    ck_assert(r == 0 || r == -ENOMEM);
    *ret_clean = *ret_clean && r == 0;
    if (r == 0)
      wanted[count++] = size;
  }
  support_heap_fail_at(0, false);
  put(count, wanted[count] = 5000);
  assert_messages(count + 1);
  /* Without spares, so that the next round asks for memory again. */
  forkq__outbox_fini(&outbox);
  ck_assert_int_eq(support_heap_live(), 0);
}

START_TEST(every_allocation_may_fail) {
  for (int persistent = 0; persistent <= 1; persistent++) {
    bool clean = false;
    long k = 1;
    for (; !clean; k++)
      run_out_of_memory(k, persistent, &clean);
    ck_assert_int_gt(k, 5);
  }
}
END_TEST

/* ---- memory ------------------------------------------------------------------------ */

START_TEST(steady_state_allocates_nothing) {
  long requests = 0;
  for (int round = 0; round < 200; round++) {
    if (round == 1)
      requests = support_heap_requests();
    for (uint32_t i = 0; i < 20; i++)
      put(i, wanted[i] = 10 + 150 * i);
    /* One that is rolled back uses no packet up. */
    support_assert(put_limited(20, 9000, 8000) == FORKQ_ETOOBIG);
    assert_messages(20);
  }
  ck_assert_int_eq(support_heap_requests(), requests);
}
END_TEST

START_TEST(a_stream_of_large_messages_allocates_nothing) {
  long requests = 0;
  for (int round = 0; round < 100; round++) {
    if (round == 1)
      requests = support_heap_requests();
    for (uint32_t i = 0; i < 20; i++)
      put(i, wanted[i] = 20 * LARGE_PACKET);
    assert_messages(20);
  }
  ck_assert_int_eq(support_heap_requests(), requests);
}
END_TEST

/* No more than the most are kept, and of these no more than are needed. */
START_TEST(a_burst_does_not_stay_in_memory) {
  for (uint32_t i = 0; i < SPARES_MAX + 500; i++)
    put(i, wanted[i] = LARGE_PACKET);
  ck_assert_int_ge(support_heap_live(), SPARES_MAX + 500);
  assert_messages(SPARES_MAX + 500);
  ck_assert_int_eq(support_heap_live(), SPARES_MAX);
  long before = SPARES_MAX;
  for (int i = 0; i < 14 * SPARES_PERIOD; i++) {
    put(0, LARGE_PACKET);
    forkq__outbox_recycle(&outbox, forkq__outbox_pop(&outbox));
    long live = support_heap_live();
    support_assert(live >= before / 2 && live <= before);
    before = live;
  }
  ck_assert_int_le(before, SPARES_LEAST + 1);
  ck_assert_int_ge(before, SPARES_LEAST);
}
END_TEST

START_TEST(the_packet_used_last_is_used_first) {
  put(0, 4000);
  put(1, 4000);
  struct forkq__buffer *first = forkq__outbox_pop(&outbox);
  forkq__outbox_recycle(&outbox, forkq__outbox_pop(&outbox));
  forkq__outbox_recycle(&outbox, first);
  put(2, 10);
  ck_assert_ptr_eq(outbox.head, first);
}
END_TEST

START_TEST(fini_frees_all_and_leaves_it_fit_for_use) {
  for (uint32_t i = 0; i < 100; i++)
    put(i, 3000 + i * 100);
  forkq__outbox_fini(&outbox);
  ck_assert_int_eq(support_heap_live(), 0);
  put(0, wanted[0] = 9000);
  assert_messages(1);
}
END_TEST

/* ---- looking at the open message --------------------------------------------------- */

struct visit {
  uint32_t at;
  uint32_t stop_after;
};

static int visit(void *arg, const void *data, size_t size) {
  struct visit *visit_ = arg;
  support_assert(memcmp(data, bytes + visit_->at, size) == 0);
  visit_->at += (uint32_t)size;
  return visit_->stop_after > 0 && visit_->at >= visit_->stop_after ? -5 : 0;
}

START_TEST(visit_sees_the_whole_open_message_and_only_it) {
  for (int round = 0; round < 2; round++) {
    for (uint32_t size = 0; size <= LARGE; size += 13) {
      struct visit seen = { 0, 0 };
      support_assert(forkq__outbox_begin(&outbox, UINT32_MAX) == 0);
      support_assert(append(0, size) == 0);
      support_assert(forkq__outbox_visit(&outbox, visit, &seen) == 0);
      support_assert(seen.at == size);
      forkq__outbox_rollback(&outbox);
    }
    put(1, 50); /* and once more, begun in the tail */
  }
}
END_TEST

START_TEST(visit_ends_with_the_first_error) {
  struct visit seen = { 0, 100 };
  ck_assert_int_eq(forkq__outbox_begin(&outbox, UINT32_MAX), 0);
  ck_assert_int_eq(append(0, LARGE), 0);
  ck_assert_int_eq(forkq__outbox_visit(&outbox, visit, &seen), -5);
  ck_assert_uint_lt(seen.at, FORKQ__PACKET_SIZE);
  forkq__outbox_rollback(&outbox);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("outbox");
  TCase *tcase = tcase_create("outbox");
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, every_size_goes_through_on_its_own);
  tcase_add_test(tcase, every_size_goes_through_behind_the_one_before);
  tcase_add_test(tcase, sizes_in_random_order_keep_their_order);
  tcase_add_test(tcase, small_messages_share_a_packet);
  tcase_add_test(tcase, a_message_meets_every_room_in_the_tail);
  tcase_add_test(tcase, a_message_that_outgrows_the_tail_leaves_it_as_it_was);
  tcase_add_test(tcase, behind_a_fragment_begins_a_new_packet);
  tcase_add_test(tcase, packets_pop_in_order);
  tcase_add_test(tcase, rollback_leaves_the_deque_as_it_was);
  tcase_add_test(tcase, the_limit_is_exact);
  tcase_add_test(tcase, an_absurd_size_is_refused_before_it_is_read);
  tcase_add_test(tcase, after_an_error_nothing_more_is_appended);
  tcase_add_test(tcase, every_allocation_may_fail);
  tcase_add_test(tcase, steady_state_allocates_nothing);
  tcase_add_test(tcase, a_stream_of_large_messages_allocates_nothing);
  tcase_add_test(tcase, a_burst_does_not_stay_in_memory);
  tcase_add_test(tcase, the_packet_used_last_is_used_first);
  tcase_add_test(tcase, fini_frees_all_and_leaves_it_fit_for_use);
  tcase_add_test(tcase, visit_sees_the_whole_open_message_and_only_it);
  tcase_add_test(tcase, visit_ends_with_the_first_error);
  suite_add_tcase(suite, tcase);
  return support_main(suite);
}
