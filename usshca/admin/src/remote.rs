//! `ssh CA admin WORDS`: the same verbs, for somebody who is not at the CA's machine.

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use crate::cli::{AdminCommand, Cli, Command, ExplainArgs, HostCommand, KeyCommand, KrlArgs};
use crate::desk::not_here;
use crate::failure::Failure;

/// Longest command line, in bytes.
pub const MAX_LINE: usize = 16 * 1024;
/// Most words of it.
pub const MAX_WORDS: usize = 512;
/// Verbs of `usshca` that are for its machine alone.
const LOCAL: [&str; 8] = ["init", "serve", "check", "status", "backup", "replay", "publish", "feed"];

/// What a command line comes to.
#[derive(Debug)]
pub enum Parsed {
    /// A verb to run.
    Verb(AdminCommand),
    /// Help or version: for standard output.
    Help(String),
    /// No verb, or not in this form; why.
    Wrong(Failure),
    /// Works at the CA's machine, and not from elsewhere; why.
    OnlyThere(Failure),
}

/// Reads what stands behind `admin`. The shell on the user's side has eaten its quotes; one of ours takes them as a shell does, so that a reason of several words can be given.
pub fn parse(line: &str) -> Parsed {
    let words = match words(line) {
        Ok(words) => words,
        Err(why) => return Parsed::Wrong(Failure::usage(why)),
    };
    let mut command = Cli::command().bin_name("ssh CA admin").arg_required_else_help(true);
    for name in LOCAL {
        command = command.mut_subcommand(name, |sub| sub.hide(true));
    }
    command = command.mut_arg("dir", |dir| dir.hide(true));
    let matches = match command.try_get_matches_from(std::iter::once("ssh CA admin".to_owned()).chain(words)) {
        Ok(matches) => matches,
        Err(e) => return said(&e),
    };
    match Cli::from_arg_matches(&matches) {
        Ok(cli) => permitted(cli).map_or_else(Parsed::OnlyThere, Parsed::Verb),
        Err(e) => said(&e),
    }
}

fn said(error: &clap::Error) -> Parsed {
    let text = error.render().to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Parsed::Help(text);
    }
    // Their own words begin like ours.
    Parsed::Wrong(Failure::usage(text.trim_start_matches("error: ").trim_end()))
}

/// What makes no sense over ssh is refused before anything is asked: no file and no account of the CA's machine is named from elsewhere.
fn permitted(cli: Cli) -> Result<AdminCommand, Failure> {
    if cli.dir.is_some() {
        return Err(not_here("--dir", "the verbs are about the CA that you are logged in to"));
    }
    let verb = match cli.command {
        Command::Init(_) => return Err(only_there("init")),
        Command::Serve(_) => return Err(only_there("serve")),
        Command::Check(_) => return Err(only_there("check")),
        Command::Status(_) => return Err(only_there("status")),
        Command::Admin(verb) => verb,
    };
    let stdio = std::path::Path::new("-");
    let out = |out: &Option<std::path::PathBuf>| match out {
        Some(path) if path != stdio => {
            Err(not_here("file of the CA's to write", "leave --out away, and send standard output to a file of yours"))
        }
        _ => Ok(()),
    };
    match &verb {
        AdminCommand::Backup(_) => return Err(only_there("backup")),
        AdminCommand::Replay(_) => return Err(only_there("replay")),
        AdminCommand::Publish(_) => return Err(only_there("publish")),
        AdminCommand::Feed(_) => return Err(only_there("feed")),
        AdminCommand::Krl(KrlArgs { output }) => out(output)?,
        AdminCommand::Host(HostCommand::Sign(args)) => {
            out(&args.output)?;
            named_on_stdin(&args.key)?;
        }
        AdminCommand::Key(KeyCommand::Register(args)) => named_on_stdin(&args.key)?,
        AdminCommand::Explain(ExplainArgs { groups, .. }) if groups.is_empty() => {
            return Err(not_here("looking up of groups", "name those to suppose with --group"));
        }
        AdminCommand::List(_)
        | AdminCommand::Show(_)
        | AdminCommand::Explain(_)
        | AdminCommand::Revoke(_)
        | AdminCommand::Revocations(_)
        | AdminCommand::Find(_)
        | AdminCommand::Host(_)
        | AdminCommand::Key(_) => {}
    }
    Ok(verb)
}

/// What is about the machine itself.
pub(crate) fn only_there(verb: &str) -> Failure {
    Failure::usage(format!("usshca {verb} works at the CA's machine alone: log in there"))
}

/// Whether it reads standard input.
pub fn reads_input(verb: &AdminCommand) -> bool {
    let stdin = std::path::Path::new("-");
    match verb {
        AdminCommand::Host(HostCommand::Sign(args)) => args.key == stdin,
        AdminCommand::Key(KeyCommand::Register(args)) => args.key == stdin,
        AdminCommand::Key(KeyCommand::Remove(args)) => args.key == "-",
        AdminCommand::Find(args) => args.key.as_deref() == Some("-"),
        AdminCommand::Revoke(args) => args.key.as_deref() == Some("-"),
        AdminCommand::List(_)
        | AdminCommand::Show(_)
        | AdminCommand::Explain(_)
        | AdminCommand::Revocations(_)
        | AdminCommand::Krl(_)
        | AdminCommand::Host(_)
        | AdminCommand::Key(_)
        | AdminCommand::Backup(_)
        | AdminCommand::Replay(_)
        | AdminCommand::Publish(_)
        | AdminCommand::Feed(_) => false,
    }
}

fn named_on_stdin(path: &std::path::Path) -> Result<(), Failure> {
    if path == std::path::Path::new("-") {
        return Ok(());
    }
    Err(not_here("key file to read", "give -, and the public key on standard input"))
}

/// Words as a shell makes them out of blanks, quotes and backslashes; nothing is expanded.
fn words(line: &str) -> Result<Vec<String>, String> {
    if line.len() > MAX_LINE {
        return Err(format!("the command is longer than {MAX_LINE} bytes"));
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_ascii_whitespace() => words.extend(word.take()),
            (None | Some('"'), '\\') => {
                let next = characters.next().ok_or("nothing stands behind the last backslash")?;
                word.get_or_insert_default().push(next);
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    if words.len() > MAX_WORDS {
        return Err(format!("the command has more than {MAX_WORDS} words"));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::wildcard_enum_match_arm,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )]
    use super::*;
    use crate::failure::Exit;

    fn wrong(line: &str) -> String {
        match parse(line) {
            Parsed::Wrong(failure) => {
                assert_eq!(failure.exit, Exit::Usage, "{line}");
                failure.message
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    fn only_there(line: &str) -> String {
        match parse(line) {
            Parsed::OnlyThere(failure) => {
                assert_eq!(failure.exit, Exit::Usage, "{line}");
                failure.message
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn words_are_those_of_a_shell_that_expands_nothing() {
        for (line, expected) in [
            ("", &[][..]),
            ("  list   --json ", &["list", "--json"]),
            ("revoke 7 --reason 'laptop lost'", &["revoke", "7", "--reason", "laptop lost"]),
            ("revoke 7 --reason \"it's $HOME\"", &["revoke", "7", "--reason", "it's $HOME"]),
            ("a\\ b 'c\\d' \"e\\\"f\" ''", &["a b", "c\\d", "e\"f", ""]),
            ("x'y'z", &["xyz"]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        assert!(words("'a").unwrap_err().contains("quote"));
        assert!(words("a\\").unwrap_err().contains("backslash"));
        assert!(words(&"x ".repeat(MAX_WORDS + 1)).unwrap_err().contains("words"));
        assert!(words(&"x".repeat(MAX_LINE + 1)).unwrap_err().contains("longer"));
    }

    #[test]
    fn the_verbs_are_those_of_the_machine() {
        assert!(
            matches!(parse("list --json -n 3"), Parsed::Verb(AdminCommand::List(a)) if a.json && a.limit == Some(3))
        );
        assert!(matches!(parse("krl --out -"), Parsed::Verb(AdminCommand::Krl(_))));
        assert!(matches!(parse("host sign - --name web1"), Parsed::Verb(AdminCommand::Host(_))));
        assert!(matches!(parse("explain alice --group staff"), Parsed::Verb(AdminCommand::Explain(_))));
        assert!(
            matches!(parse("--help"), Parsed::Help(text) if text.contains("ssh CA admin") && !text.contains("init"))
        );
        assert!(matches!(parse("list --help"), Parsed::Help(text) if text.contains("Usage: ssh CA admin list")));
        assert!(wrong("").contains("Usage: ssh CA admin"));
        assert!(wrong("lost").contains("unrecognized subcommand 'lost'"));
    }

    #[test]
    fn what_is_about_the_machine_itself_is_refused_in_a_sentence() {
        for verb in
            ["init", "serve", "check", "status", "backup /x", "replay --policy /x", "publish /x", "feed key rotate"]
        {
            assert!(only_there(verb).contains("at the CA's machine alone"), "{verb}: {}", only_there(verb));
        }
        for (line, words) in [
            ("--dir /srv/ca list", "no --dir"),
            ("krl --out /etc/ssh/revoked", "no file of the CA's to write"),
            ("host sign - --name web1 --out /etc/x", "no file of the CA's to write"),
            ("host sign /etc/ssh/ssh_host_ed25519_key.pub --name web1", "no key file to read"),
            ("key register alice /home/alice/id.pub", "no key file to read"),
            ("explain alice", "no looking up of groups"),
        ] {
            assert!(only_there(line).contains(words), "{line}: {}", only_there(line));
        }
    }
}
