#include "forkq_peers.h"

void forkq_must(int result, const char *what) {
  if (result < 0)
    errx(EXIT_FAILURE, "%s: %s", what, forkq_strerror(result));
}

unsigned char *forkq_make_bin(size_t size) {
  unsigned char *bin = check_memory(calloc(1, BIN_HEADER + size));
  bin[0] = 0xc6;
  for (int i = 1; i < BIN_HEADER; i++)
    bin[i] = (unsigned char)(size >> (32 - 8 * i));
  return bin;
}

struct forkq_channel *forkq_channel_open(const struct load *load, uint64_t spin_us) {
  struct forkq_channel *self = check_memory(calloc(1, sizeof *self));
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.maxsize = load->bounded ? load->bound : 0;
  options.spin_us = spin_us;
  forkq_must(forkq_queue_create_with(&self->queue, &options), "create");
  self->size = load->size;
  self->bin = forkq_make_bin(load->size);
  return self;
}

void forkq_channel_close(void *channel) {
  struct forkq_channel *self = channel;
  forkq_queue_destroy(self->queue);
  forkq_item_destroy(&self->item);
  free(self->bin);
  free(self);
}
