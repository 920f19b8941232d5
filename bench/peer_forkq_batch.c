/* forkq's queue with bytes, 64 a call: put_many_packed and get_many_packed. */
#include <forkq.h>

#include "forkq_peers.h"
#include "loop.h"

#define BATCH 64

static void *open_queue(const struct load *load, const char *name) {
  (void)name;
  return forkq_channel_open(load, 0);
}

static void put_all(forkq_queue_t *queue, const forkq_bytes_t *messages, size_t count) {
  size_t put;
  for (size_t done = 0; done < count; done += put)
    forkq_must(
        forkq_queue_put_many_packed(queue, messages + done, count - done, -1, &put),
        "put_many_packed");
}

/* What says the end is put one by one, and not in a batch: it is for one consumer each. */
static void put_last(struct forkq_channel *self) {
  message_write(self->bin + BIN_HEADER, self->size, MESSAGE_LAST, 0);
  forkq_must(forkq_queue_put_packed(self->queue, self->bin, BIN_HEADER + self->size, -1),
             "put");
}

static void produce(void *channel, struct party *party) {
  struct forkq_channel *self = channel;
  unsigned char *bins[BATCH];
  forkq_bytes_t messages[BATCH];
  for (size_t i = 0; i < BATCH; i++) {
    bins[i] = forkq_make_bin(self->size);
    messages[i] = (forkq_bytes_t){ bins[i], BIN_HEADER + self->size };
  }
  for (uint64_t number = 0; number < party->load->messages;) {
    size_t count = 0;
    for (; count < BATCH && number < party->load->messages; count++)
      message_write(bins[count] + BIN_HEADER, self->size, party->index, ++number);
    put_all(self->queue, messages, count);
  }
  for (unsigned i = 0; i < party->load->consumers; i++)
    put_last(self);
  for (size_t i = 0; i < BATCH; i++)
    free(bins[i]);
}

/* One batch; returns how many in it said the end. */
static unsigned take_batch(struct forkq_channel *self, forkq_item_t items[BATCH],
                           struct party *party) {
  size_t got;
  unsigned ends = 0;
  forkq_must(forkq_queue_get_many_packed(self->queue, items, BATCH, -1, &got),
             "get_many_packed");
  for (size_t i = 0; i < got; i++) {
    struct message_head head =
        message_read((const unsigned char *)items[i].data + BIN_HEADER,
                     items[i].size - BIN_HEADER, self->size);
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
