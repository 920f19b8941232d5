#!/bin/sh
# test_limits_table.sh SOURCE_ROOT
# docs/limits.md has every bound that the sources name, and names tests that there are.
# shellcheck source=test/package/shell.sh disable=SC2016
. "$(dirname "$0")/shell.sh"

root=$1
table=$root/docs/limits.md

# Numbers that bound nothing: versions, marks, units, one bit or value among others.
cat >"$scratch/no_bound" <<'END'
FORKQ_VERSION_[A-Z]*
FORKQ__SEGMENT_MAGIC
FORKQ__SEGMENT_LAYOUT
FORKQ__PACKET_MAGIC
FORKQ_ALL
FORKQ__PY_EXT_[A-Z]*
READ_ONLY
FAILED
NS_PER_MS
ROOM
PIPE
ITEM
TASKS
LOCK
FORKQ__FOREVER
FORKQ__NOWAIT
FORKQ__INODE_BITS
FORKQ__NO_CELL
FORKQ__NO_TASK
KEEPS
CELL_MASK
MINE_MAX
BEGIN
FORKQ__ANY_BITS
FORKQ__CELL_USED
DROPPED
FORKQ__NS_PER_MS
NS_PER_S
ONE_FD
RWF_NOSIGNAL
RWF_NOWAIT
SCM_PIDFD
UNDER_TSAN
WHERE_IT_IS
END

# A name may stand for one thing in each of several files, which the table then names.
for file in "$root"/src/*/*.[ch] "$root"/include/forkq/*.h; do
  sed -n -E 's/^ *# *define ([A-Z_]+) +[-0-9(A-Z].*$/\1/p' "$file" |
    grep -v '_API$\|_MUST_CHECK$' | grep -vx -f "$scratch/no_bound" | sed "s/\$/ ${file##*/}/"
done >"$scratch/bounds"

bounds_are_in_the_table() {
  while read -r bound file; do
    grep "\`$bound\`" "$table" | grep -q "\`\(forkq/\)\?$file\`" || {
      echo "$bound, $file"
      missing=1
    }
  done <"$scratch/bounds"
  [ -z "${missing-}" ]
}

# In the last column `test_x` or `fuzz_x` is a program, any other name one of its tests.
find "$root/test" -name 'test_*.c' >"$scratch/tests"
sed -n 's/^|.*|\(.*\)|$/\1/p' "$table" | grep -o '`[a-z][a-z0-9_]*`' | tr -d '`' | sort -u \
  >"$scratch/names"

tests_exist() {
  while read -r name; do
    case $name in
      test_*) grep -q "/$name\.c$" "$scratch/tests" ;;
      fuzz_*) [ -e "$root/test/fuzz/$name.c" ] ;;
      *) xargs grep -q "^START_TEST($name)" <"$scratch/tests" ;;
    esac || { echo "$name"; absent=1; }
  done <"$scratch/names"
  [ -z "${absent-}" ]
}

expect 'there are bounds' test "$(wc -l <"$scratch/bounds")" -gt 40
expect 'every bound is in the table' bounds_are_in_the_table
expect 'there are tests' test "$(wc -l <"$scratch/names")" -gt 20
expect 'every test that it names exists' tests_exist
finish
