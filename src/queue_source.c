/* What is put, and packing it. */
#include "queue.h"

#include "serializer.h"

/* This thread is in a packing function of the user's, and so may have a queue's mutex. Then it
 * may take no other: two threads could each hold what the other wants, or a fork both. */
static _Thread_local bool packing_now;

bool forkq__queue_packing_here(void) {
  return packing_now;
}

int forkq__source_write(const struct forkq__source *source, void *sink,
                        msgpack_packer_write write) {
  if (source->data != NULL)
    return write(sink, source->data, source->size);
  msgpack_packer packer;
  msgpack_packer_init(&packer, sink, write);
  if (source->pack == NULL)
    return forkq__pack(&packer, source->object);
  packing_now = true;
  int r = source->pack(&packer, source->arg);
  packing_now = false;
  return r != 0 ? FORKQ_EPACK : 0;
}
