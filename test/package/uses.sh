# Sourced by test_install.sh, and by the test of Debian's packages: each way to build a program with a
# forkq that is installed. $source is the root of the sources, $compile_c and $compile_cxx are the
# compilers. Where forkq is not where everybody looks, the environment says it.
# shellcheck shell=sh
# shellcheck disable=SC2086,SC2046 # lists of words
# shellcheck disable=SC2154 # scratch is shell.sh's

example=$source/docs/examples/smallest.c # prints 42
needs_shared='NEEDED.*libforkq\.so\.'

needs() { readelf -d "$scratch/program" | grep "$1"; }

pkg_config_c() {
  $compile_c "$example" -o "$scratch/program" $(pkg-config --cflags --libs forkq) &&
    [ "$("$scratch/program")" = 42 ] && needs "$needs_shared"
}

pkg_config_cxx() {
  $compile_cxx "$source/test/package/header.cc" -o "$scratch/program" \
    $(pkg-config --cflags --libs forkq) && "$scratch/program" && needs "$needs_shared"
}

# The library for queues in a server, where it is installed.
pkg_config_redis() {
  $compile_c "$source/test/package/redis.c" -o "$scratch/program" $(pkg-config --cflags --libs forkq-redis) &&
    "$scratch/program" && needs 'NEEDED.*libforkq-redis\.so\.'
}

# The static library in a program that is shared otherwise.
archive_c() {
  $compile_c "$example" -o "$scratch/program" $(pkg-config --cflags forkq) \
    $(pkg-config --static --libs forkq | sed 's/-lforkq/-l:libforkq.a/') &&
    [ "$("$scratch/program")" = 42 ] && ! needs "$needs_shared"
}

# libuv's getaddrinfo makes the linker warn.
static_c() {
  $compile_c -static "$example" -o "$scratch/program" $(pkg-config --static --cflags --libs forkq) &&
    [ "$("$scratch/program")" = 42 ] && ! needs NEEDED
}

static_cxx() {
  $compile_cxx -static "$source/test/package/header.cc" -o "$scratch/program" \
    $(pkg-config --static --cflags --libs forkq) && "$scratch/program" && ! needs NEEDED
}

links_statically() {
  echo 'int main(void) { return 0; }' | $compile_c -static -x c - -o "$scratch/program" 2>/dev/null
}

# cmake_project VERSION: looks for forkq twice, as projects that are made of others do.
cmake_project() {
  rm -rf "$scratch/cmake"
  mkdir "$scratch/cmake"
  cat >"$scratch/cmake/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.13)
project(uses_forkq C CXX)
find_package(forkq $1 REQUIRED)
find_package(forkq $1 REQUIRED)
add_executable(c_program "$example")
target_link_libraries(c_program forkq::forkq)
add_executable(cxx_program "$source/test/package/header.cc")
target_link_libraries(cxx_program forkq::forkq)
END
  CC=$compile_c CXX=$compile_cxx cmake -S "$scratch/cmake" -B "$scratch/cmake/build"
}

cmake_finds() {
  cmake_project "$1" && cmake --build "$scratch/cmake/build" &&
    [ "$("$scratch/cmake/build/c_program")" = 42 ] && "$scratch/cmake/build/cxx_program"
}

cmake_refuses() {
  ! cmake_project "$1" >"$scratch/refusal" 2>&1 && grep 'compatible$' "$scratch/refusal"
}

try_uses() {
  version=$(pkg-config --modversion forkq)
  expect 'pkg-config, in C' pkg_config_c
  expect 'pkg-config, in C++' pkg_config_cxx
  if pkg-config --exists forkq-redis; then
    expect 'pkg-config, for queues in a server' pkg_config_redis
  fi
  expect 'the static library and all others shared' archive_c
  if links_statically; then
    expect 'pkg-config --static, in C' static_c
    expect 'pkg-config --static, in C++' static_cxx
  fi
  if command -v cmake >/dev/null; then
    expect 'find_package, in C and C++' cmake_finds "$version"
    expect 'find_package of no version' cmake_finds ''
    expect 'find_package of a later version' cmake_refuses "${version%.*}.99"
    expect 'find_package of another ABI' cmake_refuses "$((${version%%.*} + 1))"
  fi
}
