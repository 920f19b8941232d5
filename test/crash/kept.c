#include "kept.h"

#include "payload.h"

#include <forkq/simple_queue.h>

static void check_place(const struct kept *kept, struct book *book, uint32_t place) {
  const forkq_item_t *item = &kept->place[place].item;
  uint32_t by = kept->place[place].by, seq = kept->place[place].seq;
  struct payload payload;
  if (seq == 0)
    return;
  if (!payload_read(item->data, item->size, &payload) || payload.by != by ||
      payload.seq != seq)
    book_fail(book, "item %u of life %u has changed while it was kept", seq, by);
}

static int get(struct book *book, forkq_item_t *item, int timeout_ms) {
  return book->plan.simple
             ? forkq_simple_queue_get_borrowed((forkq_simple_queue_t *)book->queue, item)
             : forkq_queue_get_borrowed(book->queue, item, timeout_ms);
}

int kept_borrow(struct kept *kept, struct book *book, uint32_t place, int timeout_ms,
                forkq_item_t **ret_item) {
  forkq_item_t *item = *ret_item = &kept->place[place].item;
  struct payload payload;
  check_place(kept, book, place);
  kept->place[place].seq = 0;
  int r = get(book, item, timeout_ms);
  if (r == 0 && payload_read(item->data, item->size, &payload)) {
    kept->place[place].by = payload.by;
    kept->place[place].seq = payload.seq;
  }
  return r;
}

void kept_check(const struct kept *kept, struct book *book) {
  for (uint32_t i = 0; i < KEPT_MAX; i++)
    check_place(kept, book, i);
}

void kept_drop(struct kept *kept) {
  for (uint32_t i = 0; i < KEPT_MAX; i++) {
    forkq_item_destroy(&kept->place[i].item);
    kept->place[i].seq = 0;
  }
}
