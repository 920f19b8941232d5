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
# The path of its queue is too long to be one.
fails_without_a_server() {
  long=$scratch/$(printf '%0100d' 0)
  mkdir "$long" || return 1
  TMPDIR=$long timeout 20 sh "$workers" 2 echo <"$scratch/lines"
  r=$?
  rmdir "$long" && [ $r -eq 1 ]
}

# A line that comes when the queue is shut down.
too_late() {
  until queue=$(find "$scratch" -type s) && [ -n "$queue" ]; do sleep 0.1; done
  forkq shutdown "$queue"
  echo too late
}

# As long as the server lives, it has the pipe.
ends_its_server_when_it_fails() {
  too_late | sh "$workers" 1 echo | timeout 20 cat
}

expect 'a server that cannot start is the end' fails_without_a_server
expect 'after a failure its server ends' ends_its_server_when_it_fails
expect 'nothing is left behind' leaves_nothing
finish
