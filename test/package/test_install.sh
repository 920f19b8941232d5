#!/bin/sh
# test_install.sh BUILD_ROOT SOURCE_ROOT C_COMPILER C++_COMPILER
# What meson installs is all that a program needs, in each way to use it.
# shellcheck source=test/package/shell.sh
. "$(dirname "$0")/shell.sh"

build=$1
source=$2
# shellcheck disable=SC2034 # for uses.sh
compile_c=$3 compile_cxx=$4
# shellcheck source=test/package/uses.sh
. "$(dirname "$0")/uses.sh"

DESTDIR=$scratch/root meson install -C "$build" --no-rebuild >"$scratch/log" 2>&1
pc=$(find "$scratch/root" -name forkq.pc)
libdir=$(dirname "$(dirname "$pc")")
prefix=$scratch/root$(pkg-config --variable=prefix "$pc")
# Where it is now is its prefix.
sed -i "s#^prefix=.*#prefix=$prefix#" "${pc%/*}"/forkq*.pc
export PKG_CONFIG_PATH="${pc%/*}" CMAKE_PREFIX_PATH="$prefix" LD_LIBRARY_PATH="$libdir"

installed() {
  for file in libforkq.so libforkq.so.0 libforkq.a; do
    [ -e "$libdir/$file" ] || { echo "$file"; cat "$scratch/log"; return 1; }
  done
}

# forkq.h, forkq.hpp and forkq/loop.h, and all that they include.
headers() {
  redis=
  [ ! -e "$libdir/libforkq-redis.so" ] || redis=forkq/redis.h
  { printf '%s\n' forkq.h forkq.hpp forkq/loop.h $redis; sed -n 's/^#include <\(forkq\/.*\)>$/\1/p' \
    "$source/include/forkq.h" "$source/include/forkq/loop.h"; } | sort >"$scratch/headers"
  (cd "$prefix/include" && find -- * -type f | sort) | diff "$scratch/headers" -
}

version() {
  sed -n 's/^#define FORKQ_VERSION_[A-Z]* //p' "$source/include/forkq/base.h" |
    paste -s -d . >"$scratch/version"
  pkg-config --modversion forkq | diff "$scratch/version" -
}

expect 'the libraries are there' installed
expect 'the headers are there' headers
expect 'forkq.pc has the version of the header' version
try_uses
finish
