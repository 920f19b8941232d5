/* Every allocation fails, the library's own and those of msgpack-c: the k-th one, for k = 1,
 * 2, ... until a run meets none, once and from then on. */
#include "fault_scenarios.h"
#include "support.h"

#include <errno.h>
#include <stdio.h>

/* The engine itself is tested in test_faults_calls.c. */
START_TEST(every_allocation_fails) {
  long runs = fault_scenarios_with(FAULT_MALLOC, ENOMEM, true);
  printf("faults: malloc: %ld runs\n", runs);
  ck_assert_int_gt(runs, 100);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("faults_heap");
  TCase *heap = tcase_create("heap");
  tcase_set_timeout(heap, 240);
  tcase_add_test(heap, every_allocation_fails);
  suite_add_tcase(suite, heap);
  return support_main(suite);
}
