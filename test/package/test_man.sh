#!/bin/sh
# test_man.sh PAGES SOURCE_ROOT PYTHON
# There is a page for all that the headers declare, without mistakes; and a header from which none
# can be made is refused.
# shellcheck source=test/package/shell.sh
. "$(dirname "$0")/shell.sh"

root=$2
python=$3
cd "$1" || exit # links between pages lead from here

cat "$root"/include/forkq/*.h | tr '\n' ' ' |
  grep -o '\(FORKQ_API\|static inline\) [^;({]*forkq_[a-z0-9_]*(' |
  sed 's/.*[ *]\(forkq_[a-z0-9_]*\)($/\1/' | sort >"$scratch/functions"
find man3 man7 -type f | sort >"$scratch/files"
xargs grep -L '^\.so' <"$scratch/files" >"$scratch/pages"

# show PAGE: on one line, so that a test need not know where lines end.
show() {
  mandoc -T ascii -O width=78 "$1" | col -b | tr -s '\n\t ' ' '
}

every_function_has_a_page() {
  while read -r function; do
    show "man3/$function.3" >"$scratch/shown"
    {
      grep -q "NAME .*$function.* SYNOPSIS .*$function(.* DESCRIPTION" "$scratch/shown" &&
        grep -q 'RETURN VALUES [^.]* returns \|SYNOPSIS [^(]* void forkq_' "$scratch/shown" &&
        grep -q 'ERRORS \([^.:]* fails with\|A failed call\|After these\|[^.]* cannot fail\)' \
          "$scratch/shown"
    } || { echo "$function"; absent=1; }
  done <"$scratch/functions"
  [ -z "${absent-}" ]
}

every_header_has_a_page() {
  for header in "$root"/include/forkq/*.h; do
    page=forkq_$(basename "$header" .h)
    ! grep -q '^FORKQ_API' "$header" || [ -s "man7/$page.7" ] || return
  done
}

references_lead_to_pages() {
  xargs sed -n 's/^\.Xr (\{0,1\} \{0,1\}\(forkq[a-z0-9_]*\) \([37]\).*/man\2\/\1.\2/p' \
    <"$scratch/pages" | sort -u >"$scratch/references"
  comm -23 "$scratch/references" "$scratch/files" >"$scratch/dead"
  diff /dev/null "$scratch/dead" && [ "$(wc -l <"$scratch/references")" -gt 50 ]
}

mandoc_says_nothing() {
  xargs mandoc -T lint -W warning <"$scratch/pages"
}

program_has_a_page() {
  mandoc -T lint -W warning "$root/docs/man/forkq.1" &&
    groff -mdoc -T utf8 -ww "$root/docs/man/forkq.1" 2>&1 >"$scratch/formatted" | diff /dev/null -
}

groff_says_nothing() {
  while read -r page; do
    groff -mdoc -T utf8 -ww "$page" 2>&1 >"$scratch/formatted" | sed "s#^#$page: #"
  done <"$scratch/pages" >"$scratch/warnings"
  diff /dev/null "$scratch/warnings" && [ -s "$scratch/formatted" ]
}

# shows PAGE TEXT...
shows() {
  show "$1" >"$scratch/shown"
  shift
  for text in "$@"; do
    grep -qF -e "$text" "$scratch/shown" || { echo "$text"; cat "$scratch/shown"; return 1; }
  done
}

get_says_what_it_must() {
  shows man3/forkq_queue_get.3 'forkq_queue_get, forkq_queue_get_nowait - get one item' \
    '#include <forkq.h>' \
    'int forkq_queue_get(forkq_queue_t *queue, forkq_item_t *item, int timeout_ms);' \
    'forkq_queue_get() gets one item' 'FORKQ_ITEM_INIT' \
    'of -1 waits without limit' 'forkq_queue_get() returns 0.' \
    'forkq_queue_get() blocks until an item arrives' \
    'FORKQ_EMPTY The queue is empty (timeout 0).' '-ENOMEM The item stays in the queue.' \
    'FORKQ_ETIMEOUT timeout_ms is below -1.' '"PID namespaces" and "fork" in forkq_queue(7)' \
    'The counterpart of forkq_queue_get() is Queue.get(True, timeout).' 'forkq_item_t(3)' &&
    [ "$(mandoc -T ascii man3/forkq_queue_get_nowait.3)" = \
      "$(mandoc -T ascii man3/forkq_queue_get.3)" ]
}

# A put of packed bytes fails as a put does, for which the header only names it.
errors_of_others_are_listed() {
  shows man3/forkq_queue_put_packed.3 'FORKQ_EBADOBJECT The bytes are not exactly one' \
    'Errors of forkq_queue_put()' 'FORKQ_FULL The queue is full' 'The common errors' \
    'FORKQ_ENULL A required argument is NULL.'
}

# fields_are_with FUNCTION STRUCT: its page says something of each field.
fields_are_with() {
  sed -n "/^typedef struct $2 {/,/^}/p" "$root/include/forkq/queue.h" |
    sed -n 's/^  [a-z].*[ *]\([a-z_]*\);.*/\1/p' >"$scratch/fields"
  show "man3/$1.3" >"$scratch/shown"
  while read -r field; do
    grep -q "[ *]$field; .* $field [A-Za-z]" "$scratch/shown" || { echo "$field"; return 1; }
  done <"$scratch/fields"
  [ "$(wc -l <"$scratch/fields")" -ge 10 ]
}

options_are_with_create() {
  fields_are_with forkq_queue_create forkq_queue_options &&
    grep -qF FORKQ_QUEUE_OPTIONS_INIT "$scratch/shown"
}

every_error_has_a_page() {
  sed -n 's/^  XX(\([A-Z]*\), -.*/FORKQ_\1/p' "$root/include/forkq/base.h" >"$scratch/names"
  show man7/forkq_base.7 >"$scratch/base"
  while read -r name; do
    show "man7/$name.7" | diff "$scratch/base" - && grep -q " $name " "$scratch/base" || return
  done <"$scratch/names"
  [ "$(wc -l <"$scratch/names")" -gt 37 ]
}

# groff's mdoc takes a page for one of BSD.
no_page_is_of_bsd() {
  groff -mdoc -T utf8 man3/forkq_queue_get.3 >"$scratch/formatted" &&
    head -n 1 "$scratch/formatted" | grep 'Library Functions Manual' && ! grep BSD "$scratch/formatted"
}

overview_has_all_errors_and_variables() {
  {
    sed -n 's/^  XX(\([A-Z]*\), -.*/FORKQ_\1/p' "$root/include/forkq/base.h"
    grep -rho --exclude-dir=tool 'getenv("[A-Z_]*")' "$root/src" | sed 's/.*"\(.*\)".*/\1/'
  } >"$scratch/names"
  show man7/forkq.7 >"$scratch/shown"
  while read -r word; do
    grep -q " $word " "$scratch/shown" || { echo "$word"; return 1; }
  done <"$scratch/names"
  [ "$(wc -l <"$scratch/names")" -gt 37 ]
}

program_has_all_variables() {
  grep -rho 'getenv("[A-Z_]*")' "$root/src/tool" | sed 's/.*"\(.*\)".*/\1/' >"$scratch/names"
  while read -r word; do
    grep -qx "\.It Ev $word" "$root/docs/man/forkq.1" || { echo "$word"; return 1; }
  done <"$scratch/names"
  [ -s "$scratch/names" ]
}

example_is_whole() {
  sed -n '/^\.Bd -literal/,/^\.Ed/p' man7/forkq.7 | sed '1d; $d; s/\\e/\\/g' |
    diff - "$root/docs/examples/smallest.c"
}

# make_from HEADERS: the pages from the headers in that directory.
make_from() {
  "$python" -B "$root/docs/man/make.py" 0 "$root/docs/man/forkq.7.in" \
    "$root/docs/examples/smallest.c" "$1"/*.h "$1"/forkq/*.h "$scratch/made"
}

headers_are_enough() {
  make_from "$root/include" && find "$scratch/made" -type f -name 'forkq_queue_get.3' | grep -q .
}

unlisted_is_refused() {
  rm -rf "$scratch/include"
  cp -R "$root/include" "$scratch"
  sed -i 's/^ \*   forkq\/wait\.h /&elsewhere /' "$scratch/include/forkq.h"
  ! make_from "$scratch/include" >"$scratch/refusal" 2>&1 || return
  grep 'forkq/wait\.h:1: .*list' "$scratch/refusal"
}

# refused FILE LINE WHAT SED: a header is refused that sed has damaged, with the place and why.
refused() {
  rm -rf "$scratch/include"
  cp -R "$root/include" "$scratch"
  sed -i "$4" "$scratch/include/forkq/$1"
  ! cmp "$root/include/forkq/$1" "$scratch/include/forkq/$1" || return
  ! make_from "$scratch/include" >"$scratch/refusal" 2>&1 || return
  cat "$scratch/refusal"
  line=$(grep -n -e "$2" "$scratch/include/forkq/$1" | head -n 1 | cut -d : -f 1)
  grep -q "forkq/$1:$line: .*$3" "$scratch/refusal"
}

expect 'there are functions' test "$(wc -l <"$scratch/functions")" -gt 90
expect 'every function has a page' every_function_has_a_page
expect 'every header has a page' every_header_has_a_page
expect 'every reference leads to a page' references_lead_to_pages
expect 'mandoc finds no mistake' mandoc_says_nothing
expect 'groff finds no mistake' groff_says_nothing
expect 'forkq(1) has no mistake' program_has_a_page
expect 'forkq_queue_get(3) says what it must' get_says_what_it_must
expect 'errors of another function are listed' errors_of_others_are_listed
expect 'forkq_queue_create(3) has the options' options_are_with_create
expect 'forkq_queue_stats(3) has all counts' fields_are_with forkq_queue_stats forkq_queue_stats_s
expect 'every error has a page' every_error_has_a_page
expect 'no page is said to be of BSD' no_page_is_of_bsd
expect 'forkq(7) has all errors and variables' overview_has_all_errors_and_variables
expect 'forkq(1) has all variables of the program' program_has_all_variables
expect 'forkq(7) has the example' example_is_whole
expect 'the pages are made from the headers' headers_are_enough
expect 'a function without a comment is refused' refused queue.h 'forkq_queue_full(' \
  'forkq_queue_full has no comment' '/^\/\* Tells whether a put of this/,/\*\/$/d'
expect 'a function without its errors is refused' refused queue.h 'forkq_queue_abandon(' \
  'forkq_queue_abandon has not all' '/^\/\* Gives a reservation/,/\*\/$/s/^ \* Errors: /  /'
expect 'a label that is not known is refused' refused queue.h 'Pyhton' 'Pyhton: none' \
  '/^\/\* Gives a reservation/,/\*\/$/s/Python/Pyhton/'
expect 'an error that does not exist is refused' refused base.h 'Names an error code' \
  'there is no FORKQ_FUL' '/^ \* Returns: the name/s/FORKQ_FULL/FORKQ_FUL/'
expect 'a function that does not exist is refused' refused handover.h 'Opens the queue that' \
  'there is no forkq_queue_destry' '/destroys it with/s/forkq_queue_destroy/forkq_queue_destry/'
expect 'a header that no other lists is refused' unlisted_is_refused
expect 'a declaration in another form is refused' refused queue.h 'forkq_queue_full' \
  'no known form' 's/int forkq_queue_full(.*/int (*forkq_queue_full(void))(int);/'
finish
