# bash completion for forkq(1)

_forkq_queues() {
  forkq ls 2>/dev/null | awk 'NR > 1 { print $1; if ($2 != "-") print $2 }'
}

_forkq() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=
  if [ "$COMP_CWORD" -eq 1 ]; then
    words='ls show top why doctor metrics put get peek drain shutdown serve help version'
  elif [ "$before" = --csv ] || { [ "${COMP_WORDS[1]}" = serve ] && [ "${word:0:1}" != - ]; }; then
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
    return
  elif [ "${word:0:1}" = - ]; then
    case ${COMP_WORDS[1]} in
      ls | show | doctor) words='--json' ;;
      top) words='--once --json --interval --csv' ;;
      why) words='--json --cases' ;;
      put) words='--lines --text --msgpack --timeout' ;;
      get) words='--count --text --msgpack --timeout' ;;
      peek) words='--count --text --msgpack' ;;
      drain) words='--discard --text --msgpack' ;;
      shutdown) words='--immediate' ;;
      serve) words='--maxsize --joinable --name --group --drain --json' ;;
    esac
    words="$words --help"
  else
    case ${COMP_WORDS[1]} in
      why | top | metrics) words=$(compgen -W "$(cd /proc && echo [0-9]*)") ;;
      ls | show | put | get | peek | drain | shutdown) words=$(_forkq_queues) ;;
    esac
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _forkq forkq
