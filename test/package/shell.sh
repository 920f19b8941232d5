# For the tests that are shell scripts: cases, and a summary as Check writes it.
# Each script makes what it needs in $scratch, which goes away with it.
# shellcheck shell=sh
set -u
export LC_ALL=C

passed=0
failed=0
scratch=$(mktemp -d)
background= # the id of a process that must not outlive the test
trap '[ -z "$background" ] || kill -KILL "$background"; rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

# expect NAME COMMAND...: the case passes if the command does. What the command says is shown
# when it fails.
expect() {
  name=$1
  shift
  if "$@" >"$scratch/said" 2>&1; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED: $name"
    tail -n 30 "$scratch/said" | sed 's/^/    /'
  fi
}

finish() {
  total=$((passed + failed))
  echo "$((total > 0 ? 100 * passed / total : 0))%: Checks: $total, Failures: $failed, Errors: 0"
  [ "$failed" -eq 0 ] && [ "$total" -gt 0 ]
}
