#!/bin/sh
# lint.sh DIR: checks the library's sources with clang-tidy, as a build directory of clang compiles
# them, with cppcheck, and for words that are shared and used without an order (atomics.query).
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
find "$root/src" -name '*.c' -print0 |
  xargs -0 -n 4 -P 2 clang-tidy --quiet -p "$1" >&2
# Of the system's headers, cppcheck must know the one whose macros declare.
queue=$(echo '#include <sys/queue.h>' | "${CC:-cc}" -M -x c - | tr ' ' '\n' | grep 'sys/queue\.h')
cppcheck --quiet --library=python --std=c11 --enable=warning,performance,portability --inline-suppr \
  --error-exitcode=1 --include="$queue" -I "$root/include" -I "$root/src" "$root/src" >&2
find "$root/src" -name '*.c' -print0 |
  xargs -0 clang-query -p "$1" -f "$root/test/tools/atomics.query" >"$1/atomics.txt"
if grep -B 1 -A 2 'binds here' "$1/atomics.txt" >&2 ||
  grep -rn '_explicit(' "$root/src" | grep -v 'base/atomics.h' >&2; then
  echo "A shared word is used without an order: see src/base/atomics.h" >&2
  exit 1
fi
