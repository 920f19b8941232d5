/* Rates between two looks, and their lines. */
#include "tool/rates.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const double ns_per_s = 1e9;

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- rows --------------------------------------------------------------------------------- */

static const forkq_inspect_queue_t *find(const forkq_inspect_t *inspect, uint64_t inode) {
  const forkq_inspect_queue_t *queue;
  for (size_t i = 0; (queue = forkq_inspect_queue_at(inspect, i)) != NULL; i++)
    if (queue->inode == inode && queue->error == 0)
      return queue;
  return NULL;
}

static double rate(uint64_t before, uint64_t now, double seconds) {
  return now > before && seconds > 0 ? (double)(now - before) / seconds : 0;
}

static void fill(struct forkq__tool_row *row, const struct forkq__tool_rates *rates) {
  const forkq_inspect_queue_t *queue = row->queue;
  const forkq_inspect_queue_t *before = find(rates->before, queue->inode);
  double seconds = (double)(rates->now_ns - rates->before_ns) / ns_per_s;
  if (before != NULL) {
    row->puts = rate(before->put_items, queue->put_items, seconds);
    row->gets = rate(before->got_items, queue->got_items, seconds);
  }
  if (queue->maxsize > 0)
    row->fullness = (double)queue->size / (double)queue->maxsize;
  const forkq_inspect_process_t *process;
  for (size_t i = 0; (process = forkq_inspect_process_at(queue, i)) != NULL; i++)
    row->processes += process->open ? 1 : 0;
}

static int make_rows(struct forkq__tool_rates *rates) {
  size_t count = 0;
  while (forkq_inspect_queue_at(rates->now, count) != NULL)
    count++;
  free(rates->rows);
  rates->count = 0;
  rates->rows = calloc(count + 1, sizeof *rates->rows);
  if (rates->rows == NULL)
    return -ENOMEM;
  for (; rates->count < count; rates->count++) {
    struct forkq__tool_row *row = &rates->rows[rates->count];
    row->queue = forkq_inspect_queue_at(rates->now, rates->count);
    fill(row, rates);
  }
  return 0;
}

int forkq__tool_rates_look(struct forkq__tool_rates *rates, pid_t pid) {
  forkq_inspect_t *inspect;
  int r = forkq_inspect_open(&inspect, pid);
  if (r < 0)
    return r;
  forkq_inspect_destroy(rates->before);
  rates->before = rates->now;
  rates->before_ns = rates->now_ns;
  rates->now = inspect;
  rates->now_ns = now_ns();
  return make_rows(rates);
}

void forkq__tool_rates_end(struct forkq__tool_rates *rates) {
  forkq_inspect_destroy(rates->before);
  forkq_inspect_destroy(rates->now);
  free(rates->rows);
}

/* ---- order -------------------------------------------------------------------------------- */

static const struct forkq__tool_row *row_at(const void *row) {
  return row;
}

/* The greater first; among equals, by their numbers. */
static int greater(double a, double b, const void *row, const void *other) {
  if (a != b)
    return a > b ? -1 : 1;
  return row_at(row)->queue->inode < row_at(other)->queue->inode ? -1 : 1;
}

/* Without a limit, the one with more items is fuller. */
static int by_fullness(const void *a, const void *b) {
  double first = row_at(a)->fullness, second = row_at(b)->fullness;
  return first != second ? greater(first, second, a, b)
                         : greater((double)row_at(a)->queue->size,
                                   (double)row_at(b)->queue->size, a, b);
}

static int by_name(const void *a, const void *b) {
  int order = strcmp(row_at(a)->queue->name, row_at(b)->queue->name);
  return order != 0 ? order : greater(0, 0, a, b);
}

static int by_puts(const void *a, const void *b) {
  return greater(row_at(a)->puts, row_at(b)->puts, a, b);
}

static int by_gets(const void *a, const void *b) {
  return greater(row_at(a)->gets, row_at(b)->gets, a, b);
}

static int by_unsent(const void *a, const void *b) {
  return greater((double)row_at(a)->queue->unsent_items,
                 (double)row_at(b)->queue->unsent_items, a, b);
}

static const struct {
  const char *name;
  int (*compare)(const void *a, const void *b);
} orders[] = {
  { "fullness", by_fullness }, { "name", by_name },     { "puts", by_puts },
  { "gets", by_gets },         { "unsent", by_unsent },
};

void forkq__tool_rates_sort(struct forkq__tool_rates *rates,
                            enum forkq__tool_order order) {
  qsort(rates->rows, rates->count, sizeof rates->rows[0], orders[order].compare);
}

const char *forkq__tool_order_name(enum forkq__tool_order order) {
  return orders[order].name;
}

/* ---- lines -------------------------------------------------------------------------------- */

enum { BAR = 10 };

/* A number in at most 6 columns: "12345", "1234k", "12.3M". */
static void shorten(double number, char text[12]) {
  static const char units[] = " kMGTPE";
  int unit = 0;
  double short_of = number;
  while (short_of >= 9999.5 && units[unit + 1] != '\0') {
    short_of /= 1000;
    unit++;
  }
  if (unit == 0)
    snprintf(text, 12, "%.0f", number);
  else
    snprintf(text, 12, short_of < 99.95 ? "%.1f%c" : "%.0f%c", short_of, units[unit]);
}

static void draw_bar(const struct forkq__tool_row *row, char bar[BAR + 1]) {
  int length = (int)(row->fullness * BAR + 0.5);
  memset(bar, ' ', BAR);
  memset(bar, '#', (size_t)(length < BAR ? length : BAR));
  bar[BAR] = '\0';
  if (row->queue->maxsize == 0)
    memcpy(bar, "no limit  ", BAR);
}

const char *forkq__tool_rates_head(void) {
  return "QUEUE        FULL           SIZE UNSENT  PUT/S  GET/S  LOST GETW PUTW PROC "
         "STATE";
}

void forkq__tool_rates_line(const struct forkq__tool_row *row,
                            char line[FORKQ__TOOL_LINE]) {
  const forkq_inspect_queue_t *queue = row->queue;
  char label[40], bar[BAR + 1], size[12], unsent[12], puts[12], gets[12], lost[12];
  forkq__tool_label(queue, label);
  if (queue->error != 0) {
    snprintf(line, FORKQ__TOOL_LINE, "%-12.12s %s", label, forkq_strerror(queue->error));
    return;
  }
  draw_bar(row, bar);
  shorten((double)queue->size, size);
  shorten((double)queue->unsent_items, unsent);
  shorten(row->puts, puts);
  shorten(row->gets, gets);
  shorten((double)queue->lost_items, lost);
  char whole[2 * FORKQ__TOOL_LINE];
  snprintf(whole, sizeof whole,
           "%-12.12s [%s] %6s %6s %6s %6s %5s %4" PRIu32 " %4" PRIu32 " %4zu %.5s", label,
           bar, size, unsent, puts, gets, lost, queue->waiting_getters,
           queue->waiting_putters, row->processes, forkq__tool_state(queue));
  memcpy(line, whole, FORKQ__TOOL_LINE - 1);
  line[FORKQ__TOOL_LINE - 1] = '\0';
}

void forkq__tool_rates_csv_head(FILE *file) {
  fputs("time,queue,name,size,maxsize,unsent,puts,gets,lost,waiting_getters,waiting_"
        "putters,"
        "processes,state\n",
        file);
}

void forkq__tool_rates_csv(const struct forkq__tool_rates *rates, FILE *file) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  for (size_t i = 0; i < rates->count; i++) {
    const struct forkq__tool_row *row = &rates->rows[i];
    const forkq_inspect_queue_t *queue = row->queue;
    if (queue->error != 0)
      continue;
    fprintf(file,
            "%" PRId64 ".%03d,%" PRIu64 ",%s,%" PRIu64 ",%" PRId64 ",%" PRIu64 ",%" PRIu64
            ",%" PRIu64 ",%" PRIu64 ",%" PRIu32 ",%" PRIu32 ",%zu,%s\n",
            (int64_t)now.tv_sec, (int)(now.tv_nsec / 1000000), queue->inode, queue->name,
            queue->size, queue->maxsize, queue->unsent_items, queue->put_items,
            queue->got_items, queue->lost_items, queue->waiting_getters,
            queue->waiting_putters, row->processes, forkq__tool_state(queue));
  }
}
