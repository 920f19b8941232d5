/* A signal in the middle of a call, at a point that the test chooses: the process is traced, and
 * stepped so many instructions into its call. Its other threads run freely. */
#ifndef FORKQ_TEST_STEPPED_H
#define FORKQ_TEST_STEPPED_H

#include <sys/types.h>

/* What a child does, in turn: the signal comes in `call`, or right after it. */
struct stepped {
  void (*prepare)(void);
  void (*call)(void);
  void (*end)(void);
  int signal;
};

/* How many instructions the call takes, about: of threads, it depends on what the others do. 0:
 * the system does not permit to trace, and the test cannot be done. */
long stepped_length(const struct stepped *stepped);

/* Starts a child, and sends it the signal behind so many instructions, or behind the call. From
 * then on nobody traces it. */
pid_t stepped_start(const struct stepped *stepped, long instructions);

/* The i-th of `count` points, spread over the length, anywhere in its part of it. The first is 0,
 * the last is behind the call, however long it is this time: a look for the dead, say, takes longer
 * after more of them. */
long stepped_point(long length, int i, int count);

#endif
