#!/bin/sh
# test_symbols.sh SHARED_LIBRARY STATIC_LIBRARY HEADER...
# The library exports what the headers declare, and nothing else.
# shellcheck source=test/package/shell.sh
. "$(dirname "$0")/shell.sh"

shared=$1
static=$2
shift 2

cat "$@" | tr '\n' ' ' | grep -o 'FORKQ_API [^;(]*forkq_[a-z0-9_]*(' |
  sed 's/.*[ *]\(forkq_[a-z0-9_]*\)($/\1/' | sort >"$scratch/declared"
nm -D --defined-only "$shared" | sed 's/.* //' | sort >"$scratch/all"
# What the other libraries of this package call has a version of its own: src/queue/elsewhere.h.
grep 'FORKQ_PRIVATE_' "$scratch/all" >"$scratch/private"
grep -v 'FORKQ_PRIVATE_' "$scratch/all" >"$scratch/versioned"
sed -n 's/@@.*//p' "$scratch/versioned" >"$scratch/exported"
# DW.ref.*: how the compiler finds what runs where a thread leaves a call. _.stapsdt.base: what the places of
# probes count from; every object that has probes has one, and it is hidden.
nm -g --defined-only "$static" | sed -n 's/^[0-9a-f]* [A-Z] //p' | grep -v '^DW\.ref\.\|^_\.stapsdt\.base$' | sort >"$scratch/global"

none_but() {
  ! grep -v "$1" "$2"
}

private() {
  ! grep '^forkq__' "$scratch/exported"
}

# The version of the package, so that libraries of different versions do not meet.
one_private_way() {
  sed -n 's/^forkq__host@@FORKQ_PRIVATE_[0-9]*\.[0-9]*\.[0-9]*$/one/p' "$scratch/private" | grep -qx one &&
    [ "$(wc -l <"$scratch/private")" -eq 2 ]
}

soname() {
  readelf -d "$shared" | sed -n 's/.*SONAME.*\[libforkq\.so\.\([0-9]*\)\]/\1/p'
}

soname >"$scratch/soname"
echo "FORKQ_$(cat "$scratch/soname")" >"$scratch/version"

# The name of the version itself is a symbol, too, without a version.
one_version() {
  sed 's/^forkq_.*@@//' "$scratch/versioned" | sort -u | diff - "$scratch/version"
}

expect 'the headers declare functions' test -s "$scratch/declared"
expect 'nothing is declared twice' sort -uc "$scratch/declared"
expect 'exported is exactly what is declared' diff "$scratch/declared" "$scratch/exported"
expect 'every exported name begins with forkq_' none_but '^forkq_' "$scratch/exported"
expect 'no private name is exported' private
expect 'the other libraries have one way in' one_private_way
expect 'every name in the static library begins with forkq_' none_but '^forkq_' "$scratch/global"
expect 'the library has a soname' grep -qx '[0-9]\+' "$scratch/soname"
expect 'all symbols have the version of the soname' one_version
finish
