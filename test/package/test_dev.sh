#!/bin/sh
# test_dev.sh SOURCE_ROOT
# What ./dev itself does: where it installs and as whom, where it builds, and what it says. meson, ninja,
# sudo and ldconfig are stand-ins here, which write down how they were called.
# shellcheck source=test/package/shell.sh disable=SC2086
. "$(dirname "$0")/shell.sh"

unset MESONFLAGS DESTDIR CC CXX
checkout=$scratch/checkout
calls=$scratch/calls
export FORKQ_BUILD="$scratch/build" PATH="$scratch/bin:$PATH"

# stand_in NAME: a command that writes down its call, and then does what is on stdin.
stand_in() {
  { printf '#!/bin/sh\necho "%s $*" >>%s\n' "$1" "$calls"; cat; } >"$scratch/bin/$1"
  chmod +x "$scratch/bin/$1"
}

make_stand_ins() {
  mkdir "$scratch/bin" "$scratch/build" "$scratch/own"
  : >"$calls"
  # meson setup's last arguments are the build directory and the sources.
  stand_in meson <<'END'
case $1 in
  setup) while [ $# -gt 2 ]; do shift; done; mkdir -p "$1" && touch "$1/build.ninja" ;;
  introspect) cat "$FORKQ_BUILD/installed.json" ;;
esac
END
  # Where there is a pipe, it ends when somebody has opened it and closed it again.
  stand_in ninja <<'END'
[ ! -p "$FORKQ_BUILD/pipe" ] || timeout 60 cat "$FORKQ_BUILD/pipe"
END
  stand_in sudo <<'END'
exec "$@"
END
  stand_in ldconfig </dev/null
}

make_checkout() {
  mkdir -p "$checkout/test"
  cp "$1/dev" "$checkout"
  cp -R "$1/test/tools" "$checkout/test"
}

# Root needs no sudo, so root becomes nobody, for whom the checkout is read-only.
become=
if [ "$(id -u)" -eq 0 ] && setpriv --reuid=65534 --clear-groups true 2>/dev/null; then
  become='setpriv --reuid=65534 --clear-groups'
fi

# dev ARGUMENT...: calls are those of this one.
dev() {
  : >"$calls"
  $become "$checkout/dev" "$@" 2>"$scratch/said_by_dev" || { cat "$scratch/said_by_dev"; return 1; }
}

called() { grep -e "$1" "$calls" || { cat "$calls"; return 1; }; }

installs_for_itself() {
  dev install "--prefix=$scratch/own" && called '^meson install' && ! called '^sudo' &&
    ! called '^ldconfig' && called "^meson setup.*--libdir=lib --prefix=$scratch/own " &&
    grep "PKG_CONFIG_PATH=$scratch/own/lib/pkgconfig LD_LIBRARY_PATH=$scratch/own/lib\$" \
      "$scratch/said_by_dev"
}

installs_into_destdir() {
  DESTDIR=$scratch/root dev install --prefix=/usr && called '^meson install' && ! called '^sudo' &&
    ! called '^ldconfig'
}

# The prefix of the install before is not this one's.
installs_for_all() {
  dev install && called '^meson setup.*--prefix=/usr/local' && called '^sudo meson install' &&
    called '^sudo ldconfig'
}

takes_other_forms() {
  dev install "-Dprefix=$scratch/own" -Dlibdir=lib32 &&
    called "^meson setup.* -Dprefix=$scratch/own -Dlibdir=lib32 .*$scratch/build/install " &&
    ! called '^sudo'
}

finds_the_libdir_of_debian() {
  dev install && called "^meson setup.*--libdir=lib/$(cc -print-multiarch) "
}

uninstalls() {
  mkdir -p "$scratch/own/include/forkq" "$scratch/own/lib"
  touch "$scratch/own/include/forkq/base.h" "$scratch/own/lib/libforkq.so" "$scratch/own/lib/other"
  [ -z "$become" ] || chown -R 65534 "$scratch/own"
  printf '{"base.h": "%s", "libforkq.so": "%s"}\n' "$scratch/own/include/forkq/base.h" \
    "$scratch/own/lib/libforkq.so" >"$scratch/build/installed.json"
  dev uninstall "--prefix=$scratch/own" && ! called '^sudo' &&
    grep -F "removed 2 files from $scratch/own" "$scratch/said_by_dev" &&
    [ "$(cd "$scratch/own" && find . | sort | paste -s -d ' ')" = '. ./include ./lib ./lib/other' ]
}

# says TEXT ENVIRONMENT COMMAND: fails with this text.
says() {
  text=$1
  shift
  ! $become env "$1" "$checkout/dev" "$2" >"$scratch/out" 2>&1 && grep -F -e "$text" "$scratch/out"
}

leaves_the_checkout_alone() {
  dev build && [ -e "$scratch/build/debug/build.ninja" ] && [ ! -e "$checkout/build" ]
}

wait_until() {
  tries=0
  until "$@"; do
    tries=$((tries + 1))
    [ $tries -lt 3000 ] || return 1
    sleep 0.01
  done
}

# The second builds after the first has ended, which it does when ninja's pipe is closed.
takes_turns() {
  mkfifo "$scratch/build/pipe"
  chmod 666 "$scratch/build/pipe"
  : >"$calls"
  $become "$checkout/dev" build 2>"$scratch/first" &
  first=$!
  wait_until grep -q ninja "$calls" || return 1
  $become "$checkout/dev" build 2>"$scratch/second" &
  second=$!
  wait_until grep -q 'waits for another' "$scratch/second" || return 1
  [ "$(grep -c ninja "$calls")" -eq 1 ] || return 1
  : >"$scratch/build/pipe" && wait $first || return 1
  : >"$scratch/build/pipe" && wait $second && [ "$(grep -c ninja "$calls")" -eq 2 ]
}

make_checkout "$1"
make_stand_ins
chmod 755 "$scratch"
chmod 666 "$calls"
[ -z "$become" ] || chown 65534 "$scratch/build" "$scratch/own"

expect 'builds elsewhere' leaves_the_checkout_alone
expect 'two at once take turns' takes_turns
rm -f "$scratch/build/pipe"
expect 'installs into a prefix of the user without root' installs_for_itself
expect 'installs into DESTDIR without root' installs_into_destdir
expect 'takes -Dprefix for a prefix' takes_other_forms
if [ -e /etc/debian_version ]; then
  expect 'installs where Debian looks' finds_the_libdir_of_debian
fi
expect 'uninstalls what it installed, and nothing else' uninstalls
if [ "${become:-$(id -u)}" != 0 ]; then
  expect 'installs into /usr/local with sudo' installs_for_all
  expect 'says that it cannot build in a checkout that is read-only' \
    says "\$FORKQ_BUILD may name another" "FORKQ_BUILD=$checkout/build" build
fi
expect 'names a compiler that does not exist' \
  says "\$CC is 'foo', which is not a compiler here" CC=foo build
expect 'names a compiler that is none' \
  says "\$CC is 'true', which is not a compiler here" CC=true install
expect 'names a C++ compiler that is none' \
  says "\$CXX is 'foo', which is not a compiler here" CXX=foo test
finish
