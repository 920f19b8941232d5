#!/usr/bin/env bash
# Do the tests see? Damages a copy of the library in one place after the other (list.txt),
# and runs tests until one fails. Usage: run.sh SOURCE WORK [NAME...]; --check as the only
# name: only that each damage applies exactly once. The table goes to stdout.
set -uo pipefail
root=$1 work=$2
shift 2
tree=$work/tree
mkdir -p "$work"
rm -rf "$tree"
mkdir "$tree"
# With new times: a used $work has objects of the last damage, which ninja would take for newer.
cp -RP "$root"/{include,src,test,docs,bench,LICENSE,README.md,dev,meson.build,meson_options.txt} "$tree"
dir=$work/build
seen=0 unseen=0 broken=0

wanted() {
  local each
  [ $# -gt 1 ] || return 0
  for each in "${@:2}"; do
    [ "$each" != "$1" ] || return 0
  done
  return 1
}

trim() { sed -e 's/^ *//' -e 's/ *$//' <<<"$1"; }

# The program of a test lies in the build as its source does in the tree.
program() {
  (cd "$tree" && find test -name "test_$1.c" | sed 's/\.c$//')
}

# The named tests, and nothing else of what there is.
compile() {
  local name programs=()
  for name in $1; do
    case $name in
      tool_*) programs+=(src/tool/forkq test/tool/actor) ;;
      python_*) programs+=(python docs/examples/report) ;;
      *) programs+=("$(program "$name")") ;;
    esac
  done
  ninja -C "$dir" "${programs[@]}" >"$work/log" 2>&1
}

# The tests of the program forkq and of the module for Python are not C.
run_test() {
  case $1 in
    tool_*)
      timeout -k 5 100 python3 -B "$tree/test/tool/test_$1.py" "$dir/src/tool/forkq" \
        "$dir/test/tool/actor" "$tree"
      ;;
    python_*)
      local arguments=()
      [ "$1" != python_programs ] || arguments=("$dir/docs/examples/report" "$tree/docs/examples")
      PYTHONPATH=$dir/src/python timeout -k 5 100 python3 -B -X dev -W error \
        "$tree/test/python/test_${1#python_}.py" "${arguments[@]}"
      ;;
    *) CK_FORK=yes timeout -k 5 100 "$dir/$(program "$1")" ;;
  esac
}

# A test that hangs has seen it, too.
first_to_fail() {
  local name
  for name in $1; do
    if ! run_test "$name" >"$work/log" 2>&1 </dev/null; then
      echo "$name"
      return
    fi
  done
}

check=no
if [ "${1-}" = --check ]; then
  check=yes
  shift
elif [ ! -f "$dir/build.ninja" ]; then
  meson setup -Dtests=enabled -Dbuildtype=debugoptimized "$dir" "$tree" >"$work/log" || exit 1
fi

echo '| damage | file | seen by |'
echo '|---|---|---|'
while IFS= read -r line; do
  case $line in '' | '#'*) continue ;; esac
  name=$(trim "${line%% | *}") rest=${line#* | }
  file=$(trim "${rest%% | *}") rest=${rest#* | }
  tests=$(trim "${rest##* | }")
  damage=${rest% | *}
  wanted "$name" "$@" || continue
  sed "$damage" "$root/src/$file" >"$tree/src/$file"
  changed=$(diff "$root/src/$file" "$tree/src/$file" | grep -c '^>')
  if [ "$changed" -ne 1 ]; then
    echo "run.sh: $name changes $changed lines of $file" >&2
    broken=$((broken + 1))
  elif [ $check = no ]; then
    by='does not compile'
    if compile "$tests"; then
      by=$(first_to_fail "$tests")
    fi
    case $by in
      '') unseen=$((unseen + 1)) by='**nothing**' ;;
      'does not compile') broken=$((broken + 1)) ;;
      *) seen=$((seen + 1)) ;;
    esac
    echo "| $name | \`$file\` | $by |"
  fi
  cp "$root/src/$file" "$tree/src/$file"
done <"$root/test/mutations/list.txt"
echo
echo "$seen seen, $unseen not seen, $broken that do not apply or compile"
[ $broken -eq 0 ] && [ $((10 * seen)) -ge $((9 * (seen + unseen))) ]
