/* Says which contract is broken, and where. */
#include "base/contract.h"

#ifdef FORKQ__CONTRACTS
#  include <stdio.h>
#  include <stdlib.h>

bool forkq__memory_trusted = true;

_Noreturn void forkq__contract_broken(const char *condition, const char *file, int line) {
  fprintf(stderr, "forkq: %s:%d: broken contract: %s\n", file, line, condition);
  abort();
}
#endif
