/* Why a process waits: the cases, as a table. */
#ifndef FORKQ_TOOL_CASES_H
#define FORKQ_TOOL_CASES_H

#include "tool/look.h"

#include <stdio.h>

/* A wait of a thread, and what there is to say about it. */
struct forkq__tool_cause {
  const forkq_inspect_queue_t *queue;
  const forkq_inspect_process_t *process; /* that waits */
  const forkq_inspect_wait_t *wait;
  FILE *text;     /* what the case says goes here */
  json_t *blamed; /* the numbers of the processes that could end the wait */
};

/* One case: when it applies, and what it says. The first that applies is the one. */
struct forkq__tool_case {
  const char *name; /* for programs and for the tests */
  forkq_inspect_wait_kind_t kind;
  bool (*applies)(const struct forkq__tool_cause *cause);
  void (*explain)(const struct forkq__tool_cause *cause);
};

/* Ends with one without a name. For each kind of wait there is a last case that always applies. */
extern const struct forkq__tool_case forkq__tool_cases[];

/* The case of a wait. */
const struct forkq__tool_case *forkq__tool_case_of(const struct forkq__tool_cause *cause);

#endif
