// forkq.hpp, as a C++ program uses it. Compiled twice: with msgpack-cxx, and without it in C++11.
#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <forkq.hpp>
#include <pthread.h>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>
#ifdef FORKQ_MSGPACK_CXX
#  include <map>
#  include <tuple>
#endif

#include <check.h> // its macros have names that others use

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

static const seconds LONG(10);

// The statement throws a forkq::error with that code.
#define THROWS(expected, statement)                                                      \
  do {                                                                                   \
    std::error_code thrown;                                                              \
    try {                                                                                \
      statement;                                                                         \
    } catch (const forkq::error &error) {                                                \
      thrown = error.code();                                                             \
    }                                                                                    \
    ck_assert_msg(thrown == (expected), "%s: %s", #statement, thrown.message().c_str()); \
  } while (0)

// An outcome that is false, and why.
#define IS_NOT(expected, call)                                                           \
  do {                                                                                   \
    const auto outcome = call;                                                           \
    ck_assert(!outcome);                                                                 \
    ck_assert_int_eq(outcome.status(), expected);                                        \
  } while (0)

// ---- forkq's heap, which counts: what no destructor has freed ---------------------------------

static std::atomic<long> blocks;

static void *heap_malloc(size_t size, void *) {
  blocks++;
  return std::malloc(size);
}

static void *heap_realloc(void *memory, size_t size, void *) {
  blocks += memory == nullptr;
  return std::realloc(memory, size);
}

static void heap_free(void *memory, void *) {
  blocks--;
  std::free(memory);
}

// A thread keeps a packet for its next put with a function.
static void assert_all_is_freed() {
  ck_assert_int_le(blocks, 1);
}

// ---- children ---------------------------------------------------------------------------------

template <typename Run> static pid_t start(Run run) {
  pid_t child = fork();
  ck_assert_int_ge(child, 0);
  if (child != 0)
    return child;
  alarm(60);
  try {
    run();
  } catch (const std::exception &exception) {
    std::fprintf(stderr, "%s\n", exception.what());
    _exit(EXIT_FAILURE);
  }
  _exit(EXIT_SUCCESS);
}

static void assert_ends_well(pid_t child) {
  int status = -1;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
}

static void must(bool condition) {
  if (!condition)
    throw std::logic_error("a child's condition does not hold");
}

// ---- values -----------------------------------------------------------------------------------

template <typename T> static void comes_out_as_it_went_in(forkq::queue &queue, T value) {
  queue.put(value);
  auto got = queue.try_get<T>(LONG);
  ck_assert(static_cast<bool>(got));
  ck_assert(*got == value);
}

template <typename T> static void extremes_come_out(forkq::queue &queue) {
  comes_out_as_it_went_in(queue, std::numeric_limits<T>::min());
  comes_out_as_it_went_in(queue, std::numeric_limits<T>::max());
  comes_out_as_it_went_in(queue, T());
}

START_TEST(numbers) {
  forkq::queue queue;
  extremes_come_out<bool>(queue);
  extremes_come_out<char>(queue);
  extremes_come_out<signed char>(queue);
  extremes_come_out<unsigned char>(queue);
  extremes_come_out<short>(queue);
  extremes_come_out<unsigned>(queue);
  extremes_come_out<int>(queue);
  extremes_come_out<std::int64_t>(queue);
  extremes_come_out<std::uint64_t>(queue);
  extremes_come_out<long long>(queue);
  extremes_come_out<float>(queue);
  extremes_come_out<double>(queue);
}
END_TEST

START_TEST(a_number_that_does_not_fit_is_of_the_wrong_type) {
  forkq::queue queue;
  queue.put(256);
  THROWS(FORKQ_EWRONGTYPE, (void)queue.try_get<unsigned char>(LONG));
  queue.put(-1);
  THROWS(FORKQ_EWRONGTYPE, (void)queue.try_get<std::uint64_t>(LONG));
  queue.put(-129);
  THROWS(FORKQ_EWRONGTYPE, (void)queue.try_get<signed char>(LONG));
  queue.put(std::numeric_limits<std::uint64_t>::max());
  THROWS(FORKQ_EWRONGTYPE, (void)queue.try_get<std::int64_t>(LONG));
  queue.put(1.5);
  THROWS(FORKQ_EWRONGTYPE, (void)queue.try_get<int>(LONG));
  queue.put(1);
  THROWS(FORKQ_EWRONGTYPE, (void)queue.try_get<bool>(LONG));
  queue.put("1");
  THROWS(FORKQ_EWRONGTYPE, (void)queue.try_get<int>(LONG));
  queue.put(1);
  THROWS(FORKQ_EWRONGTYPE, (void)queue.try_get<std::string>(LONG));
  queue.put(nullptr);
  THROWS(FORKQ_EWRONGTYPE, (void)queue.try_get<double>(LONG));
  THROWS(FORKQ_ENULL, queue.put(static_cast<const char *>(nullptr)));
  THROWS(FORKQ_ENULL, queue.put(forkq::bytes{ nullptr, 5 }));
  queue.put((std::uint64_t(1) << 53) + 1); // not exact
  THROWS(FORKQ_EWRONGTYPE, (void)queue.try_get<double>(LONG));
  queue.put(-(std::int64_t(1) << 24) - 1);
  THROWS(FORKQ_EWRONGTYPE, (void)queue.try_get<float>(LONG));
  queue.put(1e300);
  THROWS(FORKQ_EWRONGTYPE, (void)queue.try_get<float>(LONG));
  queue.put(-3); // a double takes integers, too
  ck_assert(*queue.try_get<double>(LONG) == -3.0);
  ck_assert_int_eq(queue.qsize(), 0);
}
END_TEST

START_TEST(strings_and_bytes) {
  forkq::queue queue;
  const std::string text("with\0NUL", 8);
  comes_out_as_it_went_in(queue, text);
  comes_out_as_it_went_in(queue, std::string());
  comes_out_as_it_went_in(queue, std::vector<char>{ 'a', '\0', 'b' });
  comes_out_as_it_went_in(queue, std::vector<unsigned char>{ 0, 0xff });
  comes_out_as_it_went_in(queue, std::vector<unsigned char>());
  char array[] = "array", *pointer = array;
  queue.put("literal");
  queue.put(array);
  queue.put(pointer);
  ck_assert(*queue.get<std::string>() == "literal");
  ck_assert(*queue.get<std::string>() == "array");
  ck_assert(*queue.get<std::string>() == "array");
  queue.put(forkq::bytes{ text.data(), text.size() });
  auto item = queue.get();
  ck_assert_int_eq(item->object().type, MSGPACK_OBJECT_BIN);
  ck_assert(item->as<std::string>() == text);
#if __cplusplus >= 201703L
  queue.put(std::string_view(text));
  ck_assert(*queue.get<std::string>() == text);
  comes_out_as_it_went_in(queue, std::vector<std::byte>{ std::byte(1) });
#endif
}
END_TEST

START_TEST(objects) {
  forkq::queue queue;
  queue.put(nullptr);
  auto nil = queue.get();
  ck_assert_int_eq(nil->object().type, MSGPACK_OBJECT_NIL);
  ck_assert_uint_eq(nil->size(), 1);
  queue.put(5);
  auto five = queue.get();
  queue.put(five->object()); // a stage that passes on what it got
  ck_assert_int_eq(*queue.get<int>(), 5);
  ck_assert(std::string(five->data(), five->size()) == "\5");
}
END_TEST

struct sample {
  int number;
  double value;
  char name[600]; // beside the pipe
};

static sample sample_of(int number) {
  sample made = sample();
  made.number = number;
  made.name[599] = 'x';
  return made;
}

START_TEST(structs) {
  forkq::queue queue(2);
  queue.put_struct(sample_of(1));
  ck_assert(static_cast<bool>(queue.try_put_struct(sample_of(2))));
  IS_NOT(FORKQ_FULL, queue.try_put_struct(sample_of(3)));
  auto got = queue.get_struct<sample>();
  ck_assert_int_eq(got->number, 1);
  ck_assert_int_eq(got->name[599], 'x');
  ck_assert_int_eq(queue.try_get_struct<sample>(LONG)->number, 2);
  IS_NOT(FORKQ_EMPTY, queue.try_get_struct<sample>());
}
END_TEST

START_TEST(a_struct_of_another_size) {
  forkq::queue queue;
  queue.put_struct(sample_of(1));
  THROWS(FORKQ_ETOOSHORT, (void)queue.get_struct<int>()); // it stays
  auto item = queue.get();
  ck_assert_int_eq(item->as_struct<sample>().number, 1);
  THROWS(FORKQ_EWRONGTYPE, item->as_struct<int>());
  queue.put_struct(1);
  THROWS(FORKQ_EWRONGTYPE, (void)queue.get_struct<sample>());
  queue.put(1);
  THROWS(FORKQ_EWRONGTYPE, (void)queue.get_struct<int>());
  ck_assert_int_eq(*queue.get<int>(), 1);
  THROWS(FORKQ_EWRONGTYPE, forkq::item().as_struct<int>());
}
END_TEST

// ---- outcomes and errors ----------------------------------------------------------------------

START_TEST(what_is_no_error_is_not_thrown) {
  forkq::queue queue(1);
  IS_NOT(FORKQ_EMPTY, queue.try_get());
  IS_NOT(FORKQ_EMPTY, queue.try_get<int>());
  IS_NOT(FORKQ_TIMEDOUT, queue.try_get<int>(milliseconds(1)));
  IS_NOT(FORKQ_EMPTY, queue.try_get<int>(-LONG));
  ck_assert(queue.empty() && !queue.full());
  auto put = queue.try_put(1);
  ck_assert(put && put.status() == 0);
  IS_NOT(FORKQ_FULL, queue.try_put(2));
  ck_assert(queue.try_put(2).message() == "queue is full");
  IS_NOT(FORKQ_TIMEDOUT, queue.try_put("2", microseconds(1)));
  ck_assert(queue.full() && queue.qsize() == 1);

  queue.shutdown();
  IS_NOT(FORKQ_ESHUTDOWN, queue.try_put(2, LONG));
  THROWS(FORKQ_ESHUTDOWN, queue.put(2));
  int got = 0;
  while (auto value = queue.get<int>())
    got += *value;
  ck_assert_int_eq(got, 1);
  auto end = queue.get<int>();
  ck_assert_int_eq(end.status(), FORKQ_ESHUTDOWN);
  THROWS(FORKQ_ESHUTDOWN, end.value());

  queue.close();
  IS_NOT(FORKQ_ECLOSED, queue.get());
  THROWS(FORKQ_ECLOSED, queue.put(2));
}
END_TEST

START_TEST(the_last_that_could_put) {
  forkq::queue queue;
  forkq::simple_queue simple;
  queue.put(1);
  queue.close_put();
  simple.close_put();
  IS_NOT(FORKQ_ECLOSED, queue.try_put(2, LONG));
  int got = 0;
  while (auto value = queue.get<int>())
    got += *value;
  ck_assert_int_eq(got, 1);
  IS_NOT(FORKQ_EALONE, queue.get());
  IS_NOT(FORKQ_EALONE, queue.try_get());
  IS_NOT(FORKQ_EALONE, simple.get());
  THROWS(FORKQ_ECLOSED, simple.put(2));
}
END_TEST

START_TEST(an_item_is_filled_in_again) {
  forkq::queue queue;
  for (int i = 0; i < 100; i++)
    queue.put(i);
  forkq::item item;
  int sum = 0;
  long before = 0;
  for (int i = 0; i < 100; i++) {
    ck_assert(static_cast<bool>(queue.get(item)));
    sum += item.as<int>();
    if (i == 0)
      before = blocks;
    ck_assert_int_le(blocks, before);
  }
  ck_assert_int_eq(sum, 4950);
  IS_NOT(FORKQ_EMPTY, queue.try_get(item));
}
END_TEST

START_TEST(errors_say_what_and_where) {
  try {
    forkq::queue::attach("nonsense");
    ck_abort_msg("attached");
  } catch (const std::system_error &error) {
    ck_assert_str_eq(error.what(), "forkq_queue_attach: not a valid handover of a queue");
    ck_assert(error.code() == FORKQ_EHANDOVER && error.code() != FORKQ_EVERSION);
    ck_assert_str_eq(error.code().category().name(), "forkq");
  }
  ck_assert(forkq::error(FORKQ_EMPTY, "").code() == FORKQ_EMPTY);
  THROWS(std::errc::bad_file_descriptor, forkq::connection(-1, true, true));
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.max_message = 100;
  forkq::queue queue(options);
  THROWS(FORKQ_ETOOBIG, queue.put(std::string(100, 'x')));
  comes_out_as_it_went_in(queue, std::string(98, 'x'));
  options.size = 0;
  THROWS(FORKQ_ERANGE, forkq::queue{ options });
}
END_TEST

START_TEST(timeouts) {
  ck_assert_int_eq(forkq::timeout().ms(), 0);
  ck_assert_int_eq(forkq::timeout(seconds(-1)).ms(), 0);
  ck_assert_int_eq(forkq::timeout(milliseconds(0)).ms(), 0);
  ck_assert_int_eq(forkq::timeout(microseconds(1)).ms(), 1);
  ck_assert_int_eq(forkq::timeout(microseconds(3000)).ms(), 3);
  ck_assert_int_eq(forkq::timeout(microseconds(3001)).ms(), 4);
  ck_assert_int_eq(forkq::timeout(seconds(2)).ms(), 2000);
  ck_assert_int_eq(forkq::timeout(milliseconds(INT_MAX - 1)).ms(), INT_MAX - 1);
  ck_assert_int_eq(forkq::timeout(milliseconds(INT_MAX)).ms(), -1);
  ck_assert_int_eq(forkq::timeout(hours::max()).ms(), -1);
  ck_assert_int_eq(forkq::timeout(hours::min()).ms(), 0);
}
END_TEST

// ---- functions that pack ----------------------------------------------------------------------

struct refusal {
  int number;
};

// Packs more than fits into a packet, and throws.
static void pack_and_throw(msgpack_packer *packer) {
  std::string text(100000, 'x');
  msgpack_pack_str(packer, text.size());
  msgpack_pack_str_body(packer, text.data(), text.size());
  throw refusal{ 42 };
}

template <typename Put> static void exception_comes_out(Put put) {
  long before = 0;
  for (int i = 0; i < 10; i++) {
    int caught = 0;
    try {
      put();
    } catch (const refusal &thrown) {
      caught = thrown.number;
    }
    ck_assert_int_eq(caught, 42);
    if (i == 0)
      before = blocks;
    ck_assert_int_le(blocks, before);
  }
}

START_TEST(functions_pack) {
  forkq::queue queue;
  int captured = 3;
  queue.put_with(
      [captured](msgpack_packer *packer) { msgpack_pack_int(packer, captured); });
  queue.put_with([&captured](msgpack_packer *packer) {
    return msgpack_pack_int(packer, captured + 1);
  });
  auto put =
      queue.try_put_with([](msgpack_packer *packer) { msgpack_pack_int(packer, 5); });
  ck_assert(static_cast<bool>(put));
  for (int expected : { 3, 4, 5 })
    ck_assert_int_eq(*queue.get<int>(), expected);
  THROWS(FORKQ_EPACK, queue.put_with([](msgpack_packer *) { return 1; }));
  THROWS(FORKQ_EBADOBJECT, queue.put_with([](msgpack_packer *) {}));
  THROWS(FORKQ_EPACKING, queue.put_with([&queue](msgpack_packer *) { queue.put(1); }));
  ck_assert_int_eq(queue.qsize(), 0);
}
END_TEST

START_TEST(exceptions_of_functions_come_out) {
  forkq::queue queue(1);
  exception_comes_out([&queue] { queue.put_with(pack_and_throw); });
  exception_comes_out([&queue] { (void)!queue.try_put_with(pack_and_throw, LONG); });
  ck_assert_int_eq(queue.qsize(), 0);
  comes_out_as_it_went_in(queue, 1);

  forkq::simple_queue simple;
  exception_comes_out([&simple] { simple.put_with(pack_and_throw); });
  ck_assert(simple.empty());
  simple.put(2);
  ck_assert_int_eq(*simple.get<int>(), 2);

  auto ends = forkq::pipe();
  exception_comes_out([&ends] { ends.first.send_with(pack_and_throw); });
  ck_assert(!ends.second.poll());
  ends.first.send(3);
  ck_assert_int_eq(*ends.second.recv<int>(), 3);
}
END_TEST

// ---- ownership --------------------------------------------------------------------------------

static_assert(!std::is_copy_constructible<forkq::queue>::value, "");
static_assert(!std::is_copy_assignable<forkq::simple_queue>::value, "");
static_assert(!std::is_copy_constructible<forkq::connection>::value, "");
static_assert(!std::is_copy_constructible<forkq::item>::value, "");
static_assert(std::is_nothrow_move_constructible<forkq::queue>::value, "");
static_assert(std::is_nothrow_move_assignable<forkq::simple_queue>::value, "");
static_assert(std::is_nothrow_move_constructible<forkq::connection>::value, "");
static_assert(std::is_nothrow_move_assignable<forkq::item>::value, "");
static_assert(std::is_nothrow_destructible<forkq::queue>::value, "");

static int next_descriptor() {
  int fd = dup(STDIN_FILENO);
  close(fd);
  return fd;
}

START_TEST(destructors_free_all) {
  const int before = next_descriptor();
  {
    forkq::queue queue, joinable = forkq::queue::joinable(3);
    forkq::simple_queue simple;
    auto ends = forkq::pipe(false);
    queue.put(std::string(10000, 'x'));
    joinable.put("small");
    auto item = queue.get();
    ck_assert(static_cast<bool>(item));
  }
  assert_all_is_freed();
  ck_assert_int_eq(next_descriptor(), before);
}
END_TEST

START_TEST(what_is_moved_works_there) {
  forkq::queue first, second = std::move(first);
  second.put(1);
  THROWS(FORKQ_ENULL, first.put(1));
  THROWS(FORKQ_ENULL, (void)first.get());
  THROWS(FORKQ_ENULL, first.qsize());
  first = std::move(second);
  auto item = first.get();
  forkq::item moved = std::move(*item);
  ck_assert_int_eq(moved.as<int>(), 1);
  *item = std::move(moved);
  ck_assert_int_eq(item->as<int>(), 1);
  first = forkq::queue(); // destroys the one before
  ck_assert_int_eq(first.qsize(), 0);
}
END_TEST

START_TEST(a_thread_is_cancelled_in_a_get) {
  {
    forkq::queue queue;
    queue.put(std::string(1000, 'x')); // for which the item has memory
    std::thread thread([&queue] {
      forkq::item item;
      while (queue.get(item)) {
      }
    });
    while (queue.stats().get_waits == 0)
      std::this_thread::yield();
    ck_assert_int_eq(pthread_cancel(thread.native_handle()), 0);
    thread.join();
    comes_out_as_it_went_in(queue, 1);
  }
  assert_all_is_freed();
}
END_TEST

START_TEST(an_interrupt_ends_a_get) {
  forkq::queue queue(1);
  forkq::simple_queue simple;
  std::atomic<int> status(0), simple_status(0);
  std::thread thread([&] {
    status = queue.get<int>().status();
    simple_status = simple.get<int>().status();
  });
  while (queue.stats().get_waits == 0)
    std::this_thread::yield();
  simple.interrupt(); // its get has not begun, and is told nevertheless
  queue.interrupt();
  thread.join();
  ck_assert_int_eq(status, FORKQ_EINTERRUPTED);
  ck_assert_int_eq(simple_status, FORKQ_EINTERRUPTED);
  IS_NOT(FORKQ_EINTERRUPTED, queue.try_get<int>(LONG)); // this thread was not told yet
  queue.put(1);
  queue.interrupt();
  THROWS(FORKQ_EINTERRUPTED, queue.put(2));
  ck_assert_int_eq(*queue.get<int>(), 1);
}
END_TEST

START_TEST(objects_of_c_are_adopted) {
  {
    forkq_simple_queue_t *simple;
    ck_assert_int_eq(forkq_simple_queue_create(&simple), 0);
    ck_assert_ptr_eq(forkq::simple_queue::adopt(simple).native_handle(), simple);
    forkq_queue_t *made;
    ck_assert_int_eq(forkq_queue_create(&made, 0), 0);
    forkq::queue queue = forkq::queue::adopt(made);
    ck_assert_ptr_eq(queue.native_handle(), made);
    ck_assert_int_eq(forkq_queue_put_int(queue.native_handle(), 7, -1), 0);
    ck_assert_int_eq(*queue.get<int>(), 7);
  }
  assert_all_is_freed();
}
END_TEST

// ---- between processes ------------------------------------------------------------------------

START_TEST(a_child_puts_and_its_parent_gets) {
  forkq::queue queue(10);
  pid_t child = start([&queue] {
    for (int i = 0; i < 1000; i++)
      queue.put(i);
    queue.put("end");
    queue.flush();
  });
  for (int i = 0; i < 1000; i++)
    ck_assert_int_eq(*queue.try_get<int>(LONG), i);
  ck_assert(*queue.try_get<std::string>(LONG) == "end");
  assert_ends_well(child);
}
END_TEST

START_TEST(a_child_ends_with_the_queue) {
  forkq::queue queue;
  pid_t child = start([&queue] {
    int sum = 0;
    while (auto value = queue.get<int>())
      sum += *value;
    must(sum == 6);
  });
  for (int i : { 1, 2, 3 })
    queue.put(i);
  queue.shutdown();
  assert_ends_well(child);
}
END_TEST

START_TEST(what_a_child_destroys_stays_the_parents) {
  forkq::queue queue;
  pid_t child = start([&queue] {
    queue.put(1);
    forkq::queue gone = std::move(queue);
  });
  assert_ends_well(child);
  ck_assert_int_eq(*queue.try_get<int>(LONG), 1);
  comes_out_as_it_went_in(queue, 2);
}
END_TEST

START_TEST(tasks) {
  forkq::queue queue = forkq::queue::joinable();
  ck_assert_uint_eq(queue.join(), 0);
  queue.put(1);
  IS_NOT(FORKQ_TIMEDOUT, queue.try_join(milliseconds(1)));
  ck_assert(static_cast<bool>(queue.get()));
  queue.task_done();
  ck_assert_uint_eq(*queue.try_join(LONG), 0);
  THROWS(FORKQ_ETASKDONE, queue.task_done());
  THROWS(FORKQ_ENOTJOINABLE, forkq::queue().join());
}
END_TEST

START_TEST(a_task_of_a_dead_process) {
  forkq::queue queue = forkq::queue::joinable();
  pid_t child = start([&queue] { must(static_cast<bool>(queue.try_get(LONG))); });
  queue.put(1);
  assert_ends_well(child);
  ck_assert_uint_eq(queue.join(), 1);
}
END_TEST

START_TEST(closing) {
  forkq::queue queue;
  queue.put(1);
  THROWS(FORKQ_ENOTCLOSED, queue.join_thread());
  ck_assert(static_cast<bool>(queue.try_flush(LONG)));
  forkq_queue_stats_t stats = queue.stats();
  ck_assert_uint_eq(stats.put_items, 1);
  ck_assert_uint_eq(stats.outbox_items, 0);
  ck_assert_int_ge(queue.fileno(), 0);
  ck_assert_int_ge(queue.room_fileno(), 0);
  ck_assert_int_ne(queue.room_fileno(), queue.fileno());
  queue.close();
  THROWS(FORKQ_ECLOSED, queue.room_fileno());
  ck_assert_uint_eq(*queue.try_join_thread(LONG), 0);
  ck_assert_uint_eq(queue.join_thread(), 0);
  queue.cancel_join_thread();
}
END_TEST

static const char *program; // this one

// What the program does that a_program_attaches has started.
static int attach_and_put(const char *text) {
  forkq::queue queue = forkq::queue::attach(text);
  queue.put("attached");
  return EXIT_SUCCESS;
}

START_TEST(a_program_attaches) {
  forkq::queue queue;
  forkq_handover_t handover = queue.hand_over();
  THROWS(FORKQ_ETWICE, forkq::queue::attach(handover.text));
  pid_t child = start([&handover] {
    must(forkq_handover_keep(&handover) == 0);
    execl(program, program, handover.text, nullptr);
    must(false);
  });
  ck_assert(*queue.try_get<std::string>(LONG) == "attached");
  assert_ends_well(child);
}
END_TEST

START_TEST(a_queue_comes_over_a_socket) {
  int sockets[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
  forkq::queue queue;
  pid_t child = start([&queue, &sockets] {
    queue = forkq::queue(); // as a program that has not inherited it
    forkq::queue received = forkq::queue::receive(sockets[1]);
    received.put("received");
    received.flush();
  });
  queue.send(sockets[0]);
  ck_assert(*queue.try_get<std::string>(LONG) == "received");
  assert_ends_well(child);
  close(sockets[0]);
  close(sockets[1]);
}
END_TEST

START_TEST(a_queue_is_met_under_a_name) {
  const std::string name = "@forkq-test-cpp-" + std::to_string(getpid());
  forkq::queue queue;
  forkq_server_options_t options = FORKQ_SERVER_OPTIONS_INIT;
  THROWS(std::errc::connection_refused, forkq::queue::connect(name.c_str(), LONG));
  THROWS(FORKQ_ERANGE, forkq::server(queue, ""));
  {
    forkq::server server(queue, name.c_str());
    THROWS(FORKQ_EINUSE, forkq::server(queue, name.c_str()));
    THROWS(FORKQ_ETWICE, forkq::queue::connect(name.c_str(), LONG));
    THROWS(std::errc::invalid_argument, server.turn());
    pid_t child = start([&queue, &name] {
      queue = forkq::queue(); // as a program that has not inherited it
      forkq::queue met = forkq::queue::connect(name.c_str(), LONG);
      met.put("met");
      met.flush();
    });
    ck_assert(*queue.try_get<std::string>(LONG) == "met");
    assert_ends_well(child);
  }
  options.no_thread = 1;
  forkq::server server(queue, name.c_str(), &options);
  ck_assert_int_ge(server.fileno(), 0);
  THROWS(FORKQ_TIMEDOUT, forkq::queue::connect(name.c_str(), forkq::timeout()));
  server.turn();
}
END_TEST

// ---- the others -------------------------------------------------------------------------------

START_TEST(simple_queues) {
  forkq::simple_queue queue;
  ck_assert(queue.empty());
  pid_t child = start([&queue] {
    queue.put("text");
    queue.put_struct(sample_of(4));
    queue.put_with([](msgpack_packer *packer) { msgpack_pack_int(packer, 5); });
    queue.put(6);
  });
  ck_assert(*queue.get<std::string>() == "text");
  ck_assert_int_eq(queue.get_struct<sample>()->number, 4);
  forkq::item item;
  ck_assert(static_cast<bool>(queue.get(item)));
  ck_assert_int_eq(item.as<int>(), 5);
  ck_assert_int_eq(queue.get()->as<int>(), 6);
  assert_ends_well(child);
  queue.put_struct(sample_of(7));
  THROWS(FORKQ_ETOOSHORT, (void)queue.get_struct<char>());
  ck_assert_int_eq(queue.get_struct<sample>()->number, 7);
  queue.close();
  IS_NOT(FORKQ_ECLOSED, queue.get<int>());
  IS_NOT(FORKQ_ECLOSED, queue.get_struct<int>());
  THROWS(FORKQ_ECLOSED, queue.put(1));
  THROWS(FORKQ_ECLOSED, queue.empty());
}
END_TEST

START_TEST(connections) {
  auto ends = forkq::pipe();
  forkq::connection &a = ends.first, &b = ends.second;
  ck_assert(a.readable() && a.writable() && !a.closed());
  ck_assert(!b.poll());
  a.send("text");
  a.send(7);
  a.send_with([](msgpack_packer *packer) { msgpack_pack_nil(packer); });
  ck_assert(b.poll(LONG));
  ck_assert(*b.recv<std::string>() == "text");
  ck_assert_int_eq(b.recv()->as<int>(), 7);
  forkq::item item;
  ck_assert(static_cast<bool>(b.recv(item)));
  ck_assert_int_eq(item.object().type, MSGPACK_OBJECT_NIL);

  a.send_bytes("plain", 5);
  ck_assert(static_cast<bool>(b.recv_bytes(item)));
  ck_assert(std::string(item.data(), item.size()) == "plain");
  THROWS(FORKQ_EWRONGTYPE, item.as<std::string>());
  b.send_struct(sample_of(8));
  ck_assert_int_eq(a.recv_struct<sample>()->number, 8);
  b.send_struct(sample_of(8));
  THROWS(FORKQ_ETOOSHORT, (void)a.recv_struct<int>());
  b.send_struct(9);
  THROWS(FORKQ_EWRONGTYPE, (void)a.recv_struct<sample>());

  a.send_fd(STDIN_FILENO);
  auto fd = b.recv_fd();
  ck_assert_int_ge(*fd, 0);
  ck_assert_int_eq(close(*fd), 0);
  ck_assert_int_ge(a.fileno(), 0);
}
END_TEST

START_TEST(a_connection_ends) {
  auto ends = forkq::pipe(false);
  ck_assert(ends.first.readable() && !ends.first.writable());
  pid_t child = start([&ends] {
    ends.first.close();
    for (int i : { 1, 2, 3 })
      ends.second.send(i);
  });
  ends.second.close();
  ck_assert(ends.second.closed());
  int sum = 0;
  while (auto value = ends.first.recv<int>())
    sum += *value;
  ck_assert_int_eq(sum, 6);
  IS_NOT(FORKQ_EEOF, ends.first.recv());
  IS_NOT(FORKQ_EEOF, ends.first.recv_struct<int>());
  assert_ends_well(child);
  THROWS(FORKQ_EREADONLY, ends.first.send(1));
  IS_NOT(FORKQ_ECLOSED, ends.second.recv());
  THROWS(FORKQ_ECLOSED, ends.second.send(1));
}
END_TEST

// ---- processes --------------------------------------------------------------------------------

static int exitcode_of(forkq::process &process) {
  ck_assert(static_cast<bool>(process.try_join(LONG)));
  return *process.exitcode();
}

static int three() {
  return 3;
}

START_TEST(processes) {
  forkq::queue queue;
  int number = 7;
  forkq::process putter([&] { queue.put(number++); });
  forkq::process getter([&queue] { return *queue.try_get<int>(LONG); });
  forkq::process function(three);
  ck_assert_int_gt(putter.pid(), 0);
  ck_assert_int_eq(exitcode_of(putter), 0);
  ck_assert_int_eq(exitcode_of(getter), 7);
  ck_assert_int_eq(exitcode_of(function), 3);
  ck_assert_int_eq(number, 7); // the child has a copy
  forkq::process moved = std::move(function);
  moved.join();
  ck_assert(!moved.is_alive());
  THROWS(FORKQ_ENULL, function.join());
}
END_TEST

START_TEST(processes_that_do_not_end_by_themselves) {
  forkq::queue queue;
  forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
  options.daemon = 1;
  const auto wait = [&queue] { (void)queue.get(); };
  forkq::process killed(wait, &options), terminated(wait);
  ck_assert(killed.is_alive());
  IS_NOT(FORKQ_TIMEDOUT, killed.try_join());
  IS_NOT(FORKQ_TIMEDOUT, killed.exitcode());
  killed.kill();
  ck_assert_int_eq(exitcode_of(killed), -SIGKILL);
  terminated.terminate();
  ck_assert_int_eq(exitcode_of(terminated), -SIGTERM);
  options.size = 1;
  THROWS(FORKQ_ERANGE, forkq::process(wait, &options));
}
END_TEST

START_TEST(an_exception_ends_the_child) {
  forkq::process process([] {
    if (freopen("/dev/null", "w", stderr) != nullptr) // what std::terminate says
      throw refusal{ 1 };
  });
  ck_assert_int_eq(exitcode_of(process), -SIGABRT);
}
END_TEST

// ---- msgpack-cxx ------------------------------------------------------------------------------

#ifdef FORKQ_MSGPACK_CXX

using counts = std::map<std::string, int>;

struct job {
  std::string name;
  std::vector<int> numbers;
  counts seen;
  MSGPACK_DEFINE(name, numbers, seen);
  bool operator==(const job &other) const {
    return name == other.name && numbers == other.numbers && seen == other.seen;
  }
};

START_TEST(containers_and_classes) {
  forkq::queue queue;
  comes_out_as_it_went_in(queue, counts{ { "one", 1 }, { "two", 2 } });
  comes_out_as_it_went_in(queue, counts());
  comes_out_as_it_went_in(queue, std::make_tuple(1, std::string("x"), 1.5));
  comes_out_as_it_went_in(queue, std::vector<std::string>(10000, "beside the pipe"));
  const job whole = { "name", { 1, -2, 3 }, { { "x", 1 } } };
  comes_out_as_it_went_in(queue, whole);

  forkq::simple_queue simple;
  simple.put(whole);
  ck_assert(*simple.get<job>() == whole);
  auto ends = forkq::pipe();
  ends.first.send(whole);
  ck_assert(*ends.second.recv<job>() == whole);
}
END_TEST

START_TEST(plain_values_are_as_msgpack_cxx_has_them) {
  forkq::queue queue;
  queue.put(
      std::make_tuple(7, std::string("text"), -1.5, std::vector<char>{ 'b' }, true));
  auto item = queue.get();
  const msgpack_object_array &array = item->object().via.array;
  ck_assert_uint_eq(array.size, 5);
  for (std::uint32_t i = 0; i < array.size; i++)
    queue.put(array.ptr[i]);
  ck_assert_int_eq(*queue.get<int>(), 7);
  ck_assert(*queue.get<std::string>() == "text");
  ck_assert(*queue.get<double>() == -1.5);
  ck_assert(*queue.get<std::vector<char>>() == std::vector<char>{ 'b' });
  ck_assert(*queue.get<bool>());
}
END_TEST

START_TEST(a_container_of_another_type) {
  forkq::queue queue;
  queue.put(counts{ { "one", 1 } });
  THROWS(FORKQ_EWRONGTYPE, (void)queue.get<std::vector<int>>());
  queue.put(std::vector<std::string>{ "x" });
  THROWS(FORKQ_EWRONGTYPE, (void)queue.get<std::vector<int>>());
  queue.put(nullptr);
  THROWS(FORKQ_EWRONGTYPE, (void)queue.get<counts>());
  auto ends = forkq::pipe();
  ends.first.send_bytes("\x90\x90", 2); // no object that forkq has checked
  forkq::item item;
  ck_assert(static_cast<bool>(ends.second.recv_bytes(item)));
  THROWS(FORKQ_EWRONGTYPE, item.as<std::vector<int>>());
  ends.first.send_bytes("\x91", 1);
  ck_assert(static_cast<bool>(ends.second.recv_bytes(item)));
  THROWS(FORKQ_EBADFRAME, item.as<std::vector<int>>());
}
END_TEST

struct throwing {
  template <typename Packer> void msgpack_pack(Packer &packer) const {
    packer.pack(std::string(100000, 'x'));
    throw refusal{ 42 };
  }
};

START_TEST(exceptions_of_classes_come_out) {
  forkq::queue queue;
  exception_comes_out([&queue] { queue.put(throwing()); });
  comes_out_as_it_went_in(queue, counts{ { "one", 1 } });
}
END_TEST

START_TEST(an_object_that_is_too_large_or_too_deep) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.max_message = 100;
  forkq::queue queue(options);
  THROWS(FORKQ_ETOOBIG, queue.put(std::vector<std::string>(1000, "too much")));
  std::vector<std::vector<int>> shallow(1);
  comes_out_as_it_went_in(queue, shallow);
  THROWS(FORKQ_ETOODEEP, queue.put_with([](msgpack_packer *packer) {
    for (int i = 0; i < FORKQ_DEPTH_MAX; i++)
      msgpack_pack_array(packer, 1);
    msgpack_pack_array(packer, 0);
  }));
}
END_TEST

#endif

int main(int argc, char **argv) {
  if (argc > 1)
    return attach_and_put(argv[1]);
  program = argv[0];
  static const forkq_heap_t heap = { heap_malloc, heap_realloc, heap_free, nullptr };
  forkq_heap_set(&heap);
  Suite *suite = suite_create("C++");
  TCase *tcase = tcase_create("forkq.hpp");
  tcase_set_timeout(tcase, 60);
  const TTest *tests[] = {
    numbers,
    a_number_that_does_not_fit_is_of_the_wrong_type,
    strings_and_bytes,
    objects,
    structs,
    a_struct_of_another_size,
    what_is_no_error_is_not_thrown,
    the_last_that_could_put,
    an_item_is_filled_in_again,
    errors_say_what_and_where,
    timeouts,
    functions_pack,
    exceptions_of_functions_come_out,
    destructors_free_all,
    what_is_moved_works_there,
    a_thread_is_cancelled_in_a_get,
    an_interrupt_ends_a_get,
    objects_of_c_are_adopted,
    a_child_puts_and_its_parent_gets,
    a_child_ends_with_the_queue,
    what_a_child_destroys_stays_the_parents,
    tasks,
    a_task_of_a_dead_process,
    closing,
    a_program_attaches,
    a_queue_comes_over_a_socket,
    a_queue_is_met_under_a_name,
    simple_queues,
    connections,
    a_connection_ends,
    processes,
    processes_that_do_not_end_by_themselves,
    an_exception_ends_the_child,
#ifdef FORKQ_MSGPACK_CXX
    containers_and_classes,
    plain_values_are_as_msgpack_cxx_has_them,
    a_container_of_another_type,
    exceptions_of_classes_come_out,
    an_object_that_is_too_large_or_too_deep,
#endif
  };
  for (const TTest *test : tests)
    tcase_add_test(tcase, test);
  suite_add_tcase(suite, tcase);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
