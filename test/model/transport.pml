/* Packets, the two locks of the pipe, the packet read ahead, the ledger and its recovery:
 * src/pipe/channel_read.c, channel_write.c, channel_verdict.c, reap.c, spill.c, ledger.c, slots.c.
 *
 * Producers put ITEMS each into an outbox of one packet of two frames, and send. Consumers get
 * and, with -DJOINABLE, say task_done. With -DLARGE the first producer's items are messages of
 * two packets each. Who waits sees what there is to see: that it is woken is for sleep.pml and
 * slots.pml. A joiner that nobody kills ends it: after it nothing may be missing. */
#ifndef PRODUCERS
#  define PRODUCERS 3
#endif
#ifndef CONSUMERS
#  define CONSUMERS 2
#endif
#ifndef ITEMS
#  define ITEMS 2 /* of each producer */
#endif
#ifndef MAXSIZE
#  define MAXSIZE 3
#endif
#ifndef PIPE
#  define PIPE 2 /* packets that it holds */
#endif
#define FRAMES 2 /* of a packet, at most */

#define CONSISTENT_WITHOUT_REPAIR 1
#define OFFSET_BEFORE_BASE 2
#define WRITTEN_LATE 3
#define NUMBER_AFTER_WRITE 4
#define REPAIR_TRUSTS 5
#define SENT_NOT_SETTLED 6
#define LEVEL_UNLOCKED 7
#define GOT_BEFORE_TAKE 8
#define FRAGMENTS_UNLOCKED 9
#define NO_WIPE 10
#define SUM_BEFORE_PART 11

/* One consumer lives, and who joins. */
#define CAN_DIE                                                                           \
  (crashes < CRASHES && me != JOINER && (me < PRODUCERS || consumers_left > 1))
#define DOOMED consumers_left = consumers_left - (me >= PRODUCERS && me < JOINER)
#include "common.pml"

#define JOINER (PRODUCERS + CONSUMERS)
#ifdef JOINABLE
#  define CELLS (PRODUCERS + CONSUMERS)
#else
#  define CELLS PRODUCERS
#endif
#define NONE 255

LOCKS(3)
#define WRITE 0
#define READ 1
#define LEDGER 2

/* ---- the shared memory ---- */

byte write_seq;

bit loading;
byte offset; /* 0: none; 1: at the first frame */
byte base, read_seq, read_wire, wire_base;
byte taker, take_base, take_items, take_offset;
#define DROPPED 254

/* The packet read ahead. `whose` and `first` are its payload. */
bit magic, tail;
byte p_cell, p_seq, p_frames, p_kind, p_whose, p_first;
#define WHOLE 0
#define FIRST 1
#define LAST 2
#define MESSAGES(kind, frames) (kind == FIRST -> 0 : frames)
#define SIZE(frames) (frames + 1)

byte accepted[CELLS], sent[CELLS], sent_wire[CELLS];
byte pending_sent[CELLS], pending_wire[CELLS], pending_seq[CELLS], written_seq[CELLS];
byte arrived_seq[CELLS], got[CELLS], returned[CELLS], done[CELLS], abandoned[CELLS];
byte state[CELLS], owners[CELLS], cells_used;
#define FREE 0
#define USED 1
#define DEAD 2
byte taken, dropped, returned_sum, done_sum, abandoned_sum;

/* A part of a large message that a reader left: the cell, plus 1, what, and its last number. */
byte kept_cell, kept_whose, kept_item, kept_have, kept_seq;

/* ---- the kernel ---- */

chan pipe = [PIPE] of { byte, byte, byte, byte, byte, byte };
byte level;
#define SOME (len(pipe) > 0)
#define SPACE (len(pipe) < PIPE)
byte life[CELLS];

/* ---- what really is ---- */

byte producers_left = PRODUCERS, consumers_left = CONSUMERS;
byte putting = PRODUCERS;
bit died[PRODUCERS + CONSUMERS + 1];
byte next_item[PRODUCERS]; /* the one that must come next */
byte really_taken;

#if PRODUCERS == 2 && !defined(JOINABLE)
#  define SUM(f) (f(0) + f(1))
#  define ANY(f) (f(0) || f(1))
#elif !defined(JOINABLE)
#  define SUM(f) (f(0) + f(1) + f(2))
#  define ANY(f) (f(0) || f(1) || f(2))
#elif PRODUCERS + CONSUMERS == 4
#  define SUM(f) (f(0) + f(1) + f(2) + f(3))
#  define ANY(f) (f(0) || f(1) || f(2) || f(3))
#else
#  define SUM(f) (f(0) + f(1) + f(2) + f(3) + f(4))
#  define ANY(f) (f(0) || f(1) || f(2) || f(3) || f(4))
#endif

#define ACCEPTED_OF(c) accepted[c]
#define SENT_WIRE_OF(c) sent_wire[c]
#define PENDING_OF(c) (pending_seq[c] != 0 -> pending_wire[c] - sent_wire[c] : 0)
#define EXPECTED (SUM(SENT_WIRE_OF) - read_wire)
#define ACCEPTED (SUM(ACCEPTED_OF))
#define ROOM (ACCEPTED - taken - returned_sum < MAXSIZE)
#define UNFINISHED (ACCEPTED - returned_sum - done_sum - abandoned_sum - dropped)
#define HELD(c) (accepted[c] - sent[c] - returned[c])
#define AT_WORK(c)                                                                        \
  (got[c] > done[c] + abandoned[c] -> got[c] - done[c] - abandoned[c] : 0)
#define HAS_ACCOUNT(c) (HELD(c) > 0 || AT_WORK(c) > 0 || state[c] == DEAD)

/* The verdict: see judge. */
#define JUDGED_IN(c) (arrived_seq[c] >= pending_seq[c])
#define JUDGED_OUT(c, l) (read_seq > pending_seq[c] || l == 0 || l == EXPECTED)
#define JUDGED(c)                                                                         \
  (JUDGED_IN(c) || JUDGED_OUT(c, level) || level == EXPECTED + SUM(PENDING_OF))

/* Whether a look would help. */
#define OWES(c)                                                                           \
  (c < cells_used && state[c] != FREE && life[c] == 0 && HAS_ACCOUNT(c) &&                 \
   (state[c] == USED || pending_seq[c] == 0 || written_seq[c] == pending_seq[c] ||         \
    inconsistent[READ] || JUDGED(c)))
#define DEBTS (inconsistent[LEDGER] || ANY(OWES))

#define HAS_UNREAD (offset != 0 && offset < 1 + p_frames)
#define READABLE (HAS_UNREAD || SOME || inconsistent[READ])
#define TRUSTS (MUTANT == REPAIR_TRUSTS || MUTANT == NO_WIPE)
#define ACCEPTABLE                                                                        \
  (magic && tail && (TRUSTS || (p_seq > read_seq && p_seq <= write_seq)))

inline clear_locals() {
  cell = NONE; i = 0; n = 0; seq = 0; frames = 0; mine = 0; outbox = 0; r = 0; kind = 0;
  a_active = 0; a_cell = 0; a_owner = 0; a_whose = 0; a_item = 0; a_have = 0;
  in_hand = 0; settled = 0; gave_up = 0
}

inline die() {
  LET_GO(WRITE);
  LET_GO(READ);
  LET_GO(LEDGER);
  died[me] = 1;
  if
  :: cell != NONE && life[cell] == me + 1 -> life[cell] = 0
  :: else
  fi;
  if
  :: me < PRODUCERS ->
    producers_left--;
    putting = putting - (mine < ITEMS)
  :: else
  fi;
  clear_locals()
}

#define LOCALS                                                                            \
  byte cell = NONE, i, n, seq, frames, mine, outbox, kind;                                \
  byte a_cell, a_owner, a_whose, a_item, a_have;                                          \
  bit a_active, in_hand, settled, gave_up;                                                \
  byte r

#ifdef LARGE
#  define LARGE_OF(who) (who == 0)
#else
#  define LARGE_OF(who) false
#endif

/* ---- writing ---- */

/* r: 0 if it is in the pipe, 1 if that is full. */
inline write_packet(first_) {
  if
  :: MUTANT != NUMBER_AFTER_WRITE -> AT(write_seq, seq = write_seq + 1; write_seq = seq)
  :: else -> seq = write_seq + 1
  fi;
  AT(write_pending_sent, pending_sent[cell] = sent[cell] + MESSAGES(kind, frames));
  AT(write_pending_wire, pending_wire[cell] = sent_wire[cell] + SIZE(frames));
  AT(write_pending_seq, pending_seq[cell] = seq);
  if
  :: MUTANT == WRITTEN_LATE -> AT(written_sent, sent[cell] = pending_sent[cell])
  :: else
  fi;
  AT(write_pipe,
     if
     :: SPACE ->
       pipe!cell, seq, frames, kind, me, first_;
       level = level + SIZE(frames);
       r = 0
     :: else -> r = 1
     fi);
  if
  :: r == 0 ->
    AT(written_seq, written_seq[cell] = seq);
    AT(written_sent, sent[cell] = pending_sent[cell]);
    AT(written_wire, sent_wire[cell] = pending_wire[cell])
  :: else
  fi;
  if
  :: MUTANT == NUMBER_AFTER_WRITE -> AT(write_seq, write_seq = seq)
  :: else
  fi;
  AT(write_over, pending_seq[cell] = 0; seq = 0)
}

/* ---- the packet read ahead ---- */

inline accept_packet() {
  if
  :: MUTANT != OFFSET_BEFORE_BASE -> AT(accept_base, base = taken)
  :: else
  fi;
  AT(accept_arrived, arrived_seq[p_cell] = p_seq);
  AT(accept_offset, offset = 1);
  if
  :: MUTANT == OFFSET_BEFORE_BASE -> AT(accept_base, base = taken)
  :: else
  fi;
  AT(accept_read_seq, read_seq = p_seq);
  AT(accept_read_wire, read_wire = wire_base + SIZE(p_frames));
  AT(accept_loading, loading = 0)
}

inline repair_read() {
  if
  :: taker != 0 ->
    AT(repair_got,
       n = take_base + (offset != take_offset -> take_items : 0);
       if
       :: taker == DROPPED -> dropped = n
       :: else -> got[taker - 1] = n
       fi;
       n = 0);
    AT(repair_taker, taker = 0)
  :: else
  fi;
  if
  :: offset == 0 ->
    if
    :: loading && ACCEPTABLE -> accept_packet()
    :: else
    fi;
    AT(repair_nothing, loading = 0)
  :: else ->
    AT(repair_read_seq, read_seq = p_seq);
    AT(repair_read_wire, read_wire = wire_base + SIZE(p_frames));
    AT(repair_taken, taken = base + (p_kind == FIRST -> 0 : offset - 1));
    AT(repair_loading, loading = 0)
  fi
}

/* r: 0, or 1 if there is none. */
inline load_packet() {
  AT(load_offset, offset = 0);
  AT(load_wire_base, wire_base = read_wire);
  if
  :: MUTANT != NO_WIPE -> AT(load_wiped, magic = 0)
  :: else
  fi;
  AT(load_loading, loading = 1);
  atomic {
    if
    /* Killed in the middle of the kernel's copy: the beginning of it is there, or all but
     * the last; the packet is in the pipe still. */
    :: CAN_DIE && SOME ->
      pipe?<p_cell, p_seq, p_frames, p_kind, p_whose, p_first>;
      magic = 1;
      tail = 0;
      DIE
#ifdef COPIED_AND_LEFT
    :: CAN_DIE && SOME ->
      pipe?<p_cell, p_seq, p_frames, p_kind, p_whose, p_first>;
      magic = 1;
      tail = 1;
      DIE
#endif
    :: CAN_DIE -> DIE
    :: true
    fi;
    SAY(load_read);
    if
    :: SOME ->
      pipe?p_cell, p_seq, p_frames, p_kind, p_whose, p_first;
      magic = 1;
      tail = 1;
      level = level - SIZE(p_frames);
      r = 0
    :: else -> r = 1
    fi
  };
  if
  :: r == 0 && ACCEPTABLE -> accept_packet()
  :: else ->
    AT(load_nothing, loading = 0);
#ifndef COPIED_AND_LEFT
    assert(r == 1);
#endif
    r = 1
  fi
}

/* One frame of the current packet goes to a taker: cell + 1, DROPPED, or 0. */
inline consume_for(who) {
  n = MESSAGES(p_kind, 1);
#ifdef JOINABLE
  if
  :: n > 0 ->
    AT(take_base, take_base = (who == DROPPED -> dropped : got[who - 1]));
    AT(take_items, take_items = n);
    AT(take_offset, take_offset = offset);
    AT(take_taker, taker = who)
  :: else
  fi;
  if
  :: n > 0 && MUTANT == GOT_BEFORE_TAKE && who != DROPPED ->
    AT(take_got, got[who - 1] = take_base + n; taker = 0)
  :: else
  fi;
#endif
  AT(consume_offset, offset++; really_taken = really_taken + n; note_consumed());
  if
  :: n > 0 -> AT(consume_taken, taken = taken + n)
  :: else
  fi;
#ifdef JOINABLE
  if
  :: n > 0 && taker != 0 ->
    AT(take_got,
       if
       :: who == DROPPED -> dropped = take_base + n
       :: else -> got[who - 1] = take_base + n
       fi);
    AT(take_noted, taker = 0)
  :: else
  fi;
#endif
  n = 0
}

/* What comes of a producer comes in order, and all of it. */
inline note_consumed() {
  if
  :: p_kind == FIRST
  :: else ->
    assert(next_item[p_whose] == p_first + offset - 2);
    next_item[p_whose]++
  fi
}

#ifdef JOINABLE
#  define TAKER (cell + 1)
#else
#  define TAKER 0
#endif

/* ---- receiving ---- */

inline drop_torn() {
  a_active = 0;
  if
  :: kept_cell != 0 -> AT(spill_drop, kept_cell = 0; kept_have = 0; kept_seq = 0)
  :: else
  fi
}

inline leave() {
  if
  :: a_active && a_have > 0 ->
    AT(spill_mark, kept_whose = a_whose; kept_item = a_item; kept_have = a_have;
       kept_seq = p_seq);
    AT(spill_cell, kept_cell = a_cell + 1)
  :: else
  fi;
  a_active = 0
}

/* The rest of a message was waited for in vain, or came (r: 0). */
inline wait_for_rest() {
  if
  :: SOME -> r = 0
  :: !SOME ->
    if
    :: life[a_cell] != 0 && owners[a_cell] == a_owner -> leave(); r = 1
    :: else ->
      if
      :: SOME -> r = 0
      :: !SOME -> drop_torn(); r = 1
      fi
    fi
  fi
}

/* A message is whole only if both of its pieces came from it. */
inline check_whole(from, item, have) {
  assert(from == p_whose && item == p_first && have == 1)
}

/* A message that has lost its beginning: only a death does that. */
inline drop_frame() {
  assert(crashes > 0);
  consume_for(DROPPED)
}

/* The fragment that is the current packet. r: 2 if it ended a message. */
inline take_fragment() {
  if
  :: p_kind == FIRST ->
    drop_torn();
    a_active = 1; a_cell = p_cell; a_owner = owners[p_cell]; a_have = 0;
    a_whose = p_whose; a_item = p_first;
    consume_for(TAKER);
    a_have = 1
  :: p_kind == LAST && !a_active && kept_cell != 0 ->
    if
    :: kept_seq == p_seq || kept_cell == p_cell + 1 ->
      if
      :: kept_seq != p_seq ->
        check_whole(kept_whose, kept_item, kept_have);
        AT(spill_append, kept_have++; kept_seq = p_seq)
      :: else
      fi;
      consume_for(TAKER);
      AT(spill_drop, kept_cell = 0; kept_have = 0; kept_seq = 0);
      r = 2
    :: else ->
      drop_torn();
      drop_frame()
    fi
  :: p_kind == LAST && a_active && a_cell == p_cell ->
    check_whole(a_whose, a_item, a_have);
    consume_for(TAKER);
    a_active = 0; a_have = 0;
    r = 2
  :: else ->
    drop_torn();
    drop_frame()
  fi
}

#define NO_LOCK 3

/* r: 2 if a message was received, 1 if none is there. Each turn has one step that those see who
 * have not the read lock, and who waits for it is as good as who has not begun. */
inline receive_message() {
  r = NO_LOCK;
  do
  :: r == NO_LOCK && owner[READ] == 0 && inconsistent[READ] ->
    PART {
      LOCK(READ, repair_read());
      r = 0
    }
  :: r == 0 || (r == NO_LOCK && owner[READ] == 0 && !inconsistent[READ]) ->
    PART {
      if
      :: r == NO_LOCK -> LOCK(READ, repair_read()); r = 0
      :: else
      fi;
      if
      :: !HAS_UNREAD ->
        load_packet();
        if
        :: r == 1 && a_active -> wait_for_rest()
        :: else
        fi
      :: else ->
        if
        :: p_kind != WHOLE -> take_fragment()
        :: else ->
          drop_torn();
          consume_for(TAKER);
          r = 2
        fi
      fi;
      if
      :: r != 0 ->
        a_active = 0; a_cell = 0; a_owner = 0; a_whose = 0; a_item = 0; a_have = 0;
        UNLOCK(READ)
      :: else
      fi
    }
  :: atomic { r == NO_LOCK && CAN_DIE -> DIE }
  :: r == 1 || r == 2 -> break
  od
}

/* ---- the ledger ---- */

#define RETURNED_OF(c) returned[c]
#define DONE_OF(c) done[c]
#define ABANDONED_OF(c) abandoned[c]

inline repair_ledger() {
  AT(repair_returned, returned_sum = SUM(RETURNED_OF));
  AT(repair_done, done_sum = SUM(DONE_OF));
  AT(repair_abandoned, abandoned_sum = SUM(ABANDONED_OF))
}

inline lock_ledger() {
  LOCK(LEDGER, repair_ledger())
}

/* r: 0 out, 1 in, 2 not known. */
/* A level that was read without the locks is an old one. */
#define LEVEL (MUTANT == LEVEL_UNLOCKED && !in_hand -> seq : level)

inline judge() {
  r = (JUDGED_IN(i) -> 1 :
       (JUDGED_OUT(i, LEVEL) -> 0 : (LEVEL == EXPECTED + SUM(PENDING_OF) -> 1 : 2)))
}

/* Under the ledger's lock the pipe's are tried only, or in hand already (`in_hand`). A try may
 * fail at any time: that somebody has the lock for one step cannot be seen in the model. */
inline arrived() {
  if
  :: written_seq[i] == pending_seq[i] -> r = 1
  :: written_seq[i] != pending_seq[i] && in_hand -> judge()
  :: else ->
    r = 2;
    if
    :: true
    :: owner[WRITE] == 0 ->
      LOCK(WRITE, skip);
      if
      :: owner[READ] == 0 ->
        LOCK(READ, repair_read());
        judge();
        UNLOCK(READ)
      :: else
      fi;
      UNLOCK(WRITE)
    fi
  fi
}

/* settled: what a dead owner of the read lock had taken is counted. */
inline settle_reads() {
  settled = in_hand;
  if
  :: !in_hand && owner[READ] == 0 ->
    LOCK(READ, repair_read());
    UNLOCK(READ);
    settled = 1
  :: true
  fi
}

inline settle() {
  PART {
    settle_reads();
    r = 0;
    if
    :: pending_seq[i] != 0 ->
      arrived();
      if
      :: r == 1 ->
        if
        :: MUTANT != SENT_NOT_SETTLED ->
          AT(settle_sent, sent[i] = pending_sent[i])
        :: else
        fi;
        AT(settle_wire, sent_wire[i] = pending_wire[i])
      :: else
      fi;
      if
      :: r < 2 -> AT(settle_pending, pending_seq[i] = 0)
      :: else
      fi
    :: else
    fi;
    n = HELD(i) - (r == 2 -> pending_sent[i] - sent[i] : 0);
    if
    :: n > 0 ->
      if
      :: MUTANT != SUM_BEFORE_PART ->
        AT(add_part, returned[i] = returned[i] + n);
        AT(add_sum, returned_sum = returned_sum + n)
      :: else ->
        AT(add_sum, returned_sum = returned_sum + n);
        AT(settle_state, state[i] = FREE);
        AT(add_part, returned[i] = returned[i] + n)
      fi
    :: else
    fi;
    n = 0
  };
#ifdef JOINABLE
  PART {
    if
    :: settled -> abandon(i)
    :: else
    fi
  };
#endif
  AT(settle_state, state[i] = (r < 2 && settled -> FREE : DEAD); r = 0; settled = 0)
}

inline abandon(c) {
  n = (AT_WORK(c) < UNFINISHED -> AT_WORK(c) : UNFINISHED);
  if
  :: n > 0 ->
    AT(add_part, abandoned[c] = abandoned[c] + n);
    AT(add_sum, abandoned_sum = abandoned_sum + n)
  :: else
  fi;
  AT(abandon_got, got[c] = done[c] + abandoned[c]; n = 0)
}

inline reap_locked(all) {
  i = 0;
  do
  :: i < cells_used ->
    if
    :: state[i] != FREE && life[i] == 0 && (all || HAS_ACCOUNT(i)) -> settle()
    :: else
    fi;
    i++
  :: else -> break
  od;
  i = 0
}

#define IS_DEAD(c) (state[c] == DEAD)

/* What is left in doubt is settled with the pipe's locks in hand, for which it waits. */
inline reap_in_doubt() {
  if
  :: ANY(IS_DEAD) ->
    PART { LOCK(WRITE, skip) };
    PART { LOCK(READ, repair_read()) };
    PART {
      lock_ledger();
      in_hand = 1;
      reap_locked(0);
      in_hand = 0;
      UNLOCK(LEDGER);
      UNLOCK(READ);
      UNLOCK(WRITE)
    }
  :: else
  fi
}

inline reap() {
  PART {
    settle_reads();
    settled = 0;
    seq = (MUTANT == LEVEL_UNLOCKED -> level : 0)
  };
  PART {
    lock_ledger();
    reap_locked(0);
    UNLOCK(LEDGER)
  };
  reap_in_doubt()
}

inline open_cell() {
  PART {
    lock_ledger();
    reap_locked(1)
  };
  PART {
    do
    :: i < CELLS && state[i] != FREE -> i++
    :: else -> break
    od;
    assert(i < CELLS);
    AT(claim_life, cell = i; life[i] = me + 1);
    AT(claim_owners, owners[i]++);
    AT(claim_used, state[i] = USED);
    if
    :: i >= cells_used -> AT(claim_cells_used, cells_used = i + 1)
    :: else
    fi;
    i = 0;
    UNLOCK(LEDGER)
  }
}

inline close_cell() {
  PART {
    lock_ledger();
    assert(HELD(cell) == 0);
    AT(close_state, state[cell] = FREE);
    AT(close_life, life[cell] = 0; cell = NONE);
    UNLOCK(LEDGER)
  }
}

/* ---- the processes ---- */

inline sent_one() {
  if
  :: r == 0 -> outbox = outbox - (kind == WHOLE -> frames : 1); gave_up = 0
  :: else
  fi;
  r = 0; frames = 0; kind = 0; seq = 0;
  UNLOCK(WRITE)
}

inline send_one() {
  PART {
    kind = (LARGE_OF(me) -> FIRST : WHOLE);
    frames = (LARGE_OF(me) -> 1 : outbox);
    LOCK(WRITE, skip);
    write_packet(mine - outbox);
    if
    :: r == 0 && kind == FIRST -> kind = LAST
    :: else -> kind = WHOLE; sent_one()
    fi
  };
  if
  :: kind == LAST ->
    PART {
      if
      :: MUTANT == FRAGMENTS_UNLOCKED -> UNLOCK(WRITE)
      :: else
      fi
    };
    do
    :: SPACE ->
      PART {
        if
        :: MUTANT == FRAGMENTS_UNLOCKED -> LOCK(WRITE, skip)
        :: else
        fi;
        write_packet(mine - outbox);
        if
        :: r == 0 -> sent_one(); break
        :: else
        fi
      }
    /* Rather than wait, it may send the whole message again later; once. */
    :: !SPACE && !gave_up && MUTANT != FRAGMENTS_UNLOCKED ->
      PART { gave_up = 1; r = 1; sent_one(); break }
    :: atomic { CAN_DIE -> DIE }
    od
  :: else
  fi
}

proctype producer(byte me) {
  LOCALS;
  /* One comes late, and may be heir to a cell. */
  if
  :: me == PRODUCERS - 1 -> open_cell()
  :: else -> cell = me
  fi;
  do
  :: atomic {
       mine < ITEMS && outbox < FRAMES && ROOM;
       AT(take_accepted, accepted[cell]++; mine++; outbox++;
          putting = putting - (mine == ITEMS))
     }
  :: mine < ITEMS && outbox < FRAMES && !ROOM && DEBTS ->
    reap()
  :: outbox > 0 && SPACE -> send_one()
  :: mine == ITEMS && outbox == 0 -> break
  :: atomic { CAN_DIE -> DIE }
  od;
  close_cell();
  atomic { producers_left--; clear_locals() };
  DEATH;
dead:
  skip
}

#define OVER (producers_left == 0 && !READABLE && owner[READ] == 0)

proctype consumer(byte me) {
  LOCALS;
#ifdef JOINABLE
  cell = me;
#endif
  do
  :: READABLE ->
    receive_message();
#ifdef JOINABLE
    if
    :: r == 2 ->
      PART {
        lock_ledger();
        assert(UNFINISHED > 0);
        AT(add_part, done[cell]++);
        AT(add_sum, done_sum++);
        UNLOCK(LEDGER)
      }
    :: else
    fi;
#endif
    r = 0
  :: OVER -> break
  :: atomic { CAN_DIE -> DIE }
  od;
  atomic { consumers_left--; clear_locals() };
  DEATH;
dead:
  skip
}

#ifdef JOINABLE
#  define ALL_DONE (UNFINISHED == 0)
#else
#  define ALL_DONE (ACCEPTED == taken + returned_sum)
#endif

init {
  byte me = JOINER;
  LOCALS;
  atomic {
    for (i : 0 .. CELLS - 1) {
      if
      :: i < PRODUCERS - 1 || i >= PRODUCERS ->
        state[i] = USED; owners[i] = 1; life[i] = i + 1; cells_used = i + 1
      :: else
      fi
    };
    for (i : 0 .. PRODUCERS - 1) { run producer(i) };
    for (i : 0 .. CONSUMERS - 1) { run consumer(PRODUCERS + i) };
    i = 0
  };
  /* It joins what has been put when all have put: only then can be said what must be done. */
  putting == 0;
  do
  :: ALL_DONE -> break
  :: DEBTS && !ALL_DONE -> reap()
  od;
  atomic {
    /* What survivors put has been got. */
    for (i : 0 .. PRODUCERS - 1) { assert(died[i] || next_item[i] == ITEMS) };
    i = 0;
    producers_left == 0 && consumers_left == 0
  };
  /* With all gone, whoever comes next finds the books in order. */
  do
  :: READABLE -> receive_message()
  :: else -> break
  od;
  lock_ledger();
  reap_locked(1);
  UNLOCK(LEDGER);
  reap_in_doubt();
  assert(taken == really_taken);
  assert(ACCEPTED == taken + returned_sum);
#ifdef JOINABLE
  assert(ALL_DONE);
#endif
  assert(level == 0 && EXPECTED == 0);
  DEATH;
dead:
  skip
}
