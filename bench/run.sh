#!/bin/sh
# run.sh DIR OUT [OPTION...]: runs the benchmark of a build directory, and makes a report of it. The
# results go to OUT, or where --out says.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
dir=$1 out=$2
shift 2
before=
for argument in "$@"; do
  [ "$before" != --out ] || out=$argument
  before=$argument
  case $argument in
    --list | --help | -h) exec "$dir/bench/forkq_bench" "$argument" "$@" ;;
    --out=*) out=${argument#*=} ;;
  esac
done
mkdir -p "$out"
"$dir/bench/forkq_bench" --out "$out" "$@"
! command -v python3 >/dev/null || python3 "$here/report.py" "$out" >&2
