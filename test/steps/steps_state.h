/* What the parts of a world share: its items (steps_items.c), who lives in it (steps_world.c), and what they
 * were promised (steps_promises.c). */
#ifndef FORKQ_TEST_STEPS_STATE_H
#define FORKQ_TEST_STEPS_STATE_H

#include "steps_world.h"

#define PATIENCE_MS 5000

/* The numbers of items: below the first a survivor's, from there on those of victims, each of
 * which has so many, and then those of bystanders. */
#define VICTIMS 1000
#define EACH 500
#define BYSTANDERS 2000
#define LOG_SIZE 512

/* What survivors got, and what they are at; for all processes of a world. */
struct journal {
  _Atomic int got_count;
  struct {
    int by;
    int number;
  } got[LOG_SIZE];
  _Atomic int over[3]; /* the bystander's call has returned ... */
  _Atomic int result[3];
  _Atomic int waits[3]; /* ... its request on a loop was made */
  _Atomic int newcomer_put;
  _Atomic int victim_puts; /* of the present victim */
};

enum { THE_GETTER, THE_PUTTER, THE_JOINER };

extern const struct operation *world;
extern struct journal *journal;
extern int world_puts;
extern pid_t bystanders[3];
extern int victims;     /* how many there have been in this world */
extern long first_look; /* who finds the dead first */
extern pid_t writer;    /* see world_stop_in_put */

/* Puts the item of that number. */
int put_number_within(int number, int timeout_ms);
int put_large_number(int number, size_t size);

/* Writes down that a survivor got the item: 0, this process, or 1, a bystander. */
void note_got(int by, const forkq_item_t *item);

/* Whether a bystander's call has come back; and its result, as it has to come back now. */
bool is_over(int who);
int result_of(int who);

/* Before there is anything of a new world. */
void begin_promises(void);

#endif
