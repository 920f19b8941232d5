/* Boost.Interprocess's message_queue: `bound` slots in a named piece of shared memory. All
 * messages have the same priority, which it serves in order of arrival. */
#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/version.hpp>
#include <vector>

#include "peer.h"

extern "C" const struct peer peer_boost;

namespace {

using boost::interprocess::create_only;
using boost::interprocess::message_queue;

struct channel {
  channel(const struct load *load, const char *name)
      : queue(create_only, name, load->bound, load->size), payload(load->size) {}
  message_queue queue;
  std::vector<unsigned char> payload;
};

channel *of(void *self) {
  return static_cast<channel *>(self);
}

/* What is inherited by a fork needs the name no more. */
void *open(const struct load *load, const char *name) {
  try {
    message_queue::remove(name);
    channel *self = new channel(load, name);
    message_queue::remove(name);
    return self;
  } catch (const std::exception &error) {
    errx(EXIT_FAILURE, "message_queue: %s", error.what());
  }
}

void send(void *self, uint32_t producer, uint64_t number) {
  std::vector<unsigned char> &payload = of(self)->payload;
  message_write(payload.data(), payload.size(), producer, number);
  of(self)->queue.send(payload.data(), payload.size(), 0);
}

struct message_head receive(void *self) {
  std::vector<unsigned char> &payload = of(self)->payload;
  message_queue::size_type size;
  unsigned int priority;
  of(self)->queue.receive(payload.data(), payload.size(), size, priority);
  return message_read(payload.data(), size, payload.size());
}

void close(void *self) {
  delete of(self);
}

const char *version() {
  return BOOST_LIB_VERSION;
}

} // namespace

#include "loop.h"

namespace {
LOOP_DEFINE(send, receive)
} // namespace

const struct peer peer_boost = {
  "boost", "Boost message_queue",
  nullptr, nullptr,
  open,    nullptr,
  send,    receive,
  produce, consume,
  nullptr, close,
  version,
};
