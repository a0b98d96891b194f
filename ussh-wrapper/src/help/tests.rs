#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::process::Command;

use clap::{Arg, ArgAction};
use ussh_manual::{Made, agree, manual_page};

use super::*;

#[test]
fn help_tells_of_every_verb_in_columns() {
    let help = help();
    for verb in VERBS {
        let line = help.lines().find(|line| line.split_whitespace().next() == Some(verb.name)).unwrap();
        let (before, _) = line.split_once(verb.does).unwrap();
        assert_eq!(before.chars().count(), 28, "{line}");
    }
    assert!(help.starts_with("ussh - ssh, with a fresh certificate\n") && help.ends_with("78 wrong configuration.\n"));
}

#[test]
fn manual_and_completions_are_those_of_this_command_line() {
    let made = [
        manual_page(&as_clap_has_it(), "1").unwrap(),
        Made::new("completions/bash/ussh", bash()),
        Made::new("completions/zsh/_ussh", zsh()),
        Made::new("completions/fish/ussh.fish", fish()),
    ];
    assert_eq!(agree(&made), Ok(()));
}

/// In the manual only: the verbs count as the first argument alone, which is no command line of clap's.
fn as_clap_has_it() -> clap::Command {
    let usage: Vec<&str> = USAGE.iter().map(|(call, _)| *call).collect();
    let [what, does] = ABOUT;
    let meanings = USAGE.iter().map(|(call, means)| format!("{call}: {}.", means.trim_end_matches(':')));
    let description = meanings.fold(does.to_owned(), |all, line| all + "\n\n" + &line);
    let command = clap::Command::new("ussh")
        .version(env!("CARGO_PKG_VERSION"))
        .about(what)
        .long_about(description)
        .override_usage(usage.join("\n"))
        .after_help(REST)
        .disable_help_flag(true)
        .disable_version_flag(true);
    VERBS.into_iter().fold(command, |command, verb| {
        let arg = Arg::new(verb.name).long(verb.name.trim_start_matches('-')).action(ArgAction::SetTrue);
        command.arg(match verb.takes {
            "" => arg.help(verb.does),
            takes => arg.help(format!("{takes} {}", verb.does)),
        })
    })
}

fn names() -> String {
    VERBS.map(|verb| verb.name).join(" ")
}

/// Our verbs in the first place, all else as for ssh: bash-completion's function for it is called by the one or the other name.
fn bash() -> String {
    format!(
        r#"# ussh: its own verbs, and otherwise what ssh completes.
_ussh() {{
  if [[ $COMP_CWORD -eq 1 && $2 == --* ]]; then
    COMPREPLY=($(compgen -W "{}" -- "$2"))
    return
  fi
  if [[ $COMP_CWORD -eq 2 && ${{COMP_WORDS[1]}} == --@(status|log) ]]; then
    COMPREPLY=($(compgen -W "--json" -- "$2"))
    return
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
        names()
    )
}

fn zsh() -> String {
    let verbs: String =
        VERBS.map(|verb| format!("    '{}:{}'\n", verb.name, verb.does.replace('\'', "'\\''"))).concat();
    format!(
        "#compdef ussh\n# ussh: its own verbs, and otherwise what ssh completes.\nif (( CURRENT == 2 )) && [[ $PREFIX == --* ]]; then\n  local -a verbs=(\n{verbs}  )\n  \
         _describe -o 'verb of ussh' verbs\nelif (( CURRENT == 3 )) && [[ $words[2] == --(status|log) ]]; then\n  compadd -- --json\nelse\n  _dispatch ssh ssh\nfi\n"
    )
}

fn fish() -> String {
    let first = "test (count (commandline -opc)) -eq 1";
    let head = "# ussh: its own verbs, and otherwise what ssh completes.\ncomplete -c ussh --wraps ssh\n";
    let verbs = VERBS.map(|verb| {
        let long = verb.name.trim_start_matches('-');
        format!("complete -c ussh -n '{first}' -l {long} -d '{}'\n", verb.does.replace('\'', "\\'"))
    });
    format!("{head}{}complete -c ussh -n '__fish_seen_argument -l status -l log' -l json\n", verbs.concat())
}

/// What bash offers for these words, the last one being typed.
fn offered(words: &[&str]) -> String {
    let typed = words.last().unwrap();
    let script = format!(
        "{}\n_ssh() {{ COMPREPLY=(as-ssh \"$2\"); }}\nCOMP_WORDS=({}); COMP_CWORD={}; _ussh ussh '{typed}'; echo \"${{COMPREPLY[*]}}\"",
        bash(),
        words.join(" "),
        words.len() - 1
    );
    let output = Command::new("bash").args(["--norc", "-c", &script]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn bash_completes_verbs_in_the_first_place_and_leaves_all_else_to_sshs_completion() {
    assert_eq!(offered(&["ussh", "--lo"]), "--login --logout --log");
    assert_eq!(offered(&["ussh", "--"]), names());
    assert_eq!(offered(&["ussh", "--status", "--j"]), "--json");
    assert_eq!(offered(&["ussh", "--log", "--j"]), "--json");
    assert_eq!(offered(&["ussh", "--login", "--j"]), "as-ssh --j");
    assert_eq!(offered(&["ussh", "we"]), "as-ssh we");
    assert_eq!(offered(&["ussh", "-v", "--lo"]), "as-ssh --lo");
}
