#!/bin/sh
# test_demo.sh WORDCOUNT WORDCOUNT.c
# The demo counts what the pipeline of standard tools counts, on the licences and on files
# made to break it, and says what it could not do.
# shellcheck source=test/package/shell.sh disable=SC2018,SC2019,SC2086
. "$(dirname "$0")/shell.sh"

demo=$(realpath "$1")
piece=$(($(sed -n 's/^#define PIECE_SIZE (\(.*\))$/\1/p' "$2")))
licences=/usr/share/common-licenses

reference() {
  cat -- "$@" | tr -cs A-Za-z '\n' | tr A-Z a-z | grep . | sort | uniq -c | sed 's/^ *//' |
    sort -k 1,1nr -k 2,2 | head -n 20
}

# The demo's lines for these files are the reference's; it has nothing else to say.
counts() {
  reference "$@" >"$scratch/expected"
  "$demo" "$@" >"$scratch/out" 2>"$scratch/err" || return 1
  diff "$scratch/expected" "$scratch/out" && diff /dev/null "$scratch/err"
}

counts_licences_by_default() {
  reference "$licences"/* >"$scratch/expected"
  "$demo" >"$scratch/out" && diff "$scratch/expected" "$scratch/out" &&
    [ "$(grep -c '^[1-9][0-9]* [a-z]*$' "$scratch/out")" -eq 20 ]
}

# complains_about FILE TEXT FILE...: status 1, one line about FILE, the others are counted.
complains_about() {
  bad=$1
  echo "wordcount: $1: $2" >"$scratch/complaint"
  shift 2
  "$demo" "$1" "$bad" "$@" >"$scratch/out" 2>"$scratch/err"
  [ $? -eq 1 ] && diff "$scratch/complaint" "$scratch/err" &&
    reference "$1" "$@" | diff - "$scratch/out"
}

# ---- Files made to break it ----

repeat() { # repeat COUNT TEXT: so many bytes of that text, over and over
  yes "$2" | tr -d '\n' | head -c "$1"
}

make_files() {
  mkdir "$scratch/files"
  cd "$scratch/files" || exit 1
  : >empty
  printf 'no newline at the end' >no_newline
  printf '...\n\n  42 ---' >no_word
  printf 'The the THE, tHe-the' >cases
  printf 'caf\303\251 na\357ve \000nul\000 \377 z\200z @[`{ AZaz' >not_letters
  cat "$demo" >binary
  repeat $((3 * piece + 17)) a >long_word
  { repeat $((piece / 2)) .; repeat $((2 * piece)) b; printf ' end'; } >long_word_inside
  repeat $((3 * piece)) 'eleven_bit ' >straddling
  repeat $((2 * piece)) 'ab ' >whole_pieces
  repeat "$piece" 'ab ' >one_piece
  repeat $((piece + 1)) 'ab ' >one_piece_and_a_byte
  for shift in 0 1 2 3 4 5 6; do # around the end of the first piece
    { repeat $((piece - shift)) .; printf 'wo,rd'; repeat 100 ' x'; } >"boundary_$shift"
  done
  for word in u v w x y z a b c d e f g h i j k l m n o p q r s t; do
    echo "$word$word a$word $word$word"
  done >ties
  echo 'abc ab a b abcd' >prefixes
  cp ties 'a name with spaces'
  cp cases ./-n
  cd - >/dev/null || exit 1
}

# ---- Death ----

wait_until() {
  tries=0
  until "$@"; do
    tries=$((tries + 1))
    [ $tries -lt 3000 ] || return 1
    sleep 0.01
  done
}

# The second word behind the name in parentheses is the parent's id.
workers_of() { sed -n "s/^\([0-9]*\) (.*) . $1 .*/\1/p" /proc/[0-9]*/stat 2>/dev/null; }

has_workers() {
  workers=$(workers_of "$1")
  [ "$(echo "$workers" | wc -w)" -ge 2 ]
}

is_gone() { ! grep -q '^State:.[^ZX]' "/proc/$1/status" 2>/dev/null; }

are_gone() {
  for pid in "$@"; do
    is_gone "$pid" || return 1
  done
}

# More to read than anybody has time for, in no space.
start_endless() {
  truncate -s 100G "$scratch/endless"
  "$demo" "$scratch/endless" >"$scratch/out" 2>"$scratch/err" &
  parent=$!
  background=$parent
  wait_until has_workers "$parent"
}

notices_a_dead_worker() {
  start_endless || return 1
  kill -KILL "$(echo "$workers" | head -n 1)"
  wait "$parent"
  status=$?
  background=
  [ $status -eq 1 ] && grep 'a worker died' "$scratch/err" && [ ! -s "$scratch/out" ] &&
    wait_until are_gone $workers
}

leaves_no_worker_behind() {
  start_endless || return 1
  kill -KILL "$parent"
  wait "$parent"
  background=
  wait_until are_gone $workers
}

# Ctrl-C on its terminal: the signal ends it, and nobody is left.
ends_with_ctrl_c() {
  truncate -s 100G "$scratch/endless"
  mkfifo "$scratch/keys"
  # What a shell starts in the background ignores SIGINT.
  env --default-signal=INT script -qec \
    "echo \$\$ >'$scratch/id'; exec '$demo' '$scratch/endless'" /dev/null \
    <"$scratch/keys" >"$scratch/terminal" &
  background=$!
  exec 3>"$scratch/keys"
  wait_until test -s "$scratch/id" && parent=$(cat "$scratch/id") &&
    wait_until has_workers "$parent" || return 1
  printf '\003' >&3
  wait "$background"
  status=$?
  background=
  exec 3>&-
  [ $status -eq 130 ] && wait_until are_gone "$parent" $workers
}

# ---- The rest ----

reports_full_disk() {
  ! "$demo" "$scratch/files/ties" >/dev/full 2>"$scratch/err" &&
    grep -q 'standard output: No space left' "$scratch/err"
}

reads_a_pipe() {
  mkfifo "$scratch/pipe" && cat binary straddling >"$scratch/pipe" &
  wait_until test -p "$scratch/pipe" && "$demo" "$scratch/pipe" >"$scratch/out" &&
    reference binary straddling | diff - "$scratch/out"
}

shows_progress_on_a_terminal() {
  script -qec "'$demo' '$scratch/files/straddling' >'$scratch/out'" /dev/null \
    >"$scratch/terminal" </dev/null
  grep -q '\[####.*items/s' "$scratch/terminal" &&
    reference "$scratch/files/straddling" | diff - "$scratch/out"
}

cannot_read() {
  chmod 711 "$scratch"
  cp "$scratch/files/ties" "$scratch/secret"
  chmod 600 "$scratch/secret"
  setpriv --reuid=65534 --clear-groups "$demo" "$scratch/secret" \
    >"$scratch/out" 2>"$scratch/err"
  [ $? -eq 1 ] && grep "secret: Permission denied" "$scratch/err"
}

make_files
for file in "$scratch"/files/*; do
  expect "counts ${file##*/}" counts "$file"
done
expect 'counts them all together' counts "$scratch"/files/*
expect 'counts a file twice that is named twice' \
  counts "$scratch/files/ties" "$scratch/files/ties"
cd "$scratch/files" || exit 1
expect 'takes a name that begins with a hyphen' counts -n cases
if [ -d "$licences" ]; then
  expect 'counts the licences without arguments' counts_licences_by_default
fi
expect 'complains about a missing file' \
  complains_about "$scratch/none" 'No such file or directory' ties cases
expect 'complains about a directory' complains_about "$scratch" 'Is a directory' ties
expect 'reads a pipe' reads_a_pipe
expect 'notices a dead worker' notices_a_dead_worker
expect 'leaves no worker behind' leaves_no_worker_behind
expect 'reports a full disk' reports_full_disk
if script -qec true /dev/null >/dev/null 2>&1 </dev/null; then
  expect 'shows progress on a terminal' shows_progress_on_a_terminal
  expect 'ends with Ctrl-C, and leaves nobody' ends_with_ctrl_c
fi
if setpriv --reuid=65534 --clear-groups test -x "$demo" 2>/dev/null; then
  expect 'complains about a file that it may not read' cannot_read
fi
finish
