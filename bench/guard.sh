#!/bin/sh
# guard.sh PROGRAM BASELINE [--update]: counts instructions per put, per get and per message
# altogether (callgrind), and system calls per 1000 messages (strace), for the cases of
# guard.c, and compares them with the baseline. Exits with 1 if something costs more than
# the tolerance allows, and says so, too, where something has become cheaper.
#
# The counts are nearly the same from run to run. What is left of noise, a feeder on a busy
# machine that runs between two puts, only ever adds: what is above the limit is counted
# again, up to five times.
# shellcheck disable=SC2086 # where a variable is a list of words
set -eu

program=$1
baseline=$2
mode=${3-}

cases='64B 64B-bounded dict 64B-batch 1KiB 64KiB'

# What the C library picks by the processor's features would be other code elsewhere.
GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-ERMS,-FSRM,-RTM,-SSE4_2
export GLIBC_TUNABLES

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

say() {
  [ ! -t 2 ] || printf '\r%-60s' "$*" >&2
}

# The most that CASE WHAT may cost; nothing if a new baseline is to be made.
allowed() {
  [ "$mode" = --update ] || awk -v name="$1" -v what="$2" \
    '$1 == name && $2 == what { print $3 * (1 + $4 / 100) }' "$baseline"
}

# least LIMIT COMMAND...: the least of up to five counts, or the first within the limit.
least() {
  limit=$1
  shift
  least=
  for _ in 1 2 3 4 5; do
    count=$("$@")
    least=$(printf '%s\n' $least "$count" | sort -g | head -n 1)
    ! awk -v a="$least" -v b="${limit:--1}" 'BEGIN { exit !(a <= b) }' || break
  done
  echo "$least"
}

# count_instructions CASE PHASE ROUNDS: per message.
count_instructions() {
  collect=no
  started=yes
  [ "$2" != all ] || { collect=yes started=no; }
  messages=$(valgrind --tool=callgrind --fair-sched=yes --callgrind-out-file=/dev/null \
    --collect-atstart=$collect --instr-atstart=$started \
    "$program" "$1" "$2" "$3" 2>"$work/log") || {
    cat "$work/log" >&2
    exit 1
  }
  awk -v messages="$messages" '/Collected/ { printf "%.1f\n", $NF / messages }' "$work/log"
}

# count_calls CASE ROUNDS: all but the naps of the program itself.
count_calls() {
  strace -f -c -U name,calls -o "$work/calls" "$program" "$1" none "$2" >"$work/messages"
  awk '$1 ~ /^[a-z]/ && $1 !~ /nanosleep|syscall|total/ { sum += $2 }
    END { print sum + 0 }' "$work/calls"
}

# per_thousand CASE ROUNDS: what a run with no rounds calls is not counted.
per_thousand() {
  none=$(count_calls "$1" 0)
  some=$(count_calls "$1" "$2")
  awk -v none="$none" -v some="$some" -v messages="$(cat "$work/messages")" \
    'BEGIN { printf "%.1f\n", (some - none) * 1000 / messages }'
}

measure() {
  for name in $cases; do
    rounds=20
    [ "$name" != 64KiB ] || rounds=10
    for phase in put get all; do
      say "$name: instructions, $phase"
      echo "$name $phase $(least "$(allowed "$name" "$phase")" count_instructions "$name" "$phase" $rounds)"
    done
    say "$name: system calls"
    echo "$name calls $(least "$(allowed "$name" calls)" per_thousand "$name" 40)"
  done
  say
}

# The tolerance, in the baseline, is for each figure: `case what count percent`.
compare() {
  awk '
    FNR == NR {
      if ($0 !~ /^#/ && NF == 4) { baseline[$1, $2] = $3; percent[$1, $2] = $4 }
      next
    }
    {
      old = baseline[$1, $2]
      change = old > 0 ? 100 * ($3 - old) / old : 0
      verdict = "same"
      if (old == "") verdict = "NOT IN THE BASELINE"
      else if (change > percent[$1, $2]) verdict = "COSTS MORE"
      else if (change < -percent[$1, $2]) verdict = "cheaper: ./dev guard --update"
      if (verdict ~ /^[A-Z]/) bad = 1
      printf "%-12s %-6s %10.1f -> %10.1f  %+6.1f%% (%g%% allowed)  %s\n",
        $1, $2, old, $3, change, percent[$1, $2], verdict
    }
    END { exit bad }
  ' "$baseline" "$work/now"
}

update() {
  {
    echo '# What ./dev guard compares with: case, what, count, percent allowed.'
    echo '# put, get: instructions of the caller, per message. all: of all threads. calls:'
    echo '# system calls per 1000 messages. Written by ./dev guard --update; a change'
    echo '# that makes something cost more says so in its commit.'
    awk '{
      percent = $2 == "calls" ? 20 : $2 == "all" || $1 == "64KiB" ? 4 : 2
      print $1, $2, $3, percent
    }' "$work/now"
  } >"$baseline"
}

measure >"$work/now"
if [ "$mode" = --update ]; then
  update
  cat "$baseline"
else
  compare
fi
