// Packing functions that throw, and threads of a C++ program that are cancelled: exceptions and
// cancellations pass through the library's calls, destructors run, and the queue is whole.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <forkq.h>
#include <forkq/loop.h>
#include <new>
#include <pthread.h>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#define MUST(condition)                                                                  \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: this does not hold: %s\n", __FILE__, __LINE__,        \
                   #condition);                                                          \
      std::_Exit(EXIT_FAILURE);                                                          \
    }                                                                                    \
  } while (0)

// ---- memory that is not given back ----------------------------------------------------------

static std::atomic<long> live;

// The queue with its handle, and packets that are kept for the next put.
static const long FEW = 10;

static void *counting_malloc(size_t size, void *) {
  live++;
  return std::malloc(size);
}

static void *counting_realloc(void *memory, size_t size, void *) {
  live += memory == nullptr;
  return std::realloc(memory, size);
}

static void counting_free(void *memory, void *) {
  live--;
  std::free(memory);
}

static const forkq_heap_t counting_heap = { counting_malloc, counting_realloc,
                                            counting_free, nullptr };

// ---- objects whose destructors have to run --------------------------------------------------

static std::atomic<int> guards;

struct Guard {
  Guard() {
    guards++;
  }
  ~Guard() {
    guards--;
  }
  Guard(const Guard &) = delete;
  Guard &operator=(const Guard &) = delete;
  std::string memory = std::string(1000, 'x');
};

struct Refusal {
  int number;
};

// ---- the queue ------------------------------------------------------------------------------

static int put(forkq_queue_t *queue, uint64_t value, int timeout_ms) {
  msgpack_object object;
  object.type = MSGPACK_OBJECT_POSITIVE_INTEGER;
  object.via.u64 = value;
  return forkq_queue_put(queue, &object, timeout_ms);
}

struct Item {
  forkq_item_t item = FORKQ_ITEM_INIT;
  Item() = default;
  ~Item() {
    forkq_item_destroy(&item);
  }
  Item(const Item &) = delete;
  Item &operator=(const Item &) = delete;
};

static int64_t get(forkq_queue_t *queue, int timeout_ms) {
  Item item;
  int r = forkq_queue_get(queue, &item.item, timeout_ms);
  return r < 0 ? r : static_cast<int64_t>(item.item.object.via.u64);
}

// Of a queue that is empty: for this thread, another one and a child.
static void must_be_whole(forkq_queue_t *queue) {
  MUST(forkq_queue_qsize(queue) == 0);
  MUST(put(queue, 1, 0) == 0 && get(queue, 10000) == 1);
  std::thread([queue] { MUST(put(queue, 2, 0) == 0 && get(queue, 10000) == 2); }).join();
  pid_t child = fork();
  MUST(child >= 0);
  if (child == 0) {
    alarm(60);
    MUST(put(queue, 3, 10000) == 0 && get(queue, 10000) == 3);
    _exit(0);
  }
  int status = -1;
  MUST(waitpid(child, &status, 0) == child && status == 0);
  MUST(forkq_queue_qsize(queue) == 0);
}

static void must_have_room_for_two(forkq_queue_t *queue) {
  MUST(put(queue, 1, 0) == 0 && put(queue, 2, 0) == 0 && put(queue, 3, 0) == FORKQ_FULL);
  MUST(get(queue, 10000) == 1 && get(queue, 10000) == 2);
}

// ---- functions that throw -------------------------------------------------------------------

struct Throwing {
  bool bad_alloc;
  size_t bytes; // that it has written before
  forkq_queue_t *queue;
};

static void write_bytes(msgpack_packer *packer, size_t bytes) {
  std::vector<char> body(bytes);
  if (bytes == 0)
    return;
  msgpack_pack_bin(packer, bytes + 1);
  msgpack_pack_bin_body(packer, body.data(), bytes);
}

// Inside the function a destructor must not use the queue yet.
struct PutsInside {
  forkq_queue_t *queue;
  ~PutsInside() {
    MUST(put(queue, 1, 0) == FORKQ_EPACKING);
  }
};

// In a frame above the call it may.
struct PutsOutside {
  forkq_queue_t *queue;
  ~PutsOutside() {
    MUST(put(queue, 9, 0) == 0);
  }
};

static int pack_and_throw(msgpack_packer *packer, void *arg) {
  const Throwing *throwing = static_cast<Throwing *>(arg);
  Guard guard;
  PutsInside inside{ throwing->queue };
  write_bytes(packer, throwing->bytes);
  if (throwing->bad_alloc)
    throw std::bad_alloc();
  throw Refusal{ 42 };
}

// Each calls one of the library's functions, with an object of its own in its frame.
static int put_with(Throwing *throwing) {
  Guard guard;
  return forkq_queue_put_with(throwing->queue, pack_and_throw, throwing, -1);
}

static int put_with_at_once(Throwing *throwing) {
  Guard guard;
  return forkq_queue_put_with(throwing->queue, pack_and_throw, throwing, 0);
}

static forkq_simple_queue_t *simple;

static int simple_put_with(Throwing *throwing) {
  Guard guard;
  return forkq_simple_queue_put_with(simple, pack_and_throw, throwing);
}

static forkq_loop_handle_t *handle;
static forkq_loop_req_t request = FORKQ_LOOP_REQ_INIT;
static int loop_status;

static void keep_status(forkq_loop_req_t *, int status) {
  loop_status = status;
}

static int loop_put_with(Throwing *throwing) {
  Guard guard;
  return forkq_loop_put_with(&request, handle, pack_and_throw, throwing, -1, keep_status);
}

// It is caught as what was thrown, and nothing was put.
static void must_throw(int (*call)(Throwing *), Throwing *throwing) {
  bool caught = false;
  int64_t before = forkq_queue_qsize(throwing->queue);
  try {
    (void)call(throwing);
  } catch (const std::bad_alloc &) {
    caught = throwing->bad_alloc;
  } catch (const Refusal &refusal) {
    caught = !throwing->bad_alloc && refusal.number == 42;
  }
  MUST(caught);
  MUST(guards == 0);
  MUST(forkq_queue_qsize(throwing->queue) == before);
}

static const size_t sizes[] = { 0, 100, 100000 };

static void functions_may_throw_from(int (*call)(Throwing *), forkq_queue_t *queue,
                                     bool bounded) {
  for (int round = 0; round < 10; round++) {
    for (size_t bytes : sizes)
      for (bool bad_alloc : { false, true }) {
        Throwing throwing = { bad_alloc, bytes, queue };
        must_throw(call, &throwing);
        if (bounded)
          must_have_room_for_two(queue);
      }
    must_be_whole(queue);
    MUST(live <= FEW);
  }
}

static forkq_queue_t *create(int64_t maxsize) {
  forkq_queue_t *queue = nullptr;
  MUST(forkq_queue_create(&queue, maxsize) == 0);
  return queue;
}

static void functions_may_throw() {
  forkq_queue_t *queue = create(2);
  functions_may_throw_from(put_with, queue, true);
  functions_may_throw_from(put_with_at_once, queue, true);
  forkq_queue_destroy(queue);
}

static void functions_may_throw_from_a_simple_queue() {
  MUST(forkq_simple_queue_create(&simple) == 0);
  // The type exists for its users only: what is inside is a queue.
  functions_may_throw_from(simple_put_with, reinterpret_cast<forkq_queue_t *>(simple),
                           false);
  forkq_simple_queue_destroy(simple);
}

static void functions_may_throw_on_a_loop() {
  uv_loop_t loop;
  forkq_queue_t *queue = create(2);
  MUST(uv_loop_init(&loop) == 0);
  MUST(forkq_loop_open_queue(&handle, &loop, queue) == 0);
  functions_may_throw_from(loop_put_with, queue, true);
  // The same where the put has to wait; afterwards the request can be used.
  for (size_t bytes : sizes) {
    MUST(put(queue, 1, 0) == 0 && put(queue, 2, 0) == 0);
    long before = live;
    Throwing throwing = { true, bytes, queue };
    must_throw(loop_put_with, &throwing);
    MUST(live <= before);
    msgpack_object nil;
    nil.type = MSGPACK_OBJECT_NIL;
    loop_status = 1;
    MUST(forkq_loop_put(&request, handle, &nil, -1, keep_status) == 0);
    MUST(get(queue, 10000) == 1);
    while (loop_status == 1)
      uv_run(&loop, UV_RUN_ONCE);
    MUST(loop_status == 0);
    MUST(get(queue, 10000) == 2 && get(queue, 10000) >= 0);
  }
  MUST(forkq_loop_close(handle, nullptr, nullptr) == 0);
  MUST(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  MUST(uv_loop_close(&loop) == 0);
  must_be_whole(queue);
  forkq_queue_destroy(queue);
}

static void a_destructor_above_the_call_may_put() {
  forkq_queue_t *queue = create(2);
  bool caught = false;
  try {
    Throwing throwing = { true, 100000, queue };
    PutsOutside outside{ queue };
    (void)put_with(&throwing);
  } catch (const std::bad_alloc &) {
    caught = true;
    MUST(put(queue, 10, 0) == 0);
  }
  MUST(caught);
  MUST(get(queue, 10000) == 9 && get(queue, 10000) == 10);
  must_be_whole(queue);
  forkq_queue_destroy(queue);
}

static int pack_and_catch(msgpack_packer *packer, void *) {
  try {
    throw Refusal{ 1 };
  } catch (const Refusal &refusal) {
    return msgpack_pack_int(packer, refusal.number);
  }
}

static void a_function_may_catch_what_it_throws() {
  forkq_queue_t *queue = create(2);
  MUST(forkq_queue_put_with(queue, pack_and_catch, nullptr, 0) == 0);
  MUST(get(queue, 10000) == 1);
  must_be_whole(queue);
  forkq_queue_destroy(queue);
}

// ---- many threads at the same time ----------------------------------------------------------

static const uint64_t THREADS = 4, EACH = 1000;

static int pack_or_throw(msgpack_packer *packer, void *arg) {
  uint64_t number = *static_cast<uint64_t *>(arg);
  Guard guard;
  if (number % 7 == 3)
    throw Refusal{ 3 };
  write_bytes(packer, number % 100 == 50 && number % 7 == 5 ? 20000 : 0);
  if (number % 7 == 5)
    throw std::bad_alloc();
  return msgpack_pack_uint64(packer, number);
}

static void put_what_does_not_throw(forkq_queue_t *queue, uint64_t first) {
  for (uint64_t number = first; number < first + EACH; number++) {
    bool throws = number % 7 == 3 || number % 7 == 5;
    try {
      MUST(forkq_queue_put_with(queue, pack_or_throw, &number, -1) == 0);
      MUST(!throws);
    } catch (const Refusal &) {
      MUST(number % 7 == 3);
    } catch (const std::bad_alloc &) {
      MUST(number % 7 == 5);
    }
  }
}

// Of each thread what did not throw comes, in its order.
static void get_what_did_not_throw(forkq_queue_t *queue) {
  uint64_t next[THREADS];
  for (uint64_t i = 0; i < THREADS; i++)
    next[i] = i * EACH;
  for (uint64_t ended = 0; ended < THREADS;) {
    for (uint64_t &number : next)
      while (number % 7 == 3 || number % 7 == 5)
        number++;
    int64_t value = get(queue, 10000);
    MUST(value >= 0);
    uint64_t thread = static_cast<uint64_t>(value) / EACH;
    MUST(thread < THREADS && static_cast<uint64_t>(value) == next[thread]);
    next[thread]++;
    uint64_t rest = next[thread], end = (thread + 1) * EACH;
    while (rest < end && (rest % 7 == 3 || rest % 7 == 5))
      rest++;
    ended += rest == end;
  }
}

static void threads_throw_while_others_put() {
  for (int64_t maxsize : { 0, 1, 100 }) {
    forkq_queue_t *queue = create(maxsize);
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < THREADS; i++)
      threads.emplace_back(put_what_does_not_throw, queue, i * EACH);
    get_what_did_not_throw(queue);
    for (std::thread &thread : threads)
      thread.join();
    MUST(guards == 0);
    must_be_whole(queue);
    forkq_queue_destroy(queue);
  }
}

// ---- threads that are cancelled -------------------------------------------------------------

static forkq_queue_stats_t stats_of(forkq_queue_t *queue) {
  forkq_queue_stats_t stats = forkq_queue_stats_t();
  stats.size = sizeof stats;
  MUST(forkq_queue_stats(queue, &stats) == 0);
  return stats;
}

static std::atomic<uint64_t> got;

// It passes a frame that catches everything, as long as that throws it on.
static void get_in_a_loop(forkq_queue_t *queue) {
  Guard guard;
  Item item;
  try {
    for (;;) {
      Guard inner;
      MUST(forkq_queue_get(queue, &item.item, -1) == 0);
      got++;
    }
  } catch (...) {
    Guard handling;
    throw;
  }
}

static void a_getter_is_cancelled() {
  forkq_queue_t *queue = create(0);
  for (uint64_t round = 0; round < 50; round++) {
    got = 0;
    uint64_t waits = stats_of(queue).get_waits;
    std::thread thread(get_in_a_loop, queue);
    for (uint64_t i = 0; i < round; i++)
      MUST(put(queue, i, 0) == 0);
    while (round % 2 == 0 && stats_of(queue).get_waits == waits)
      std::this_thread::yield();
    MUST(pthread_cancel(thread.native_handle()) == 0);
    thread.join();
    MUST(guards == 0);
    for (; got < round; got++)
      MUST(get(queue, 10000) >= 0);
    must_be_whole(queue);
  }
  forkq_queue_destroy(queue);
}

static int pack_much(msgpack_packer *packer, void *) {
  Guard guard;
  std::vector<char> body(100000);
  msgpack_pack_bin(packer, body.size());
  return msgpack_pack_bin_body(packer, body.data(), body.size());
}

static void a_putter_is_cancelled() {
  forkq_queue_t *queue = create(1);
  for (int round = 0; round < 20; round++) {
    MUST(put(queue, 1, 0) == 0);
    long before = live;
    uint64_t waits = stats_of(queue).put_waits;
    std::thread thread([queue] {
      Guard guard;
      MUST(forkq_queue_put_with(queue, pack_much, nullptr, -1) == 0);
      MUST(false);
    });
    while (stats_of(queue).put_waits == waits)
      std::this_thread::yield();
    MUST(pthread_cancel(thread.native_handle()) == 0);
    thread.join();
    MUST(guards == 0);
    MUST(live <= before);
    MUST(get(queue, 10000) == 1);
    must_be_whole(queue);
  }
  forkq_queue_destroy(queue);
}

static int pack_and_be_cancelled(msgpack_packer *packer, void *) {
  Guard guard;
  msgpack_pack_array(packer, 2);
  pthread_cancel(pthread_self());
  pthread_testcancel();
  return 0;
}

static void a_thread_is_cancelled_in_its_function() {
  forkq_queue_t *queue = create(1);
  for (int round = 0; round < 20; round++) {
    std::thread thread([queue] {
      Guard guard;
      MUST(forkq_queue_put_with(queue, pack_and_be_cancelled, nullptr, -1) == 0);
      MUST(false);
    });
    thread.join();
    MUST(guards == 0);
    must_be_whole(queue);
  }
  forkq_queue_destroy(queue);
}

int main() {
  forkq_heap_set(&counting_heap);
  alarm(100); // ends it where something hangs
  functions_may_throw();
  functions_may_throw_from_a_simple_queue();
  functions_may_throw_on_a_loop();
  a_destructor_above_the_call_may_put();
  a_function_may_catch_what_it_throws();
  threads_throw_while_others_put();
  a_getter_is_cancelled();
  a_putter_is_cancelled();
  a_thread_is_cancelled_in_its_function();
  MUST(live <= 1); // a packet, which this thread keeps
  return EXIT_SUCCESS;
}
