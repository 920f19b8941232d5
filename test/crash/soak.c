#define _GNU_SOURCE
#include "soak.h"

#include "leaks.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What counts as flat over the second half of the soak, for each process that lives all the
 * time: memory may grow at this rate, or by so much in all, which is what an allocator needs
 * to come to rest in a short soak. */
#define KIB_AN_HOUR 512.0
#define KIB_IN_ALL 256.0

/* RSS goes up and down with the pieces of shared memory that a process has just touched. Growth within so many
 * standard errors is that. */
#define ERRORS 2.0

/* The first second is that of the start. */
#define FIRST_NS INT64_C(3000000000)

struct sample {
  double seconds;
  int lasting; /* processes that are never killed: the next three are sums over them */
  int fds;
  long rss_kib;
  long pss_kib;
  int processes;
  int shm;
  double gets; /* a second */
};

int soak_begin(struct soak *soak, struct book *book, const char *path) {
  *soak = (struct soak){ .book = book };
  soak->csv = fopen(path, "we");
  if (soak->csv == NULL)
    return -1;
  soak->begin_ns = book_now();
  soak->next_ns = soak->begin_ns + FIRST_NS;
  fprintf(soak->csv, "seconds,lasting,fds,rss_kib,pss_kib,processes,shm,gets\n");
  fflush(soak->csv); /* or the children have it, too */
  return 0;
}

static int count_fds(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
  DIR *dir = opendir(path);
  int count = 0;
  for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
    count += entry->d_name[0] != '.';
  if (dir != NULL)
    closedir(dir);
  return count;
}

static void add_memory(pid_t pid, struct sample *sample) {
  char path[64], line[256];
  long kib;
  snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
  FILE *file = fopen(path, "re");
  while (file != NULL && fgets(line, sizeof line, file) != NULL) {
    if (sscanf(line, "Rss: %ld", &kib) == 1)
      sample->rss_kib += kib;
    if (sscanf(line, "Pss: %ld", &kib) == 1)
      sample->pss_kib += kib;
  }
  if (file != NULL)
    fclose(file);
}

static void add_life(const struct life *life, struct sample *sample) {
  pid_t pid = atomic_load(&life->pid);
  if (atomic_load(&life->state) != RUNNING)
    return;
  sample->processes++;
  if (!atomic_load(&life->immortal))
    return;
  sample->lasting++;
  sample->fds += count_fds(pid);
  add_memory(pid, sample);
}

static struct sample take(struct soak *soak, int64_t now) {
  struct book *book = soak->book;
  uint64_t gets = atomic_load(&book->gets);
  double since = (double)(now - soak->next_ns) / 1e9 + 1;
  struct sample sample = {
    .seconds = (double)(now - soak->begin_ns) / 1e9,
    .shm = leaks_now().shm,
    .gets = (double)(gets - soak->gets) / since,
  };
  for (uint32_t i = 1; i < atomic_load(&book->lives_used); i++)
    add_life(&book->lives[i], &sample);
  soak->gets = gets;
  return sample;
}

void soak_look(struct soak *soak) {
  int64_t now = book_now();
  if (now < soak->next_ns || atomic_load(&soak->book->phase) != RUN)
    return;
  struct sample s = take(soak, now);
  soak->next_ns = now + 1000000000;
  soak->samples = realloc(soak->samples, (soak->count + 1) * sizeof s);
  soak->samples[soak->count++] = s;
  fprintf(soak->csv, "%.1f,%d,%d,%ld,%ld,%d,%d,%.0f\n", s.seconds, s.lasting, s.fds,
          s.rss_kib, s.pss_kib, s.processes, s.shm, s.gets);
  fflush(soak->csv);
}

/* ---- the verdict ------------------------------------------------------------------------- */

/* How much RSS grows, in KiB a second, by least squares, and the standard error of that. */
static double slope(const struct sample *samples, size_t count, double *ret_error) {
  double t = 0, y = 0, tt = 0, ty = 0, yy = 0;
  for (size_t i = 0; i < count; i++) {
    t += samples[i].seconds / (double)count;
    y += (double)samples[i].rss_kib / (double)count;
  }
  for (size_t i = 0; i < count; i++) {
    double dt = samples[i].seconds - t, dy = (double)samples[i].rss_kib - y;
    tt += dt * dt;
    ty += dt * dy;
    yy += dy * dy;
  }
  double rest = count > 2 && tt > 0 ? (yy - ty * ty / tt) / (double)(count - 2) : 0;
  *ret_error = rest > 0 ? sqrt(rest / tt) : 0;
  return tt > 0 ? ty / tt : 0;
}

static int least_fds(const struct sample *samples, size_t count) {
  int least = samples[0].fds;
  for (size_t i = 1; i < count; i++)
    least = samples[i].fds < least ? samples[i].fds : least;
  return least;
}

/* A process that looks for the dead, or repairs, opens descriptors for a moment. One that is never closed
 * raises the least. */
static int fds_grew(const struct sample *samples, size_t count) {
  return least_fds(samples + count / 2, count - count / 2) -
         least_fds(samples, count / 2);
}

int soak_end(struct soak *soak) {
  fclose(soak->csv);
  if (soak->count < 4) {
    printf("soak: too short for a verdict\n");
    return 0;
  }
  const struct sample *half = soak->samples + soak->count / 2;
  size_t count = soak->count - soak->count / 2;
  double lasting = half[0].lasting > 0 ? half[0].lasting : 1;
  double seconds = half[count - 1].seconds - half[0].seconds;
  double error, grew = slope(half, count, &error) / lasting * seconds;
  double rate = grew / seconds * 3600;
  error *= seconds / lasting;
  double gets = 0;
  for (size_t i = 0; i < soak->count; i++)
    gets += soak->samples[i].gets / (double)soak->count;
  int fds = fds_grew(soak->samples, soak->count);
  int shm = half[count - 1].shm - soak->samples[0].shm;
  int bad =
      fds > 0 || shm > 0 || (rate > KIB_AN_HOUR && grew - ERRORS * error > KIB_IN_ALL);
  printf("soak: %zu samples, %.0f gets/s, %d processes\n", soak->count, gets,
         half[count - 1].processes);
  printf(
      "soak: of %.0f processes that lived all the time: descriptors %+d; memory in the "
      "second half %+.0f KiB/h each (%+.1f KiB in %.0f s, standard error %.1f)\n",
      lasting, fds, rate, grew, seconds, error);
  printf("soak: /dev/shm %+d\nsoak: %s\n", shm, bad ? "NOT FLAT" : "flat");
  free(soak->samples);
  return bad;
}
