/* Probes: places at which a tracer (bpftrace, perf, gdb) may look on (docs/tracing.md has the list).
 *
 * A probe is one nop, and a note in the library that says where it is and where its arguments are. Nobody
 * executes more than the nop until a tracer asks for it. So an argument is a value that is at hand there:
 * what is computed for a probe alone is computed each time.
 *
 * Where <sys/sdt.h> is not there, or with the option -Dprobes=disabled, there are none. */
#ifndef FORKQ_PROBE_H
#define FORKQ_PROBE_H

/* perf leaves out an argument that is a constant. So what is one at a place is kept in a register. */
static inline int forkq__probe_value(int value) {
#ifdef FORKQ__HAS_PROBES
  __asm__("" : "+r"(value));
#endif
  return value;
}

#ifdef FORKQ__HAS_PROBES
#  include "probe_sdt.h" /* <sys/sdt.h>: see probe_sdt.sh */
#  define FORKQ__PROBE2(name, a, b) STAP_PROBE2(forkq, name, a, b)
#  define FORKQ__PROBE3(name, a, b, c) STAP_PROBE3(forkq, name, a, b, c)
#else
#  define FORKQ__PROBE2(name, a, b) ((void)(a), (void)(b))
#  define FORKQ__PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#endif

#endif
