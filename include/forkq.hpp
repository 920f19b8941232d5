/* forkq.hpp: forkq for C++11 and later, in this header alone.
 *
 * Each class owns one object of the C library, and each function calls the C function that its
 * comment names. The manual is that of the C functions (forkq.h, man forkq): blocking, threads,
 * signals, and what holds when a process dies. This header says only what differs.
 *
 *     forkq::queue jobs(10);
 *     forkq::process worker([&jobs] {
 *       while (auto job = jobs.get<std::string>()) // until the shutdown
 *         work(*job);
 *     });
 *     jobs.put("first");
 *     jobs.shutdown();
 *     worker.join();
 *
 * Outcomes and errors
 *
 *   `put`, `send`, and whatever returns no outcome either succeed or throw forkq::error.
 *
 *   `get`, `recv` and all `try_` functions return an outcome, or a result, which is an outcome
 *   with a value. It is false, and nothing is thrown, if the queue is empty (FORKQ_EMPTY) or
 *   full (FORKQ_FULL), the time is over (FORKQ_TIMEDOUT), the queue is shut down
 *   (FORKQ_ESHUTDOWN), no process is left that could put (FORKQ_EALONE), this process has closed
 *   the object (FORKQ_ECLOSED), the other end of a connection is closed (FORKQ_EEOF), or the
 *   program has interrupted the call (FORKQ_EINTERRUPTED). status() tells which. Every other error
 *   is thrown.
 *
 *   `get` and `recv` without a time wait without limit. So they are false only at the end, or
 *   after an interrupt, and a loop can be `while (auto item = queue.get())`.
 *
 * Values
 *
 *   Integers, bool, float, double, strings, nullptr, msgpack_object, forkq::bytes and vectors of
 *   bytes can be put and sent as they are, and all but views can be got. Any other type is packed
 *   and unpacked by msgpack-cxx, if a program can include its <msgpack.hpp>: containers,
 *   classes with MSGPACK_DEFINE, and so on. To do without it, define FORKQ_NO_MSGPACK_CXX.
 *
 *   A got type must have a default constructor. An item of another type is FORKQ_EWRONGTYPE. The
 *   item has been taken then: where types vary, get a forkq::item, and look at its object.
 *
 *   `put_struct` copies a trivially copyable type as bytes. Both programs must have the same
 *   layout of it, as all forks of one process have. It must hold no pointers.
 *
 *   `put_with` calls a function that packs, such as a lambda, with a msgpack_packer *. It may
 *   return void, or an int as forkq_pack_fn does. If it throws, the exception comes out of
 *   put_with, nothing is put, and the queue stays usable.
 *
 * Ownership
 *
 *   Objects can be moved and not copied. A moved object can only be assigned to or destroyed:
 *   other calls throw FORKQ_ENULL. A destructor calls the C function `destroy`, and does not
 *   throw. That of a queue waits until what this process has put is sent (forkq_queue_destroy).
 *   That of a process neither waits for the process nor ends it.
 *
 *   native_handle() is the C object, for the functions that are not here: batches,
 *   reservations, borrowed items, forkq_wait, loops. It stays the C++ object's.
 *
 * fork
 *
 *   After a fork, parent and child each have the object, and each destroys its own, which does
 *   not affect the other process. std::exit runs no destructors of local objects, and need not:
 *   it sends what was put. _exit sends nothing.
 *
 * Cancellation
 *
 *   Puts and gets are cancellation points, as in C. No destructor is one. */
#ifndef FORKQ_HPP
#define FORKQ_HPP

#include <forkq.h>

#include <chrono>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>
#if __cplusplus >= 201703L
#  include <string_view>
#  define FORKQ_NODISCARD [[nodiscard]]
#else
#  define FORKQ_NODISCARD
#endif

#if !defined(FORKQ_NO_MSGPACK_CXX) && defined(__has_include)
#  if __has_include(<msgpack.hpp>)
#    include <msgpack.hpp>
#    define FORKQ_MSGPACK_CXX 1
#  endif
#endif

namespace forkq {

// ---- errors and outcomes --------------------------------------------------------------------

namespace detail {

class category final : public std::error_category {
public:
  const char *name() const noexcept override {
    return "forkq";
  }
  std::string message(int code) const override {
    return forkq_strerror(code);
  }
};

} // namespace detail

/* The category of forkq's own codes. Those of the system are in std::system_category. */
inline const std::error_category &category() noexcept {
  static const detail::category instance;
  return instance;
}

/* The failure of a C function. what() is its name and the text. code() compares with forkq's codes and
 * with the system's:
 *
 *     catch (const forkq::error &error) {
 *       if (error.code() == FORKQ_ETOOBIG || error.code() == std::errc::not_enough_memory) */
class error : public std::system_error {
public:
  /* `result` is what `function` has returned. */
  error(int result, const char *function)
      : std::system_error(code_of(result), function) {}

private:
  static std::error_code code_of(int result) {
    return result <= FORKQ_EMPTY ? std::error_code(result, category())
                                 : std::error_code(-result, std::system_category());
  }
};

/* What became of a call: true, or false with the reason. */
class FORKQ_NODISCARD outcome {
public:
  explicit outcome(int status) noexcept : status_(status) {}
  explicit operator bool() const noexcept {
    return status_ >= 0;
  }
  /* 0, or one of the codes of "Outcomes and errors". */
  int status() const noexcept {
    return status_;
  }
  /* The reason as a text: forkq_strerror. */
  std::string message() const {
    return forkq_strerror(status_);
  }

private:
  int status_;
};

/* An outcome with a value, which is there if it is true. */
template <typename T> class FORKQ_NODISCARD result : public outcome {
public:
  explicit result(outcome o, T value = T()) : outcome(o), value_(std::move(value)) {}
  T &operator*() noexcept {
    return value_;
  }
  const T &operator*() const noexcept {
    return value_;
  }
  T *operator->() noexcept {
    return &value_;
  }
  const T *operator->() const noexcept {
    return &value_;
  }
  /* The value, or else throws the reason. */
  T &value() {
    if (!*this)
      throw error(status(), "forkq::result::value");
    return value_;
  }

private:
  T value_;
};

/* How long a call waits: any duration of std::chrono, rounded up to milliseconds. Below 0 is 0, and more
 * than 24 days is without limit. */
class timeout {
public:
  timeout() noexcept : ms_(0) {}
  template <typename Rep, typename Period>
  timeout(std::chrono::duration<Rep, Period> duration) noexcept : ms_(0) {
    const double ms = std::chrono::duration<double, std::milli>(duration).count();
    if (ms > 0)
      ms_ = ms < INT_MAX ? static_cast<int>(std::ceil(ms)) : -1;
  }
  /* As the C functions take it. */
  int ms() const noexcept {
    return ms_;
  }

private:
  int ms_;
};

namespace detail {

inline int check(const char *function, int result) {
  if (result < 0)
    throw error(result, function);
  return result;
}

inline outcome settle(const char *function, int result) {
  switch (result) {
  case FORKQ_EMPTY:
  case FORKQ_FULL:
  case FORKQ_TIMEDOUT:
  case FORKQ_ESHUTDOWN:
  case FORKQ_EALONE:
  case FORKQ_ECLOSED:
  case FORKQ_EEOF:
  case FORKQ_EINTERRUPTED:
    return outcome(result);
  default:
    return outcome(check(function, result));
  }
}

template <typename Handle, void (*destroy)(Handle *)> struct destroyer {
  void operator()(Handle *handle) const noexcept {
    destroy(handle);
  }
};

template <typename Handle, void (*destroy)(Handle *)>
using owner = std::unique_ptr<Handle, destroyer<Handle, destroy>>;

} // namespace detail

// ---- values ---------------------------------------------------------------------------------

/* Plain bytes to put or send: a bin. */
struct bytes {
  const void *data;
  std::size_t size;
};

namespace detail {

/* What needs no msgpack-cxx: how a value becomes an object, which borrows its bytes, and how it comes
 * out of one. */
template <typename T, typename = void> struct plain : std::false_type {};

inline msgpack_object object_of(msgpack_object_type type) {
  msgpack_object object = msgpack_object();
  object.type = type;
  return object;
}

/* What is too long for msgpack stays too long for forkq. */
inline std::uint32_t length_of(std::size_t size) {
  return size < UINT32_MAX ? static_cast<std::uint32_t>(size) : UINT32_MAX;
}

inline msgpack_object str_of(const char *data, std::size_t size) {
  msgpack_object object = object_of(MSGPACK_OBJECT_STR);
  object.via.str.size = length_of(size);
  object.via.str.ptr = data;
  return object;
}

inline msgpack_object bin_of(const void *data, std::size_t size) {
  msgpack_object object = object_of(MSGPACK_OBJECT_BIN);
  object.via.bin.size = length_of(size);
  object.via.bin.ptr = static_cast<const char *>(data);
  return object;
}

/* The bytes of a bin or a str, if it is one. */
inline bool bytes_of(const msgpack_object &object, bytes &b) {
  if (object.type == MSGPACK_OBJECT_STR)
    b = bytes{ object.via.str.ptr, object.via.str.size };
  else if (object.type == MSGPACK_OBJECT_BIN)
    b = bytes{ object.via.bin.ptr, object.via.bin.size };
  else
    return false;
  return true;
}

template <> struct plain<msgpack_object> : std::true_type {
  static const msgpack_object &to(const msgpack_object &object) {
    return object;
  }
};

template <> struct plain<std::nullptr_t> : std::true_type {
  static msgpack_object to(std::nullptr_t) {
    return object_of(MSGPACK_OBJECT_NIL);
  }
};

template <> struct plain<bool> : std::true_type {
  static msgpack_object to(bool value) {
    msgpack_object object = object_of(MSGPACK_OBJECT_BOOLEAN);
    object.via.boolean = value;
    return object;
  }
  static bool from(const msgpack_object &object, bool &value) {
    value = object.type == MSGPACK_OBJECT_BOOLEAN && object.via.boolean;
    return object.type == MSGPACK_OBJECT_BOOLEAN;
  }
};

template <typename T>
struct plain<T,
             typename std::enable_if<std::is_integral<T>::value && sizeof(T) <= 8>::type>
    : std::true_type {
  static msgpack_object to(T value) {
    const bool is_positive =
        std::is_unsigned<T>::value || static_cast<std::int64_t>(value) >= 0;
    msgpack_object object = object_of(is_positive ? MSGPACK_OBJECT_POSITIVE_INTEGER
                                                  : MSGPACK_OBJECT_NEGATIVE_INTEGER);
    if (is_positive)
      object.via.u64 = static_cast<std::uint64_t>(value);
    else
      object.via.i64 = static_cast<std::int64_t>(value);
    return object;
  }
  static bool from(const msgpack_object &object, T &value) {
    using limits = std::numeric_limits<T>;
    if (object.type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
      value = static_cast<T>(object.via.u64);
      return object.via.u64 <= static_cast<std::uint64_t>(limits::max());
    }
    if (object.type == MSGPACK_OBJECT_NEGATIVE_INTEGER) {
      value = static_cast<T>(object.via.i64);
      return object.via.i64 >= static_cast<std::int64_t>(limits::min());
    }
    return false;
  }
};

template <typename T>
struct plain<T, typename std::enable_if<std::is_same<T, float>::value ||
                                        std::is_same<T, double>::value>::type>
    : std::true_type {
  static msgpack_object to(T value) {
    msgpack_object object =
        object_of(sizeof(T) == 4 ? MSGPACK_OBJECT_FLOAT32 : MSGPACK_OBJECT_FLOAT64);
    object.via.f64 = static_cast<double>(value);
    return object;
  }
  /* Integers up to 2^53, of a float 2^24, on both sides of 0. A float may round. */
  static bool from(const msgpack_object &object, T &value) {
    using limits = std::numeric_limits<T>;
    const std::int64_t exact = std::int64_t(1) << limits::digits;
    const double number = object.via.f64;
    switch (object.type) {
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
      value = static_cast<T>(object.via.u64);
      return object.via.u64 <= static_cast<std::uint64_t>(exact);
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
      value = static_cast<T>(object.via.i64);
      return object.via.i64 >= -exact;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
      if (std::isfinite(number) && std::fabs(number) > static_cast<double>(limits::max()))
        return false;
      value = static_cast<T>(number);
      return true;
    default:
      return false;
    }
  }
};

template <> struct plain<const char *> : std::true_type {
  static msgpack_object to(const char *text) {
    if (text == nullptr)
      throw error(FORKQ_ENULL, "forkq: a string");
    return str_of(text, std::strlen(text));
  }
};

template <> struct plain<char *> : plain<const char *> {};

template <> struct plain<std::string> : std::true_type {
  static msgpack_object to(const std::string &text) {
    return str_of(text.data(), text.size());
  }
  static bool from(const msgpack_object &object, std::string &text) {
    bytes b = bytes();
    if (!bytes_of(object, b))
      return false;
    text.assign(static_cast<const char *>(b.data), b.size);
    return true;
  }
};

#if __cplusplus >= 201703L
template <> struct plain<std::string_view> : std::true_type {
  static msgpack_object to(std::string_view text) {
    return str_of(text.data(), text.size());
  }
};
#endif

template <> struct plain<bytes> : std::true_type {
  static msgpack_object to(const bytes &b) {
    return bin_of(b.data, b.size);
  }
};

template <typename T> struct is_byte : std::false_type {};
template <> struct is_byte<char> : std::true_type {};
template <> struct is_byte<unsigned char> : std::true_type {};
#if __cplusplus >= 201703L
template <> struct is_byte<std::byte> : std::true_type {};
#endif

template <typename T>
struct plain<std::vector<T>, typename std::enable_if<is_byte<T>::value>::type>
    : std::true_type {
  static msgpack_object to(const std::vector<T> &vector) {
    return bin_of(vector.data(), vector.size());
  }
  static bool from(const msgpack_object &object, std::vector<T> &vector) {
    bytes b = bytes();
    if (!bytes_of(object, b))
      return false;
    const T *data = static_cast<const T *>(b.data);
    vector.assign(data, data + b.size);
    return true;
  }
};

// ---- packing ----

template <typename Pack>
int call(Pack &pack, msgpack_packer *packer, std::true_type /* returns void */) {
  pack(packer);
  return 0;
}

template <typename Pack>
int call(Pack &pack, msgpack_packer *packer, std::false_type /* returns void */) {
  return pack(packer);
}

/* A forkq_pack_fn. An exception passes through the C function that has called it. */
template <typename Pack> int run(msgpack_packer *packer, void *arg) {
  Pack &pack = *static_cast<Pack *>(arg);
  return call(pack, packer, std::is_void<decltype(pack(packer))>());
}

#ifdef FORKQ_MSGPACK_CXX

/* Where msgpack-cxx writes. forkq keeps the error of a write, and its call returns it. */
struct stream {
  msgpack_packer *packer;
  void write(const char *data, std::size_t size) {
    (void)packer->callback(packer->data, data, size);
  }
};

template <typename T> struct pack_value {
  const T &value;
  void operator()(msgpack_packer *packer) {
    stream out = { packer };
    msgpack::pack(out, value);
  }
};

/* An item has `data` and a nil object if forkq has not checked that it is msgpack. */
template <typename T> T unpack(const forkq_item_t &item) {
  if (item.object.type == MSGPACK_OBJECT_NIL && item.size != 1)
    throw error(FORKQ_EWRONGTYPE, "forkq::item::as");
  try {
    return msgpack::unpack(item.data, item.size).get().as<T>();
  } catch (const msgpack::type_error &) {
    throw error(FORKQ_EWRONGTYPE, "forkq::item::as");
  } catch (const msgpack::unpack_error &) {
    throw error(FORKQ_EBADFRAME, "forkq::item::as");
  }
}

#else

template <typename T> struct pack_value {
  const T &value;
  void operator()(msgpack_packer *) {
    static_assert(sizeof(T) == 0,
                  "forkq: this type needs msgpack-cxx (<msgpack.hpp>), or "
                  "put_with, or put_struct");
  }
};

template <typename T> T unpack(const forkq_item_t &) {
  static_assert(sizeof(T) == 0, "forkq: this type needs msgpack-cxx (<msgpack.hpp>), or "
                                "forkq::item, or get_struct");
}

#endif

template <typename T> using plain_of = plain<typename std::decay<const T>::type>;

/* Puts or sends with `to`, which takes an object, or a forkq_pack_fn and its argument. */
template <typename To, typename T>
int put_any(const To &to, const T &value, std::true_type /* plain */) {
  const msgpack_object object = plain_of<T>::to(value);
  return to(&object);
}

template <typename To, typename T>
int put_any(const To &to, const T &value, std::false_type /* plain */) {
  pack_value<T> pack = { value };
  return to(&run<pack_value<T>>, &pack);
}

template <typename To, typename T> int put(const To &to, const T &value) {
  return put_any(to, value, std::integral_constant<bool, plain_of<T>::value>());
}

template <typename T> T value_of(const forkq_item_t &item, std::true_type /* plain */) {
  T value = T();
  if (!plain<T>::from(item.object, value))
    throw error(FORKQ_EWRONGTYPE, "forkq::item::as");
  return value;
}

template <typename T> T value_of(const forkq_item_t &item, std::false_type /* plain */) {
  return unpack<T>(item);
}

template <typename T> constexpr bool is_copied_as_bytes() {
  static_assert(std::is_trivially_copyable<T>::value,
                "forkq: only a trivially copyable type can be copied as bytes");
  return true;
}

template <typename T> bytes bytes_of_struct(const T &value) {
  static_assert(is_copied_as_bytes<T>(), "");
  return bytes{ std::addressof(value), sizeof value };
}

inline void check_struct_size(const char *function, std::size_t size,
                              std::size_t wanted) {
  if (size != wanted)
    throw error(FORKQ_EWRONGTYPE, function);
}

} // namespace detail

/* What a get fills in: forkq_item_t. */
class item {
public:
  item() noexcept = default;
  ~item() {
    forkq_item_destroy(&item_);
  }
  item(item &&other) noexcept {
    std::swap(item_, other.item_);
  }
  item &operator=(item &&other) noexcept {
    std::swap(item_, other.item_);
    return *this;
  }
  item(const item &) = delete;
  item &operator=(const item &) = delete;

  forkq_item_t *native_handle() noexcept {
    return &item_;
  }
  const forkq_item_t *native_handle() const noexcept {
    return &item_;
  }
  const msgpack_object &object() const noexcept {
    return item_.object;
  }
  const char *data() const noexcept {
    return item_.data;
  }
  std::size_t size() const noexcept {
    return item_.size;
  }
  /* How often it was given before, to a process that died: see FORKQ_LOST_TASKS_REDELIVER. */
  std::uint32_t redelivered() const noexcept {
    return item_.redelivered;
  }

  /* The value in it. Throws FORKQ_EWRONGTYPE if it is of another type. */
  template <typename T> T as() const {
    return detail::value_of<T>(item_,
                               std::integral_constant<bool, detail::plain<T>::value>());
  }

  /* What put_struct has put, likewise. */
  template <typename T> T as_struct() const {
    static_assert(detail::is_copied_as_bytes<T>(), "");
    T value = T();
    bytes b = bytes();
    if (!detail::bytes_of(item_.object, b) || b.size != sizeof value)
      throw error(FORKQ_EWRONGTYPE, "forkq::item::as_struct");
    std::memcpy(static_cast<void *>(std::addressof(value)), b.data, sizeof value);
    return value;
  }

private:
  forkq_item_t item_ = FORKQ_ITEM_INIT;
};

namespace detail {

/* The result of a get that has filled in `got`. */
template <typename T> struct result_of {
  static result<T> make(outcome o, item &got) {
    return o ? result<T>(o, got.as<T>()) : result<T>(o);
  }
};

template <> struct result_of<item> {
  static result<item> make(outcome o, item &got) {
    return result<item>(o, std::move(got));
  }
};

/* A struct of the bytes that get(buffer, length, &size) gets. */
template <typename T, typename Get>
result<T> get_struct(const char *function, Get get_bytes_into) {
  static_assert(is_copied_as_bytes<T>(), "");
  T value = T();
  std::size_t size = 0;
  const outcome o =
      settle(function, get_bytes_into(std::addressof(value), sizeof value, &size));
  if (o)
    check_struct_size(function, size, sizeof value);
  return result<T>(o, value);
}

struct queue_put {
  forkq_queue_t *queue;
  int timeout_ms;
  int operator()(const msgpack_object *object) const {
    if (object->type == MSGPACK_OBJECT_BIN)
      return forkq_queue_put_bytes(queue, object->via.bin.ptr, object->via.bin.size,
                                   timeout_ms);
    return forkq_queue_put(queue, object, timeout_ms);
  }
  int operator()(forkq_pack_fn pack, void *arg) const {
    return forkq_queue_put_with(queue, pack, arg, timeout_ms);
  }
};

struct simple_queue_put {
  forkq_simple_queue_t *queue;
  int operator()(const msgpack_object *object) const {
    if (object->type == MSGPACK_OBJECT_BIN)
      return forkq_simple_queue_put_bytes(queue, object->via.bin.ptr,
                                          object->via.bin.size);
    return forkq_simple_queue_put(queue, object);
  }
  int operator()(forkq_pack_fn pack, void *arg) const {
    return forkq_simple_queue_put_with(queue, pack, arg);
  }
};

struct connection_send {
  forkq_connection_t *connection;
  int operator()(const msgpack_object *object) const {
    return forkq_connection_send(connection, object);
  }
  int operator()(forkq_pack_fn pack, void *arg) const {
    return forkq_connection_send_with(connection, pack, arg);
  }
};

} // namespace detail

// ---- the queue ------------------------------------------------------------------------------

/* The queue that forked processes share: forkq/queue.h, forkq/handover.h. */
class queue {
public:
  /* forkq_queue_create: 0 or less is without limit. */
  explicit queue(std::int64_t maxsize = 0) {
    forkq_queue_t *made = nullptr;
    detail::check("forkq_queue_create", forkq_queue_create(&made, maxsize));
    handle_.reset(made);
  }

  /* forkq_queue_create_with. The options begin as FORKQ_QUEUE_OPTIONS_INIT. */
  explicit queue(const forkq_queue_options_t &options) {
    forkq_queue_t *made = nullptr;
    detail::check("forkq_queue_create_with", forkq_queue_create_with(&made, &options));
    handle_.reset(made);
  }

  /* forkq_joinable_queue_create: with task_done and join. */
  static queue joinable(std::int64_t maxsize = 0) {
    forkq_queue_t *made = nullptr;
    detail::check("forkq_joinable_queue_create",
                  forkq_joinable_queue_create(&made, maxsize));
    return adopt(made);
  }

  /* forkq_queue_attach, in a program that was given the text of a hand_over. */
  static queue attach(const char *text, const forkq_queue_options_t *options = nullptr) {
    forkq_queue_t *made = nullptr;
    detail::check("forkq_queue_attach", forkq_queue_attach(&made, text, options));
    return adopt(made);
  }

  /* forkq_queue_receive, from a socket. */
  static queue receive(int socket, const forkq_queue_options_t *options = nullptr) {
    forkq_queue_t *made = nullptr;
    detail::check("forkq_queue_receive", forkq_queue_receive(&made, socket, options));
    return adopt(made);
  }

  /* forkq_queue_connect, to a queue that a server of another program serves. Every failure throws, also
   * that of the time. */
  static queue connect(const char *path, timeout limit,
                       const forkq_connect_options_t *options = nullptr) {
    forkq_queue_t *made = nullptr;
    detail::check("forkq_queue_connect",
                  forkq_queue_connect(&made, path, limit.ms(), options));
    return adopt(made);
  }

  /* Makes a queue of C its own. */
  static queue adopt(forkq_queue_t *handle) noexcept {
    return queue(owner(handle));
  }

  forkq_queue_t *native_handle() const noexcept {
    return handle_.get();
  }

  // ---- put: forkq_queue_put, _put_with, _put_bytes

  template <typename T> void put(const T &value) {
    detail::check("forkq_queue_put", put_value(value, -1));
  }
  template <typename T> outcome try_put(const T &value, timeout limit = timeout()) {
    return detail::settle("forkq_queue_put", put_value(value, limit.ms()));
  }

  template <typename T> void put_struct(const T &value) {
    put(detail::bytes_of_struct(value));
  }
  template <typename T>
  outcome try_put_struct(const T &value, timeout limit = timeout()) {
    return try_put(detail::bytes_of_struct(value), limit);
  }

  template <typename Pack> void put_with(Pack pack) {
    detail::check("forkq_queue_put_with", put_packing(pack, -1));
  }
  template <typename Pack> outcome try_put_with(Pack pack, timeout limit = timeout()) {
    return detail::settle("forkq_queue_put_with", put_packing(pack, limit.ms()));
  }

  // ---- get: forkq_queue_get, _get_bytes_into

  template <typename T = item> result<T> get() {
    return get_value<T>(-1);
  }
  template <typename T = item> result<T> try_get(timeout limit = timeout()) {
    return get_value<T>(limit.ms());
  }

  /* Reuses the item's memory, so that a loop need not allocate. */
  outcome get(item &into) {
    return fill(into, -1);
  }
  outcome try_get(item &into, timeout limit = timeout()) {
    return fill(into, limit.ms());
  }

  /* An item that is larger than T stays the next one to be got (FORKQ_ETOOSHORT), as does one that is
   * neither a bin nor a str (FORKQ_EWRONGTYPE). A smaller one is taken (FORKQ_EWRONGTYPE). */
  template <typename T> result<T> get_struct() {
    return get_bytes_of<T>(-1);
  }
  template <typename T> result<T> try_get_struct(timeout limit = timeout()) {
    return get_bytes_of<T>(limit.ms());
  }

  // ---- a joinable queue

  /* forkq_queue_task_done */
  void task_done() {
    detail::check("forkq_queue_task_done", forkq_queue_task_done(native_handle()));
  }

  /* forkq_queue_task_done_item */
  void task_done(const item &done) {
    detail::check("forkq_queue_task_done_item",
                  forkq_queue_task_done_item(native_handle(), done.native_handle()));
  }

  /* forkq_queue_get_lost */
  outcome get_lost(item &into) {
    return detail::settle("forkq_queue_get_lost",
                          forkq_queue_get_lost(native_handle(), into.native_handle()));
  }

  /* forkq_queue_join. The value is the number of items whose process ended before its task_done: 0 if
   * all are done. */
  std::uint64_t join() {
    return join_for(-1).value();
  }
  result<std::uint64_t> try_join(timeout limit = timeout()) {
    return join_for(limit.ms());
  }

  // ---- the state

  /* forkq_queue_qsize */
  std::int64_t qsize() const {
    const std::int64_t size = forkq_queue_qsize(native_handle());
    detail::check("forkq_queue_qsize", size < 0 ? static_cast<int>(size) : 0);
    return size;
  }
  /* forkq_queue_empty */
  bool empty() const {
    return detail::check("forkq_queue_empty", forkq_queue_empty(native_handle())) != 0;
  }
  /* forkq_queue_full */
  bool full() const {
    return detail::check("forkq_queue_full", forkq_queue_full(native_handle())) != 0;
  }
  /* forkq_queue_stats */
  forkq_queue_stats_t stats() const {
    forkq_queue_stats_t stats = FORKQ_QUEUE_STATS_INIT;
    detail::check("forkq_queue_stats", forkq_queue_stats(native_handle(), &stats));
    return stats;
  }
  /* forkq_queue_fileno */
  int fileno() {
    return detail::check("forkq_queue_fileno", forkq_queue_fileno(native_handle()));
  }
  /* forkq_queue_room_fileno */
  int room_fileno() {
    return detail::check("forkq_queue_room_fileno",
                         forkq_queue_room_fileno(native_handle()));
  }

  // ---- other programs

  /* forkq_queue_hand_over */
  forkq_handover_t hand_over() {
    forkq_handover_t handover = FORKQ_HANDOVER_INIT;
    detail::check("forkq_queue_hand_over",
                  forkq_queue_hand_over(native_handle(), &handover));
    return handover;
  }
  /* forkq_queue_send */
  void send(int socket) {
    detail::check("forkq_queue_send", forkq_queue_send(native_handle(), socket));
  }

  // ---- the end

  /* forkq_queue_shutdown, for all processes */
  void shutdown(bool immediate = false) {
    detail::check("forkq_queue_shutdown",
                  forkq_queue_shutdown(native_handle(), immediate));
  }

  /* forkq_queue_interrupt, also in a signal handler: each thread's get or try_ call that blocks is false,
   * once, and its other calls throw. */
  void interrupt() noexcept {
    (void)forkq_queue_interrupt(native_handle());
  }

  /* forkq_queue_flush */
  void flush() {
    detail::check("forkq_queue_flush", forkq_queue_flush(native_handle(), -1, nullptr));
  }
  outcome try_flush(timeout limit = timeout()) {
    return detail::settle("forkq_queue_flush",
                          forkq_queue_flush(native_handle(), limit.ms(), nullptr));
  }

  /* forkq_queue_close_put: this process only gets from now on */
  void close_put() {
    detail::check("forkq_queue_close_put", forkq_queue_close_put(native_handle()));
  }

  /* forkq_queue_close, for this process */
  void close() {
    detail::check("forkq_queue_close", forkq_queue_close(native_handle()));
  }

  /* forkq_queue_join_thread, after close. The value is the number of items that are lost. */
  std::uint64_t join_thread() {
    std::uint64_t unsent = 0;
    detail::check("forkq_queue_join_thread",
                  forkq_queue_join_thread(native_handle(), -1, &unsent));
    return unsent;
  }
  result<std::uint64_t> try_join_thread(timeout limit = timeout()) {
    std::uint64_t unsent = 0;
    const int r = forkq_queue_join_thread(native_handle(), limit.ms(), &unsent);
    return result<std::uint64_t>(detail::settle("forkq_queue_join_thread", r), unsent);
  }

  /* forkq_queue_cancel_join_thread: the end does not wait for what is unsent. */
  void cancel_join_thread() {
    detail::check("forkq_queue_cancel_join_thread",
                  forkq_queue_cancel_join_thread(native_handle()));
  }

private:
  using owner = detail::owner<forkq_queue_t, forkq_queue_destroy>;

  explicit queue(owner handle) noexcept : handle_(std::move(handle)) {}

  template <typename T> int put_value(const T &value, int timeout_ms) {
    return detail::put(detail::queue_put{ native_handle(), timeout_ms }, value);
  }

  template <typename Pack> int put_packing(Pack &pack, int timeout_ms) {
    return forkq_queue_put_with(native_handle(), &detail::run<Pack>, &pack, timeout_ms);
  }

  outcome fill(item &into, int timeout_ms) {
    return detail::settle(
        "forkq_queue_get",
        forkq_queue_get(native_handle(), into.native_handle(), timeout_ms));
  }

  template <typename T> result<T> get_value(int timeout_ms) {
    item got;
    const outcome o = fill(got, timeout_ms);
    return detail::result_of<T>::make(o, got);
  }

  template <typename T> result<T> get_bytes_of(int timeout_ms) {
    forkq_queue_t *handle = native_handle();
    return detail::get_struct<T>(
        "forkq_queue_get_bytes_into",
        [handle, timeout_ms](void *buffer, std::size_t length, std::size_t *size) {
          return forkq_queue_get_bytes_into(handle, buffer, length, timeout_ms, size);
        });
  }

  result<std::uint64_t> join_for(int timeout_ms) {
    std::uint64_t abandoned = 0;
    const int r = forkq_queue_join(native_handle(), timeout_ms, &abandoned);
    const outcome o = detail::settle("forkq_queue_join", r == FORKQ_EABANDONED ? 0 : r);
    return result<std::uint64_t>(o, abandoned);
  }

  owner handle_;
};

/* A queue that this process serves under a name: forkq/serve.h. It ends before the queue does. */
class server {
public:
  /* forkq_queue_serve. The options begin as FORKQ_SERVER_OPTIONS_INIT. */
  server(queue &served, const char *path,
         const forkq_server_options_t *options = nullptr) {
    forkq_server_t *made = nullptr;
    detail::check("forkq_queue_serve",
                  forkq_queue_serve(&made, served.native_handle(), path, options));
    handle_.reset(made);
  }

  forkq_server_t *native_handle() const noexcept {
    return handle_.get();
  }

  /* forkq_server_fileno and forkq_server_turn, of a server without a thread. */
  int fileno() const {
    return detail::check("forkq_server_fileno", forkq_server_fileno(native_handle()));
  }
  void turn() {
    detail::check("forkq_server_turn", forkq_server_turn(native_handle()));
  }

private:
  detail::owner<forkq_server_t, forkq_server_destroy> handle_;
};

/* A queue without bound, feeder thread or timeouts: forkq/simple_queue.h. */
class simple_queue {
public:
  /* forkq_simple_queue_create */
  simple_queue() {
    forkq_simple_queue_t *made = nullptr;
    detail::check("forkq_simple_queue_create", forkq_simple_queue_create(&made));
    handle_.reset(made);
  }

  /* Makes a queue of C its own. */
  static simple_queue adopt(forkq_simple_queue_t *handle) noexcept {
    return simple_queue(owner(handle));
  }

  forkq_simple_queue_t *native_handle() const noexcept {
    return handle_.get();
  }

  // ---- put: forkq_simple_queue_put, _put_with, _put_bytes

  template <typename T> void put(const T &value) {
    detail::check("forkq_simple_queue_put",
                  detail::put(detail::simple_queue_put{ native_handle() }, value));
  }
  template <typename T> void put_struct(const T &value) {
    put(detail::bytes_of_struct(value));
  }
  template <typename Pack> void put_with(Pack pack) {
    detail::check(
        "forkq_simple_queue_put_with",
        forkq_simple_queue_put_with(native_handle(), &detail::run<Pack>, &pack));
  }

  // ---- get: forkq_simple_queue_get, _get_bytes_into

  template <typename T = item> result<T> get() {
    item got;
    const outcome o = get(got);
    return detail::result_of<T>::make(o, got);
  }
  outcome get(item &into) {
    return detail::settle("forkq_simple_queue_get",
                          forkq_simple_queue_get(native_handle(), into.native_handle()));
  }
  /* As queue::get_struct. */
  template <typename T> result<T> get_struct() {
    forkq_simple_queue_t *handle = native_handle();
    return detail::get_struct<T>(
        "forkq_simple_queue_get_bytes_into",
        [handle](void *buffer, std::size_t length, std::size_t *size) {
          return forkq_simple_queue_get_bytes_into(handle, buffer, length, size);
        });
  }

  /* forkq_simple_queue_empty */
  bool empty() const {
    return detail::check("forkq_simple_queue_empty",
                         forkq_simple_queue_empty(native_handle())) != 0;
  }
  /* forkq_simple_queue_interrupt, likewise */
  void interrupt() noexcept {
    (void)forkq_simple_queue_interrupt(native_handle());
  }
  /* forkq_simple_queue_close_put */
  void close_put() {
    detail::check("forkq_simple_queue_close_put",
                  forkq_simple_queue_close_put(native_handle()));
  }
  /* forkq_simple_queue_close */
  void close() {
    detail::check("forkq_simple_queue_close", forkq_simple_queue_close(native_handle()));
  }

private:
  using owner = detail::owner<forkq_simple_queue_t, forkq_simple_queue_destroy>;

  explicit simple_queue(owner handle) noexcept : handle_(std::move(handle)) {}

  owner handle_;
};

// ---- connections ----------------------------------------------------------------------------

/* One end of a pipe or socket: forkq/connection.h. */
class connection {
public:
  /* forkq_connection_open. If it throws, the descriptor stays the caller's. */
  connection(int fd, bool readable, bool writable) {
    forkq_connection_t *made = nullptr;
    detail::check("forkq_connection_open",
                  forkq_connection_open(&made, fd, readable, writable));
    handle_.reset(made);
  }

  /* Makes a connection of C its own. */
  static connection adopt(forkq_connection_t *handle) noexcept {
    return connection(owner(handle));
  }

  forkq_connection_t *native_handle() const noexcept {
    return handle_.get();
  }

  // ---- objects: forkq_connection_send, _send_with, _recv

  template <typename T> void send(const T &value) {
    detail::check("forkq_connection_send",
                  detail::put(detail::connection_send{ native_handle() }, value));
  }
  template <typename Pack> void send_with(Pack pack) {
    detail::check("forkq_connection_send_with",
                  forkq_connection_send_with(native_handle(), &detail::run<Pack>, &pack));
  }
  template <typename T = item> result<T> recv() {
    item got;
    const outcome o = recv(got);
    return detail::result_of<T>::make(o, got);
  }
  outcome recv(item &into) {
    return detail::settle("forkq_connection_recv",
                          forkq_connection_recv(native_handle(), into.native_handle()));
  }

  // ---- plain bytes: forkq_connection_send_bytes, _recv_bytes, _recv_bytes_into

  void send_bytes(const void *data, std::size_t size) {
    detail::check("forkq_connection_send_bytes",
                  forkq_connection_send_bytes(native_handle(), data, size, 0, FORKQ_ALL));
  }
  /* The bytes are the item's data(). */
  outcome recv_bytes(item &into, std::size_t maxlength = FORKQ_ALL) {
    return detail::settle(
        "forkq_connection_recv_bytes",
        forkq_connection_recv_bytes(native_handle(), into.native_handle(), maxlength));
  }
  /* A struct as plain bytes. A message of another size is dropped: FORKQ_ETOOSHORT if it is larger,
   * FORKQ_EWRONGTYPE if it is smaller. */
  template <typename T> void send_struct(const T &value) {
    const bytes b = detail::bytes_of_struct(value);
    send_bytes(b.data, b.size);
  }
  template <typename T> result<T> recv_struct() {
    static_assert(detail::is_copied_as_bytes<T>(), "");
    T value = T();
    std::size_t size = 0;
    const int r = forkq_connection_recv_bytes_into(native_handle(), std::addressof(value),
                                                   sizeof value, 0, &size, nullptr);
    const outcome o = detail::settle("forkq_connection_recv_bytes_into", r);
    if (o)
      detail::check_struct_size("forkq_connection_recv_bytes_into", size, sizeof value);
    return result<T>(o, value);
  }

  // ---- descriptors: forkq_connection_send_fd, _recv_fd

  void send_fd(int fd) {
    detail::check("forkq_connection_send_fd",
                  forkq_connection_send_fd(native_handle(), fd));
  }
  /* The descriptor is the caller's. */
  result<int> recv_fd() {
    int fd = -1;
    const int r = forkq_connection_recv_fd(native_handle(), &fd);
    return result<int>(detail::settle("forkq_connection_recv_fd", r), fd);
  }

  // ---- the state

  /* forkq_connection_poll: whether there is something to receive. */
  bool poll(timeout limit = timeout()) {
    return detail::check("forkq_connection_poll",
                         forkq_connection_poll(native_handle(), limit.ms())) != 0;
  }
  /* forkq_connection_fileno */
  int fileno() const {
    return detail::check("forkq_connection_fileno",
                         forkq_connection_fileno(native_handle()));
  }
  /* forkq_connection_readable */
  bool readable() const {
    return detail::check("forkq_connection_readable",
                         forkq_connection_readable(native_handle())) != 0;
  }
  /* forkq_connection_writable */
  bool writable() const {
    return detail::check("forkq_connection_writable",
                         forkq_connection_writable(native_handle())) != 0;
  }
  /* forkq_connection_closed */
  bool closed() const {
    return detail::check("forkq_connection_closed",
                         forkq_connection_closed(native_handle())) != 0;
  }
  /* forkq_connection_close */
  void close() {
    detail::check("forkq_connection_close", forkq_connection_close(native_handle()));
  }

private:
  using owner = detail::owner<forkq_connection_t, forkq_connection_destroy>;

  explicit connection(owner handle) noexcept : handle_(std::move(handle)) {}

  owner handle_;
};

/* forkq_pipe: two connected connections. Without `duplex`, the first only receives what the second
 * sends. */
inline std::pair<connection, connection> pipe(bool duplex = true) {
  forkq_connection_t *a = nullptr, *b = nullptr;
  detail::check("forkq_pipe", forkq_pipe(&a, &b, duplex));
  return { connection::adopt(a), connection::adopt(b) };
}

// ---- processes ------------------------------------------------------------------------------

namespace detail {

template <typename Run> int call_run(Run &run, std::true_type /* returns void */) {
  run();
  return 0;
}

template <typename Run> int call_run(Run &run, std::false_type /* returns void */) {
  return run();
}

/* A forkq_process_fn. What it throws ends the child here, where std::terminate still knows what it is. */
template <typename Run> int run_child(void *arg) noexcept {
  Run &run = *static_cast<Run *>(arg);
  return call_run(run, std::is_void<decltype(run())>());
}

} // namespace detail

/* A child process that runs a function: forkq/process.h. */
class process {
public:
  /* forkq_process_start. The child calls run(), which returns void, or its exit status as an int. `run`
   * may refer to what the caller has, of which the child has a copy. An exception that leaves it ends the
   * child with std::terminate. The options begin as FORKQ_PROCESS_OPTIONS_INIT. */
  template <typename Run>
  explicit process(Run run, const forkq_process_options_t *options = nullptr) {
    forkq_process_t *made = nullptr;
    detail::check("forkq_process_start",
                  forkq_process_start(&made, &detail::run_child<Run>, &run, options));
    handle_.reset(made);
  }

  forkq_process_t *native_handle() const noexcept {
    return handle_.get();
  }

  /* forkq_process_join. An outcome is false as long as the process runs: FORKQ_TIMEDOUT. */
  void join() {
    detail::check("forkq_process_join", forkq_process_join(native_handle(), -1));
  }
  outcome try_join(timeout limit = timeout()) {
    return detail::settle("forkq_process_join",
                          forkq_process_join(native_handle(), limit.ms()));
  }

  /* forkq_process_exitcode. It is false as long as the process runs: FORKQ_TIMEDOUT. */
  result<int> exitcode() {
    int code = 0;
    const int r = detail::check("forkq_process_exitcode",
                                forkq_process_exitcode(native_handle(), &code));
    return result<int>(outcome(r == 0 ? FORKQ_TIMEDOUT : 0), code);
  }

  /* forkq_process_is_alive */
  bool is_alive() {
    return detail::check("forkq_process_is_alive",
                         forkq_process_is_alive(native_handle())) != 0;
  }
  /* forkq_process_pid */
  int pid() const {
    return detail::check("forkq_process_pid", forkq_process_pid(native_handle()));
  }
  /* forkq_process_fileno */
  int fileno() const {
    return detail::check("forkq_process_fileno", forkq_process_fileno(native_handle()));
  }
  /* forkq_process_terminate */
  void terminate() {
    detail::check("forkq_process_terminate", forkq_process_terminate(native_handle()));
  }
  /* forkq_process_kill */
  void kill() {
    detail::check("forkq_process_kill", forkq_process_kill(native_handle()));
  }

private:
  detail::owner<forkq_process_t, forkq_process_destroy> handle_;
};

} // namespace forkq

/* So that a std::error_code can be compared with forkq's codes. */
namespace std {
template <> struct is_error_code_enum<forkq_error> : true_type {};
} // namespace std

inline std::error_code make_error_code(forkq_error code) {
  return std::error_code(static_cast<int>(code), forkq::category());
}

#endif
