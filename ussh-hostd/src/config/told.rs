//! What is said of a configuration that is not understood: the line, the key, what it takes, and where it belongs. The parser knows types only, and takes a word without quotes for half a `false`.

use ussh_core::escape::escape;

use super::{MAX_AHEAD_SECONDS, MAX_END_AFTER_SECONDS, MAX_FEED_SECONDS, MAX_FETCH_SECONDS, MAX_PATIENCE_SECONDS};

/// The one table that has a name.
const SYNC: &str = "sync";
/// Longest part of a value in a message, bytes.
const MAX_TOLD: usize = 64;

/// What a key takes.
enum Takes {
    Path,
    Seconds(u64, u64),
    Switch,
    OneOf(&'static [&'static str]),
    Other(&'static str),
}

impl Takes {
    /// To stand behind "must be".
    fn to_text(&self) -> String {
        match self {
            Takes::Path => "an absolute path, in quotes".to_owned(),
            Takes::Seconds(from, to) => format!("a whole number of seconds, {from} to {to}, without quotes"),
            Takes::Switch => "true or false, without quotes".to_owned(),
            Takes::OneOf(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                let [rest @ .., last] = quoted.as_slice() else { return String::new() };
                format!("{} or {last}, in quotes", rest.join(", "))
            }
            Takes::Other(text) => (*text).to_owned(),
        }
    }
}

/// Of no table.
const KEYS: [(&str, Takes); 17] = [
    ("ca_file", Takes::Path),
    ("revoked_keys", Takes::Other("an absolute path or \"none\", in quotes")),
    ("revoked_here", Takes::Path),
    ("spool", Takes::Path),
    ("state", Takes::Path),
    ("warn_before_seconds", Takes::Other("a number of seconds or a list of them, as 60 or [300, 60]")),
    ("look_before_seconds", Takes::Seconds(1, MAX_AHEAD_SECONDS)),
    ("agent_timeout_seconds", Takes::Seconds(1, MAX_PATIENCE_SECONDS)),
    ("grace_seconds", Takes::Seconds(1, MAX_PATIENCE_SECONDS)),
    ("end_after_seconds", Takes::Seconds(0, MAX_END_AFTER_SECONDS)),
    ("at_end", Takes::OneOf(&["end", "warn", "freeze"])),
    ("kill_user_processes", Takes::Switch),
    ("without_certificate_limit_seconds", Takes::Seconds(1, MAX_AHEAD_SECONDS)),
    ("break_glass_ca_file", Takes::Path),
    ("break_glass_limit_seconds", Takes::Seconds(1, MAX_AHEAD_SECONDS)),
    (
        "break_glass_hook",
        Takes::Other("a list of words in quotes, a program's absolute path first, as [\"/bin/mail\", \"root\"]"),
    ),
    ("break_glass_hook_user", Takes::Other("the name of an account, in quotes")),
];

/// Of `[sync]`.
const SYNC_KEYS: [(&str, Takes); 7] = [
    ("source", Takes::Other("\"ssh:\", \"file:/PATH\" or \"exec:/PROGRAM ARGUMENTS\", in quotes")),
    ("known_hosts", Takes::Path),
    ("feed_key", Takes::Path),
    ("every_seconds", Takes::Seconds(1, MAX_AHEAD_SECONDS)),
    ("timeout_seconds", Takes::Seconds(1, MAX_FETCH_SECONDS)),
    ("stale", Takes::OneOf(&["warn", "refuse"])),
    ("stale_after_seconds", Takes::Seconds(1, MAX_FEED_SECONDS)),
];

fn takes(table: &str, key: &str) -> Option<&'static Takes> {
    let keys: &[(&str, Takes)] = match table {
        "" => &KEYS,
        SYNC => &SYNC_KEYS,
        _ => return None,
    };
    keys.iter().find(|(name, _)| *name == key).map(|(_, takes)| takes)
}

/// A line `key = value`, or the first of several.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    /// From 1.
    line: usize,
    table: &'a str,
    key: &'a str,
    value: &'a str,
    /// In the text, bytes.
    value_at: usize,
}

impl Entry<'_> {
    /// Whether it is a list of several lines.
    fn goes_on(&self) -> bool {
        self.value.starts_with('[') && !self.value.contains(']')
    }
}

/// All that look like it; TOML or not.
fn entries(text: &str) -> Vec<Entry<'_>> {
    let (mut found, mut table, mut at) = (Vec::new(), "", 0);
    for (number, line) in text.split('\n').enumerate() {
        if let Some(header) = line.trim_start().strip_prefix('[')
            && let Some((name, _)) = header.split_once(']')
            && is_name(name.trim())
        {
            table = name.trim();
        }
        if let Some((key, value)) = line.split_once('=') {
            let (own, key) = key.trim().split_once('.').unwrap_or(("", key.trim()));
            let table = if own.is_empty() { table } else { own };
            if is_name(key) {
                let value_at = at + line.len() - value.len();
                found.push(Entry { line: number + 1, table, key, value: value.trim(), value_at });
            }
        }
        at += line.len() + 1;
    }
    found
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// The line in which a key stands, named as in messages: `grace_seconds`, `sync.every_seconds`.
pub(super) fn line_of(text: &str, key: &str) -> Option<usize> {
    let (table, key) = key.split_once('.').unwrap_or(("", key));
    entries(text).into_iter().find(|entry| entry.table == table && entry.key == key).map(|entry| entry.line)
}

/// The line and what is wrong with it; `words` are the parser's.
pub(super) fn problem(text: &str, start: usize, words: &str) -> (usize, String) {
    let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
    let said = words.lines().collect::<Vec<_>>().join(", ");
    let all = entries(text);
    let entry = all.iter().rev().find(|entry| entry.line <= line);
    let told = if words.starts_with("unknown field") {
        entry.filter(|entry| entry.line == line).and_then(elsewhere)
    } else {
        // Where the value begins, or further on, it is the value that is wrong.
        entry.filter(|entry| start >= entry.value_at && (entry.line == line || entry.goes_on())).and_then(wrong_value)
    };
    (line, told.unwrap_or(said))
}

fn wrong_value(entry: &Entry<'_>) -> Option<String> {
    let takes = takes(entry.table, entry.key)?.to_text();
    let name = if entry.table.is_empty() { entry.key.to_owned() } else { format!("{}.{}", entry.table, entry.key) };
    let value = escape(entry.value.as_bytes(), MAX_TOLD);
    Some(if value.is_empty() {
        format!("{name} must be {takes}")
    } else {
        format!("{name} must be {takes}; not {value}")
    })
}

/// Of a key that the other table has.
fn elsewhere(entry: &Entry<'_>) -> Option<String> {
    let key = entry.key;
    match entry.table {
        SYNC if takes("", key).is_some() => {
            Some(format!("{key} belongs above the line [{SYNC}]: what stands below it is of that table"))
        }
        "" if takes(SYNC, key).is_some() => Some(format!(
            "{key} belongs below a line [{SYNC}], at the end of the file: what stands above it is of no table"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn said(text: &str) -> String {
        Config::parse(text, Path::new("/t.toml")).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_value_is_told_with_line_key_and_what_is_allowed() {
        for (text, wanted) in [
            ("at_end = freeze", "/t.toml:1: at_end must be \"end\", \"warn\" or \"freeze\", in quotes; not freeze"),
            (
                "\n\ngrace_seconds = 1.5",
                "/t.toml:3: grace_seconds must be a whole number of seconds, 1 to 60, without quotes; not 1.5",
            ),
            (
                "grace_seconds = \"2\"",
                "/t.toml:1: grace_seconds must be a whole number of seconds, 1 to 60, without quotes; not \"2\"",
            ),
            ("grace_seconds =", "/t.toml:1: grace_seconds must be a whole number of seconds, 1 to 60, without quotes"),
            (
                "grace_seconds = 2 s",
                "/t.toml:1: grace_seconds must be a whole number of seconds, 1 to 60, without quotes; not 2 s",
            ),
            ("ca_file = /etc/ssh/ca", "/t.toml:1: ca_file must be an absolute path, in quotes; not /etc/ssh/ca"),
            ("ca_file = \"/etc/ssh/ca", "/t.toml:1: ca_file must be an absolute path, in quotes; not \"/etc/ssh/ca"),
            (
                "kill_user_processes = yes",
                "/t.toml:1: kill_user_processes must be true or false, without quotes; not yes",
            ),
            (
                "kill_user_processes = True",
                "/t.toml:1: kill_user_processes must be true or false, without quotes; not True",
            ),
            ("break_glass_hook = '/bin/mail root'", "/t.toml:1: break_glass_hook must be a list of words in quotes"),
            ("[sync]\nstale = refuse", "/t.toml:2: sync.stale must be \"warn\" or \"refuse\", in quotes; not refuse"),
            ("[sync]\nsource = ssh:", "/t.toml:2: sync.source must be \"ssh:\""),
            ("sync.stale = 1", "/t.toml:1: sync.stale must be \"warn\" or \"refuse\", in quotes; not 1"),
            // The line of what is wrong, in a value of several.
            (
                "warn_before_seconds = [\n  300,\n  5m,\n]",
                "/t.toml:3: warn_before_seconds must be a number of seconds or a list",
            ),
        ] {
            let error = said(text);
            assert!(error.starts_with(wanted), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_key_of_the_other_table_is_told_where_it_belongs() {
        let below = said("[sync]\nsource = 'ssh:'\ngrace_seconds = 2");
        assert_eq!(
            below,
            "/t.toml:3: grace_seconds belongs above the line [sync]: what stands below it is of that table"
        );
        let above = said("grace_seconds = 2\nsource = 'ssh:'\n[sync]");
        assert_eq!(
            above,
            "/t.toml:2: source belongs below a line [sync], at the end of the file: what stands above it is of no table"
        );
        let neither = said("[sync]\ngrace = 2");
        assert!(neither.starts_with("/t.toml:2: unknown field `grace`, expected one of `source`"), "{neither}");
    }

    #[test]
    fn what_is_wrong_with_no_value_is_told_in_the_parsers_words() {
        for (text, wanted) in [
            ("grace_seconds = 2\ngrace_seconds = 3", "/t.toml:2: duplicate key"),
            ("grace_seconds", "/t.toml:1: "),
            ("grace_seconds = 2\n[snyc]\n", "/t.toml:2: unknown field `snyc`"),
            ("[sync\n", "/t.toml:1: "),
            ("grace_seconds = 2\n[sync\n", "/t.toml:2: "),
        ] {
            let error = said(text);
            assert!(error.starts_with(wanted) && !error.contains("must be"), "{text}: {error}");
        }
    }

    #[test]
    fn a_value_that_makes_no_sense_is_told_with_its_line() {
        assert_eq!(said("\ngrace_seconds = 61"), "/t.toml:2: grace_seconds: must be 1 to 60 seconds, not 61");
        let sync = said("# every_seconds = 0\n[sync]\nevery_seconds = 0 # never");
        assert_eq!(sync, "/t.toml:3: sync.every_seconds: must be 1 to 604800 seconds, not 0");
    }

    /// What the parser expects where there is something else.
    fn expected(text: &str) -> Vec<String> {
        let words = said(text);
        let list = words.split_once("expected one of ").unwrap().1;
        list.split(", ").map(|name| name.trim_matches('`').to_owned()).collect()
    }

    #[test]
    fn what_is_said_is_what_is_taken() {
        let names = |keys: &[(&str, Takes)]| keys.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
        let mut top = expected("x_ = 1");
        top.retain(|name| name != SYNC);
        assert_eq!(names(&KEYS), top);
        assert_eq!(names(&SYNC_KEYS), expected("[sync]\nx_ = 1"));
        for (table, keys) in [("", &KEYS[..]), ("[sync]\n", &SYNC_KEYS[..])] {
            for (key, takes) in keys {
                let is_taken = |value: &str| Config::parse(&format!("{table}{key} = {value}"), Path::new("/t")).is_ok();
                match takes {
                    Takes::Seconds(from, to) => {
                        assert!(is_taken(&from.to_string()) && is_taken(&to.to_string()), "{key}");
                        assert!(!is_taken(&(to + 1).to_string()) && (*from == 0 || !is_taken("0")), "{key}");
                    }
                    Takes::OneOf(words) => assert!(words.iter().all(|word| is_taken(&format!("'{word}'"))), "{key}"),
                    Takes::Path => assert!(is_taken("'/a/b/c'") && !is_taken("'c'"), "{key}"),
                    Takes::Switch => assert!(is_taken("true") && is_taken("false"), "{key}"),
                    Takes::Other(_) => {}
                }
            }
        }
    }
}
