#!/bin/sh
# test_subproject.sh SOURCE_ROOT C_COMPILER C++_COMPILER
# A meson project that has forkq as a part gets the library, of the kind that it wants, and nothing else.
# shellcheck source=test/package/shell.sh
. "$(dirname "$0")/shell.sh"

source=$1
export CC="$2" CXX="$3"
unset MESONFLAGS CFLAGS LDFLAGS DESTDIR

mkdir -p "$scratch/parent/subprojects"
ln -s "$source" "$scratch/parent/subprojects/forkq"
cp "$source/docs/examples/smallest.c" "$source/test/package/header.cc" "$scratch/parent"
cat >"$scratch/parent/meson.build" <<'END'
project('parent', 'c', 'cpp')
forkq = subproject('forkq').get_variable('forkq_dep')
executable('c_program', 'smallest.c', dependencies: forkq)
executable('cxx_program', 'header.cc', dependencies: forkq)
END

configure() {
  meson setup --wrap-mode=nodownload "-Ddefault_library=$1" "$scratch/$1" "$scratch/parent"
}

# The targets, without those of the parent.
targets() {
  meson introspect --targets "$scratch/$1" | grep -o '"type": "[a-z ]*"' | cut -d '"' -f 4 |
    grep -vx executable | sort | paste -s -d ,
}

# brings KIND TARGETS
brings() {
  configure "$1" && [ "$(targets "$1")" = "$2" ] &&
    [ "$(meson introspect --tests "$scratch/$1")" = '[]' ] &&
    [ "$(meson introspect --targets "$scratch/$1" | grep -o '"type": "executable"' | wc -l)" = 2 ]
}

programs_run() {
  ninja -C "$scratch/$1" && [ "$("$scratch/$1/c_program")" = 42 ] && "$scratch/$1/cxx_program"
}

expect 'brings the shared library alone' brings shared 'shared library'
expect 'brings both libraries' brings both 'shared library,static library'
expect 'brings the static library alone' brings static 'static library'
expect 'programs with the static one, in C and C++' programs_run static
finish
