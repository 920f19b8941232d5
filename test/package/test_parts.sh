#!/bin/sh
# test_parts.sh SOURCE_ROOT C_COMPILER C++_COMPILER
# A meson project that has forkq as a part gets the library, of the kind that it wants, and nothing else.
# What a packager switches off is not built, not tested and not installed.
# shellcheck source=test/package/shell.sh
. "$(dirname "$0")/shell.sh"

source=$1
export CC="$2" CXX="$3"
unset CFLAGS CXXFLAGS LDFLAGS DESTDIR

mkdir -p "$scratch/parent/subprojects"
ln -s "$source" "$scratch/parent/subprojects/forkq"
cp "$source/docs/examples/smallest.c" "$source/test/package/header.cc" "$scratch/parent"
cat >"$scratch/parent/meson.build" <<'END'
project('parent', 'c', 'cpp')
forkq = subproject('forkq').get_variable('forkq_dep')
executable('c_program', 'smallest.c', dependencies: forkq)
executable('cxx_program', 'header.cc', dependencies: forkq)
END

# configure NAME SOURCE OPTION...
configure() {
  dir=$scratch/$1 from=$2
  shift 2
  meson setup --wrap-mode=nodownload "$@" "$dir" "$from"
}

# has_targets NAME KIND...: exactly these.
has_targets() {
  meson introspect --targets "$scratch/$1" | grep -o '"type": "[a-z ]*"' | cut -d '"' -f 4 |
    sort >"$scratch/targets"
  shift
  printf '%s\n' "$@" | diff - "$scratch/targets"
}

has_no_tests() { [ "$(meson introspect --tests "$scratch/$1")" = '[]' ]; }

# brings LIBRARY KIND...
brings() {
  library=$1
  shift
  configure "$library" "$scratch/parent" "-Ddefault_library=$library" &&
    has_targets "$library" executable executable "$@" && has_no_tests "$library"
}

programs_run() {
  ninja -C "$scratch/$1" && [ "$("$scratch/$1/c_program")" = 42 ] && "$scratch/$1/cxx_program"
}

library_alone() {
  configure alone "$source" -Dtests=disabled -Dbench=disabled -Dexamples=disabled -Ddocs=disabled \
    -Dtool=disabled -Dprobes=disabled -Dredis=disabled -Dpython=disabled &&
    ! grep HAS_PROBES "$scratch/alone/compile_commands.json" &&
    has_targets alone 'shared library' 'static library' && has_no_tests alone &&
    ! meson introspect --installed "$scratch/alone" | grep libforkq-redis &&
    ! meson introspect --installed "$scratch/alone" | grep '/share/'
}

no_examples() {
  configure no_examples "$source" -Dtests=enabled -Dbench=disabled -Dexamples=disabled &&
    ! meson introspect --tests "$scratch/no_examples" | grep 'docs/examples/[a-z]*"' &&
    ! has_no_tests no_examples
}

expect 'brings the shared library alone' brings shared 'shared library'
expect 'brings both libraries' brings both 'shared library' 'static library'
expect 'brings the static library alone' brings static 'static library'
expect 'programs with the static one, in C and C++' programs_run static
expect 'the library without all that can be switched off' library_alone
expect 'the tests without the examples' no_examples
finish
