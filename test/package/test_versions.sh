#!/bin/sh
# test_versions.sh SOURCE_ROOT VERSION
# All that has the version has the version of meson.build, and CHANGELOG.md has the layout of it.
# shellcheck source=test/package/shell.sh
. "$(dirname "$0")/shell.sh"

root=$1
version=$2

header() {
  sed -n 's/^#define FORKQ_VERSION_[A-Z]* //p' "$root/include/forkq/base.h" | paste -s -d .
}

changelog() {
  sed -n 's/^## //p' "$root/CHANGELOG.md" | head -n 1
}

debian() {
  sed -n '1s/^forkq (\([0-9.]*\).*/\1/p' "$root/debian/changelog"
}

# MAJOR.MINOR, with the number that MINOR begins with.
symbols() {
  sed -n 's/^ (symver)FORKQ_[0-9]* \([0-9.]*\)\.0$/\1/p' "$root/debian/libforkq0.symbols"
}

layout_of_changelog() {
  sed -n '/^## /,$s/^Layout \([0-9]*\)\..*/\1/p' "$root/CHANGELOG.md" | head -n 1
}

layout() {
  sed -n 's/^#define FORKQ__SEGMENT_LAYOUT \([0-9]*\)u$/\1/p' "$root/src/shared/layout.h"
}

# is WHAT VALUE
is() {
  [ "$($1)" = "$2" ] || { echo "$1: '$($1)', not '$2'"; return 1; }
}

expect 'the header' is header "$version"
expect 'the first version of CHANGELOG.md' is changelog "$version"
expect 'the first version of debian/changelog' is debian "$version"
expect 'the symbols of debian/' is symbols "${version%.*}"
expect 'there is a number of the layout' test -n "$(layout)"
expect 'the layout of the first version of CHANGELOG.md' is layout_of_changelog "$(layout)"
finish
