/* A run of CPython's peers: by cpython_peer.py, which does what run.c does. */
#ifndef FORKQ_BENCH_SCRIPT_H
#define FORKQ_BENCH_SCRIPT_H

#include "run.h"

struct outcome script_measure(const struct peer *peer, const struct load *load,
                              enum measure measure, enum placement placement);

/* The version of the Python that runs it; "" if there is none. */
const char *script_version(void);

#endif
