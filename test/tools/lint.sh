#!/bin/sh
# lint.sh DIR: checks the library's sources with clang-tidy, as a build directory of clang compiles
# them, and with cppcheck.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
find "$root/src" -name '*.c' -print0 |
  xargs -0 -n 4 -P 2 clang-tidy --quiet -p "$1" >&2
cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
  --error-exitcode=1 -I "$root/include" -I "$root/src" "$root/src" >&2
