#include "shared_memory_helpers.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void set_up(void) {
  fds_before = support_open_fds();
  ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
}

void create_with_limit(size_t bytes) {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.shared_max_bytes = bytes;
  forkq_queue_destroy(queue);
  ck_assert_int_eq(forkq_queue_create_with(&queue, &options), 0);
}

uint64_t wire(void) {
  struct forkq__ledger *ledger = &queue->segment->ledger;
  uint64_t sum = 0;
  for (uint32_t i = 0; i < FORKQ__LOAD(ledger->cells_used); i++)
    sum += FORKQ__LOAD(ledger->cells[i].sent_wire);
  return sum;
}

int64_t held(void) {
  struct stat status;
  if (fstat(queue->channel.account.liveness.memory_fd, &status) != 0)
    abort();
  return (int64_t)status.st_blocks * 512;
}

bool goes_beside(size_t size) {
  uint64_t before = wire();
  CHILD_MUST(put_bin(size, PATIENCE_MS) == 0);
  until_sent(queue);
  return wire() - before < LEAST;
}

void must_get_bin(size_t size) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  CHILD_MUST(forkq_queue_get_packed(queue, &item, PATIENCE_MS) == 0);
  CHILD_MUST(is_bin(&item, size));
  forkq_item_destroy(&item);
}

int pack_bin(msgpack_packer *packer, void *size) {
  char *data = malloc(*(size_t *)size);
  make_bin(data, *(size_t *)size);
  int r = packer->callback(packer->data, data, 100);
  if (r == 0)
    r = packer->callback(packer->data, data + 100, *(size_t *)size - 100);
  free(data);
  return r;
}

static rlim_t address_space(void) {
  FILE *file = fopen("/proc/self/statm", "r");
  unsigned long pages = 0;
  CHILD_MUST(file != NULL && fscanf(file, "%lu", &pages) == 1);
  fclose(file);
  return pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

void limit_address_space(void) {
  struct rlimit limit = { address_space() + 40 * MIB, RLIM_INFINITY };
  if (!UNDER_ASAN)
    CHILD_MUST(setrlimit(RLIMIT_AS, &limit) == 0);
}

TCase *add_case(Suite *suite, const char *name) {
  TCase *tcase = tcase_create(name);
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, set_up, queue_tear_down);
  suite_add_tcase(suite, tcase);
  return tcase;
}
