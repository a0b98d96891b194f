//! An option as it may be written: something to paste where one is wrong.

/// One option: its name, a value as a line writes it, and the same as the file writes it (empty: it cannot stand there).
type Example = (&'static str, &'static str, &'static str);

/// Every option.
pub const EXAMPLES: [Example; 20] = [
    ("ca_file", "/etc/ssh/trusted_user_ca", "\"/etc/ssh/trusted_user_ca\""),
    ("revoked_keys", "/etc/ssh/revoked_keys", "\"/etc/ssh/revoked_keys\""),
    ("krl_max_age", "1d", "86400"),
    ("authorized_principals", "ops,oncall", "[\"ops\", \"oncall\"]"),
    ("authorized_principals_file", "/etc/ssh/principals/%u", "\"/etc/ssh/principals/%u\""),
    ("require_user_principal", "yes", "true"),
    ("group", "admins", "\"admins\""),
    ("max_validity", "1d", "86400"),
    ("max_age", "8h", "28800"),
    ("timeout", "5s", "5"),
    ("touch_timeout", "60s", "60"),
    ("cue", "", "true"),
    ("cue_prompt", "Touch the key", "\"Touch the key\""),
    ("agent_socket", "/run/agent.sock", "\"/run/agent.sock\""),
    ("agent_search", "yes", "true"),
    ("bind_session", "yes", "true"),
    ("account_exempt_group", "automation", "\"automation\""),
    ("spool_failure", "refuse", "\"refuse\""),
    ("debug", "", "true"),
    ("config", "/etc/ussh/pam_ussh.toml", ""),
];

/// On a line.
pub fn on_line(name: &str) -> Option<String> {
    let (name, value, _) = of(name)?;
    Some(match *value {
        "" => (*name).to_owned(),
        value if value.contains(' ') => format!("[{name}={value}]"),
        value => format!("{name}={value}"),
    })
}

/// In the file. `name` as there or as on a line.
pub fn in_file(name: &str) -> Option<String> {
    let (name, line, value) = of(name.strip_suffix("_seconds").unwrap_or(name))?;
    let is_time = value.parse::<u64>().is_ok() && line.ends_with(['s', 'h', 'd']);
    let seconds = if is_time { "_seconds" } else { "" };
    (!value.is_empty()).then(|| format!("{name}{seconds} = {value}"))
}

/// The option that is one letter apart from this word.
pub fn nearest(word: &str) -> Option<&'static str> {
    EXAMPLES.iter().map(|(name, ..)| *name).find(|name| is_one_apart(name, word))
}

fn of(name: &str) -> Option<&'static Example> {
    EXAMPLES.iter().find(|(known, ..)| *known == name)
}

/// Whether one letter more, less or other makes one word of the other, or two that stand the other way round.
pub fn is_one_apart(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one, other) = (one.get(same..).unwrap_or_default(), other.get(same..).unwrap_or_default());
    let same = one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    let rest = |word: &[u8]| word.get(..word.len() - same).unwrap_or_default().to_vec();
    match (rest(one).as_slice(), rest(other).as_slice()) {
        ([], [_]) | ([_], [] | [_]) => true,
        ([a, b], [c, d]) => a == d && b == c,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::path::Path;

    use pam_ussh::options::{AccountOptions, Config, FromLine, SessionOptions};

    use super::*;

    #[test]
    fn every_example_is_one_that_the_module_takes() {
        let config = Path::new("/nonexistent");
        for (name, ..) in EXAMPLES.iter().filter(|(name, ..)| *name != "config") {
            let written = on_line(name).unwrap();
            let mut line = vec![written.trim_start_matches('[').trim_end_matches(']').to_owned()];
            if *name == "krl_max_age" {
                line.extend(on_line("revoked_keys"));
            }
            if *name == "spool_failure" {
                SessionOptions::parse_with("sshd", Some(&line), None).unwrap();
            } else {
                AccountOptions::parse_with("sudo", Some(&line), None)
                    .unwrap_or_else(|error| panic!("{line:?}: {error}"));
            }
            let file = format!("[default]\n{}\n", in_file(name).unwrap());
            let read = Config::parse(config, &file).unwrap_or_else(|error| panic!("{file}: {error}"));
            read.check().unwrap_or_else(|error| panic!("{file}: {error}"));
        }
        assert_eq!((in_file("timeout_seconds"), in_file("config")), (Some("timeout_seconds = 5".into()), None));
        assert_eq!(on_line("cue_prompt").unwrap(), "[cue_prompt=Touch the key]");
    }

    #[test]
    fn one_letter_apart_is_one_and_no_more() {
        for (one, other) in [("pam_ussh", "pam_uss"), ("pam_ussh", "pam_ushs"), ("a", ""), ("ca_file", "cafile")] {
            assert!(is_one_apart(one, other) && is_one_apart(other, one), "{one} {other}");
        }
        for (one, other) in [("pam_ussh", "pam_ussh"), ("pam_ussh", "pam_us"), ("pam_ussh", "pam_sush1"), ("ab", "cd")]
        {
            assert!(!is_one_apart(one, other) && !is_one_apart(other, one), "{one} {other}");
        }
        assert_eq!((nearest("revoked_key"), nearest("wombat")), (Some("revoked_keys"), None));
    }
}
