/* Two looks, one after the other: what changed in between, in lines for forkq top. */
#ifndef FORKQ_TOOL_RATES_H
#define FORKQ_TOOL_RATES_H

#include "tool/look.h"

#include <stdio.h>

/* What the lines are sorted by. */
enum forkq__tool_order {
  FORKQ__TOOL_BY_FULLNESS,
  FORKQ__TOOL_BY_NAME,
  FORKQ__TOOL_BY_PUTS,
  FORKQ__TOOL_BY_GETS,
  FORKQ__TOOL_BY_UNSENT,
  FORKQ__TOOL_ORDERS
};

/* A queue, as the second look has it. */
struct forkq__tool_row {
  const forkq_inspect_queue_t *queue;
  double puts, gets; /* a second */
  double fullness;   /* 0 to 1 */
  size_t processes;  /* that have it open */
};

struct forkq__tool_rates {
  forkq_inspect_t *before, *now;
  int64_t before_ns, now_ns;
  struct forkq__tool_row *rows;
  size_t count;
};

/* Looks again: what was now becomes before. Returns 0, or an error of forkq_inspect_open; says nothing, because
 * there may be a screen. */
int forkq__tool_rates_look(struct forkq__tool_rates *rates, pid_t pid);
void forkq__tool_rates_sort(struct forkq__tool_rates *rates,
                            enum forkq__tool_order order);
void forkq__tool_rates_end(struct forkq__tool_rates *rates);

/* A line of at most 79 columns, and the line above all. */
enum { FORKQ__TOOL_LINE = 80 };
const char *forkq__tool_rates_head(void);
void forkq__tool_rates_line(const struct forkq__tool_row *row,
                            char line[FORKQ__TOOL_LINE]);
const char *forkq__tool_order_name(enum forkq__tool_order order);

/* A line of comma-separated values for each queue, with the time; head: the names of the columns. */
void forkq__tool_rates_csv_head(FILE *file);
void forkq__tool_rates_csv(const struct forkq__tool_rates *rates, FILE *file);

#endif
