/* Connections when something is not as it should be: every size of frame over every kind
 * of stream, torn and hostile streams, no memory. */
#define _GNU_SOURCE
#include "connection/connection_frame.h"
#include "connection_ends.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Bytes as a peer might write them that is not forkq. */
static void write_raw(const void *data, size_t size) {
  write_all(forkq_connection_fileno(b), data, size);
}

static void write_header(int32_t number) {
  const uint32_t n = (uint32_t)number;
  const unsigned char header[4] = { (unsigned char)(n >> 24), (unsigned char)(n >> 16),
                                    (unsigned char)(n >> 8), (unsigned char)n };
  write_raw(header, sizeof header);
}

static void write_long_header(uint64_t size) {
  unsigned char bytes[8];
  for (int i = 0; i < 8; i++)
    bytes[i] = (unsigned char)(size >> (56 - 8 * i));
  write_header(-1);
  write_raw(bytes, sizeof bytes);
}

/* The frame */

START_TEST(header_of_each_size) {
  static const struct {
    uint64_t size;
    size_t length;
    unsigned char header[12];
  } headers[] = {
    { 0, 4, { 0, 0, 0, 0 } },
    { 1, 4, { 0, 0, 0, 1 } },
    { 0x12345678, 4, { 0x12, 0x34, 0x56, 0x78 } },
    { 0x7fffffff, 4, { 0x7f, 0xff, 0xff, 0xff } },
    { 0x80000000, 12, { 255, 255, 255, 255, 0, 0, 0, 0, 0x80, 0, 0, 0 } },
    { UINT64_MAX - 1,
      12,
      { 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 254 } },
  };
  for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
    unsigned char header[FORKQ__FRAME_LONG];
    ck_assert_uint_eq(forkq__frame_write(header, headers[i].size), headers[i].length);
    ck_assert_mem_eq(header, headers[i].header, headers[i].length);
    int length = forkq__frame_length(header);
    ck_assert_int_eq(length, (int)headers[i].length);
    ck_assert(forkq__frame_size(header, length) == headers[i].size);
  }
  const unsigned char minus_two[4] = { 255, 255, 255, 254 }, lowest[4] = { 128, 0, 0, 0 };
  CODE(forkq__frame_length(minus_two), FORKQ_EBADFRAME);
  CODE(forkq__frame_length(lowest), FORKQ_EBADFRAME);
}
END_TEST

START_TEST(bytes_on_the_stream) {
  char bytes[64];
  OK(send_bytes("hello", 5));
  OK(send_bytes("", 0));
  OK(forkq_connection_send_packed(b, "\x92\x01\xc0", 3));
  msgpack_object nil = { .type = MSGPACK_OBJECT_NIL };
  OK(forkq_connection_send(b, &nil));
  static const char expected[] = "\0\0\0\5hello\0\0\0\0\0\0\0\3\x92\x01\xc0\0\0\0\1\xc0";
  ck_assert_int_eq(read(forkq_connection_fileno(a), bytes, sizeof bytes),
                   (ssize_t)sizeof expected - 1);
  ck_assert_mem_eq(bytes, expected, sizeof expected - 1);
}
END_TEST

START_TEST(long_form_is_accepted_for_any_size) {
  char *data = pattern(20000, 1);
  static const size_t sizes[] = { 0, 1, 20000 };
  for (size_t i = 0; i < 3; i++) {
    write_long_header(sizes[i]);
    write_raw(data, sizes[i]);
    OK(recv_bytes());
    ck_assert_uint_eq(item.size, sizes[i]);
    ck_assert(is_pattern(item.data, item.size, 1));
  }
  free(data);
}
END_TEST

static const size_t sizes[] = { 0,    1,     512,   513,     4092,
                                4093, 16384, 16385, 1 << 20, 16 << 20 };
#define SIZES (sizeof sizes / sizeof *sizes)

/* Each size three times over, for the three ways of receiving. */
static void send_sizes(void *arg) {
  (void)arg;
  close_a();
  for (size_t i = 0; i < SIZES; i++) {
    char *data = pattern(sizes[i], (unsigned)i);
    for (int way = 0; way < 3; way++)
      CHILD_MUST(send_bytes(data, sizes[i]) == 0);
    free(data);
  }
}

START_TEST(every_size_over_every_stream) {
  make_stream(_i, &a, &b);
  pid_t pid = support_fork(send_sizes, NULL);
  close_b();
  char *buffer = malloc(sizes[SIZES - 1]);
  for (size_t i = 0; i < SIZES; i++) {
    size_t size = 0;
    forkq_item_t fresh = FORKQ_ITEM_INIT;
    OK(recv_bytes());
    ck_assert_uint_eq(item.size, sizes[i]);
    ck_assert(is_pattern(item.data, sizes[i], (unsigned)i));
    OK(forkq_connection_recv_bytes(a, &fresh, sizes[i]));
    ck_assert_uint_eq(fresh.size, sizes[i]);
    ck_assert(is_pattern(fresh.data, sizes[i], (unsigned)i));
    forkq_item_destroy(&fresh);
    memset(buffer, 0, sizes[i]);
    OK(forkq_connection_recv_bytes_into(a, buffer, sizes[i], 0, &size, NULL));
    ck_assert_uint_eq(size, sizes[i]);
    ck_assert(is_pattern(buffer, sizes[i], (unsigned)i));
  }
  CODE(recv_bytes(), FORKQ_EEOF);
  CODE(recv_bytes(), FORKQ_EEOF);
  free(buffer);
  reap(pid);
}
END_TEST

#define MORE_THAN_31_BITS ((size_t)0x80000000u)

static void count_long_message(void *arg) {
  (void)arg;
  static char bytes[1 << 16];
  static const unsigned char header[12] = { 255, 255, 255, 255, 0, 0, 0, 0, 128 };
  close_b();
  const int fd = forkq_connection_fileno(a);
  read_all(fd, bytes, sizeof header);
  CHILD_MUST(memcmp(bytes, header, sizeof header) == 0);
  size_t size = 0;
  ssize_t n;
  while ((n = read(fd, bytes, sizeof bytes)) > 0)
    size += (size_t)n;
  CHILD_MUST(n == 0 && size == MORE_THAN_31_BITS);
}

START_TEST(more_than_an_object_can_have_is_too_big) {
  CODE(forkq_connection_send_bytes(b, "", SIZE_MAX, 0, (size_t)PTRDIFF_MAX + 1),
       FORKQ_ETOOBIG);
  OK(send_bytes("next", 4));
  OK(recv_bytes());
}
END_TEST

START_TEST(long_form_is_sent_above_31_bits) {
  if (MORE_THAN_31_BITS > PTRDIFF_MAX)
    return;
  char *data = mmap(NULL, MORE_THAN_31_BITS, PROT_READ,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) /* a machine without that much address space */
    return;
  pid_t pid = support_fork(count_long_message, NULL);
  OK(send_bytes(data, MORE_THAN_31_BITS));
  close_b();
  reap(pid);
  munmap(data, MORE_THAN_31_BITS);
}
END_TEST

/* Torn streams */

static int recv_object(void) {
  return forkq_connection_recv(a, &item);
}

static int recv_into(void) {
  char buffer[64];
  size_t size;
  return forkq_connection_recv_bytes_into(a, buffer, sizeof buffer, 0, &size, &item);
}

static int recv_too_short(void) {
  size_t size;
  return forkq_connection_recv_bytes_into(a, NULL, 0, 0, &size, NULL);
}

static int (*const ways[])(void) = { recv_bytes, recv_object, recv_into, recv_too_short };
#define WAYS ((int)(sizeof ways / sizeof *ways))

/* After `cut` bytes of a message there are no more. */
static void check_cut(int kind, const char *message, size_t cut, int (*receive)(void)) {
  make_stream(kind, &a, &b);
  OK(send_bytes("\xc0", 1));
  write_raw(message, cut);
  close_b();
  int r = receive();
  ck_assert_int_eq(r, receive == recv_too_short ? FORKQ_ETOOSHORT : 0);
  CODE(receive(), cut == 0 ? FORKQ_EEOF : FORKQ_ETORN);
  ck_assert_uint_eq(item.size, 0);
  CODE(receive(), FORKQ_EEOF);
  close_a();
}

START_TEST(cut_at_every_byte) {
  static const char brief[] = "\0\0\0\5\xa4text";
  static const char in_long_form[] = "\xff\xff\xff\xff\0\0\0\0\0\0\0\5\xa4text";
  for (int way = 0; way < WAYS; way++) {
    for (size_t cut = 0; cut < sizeof brief - 1; cut++)
      check_cut(_i, brief, cut, ways[way]);
    for (size_t cut = 0; cut < sizeof in_long_form - 1; cut++)
      check_cut(_i, in_long_form, cut, ways[way]);
  }
}
END_TEST

static void send_16_mib(void *arg) {
  (void)arg;
  close_a();
  char *data = pattern(16 << 20, 5);
  (void)!send_bytes(data, 16 << 20);
  _exit(1);
}

START_TEST(sender_killed_inside_a_message) {
  make_stream(_i, &a, &b);
  pid_t pid = support_fork(send_16_mib, NULL);
  close_b();
  ck_assert_int_eq(forkq_connection_poll(a, -1), 1);
  support_until_asleep(pid);
  support_kill_and_wait(pid);
  CODE(recv_bytes(), FORKQ_ETORN);
  CODE(recv_bytes(), FORKQ_EEOF);
}
END_TEST

/* The other end of a socket that is closed with something unread resets it. */
START_TEST(reset_is_an_error_of_its_own) {
  make_stream(SOCKET, &a, &b);
  OK(forkq_connection_send_bytes(a, "unread", 6, 0, FORKQ_ALL));
  OK(send_bytes("before", 6));
  write_raw("\0\0", 2);
  close_b();
  OK(recv_bytes());
  CODE(recv_bytes(), -ECONNRESET);
  ck_assert_int_eq(forkq_connection_readable(a), 0);
}
END_TEST

/* Hostile streams */

START_TEST(negative_lengths_are_refused) {
  static const int32_t lengths[] = { -2, -3, -65536, INT32_MIN };
  for (size_t i = 0; i < 4; i++)
    for (int way = 0; way < WAYS; way++) {
      make_stream(_i, &a, &b);
      write_header(lengths[i]);
      CODE(ways[way](), FORKQ_EBADFRAME);
      if (_i == SOCKET || _i == SOCKET_NONBLOCKING) {
        ck_assert_int_eq(forkq_connection_closed(a), 0);
        CODE(ways[way](), FORKQ_EWRITEONLY);
      } else {
        CODE(ways[way](), FORKQ_ECLOSED);
      }
      close_a();
      close_b();
    }
}
END_TEST

/* The peak of the heap while a message of that length is announced and `sent` bytes
 * come. */
static size_t peak_for(uint64_t length, size_t sent, int code) {
  use_test_heap();
  forkq_item_t fresh = FORKQ_ITEM_INIT;
  make_stream(SOCKET, &a, &b);
  const size_t before = test_heap.now;
  write_long_header(length);
  char *data = pattern(sent, 0);
  write_raw(data, sent);
  free(data);
  close_b();
  CODE(forkq_connection_recv_bytes(a, &fresh, FORKQ_ALL), code);
  forkq_item_destroy(&fresh);
  close_a();
  ck_assert_uint_eq(test_heap.now, 0);
  return test_heap.peak - before;
}

START_TEST(announced_bytes_take_no_memory) {
  static const uint64_t lengths[] = { 1 << 20, 0x7fffffff, (uint64_t)1 << 40, INT64_MAX };
  for (size_t i = 0; i < 4; i++) {
    if (lengths[i] > PTRDIFF_MAX) {
      ck_assert_uint_eq(peak_for(lengths[i], 100, FORKQ_ETOOBIG), 0);
      continue;
    }
    ck_assert_uint_le(peak_for(lengths[i], 0, FORKQ_ETORN), 16384);
    ck_assert_uint_le(peak_for(lengths[i], 100, FORKQ_ETORN), 16384);
    ck_assert_uint_le(peak_for(lengths[i], 100000, FORKQ_ETORN), 4 * 100000);
  }
  ck_assert_uint_eq(peak_for((uint64_t)INT64_MAX + 1, 0, FORKQ_ETOOBIG), 0);
  ck_assert_uint_eq(peak_for(UINT64_MAX, 8, FORKQ_ETOOBIG), 0);
}
END_TEST

START_TEST(objects_have_a_limit) {
  write_long_header((uint64_t)FORKQ_MESSAGE_MAX + 1);
  CODE(recv_object(), FORKQ_ETOOBIG);
  ck_assert_int_eq(forkq_connection_closed(a), 1);
}
END_TEST

/* No memory */

START_TEST(creation_without_memory_leaves_nothing_behind) {
  use_test_heap();
  const int before = support_open_fds();
  for (int duplex = 0; duplex <= 1; duplex++)
    for (test_heap.fail_at = 1; test_heap.fail_at <= 2; test_heap.fail_at++) {
      test_heap.requests = 0;
      CODE(forkq_pipe(&a, &b, duplex), -ENOMEM);
      ck_assert_ptr_null(a);
      ck_assert_ptr_null(b);
      ck_assert_int_eq(support_open_fds(), before);
      ck_assert_uint_eq(test_heap.now, 0);
    }
  test_heap.requests = 0;
  test_heap.fail_at = 1;
  CODE(forkq_connection_open(&a, 0, 1, 1), -ENOMEM);
}
END_TEST

static int pack_many(msgpack_packer *packer, void *arg) {
  (void)arg;
  msgpack_pack_array(packer, 1000);
  for (int i = 0; i < 1000; i++)
    msgpack_pack_int(packer, 100000 + i);
  return 0;
}

START_TEST(send_without_memory_sends_nothing) {
  use_test_heap();
  make_stream(PIPE, &a, &b);
  int r, k = 0;
  do {
    test_heap.requests = 0;
    test_heap.fail_at = ++k;
    r = forkq_connection_send_with(b, pack_many, NULL);
    if (r != 0) {
      CODE(r, -ENOMEM);
      ck_assert_int_eq(forkq_connection_poll(a, 0), 0);
    }
  } while (r != 0);
  ck_assert_int_gt(k, 1);
  test_heap.fail_at = 0;
  OK(recv_object());
  ck_assert_uint_eq(item.object.via.array.size, 1000);
  ck_assert_int_eq(forkq_connection_poll(a, 0), 0);
}
END_TEST

#define KEPT_SIZE ((size_t)60000)

/* An item that has memory of its own already. */
static forkq_item_t other;

static void prepare_other_item(void) {
  OK(send_bytes("x", 1));
  OK(forkq_connection_recv_bytes(a, &other, FORKQ_ALL));
}

/* However the next receive after one without memory is made, it gets the whole
 * message. */
static void receive_kept(int way) {
  char *buffer = malloc(KEPT_SIZE);
  size_t size = 0;
  switch (way) {
  case 0:
    OK(recv_bytes());
    break;
  case 1:
    OK(forkq_connection_recv_bytes_into(a, buffer, KEPT_SIZE, 0, &size, NULL));
    ck_assert_uint_eq(size, KEPT_SIZE);
    ck_assert(is_pattern(buffer, KEPT_SIZE, 9));
    break;
  case 2:
    CODE(forkq_connection_recv_bytes_into(a, buffer, 1, 0, &size, NULL), FORKQ_ETOOSHORT);
    break;
  default:
    OK(forkq_connection_recv_bytes(a, &other, KEPT_SIZE));
    ck_assert(is_pattern(other.data, KEPT_SIZE, 9));
    break;
  }
  if (way == 0)
    ck_assert(item.size == KEPT_SIZE && is_pattern(item.data, KEPT_SIZE, 9));
  free(buffer);
}

/* Fails the k-th request for memory of a receive; 0 if it makes fewer. */
static int check_receive_without_memory(int way, int k) {
  char *data = pattern(KEPT_SIZE, 9);
  forkq_item_destroy(&item);
  OK(send_bytes(data, KEPT_SIZE));
  OK(send_bytes("next", 4));
  free(data);
  test_heap.requests = 0;
  test_heap.fail_at = k;
  int r = recv_bytes();
  test_heap.fail_at = 0;
  if (r != 0) {
    int fd;
    CODE(r, -ENOMEM);
    ck_assert_uint_eq(item.size, 0);
    CODE(forkq_connection_recv_fd(a, &fd), -EBUSY);
    receive_kept(way);
  }
  OK(recv_bytes());
  ck_assert_uint_eq(item.size, 4);
  ck_assert_mem_eq(item.data, "next", 4);
  return r != 0;
}

START_TEST(receive_without_memory_keeps_the_message) {
  use_test_heap();
  make_stream(PIPE, &a, &b);
  prepare_other_item();
  int k = 1;
  while (check_receive_without_memory(_i, k))
    k++;
  ck_assert_int_gt(k, 2);
  forkq_item_destroy(&item);
  forkq_item_destroy(&other);
  close_a();
  close_b();
  ck_assert_uint_eq(test_heap.now, 0);
}
END_TEST

START_TEST(kept_message_goes_with_its_connection) {
  use_test_heap();
  make_stream(PIPE, &a, &b);
  char *data = pattern(KEPT_SIZE, 9);
  OK(send_bytes(data, KEPT_SIZE));
  free(data);
  test_heap.requests = 0;
  test_heap.fail_at = 2;
  CODE(recv_bytes(), -ENOMEM);
  close_a();
  close_b();
  forkq_item_destroy(&item);
  ck_assert_uint_eq(test_heap.now, 0);
}
END_TEST

START_TEST(an_empty_message_needs_no_memory) {
  use_test_heap();
  make_stream(PIPE, &a, &b);
  OK(send_bytes("", 0));
  test_heap.requests = 0;
  test_heap.fail_at = 1;
  OK(recv_bytes());
  ck_assert_uint_eq(item.size, 0);
  ck_assert_ptr_nonnull(item.data);
}
END_TEST

static int pack_large(msgpack_packer *packer, void *arg) {
  (void)arg;
  static const char zeros[200000];
  return msgpack_pack_bin_with_body(packer, zeros, sizeof zeros);
}

static void receive_large(void *arg) {
  (void)arg;
  CHILD_MUST(recv_object() == 0);
  CHILD_MUST(item.object.type == MSGPACK_OBJECT_BIN &&
             item.object.via.bin.size == 200000);
}

START_TEST(packing_keeps_little_memory) {
  use_test_heap();
  make_stream(PIPE, &a, &b);
  const size_t before = test_heap.now;
  pid_t pid = support_fork(receive_large, NULL);
  OK(forkq_connection_send_with(b, pack_large, NULL));
  ck_assert_uint_ge(test_heap.peak, 200000);
  ck_assert_uint_eq(test_heap.now, before);
  reap(pid);
}
END_TEST

/* An item and a buffer that have grown to the size of the messages stay. */
START_TEST(repeated_messages_take_no_memory) {
  use_test_heap();
  make_stream(PIPE, &a, &b);
  for (int i = 0; i < 100; i++) {
    if (i == 2)
      test_heap.requests = 0;
    OK(forkq_connection_send_with(b, pack_many, NULL));
    OK(recv_object());
  }
  ck_assert_int_eq(test_heap.requests, 0);
  forkq_item_destroy(&item);
  close_a();
  close_b();
  ck_assert_uint_eq(test_heap.now, 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("connection faults");
  TCase *tc = add_case(suite, "frames", setup_one_way);
  tcase_add_test(tc, header_of_each_size);
  tcase_add_test(tc, bytes_on_the_stream);
  tcase_add_test(tc, long_form_is_accepted_for_any_size);
  tcase_add_test(tc, more_than_an_object_can_have_is_too_big);
  tcase_add_test(tc, long_form_is_sent_above_31_bits);
  tcase_add_test(tc, objects_have_a_limit);

  tc = add_case(suite, "streams", setup_nothing);
  tcase_add_loop_test(tc, every_size_over_every_stream, 0, KINDS);
  tcase_add_loop_test(tc, cut_at_every_byte, 0, KINDS);
  tcase_add_loop_test(tc, sender_killed_inside_a_message, 0, KINDS);
  tcase_add_test(tc, reset_is_an_error_of_its_own);
  tcase_add_loop_test(tc, negative_lengths_are_refused, 0, KINDS);

  tc = add_case(suite, "memory", setup_nothing);
  tcase_add_test(tc, announced_bytes_take_no_memory);
  tcase_add_test(tc, creation_without_memory_leaves_nothing_behind);
  tcase_add_test(tc, send_without_memory_sends_nothing);
  tcase_add_loop_test(tc, receive_without_memory_keeps_the_message, 0, 4);
  tcase_add_test(tc, kept_message_goes_with_its_connection);
  tcase_add_test(tc, an_empty_message_needs_no_memory);
  tcase_add_test(tc, packing_keeps_little_memory);
  tcase_add_test(tc, repeated_messages_take_no_memory);

  return support_main(suite);
}
