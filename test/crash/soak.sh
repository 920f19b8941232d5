#!/bin/sh
# soak.sh DIR OUT [--minutes N] [OPTION...]: runs the harness of a build directory as a soak, for N
# minutes (1). What it counts goes to OUT/soak.csv, and is drawn as soak.svg if there is gnuplot.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
dir=$1 out=$2 minutes=1
shift 2
if [ "${1-}" = --minutes ]; then
  [ $# -ge 2 ] || {
    echo 'soak: --minutes N' >&2
    exit 1
  }
  minutes=$2
  shift 2
fi
mkdir -p "$out"
status=0
"$dir/test/crash" --soak "$minutes" --csv "$out/soak.csv" "$@" || status=$?
if command -v gnuplot >/dev/null; then
  (cd "$out" && gnuplot "$here/soak.gp")
  echo "soak: plot in $out/soak.svg" >&2
fi
exit $status
