# Sourced by dev: makes sure of what a command needs, from Debian's packages where the system lacks
# it.
# shellcheck shell=sh
# shellcheck disable=SC2086 # where a variable is a list of words
# shellcheck disable=SC2034 # to_test is for others
# shellcheck disable=SC2154 # build is dev's

to_build='gcc libc6-dev meson ninja-build pkg-config libmsgpack-dev libuv1-dev libjansson-dev
  libncurses-dev libhiredis-dev systemtap-sdt-dev'
to_test="$to_build g++ libmsgpack-cxx-dev check strace cmake git mandoc groff-base redis-server"
# What forkq is compared with.
to_compare='g++ libzmq3-dev libboost-dev python3 gnuplot-nox'

is_command() { command -v "$1" >/dev/null; }

links_tsan() {
  echo 'int main(void) { return 0; }' |
    clang -fsanitize=thread -x c -o /dev/null -
}

# Whether the system has what the Debian package of that name brings, from wherever.
has() {
  case $1 in
    gcc) ${CC:-cc} --version ;;
    g++) ${CXX:-c++} --version ;;
    gcc-*-linux-gnu) is_command "${1#gcc-}-gcc" ;;
    g++-*-linux-gnu) is_command "${1#g++-}-g++" ;;
    qemu-user) is_command qemu-aarch64 ;;
    libc6-dev) echo '#include <stdio.h>' | ${CC:-cc} -E - ;;
    ninja-build) is_command ninja ;;
    libmsgpack-dev) pkg-config --exists msgpack-c || pkg-config --exists msgpack ;;
    libuv1-dev) pkg-config --exists libuv ;;
    libjansson-dev) pkg-config --exists jansson ;;
    libhiredis-dev) pkg-config --exists hiredis ;;
    libncurses-dev) pkg-config --exists ncursesw || pkg-config --exists ncurses ;;
    systemtap-sdt-dev) echo '#include <sys/sdt.h>' | ${CC:-cc} -E - ;;
    libmsgpack-cxx-dev) echo '#include <msgpack.hpp>' | ${CXX:-c++} -x c++ -E - ;;
    check) pkg-config --exists check ;;
    libzmq3-dev) pkg-config --exists libzmq ;;
    libboost-dev) echo '#include <boost/version.hpp>' | ${CXX:-c++} -x c++ -E - ;;
    groff-base) is_command groff ;;
    gnuplot-nox) is_command gnuplot ;;
    linux-perf) is_command perf ;;
    python3-dev) pkg-config --exists python3 ;;
    libclang-rt-dev) links_tsan ;;
    llvm) is_command llvm-cov ;;
    clang-tools) is_command clang-query ;;
    build-essential) dpkg -s build-essential ;;
    debhelper) is_command dh ;;
    libpython3.11-testsuite) [ -e /usr/lib/python3.11/test/_test_multiprocessing.py ] ;;
    dh-python) is_command dh_python3 ;;
    afl++) is_command afl-clang-fast ;;
    *) is_command "$1" ;;
  esac >/dev/null 2>&1
}

missing() {
  for package in "$@"; do
    has "$package" || printf ' %s' "$package"
  done
}

# as_root COMMAND...: a root that came by su may not have the directories of its programs in $PATH.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    env PATH="$PATH:/usr/sbin:/sbin" "$@"
  elif is_command sudo; then
    sudo "$@"
  else
    fail "neither root nor sudo, so as root: $*"
  fi
}

# compiles VARIABLE LANGUAGE: whether the command in the variable, if it is set, is a compiler.
compiles() {
  eval "compiler=\${$1-}"
  [ -z "$compiler" ] || echo 'int compiled;' | $compiler -E -x "$2" - 2>/dev/null | grep -q compiled ||
    fail "\$$1 is '$compiler', which is not a compiler here"
}

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@"
}

# Makes sure of the named Debian packages, or of the same from elsewhere.
need() {
  for package in "$@"; do
    case $package in
      gcc) compiles CC c ;;
      g++) compiles CXX c++ ;;
    esac
  done
  lack=$(missing "$@")
  [ -n "$lack" ] || return 0
  is_command apt-get || fail "needs, by the names of Debian's packages:$lack"
  say "installing$lack"
  # Asks for the password where it can be seen.
  [ "$(id -u)" -eq 0 ] || is_command sudo || fail "neither root nor sudo, so as root: apt-get install$lack"
  as_root true
  quietly apt_get update
  quietly apt_get install -y --no-install-recommends $lack
  lack=$(missing "$@")
  [ -z "$lack" ] || fail "installed, but still not found:$lack"
}

# What cannot be had is left out; what is new is looked for, by a new build of the benchmark.
need_to_compare() {
  for package in $to_compare; do
    has "$package" && continue
    (need "$package") || say "goes without $package"
    rm -rf "$build/benchmark"
  done
}
