/* A put against a shutdown: src/queue/queue_put.c (take_slot) and forkq__channel_exhausted. What a put
 * says is in the queue is got, though getters leave when the queue is shut down and empty. */
#ifndef PUTTERS
#  define PUTTERS 2
#endif
#ifndef GETTERS
#  define GETTERS 2
#endif

#define ONE_LOOK 61

#define DOOMED skip
#include "common.pml"

bit shutdown;
byte accepted, returned, taken;
byte ready; /* items that can be got */
byte here = PUTTERS + GETTERS;

#define GONE (taken + returned)
inline die() { skip }

proctype putter(byte me) {
  bit n;
  AT(put_open, n = shutdown);
  if
  :: !n ->
    AT(take_accepted, accepted++);
    if
    :: MUTANT != ONE_LOOK -> AT(put_shut, n = shutdown)
    :: else
    fi;
    if
    :: n -> AT(add_part, returned++)
    :: else -> AT(written_sent, ready++)
    fi
  :: else
  fi;
  here--;
  DEATH;
dead:
  skip
}

proctype getter(byte me) {
  bit n;
  do
  :: atomic { ready > 0 -> ready--; SAY(consume_taken); taken++ }
  :: shutdown ->
    AT(exhausted_shut, n = shutdown);
    AT(exhausted_size, n = n && accepted == GONE);
    if
    :: n -> break
    :: else -> accepted == GONE || ready > 0
    fi
  od;
  here--;
  DEATH;
dead:
  skip
}

init {
  byte me = PUTTERS + GETTERS, i;
  atomic {
    for (i : 0 .. PUTTERS - 1) { run putter(i) };
    for (i : 0 .. GETTERS - 1) { run getter(PUTTERS + i) };
    i = 0
  };
  AT(shutdown_shut, shutdown = 1);
  here == 0;
  assert(ready == 0);
  assert(accepted == GONE);
  DEATH;
dead:
  skip
}
