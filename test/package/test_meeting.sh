#!/bin/sh
# test_meeting.sh COLLECT REPORT
# Programs that know only a path report to one another.
# shellcheck source=test/package/shell.sh
. "$(dirname "$0")/shell.sh"

collect=$(realpath "$1")
report=$(realpath "$2")
path=$scratch/reports

# The first report waits for the collector, which begins later.
all_arrive() {
  "$report" "$path" first 1 &
  first=$!
  "$collect" "$path" 3 >"$scratch/out" &
  collector=$!
  (cd / && "$report" "$path" second 2) && "$report" "$path" third -3 || return 1
  wait $first && wait $collector || return 1
  printf 'first 1\nsecond 2\nthird -3\n' >"$scratch/expected"
  sort "$scratch/out" | diff "$scratch/expected" -
}

path_is_gone() { [ ! -e "$path" ]; }

is_refused_twice() {
  "$collect" "$path" 1 >"$scratch/out" &
  collector=$!
  until [ -S "$path" ]; do sleep 0.01; done
  "$collect" "$path" 1 2>"$scratch/err"
  r=$?
  "$report" "$path" last 1
  wait $collector && [ $r -eq 1 ] && grep -q 'in use' "$scratch/err"
}

replaces_a_killed_one() {
  "$collect" "$path" 1 >"$scratch/out" &
  collector=$!
  until [ -S "$path" ]; do sleep 0.01; done
  kill -9 $collector
  wait $collector
  [ -S "$path" ] || return 1
  "$collect" "$path" 1 >"$scratch/out" &
  collector=$!
  "$report" "$path" after 5 && wait $collector && [ "$(cat "$scratch/out")" = 'after 5' ]
}

expect 'all reports arrive' all_arrive
expect 'the path is gone after the collector' path_is_gone
expect 'a second collector is refused' is_refused_twice
expect 'a collector that was killed is replaced' replaces_a_killed_one
expect 'the path is gone after that one' path_is_gone
finish
