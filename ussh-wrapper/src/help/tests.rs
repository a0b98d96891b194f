#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::process::Command;

use clap::{Arg, ArgAction};
use ussh_manual::{Made, agree, manual_page};

use super::completions::{bash, fish, zsh};
use super::*;
use crate::arguments::{Invocation, UsageError};
use crate::verbs::Operands;

/// Verbs with the options that may follow each.
type Told = BTreeMap<String, BTreeSet<String>>;

#[test]
fn help_tells_of_every_verb_in_columns() {
    let help = help();
    for verb in VERBS {
        let (before, _) = help.split_once(verb.does).unwrap();
        assert_eq!(before.rsplit('\n').next().unwrap().chars().count(), 28, "{}", verb.name);
    }
    assert!(help.starts_with("ussh - ssh, with a fresh certificate\n") && help.ends_with(" beside README.md.\n"));
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

/// What the parser takes, found out by trying every word that any verb or option has behind every verb.
fn parsed() -> Told {
    let options: BTreeSet<&str> =
        VERBS.iter().flat_map(|verb| verb.options.iter().filter(|o| o.is_shown()).map(|o| o.name)).collect();
    let taken = |verb: &Verb, option: &str| {
        // A value, for those that want one; a verb's own operands are no matter here.
        [vec![verb.name, option], vec![verb.name, option, "1"]].into_iter().any(|line| {
            let read = Invocation::classify(line.into_iter().map(OsString::from).collect());
            read.is_ok() || matches!(&read, Err(UsageError::Missing { wanted, .. }) if !wanted.starts_with("--"))
        })
    };
    let of = |verb: &Verb| {
        let ours = !matches!(verb.operands, Operands::ForSsh { .. });
        options.iter().filter(|option| ours && taken(verb, option)).map(|&option| option.to_owned()).collect()
    };
    VERBS.iter().map(|verb| (verb.name.to_owned(), of(verb))).collect()
}

/// The verbs stand two blanks from the edge, their options four.
fn told_by_help() -> Told {
    let mut told = Told::new();
    let mut last = String::new();
    for line in help().lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        if !word.starts_with("--") || !line.starts_with("  ") {
            continue;
        }
        if line.starts_with("    ") {
            told.get_mut(&last).unwrap().insert(word.to_owned());
        } else {
            word.clone_into(&mut last);
            told.insert(last.clone(), BTreeSet::new());
        }
    }
    told
}

/// As a reader sees the page.
fn told_by_manual() -> Told {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/man/ussh.1");
    let output =
        Command::new("man").env("MANWIDTH", "200").args(["--local-file", "--pager=cat", page]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let options = text.split_once("\nOPTIONS\n").unwrap().1;
    let mut told = Told::new();
    for line in options.lines().take_while(|line| line.is_empty() || line.starts_with(' ')) {
        let mut words = line.split_whitespace();
        let indent = line.len() - line.trim_start().len();
        match (words.next(), words.next()) {
            (Some(verb), option) if verb.starts_with("--") && indent == 7 => {
                let options = told.entry(verb.to_owned()).or_default();
                options.extend(option.filter(|option| option.starts_with("--")).map(str::to_owned));
            }
            _ => {}
        }
    }
    told
}

/// Asks a shell's completion for the verbs, and then for what may follow each.
fn told_by(shell: impl Fn(&[&str]) -> Vec<String>) -> Told {
    let of = |verb: String| {
        let options = shell(&["ussh", &verb, "--"]).into_iter().filter(|word| word.starts_with("--")).collect();
        (verb, options)
    };
    shell(&["ussh", "--"]).into_iter().filter(|word| word.starts_with("--")).map(of).collect()
}

#[test]
fn help_manual_and_completions_tell_of_exactly_what_the_parser_takes() {
    let parsed = parsed();
    assert!(parsed.len() == VERBS.len() && parsed["--status"].contains("--json"), "{parsed:?}");
    assert_eq!(told_by_help(), parsed, "help");
    assert_eq!(told_by_manual(), parsed, "manual page");
    assert_eq!(told_by(|words| bash_offers(words, STAND_IN)), parsed, "bash");
    assert_eq!(told_by(zsh_offers), parsed, "zsh");
    assert_eq!(told_by(fish_offers), parsed, "fish");
}

/// In the manual only: the verbs count as the first argument alone, which is no command line of clap's.
fn as_clap_has_it() -> clap::Command {
    let usage: Vec<&str> = USAGE.iter().map(|(call, _)| *call).collect();
    let [what, does] = ABOUT;
    let meanings = USAGE.iter().map(|(call, means)| format!("{call}: {}.", means.trim_end_matches(':')));
    let description = meanings.fold(does.to_owned(), |all, line| all + "\n\n" + &line);
    let mut command = clap::Command::new("ussh")
        .version(env!("CARGO_PKG_VERSION"))
        .about(what)
        .long_about(description)
        .override_usage(usage.join("\n"))
        .after_help(REST)
        .disable_help_flag(true)
        .disable_version_flag(true);
    for verb in VERBS {
        let long = verb.name.trim_start_matches('-');
        let operands = match verb.operands {
            Operands::Nothing => String::new(),
            Operands::Named(names) => names.join(" ") + ": ",
            Operands::ForSsh { shown, .. } => format!("{shown}: "),
        };
        command = command.arg(entry(long.to_owned(), "", format!("{operands}{}", verb.does)));
        for option in verb.options.iter().filter(|option| option.is_shown()) {
            command = command.arg(entry(format!("{long} {}", option.name), option.value, option.does.to_owned()));
        }
    }
    command
}

fn entry(long: String, value: &'static str, does: String) -> Arg {
    let long: &'static str = long.leak();
    let arg = Arg::new(long).long(long).help(does);
    if value.is_empty() { arg.action(ArgAction::SetTrue) } else { arg.action(ArgAction::Set).value_name(value) }
}

const STAND_IN: &str =
    "_ssh() { COMPREPLY=(as-ssh \"$COMP_CWORD\" \"${COMP_WORDS[*]}\" \"$COMP_LINE\" \"$COMP_POINT\"); }";
const BASH_COMPLETION: &str = ". /usr/share/bash-completion/bash_completion";

/// What bash offers for these words, the last one being typed; `ssh` brings ssh's own completion.
fn bash_offers(words: &[&str], ssh: &str) -> Vec<String> {
    let typed = words.last().unwrap();
    let line = words.join(" ");
    let script = format!(
        "{ssh}\n{}\nCOMP_WORDS=({line}); COMP_CWORD={}; COMP_LINE='{line}'; COMP_POINT={}; COMP_TYPE=9; COMP_KEY=9\n\
         compopt() {{ :; }}; _ussh ussh '{typed}' '{}'\nfor word in \"${{COMPREPLY[@]}}\"; do echo \"$word\"; done",
        bash(),
        words.len() - 1,
        line.len(),
        words[words.len() - 2],
    );
    shell_says(Command::new("bash").args(["--norc", "-c", &script]))
}

/// What the file hands to zsh's functions.
fn zsh_offers(words: &[&str]) -> Vec<String> {
    let typed = words.last().unwrap();
    let script = format!(
        "_describe() {{ local word; for word in ${{(P)3}}; do print -r -- ${{word%%:*}}; done }}\n\
         _dispatch() {{ print -rl -- as-$2 $CURRENT \"$words\" }}\n\
         words=({}); CURRENT={}; PREFIX='{typed}'\n_ussh() {{\n{}}}\n_ussh",
        words.join(" "),
        words.len(),
        zsh()
    );
    shell_says(Command::new("zsh").args(["-f", "-c", &script]))
}

/// fish completes by itself.
fn fish_offers(words: &[&str]) -> Vec<String> {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".ssh")).unwrap();
    std::fs::write(home.path().join(".ssh/config"), HOSTS).unwrap();
    let script = format!("{}\ncomplete -C '{}'", fish(), words.join(" "));
    let mut command = Command::new("fish");
    let offered =
        shell_says(command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home.path()).args(["-c", &script]));
    // With their descriptions behind a tab.
    offered.iter().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

const HOSTS: &str = "Host web17 db1\n";

fn shell_says(command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_leaves_to_sshs_completion_what_is_not_ours_and_takes_our_verb_away_before() {
    let offered = |words: &[&str]| bash_offers(words, STAND_IN);
    assert_eq!(offered(&["ussh", "--lo"]), ["--login", "--logout", "--log"]);
    assert_eq!(offered(&["ussh", "we"]), ["as-ssh", "1", "ussh we", "ussh we", "7"]);
    assert_eq!(offered(&["ussh", "-v", "--lo"]), ["as-ssh", "2", "ussh -v --lo", "ussh -v --lo", "12"]);
    assert_eq!(offered(&["ussh", "--force", "-l", "a"]), ["as-ssh", "2", "ussh -l a", "ussh -l a", "9"]);
    assert_eq!(offered(&["ussh", "--login", "--j"]), [""; 0]);
    assert_eq!(offered(&["ussh", "--reason", "we"]), [""; 0]);
    assert_eq!(offered(&["ussh", "--reason", "disk", "-l", "a"]), ["as-ssh", "2", "ussh -l a", "ussh -l a", "9"]);
    assert_eq!(offered(&["ussh", "--login", "we"]), [""; 0]);
}

#[test]
fn host_names_come_from_sshs_own_completion() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".ssh")).unwrap();
    std::fs::write(home.path().join(".ssh/config"), HOSTS).unwrap();
    let ssh = format!("HOME='{}'; {BASH_COMPLETION}", home.path().display());
    for words in [&["ussh", "web1"][..], &["ussh", "--force", "web1"], &["ussh", "--force", "-v", "web1"]] {
        assert_eq!(bash_offers(words, &ssh), ["web17"], "bash: {words:?}");
        assert!(fish_offers(words).iter().any(|word| word == "web17"), "fish: {words:?}");
    }
    assert_eq!(zsh_offers(&["ussh", "web1"]), ["as-ssh", "2", "ussh web1"]);
    assert_eq!(zsh_offers(&["ussh", "--force", "-v", "web1"]), ["as-ssh", "3", "ssh -v web1"]);
    assert_eq!(zsh_offers(&["ussh", "--reason", "disk", "-v", "web1"]), ["as-ssh", "3", "ssh -v web1"]);
    assert_eq!(zsh_offers(&["ussh", "--reason", "web1"]), [""; 0]);
    assert_eq!(zsh_offers(&["ussh", "--login", "web1"]), [""; 0]);
}
