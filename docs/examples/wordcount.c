/* wordcount [FILE...]: the 20 most frequent words of the files, counted in parallel, as
 *
 *   cat FILE... | tr -cs A-Za-z '\n' | tr A-Z a-z | grep . | sort | uniq -c
 *
 * counts them. The parent cuts the text into pieces and puts each as a task on a bounded
 * queue. Worker processes, one for each core, get the tasks, count, and put a map {word: count}
 * of each on a second queue, from where the parent adds them up. Without files it reads all
 * that /usr/share/common-licenses lists; a text with two names there counts twice. */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <forkq.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PIECE_SIZE (64 * 1024)
#define TOP 20

static void check(int result, const char *what) {
  if (result < 0)
    errx(EXIT_FAILURE, "%s: %s", what, forkq_strerror(result));
}

static void *check_memory(void *memory) {
  check(memory != NULL ? 0 : -ENOMEM, "memory");
  return memory;
}

/* Counts: a hash table to find a word in, and a list to go through them all. */

struct word {
  struct word *next, *same_bucket;
  uint64_t count;
  size_t length;
  char text[]; /* not terminated */
};

struct counts {
  struct word *first, *buckets[16384];
  uint32_t size;
};

/* The place that points to the word, or the one that should if it is NULL. */
static struct word **find(struct counts *counts, const char *text, size_t length) {
  uint32_t hash = 2166136261u; /* FNV-1a */
  for (size_t i = 0; i < length; i++)
    hash = (hash ^ (unsigned char)text[i]) * 16777619u;
  struct word **at = &counts->buckets[hash % 16384];
  while (*at != NULL &&
         ((*at)->length != length || memcmp((*at)->text, text, length) != 0))
    at = &(*at)->same_bucket;
  return at;
}

static void counts_add(struct counts *counts, const char *text, size_t length,
                       uint64_t count) {
  struct word **at = find(counts, text, length);
  if (*at == NULL) {
    *at = check_memory(malloc(sizeof **at + length));
    **at = (struct word){ .next = counts->first, .length = length };
    memcpy((*at)->text, text, length);
    counts->first = *at;
    counts->size++;
  }
  (*at)->count += count;
}

static void counts_clear(struct counts *counts) {
  for (struct word *word = counts->first, *next; word != NULL; word = next) {
    next = word->next;
    free(word);
  }
  memset(counts, 0, sizeof *counts);
}

/* The workers: text in, counts out. */

struct pool {
  forkq_queue_t *tasks, *results;
  forkq_process_t **workers;
  long size;
};

static bool is_letter(char c) {
  return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static void count_words(struct counts *counts, const char *text, size_t size) {
  char *word = check_memory(malloc(size));
  size_t length = 0;
  for (size_t i = 0; i <= size; i++) {
    if (i < size && is_letter(text[i])) {
      word[length++] = text[i] | 0x20; /* lower case */
    } else if (length > 0) {
      counts_add(counts, word, length, 1);
      length = 0;
    }
  }
  free(word);
}

static int pack_counts(msgpack_packer *packer, void *arg) {
  const struct counts *counts = arg;
  int failed = msgpack_pack_map(packer, counts->size);
  for (const struct word *word = counts->first; word != NULL && !failed;
       word = word->next)
    failed = msgpack_pack_str_with_body(packer, word->text, word->length) ||
             msgpack_pack_uint64(packer, word->count);
  return failed;
}

static int work(void *arg) {
  const struct pool *pool = arg;
  forkq_item_t item = FORKQ_ITEM_INIT;
  struct counts counts = { 0 };
  int r;
  while ((r = forkq_queue_get(pool->tasks, &item, -1)) == 0) {
    count_words(&counts, item.object.via.bin.ptr, item.object.via.bin.size);
    check(forkq_queue_put_with(pool->results, pack_counts, &counts, -1), "put");
    counts_clear(&counts);
  }
  check(r == FORKQ_ESHUTDOWN ? 0 : r, "get");
  forkq_item_destroy(&item);
  return EXIT_SUCCESS;
}

static void start_workers(struct pool *pool) {
  forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
  options.daemon = 1; /* when the parent dies, the workers end, too */
  pool->workers = check_memory(calloc((size_t)pool->size, sizeof(forkq_process_t *)));
  for (long i = 0; i < pool->size; i++)
    check(forkq_process_start(&pool->workers[i], work, pool, &options), "start");
}

static void check_workers(const struct pool *pool) {
  for (long i = 0; i < pool->size; i++)
    if (!forkq_process_is_alive(pool->workers[i]))
      errx(EXIT_FAILURE, "a worker died, and with it a part of the count");
}

/* The parent: the text, which is all files one after another, in pieces. */

struct text {
  char **path;  /* the file to read; NULL behind the last one */
  int fd;       /* -1 if it is not open yet */
  char *buffer; /* what was read and not yet sent */
  size_t length, capacity;
  size_t piece; /* how much of it is the next piece */
  uint64_t sent, total;
  bool failed;
};

static bool read_more(struct text *text) {
  if (text->capacity - text->length < PIECE_SIZE)
    text->buffer = check_memory(realloc(text->buffer, text->capacity *= 2));
  for (; *text->path != NULL; text->path++) {
    if (text->fd < 0)
      text->fd = open(*text->path, O_RDONLY | O_CLOEXEC);
    ssize_t n =
        text->fd < 0 ? -1 : read(text->fd, text->buffer + text->length, PIECE_SIZE);
    if (n > 0) {
      text->length += (size_t)n;
      return true;
    }
    if (n < 0) {
      warn("%s", *text->path);
      text->failed = true;
    }
    if (text->fd >= 0)
      close(text->fd);
    text->fd = -1;
  }
  return false;
}

/* Goes on to the next piece; false if there is none. It ends where no word can be cut, so
 * it is longer than PIECE_SIZE where a word is. */
static bool next_piece(struct text *text) {
  text->sent += text->piece;
  text->length -= text->piece;
  memmove(text->buffer, text->buffer + text->piece, text->length);
  text->piece = 0;
  while (text->length < PIECE_SIZE || text->piece == 0) {
    size_t old = text->length, end;
    if (!read_more(text)) {
      text->piece = text->length;
      break;
    }
    for (end = text->length; end > old && is_letter(text->buffer[end - 1]); end--)
      ;
    if (end > old)
      text->piece = end;
  }
  return text->piece > 0;
}

static int pack_piece(msgpack_packer *packer, void *arg) {
  const struct text *text = arg;
  return msgpack_pack_bin_with_body(packer, text->buffer, text->piece);
}

static void add_counts(struct counts *counts, const msgpack_object_map *map) {
  for (uint32_t i = 0; i < map->size; i++) {
    msgpack_object_str word = map->ptr[i].key.via.str;
    counts_add(counts, word.ptr, word.size, map->ptr[i].val.via.u64);
  }
}

static void show_progress(const struct text *text, uint64_t items, bool done) {
  static const char bar[] = "########################################";
  static struct timespec start, now;
  if (!isatty(STDERR_FILENO))
    return;
  clock_gettime(CLOCK_MONOTONIC, items == 0 ? &start : &now);
  double seconds =
      difftime(now.tv_sec, start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9;
  double part = text->sent < text->total ? (double)text->sent / (double)text->total : 1;
  fprintf(stderr, "\r[%-40.*s] %3.0f %% %8.0f items/s%s", (int)(40 * part), bar,
          100 * part, items > 0 ? (double)items / seconds : 0.0, done ? "\n" : "");
}

/* Puts as many tasks as there is room for, gets one result, and so on. The parent waits for
 * results only and never for room, so nobody can wait in a circle. */
static void count(struct counts *counts, struct text *text, const struct pool *pool) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  uint64_t sent = 0, received = 0;
  bool more = next_piece(text);
  show_progress(text, 0, false);
  while (more || received < sent) {
    int r = 0;
    for (; more && (r = forkq_queue_put_with(pool->tasks, pack_piece, text, 0)) == 0;
         sent++)
      more = next_piece(text);
    check(r == FORKQ_FULL ? 0 : r, "put");
    r = forkq_queue_get(pool->results, &item, 100);
    check_workers(pool);
    if (r == FORKQ_TIMEDOUT)
      continue;
    check(r, "get");
    add_counts(counts, &item.object.via.map);
    received++;
    show_progress(text, received, !more && received == sent);
  }
  forkq_item_destroy(&item);
}

/* The workers go home when there are no more tasks. Returns whether all got there. */
static bool stop_workers(const struct pool *pool) {
  bool ok = true;
  check(forkq_queue_shutdown(pool->tasks, 0), "shutdown");
  for (long i = 0; i < pool->size; i++) {
    int code = EXIT_FAILURE;
    check(forkq_process_join(pool->workers[i], -1), "join");
    check(forkq_process_exitcode(pool->workers[i], &code), "exit code");
    forkq_process_destroy(pool->workers[i]);
    ok = ok && code == EXIT_SUCCESS;
  }
  free(pool->workers);
  return ok;
}

/* Most first, ties by word. */
static int by_count(const void *a, const void *b) {
  const struct word *x = *(struct word *const *)a, *y = *(struct word *const *)b;
  if (x->count != y->count)
    return x->count < y->count ? 1 : -1;
  int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
  return order != 0 ? order : (x->length > y->length) - (x->length < y->length);
}

static void print_top(const struct counts *counts) {
  struct word **words = check_memory(calloc(counts->size + 1, sizeof *words));
  size_t n = 0;
  for (struct word *word = counts->first; word != NULL; word = word->next)
    words[n++] = word;
  qsort(words, n, sizeof *words, by_count);
  for (size_t i = 0; i < n && i < TOP; i++)
    printf("%ju %.*s\n", (uintmax_t)words[i]->count, (int)words[i]->length,
           words[i]->text);
  check(fflush(stdout) == 0 ? 0 : -errno, "standard output");
  free(words);
}

static uint64_t size_of(char **paths) {
  uint64_t size = 0;
  struct stat st;
  for (; *paths != NULL; paths++)
    if (stat(*paths, &st) == 0 && S_ISREG(st.st_mode))
      size += (uint64_t)st.st_size;
  return size;
}

int main(int argc, char **argv) {
  glob_t licences = { 0 };
  if (argc < 2)
    glob("/usr/share/common-licenses/*", GLOB_NOCHECK, NULL, &licences);
  char **paths = argc < 2 ? licences.gl_pathv : argv + 1;

  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  struct pool pool = { .size = cores < 2 ? 2 : cores };
  check(forkq_queue_create(&pool.tasks, 4 * pool.size), "create");
  check(forkq_queue_create(&pool.results, 4 * pool.size), "create");
  start_workers(&pool);
  forkq_queue_cancel_join_thread(
      pool.tasks); /* if we fail, nobody needs what is not sent */

  struct counts counts = { 0 };
  struct text text = { .path = paths, .fd = -1, .total = size_of(paths) };
  text.buffer = check_memory(malloc(text.capacity = PIECE_SIZE));
  count(&counts, &text, &pool);
  bool ok = stop_workers(&pool) && !text.failed;
  print_top(&counts);

  forkq_queue_destroy(pool.tasks);
  forkq_queue_destroy(pool.results);
  counts_clear(&counts);
  free(text.buffer);
  globfree(&licences);
  return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
