/* The worker that runs an event loop: gets and puts are requests, several at a time. */
#ifndef FORKQ_CRASH_LOOP_H
#define FORKQ_CRASH_LOOP_H

#include "worker.h"

/* Opens what a process keeps after its first loop and handle: the rest is closed again. */
void loop_open_for_good(struct worker *worker);

void loop_work(struct worker *worker);

#endif
