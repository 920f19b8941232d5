#!/bin/sh
# test_install.sh BUILD_ROOT SOURCE_ROOT COMPILER...
# What meson installs is all that a program needs, with either library.
# shellcheck source=test/package/shell.sh
. "$(dirname "$0")/shell.sh"

build=$1
source=$2
shift 2

DESTDIR=$scratch/root meson install -C "$build" --no-rebuild >"$scratch/log" 2>&1
pc=$(find "$scratch/root" -name forkq.pc)
libdir=$(dirname "$(dirname "$pc")")
export PKG_CONFIG_PATH="${pc%/*}"
prefix=$(pkg-config --variable=prefix forkq)

# The flags as they are with the prefix below DESTDIR.
flags() {
  pkg-config --define-variable=prefix="$scratch/root$prefix" "$@" forkq
}

installed() {
  for file in libforkq.so libforkq.so.0 libforkq.a; do
    [ -e "$libdir/$file" ] || { echo "$file"; cat "$scratch/log"; return 1; }
  done
}

# forkq.h and forkq/loop.h, and all that they include.
headers() {
  { printf '%s\n' forkq.h forkq/loop.h; sed -n 's/^#include <\(forkq\/.*\)>$/\1/p' \
    "$source/include/forkq.h" "$source/include/forkq/loop.h"; } | sort >"$scratch/headers"
  (cd "$scratch/root$prefix/include" && find -- * -name '*.h' | sort) |
    diff "$scratch/headers" -
}

version() {
  sed -n 's/^#define FORKQ_VERSION_[A-Z]* //p' "$source/include/forkq/base.h" |
    paste -s -d . >"$scratch/version"
  pkg-config --modversion forkq | diff "$scratch/version" -
}

# build_with LIBRARY_FLAGS COMPILER...: compiles the smallest example and runs it.
build_with() {
  libraries=$1
  shift
  # shellcheck disable=SC2046,SC2086 # lists of words
  "$@" "$source/docs/examples/smallest.c" -o "$scratch/program" $(flags --cflags) \
    $libraries && [ "$(LD_LIBRARY_PATH=$libdir "$scratch/program")" = 42 ]
}

shared() {
  build_with "$(flags --libs)" "$@" &&
    readelf -d "$scratch/program" | grep -q 'NEEDED.*libforkq\.so\.0'
}

static() {
  build_with "$(flags --static --libs | sed 's/-lforkq/-l:libforkq.a/')" "$@" &&
    ! readelf -d "$scratch/program" | grep 'NEEDED.*libforkq'
}

expect 'the libraries are there' installed
expect 'the headers are there' headers
expect 'forkq.pc has the version of the header' version
expect 'a program with the shared library' shared "$@"
expect 'a program with the static library' static "$@"
finish
