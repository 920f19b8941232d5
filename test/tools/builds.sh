# Sourced by dev: the build directories, what each needs, and what is done in one, which is $dir.
# shellcheck shell=sh
# shellcheck disable=SC2086 # where a variable is a list of words
# shellcheck disable=SC2154 # root, build, to_build and to_test are dev's, and packages.sh's

tested='-Dtests=enabled -Dcontracts=true'

# configure NAME OPTION...: the build directory build/NAME, made once.
configure() {
  dir=$build/$1
  shift
  [ ! -f "$dir/build.ninja" ] || return 0
  say "configuring $dir"
  quietly meson setup --wrap-mode=nodownload "$@" ${MESONFLAGS-} "$dir" "$root"
}

configure_debug() {
  need $to_test
  configure debug $tested
}

# configure_release_in NAME OPTION...
configure_release_in() {
  need $to_build
  configure "$@" --buildtype=release -Db_lto=true -Dtests=disabled -Dbench=disabled
}

configure_release() { configure_release_in release; }

configure_benchmark() {
  need $to_build
  configure benchmark --buildtype=release -Db_lto=true -Dtests=disabled -Dbench=enabled
}

configure_clang() {
  need $to_test clang
  CC=clang CXX=clang++ configure clang $tested
}

configure_analyzer() {
  need $to_build
  configure analyzer -Dtests=disabled -Dwerror=true -Dc_args=-fanalyzer
}

# ---- Other machines ----

# configure_cross ARCHITECTURE: Debian's cross compiler and C library, and the other libraries unpacked
# into a directory of build/.
configure_cross() {
  need meson ninja-build pkg-config
  case $1 in
    i386) need gcc-i686-linux-gnu g++-i686-linux-gnu ;;
    arm64) need gcc-aarch64-linux-gnu g++-aarch64-linux-gnu qemu-user ;;
    *) fail 'for which machine? i386 or arm64' ;;
  esac
  sysroot=$build/sysroot-$1
  [ -f "$sysroot/complete" ] || quietly "$root/test/tools/cross/sysroot.sh" "$1" "$sysroot"
  printf '[constants]\nsysroot = '\''%s'\''\n' "$sysroot" >"$sysroot/place.ini"
  configure "$1" --cross-file "$sysroot/place.ini" \
    --cross-file "$root/test/tools/cross/$1.ini" $tested -Dbench=disabled
}

# ---- Compilers that add what looks on ----

configure_asan() {
  need $to_test
  configure asan $tested -Db_sanitize=address,undefined -Db_lundef=false
}

configure_tsan() {
  need $to_test clang libclang-rt-dev
  CC=clang CXX=clang++ configure tsan $tested -Db_sanitize=thread -Db_lundef=false
}

configure_coverage() {
  need $to_test
  configure coverage $tested -Db_coverage=true -Dbuildtype=debug \
    -Dc_args=-DFORKQ_COVERAGE -Db_lundef=false
}

fuzz_options='-Dtests=disabled -Dcontracts=true -Dfuzz=true -Db_lundef=false
  -Db_sanitize=address,undefined'

configure_fuzz() {
  need $to_build clang libclang-rt-dev
  CC=clang configure fuzz $fuzz_options
}

configure_fuzz_afl() {
  need $to_build clang libclang-rt-dev afl++
  CC=afl-clang-fast configure fuzz-afl $fuzz_options
}

configure_fuzz_coverage() {
  need $to_test clang libclang-rt-dev llvm
  CC=clang configure fuzz-coverage $tested -Db_lundef=false \
    -Dc_args='-fprofile-instr-generate -fcoverage-mapping' \
    -Dc_link_args=-fprofile-instr-generate
}

# ---- What is done in one ----

compile() { ninja -C "$dir" >&2; }

run_tests() { meson test -C "$dir" --print-errorlogs "$@"; }

# With sanitizers everything takes longer.
run_slow_tests() {
  CK_TIMEOUT_MULTIPLIER=4 run_tests --timeout-multiplier=4 "$@"
}
