/* Room for MAXSIZE items: src/shared/slots.c, and what ledger.c does to a cell whose process died.
 *
 * Putters take slots; their items are gone through at once (the transport is in
 * transport.pml). Getters take the items. A putter that finds no slot waits.
 *
 * By default a take goes step by step, and who waits sees a free slot or a debt of the dead.
 * With -DFUTEX a take is one step, and who waits sleeps on the futex and is woken, or with
 * -DLOOKS also looks by itself; without, and without deaths, no wake-up may be lost. */
#ifndef PUTTERS
#  define PUTTERS 3
#endif
#ifndef GETTERS
#  ifdef FUTEX
#    define GETTERS 2
#  else
#    define GETTERS 1 /* whose step is one: as good as two */
#  endif
#endif
#ifndef ITEMS
#  define ITEMS 2 /* of each putter */
#endif
#ifndef MAXSIZE
#  define MAXSIZE 2
#endif
#ifndef CELLS
#  define CELLS 3
#endif

/* With -DGETS=n getters leave after so many items, of which the first putter puts MAXSIZE: then
 * two others may wait for what one getter frees, and nobody comes after it. */
#ifdef GETS
#  define TO_PUT (me == 0 -> MAXSIZE : ITEMS)
#  define WANTED (got < GETS)
#else
#  define TO_PUT ITEMS
#  define WANTED true
#endif

#ifdef FUTEX
#  define LATE PUTTERS
#else
#  define LATE (PUTTERS - 1)
#endif

#define CONSISTENT_WITHOUT_REPAIR 1
#define NO_CONFIRM 21
#define CONFIRM_AFTER 22
#define NO_TRY 23
#define TWICE_ON_REAP 24
#define NO_RECHECK 25
#define KEEPS_WAKING 26
#define PASSES_NO_WAKE 27

/* One getter lives: somebody must. */
#define CAN_DIE (crashes < CRASHES && (me < PUTTERS || getters_left > 1))
#define DOOMED getters_left = getters_left - (me >= PUTTERS && me < PUTTERS + GETTERS)
#include "common.pml"

LOCKS(1)
#define LEDGER 0

/* The word: count and cell + 1. */
byte word_count, word_cell;
byte accepted[CELLS], try_base[CELLS], try_count[CELLS], confirmed[CELLS];
byte sent[CELLS], returned[CELLS];
byte life[CELLS];
bit used[CELLS];
byte taken, returned_sum;

/* The futex: who sleeps on it, and for whom its word is not what they read last (sets). */
#define ALL 255
byte stale = ALL, waiters;
bit waking;
byte sleeping;

/* What really is. */
byte really_taken_slots; /* swaps of the word */
byte ready;              /* items that can be got */
byte got;
byte lost;               /* items that died with their putter */
byte putters_left = PUTTERS, getters_left = GETTERS;
byte really_held[PUTTERS]; /* slots taken by it, items not yet passed on */

#define GONE (taken + returned_sum)
#define ROOM(count, gone_) (count < gone_ + MAXSIZE)
#define FULL (!ROOM(word_count, GONE))
#define NONE 255

inline die() {
  LET_GO(LEDGER);
  if
  :: cell != NONE -> life[cell] = 0
  :: else
  fi;
  if
  :: me < PUTTERS ->
    lost = lost + really_held[me];
    really_held[me] = 0;
    putters_left--
  :: else
  fi;
  sleeping = sleeping & ~(1 << me);
  stale = stale | (1 << me);
  cell = NONE; i = 0; base = 0; count = 0; wcell = 0; gone = 0; ok = 0;
  n = 0; mine = 0
}

/* futex(2): wakes one, whichever. */
#define WAKE_ONE                                                                          \
  if                                                                                     \
  :: sleeping & 1 -> sleeping = sleeping & ~1                                            \
  :: sleeping & 2 -> sleeping = sleeping & ~2                                            \
  :: sleeping & 4 -> sleeping = sleeping & ~4                                            \
  :: else -> skip                                                                        \
  fi

inline slots_freed() {
  AT(freed_waiters, ok = (waiters != 0));
  if
  :: ok ->
    AT(freed_waking, ok = (waking == 0); waking = 1);
    if
    :: ok ->
      AT(freed_event, stale = ALL);
      atomic {
        if
        :: CAN_DIE -> DIE
        :: true
        fi;
        SAY(freed_wake);
        WAKE_ONE;
        ok = 0
      }
    :: else
    fi
  :: else
  fi
}

inline repair_ledger() {
  AT(repair_returned, n = 0; i = 0;
     do
     :: i < CELLS -> n = n + returned[i]; i++
     :: else -> break
     od;
     returned_sum = n; n = 0; i = 0)
}

#define HELD(c) (accepted[c] - sent[c] - returned[c])
#define HAS_ACCOUNT(c) (HELD(c) > 0 || try_count[c] != 0)
#define OWES(c) (used[c] && life[c] == 0 && HAS_ACCOUNT(c))
/* Whether a look would help: the dead owe something, or who reaped died at it. */
#if CELLS == 2
#  define DEBTS (inconsistent[LEDGER] || OWES(0) || OWES(1))
#else
#  define DEBTS (inconsistent[LEDGER] || OWES(0) || OWES(1) || OWES(2))
#endif

/* With the ledger's lock. */
inline reap_locked(all) {
  i = 0;
  do
  :: i < CELLS ->
    PART {
      if
      :: used[i] && life[i] == 0 && (all || HAS_ACCOUNT(i)) ->
        if
        :: try_count[i] != 0 ->
          /* The word first: where it no longer names this take, the take is confirmed. */
          AT(finish_take_look, count = word_count; wcell = word_cell);
          AT(finish_take_accepted,
             accepted[i] = try_base[i] +
                           ((confirmed[i] == try_count[i] ||
                             (count == try_count[i] && wcell == i + 1)) -> 1 : 0);
             count = 0; wcell = 0);
          AT(finish_take_over, try_count[i] = 0)
        :: else
        fi;
        AT(add_part,
           n = HELD(i);
           n = (MUTANT == TWICE_ON_REAP -> 2 * n : n);
           returned[i] = returned[i] + n);
        AT(add_sum, returned_sum = returned_sum + n; n = 0);
        AT(settle_state, used[i] = 0)
      :: else
      fi
    };
    i++
  :: else -> break
  od;
  i = 0
}

inline open_cell() {
  LOCK(LEDGER, repair_ledger());
  reap_locked(1);
  do
  :: used[i] -> i++
  :: else -> break
  od;
  assert(i < CELLS);
  AT(claim_life, cell = i; life[i] = me + 1);
  AT(claim_used, used[i] = 1; i = 0);
  UNLOCK(LEDGER)
}

/* ok: got one. */
#ifdef FUTEX
inline try_take() {
  AT(take_swap,
     ok = !FULL;
     if
     :: ok ->
       word_count++; accepted[cell]++;
       really_held[me]++; really_taken_slots++;
       assert(really_taken_slots - got - lost <= MAXSIZE)
     :: else
     fi)
}
#else
inline confirm() {
  AT(take_confirm,
     if
     :: confirmed[wcell - 1] < count -> confirmed[wcell - 1] = count
     :: else
     fi)
}

#define OTHERS_TAKE (wcell != 0 && wcell != cell + 1)

inline try_take() {
  PART {
    AT(take_try_base, base = accepted[cell]; try_base[cell] = base);
    AT(take_word, count = word_count; wcell = word_cell)
  };
  do
  :: ROOM(count, gone) ->
    if
    :: OTHERS_TAKE && MUTANT != NO_CONFIRM && MUTANT != CONFIRM_AFTER -> PART { confirm() }
    :: else
    fi;
    PART {
      if
      :: MUTANT != NO_TRY -> AT(take_try_count, try_count[cell] = count + 1)
      :: else
      fi;
      AT(take_swap,
         ok = (word_count == count && word_cell == wcell);
         if
         :: ok ->
           word_count = count + 1; word_cell = cell + 1;
           really_held[me]++; really_taken_slots++;
           assert(really_taken_slots - got - lost <= MAXSIZE)
         :: else ->
           count = word_count; wcell = word_cell
         fi);
      if
      :: ok && MUTANT != CONFIRM_AFTER ->
        AT(take_accepted, accepted[cell] = base + 1);
        AT(take_over, try_count[cell] = 0);
        break
      :: else
      fi
    };
    if
    :: ok ->
      if
      :: OTHERS_TAKE -> PART { confirm() }
      :: else
      fi;
      PART {
        AT(take_accepted, accepted[cell] = base + 1);
        AT(take_over, try_count[cell] = 0);
        break
      }
    :: else
    fi
  :: !ROOM(count, gone) ->
    PART {
      AT(take_gone, gone = GONE);
      if
      :: !ROOM(count, gone) ->
        AT(take_none, try_count[cell] = 0; ok = 0);
        break
      :: else
      fi
    }
  od;
  atomic { count = 0; wcell = 0; base = 0 }
}
#endif

#ifdef FUTEX
inline wait_for_slot() {
#  ifdef LOOKS
  if
  :: DEBTS -> reap()
  :: else -> slots_wait()
  fi;
#  else
  slots_wait();
#  endif
  waited = 1
}
#else
inline wait_for_slot() {
  if
  :: !FULL
  :: DEBTS -> reap()
  :: atomic { CAN_DIE -> DIE }
  fi
}
#endif

inline reap() {
  LOCK(LEDGER, repair_ledger());
  reap_locked(0);
  UNLOCK(LEDGER);
  slots_freed()
}

inline slots_wait() {
  AT(wait_event, stale = stale & ~(1 << me));
  AT(wait_waiters, waiters++);
  AT(wait_awake, waking = 0);
  if
  :: FULL || MUTANT == NO_RECHECK ->
    /* futex_wait: the kernel compares, then sleeps. */
    atomic {
      if
      :: CAN_DIE -> DIE
      :: stale & (1 << me)
      :: !(stale & (1 << me)) -> SAY(wait_sleep); sleeping = sleeping | (1 << me)
      fi
    };
    atomic {
      if
      :: !(sleeping & (1 << me))
#ifdef LOOKS
      :: (sleeping & (1 << me)) && (!FULL || DEBTS) -> sleeping = sleeping & ~(1 << me)
#endif
      :: (sleeping & (1 << me)) && CAN_DIE -> DIE
      fi
    }
  :: else
  fi;
  if
  :: MUTANT != KEEPS_WAKING -> AT(wait_over, waking = 0)
  :: else
  fi;
  AT(wait_leaves, waiters--; stale = stale | (1 << me))
}

proctype putter(byte me) {
  byte cell = NONE, i, base, count, wcell, gone, n, mine;
  bit ok, waited;
  /* One comes late, and may be heir to a cell. */
#ifdef FUTEX
  cell = me;
#else
  if
  :: me == PUTTERS - 1 -> PART { open_cell() }
  :: else -> cell = me
  fi;
#endif
  do
  :: mine < TO_PUT ->
    waited = 0;
    do
    :: true ->
      try_take();
      if
      :: ok -> ok = 0; break
      :: else
      fi;
      wait_for_slot()
    od;
    if
    :: waited && MUTANT != PASSES_NO_WAKE && !FULL -> slots_freed()
    :: else
    fi;
    waited = 0;
    /* The item goes its way. */
    AT(written_sent, sent[cell]++; ready++; really_held[me]--; mine++)
  :: else -> break
  od;
  /* It ends by its own will: its account is settled as it closes. */
  PART {
    LOCK(LEDGER, repair_ledger());
    AT(close_state, used[cell] = 0);
    AT(close_life, life[cell] = 0; cell = NONE);
    UNLOCK(LEDGER)
  };
  atomic { putters_left--; gone = 0; mine = 0 };
  DEATH;
dead:
  skip
}

proctype getter(byte me) {
  byte cell = NONE, i, base, count, wcell, gone, n, mine;
  bit ok;
  do
  :: atomic {
       ready > 0 && WANTED -> ready--;
       if
       :: CAN_DIE ->
         /* It died with the item: `taken` follows from the offset (transport.pml). */
         taken++; got++;
         DIE
       :: true
       fi;
       SAY(consume_taken);
       taken++;
       got++
     };
     slots_freed()
  :: atomic { (putters_left == 0 && ready == 0) || !WANTED -> getters_left--; break }
  :: atomic { CAN_DIE -> DIE }
  od;
  DEATH;
dead:
  skip
}

init {
  byte me = PUTTERS + GETTERS;
  byte cell = NONE, i, base, count, wcell, gone, n, mine;
  bit ok;
  atomic {
    for (i : 0 .. LATE - 1) { used[i] = 1; life[i] = i + 1 };
    for (i : 0 .. PUTTERS - 1) { run putter(i) };
    for (i : 0 .. GETTERS - 1) { run getter(PUTTERS + i) };
    i = 0
  };
  /* All are gone; whoever comes next finds all slots free. */
  atomic {
    putters_left == 0 && getters_left == 0;
    crashes = CRASHES;
    got = got + ready; taken = taken + ready; ready = 0
  };
  LOCK(LEDGER, repair_ledger());
  reap_locked(1);
  UNLOCK(LEDGER);
  assert(word_count == really_taken_slots);
  assert(really_taken_slots == got + lost);
  assert(word_count == GONE);
  assert(accepted[0] + accepted[1]
#if CELLS > 2
         + accepted[2]
#endif
         == word_count);
  DEATH;
dead:
  skip
}
