/* The other library, libforkq: see queue/elsewhere.h. Its functions that rooms of base and codec have, and that
 * have a state of the whole process, are called through it; in the static library they are there. */
#ifndef FORKQ_REDIS_HOST_H
#define FORKQ_REDIS_HOST_H

#include "queue/elsewhere.h"

#endif
