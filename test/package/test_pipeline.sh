#!/bin/sh
# test_pipeline.sh PIPELINE
# The example of a pipeline in C++ sums up all that its sensors have put.
# shellcheck source=test/package/shell.sh
. "$(dirname "$0")/shell.sh"

pipeline=$1

sums_are_right() {
  printf 'sensor %d: 249750.0\n' 0 1 2 >"$scratch/expected"
  "$pipeline" >"$scratch/output" || return
  diff "$scratch/expected" "$scratch/output"
}

expect 'the sums are right' sums_are_right
finish
