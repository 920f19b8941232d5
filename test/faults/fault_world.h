/* What the scenarios of faults have in common: the world that one has, what its calls may return,
 * and a queue before and after. */
#ifndef FORKQ_TEST_FAULT_WORLD_H
#define FORKQ_TEST_FAULT_WORLD_H

#include "faults.h"
#include "support.h"

#include <errno.h>
#include <forkq.h>
#include <forkq/handover.h>

#define LARGE 20000 /* a message of several packets */
#define HUGE 100000 /* of more packets than a small pipe holds, which is 16 */
#define PATIENCE_MS 10000

/* The waits of the acts, of which some are in vain. */
#define SOON_MS 10

/* Numbers of items: those of the act, and the one that is put when all is well again. */
#define LAST_ID 60
#define NIL_ID 59

/* All that a scenario has. Sets of items are bits. */
struct world {
  const struct scenario *scenario;
  int injected; /* the fault's errno, negative, or 0 */
  forkq_queue_t *queue;
  forkq_connection_t *a, *b;
  forkq_process_t *process;
  forkq_item_t item;
  forkq_item_t items[4];
  uint64_t accepted, got;
  _Atomic uint64_t reported; /* by the feeder */
  int fds[FORKQ_HANDOVER_FDS];
  char text[FORKQ_HANDOVER_TEXT];
  uint64_t sent, arrived; /* over connections */
  int last;               /* the latest result of the act */
};

struct scenario {
  const char *name;
  void (*before)(struct world *w);
  void (*act)(struct world *w);
  void (*after)(struct world *w);
  bool streams;
  /* Results that the headers name, besides 0 and the fault's own errno. */
  int allowed[12];
};

#define PUT_ERRORS FORKQ_FULL, FORKQ_TIMEDOUT, FORKQ_ENOTHREAD, -ENOMEM, -EMFILE
#define GET_ERRORS FORKQ_EMPTY, FORKQ_TIMEDOUT, -ENOMEM

/* The scenarios of a file, after which there is one without a name. */
extern const struct scenario scenarios_of_items[];
extern const struct scenario scenarios_of_ends[];
extern const struct scenario scenarios_of_streams[];

/* ---- items ------------------------------------------------------------------------- */

extern char huge[HUGE + 8];

uint64_t bit(unsigned id);
msgpack_object small(unsigned id);

/* Bytes of which the first is the number. */
msgpack_object bytes(unsigned id, uint32_t size);

/* A packing function for the number that it is given. */
int pack_small(msgpack_packer *packer, void *arg);

/* The number of an item by its msgpack bytes. */
unsigned id_of(const char *data, size_t size);

void once(uint64_t *set, unsigned id);

/* ---- results ----------------------------------------------------------------------- */

/* A result of a call in the act must be one that its header names. */
int met(struct world *w, int r);

void put_done(struct world *w, unsigned id, int r);

/* What a get left in the item counts whatever it returned. */
int get_done(struct world *w, forkq_item_t *item, int r);

/* What was accepted, has not been got, and was not reported as lost. */
uint64_t outstanding(struct world *w);

/* ---- the queue, before and after ----------------------------------------------------- */

int create(struct world *w, int64_t maxsize, bool joinable, bool direct);
int create_that_tells(struct world *w); /* of lost tasks */
void make_queue(struct world *w);

/* Large items go through the pipe, in several packets; and the pipe is small. */
void make_kept_to_pipe(struct world *w);
void make_small_pipe(struct world *w);
void make_bounded(struct world *w);

/* A queue whose feeder runs already; and one with three items, the last of several packets. */
void make_running(struct world *w);
void make_filled(struct world *w);

/* The same, but the last one is beside the pipe. And a large one that goes there. */
void make_filled_beside(struct world *w);
void put_beside(struct world *w, unsigned id);

void put_small(struct world *w, unsigned id);

/* Everything that was accepted comes, once, unless its loss was reported. */
void drain(struct world *w);

/* The queue works, and is empty in the end. */
void use_queue(struct world *w);
void destroy_queue(struct world *w);
void use_and_destroy(struct world *w);

/* Before or after an act that needs no more. */
void nothing(struct world *w);

#endif
