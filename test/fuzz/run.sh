#!/bin/sh
# run.sh DIR [--seconds N] [--coverage | --afl] [TARGET...]: looks for inputs that break the
# decoders, for 60 s each, with the programs of a build directory that was configured for it.
#
#   (neither)   libFuzzer, two at a time. The corpus as it grows, and what breaks something, stay
#               in DIR.
#   --afl       afl++, one after the other
#   --coverage  lines, functions and branches of the library that the corpus reaches
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
dir=$1 mode=all seconds=60
shift

fail() {
  echo "fuzz: $*" >&2
  exit 1
}

# build PROGRAM TARGET...: silently, unless it fails.
build() {
  program=$1
  shift
  # shellcheck disable=SC2046 # names
  ninja -C "$dir" $(printf "test/fuzz/${program}_%s " "$@") >"$dir/log" 2>&1 </dev/null || {
    cat "$dir/log" >&2
    fail "cannot build $*"
  }
}

one() {
  mkdir -p "$dir/corpus/$1"
  echo "fuzz: $1 for $seconds s" >&2
  UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "$dir/test/fuzz/fuzz_$1" \
    -max_total_time="$seconds" -timeout=20 -malloc_limit_mb=64 -rss_limit_mb=2048 \
    -max_len=5000 -detect_leaks=0 -print_final_stats=1 -dict="$here/msgpack.dict" \
    -artifact_prefix="$dir/$1-" "$dir/corpus/$1" "$here/corpus/$1" >"$dir/$1.log" 2>&1 &&
    return
  tail -n 60 "$dir/$1.log" >&2
  return 1
}

all() {
  build fuzz "$@"
  failed=
  while [ $# -gt 0 ]; do
    one "$1" &
    other=
    if [ $# -gt 1 ]; then
      one "$2" || other=failed
      shift
    fi
    wait $! && [ -z "$other" ] || failed=yes
    shift
  done
  grep -H '^stat::number_of_executed_units' "$dir"/*.log >&2 || true
  [ -z "$failed" ] || fail "inputs that break something are in $dir"
}

afl() {
  build fuzz "$@"
  mkdir -p "$dir/found"
  for target in "$@"; do
    AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_UI=1 \
      afl-fuzz -V "$seconds" -t 5000 -x "$here/msgpack.dict" \
      -i "$here/corpus/$target" -o "$dir/found/$target" \
      -- "$dir/test/fuzz/fuzz_$target" >&2
    grep -E '^(execs_done|saved_crashes|saved_hangs|bitmap_cvg)' \
      "$dir/found/$target/default/fuzzer_stats"
    ! ls "$dir/found/$target/default/crashes/"id* >/dev/null 2>&1 ||
      fail "inputs that break something are in $dir/found/$target"
  done
}

# shellcheck disable=SC2086 # a list of words
coverage() {
  build replay "$@"
  objects=
  for target in "$@"; do
    LLVM_PROFILE_FILE="$dir/$target.profraw" "$dir/test/fuzz/replay_$target" \
      "$here/corpus/$target" >&2
    objects="$objects${objects:+ -object }$dir/test/fuzz/replay_$target"
  done
  llvm-profdata merge -o "$dir/profile" "$dir"/*.profraw
  llvm-cov report $objects -instr-profile="$dir/profile" -show-region-summary=false \
    -ignore-filename-regex='(^|/)(test|include)/'
}

while [ $# -gt 0 ]; do
  case $1 in
    --seconds) [ $# -gt 1 ] || fail '--seconds N'; seconds=$2; shift ;;
    --afl | --coverage) mode=${1#--} ;;
    *) break ;;
  esac
  shift
done
[ $# -gt 0 ] || set -- attach queue connection inspect msgpack packet redis
"$mode" "$@"
