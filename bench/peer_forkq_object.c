/* forkq's queue with objects: {"id": int, "name": str, "values": [3 floats]}, packed straight
 * into the queue, received as an object, and read. The id is producer and number. */
#include <forkq.h>

#include "forkq_peers.h"
#include "loop.h"

#define NAME "a name"
#define NUMBER_BITS 40

struct record {
  uint64_t id;
  double values[3];
};

static uint64_t make_id(uint32_t producer, uint64_t number) {
  return (uint64_t)(producer == MESSAGE_LAST ? PRODUCERS_MAX : producer) << NUMBER_BITS |
         number;
}

static int pack_key(msgpack_packer *packer, const char *key) {
  return msgpack_pack_str_with_body(packer, key, strlen(key));
}

static int pack_record(msgpack_packer *packer, void *arg) {
  const struct record *record = arg;
  int failed = msgpack_pack_map(packer, 3);
  failed |= pack_key(packer, "id");
  failed |= msgpack_pack_uint64(packer, record->id);
  failed |= pack_key(packer, "name");
  failed |= pack_key(packer, NAME);
  failed |= pack_key(packer, "values");
  failed |= msgpack_pack_array(packer, 3);
  for (int i = 0; i < 3; i++)
    failed |= msgpack_pack_double(packer, record->values[i]);
  return failed;
}

LOOP_INLINE void send_object(void *channel, uint32_t producer, uint64_t number) {
  struct forkq_channel *self = channel;
  struct record record = { make_id(producer, number), { (double)number, 0.5, -1.25 } };
  forkq_must(forkq_queue_put_with(self->queue, pack_record, &record, -1), "put");
}

static bool is_text(const msgpack_object *object, const char *text) {
  return object->type == MSGPACK_OBJECT_STR && object->via.str.size == strlen(text) &&
         memcmp(object->via.str.ptr, text, strlen(text)) == 0;
}

static bool is_float(const msgpack_object *object, double value) {
  return object->type == MSGPACK_OBJECT_FLOAT64 && !(object->via.f64 < value) &&
         !(object->via.f64 > value);
}

static bool is_record(const msgpack_object *object) {
  const msgpack_object_kv *pairs = object->via.map.ptr;
  return object->type == MSGPACK_OBJECT_MAP && object->via.map.size == 3 &&
         is_text(&pairs[0].key, "id") &&
         pairs[0].val.type == MSGPACK_OBJECT_POSITIVE_INTEGER &&
         is_text(&pairs[1].key, "name") && is_text(&pairs[1].val, NAME) &&
         is_text(&pairs[2].key, "values") && pairs[2].val.type == MSGPACK_OBJECT_ARRAY &&
         pairs[2].val.via.array.size == 3;
}

LOOP_INLINE struct message_head receive_object(void *channel) {
  struct forkq_channel *self = channel;
  forkq_must(forkq_queue_get(self->queue, &self->item, -1), "get");
  if (!is_record(&self->item.object))
    errx(EXIT_FAILURE, "a message is not what was put");
  const msgpack_object_kv *pairs = self->item.object.via.map.ptr;
  const msgpack_object *values = pairs[2].val.via.array.ptr;
  uint64_t id = pairs[0].val.via.u64, number = id & ((1ull << NUMBER_BITS) - 1);
  if (!is_float(&values[0], (double)number) || !is_float(&values[1], 0.5) ||
      !is_float(&values[2], -1.25))
    errx(EXIT_FAILURE, "a message has other values than were put");
  uint32_t producer = (uint32_t)(id >> NUMBER_BITS);
  return (struct message_head){
    .producer = producer == PRODUCERS_MAX ? MESSAGE_LAST : producer,
    .number = number,
  };
}

LOOP_DEFINE(send_object, receive_object)

static void *open_queue(const struct load *load, const char *name) {
  (void)name;
  return forkq_channel_open(load, 0);
}

const struct peer peer_forkq_object = {
  .name = "forkq_object",
  .label = "forkq, the dict",
  .open = open_queue,
  .send = send_object,
  .receive = receive_object,
  .produce = produce,
  .consume = consume,
  .close = forkq_channel_close,
};
