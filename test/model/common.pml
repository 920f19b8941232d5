/* What the models share: steps, death, and a lock that survives its owner. See README.md.
 *
 * AT(step, statements) is one step of the C code, which has the comment `model: step` there.
 * Before each the process may die. In a trail the step is printed with who takes it.
 *
 * PART begins what runs without a switch to another process, except where it blocks. It spans
 * steps of which at most one is seen by processes without the lock in question. With -DFINE
 * there are no parts: processes switch between any two steps.
 *
 * A model defines die(): what the kernel does to the process `me`, once, in
 * DEATH; and DOOMED, what CAN_DIE must know of it at once. */
#ifndef CRASHES
#  define CRASHES 2
#endif
#ifndef MUTANT
#  define MUTANT 0
#endif

#ifdef FINE
#  define PART
#else
#  define PART atomic
#endif

byte crashes;

#ifndef CAN_DIE
#  define CAN_DIE (crashes < CRASHES)
#endif
#define DIE                                                                               \
  crashes++;                                                                             \
  DOOMED;                                                                                \
  goto dying
/* At the end of each process. */
#define DEATH                                                                             \
  goto dead;                                                                             \
dying:                                                                                   \
  atomic {                                                                               \
    printf("\n%d dies", me);                                                             \
    die()                                                                                \
  }
#define SAY(step)                                                                         \
  printf("\n%d ", me);                                                                   \
  printf(#step)
#define AT(step, ...)                                                                     \
  atomic {                                                                               \
    if                                                                                   \
    :: CAN_DIE -> DIE                                                                    \
    :: true                                                                              \
    fi;                                                                                  \
    d_step {                                                                             \
      SAY(step);                                                                         \
      __VA_ARGS__                                                                        \
    }                                                                                    \
  }

/* A robust mutex: who owns it, plus 1, and whether an owner died and nobody has said that it is
 * consistent since. That a waiter gets it once it is free is for lock.pml. */
#define LOCKS(n) byte owner[n]; bit inconsistent[n]

#define LOCK(l, repair)                                                                   \
  atomic {                                                                               \
    if                                                                                   \
    :: owner[l] == 0 ->                                                                  \
      owner[l] = me + 1                                                                  \
    :: CAN_DIE -> DIE                                                                    \
    fi                                                                                   \
  };                                                                                     \
  if                                                                                     \
  :: inconsistent[l] ->                                                                  \
    if                                                                                   \
    :: MUTANT != CONSISTENT_WITHOUT_REPAIR -> repair                                     \
    :: else                                                                              \
    fi;                                                                                  \
    AT(lock_consistent, inconsistent[l] = 0)                                             \
  :: else                                                                                \
  fi

#define UNLOCK(l)                                                                         \
  AT(lock_release, assert(!inconsistent[l]); owner[l] = 0)

/* The kernel's part in the death of an owner. */
#define LET_GO(l)                                                                         \
  if                                                                                     \
  :: owner[l] == me + 1 ->                                                               \
    owner[l] = 0;                                                                        \
    inconsistent[l] = 1                                                                  \
  :: else                                                                                \
  fi
