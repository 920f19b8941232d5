#!/bin/sh
# check.sh [--full | --largest]: checks the models with spin, exhaustively, and that spin finds each seeded
# mistake; that the steps in the models are those that the C comments name; and the litmus tests of the
# orders in memory. See README.md.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
source=$here/../../src
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
cd "$work"
cp "$here"/*.pml .

fail() {
  echo "model: $*" >&2
  exit 1
}

steps() {
  sed -E 's/\b(AT|SAY|POLL)\(/\n\1(/g' ./*.pml |
    sed -nE 's/^(AT|SAY|POLL)\(([a-z_]+).*/\2/p' |
    grep -v '^step$' | sort -u
}

tags() {
  sed -nE 's#.*/\* model: ([a-z_]+) \*/.*#\1#p' "$source"/*/*.c | sort
}

check_tags() {
  steps >steps
  tags >tags
  diff steps tags >differences || fail "steps (<) and tags in src/ (>):
$(cat differences)"
  echo "tags: $(wc -l <tags) steps, each named once in src/"
}

# search MODEL OPTION...: how many errors and how many states. With cycles=NP, also whether a
# run can go round for ever. For a short search the compiler takes longer than the search.
cycles=
compiler_options='-O0 -DCOLLAPSE'
search_options=
# shellcheck disable=SC2086
search() {
  model=$1
  shift
  rm -f ./pan* ./*.trail
  spin "$@" -a "$model.pml" >log 2>&1 || fail "$(cat log)"
  ${CC:-cc} $compiler_options -w "-D${cycles:-SAFETY}" -DVECTORSZ=4096 \
    -DMEMLIM=$memory -o pan pan.c
  ./pan -m1000000 $search_options ${cycles:+-l} >result 2>&1 || fail "$(cat result)"
  ! grep -qE 'max search depth|out of memory|memory limit' result ||
    fail "not exhaustive: $model $*"
  errors=$(sed -nE 's/.*errors: ([0-9]+).*/\1/p' result)
  states=$(sed -nE 's/^ *([0-9.e+]+) states, stored.*/\1/p' result)
}

holds() {
  search "$@"
  [ "$errors" = 0 ] || {
    cp ./*.trail "$here"
    fail "$* is broken: $(grep '^pan:1' result); the trail is in $here"
  }
  echo "${cycles:+ends, }holds: $*: $states states"
}

is_found() {
  search "$@"
  [ "$errors" != 0 ] || fail "a seeded mistake is not found: $*"
  echo "found: $*: $(sed -nE 's/^pan:1: //p' result)"
}

# ---- what is checked ----

check_tags
memory=4000

transport='transport -DPRODUCERS=2 -DITEMS=1'
torn="$transport -DLARGE -DPIPE=1"
slots='slots -DITEMS=1 -DCRASHES=2'
futex='slots -DFUTEX -DITEMS=1 -DCRASHES=0'
sleep='sleep -DCRASHES=1'
watched="$sleep -DGETTERS=1 -DREADERS=0"
shut="$sleep -DREADERS=0 -DSHUTTERS=1"
put='put_shutdown -DCRASHES=0'
arena='arena -DFRAMES=1'
kept='kept -DWORKERS=3'

# shellcheck disable=SC2086 # lists of words
small() {
  holds $transport -DCRASHES=1
  holds $transport -DCRASHES=1 -DMAXSIZE=1
  holds $torn -DCRASHES=0
  holds $slots
  holds $futex -DMAXSIZE=1
  holds $futex -DGETTERS=1 -DGETS=2 -DMAXSIZE=2
  holds $sleep
  holds $shut
  holds $put
  holds $arena -DCRASHES=1
  holds arena -DPACKETS=1 -DCRASHES=1
  holds kept -DCRASHES=1 -DMOST=2
  holds $kept -DCRASHES=1
  cycles=NP
  holds $watched -DOBSERVERS=1
  holds $watched -DWATCHERS=1 -DPACKETS=1
  cycles=
}

# shellcheck disable=SC2086
mistakes() {
  for mutant in 1 2 3 4 6 7 10; do is_found $transport -DCRASHES=1 -DMUTANT=$mutant; done
  is_found $transport -DCRASHES=1 -DCOPIED_AND_LEFT -DMUTANT=5
  is_found $transport -DCRASHES=1 -DJOINABLE -DMUTANT=8
  is_found $torn -DCRASHES=0 -DMUTANT=9
  is_found $transport -DCRASHES=2 -DMAXSIZE=1 -DMUTANT=11
  for mutant in 21 22 23 24; do is_found $slots -DMUTANT=$mutant; done
  for mutant in 25 26; do is_found $futex -DMAXSIZE=1 -DMUTANT=$mutant; done
  is_found $futex -DGETTERS=1 -DGETS=2 -DMAXSIZE=2 -DMUTANT=27
  for mutant in 41 42 43 44 45; do is_found $sleep -DMUTANT=$mutant; done
  is_found $watched -DOBSERVERS=1 -DMUTANT=46
  is_found $sleep -DGETTERS=1 -DWATCHERS=1 -DMUTANT=50
  for mutant in 48 49 51; do is_found $shut -DMUTANT=$mutant; done
  is_found $put -DMUTANT=61
  for mutant in 71 72 73 74 75 76 77 78 79 80 81 82 83 84 85; do is_found $arena -DCRASHES=1 -DMUTANT=$mutant; done
  for mutant in 90 91 92 93 94 95 101 102; do is_found kept -DCRASHES=1 -DMUTANT=$mutant; done
  for mutant in 96 97; do is_found $kept -DCRASHES=1 -DMUTANT=$mutant; done
  for mutant in 98 99 100; do is_found $kept -DCRASHES=2 -DMUTANT=$mutant; done
  cycles=NP
  is_found $watched -DOBSERVERS=1 -DMUTANT=47
  cycles=
}

# shellcheck disable=SC2086
full() {
  memory=16000
  compiler_options='-O2 -DCOLLAPSE'
  holds $transport -DCRASHES=1 -DJOINABLE
  holds $torn -DCRASHES=1
  holds $transport -DCRASHES=2
  holds slots -DITEMS=2 -DCRASHES=1
  holds slots -DFUTEX -DLOOKS -DITEMS=1 -DMAXSIZE=1 -DCRASHES=2
  holds sleep -DCRASHES=2
  holds sleep -DCRASHES=2 -DGETTERS=1 -DWATCHERS=1
  holds sleep -DCRASHES=2 -DGETTERS=1 -DOBSERVERS=1
  holds sleep -DCRASHES=2 -DREADERS=0 -DSHUTTERS=1
  holds $watched -DWATCHERS=1 -DOBSERVERS=1
  holds $arena -DCRASHES=2
  holds $arena -DOWNERS=3 -DCRASHES=1
  holds $arena -DPACKETS=3 -DOWNERS=1 -DCRASHES=2
  holds kept -DITEMS=3 -DMOST=2 -DCRASHES=1
  holds $kept -DCRASHES=2
}

# Of each state 12 bytes of a hash are kept: two states with the same would count as one.
largest() {
  memory=16000
  compiler_options='-O2 -DHC4'
  search_options=-w30
  holds transport -DPRODUCERS=3 -DITEMS=1 -DMAXSIZE=1 -DCRASHES=2
}

case ${1-} in
  --largest) largest ;;
  *)
    small
    mistakes
    python3 -B "$here/litmus/known.py"
    python3 -B "$here/litmus/check.py" "$here"/litmus/*.litmus
    [ "${1-}" != --full ] || full
    ;;
esac
