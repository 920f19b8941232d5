#!/bin/sh
# test_redis_symbols.sh SHARED_LIBRARY STATIC_LIBRARY HEADER
# libforkq-redis exports what its header declares, and needs libforkq in this very version.
# shellcheck source=test/package/shell.sh
. "$(dirname "$0")/shell.sh"

tr '\n' ' ' <"$3" | grep -o 'FORKQ_API [^;(]*forkq_[a-z0-9_]*(' |
  sed 's/.*[ *]\(forkq_[a-z0-9_]*\)($/\1/' | sort >"$scratch/declared"
nm -D --defined-only "$1" | sed -n 's/.* \(.*\)@@FORKQ_REDIS_[0-9]*$/\1/p' | sort >"$scratch/exported"
nm -D --defined-only "$1" | grep -vc '@@' >"$scratch/without"
nm -g --defined-only "$2" | sed -n 's/^[0-9a-f]* [A-Z] //p' | grep -v '^DW\.ref\.' >"$scratch/global"
nm -D --undefined-only "$1" | sed -n 's/.* \(forkq__.*\)/\1/p' >"$scratch/private"

none_but() { ! grep -v "$1" "$2"; }

one_way() { [ "$(sed 's/@.*//' "$scratch/private")" = forkq__host ]; }

expect 'the header declares functions' test -s "$scratch/declared"
expect 'exported is exactly what is declared' diff "$scratch/declared" "$scratch/exported"
expect 'and the name of their version' grep -qx 1 "$scratch/without"
expect 'every name in the static library begins with forkq_' none_but '^forkq_' "$scratch/global"
expect 'of what is private to libforkq it needs one name' one_way
finish
