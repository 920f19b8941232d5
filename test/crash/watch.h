/* The watch: looks at an epoch from outside, tells a hang from a slow machine, and shows what
 * there is to see when something is wrong. */
#ifndef FORKQ_CRASH_WATCH_H
#define FORKQ_CRASH_WATCH_H

#include "book.h"

struct watch {
  struct book *book;
  pid_t judge;
  uint64_t progress;
  int64_t progress_ns;
  int64_t last_ns;
  int64_t worst_ns; /* how late this idle process was lately, at the worst */
};

void watch_begin(struct watch *watch, struct book *book, pid_t judge);

/* Sleeps for a moment, and looks: whether somebody hangs is then in the book. */
void watch_look(struct watch *watch);

/* The state of everything, to stderr. */
void watch_show(struct watch *watch);

#endif
