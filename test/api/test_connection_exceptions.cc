// Packing functions of a C++ program that throw, through forkq's C.
#include <check.h>
#include <cstdlib>
#include <forkq.h>
#include <stdexcept>
#include <string>

// ---- forkq's heap, which counts ----------------------------------------------------------------

static long blocks;

static void *heap_malloc(size_t size, void *) {
  blocks++;
  return std::malloc(size);
}

static void *heap_realloc(void *memory, size_t size, void *) {
  if (memory == NULL)
    blocks++;
  return std::realloc(memory, size);
}

static void heap_free(void *memory, void *) {
  blocks--;
  std::free(memory);
}

// ---- packing -----------------------------------------------------------------------------------

static forkq_connection_t *a, *b;
static forkq_item_t item;

static int pack_and_throw(msgpack_packer *packer, void *arg) {
  std::string text(1 << 20, 'x'); // more than the connection keeps
  msgpack_pack_str(packer, text.size());
  msgpack_pack_str_body(packer, text.data(), text.size());
  throw std::runtime_error(static_cast<const char *>(arg));
}

static int pack_number(msgpack_packer *packer, void *arg) {
  return msgpack_pack_int(packer, *static_cast<int *>(arg));
}

static int pack_and_catch(msgpack_packer *packer, void *arg) {
  int number = 1;
  try {
    ck_assert_int_eq(forkq_connection_send_with(b, pack_number, &number), FORKQ_EPACKING);
    throw std::runtime_error("inside");
  } catch (const std::exception &) {
  }
  return pack_number(packer, arg);
}

// Deeper in the stack than the send that was left.
static void send_number(int number) {
  volatile char room[10000];
  room[0] = room[sizeof room - 1] = 0;
  ck_assert_int_eq(forkq_connection_send_with(b, pack_number, &number), 0);
  ck_assert_int_eq(forkq_connection_recv(a, &item), 0);
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_POSITIVE_INTEGER);
  ck_assert_int_eq(static_cast<int>(item.object.via.u64), number);
}

static void set_up() {
  blocks = 0;
  ck_assert_int_eq(forkq_pipe(&a, &b, 0), 0);
}

static void tear_down() {
  forkq_connection_destroy(a);
  forkq_connection_destroy(b);
  forkq_item_destroy(&item);
  ck_assert_int_eq(blocks, 0);
}

START_TEST(an_exception_comes_through_and_the_connection_goes_on) {
  char text[] = "thrown";
  for (int i = 1; i <= 3; i++) {
    std::string caught;
    try {
      (void)!forkq_connection_send_with(b, pack_and_throw, text);
    } catch (const std::exception &exception) {
      caught = exception.what();
    }
    ck_assert_str_eq(caught.c_str(), "thrown");
    ck_assert_int_eq(forkq_connection_poll(a, 0), 0); // nothing was sent
    send_number(i);
  }
}
END_TEST

START_TEST(a_connection_closes_after_an_exception) {
  char text[] = "thrown";
  try {
    (void)!forkq_connection_send_with(b, pack_and_throw, text);
  } catch (const std::exception &) {
  }
  ck_assert_int_eq(forkq_connection_close(b), 0);
  ck_assert_int_eq(forkq_connection_recv(a, &item), FORKQ_EEOF);
}
END_TEST

START_TEST(an_exception_inside_the_function_does_not_end_the_packing) {
  int number = 5;
  ck_assert_int_eq(forkq_connection_send_with(b, pack_and_catch, &number), 0);
  ck_assert_int_eq(forkq_connection_recv(a, &item), 0);
  ck_assert_int_eq(static_cast<int>(item.object.via.u64), 5);
}
END_TEST

int main() {
  static const forkq_heap_t heap = { heap_malloc, heap_realloc, heap_free, NULL };
  forkq_heap_set(&heap);
  Suite *suite = suite_create("packing functions that throw");
  TCase *tcase = tcase_create("exceptions");
  tcase_add_checked_fixture(tcase, set_up, tear_down);
  tcase_add_test(tcase, an_exception_comes_through_and_the_connection_goes_on);
  tcase_add_test(tcase, a_connection_closes_after_an_exception);
  tcase_add_test(tcase, an_exception_inside_the_function_does_not_end_the_packing);
  suite_add_tcase(suite, tcase);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
