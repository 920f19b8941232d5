/* Tasks that are kept until they are done, so that they outlive the process that got them:
 * src/shared/kept.c, src/pipe/channel_kept.c, channel_read.c (repair_take), ledger.c (confirm, abandon).
 *
 * All items lie in the packet read ahead. Workers get them, a lost one before the next of the packet, and
 * say that they are done. Who finds nothing looks for the dead. A worker that nobody kills ends when all
 * is done. It waits only for what it can see, so whatever is lost for good leaves it there. */
#ifndef WORKERS
#  define WORKERS 2
#endif
#ifndef ITEMS
#  define ITEMS 2
#endif
#define ENTRIES ITEMS
#ifndef MOST
#  define MOST 1 /* tasks that a worker has at a time */
#endif

#define CONSISTENT_WITHOUT_REPAIR 90
#define KEPT_AFTER_TAKE 91
#define NOTE_ENDS_FIRST 92
#define REPAIR_KEEPS 93
#define CLEARED_BY_ENTRY 94
#define DONE_UNNOTED 95
#define LOOK_BEFORE_LOST 96
#define LOOK_CLEARED_LAST 97
#define REPAIR_LOOKS_NOT 98
#define LEDGER_LOOKS_NOT 99
#define HANDED_ON_UNNOTED 100
#define TRIMMED_UNLOCKED 101
#define TRIMMED_UNSAID 102

#define IMMORTAL (WORKERS - 1)
#define CAN_DIE (crashes < CRASHES && me != IMMORTAL)
#define DOOMED skip
#include "common.pml"

LOCKS(2)
#define READ 0
#define LEDGER 1

#define FREE 0
#define PREPARED 1
#define KEPT 2
#define LOST 3
#define NONE 255

/* ---- the shared memory ---- */

byte offset;   /* items that were taken from the packet */
byte numbers;
bit look;

byte state[ENTRIES], cell[ENTRIES], number[ENTRIES]; /* the first two are one word */
byte content[ENTRIES];                               /* an item */
bit medium[ENTRIES], backed[ENTRIES];                /* whether there is memory; and really */

byte got[WORKERS], done[WORKERS], done_sum;
byte taker, take_base, take_offset, take_kept; /* of a take in progress */
byte confirming, confirming_cell, done_number, done_base;

/* ---- what really is ---- */

bit died[WORKERS];
byte holder[ITEMS + 1]; /* who got it last, plus 1 */
bit said[ITEMS + 1], confirmed[ITEMS + 1];

inline die() {
  LET_GO(READ);
  LET_GO(LEDGER);
  died[me] = 1;
  n = 0; i = 0; k = 0
}

#define LOCALS byte n, i, k

#define OLDEST_LOST(found)                                                                \
  found = NONE;                                                                          \
  for (k : 0 .. ENTRIES - 1) {                                                           \
    if                                                                                   \
    :: state[k] == LOST && (found == NONE || number[k] < number[found]) -> found = k     \
    :: else                                                                              \
    fi                                                                                   \
  };                                                                                     \
  k = 0

/* ---- with the read lock ---- */

#define TOOK (taker != 0 && (take_kept != 0 -> state[take_kept - 1] != LOST : offset != take_offset))

inline repair_read() {
  n = TOOK;
  AT(repair_kept,
     for (k : 0 .. ENTRIES - 1) {
       if
       :: state[k] == PREPARED ->
         state[k] = ((n && take_kept == 0) || MUTANT == REPAIR_KEEPS -> KEPT : FREE)
       :: else
       fi
     };
     k = 0);
  if
  :: MUTANT != REPAIR_LOOKS_NOT -> AT(repair_kept_look, look = 1)
  :: else
  fi;
  if
  :: taker != 0 ->
    AT(repair_got, got[taker - 1] = take_base + n);
    AT(repair_taker, taker = 0)
  :: else
  fi;
  n = 0;
  AT(repair_take_kept, take_kept = 0)
}

inline note_take() {
  PART {
    AT(take_base, take_base = got[me]);
    AT(take_offset, take_offset = offset);
    AT(take_taker, taker = me + 1)
  }
}

inline count_take() {
  AT(take_got, got[me]++)
}

inline end_note() {
  AT(take_noted, taker = 0)
}

/* What a worker knows of its task. */
inline has_got(entry) {
  assert(holder[content[entry]] == 0 || died[holder[content[entry]] - 1]);
  assert(!confirmed[content[entry]]);
  holder[content[entry]] = me + 1;
  mine[tasks] = entry;
  mine_number[tasks] = number[entry];
  tasks++
}

inline write_bytes(next) {
  if
  :: !medium[i] ->
    AT(kept_reserve, backed[i] = 1);
    AT(kept_reserved, medium[i] = 1)
  :: else
  fi;
  AT(kept_bytes, assert(backed[i]); content[i] = next)
}

inline prepare(next) {
  i = 0;
  do
  :: state[i] != FREE -> i++
  :: else -> break
  od;
  write_bytes(next);
  AT(kept_number, numbers++; number[i] = numbers);
  AT(kept_prepared, state[i] = PREPARED; cell[i] = me)
}

inline consume() {
  AT(consume_offset, offset++)
}

inline keep() {
  AT(kept_taken, state[i] = KEPT)
}

inline take_next() {
  if
  :: MUTANT == KEPT_AFTER_TAKE ->
    note_take();
    consume();
    count_take();
    end_note();
    prepare(offset);
    keep()
  :: MUTANT == NOTE_ENDS_FIRST ->
    prepare(offset + 1);
    note_take();
    consume();
    count_take();
    end_note();
    keep()
  :: else ->
    prepare(offset + 1);
    note_take();
    consume();
    keep();
    count_take();
    end_note()
  fi;
  atomic { has_got(i); i = 0 }
}

/* i: the lost task that was got before the others. */
inline look_for_one() {
  if
  :: MUTANT == LOOK_CLEARED_LAST ->
    AT(look_oldest, OLDEST_LOST(i));
    if
    :: i == NONE -> AT(look_clear, look = 0)
    :: else
    fi
  :: else ->
    AT(look_oldest, OLDEST_LOST(i));
    if
    :: i == NONE ->
      AT(look_clear, look = 0);
      AT(look_oldest_again, OLDEST_LOST(i));
      if
      :: i != NONE -> AT(look_again, look = 1)
      :: else
      fi
    :: else
    fi
  fi
}

inline hand_on() {
  AT(hand_on_number, numbers++; number[i] = numbers);
  AT(hand_on_word, state[i] = KEPT; cell[i] = me)
}

/* n: whether there was one. */
inline take_lost() {
  look_for_one();
  n = 0;
  if
  :: i != NONE ->
    if
    :: MUTANT == HANDED_ON_UNNOTED -> hand_on()
    :: else
    fi;
    AT(take_kept, take_kept = i + 1);
    note_take();
    if
    :: MUTANT != HANDED_ON_UNNOTED -> hand_on()
    :: else
    fi;
    count_take();
    end_note();
    AT(take_kept_over, take_kept = 0);
    atomic { has_got(i); i = 0 };
    look_for_one();
    n = 1
  :: else
  fi;
  i = 0
}

/* Of free entries, of which there are no more meanwhile. */
inline trim() {
  for (i : 0 .. ENTRIES - 1) {
    if
    :: state[i] == FREE ->
      if
      :: MUTANT == TRIMMED_UNSAID ->
        AT(trim_release, backed[i] = 0; content[i] = 0);
        AT(trim_says, medium[i] = 0)
      :: else ->
        AT(trim_says, medium[i] = 0);
        AT(trim_release, backed[i] = 0; content[i] = 0)
      fi
    :: else
    fi
  };
  i = 0
}

/* ---- with the ledger's lock ---- */

inline finish_confirm() {
  if
  :: confirming != 0 ->
    AT(finish_done, done[confirming_cell] = done_base + 1);
    AT(finish_clear,
       k = confirming - 1;
       if
       :: state[k] == KEPT && (number[k] == done_number || MUTANT == CLEARED_BY_ENTRY) ->
         assert(said[content[k]]);
         assert(!confirmed[content[k]]);
         confirmed[content[k]] = 1;
         state[k] = FREE
       :: else
       fi;
       k = 0);
    AT(finish_over, confirming = 0)
  :: else
  fi
}

inline repair_ledger() {
  finish_confirm();
  if
  :: MUTANT != LEDGER_LOOKS_NOT -> AT(repair_lost_look, look = 1)
  :: else
  fi;
  AT(repair_done,
     done_sum = 0;
     for (k : 0 .. WORKERS - 1) {
       done_sum = done_sum + done[k]
     };
     k = 0)
}

/* The last of its tasks. What a worker has, it finds. */
inline do_task() {
  LOCK(LEDGER, repair_ledger());
  atomic {
    i = mine[tasks - 1];
    assert(state[i] == KEPT && number[i] == mine_number[tasks - 1] && cell[i] == me);
    said[content[i]] = 1
  };
  AT(confirm_base, done_base = done[cell[i]]);
  AT(confirm_number, done_number = number[i]);
  if
  :: MUTANT == DONE_UNNOTED ->
    AT(finish_done, done[cell[i]] = done_base + 1);
    AT(confirm_note, confirming = i + 1; confirming_cell = cell[i]);
    finish_confirm()
  :: else ->
    AT(confirm_note, confirming = i + 1; confirming_cell = cell[i]);
    finish_confirm()
  fi;
  AT(confirm_sum, done_sum++);
  tasks--;
  i = 0;
  UNLOCK(LEDGER)
}

inline lose(c) {
  for (i : 0 .. ENTRIES - 1) {
    if
    :: state[i] == KEPT && cell[i] == c ->
      if
      :: MUTANT == LOOK_BEFORE_LOST -> AT(lose_look, look = 1); AT(lose_word, state[i] = LOST)
      :: else -> AT(lose_word, state[i] = LOST); AT(lose_look, look = 1)
      fi
    :: else
    fi
  };
  i = 0
}

#define IS_OWED(c) (died[c] && got[c] > done[c])
#define ANY_OWED (IS_OWED(0) || (WORKERS > 2 && IS_OWED(WORKERS - 2)))

/* The owner of the ledger's lock only tries the read lock. */
inline reap() {
  LOCK(LEDGER, repair_ledger());
  for (c : 0 .. WORKERS - 2) {
    if
    :: IS_OWED(c) ->
      if
      :: owner[READ] == 0 ->
        LOCK(READ, repair_read());
        UNLOCK(READ);
        n = 1
      :: else -> n = 0
      fi;
      if
      :: n -> lose(c); AT(abandon_got, got[c] = done[c])
      :: else
      fi;
      n = 0
    :: else
    fi
  };
  c = 0;
  UNLOCK(LEDGER)
}

/* ---- workers ---- */

#define OVER (done_sum == ITEMS && !inconsistent[LEDGER])

inline get() {
  AT(get_look, n = look);
  if
  :: n ->
    LOCK(READ, repair_read());
    take_lost();
    UNLOCK(READ)
  :: else
  fi;
  if
  :: n -> n = 0
  :: else ->
    LOCK(READ, repair_read());
    if
    :: offset < ITEMS -> take_next()
    :: true -> trim()
    fi;
    UNLOCK(READ)
  fi
}

proctype worker(byte me) {
  LOCALS;
  byte c;
  byte tasks, mine[MOST], mine_number[MOST];
  do
  :: tasks < MOST && (look || offset < ITEMS || inconsistent[READ]) -> get()
  :: tasks > 0 -> do_task()
  :: tasks == 0 && (ANY_OWED || inconsistent[LEDGER]) -> reap()
  :: MUTANT == TRIMMED_UNLOCKED && offset < ITEMS -> trim()
  :: OVER -> break
  :: me != IMMORTAL && offset == ITEMS && tasks == 0 -> break
  od;
  if
  :: me == IMMORTAL ->
    atomic {
      for (k : 1 .. ITEMS) {
        assert(confirmed[k])
      };
      for (k : 0 .. ENTRIES - 1) {
        assert(state[k] == FREE)
      };
      n = 0;
      for (k : 0 .. WORKERS - 1) {
        n = n + done[k]
      };
      assert(n == ITEMS)
    }
  :: else
  fi;
  DEATH;
dead:
  skip
}

init {
  byte p;
  atomic {
    for (p : 0 .. WORKERS - 1) {
      run worker(p)
    }
  }
}
