#!/bin/sh
# embed.sh DIRECTORY SCRIPT...: the Lua scripts as strings of C, without comments. A line `-- include FILE`
# stands for that file.
set -eu
directory=$1
shift
for script in "$@"; do
  awk -v directory="$directory" -v name="$script" '
    function read_file(file, line, n) {
      n = 0
      while ((getline line < file) > 0) {
        n++
        if (line ~ /^ *-- include /) {
          sub(/^ *-- include /, "", line)
          read_file(directory "/" line)
        } else if (line !~ /^ *--/) {
          sub(/^ */, "", line)
          gsub(/\\/, "\\\\", line)
          gsub(/"/, "\\\"", line)
          print "  \"" line "\\n\""
        }
      }
      close(file)
      if (n == 0) { print "no lines in " file > "/dev/stderr"; exit 1 }
    }
    BEGIN {
      print "static const char lua_" name "[] ="
      read_file(directory "/" name ".lua")
      print "  \"\";"
    }' </dev/null
done
