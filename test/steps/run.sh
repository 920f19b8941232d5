#!/bin/sh
# run.sh DIR [NAME]: with the programs of a build directory, kills a process at every step of every
# operation, or of those with NAME in their names; two operations a processor at a time.
set -eu

cd "$1/test/steps"
shift
[ $# -eq 0 ] || export FORKQ_STEPS_ONLY="$1"
export FORKQ_STEPS="${FORKQ_STEPS-all}"
for name in recovery kept_recovery beside get kept loop put tasks; do
  "./test_steps_$name" --list
done | xargs -r -P $(($(nproc) * 2)) -n 3 env
if [ $# -eq 0 ]; then
  ./test_steps_shutdown
  ./test_steps_calls
fi
