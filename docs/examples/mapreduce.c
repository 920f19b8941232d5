/* mapreduce [FILE...]: lines, words and bytes of files, as wc counts them, with a few workers.
 *
 * This is mapreduce.py in C, statement by statement. */
#include <ctype.h>
#include <err.h>
#include <forkq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS 4

enum { LINES, WORDS, BYTES, KEYS };

static forkq_queue_t *tasks, *results;

static void check(int result) {
  if (result < 0)
    errx(EXIT_FAILURE, "%s", forkq_strerror(result));
}

static void count(const char *path, int64_t counts[KEYS]) {
  FILE *file = fopen(path, "rb");
  for (int c, last = ' '; file != NULL && (c = getc(file)) != EOF; last = c) {
    counts[LINES] += c == '\n';
    counts[WORDS] += isspace(last) && !isspace(c);
    counts[BYTES]++;
  }
  if (file == NULL || ferror(file)) {
    warn("%s", path);
    memset(counts, 0, KEYS * sizeof *counts);
  }
  if (file != NULL)
    fclose(file);
}

static void show(const int64_t n[KEYS], const char *name) {
  printf("%8jd %8jd %8jd %s\n", (intmax_t)n[LINES], (intmax_t)n[WORDS],
         (intmax_t)n[BYTES], name);
}

static int work(void *arg) {
  (void)arg;
  forkq_item_t task = FORKQ_ITEM_INIT;
  for (int id;;) {
    char path[4096];
    check(forkq_queue_get(tasks, &task, -1));
    if (task.object.type == MSGPACK_OBJECT_NIL)
      return EXIT_SUCCESS;
    check(forkq_object_scanf(&task.object, "{s:i,s:s}", "id", &id, "path", path,
                             sizeof path));
    int64_t n[KEYS] = { 0 };
    count(path, n);
    check(forkq_queue_putf(results, -1, "{s:i,s:I,s:I,s:I}", "id", id, "lines", n[LINES],
                           "words", n[WORDS], "bytes", n[BYTES]));
  }
}

int main(int argc, char **argv) {
  forkq_process_t *workers[WORKERS];
  check(forkq_queue_create(&tasks, 0));
  check(forkq_queue_create(&results, 0));
  for (int i = 0; i < WORKERS; i++)
    check(forkq_process_start(&workers[i], work, NULL, NULL));
  for (int id = 1; id < argc; id++)
    check(forkq_queue_putf(tasks, -1, "{s:i,s:s}", "id", id, "path", argv[id]));
  for (int i = 0; i < WORKERS; i++)
    check(forkq_queue_put_nil(tasks, -1));
  int64_t(*found)[KEYS] = calloc((size_t)argc, sizeof *found), total[KEYS] = { 0 };
  forkq_item_t item = FORKQ_ITEM_INIT;
  for (int i = 1, id; i < argc; i++) {
    check(forkq_queue_get(results, &item, -1));
    check(forkq_object_scanf(&item.object, "{s:i}", "id", &id));
    int64_t *n = found[id];
    check(forkq_object_scanf(&item.object, "{s:I,s:I,s:I}", "lines", &n[LINES], "words",
                             &n[WORDS], "bytes", &n[BYTES]));
  }
  for (int i = 0; i < WORKERS; i++) {
    check(forkq_process_join(workers[i], -1));
    forkq_process_destroy(workers[i]);
  }
  for (int id = 1; id < argc; id++) {
    show(found[id], argv[id]);
    for (int key = 0; key < KEYS; key++)
      total[key] += found[id][key];
  }
  show(total, "total");
  forkq_item_destroy(&item);
  forkq_queue_destroy(tasks);
  forkq_queue_destroy(results);
  free(found);
  return EXIT_SUCCESS;
}
