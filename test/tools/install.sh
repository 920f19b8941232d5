# Sourced by dev: installs what build/install has, which is then $dir, and removes it again.
# shellcheck shell=sh
# shellcheck disable=SC2086 # where a variable is a list of words
# shellcheck disable=SC2154 # dir is builds.sh's

# value_of OPTION ARGUMENT...: what the arguments say of an option of meson; nothing if they do not.
value_of() {
  option=$1 value=
  shift
  while [ $# -gt 0 ]; do
    case $1 in
      "--$option="* | "-D$option="*) value=${1#*=} ;;
      "--$option") value=${2-} ;;
    esac
    shift
  done
  printf '%s' "$value"
}

is_of_the_system() {
  [ "$1" = /usr ] || [ "$1" = /usr/local ]
}

# The directory of a prefix in which pkg-config and the loader look. On Debian it has the name of the
# machine. meson has that from dpkg-dev, and takes lib64 where dpkg-dev is missing.
libdir_of() {
  if ! is_of_the_system "$1"; then
    echo lib
  elif [ -e /etc/debian_version ]; then
    echo "lib/$(${CC:-cc} -print-multiarch)"
  elif [ -d /usr/lib64 ] && [ ! -L /usr/lib64 ]; then
    echo lib64
  else
    echo lib
  fi
}

# configure_install OPTION...: a build directory of its own, made anew, so that no option of the last
# install counts. A prefix that is not given is /usr/local.
configure_install() {
  prefix=$(value_of prefix ${MESONFLAGS-} "$@")
  prefix=${prefix:-/usr/local}
  libdir=$(value_of libdir ${MESONFLAGS-} "$@")
  libdir=${libdir:-$(libdir_of "$prefix")}
  rm -rf "$build/install"
  [ -n "$(value_of prefix "$@")" ] || set -- "--prefix=$prefix" "$@"
  [ -n "$(value_of libdir "$@")" ] || set -- "--libdir=$libdir" "$@"
  configure_release_in install "$@"
}

# Whether this user may write to the directory, or make it.
is_writable() {
  directory=$1
  until [ -e "$directory" ]; do
    directory=$(dirname "$directory")
  done
  [ -w "$directory" ]
}

# as_owner COMMAND...: as root, if that takes root.
as_owner() {
  if [ -n "${DESTDIR-}" ] || is_writable "$prefix"; then
    "$@"
  else
    as_root "$@"
  fi
}

# The loader learns of what came and went where it looks without being told.
tell_loader() {
  if [ -z "${DESTDIR-}" ] && is_of_the_system "$prefix"; then
    as_root ldconfig
  fi
}

install_all() {
  rm -f "$dir/meson-logs/install-log.txt" # root's, if it was root the last time
  as_owner meson install -C "$dir" --no-rebuild >&2
  tell_loader
  if [ -z "${DESTDIR-}" ] && ! is_of_the_system "$prefix"; then
    say 'programs are built with PKG_CONFIG_PATH, and run with LD_LIBRARY_PATH:'
    say "  export PKG_CONFIG_PATH=$prefix/$libdir/pkgconfig LD_LIBRARY_PATH=$prefix/$libdir"
  fi
}

# Of the directories of manual pages meson knows no more than the name.
list_installed='
import glob, json, os, sys
for path in json.load(sys.stdin).values():
    path = sys.argv[1] + path
    print(*(glob.glob(path + "/[Ff][Oo][Rr][Kk][Qq]*") if os.path.isdir(path) else [path]), sep="\n")'

# Directories with the name of forkq go, too.
# shellcheck disable=SC2016 # the inner shell's
uninstall_all() {
  meson introspect --installed "$dir" >"$dir/installed.json"
  python3 -c "$list_installed" "${DESTDIR-}" <"$dir/installed.json" >"$dir/installed"
  count=$(xargs -d '\n' ls -d <"$dir/installed" 2>/dev/null | wc -l)
  as_owner xargs -d '\n' rm -f <"$dir/installed"
  sed -n 's#/[^/]*$##; /\/forkq$/p' "$dir/installed" | sort -u |
    as_owner xargs -d '\n' -I DIR sh -c '[ ! -d "$1" ] || rmdir --ignore-fail-on-non-empty "$1"' - DIR
  tell_loader
  say "removed $count files from ${DESTDIR-}$prefix"
}
