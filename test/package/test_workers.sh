#!/bin/sh
# test_workers.sh FORKQ WORKERS.SH
# A pool of workers made of forkq serve, put and get runs a command for each line.
# shellcheck source=test/package/shell.sh
. "$(dirname "$0")/shell.sh"

PATH=$(dirname "$(realpath "$1")"):$PATH
TMPDIR=$scratch
export PATH TMPDIR
workers=$(realpath "$2")

seq 1 150 >"$scratch/lines"
printf 'a line with spaces\n  "and quotes"\n' >>"$scratch/lines"

runs_each_once() {
  sh "$workers" "$1" printf 'got %s\n' <"$scratch/lines" >"$scratch/out" || return 1
  sed 's/^/got /' "$scratch/lines" | sort >"$scratch/expected"
  sort "$scratch/out" | diff "$scratch/expected" -
}

leaves_nothing() { [ -z "$(find "$scratch" -mindepth 1 -type d)" ]; }

nothing_to_do() { [ -z "$(sh "$workers" 2 echo </dev/null)" ]; }

expect 'four workers run a command for each line' runs_each_once 4
expect 'one worker does' runs_each_once 1
expect 'no line is no work' nothing_to_do
expect 'nothing is left behind' leaves_nothing
finish
