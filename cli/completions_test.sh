#!/bin/bash
# completions_test.sh BUILD_DIR: every command and option that --help shows is completed by the shells and
# stands in the man page. bash is asked for real; zsh and fish where they are installed.
set -u
export PATH=$1:$PATH LC_ALL=C.UTF-8
share=$1/share
failures=0
fail() { failures=$((failures + 1)); echo "FAILED: $*"; }

commands=$(pcache --help | sed -n '/^Subcommands:/,$p' | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p')
[ "$(wc -w <<< "$commands")" -ge 12 ] || fail "only these commands in --help: $commands"
# "-h,--help   text": its words
options_of() { pcache $1 --help | grep -oE '^  (-[a-z], ?)?-[-a-z]+|^  -[a-z],--[-a-z]+' | tr ', ' '\n\n' | grep '^-'; }

# --- bash, asked as the shell asks it ---
. "$share/pcache.bash" || fail "the bash completion does not load"
complete_bash() { # WORDS...: the last one is being typed
  COMP_WORDS=(pcache "$@")
  COMP_CWORD=$#
  COMPREPLY=()
  _pcache
  printf '%s\n' "${COMPREPLY[@]}"
}
expect_bash() { # WORD 'WORDS TYPED'
  local typed
  read -ra typed <<< "$2"
  [ "${2: -1}" = ' ' ] && typed+=('')
  complete_bash "${typed[@]}" | grep -qxF -- "$1" || fail "bash: '$1' is not offered for: pcache $2"
}
for command in $commands; do
  expect_bash "$command" "${command:0:1}"
  for option in $(options_of "$command"); do expect_bash "$option" "$command $option"; done
  expect_bash --log-level "$command --log"
done
for option in $(options_of ''); do expect_bash "$option" "$option"; done
expect_bash debug 'run --log-level d'
expect_bash max_size 'config max'
expect_bash /tmp 'mount /tm'
expect_bash run '--log-level debug r'
expect_bash true 'run -- tru'
expect_bash true 'run tru'
complete_bash run -- make -j | grep -q -- --root && fail "bash: pcache's options are offered to a command"

# --- what the others hold ---
for command in $commands; do
  grep -q "'$command:" "$share/_pcache" || fail "zsh: no $command"
  grep -q -- "-a $command " "$share/pcache.fish" || fail "fish: no $command"
  grep -qF ".SS $(sed 's/-/\\-/g' <<< "$command")" "$share/pcache.1" || fail "man: no $command"
  for option in $(options_of "$command" | grep '^--' | grep -vx -- --help); do
    awk -v c="    $command)" '$0 == c {on = 1} on {print} on && /;;/ {exit}' "$share/_pcache" \
      | grep -qF -- "'$option[" || fail "zsh: $command has no $option"
    grep -F "seen_subcommand_from $command'" "$share/pcache.fish" | grep -qF -- "-l ${option#--} " \
      || fail "fish: $command has no $option"
    sed -n "/^\.SS $command\$/,/^\.S[SH]/p" "$share/pcache.1" | tr -d '\\' | grep -qF -- "$option" \
      || fail "man: $command has no $option"
  done
done
for setting in $(pcache config --json | sed -n 's/.*"name": "\(.*\)".*/\1/p'); do
  grep -qF "\\fB$setting\\fR" "$share/pcache.1" || fail "man: no setting $setting"
done
if command -v zsh > /dev/null; then zsh -n "$share/_pcache" || fail 'zsh: syntax'; else echo 'no zsh here'; fi
if command -v fish > /dev/null; then
  fish -n "$share/pcache.fish" || fail 'fish: syntax'
  for command in $commands; do
    offered=$(fish -c "source $share/pcache.fish; complete -C 'pcache $command --'" | cut -f1)
    for option in $(options_of "$command" | grep '^--'); do
      grep -qxF -- "$option" <<< "$offered" || fail "fish: $command: $option is not offered"
    done
  done
else
  echo 'no fish here'
fi
if command -v man > /dev/null; then
  said=$(man --warnings -l "$share/pcache.1" 2>&1 > /dev/null)
  [ -z "$said" ] || fail "man: $said"
fi
pcache generate nonsense 2> /dev/null && fail 'generate took nonsense'
echo "completions: $failures failures"
[ "$failures" = 0 ]
