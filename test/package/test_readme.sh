#!/bin/sh
# test_readme.sh SOURCE_ROOT SMALLEST STRUCTS HELPER
# What README.md says is there, and its example is the one that is built and runs.
# shellcheck source=test/package/shell.sh disable=SC2016
. "$(dirname "$0")/shell.sh"

root=$1
smallest=$2
structs=$3
helper=$4

sed -n '/^```c$/,/^```$/p' "$root/README.md" | sed '1d;$d' >"$scratch/example.c"
grep -o '](\([^)#]*\)' "$root/README.md" | sed 's/^](//' | grep -v '://' |
  sort -u >"$scratch/links"
grep -o '\./dev [a-z][a-z-]*' "$root/README.md" | sed 's/.* //' | sort -u >"$scratch/commands"
"$root/dev" help >"$scratch/help"

links_exist() {
  while read -r link; do
    [ -e "$root/$link" ] || { echo "$link"; return 1; }
  done <"$scratch/links"
}

commands_exist() {
  while read -r command; do
    grep -q "^  $command " "$scratch/help" || { echo "$command"; return 1; }
  done <"$scratch/commands"
}

headers_are_named() {
  sed -n 's/^#include <\(forkq\/.*\)>$/include\/\1/p' "$root/include/forkq.h" |
    sort | comm -23 - "$scratch/links" >"$scratch/unnamed"
  diff /dev/null "$scratch/unnamed"
}

# The first row of docs/benchmarks.md: forkq's rate, and how many times that of CPython it is.
figures_are_measured() {
  row='| 64 B, 1 producer, 1 consumer | \([0-9.]*\)M\/s | \([0-9.]*\) |.*'
  sed -n "s/^$row/\1 million messages of 64 bytes.* \2 times as/p" "$root/docs/benchmarks.md" >"$scratch/speed"
  tr '\n' ' ' <"$root/README.md" >"$scratch/text"
  [ -s "$scratch/speed" ] && grep -q -f "$scratch/speed" "$scratch/text"
}

prints() {
  [ "$("$smallest")" = "$1" ]
}

sums_up_structs() {
  [ "$("$structs" | tail -n 1)" = 'sum 1998000' ] && [ "$("$structs" | grep -c '^1000 of')" = 4 ]
}

helpers_square() {
  "$helper" >"$scratch/out" &&
    [ "$(cat "$scratch/out")" = 'sum of the first 1000 squares: 333833500' ]
}

unknown_command_fails() {
  "$root/dev" no-such-command >"$scratch/out" 2>"$scratch/err"
  [ $? -eq 2 ] && [ ! -s "$scratch/out" ] && grep -q 'no-such-command' "$scratch/err"
}

expect 'the example is docs/examples/smallest.c' \
  diff "$root/docs/examples/smallest.c" "$scratch/example.c"
expect 'the example prints the answer' prints 42
expect 'the example with structs gets them all' sums_up_structs
expect 'the example with helpers gets all results' helpers_square
expect 'every link leads somewhere' links_exist
expect 'every header is named' headers_are_named
expect 'its figures are those of docs/benchmarks.md' figures_are_measured
expect 'there are commands' test -s "$scratch/commands"
expect './dev help knows every command' commands_exist
expect './dev refuses a command that it does not know' unknown_command_fails
finish
