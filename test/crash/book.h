/* The book: what every process says of what it does, in shared memory of the harness's own.
 *
 * A process that is about to do something writes it down, does it, and writes down that it is
 * done. So whatever instruction it dies at, the book is in doubt about one operation of it,
 * and about no other. */
#ifndef FORKQ_CRASH_BOOK_H
#define FORKQ_CRASH_BOOK_H

#include "plan.h"

#include <forkq.h>
#include <stdatomic.h>
#include <sys/types.h>

#define LIVES_MAX 1024u
#define ITEMS_MAX 2048u /* that one process puts */
#define SAMPLES_MAX 4096u

enum phase {
  RUN,   /* everybody works, and the nemesis kills */
  FLUSH, /* producers end; the others get what is left */
  END    /* nothing is left */
};

enum op { IDLE, PUT, GET, DONE, JOIN, LOOK, CLOSE, DRAIN, HEAR };

enum state { UNBORN, RUNNING, ENDED, KILLED };

/* What the process that puts an item knows of its put. */
enum put {
  AS_NUMBERED, /* by its number: see begun and accepted */
  IN_DOUBT,    /* a request on a loop, not called back yet */
  WITHDRAWN    /* the call or callback said that it was not put */
};

/* What became of an item. */
struct fate {
  _Atomic uint32_t put;
  _Atomic uint32_t
      owner; /* the life that got it, + 1; where it is got again, the first */
  /* Times on the book's clock: its get began, and had returned. */
  _Atomic uint64_t asked;
  _Atomic uint64_t came;
  /* As a task. */
  _Atomic uint32_t given; /* how often it came */
  _Atomic uint32_t again; /* how often it had been given before, as the last get said */
  _Atomic bool late;      /* its first get is not known: the life died in it */
  _Atomic uint32_t done_begun; /* calls that say that it is done, and ... */
  _Atomic uint32_t done_ended; /* ... those that returned 0 */
  _Atomic uint32_t told;       /* how often it was told to be lost */
};

/* A process, from its fork to its end. */
struct life {
  _Atomic pid_t pid;
  _Atomic uint32_t kind;
  _Atomic uint32_t state;
  _Atomic uint32_t generation; /* of this place; of a soak only */
  _Atomic bool immortal;
  _Atomic bool doomed;   /* the nemesis means to kill it */
  _Atomic bool replaced; /* another one has been started in its place */
  _Atomic bool stopped;
  _Atomic int64_t resumed_ns;
  _Atomic uint32_t phase;   /* in which it works: from FLUSH on it puts no more */
  _Atomic bool exits;       /* with a thread in a get */
  _Atomic bool vanished;    /* it left what it had not sent to the child that it forked */
  _Atomic uint32_t heir_of; /* the life that forked it and vanished; 0: none */

  /* The call that it is in. */
  _Atomic uint32_t op;
  _Atomic int timeout_ms;
  _Atomic int64_t since_ns;
  _Atomic uint64_t ops;    /* calls begun */
  _Atomic uint64_t arm_at; /* at this call it sets a timer ... */
  _Atomic int64_t arm_ns;  /* ... that kills it so much later */

  /* As a producer: numbers of items, counted from 1. */
  _Atomic uint32_t begun;    /* the last that it may have put */
  _Atomic uint32_t accepted; /* the last of which it knows */
  _Atomic uint32_t flushed;  /* the last that it knows to be in the pipe */
  _Atomic uint32_t puts;     /* how many it knows to be put */

  /* As a consumer. */
  _Atomic uint64_t asked; /* its get began; 0: it is in none */
  _Atomic uint32_t want;  /* items that this get may bring */
  _Atomic uint64_t got;
  _Atomic uint64_t done_begun;
  _Atomic uint64_t done_ended;
  _Atomic uint32_t
      left;           /* tasks that its children have left undone, where tasks are kept */
  _Atomic bool hears; /* it asks for a lost task */
};

/* Times from a death to the next completed operation of any other process. */
struct samples {
  _Atomic int64_t death_ns; /* 0: none is waited for */
  _Atomic uint64_t recoveries;
  _Atomic uint32_t count;
  int32_t us[SAMPLES_MAX];
};

struct book {
  struct plan plan;
  forkq_queue_t *queue;
  _Atomic uint32_t phase;
  _Atomic uint64_t clock;
  _Atomic uint64_t progress;
  _Atomic uint64_t gets;
  _Atomic uint64_t told;
  _Atomic uint32_t lives_used;
  _Atomic uint32_t doomed; /* how many the nemesis has begun to kill */
  _Atomic uint32_t kills;
  _Atomic int64_t late_ns; /* how late the machine wakes an idle process, lately */
  _Atomic int stop;        /* the run is to end before its time */
  _Atomic int failed;
  char failure[1024];
  struct samples puts_after, gets_after;
  struct life lives[LIVES_MAX];
  struct fate fates[LIVES_MAX][ITEMS_MAX]; /* not of a soak */
};

struct book *book_open(const struct plan *plan);
void book_close(struct book *book);

/* Nanoseconds on CLOCK_MONOTONIC. */
int64_t book_now(void);
void book_sleep_us(int64_t us);

/* Writes down what is wrong, unless something is already. */
void book_fail(struct book *book, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

const char *book_op_name(uint32_t op);
const char *book_kind_name(uint32_t kind);

/* ---- by the process whose life it is, around each call ------------------------------- */

void book_begin(struct book *book, struct life *life, enum op op, int timeout_ms);
void book_end(struct life *life);

/* The same for a request that began before: of a loop, the one that is due next. */
void book_begin_at(struct book *book, struct life *life, enum op op, int timeout_ms,
                   int64_t since_ns);

/* The life is to end: nobody waits for its progress any more. */
void book_doom(struct book *book, struct life *life);

/* From that death on, the time to the next put and the next get of any process is taken: in
 * an epoch in which nobody rests or is stopped. */
void book_await_progress(struct book *book, int64_t death_ns);

/* What the queue itself counts as recoveries, and as tasks that were got again. */
uint64_t book_recoveries(const struct book *book);
uint64_t book_again(const struct book *book);

/* An item or more were put or got: survivors are at work. */
void book_progress(struct book *book, enum op op, uint32_t items);

/* What is known of the put of an item of the life's own. */
void book_note_put(struct book *book, struct life *life, uint32_t seq, enum put put);

/* An item came out of the queue, in the get that the life is in. */
void book_got(struct book *book, struct life *life, uint32_t by, uint32_t seq,
              uint32_t redelivered);

/* The same task is about to be said to be done; it was, by a call that returned 0; it was told to be lost. */
void book_done_begins(struct book *book, uint32_t by, uint32_t seq);
void book_done_ends(struct book *book, uint32_t by, uint32_t seq);
void book_told(struct book *book, uint32_t by, uint32_t seq);

#endif
