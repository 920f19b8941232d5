#!/bin/sh
# probe_sdt.sh C_COMPILER...: prints <sys/sdt.h> with each of its statements marked as short (__inline__).
# gcc takes a line of assembler for an instruction. A probe has some twenty, and is one. Without the mark gcc
# would not inline functions with a probe any more, and a put would cost ten instructions more.
set -eu

header=$(echo '#include <sys/sdt.h>' | "$@" -M -x c - | tr ' ' '\n' | grep 'sys/sdt\.h$')
sed -e 's/__asm__ __volatile__ (/__asm__ __inline__ __volatile__ (/' \
  -e 's/^#include "sdt-config\.h"/#include <sys\/sdt-config.h>/' "$header"
