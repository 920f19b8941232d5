#!/bin/sh
# valgrind.sh TOOL BUILD [NAME...]: runs the tests of a build directory, or those named, under
# memcheck or helgrind, two at a time. What valgrind says of a test is in BUILD/../TOOL/NAME, and is
# shown if the test fails or something is found. Check does not fork for each test then, and what
# a test's own children do is not looked at.
# shellcheck disable=SC2086 # where a variable is a list of words
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
tool=$1
programs=$2/test
out=$2/../$tool
shift 2

# Of no use under valgrind, whatever the tool:
# item has a malloc of its own before libc's; faults_heap and faults_calls wrap it, and run all in
# children; limits and faults_limits set limits of descriptors and memory, of which valgrind has
# more than they know; signals needs the one that valgrind keeps for itself, and 1000 a second;
# joinable_deaths and those of steps trace children, instruction by instruction or with strace;
# handover and serve start themselves anew by /proc/self/exe, which is valgrind; serve_clients has a thousand
# processes; connection_python tests
# children in Python; fork, hazards, kill and stress test what their children do, in times that are
# kept without it; probes changes the code that it runs; process_join, process_parent, process_signals and process_start change the signals and
# handlers of their process for good, and most of them look at what a child has.
not_for_valgrind='item faults_heap faults_calls limits faults_limits signals joinable_deaths
  steps_calls steps_put steps_get steps_tasks steps_loop steps_recovery steps_shutdown handover
  serve serve_clients connection_python fork hazards kill stress probes process_join process_parent process_signals
  process_start'

# Of no use under helgrind besides: there is one thread alone in connection, connection_faults,
# connection_signals, those of conformance_asyncio, error, heap, loop_recv, outbox, packet,
# spill, readings, those of serializer and wait; in those of the channel, ledger, lock and slots
# there is one in each process.
not_for_helgrind='connection connection_faults connection_signals conformance_asyncio_calls
  conformance_asyncio_ends error heap loop_recv outbox packet spill readings serializer_pack
  serializer_scan wait channel channel_sleep channel_write channel_read ledger_cells ledger_death
  ledger_doubt ledger_faults ledger_heirs lock slots'

# The tests of the build that are of use.
useful() {
  for program in $(find "$programs" -type f -name 'test_*' ! -name '*.*' | sort); do
    name=${program##*/test_}
    case " $* " in *" $name "*) ;; *) echo "$name" ;; esac
  done
}

# run LOG COMMAND...: a test under valgrind, with a pattern in $wrong that is bad news.
run() {
  log=$1
  shift
  begun=$(date +%s)
  CK_FORK=no CK_TIMEOUT_MULTIPLIER=40 timeout -k 10 900 valgrind --quiet "$@" \
    --child-silent-after-fork=yes --log-file="$log.valgrind" \
    "$(find "$programs" -type f -name "test_$name")" >"$log" 2>&1 </dev/null || failed=yes
  ! grep -q "$wrong" "$log.valgrind" || failed=yes
  if [ -n "${failed-}" ]; then
    cat "$log" "$log.valgrind" >&2
    echo "valgrind: $tool $name" >&2
    exit 1
  fi
  echo "valgrind: $tool $name: $(($(date +%s) - begun)) s" >&2
}

# A descriptor that the library opened and that is open at the end is as wrong as lost memory. For
# lost memory no exit status stands: the tests' children leave without giving back what they have.
memcheck() {
  wrong='by 0x.*: forkq__os_\|lost in loss record'
  export FORKQ_TEST_EACH=2000
  run "$out/$name" --error-exitcode=99 --leak-check=full --show-leak-kinds=definite \
    --errors-for-leak-kinds=none --track-fds=yes
}

helgrind() {
  wrong=.
  locks=$out/locks-$$.so
  ${CC:-cc} -shared -fPIC -O1 -g "$here/helgrind_locks.c" -o "$locks"
  export FORKQ_TEST_EACH=500
  LD_PRELOAD=$locks && export LD_PRELOAD
  run "$out/$name" --tool=helgrind --history-level=none --check-stack-refs=no \
    --suppressions="$here/helgrind.supp"
  rm -f "$locks"
}

mkdir -p "$out"
if [ $# -eq 1 ]; then
  name=$1
  "$tool"
  exit
fi
if [ $# -eq 0 ]; then
  [ "$tool" = memcheck ] || not_for_valgrind="$not_for_valgrind $not_for_helgrind"
  # shellcheck disable=SC2046 # names
  set -- $(useful $not_for_valgrind)
fi
printf '%s\n' "$@" | xargs -n 1 -P 2 "$0" "$tool" "$programs/.."
