#!/bin/sh
# check.sh [--full]: checks the models with spin, exhaustively, and that spin finds each seeded
# mistake; that the steps in the models are those that the C comments name. See docs/model.md.
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
  sed -E 's/\b(AT|SAY)\(/\n\1(/g' ./*.pml | sed -nE 's/^(AT|SAY)\(([a-z_]+).*/\2/p' |
    grep -v '^step$' | sort -u
}

tags() {
  sed -nE 's#.*/\* model: ([a-z_]+) \*/.*#\1#p' "$source"/*.c | sort
}

check_tags() {
  steps >steps
  tags >tags
  diff steps tags >differences || fail "steps (<) and tags in src/ (>):
$(cat differences)"
  echo "tags: $(wc -l <tags) steps, each named once in src/"
}

# search MODEL OPTION...: how many errors and how many states.
search() {
  model=$1
  shift
  rm -f ./pan* ./*.trail
  spin "$@" -a "$model.pml" >log 2>&1 || fail "$(cat log)"
  ${CC:-cc} -O0 -w -DSAFETY -DCOLLAPSE -DVECTORSZ=4096 -DMEMLIM=4000 -o pan pan.c
  ./pan -m1000000 >result 2>&1 || fail "$(cat result)"
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
  echo "holds: $*: $states states"
}

is_found() {
  search "$@"
  [ "$errors" != 0 ] || fail "a seeded mistake is not found: $*"
  echo "found: $*: $(sed -nE 's/^pan:1: //p' result)"
}

check_tags

transport='transport -DPRODUCERS=2 -DITEMS=1 -DCRASHES=1'
slots='slots -DITEMS=1 -DCRASHES=2'
futex='slots -DFUTEX -DITEMS=1 -DMAXSIZE=1 -DCRASHES=0'
# shellcheck disable=SC2086 # lists of words
{
  holds $transport
  holds $slots
  holds $futex
  for mutant in 1 2 3 4; do is_found $transport -DMUTANT=$mutant; done
  for mutant in 21 22 23 24; do is_found $slots -DMUTANT=$mutant; done
  for mutant in 25 26; do is_found $futex -DMUTANT=$mutant; done
  [ "${1-}" = --full ] || exit 0
  holds $transport -DJOINABLE
  holds $transport -DLARGE
  holds transport -DPRODUCERS=2 -DITEMS=1 -DCRASHES=2
  holds slots -DITEMS=2 -DCRASHES=1
  holds slots -DFUTEX -DLOOKS -DITEMS=1 -DMAXSIZE=1 -DCRASHES=2
}
