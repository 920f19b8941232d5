/* A fork by another thread at any moment of a call: the child can destroy the connection. */
#include "connection_ends.h"

#include <errno.h>
#include <string.h>

/* A heap that forks a child at every request, as another thread might do just then, and knows
 * which blocks there are. In front of each stands its head; those that were freed stay. */
struct block {
  struct block *next;
  size_t size;
  bool freed;
  char data[];
};

static struct block *blocks;
static bool forking;
static int children, requests_left = INT32_MAX;

static struct block *block_of(void *memory) {
  return (struct block *)(void *)((char *)memory - offsetof(struct block, data));
}

static void destroy_both(void *arg) {
  (void)arg;
  forking = false;
  close_a();
  close_b();
}

static void fork_now(void) {
  if (!forking)
    return;
  reap(support_fork(destroy_both, NULL));
  children++;
}

static void free_block(void *memory) {
  struct block *block = block_of(memory);
  CHILD_MUST(!block->freed);
  block->freed = true;
}

static void heap_free(void *memory, void *arg) {
  (void)arg;
  free_block(memory);
  fork_now();
}

static void *heap_realloc(void *memory, size_t size, void *arg) {
  (void)arg;
  if (requests_left-- <= 0)
    return NULL;
  struct block *block = malloc(sizeof *block + size);
  CHILD_MUST(block != NULL);
  *block = (struct block){ .next = blocks, .size = size };
  blocks = block;
  if (memory != NULL) {
    size_t old = block_of(memory)->size;
    memcpy(block->data, memory, old < size ? old : size);
    free_block(memory);
  }
  fork_now();
  return block->data;
}

static void *heap_malloc(size_t size, void *arg) {
  return heap_realloc(NULL, size, arg);
}

static void setup(void) {
  static const forkq_heap_t heap = { heap_malloc, heap_realloc, heap_free, NULL };
  forkq_heap_set(&heap);
  setup_duplex();
  children = 0;
}

/* The blocks themselves, which nobody has any more. */
static void give_back(void) {
  while (blocks != NULL) {
    struct block *block = blocks;
    blocks = block->next;
    ck_assert(block->freed);
    free(block);
  }
}

/* More than the connection keeps; it fits into a socket. */
#define SIZE ((size_t)100 * 1024)

static int pack_in_pieces(msgpack_packer *packer, void *arg) {
  static char piece[1024];
  (void)arg;
  msgpack_pack_bin(packer, SIZE);
  for (size_t size = 0; size < SIZE; size += sizeof piece)
    msgpack_pack_bin_body(packer, piece, sizeof piece);
  return 0;
}

static void send_much(void) {
  OK(forkq_connection_send_with(b, pack_in_pieces, NULL));
}

static void finish(void) {
  forking = false;
  forkq_item_destroy(&item);
  close_a();
  close_b();
  give_back();
}

START_TEST(forked_in_a_send) {
  forking = true;
  send_much();
  ck_assert_int_gt(children, 8); /* the memory doubled as often, and was given back */
  finish();
}
END_TEST

/* Without memory for all of the message a part of it stays with the connection. */
static void receive_a_part(void) {
  send_much();
  requests_left = 1;
  CODE(forkq_connection_recv(a, &item), -ENOMEM);
  requests_left = INT32_MAX;
}

START_TEST(forked_in_a_receive_that_goes_on) {
  receive_a_part();
  forking = true;
  OK(forkq_connection_recv(a, &item));
  ck_assert_int_gt(children, 2);
  finish();
}
END_TEST

START_TEST(forked_in_a_receive_that_drops_what_it_had) {
  receive_a_part();
  forking = true;
  CODE(forkq_connection_recv_bytes(a, &item, 10), FORKQ_ETOOBIG);
  ck_assert_int_eq(children, 1);
  finish();
}
END_TEST

int main(void) {
  Suite *suite = suite_create("connections and fork");
  TCase *tc = add_case(suite, "fork", setup);
  tcase_add_test(tc, forked_in_a_send);
  tcase_add_test(tc, forked_in_a_receive_that_goes_on);
  tcase_add_test(tc, forked_in_a_receive_that_drops_what_it_had);
  return support_main(suite);
}
