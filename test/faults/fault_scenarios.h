/* What is done while calls fail: every public function, with what it may return, and the
 * proof afterwards that nothing is lost, nothing leaks and the objects go on. */
#ifndef FORKQ_TEST_FAULT_SCENARIOS_H
#define FORKQ_TEST_FAULT_SCENARIOS_H

#include "faults.h"

/* All scenarios with one fault, at the first call, at the second, and so on until there is
 * none left to fail: once, and then from there on if it `lasts`, else three times in a row.
 * Each run is a child of its own, which must end within 30 seconds. The test fails if anything
 * is wrong. Returns how many runs that were. */
long fault_scenarios_with(enum fault_call call, int error, bool lasts);

#endif
