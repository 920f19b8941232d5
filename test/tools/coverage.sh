#!/bin/sh
# coverage.sh DIR OUT: which lines and branches of the library the tests reached that ran in a build
# directory; to stdout, and to the file OUT.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
gcovr --root "$root" --filter "$root/src/" --exclude-unreachable-branches --print-summary \
  --txt "$2" "$1"
cat "$2"
