/* forkq's queue with put_many and get_many of 64. */
#include <forkq.h>

#include "forkq_peers.h"
#include "loop.h"

#define BATCH 64

static void *open_queue(const struct load *load, const char *name) {
  return forkq_channel_open(load, name);
}

static void put_all(forkq_queue_t *queue, const msgpack_object *objects, size_t count) {
  size_t put;
  for (size_t done = 0; done < count; done += put)
    forkq_must(forkq_queue_put_many(queue, objects + done, count - done, -1, &put),
               "put_many");
}

/* What says the end is put one by one, and not by put_many: it is for one consumer each. */
static void put_last(struct forkq_channel *self) {
  message_write(self->bin + BIN_HEADER, self->size, MESSAGE_LAST, 0);
  forkq_must(forkq_queue_put_packed(self->queue, self->bin, BIN_HEADER + self->size, -1),
             "put");
}

static void produce(void *channel, struct party *party) {
  struct forkq_channel *self = channel;
  unsigned char *payloads = check_memory(calloc(BATCH, self->size));
  msgpack_object objects[BATCH];
  for (size_t i = 0; i < BATCH; i++) {
    objects[i].type = MSGPACK_OBJECT_BIN;
    objects[i].via.bin.ptr = (char *)payloads + i * self->size;
    objects[i].via.bin.size = (uint32_t)self->size;
  }
  for (uint64_t number = 0; number < party->load->messages;) {
    size_t count = 0;
    for (; count < BATCH && number < party->load->messages; count++)
      message_write(payloads + count * self->size, self->size, party->index, ++number);
    put_all(self->queue, objects, count);
  }
  for (unsigned i = 0; i < party->load->consumers; i++)
    put_last(self);
  free(payloads);
}

/* One batch; returns how many in it said the end. */
static unsigned take_batch(struct forkq_channel *self, forkq_item_t items[BATCH],
                           struct party *party) {
  size_t got;
  unsigned ends = 0;
  forkq_must(forkq_queue_get_many(self->queue, items, BATCH, -1, &got), "get_many");
  for (size_t i = 0; i < got; i++) {
    const msgpack_object_bin *bin = &items[i].object.via.bin;
    struct message_head head =
        message_read((const unsigned char *)bin->ptr, bin->size, self->size);
    if (head.producer == MESSAGE_LAST)
      ends++;
    else
      loop_count(party, &head);
  }
  return ends;
}

/* A batch may bring more ends than are meant for this consumer: it puts them back. */
static void consume(void *channel, struct party *party) {
  struct forkq_channel *self = channel;
  forkq_item_t items[BATCH] = { FORKQ_ITEM_INIT };
  uint64_t timed = 0;
  unsigned ends = 0;
  while (ends < party->load->producers) {
    unsigned more = take_batch(self, items, party);
    if (more > 0 && party->tally->count > timed) {
      timed = party->tally->count;
      party->tally->end = now();
    }
    ends += more;
  }
  for (; ends > party->load->producers; ends--)
    put_last(self);
  for (size_t i = 0; i < BATCH; i++)
    forkq_item_destroy(&items[i]);
}

const struct peer peer_forkq_batch = {
  .name = "forkq_batch",
  .label = "forkq, batches of 64",
  .open = open_queue,
  .produce = produce,
  .consume = consume,
  .close = forkq_channel_close,
};
