//! The completions: our verbs in the first place, their options behind them, and all else as ssh's own completion has it (its host names, above all).

use crate::verbs::{Operands, VERBS, Verb, VerbOption};

fn shown(verb: &Verb) -> impl Iterator<Item = &'static VerbOption> + use<> {
    verb.options.iter().filter(|option| option.is_shown())
}

/// The options that may follow a verb.
fn options(verb: &Verb) -> Vec<&'static str> {
    shown(verb).map(|option| option.name).collect()
}

/// Verbs with options; and verbs behind which stands what stands behind ssh, with the number of words that are ours before it.
fn groups() -> (Vec<&'static Verb>, Vec<(&'static str, usize)>) {
    let with_options = VERBS.iter().filter(|verb| shown(verb).next().is_some()).collect();
    let words = |verb: &Verb| match verb.operands {
        Operands::Nothing => None,
        Operands::Named(_) => Some((verb.name, 1)),
        Operands::ForSsh { ours, .. } => Some((verb.name, 1 + ours)),
    };
    (with_options, VERBS.iter().filter_map(words).collect())
}

/// As a shell's pattern.
fn before_hosts(hosts: &[(&'static str, usize)]) -> String {
    hosts.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("|")
}

/// A shell's lines that set `variable` where there is more than one.
fn several(hosts: &[(&'static str, usize)], variable: &str) -> String {
    let set = |(name, count): &(&str, usize)| format!("      {name}) {variable}={count} ;;\n");
    hosts.iter().filter(|(_, count)| *count > 1).map(set).collect()
}

/// bash-completion's function for ssh is called by the one or the other name.
pub(super) fn bash() -> String {
    let names: Vec<&str> = VERBS.iter().map(|verb| verb.name).collect();
    let (with_options, hosts) = groups();
    let cases: String = with_options
        .iter()
        .map(|verb| format!("      {}) options=\"{}\" ;;\n", verb.name, options(verb).join(" ")))
        .collect();
    let (before_hosts, several) = (before_hosts(&hosts), several(&hosts, "ours"));
    format!(
        r#"# ussh: its own verbs, and otherwise what ssh completes.
_ussh() {{
  local verb=${{COMP_WORDS[1]}} options= ours=1 word
  if [[ $COMP_CWORD -eq 1 && $2 == --* ]]; then
    COMPREPLY=($(compgen -W "{names}" -- "$2"))
    return
  fi
  if [[ $COMP_CWORD -ge 2 ]]; then
    case $verb in
{cases}    esac
    if [[ -n $options && $2 == -* ]]; then
      COMPREPLY=($(compgen -W "$options" -- "$2"))
      return
    fi
    case $verb in
{several}    esac
    case $verb in
      {before_hosts})
        [[ $COMP_CWORD -gt $ours ]] || return
        # For ssh's completion the verb is not there.
        for word in "${{COMP_WORDS[@]:1:ours}}"; do
          COMP_LINE=${{COMP_LINE/ "$word"/}}
          COMP_POINT=$((COMP_POINT - ${{#word}} - 1))
        done
        COMP_WORDS=("${{COMP_WORDS[0]}}" "${{COMP_WORDS[@]:ours+1}}")
        COMP_CWORD=$((COMP_CWORD - ours))
        ;;
      --*) return ;;
    esac
  fi
  local load complete
  for load in _completion_loader _comp_load; do
    declare -F "$load" >/dev/null && "$load" ssh
  done
  for complete in _ssh _comp_cmd_ssh; do
    if declare -F "$complete" >/dev/null; then
      "$complete" "$@"
      return
    fi
  done
}}
complete -F _ussh ussh
"#,
        names = names.join(" "),
    )
}

pub(super) fn zsh() -> String {
    let (with_options, hosts) = groups();
    let described = |name: &str, does: &str| format!("'{name}:{}'\n", does.replace('\'', "'\\''"));
    let verbs: String = VERBS.iter().map(|verb| format!("    {}", described(verb.name, verb.does))).collect();
    let cases: String = with_options
        .iter()
        .map(|verb| {
            let lines: String =
                shown(verb).map(|option| format!("      {}", described(option.name, option.does))).collect();
            format!("    {}) options=(\n{lines}    ) ;;\n", verb.name)
        })
        .collect();
    format!(
        r#"#compdef ussh
# ussh: its own verbs, and otherwise what ssh completes.
local -a verbs options
local -i ours=1
if (( CURRENT == 2 )) && [[ $PREFIX == --* ]]; then
  verbs=(
{verbs}  )
  _describe -o 'verb of ussh' verbs
  return
fi
if (( CURRENT > 2 )); then
  case $words[2] in
{cases}  esac
  if (( $#options )) && [[ $PREFIX == -* ]]; then
    _describe -o 'option' options
    return
  fi
  case $words[2] in
{several}  esac
  case $words[2] in
    ({hosts})
      (( CURRENT > ours + 1 )) || return
      words[1,ours+1]=(ssh); (( CURRENT -= ours )) ;;
    (--*) return ;;
  esac
fi
_dispatch ssh ssh
"#,
        hosts = before_hosts(&hosts),
        several = several(&hosts, "ours"),
    )
}

pub(super) fn fish() -> String {
    let described =
        |long: &str, does: &str| format!("-l {} -d '{}'\n", long.trim_start_matches('-'), does.replace('\'', "\\'"));
    let mut text =
        String::from("# ussh: its own verbs, and otherwise what ssh completes.\ncomplete -c ussh --wraps ssh\n");
    for verb in VERBS {
        text += "complete -c ussh -n 'test (count (commandline -opc)) -eq 1' ";
        text += &described(verb.name, verb.does);
        for option in shown(verb) {
            let value = if option.value.is_empty() { "" } else { "-x " };
            // Behind its verb, which is the second word of the line.
            text += &format!("complete -c ussh -n 'contains -- {} (commandline -opc)[2]' {value}", verb.name);
            text += &described(option.name, option.does);
        }
    }
    text
}
