/* Nobody reads what was written over: pieces in the arena of one cell, the references to them in the
 * pipe and in the packet read ahead, the holds of readers, and how an owner of the cell knows which
 * pieces are free again: src/feeder/sender_pieces.c, src/shared/arena.c, src/shared/hold.c,
 * forkq__channel_taken.
 *
 * The owners of the cell come one after the other, when the last one is dead or has left. Each packs
 * messages into pieces, some to a packet, or into the packet where no piece is free. Readers copy
 * under the read lock, or hold a piece until later. To pack and to copy takes time. A reader that finds nothing gives back the memory
 * of owners that are gone. */
#ifndef OWNERS
#  define OWNERS 2
#endif
#ifndef READERS
#  define READERS 2
#endif
#ifndef PACKETS
#  define PACKETS 2 /* of each owner */
#endif
#ifndef PIECES
#  define PIECES 2
#endif
#ifndef PIPE
#  define PIPE 2
#endif

#define CONSISTENT_WITHOUT_REPAIR 70
#define OFFSET_BEFORE_NUMBER 71
#define NO_FLOOR 72
#define FLOOR_REACHED 73
#define NUMBER_BEFORE_OFFSET 74
#define TAKEN_BEFORE_COPIED 75
#define FREE_WHEN_READ 76
#define SWEPT_UNLOOKED 77
#define TAKEN_UNLOOKED 78
#define SWEPT_UNMARKED 79
#define BEGINS_AT_ZERO 80
#define TAKEN_BEFORE_HELD 81
#define HOLDS_BEFORE_LINE 82
#define TAKEN_OVER_HELD 83
#define SWEPT_HELD 84
#define DEAD_FOR_STOPPED 85

#define DOOMED skip
#include "common.pml"

LOCKS(1)
#define READ 0

#define NONE 0 /* instead of a piece: the message is in the packet */
#define HALF 255

#ifndef FRAMES
#  define FRAMES 2 /* of each packet; or 1 */
#endif
typedef packet {
  byte seq;
  byte frames;
  byte piece[2];
  byte message[2];
};

/* ---- the shared memory ---- */

byte write_seq, read_seq;
byte offset; /* 0: no packet; 1: at its first frame; frames + 1: at its end */
bit loading, magic;
packet ahead;
byte content[PIECES + 1]; /* of the arena: a message, or HALF of one */

byte arena;   /* whose memory it may have, as a number from 1 on; 0: nobody's; or SWEPT */
byte owners;  /* the number of the last owner */
bit free = 1; /* it is gone, and its account settled */

byte holds[READERS]; /* a piece of the cell, which that reader holds; or NONE */

#define SWEPT 255

/* ---- the kernel ---- */

chan pipe = [PIPE] of { packet };

/* ---- what really is ---- */

byte past_owners;
bit gone[READERS];
byte last_message;

inline die() {
  LET_GO(READ);
  if
  :: me < OWNERS -> past_owners++; free = 1
  :: else -> gone[me - OWNERS] = 1
  fi;
  n = 0; i = 0
}

#define LOCALS byte n, i, k

/* n: whether a reader that lives holds a piece. */
inline look_at_holds() {
  AT(holds_living,
     n = 0;
     for (k : 0 .. READERS - 1) {
       if
       :: gone[k] || MUTANT == DEAD_FOR_STOPPED -> holds[k] = NONE
       :: else -> n = n || holds[k] != NONE
       fi
     };
     k = 0)
}

/* ---- readers ---- */

inline accept_packet() {
  if
  :: MUTANT == NUMBER_BEFORE_OFFSET ->
    AT(accept_read_seq, read_seq = ahead.seq);
    AT(accept_offset, offset = 1)
  :: else ->
    AT(accept_offset, offset = 1);
    AT(accept_read_seq, read_seq = ahead.seq)
  fi;
  AT(accept_loading, loading = 0)
}

inline repair_read() {
  if
  :: offset == 0 ->
    if
    :: loading && magic -> accept_packet()
    :: else
    fi;
    AT(repair_nothing, loading = 0)
  :: else ->
    AT(repair_read_seq, read_seq = ahead.seq);
    AT(repair_loading, loading = 0)
  fi
}

/* n: whether a packet came. */
inline load_packet() {
  PART {
    AT(load_offset, offset = 0);
    AT(load_wiped, magic = 0)
  };
  AT(load_loading, loading = 1);
  AT(load_read,
     n = nempty(pipe);
     if
     :: n -> pipe?ahead; magic = 1
     :: else
     fi);
  if
  :: n -> accept_packet()
  :: else -> AT(load_nothing, loading = 0)
  fi
}

/* The pipe was empty. */
inline sweep() {
  AT(sweep_look,
     i = arena;
     i = ((i == SWEPT || i != owners || free) -> i : 0));
  if
  :: i != 0 ->
    look_at_holds();
    if
    :: n && MUTANT != SWEPT_HELD -> n = 0
    :: else ->
      if
      :: MUTANT == SWEPT_UNLOOKED -> n = 1
      :: else -> AT(sweep_empty, n = empty(pipe))
      fi
    fi;
    if
    :: n ->
      AT(sweep_mark,
         n = (arena == i || MUTANT == SWEPT_UNMARKED);
         if
         :: n && MUTANT != SWEPT_UNMARKED -> arena = SWEPT
         :: else
         fi);
      if
      :: n ->
        AT(sweep_release, content[1] = 0; content[PIECES] = 0);
        AT(sweep_over, arena = 0)
      :: else
      fi
    :: else
    fi;
    n = 0
  :: else
  fi;
  i = 0
}

#define THERE (content[ahead.piece[i]] == ahead.message[i] || ahead.piece[i] == NONE)

inline copy() {
  AT(piece_copied, assert(THERE))
}

/* The piece, and what is in it, until the hold ends. */
inline hold() {
  held = ahead.piece[i];
  held_message = ahead.message[i];
  if
  :: MUTANT == TAKEN_BEFORE_HELD ->
    AT(consume_offset, offset++);
    AT(hold_begin, holds[me - OWNERS] = held)
  :: else ->
    AT(hold_begin, holds[me - OWNERS] = held);
    AT(consume_offset, offset++)
  fi
}

inline end_hold() {
  if
  :: held != NONE ->
    AT(hold_end,
       assert(content[held] == held_message);
       holds[me - OWNERS] = NONE;
       held = NONE;
       held_message = 0)
  :: else
  fi
}

/* What was copied at first is still there when the copy ends, which is before the message is taken. */
inline take() {
  i = offset - 1;
  if
  :: ahead.piece[i] != NONE -> hold()
  :: true ->
    if
    :: MUTANT == TAKEN_BEFORE_COPIED -> AT(consume_offset, offset++); copy()
    :: else -> copy(); AT(consume_offset, assert(THERE); offset++)
    fi
  fi;
  i = 0
}

proctype reader(byte me) {
  LOCALS;
  byte held = NONE, held_message;
  do
  :: LOCK(READ, repair_read());
    n = 1;
    if
    :: offset == 0 || offset > ahead.frames -> load_packet()
    :: else
    fi;
    if
    :: n -> take()
    :: else -> sweep()
    fi;
    n = 0;
    UNLOCK(READ);
    end_hold()
  :: true -> break
  od;
  DEATH;
dead:
  skip
}

/* ---- owners ---- */

/* n: up to where the packet with that number and so many frames was taken. */
inline taken(number, count) {
  if
  :: MUTANT == OFFSET_BEFORE_NUMBER -> AT(taken_offset, n = offset)
  :: else
  fi;
  AT(taken_read_seq, i = read_seq);
  if
  :: i > number || (i == number && MUTANT == FREE_WHEN_READ) -> n = count + 1
  :: i < number -> n = 1
  :: else ->
    if
    :: MUTANT != OFFSET_BEFORE_NUMBER -> AT(taken_offset, n = offset)
    :: else
    fi;
    if
    :: n == 0 || n > count + 1 -> n = count + 1
    :: else
    fi
  fi;
  i = 0
}

inline read_holds() {
  AT(holds_read,
     for (k : 0 .. READERS - 1) {
       seen[k] = holds[k]
     };
     k = 0)
}

/* A piece that was taken is free, or kept for who holds it. */
#define FREE_OR_KEPT(p)                                                                   \
  kept[p] = seen[0] == p || seen[READERS - 1] == p;                                      \
  used[p] = kept[p]

inline release_kept() {
  k = 1;
  do
  :: k <= PIECES ->
    if
    :: kept[k] -> FREE_OR_KEPT(k)
    :: else
    fi;
    k++
  :: else -> break
  od;
  k = 0
}

/* In the order of sending. */
inline collect() {
  if
  :: kept[1] || kept[PIECES] ->
    look_at_holds();
    read_holds();
    atomic { release_kept(); n = 0 }
  :: else
  fi;
  do
  :: sent > 0 ->
    if
    :: MUTANT == HOLDS_BEFORE_LINE -> read_holds()
    :: else
    fi;
    taken(lent[0].seq, lent[0].frames);
    if
    :: MUTANT != HOLDS_BEFORE_LINE -> read_holds()
    :: else
    fi;
    atomic {
      do
      :: collected < n ->
        k = lent[0].piece[collected - 1];
        FREE_OR_KEPT(k);
        k = 0;
        collected++
      :: else -> break
      od;
      n = 0;
      if
      :: collected == lent[0].frames + 1 ->
        lent[0].seq = lent[1].seq; lent[0].frames = lent[1].frames;
        lent[0].piece[0] = lent[1].piece[0]; lent[0].piece[1] = lent[1].piece[1];
        sent--;
        collected = 1
      :: else -> break
      fi
    }
  :: else -> break
  od
}

/* Packs message i of `next`. */
inline pack() {
  atomic {
    last_message++;
    next.message[i] = last_message;
    next.piece[i] = NONE;
    n = 1;
    do
    :: n <= PIECES && used[n] -> n++
    :: else -> break
    od
  };
  if
  :: open && n <= PIECES && sent < 2 ->
    used[n] = 1;
    next.piece[i] = n;
    AT(piece_packed, content[n] = HALF);
    content[n] = next.message[i]
  :: else
  fi;
  n = 0
}

/* A packet that finds no room is not sent, and its pieces are free at once. */
inline send() {
  AT(write_seq, write_seq++; next.seq = write_seq);
  AT(write_pipe,
     n = nfull(pipe);
     if
     :: n ->
       pipe!next;
       if
       :: next.piece[0] != NONE || next.piece[1] != NONE ->
         lent[sent].seq = next.seq; lent[sent].frames = next.frames;
         lent[sent].piece[0] = next.piece[0]; lent[sent].piece[1] = next.piece[1];
         sent++
       :: else
       fi
     :: else ->
       used[next.piece[0]] = 0;
       used[next.piece[1]] = 0
     fi;
     n = 0)
}

/* Only if no reader sweeps, or holds a piece. */
inline take_over() {
  look_at_holds();
  if
  :: n && MUTANT != TAKEN_OVER_HELD -> open = 0
  :: else ->
    AT(arena_look, i = arena);
    AT(arena_mine,
       open = (arena == i && i != SWEPT) || MUTANT == TAKEN_UNLOOKED;
       if
       :: open -> arena = me + 1
       :: else
       fi)
  fi;
  n = 0;
  i = 0
}

proctype producer(byte me) {
  LOCALS;
  packet next, lent[2];
  bit used[PIECES + 1], kept[PIECES + 1];
  byte seen[READERS];
  bit open;
  byte sent, collected = 1, packets, floor;
  atomic { past_owners == me; owners = me + 1; free = 0 };
  if
  :: me > 0 && MUTANT != NO_FLOOR ->
    AT(arena_floor, floor = write_seq);
    if
    :: MUTANT == BEGINS_AT_ZERO && floor == 0 -> arena = me + 1; open = 1
    :: else
    fi
  :: else -> arena = me + 1; open = 1
  fi;
  do
  :: packets < PACKETS ->
    packets++;
    collect();
    if
    :: !open ->
      AT(arena_passed,
         open = floor == 0 || read_seq > floor ||
                (MUTANT == FLOOR_REACHED && read_seq == floor));
      if
      :: open -> take_over()
      :: else
      fi
    :: else
    fi;
    i = 0;
    next.piece[1] = NONE;
    pack();
    next.frames = FRAMES;
    i = 1;
    do
    :: i < FRAMES -> pack(); i++
    :: else -> break
    od;
    i = 0;
    send()
  :: else -> break
  od;
  atomic { past_owners++; free = 1 };
  DEATH;
dead:
  skip
}

init {
  byte p;
  atomic {
    for (p : 0 .. OWNERS - 1) {
      run producer(p)
    }
    for (p : OWNERS .. OWNERS + READERS - 1) {
      run reader(p)
    }
  }
}
