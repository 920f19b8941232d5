#!/bin/sh
# package.sh SOURCE OUT: builds Debian's packages from a copy of the sources, in the directory OUT, and
# fails if lintian has something to say.
set -eu

rm -rf "$2"
mkdir -p "$2/forkq"
cd "$1"
cp -R LICENSE README.md bench debian docs include meson.build meson_options.txt src test "$2/forkq"
cd "$2/forkq"
if ! dpkg-buildpackage -us -uc -b >../log 2>&1 </dev/null; then
  cat ../log >&2
  exit 1
fi
cd ..
lintian --allow-root --display-info --fail-on error,warning,info ./*.changes >&2
ls "$2"/*.deb
