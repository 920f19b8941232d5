#!/bin/sh
# test_probes_table.sh SHARED_LIBRARY SOURCE_ROOT
# The library has the probes of the table in docs/tracing.md, with so many arguments, and no others.
# shellcheck source=test/package/shell.sh disable=SC2016
. "$(dirname "$0")/shell.sh"

library=$1
page=$2/docs/tracing.md

readelf --notes --wide "$library" >"$scratch/notes"

# NAME COUNT: a line for each probe of the notes, which may be in several places.
awk '
  /Provider:/ { provider = $NF }
  $1 == "Name:" { name = $2 }
  $1 == "Arguments:" { print provider, name, NF - 1 }
' "$scratch/notes" | sort -u >"$scratch/found"

# | `NAME` | `ARGUMENT`, ... | when it is met |
sed -n 's/^| `\([a-z_]*\)` | \(`.*`\) | .*/\1 \2/p' "$page" |
  awk '{ print "forkq", $1, NF - 1 }' | sort >"$scratch/told"

no_semaphores() {
  grep -q Semaphore: "$scratch/notes" && ! grep Semaphore: "$scratch/notes" | grep -v 'Semaphore: 0x0*$'
}

# perf leaves out constants, and refuses a probe whose arguments are of other sizes in another place.
alike_for_perf() {
  ! grep 'Arguments:.*@\$' "$scratch/notes" &&
    awk '/Name:/ { name = $NF } /Arguments:/ { gsub(/@[^ ]*/, ""); $1 = name; print }' "$scratch/notes" |
    sort -u | cut -d ' ' -f 1 | sort -uc
}

expect 'the page has probes' test "$(wc -l <"$scratch/told")" -ge 7
expect 'the probes of the library are those of the page' diff "$scratch/told" "$scratch/found"
expect 'no probe waits to be switched on: each is a nop' no_semaphores
expect 'a probe has arguments of the same sizes in each place, and no constants' alike_for_perf
finish
