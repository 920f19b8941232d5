#!/bin/sh
# test_examples.sh LOGS MAPREDUCE MAPREDUCE.PY PYTHON
# The log collector loses no record without counting it; mapreduce says what its original in Python says.
# shellcheck source=test/package/shell.sh
. "$(dirname "$0")/shell.sh"

logs=$(realpath "$1")
mapreduce=$(realpath "$2")
original=$(realpath "$3")
python=$4

# ---- logs ----

# What each worker said is in order, and every line is whole.
in_order() {
  awk '{ if (NF != 6 || $4 <= last[$2]) exit 1; last[$2] = $4 }' "$scratch/lines"
}

# adds_up WORKERS RECORDS ROOM: lines and drops are as many as records.
adds_up() {
  "$logs" "$@" >"$scratch/out" || return 1
  dropped=$(sed -n '$s/^\([0-9]*\) dropped$/\1/p' "$scratch/out")
  sed '$d' "$scratch/out" >"$scratch/lines"
  in_order && [ $(($(wc -l <"$scratch/lines") + dropped)) -eq $(($1 * $2)) ]
}

keeps_all_with_room_for_all() { adds_up 4 1000 5000 && [ "$dropped" -eq 0 ]; }
drops_without_room() { adds_up 4 5000 1 && [ "$dropped" -gt 0 ]; }
has_both_levels() { [ "$(grep -c '^warning' "$scratch/lines")" -eq 400 ]; }

expect 'logs keeps all records if there is room' keeps_all_with_room_for_all
expect 'logs prints the level of each' has_both_levels
expect 'logs drops and counts if there is none' drops_without_room
expect 'logs has room for some' adds_up 8 200 10
expect 'logs ends without workers' adds_up 0 1 1

# ---- mapreduce ----

same() {
  "$python" "$original" "$@" >"$scratch/expected" 2>"$scratch/err" &&
    "$mapreduce" "$@" >"$scratch/out" 2>"$scratch/err" &&
    diff "$scratch/expected" "$scratch/out"
}

printf 'a b\nc' >"$scratch/no_newline"
printf ' \t\v\f\r\n\n x\000y \377\n' >"$scratch/odd"
: >"$scratch/empty"
seq 100000 >"$scratch/long"

expect 'mapreduce counts files of all kinds' \
  same "$scratch/no_newline" "$scratch/odd" "$scratch/empty" "$scratch/long" "$original"
expect 'mapreduce counts a file that is named twice' same "$original" "$original"
expect 'mapreduce counts none of what cannot be read' \
  same "$scratch/missing" "$original" "$scratch"
expect 'mapreduce counts nothing' same
cd "$scratch" || exit 1
seq 2 200 | xargs touch
# shellcheck disable=SC2046
expect 'mapreduce counts more files than it has workers' same $(seq 2 200) long

statements() { # of C or Python, without blank lines and comments
  sed 's:/\*.*\*/::; /^#!/d; /^\/\*/,/\*\/$/d; /^"""/,/"""$/d' "$1" | grep -c '[^[:space:]]'
}
expect 'mapreduce has at most 1.7 times the lines of its original' \
  test $((10 * $(statements "${original%.py}.c"))) -le $((17 * $(statements "$original")))
finish
