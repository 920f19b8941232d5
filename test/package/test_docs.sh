#!/bin/sh
# test_docs.sh SOURCE_ROOT
# The links of the pages lead somewhere, the tests that they name exist, and the floors in
# docs/design.md are those of the sources.
# shellcheck source=test/package/shell.sh disable=SC2016
. "$(dirname "$0")/shell.sh"

root=$1
find "$root/docs" "$root/test" "$root"/*.md -name '*.md' >"$scratch/pages"

# The headings of a page, as links name them.
anchors() {
  sed -n 's/^#\{1,\} //p' "$1" | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9_\n-'
}

links_lead_somewhere() {
  wrong=
  while read -r page; do
    tr '\n' ' ' <"$page" | grep -o ']([^) ]*)' | sed 's/^](//; s/)$//' | grep -v '://' |
      sort -u >"$scratch/links"
    while read -r link; do
      file=${link%%#*} anchor=${link#"${link%%#*}"}
      target=$page
      [ -z "$file" ] || target=${page%/*}/$file
      if [ ! -e "$target" ]; then
        wrong="$wrong $page:$link"
      elif [ -n "$anchor" ]; then
        anchors "$target" | grep -qx -e "${anchor#\#}" || wrong="$wrong $page:$link"
      fi
    done <"$scratch/links"
  done <"$scratch/pages"
  echo "$wrong"
  [ -z "$wrong" ]
}

tests_exist() {
  absent=
  while read -r page; do
    grep -o '`test_[a-z0-9_]*`' "$page" | tr -d '`' | sort -u >"$scratch/named"
    while read -r program; do
      [ -n "$(find "$root/test" -name "$program.*")" ] || absent="$absent $page:$program"
    done <"$scratch/named"
  done <"$scratch/pages"
  echo "$absent"
  [ -z "$absent" ]
}

# The table of the floors: a line for each room that it names; and for each folder, with its floor.
sed -n 's/^| \([0-9]\) | `\([a-z_]*\)` | \(.*\) |$/\1 \2 \3/p' "$root/docs/design.md" >"$scratch/table"
cut -d ' ' -f 1,2 "$scratch/table" | sort -u >"$scratch/floors"
while read -r _ folder rooms; do
  echo "$rooms" | grep -o '`[a-z_]*`' | tr -d '`' | sed "s#^#$folder/#"
done <"$scratch/table" | sort >"$scratch/rooms"

# Of a room with a header alone there is an _impl.h.
every_room_has_a_floor() {
  for file in "$root"/src/*/*.[ch]; do
    room=${file#"$root/src/"}
    echo "${room%.*}"
  done | grep -v '_impl$' | sort -u | diff "$scratch/rooms" -
}

includes_go_down() {
  for file in "$root"/src/*/*.[ch]; do
    room=${file#"$root/src/"}
    sed -n "s#^\#include \"\([a-z_]*\)/.*\".*#$room ${room%%/*} \1#p" "$file"
  done | awk -v floors="$scratch/floors" '
    BEGIN { while ((getline line <floors) > 0) { split(line, f, " "); floor[f[2]] = f[1] } }
    $2 != $3 && floor[$2] <= floor[$3] { print $1 " includes " $3; up = 1 }
    { seen++ }
    END { exit up || seen < 100 }'
}

expect 'there are pages' test "$(wc -l <"$scratch/pages")" -gt 10
expect 'every link leads somewhere' links_lead_somewhere
expect 'every test that is named exists' tests_exist
expect 'every room is in its folder in the table of the floors' every_room_has_a_floor
expect 'a room includes only rooms of its folder, or of lower floors' includes_go_down
finish
