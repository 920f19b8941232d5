#!/bin/sh
# workers.sh COUNT COMMAND [ARGUMENT...]: runs the command once for each line of the standard input, with the
# line as its last argument, in COUNT workers. A worker that is free takes the next line.
#
#     find . -name '*.c' | workers.sh 4 gzip -k
#
# Workers may be killed, and more may be started by hand, from any directory. Who reads the lines waits while
# a hundred of them are not taken.
set -eu

count=$1
shift
directory=$(mktemp -d)
queue=$directory/queue
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$directory"' EXIT
trap 'exit 1' HUP INT TERM

forkq serve --maxsize 100 --drain 3600 "$queue" &
server=$!
until [ -S "$queue" ]; do
  kill -0 "$server" 2>/dev/null || { server= && exit 1; } # it has said why
  sleep 0.1
done

work() {
  while line=$(forkq get --text "$queue" 2>/dev/null); do
    "$@" "$line" || echo "workers.sh: failed: $line" >&2
  done
}

while [ "$count" -gt 0 ]; do
  work "$@" &
  count=$((count - 1))
done
forkq put --text --lines "$queue"
kill "$server" # it shuts the queue down: workers end when nothing is left
server=
wait
