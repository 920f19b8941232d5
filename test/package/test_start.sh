#!/bin/sh
# test_start.sh SOURCE_ROOT
# Whoever does what docs/start.md says gets what it says: its files are written, its commands run, one
# after the other in one shell, and what they print at the end is what the page shows.
# shellcheck source=test/package/shell.sh
. "$(dirname "$0")/shell.sh"

source=$1
for command in git cmake; do
  command -v "$command" >/dev/null || exit 77 # skipped
done

# A repository of the checkout as it is now.
make_repository() {
  mkdir "$scratch/repository"
  (cd "$source" && cp -R LICENSE README.md bench dev docs include meson.build meson_options.txt src \
    test "$scratch/repository")
  cd "$scratch/repository" && git init --quiet . && git add . &&
    git -c user.name=forkq -c user.email=forkq commit --quiet -m 'The checkout'
}

# The page as a script. A file has its name at the end of the paragraph before it. What a command
# prints last is what the next block of text has.
write_script() {
  awk '
    /^```sh$/ { print "{"; after = "} >\"$printed\""; next }
    /^```text$/ { print "cat >\"$expected\" <<\"END\""; after = "END\ncompare"; next }
    /^```./ { print "cat >\"" name "\" <<\"END\""; after = "END"; next }
    /^```$/ { print after; after = ""; next }
    after != "" { print; next }
    match($0, /`[^`]*`:$/) { name = substr($0, RSTART + 1, RLENGTH - 3) }
  ' "$1"
}

make_script() {
  cat <<'END'
set -eu
compare() { tail -n "$(wc -l <"$expected")" "$printed" | diff "$expected" -; }
END
  write_script "$source/docs/start.md"
}

# In a new home. Nothing here needs a fast library.
follows_the_page() {
  mkdir "$scratch/home" && cd "$scratch/home" && make_script >"$scratch/script" &&
    unset FORKQ_BUILD DESTDIR CFLAGS CXXFLAGS LDFLAGS &&
    HOME=$scratch/home repository=$scratch/repository printed=$scratch/printed \
      expected=$scratch/expected MESONFLAGS='-Db_lto=false -Doptimization=0 -Dexamples=disabled' \
      sh "$scratch/script"
}

nothing_is_left() { find "$scratch/home/.local" ! -type d >&2; [ -z "$(find "$scratch/home/.local" ! -type d)" ]; }

expect 'makes a repository' make_repository
expect 'does what the page says' follows_the_page
expect 'three programs have run' test "$(grep -c '^compare$' "$scratch/script")" -eq 3
expect 'nothing of it is left in the prefix' nothing_is_left
finish
