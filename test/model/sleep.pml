/* Who sleeps is woken: the turn, `asleep`, `loading` and `unread` as hints, the event
 * descriptor with `raised`, watchers, and a shutdown: src/pipe/channel_sleep.c, channel_read.c, and what
 * forkq_wait, a program's own loop and forkq_queue_shutdown do with it.
 *
 * Writers write packets of two messages. Getters get, and sleep. Readers get without waiting,
 * and so read ahead for others. Watchers are in forkq_wait and then get without waiting;
 * observers have a descriptor of the queue's in a loop of their own. All but writers may leave
 * whenever they are not waiting. One who shuts down may announce it, or come no further.
 *
 * Nobody looks by time, except after a shutdown was announced. So when nobody can take a step,
 * and somebody is still there, nothing may be left to get and no shutdown have happened. */
#ifndef WRITERS
#  define WRITERS 1
#endif
#ifndef GETTERS
#  define GETTERS 2
#endif
#ifndef READERS
#  define READERS 1
#endif
#ifndef WATCHERS
#  define WATCHERS 0
#endif
#ifndef OBSERVERS
#  define OBSERVERS 0
#endif
#ifndef SHUTTERS
#  define SHUTTERS 0
#endif
#ifndef PACKETS
#  define PACKETS 2 /* of each writer */
#endif
#define FRAMES 2 /* of each packet */

#define CONSISTENT_WITHOUT_REPAIR 1
#define EVENT_AFTER_READ 41
#define LOWERED_BEFORE_RAISED 42
#define NO_SECOND_LOOK 43
#define LOADING_AFTER_LOOK 44
#define LOOKS_BEFORE_ASLEEP 45
#define WATCHES_UNTOLD 46
#define NOT_LOWERED 47
#define NOT_ANNOUNCED 48
#define LOWERED_FOR_GOOD 49
#define LOWERED_WITH_UNREAD 50
#define POKED_WITHOUT_LOCK 51

#define CAN_DIE (crashes < CRASHES && !told_to_leave)
#define DOOMED skip
bit told_to_leave;
#include "common.pml"

LOCKS(2)
#define READ 0
#define TURN 1

/* ---- the shared memory ---- */

bit loading, raised, asleep, shutting, shutdown;
byte offset; /* 0: no packet; 1: at its first frame */
byte unread, watchers;
bit magic;   /* a packet lies there whole */

/* ---- the kernel ---- */

byte pipe; /* packets */
bit event; /* the descriptor is readable */

/* ---- what really is ---- */

byte writing = WRITERS; /* that have not ended */
byte here = GETTERS + WATCHERS + OBSERVERS;

#define HAS_UNREAD (offset != 0 && offset < 1 + FRAMES)
#define CAME_UNSEEN (inconsistent[READ] && offset == 0 && loading && magic)
#define SOMETHING (pipe > 0 || HAS_UNREAD || CAME_UNSEEN)
#define EXHAUSTED (shutdown && writing == 0 && !SOMETHING)

inline die() {
  LET_GO(READ);
  LET_GO(TURN);
  if
  :: me < WRITERS -> writing--
  :: me >= WRITERS && me < WRITERS + GETTERS + WATCHERS + OBSERVERS -> here--
  :: else
  fi;
  told = 0; saw = 0; r = 0; n = 0
}

#define LOCALS bit told, saw, r; byte n

/* ---- the packet read ahead ---- */

inline accept_packet() {
  PART {
    AT(accept_offset, offset = 1);
    AT(accept_unread, unread = FRAMES)
  };
  AT(accept_loading, loading = 0)
}

inline repair_read() {
  PART {
    AT(repair_raised,
       if
       :: MUTANT != LOWERED_BEFORE_RAISED -> raised = 0
       :: else
       fi);
    if
    :: offset == 0 ->
      if
      :: loading && magic ->
        AT(accept_offset, offset = 1);
        AT(accept_unread, unread = FRAMES)
      :: else
      fi
    :: else ->
      AT(repair_unread, unread = 1 + FRAMES - offset)
    fi
  };
  if
  :: offset == 0 -> AT(repair_nothing, loading = 0)
  :: else -> AT(repair_loading, loading = 0)
  fi
}

/* told: whether somebody who sleeps has to be told of a packet that is read. */
inline to_be_told() {
  AT(told_asleep, told = asleep);
  if
  :: !told -> AT(told_watchers, told = watchers > 0)
  :: else
  fi;
  told = told && !raised
}

inline raise_event() {
  AT(load_raise, event = 1);
  AT(load_raised, raised = 1)
}

/* r: whether a packet came. */
inline load_packet() {
  r = 1;
  to_be_told();
  if
  :: told -> AT(load_peek, r = pipe > 0)
  :: else
  fi;
  told = 0;
  if
  :: r ->
    PART {
      AT(load_offset, offset = 0);
      AT(load_wiped, magic = 0)
    };
    if
    :: MUTANT == LOADING_AFTER_LOOK -> to_be_told(); AT(load_loading, loading = 1)
    :: else -> AT(load_loading, loading = 1); to_be_told()
    fi;
    if
    :: told && MUTANT != EVENT_AFTER_READ -> raise_event()
    :: else
    fi;
    AT(load_read,
       if
       :: pipe > 0 -> pipe--; magic = 1
       :: else -> r = 0
       fi);
    if
    :: told && MUTANT == EVENT_AFTER_READ -> raise_event()
    :: else
    fi;
    told = 0;
    if
    :: r -> accept_packet()
    :: else -> AT(load_nothing, loading = 0)
    fi
  :: else
  fi
}

/* The order keeps the promise of `raised`: that the event is readable. Once a shutdown was
 * announced it stays raised. */
inline lower_event() {
  if
  :: MUTANT != LOWERED_BEFORE_RAISED -> AT(lower_raised, raised = 0)
  :: else
  fi;
  AT(lower_shutting, n = shutting && MUTANT != LOWERED_FOR_GOOD);
  if
  :: !n || MUTANT == POKED_WITHOUT_LOCK ->
    AT(lower_event, event = 0);
    AT(lower_again, event = event || (shutting && MUTANT != LOWERED_FOR_GOOD))
  :: else
  fi;
  n = 0;
  if
  :: MUTANT == LOWERED_BEFORE_RAISED -> AT(lower_raised, raised = 0)
  :: else
  fi
}

/* r: whether there was one. It is in no process's hands that die: see transport.pml. */
inline receive() {
  LOCK(READ, repair_read());
  r = 1;
  if
  :: !HAS_UNREAD -> load_packet()
  :: else
  fi;
  if
  :: r ->
    AT(consume_offset, offset++);
    AT(consume_unread, unread--)
  :: else ->
    told = saw || raised;
    if
    :: !told -> AT(receive_watchers, told = watchers > 0)
    :: else
    fi;
    if
    :: told && MUTANT != NOT_LOWERED -> told = 0; lower_event()
    :: else -> told = 0
    fi
  fi;
  UNLOCK(READ);
  saw = 0
}

/* ---- sleeping ---- */

inline repair_turn() {
  AT(repair_asleep, asleep = 0)
}

/* poll(2): `saw` is whether the event was raised. After a shutdown was announced it is on the
 * pipe alone and ends by itself; that is left out where it would find nothing. */
#define POLL(step)                                                                        \
  AT(poll_shutting, n = shutting);                                                       \
  atomic {                                                                               \
    if                                                                                   \
    :: CAN_DIE -> DIE                                                                    \
    :: !n && (pipe > 0 || event) -> saw = event                                          \
    :: n && (SOMETHING || EXHAUSTED) -> saw = 0                                          \
    :: told_to_leave -> saw = 0                                                          \
    fi;                                                                                  \
    n = 0;                                                                               \
    SAY(step)                                                                            \
  }

/* Owns the turn. */
inline watch() {
  if
  :: MUTANT == LOOKS_BEFORE_ASLEEP -> skip
  :: else -> AT(watch_asleep, asleep = 1)
  fi;
  AT(watch_loading, n = loading);
  if
  :: !n -> AT(watch_unread, n = unread)
  :: else
  fi;
  if
  :: MUTANT == LOOKS_BEFORE_ASLEEP -> AT(watch_asleep, asleep = 1)
  :: else
  fi;
  if
  :: n == 0 || MUTANT == NO_SECOND_LOOK -> POLL(watch_sleep)
  :: else -> n = 0
  fi;
  AT(watch_over, asleep = 0)
}

proctype getter(byte me) {
  LOCALS;
  do
  :: true ->
    /* Whether it looks first goes by a hint (`all_came`), which may say anything. */
    if
    :: receive()
    :: true
    fi;
    if
    :: !r && !EXHAUSTED ->
      LOCK(TURN, repair_turn());
      do
      :: watch();
        receive();
        if
        :: r || EXHAUSTED || told_to_leave -> break
        :: else
        fi
      od;
      UNLOCK(TURN)
    :: else
    fi;
    if
    :: !r -> break
    :: else -> r = 0
    fi
  :: true -> break
  od;
  atomic { here--; r = 0 };
  DEATH;
dead:
  skip
}

proctype reader(byte me) {
  LOCALS;
  do
  :: receive();
    if
    :: r -> r = 0
    :: else -> break
    fi
  :: true -> break
  od;
  DEATH;
dead:
  skip
}

/* ---- watching ---- */

inline watch_begin() {
  AT(begin_watchers, watchers++);
  if
  :: MUTANT != WATCHES_UNTOLD ->
    AT(begin_loading, n = loading);
    if
    :: !n -> AT(begin_unread, n = unread)
    :: else
    fi;
    if
    :: n -> AT(begin_raise, event = 1; n = 0)
    :: else
    fi
  :: else
  fi
}

/* r: whether there is something to get, or never will be. */
inline watch_look() {
  told = saw;
  if
  :: !told -> AT(look_loading, told = loading)
  :: else
  fi;
  if
  :: told ->
    told = 0;
    LOCK(READ, repair_read());
    if
    :: saw && (!HAS_UNREAD || MUTANT == LOWERED_WITH_UNREAD) -> lower_event()
    :: else
    fi;
    UNLOCK(READ)
  :: else
  fi;
  saw = 0;
  AT(look_unread, r = unread > 0);
  if
  :: !r -> AT(look_pipe, r = pipe > 0 || EXHAUSTED)
  :: else
  fi
}

proctype watcher(byte me) {
  LOCALS;
  do
  :: true ->
    watch_begin();
    do
    :: watch_look();
      if
      :: r || told_to_leave -> break
      :: else
      fi;
      POLL(wait_poll)
    od;
    AT(watch_end, watchers--);
    r = 0;
    receive();
    if
    :: EXHAUSTED || told_to_leave -> break
    :: else -> r = 0
    fi
  :: true -> break
  od;
  atomic { here--; r = 0 };
  DEATH;
dead:
  skip
}

/* It never stops watching. Pipe and event are one descriptor to it, which is readable for good
 * once a shutdown was announced: that it then looks in vain is left out. */
proctype observer(byte me) {
  LOCALS;
  watch_begin();
  do
  :: atomic {
       if
       :: CAN_DIE -> DIE
       :: (pipe > 0 || event) && (!shutting || SOMETHING || EXHAUSTED)
       :: told_to_leave
       fi
     };
    receive();
    r = 0;
    if
    :: EXHAUSTED || told_to_leave -> break
    :: else
    fi
  od;
  atomic { here--; r = 0 };
  DEATH;
dead:
  skip
}

/* ---- the others ---- */

proctype writer(byte me) {
  LOCALS;
  do
  :: n < PACKETS -> AT(write_pipe, pipe++; n++)
  :: n == PACKETS -> break
  od;
  atomic { writing--; n = 0 };
  DEATH;
dead:
  skip
}

proctype shutter(byte me) {
  LOCALS;
  if
  :: MUTANT != NOT_ANNOUNCED ->
    AT(shutdown_announce, shutting = 1);
    if
    :: MUTANT != POKED_WITHOUT_LOCK ->
      LOCK(READ, repair_read());
      AT(announce_poke, event = 1);
      UNLOCK(READ)
    :: else -> AT(announce_poke, event = 1)
    fi
  :: else
  fi;
  AT(shutdown_shut, shutdown = 1);
  if
  :: MUTANT == NOT_ANNOUNCED -> AT(shutdown_announce, shutting = 1)
  :: else
  fi;
  AT(shutdown_poke, event = 1);
  DEATH;
dead:
  skip
}

init {
  byte i;
  atomic {
    for (i : 0 .. WRITERS - 1) { run writer(i) };
    for (i : WRITERS .. WRITERS + GETTERS - 1) { run getter(i) };
#if WATCHERS > 0
    run watcher(WRITERS + GETTERS);
#endif
#if OBSERVERS > 0
    run observer(WRITERS + GETTERS + WATCHERS);
#endif
#if READERS > 0
    run reader(WRITERS + GETTERS + WATCHERS + OBSERVERS);
#endif
#if SHUTTERS > 0
    run shutter(WRITERS + GETTERS + WATCHERS + OBSERVERS + READERS);
#endif
    i = 0
  };
  /* Nobody can take a step. */
  timeout;
  assert(here == 0 || (!SOMETHING && !shutdown));
  told_to_leave = 1
}
