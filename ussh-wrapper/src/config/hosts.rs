//! Which hosts are ours, what is forwarded to them, and which challenges ask first: the `[[host]]` tables and `confirm`.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Most patterns in one list.
const MAX_PATTERNS: usize = 256;

/// What is forwarded to a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// The guarded agent: sudo works there, and nobody gets on from there.
    #[default]
    Guarded,
    /// The user's own agent, with all that it can do.
    Full,
    /// Nothing.
    None,
}

/// One `[[host]]` table: hosts of ours.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRule {
    /// Which: the name that ssh connects to in the end, as `ssh -G` has it.
    #[serde(rename = "match", deserialize_with = "at_least_one")]
    patterns: Patterns,
    /// What they get, where neither the command line nor ssh_config says it.
    #[serde(default)]
    forward: Forward,
}

/// A table for no host would leave every host to ssh alone.
fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Patterns, D::Error> {
    let patterns = Patterns::deserialize(deserializer)?;
    if patterns.is_empty() {
        return Err(D::Error::custom("`match` names no host: take the table out, or write [\"*\"] for all"));
    }
    Ok(patterns)
}

impl HostRule {
    /// For these hosts.
    pub fn new(patterns: Patterns, forward: Forward) -> Self {
        HostRule { patterns, forward }
    }
    /// The patterns as ssh_config(5) has them: by commas apart, and of characters that stand for themselves in double quotes.
    pub fn patterns(&self) -> String {
        let one = |pattern: &Pattern| format!("{}{}", if pattern.excepts { "!" } else { "" }, pattern.text);
        self.patterns.0.iter().map(one).collect::<Vec<_>>().join(",")
    }
    /// The first rule for this host.
    pub fn find<'a>(rules: &'a [HostRule], host: &str) -> Option<&'a HostRule> {
        rules.iter().find(|rule| rule.patterns.matches(host))
    }
    /// What is forwarded.
    pub fn forward(&self) -> Forward {
        self.forward
    }
}

/// A list of patterns as ssh_config(5) has them: `*`, `?`, and `!` before what is excepted. Case does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Patterns(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    excepts: bool,
    text: String,
}

impl Patterns {
    /// Whether one of them matches and none of those that except does.
    pub fn matches(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let hit = |excepts| {
            self.0.iter().filter(|p| p.excepts == excepts).any(|p| matches(p.text.as_bytes(), name.as_bytes()))
        };
        hit(false) && !hit(true)
    }
    /// Whether nothing can match.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|pattern| pattern.excepts)
    }
}

impl TryFrom<Vec<String>> for Patterns {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        if texts.len() > MAX_PATTERNS {
            return Err(format!("more than {MAX_PATTERNS} patterns"));
        }
        let patterns = texts.iter().map(|text| Pattern::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let patterns = Patterns(patterns);
        // A list of exceptions would match nothing, and whoever wrote it meant something.
        if !texts.is_empty() && patterns.is_empty() {
            return Err("patterns with `!` except from others: without one they match nothing".to_owned());
        }
        Ok(patterns)
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let (excepts, bare) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%' | '*' | '?');
        if bare.is_empty() || bare.len() > 255 || !bare.chars().all(plain) {
            return Err(format!(
                "{text:?} is not a pattern: letters, digits, `.`, `-`, `_`, `:`, `*`, `?`, `!` in front"
            ));
        }
        Ok(Pattern { excepts, text: bare.to_ascii_lowercase() })
    }
}

/// `*`: any characters; `?`: any one. In time of at most the product of the lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Behind the last `*`, and where in the name it was tried last.
    let mut again: Option<(usize, usize)> = None;
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                again = Some((at + 1, from));
                at += 1;
            }
            Some(b'?') => (at, from) = (at + 1, from + 1),
            Some(byte) if Some(byte) == name.get(from) => (at, from) = (at + 1, from + 1),
            _ => match again {
                Some((behind, tried)) => {
                    again = Some((behind, tried + 1));
                    (at, from) = (behind, tried + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn patterns(texts: &[&str]) -> Result<Patterns, String> {
        texts.iter().map(ToString::to_string).collect::<Vec<_>>().try_into()
    }

    #[test]
    fn patterns_match_as_in_ssh_config() {
        for (list, name, wanted) in [
            (&["web1"][..], "web1", true),
            (&["web1"], "WEB1", true),
            (&["Web1"], "web1", true),
            (&["web1"], "web10", false),
            (&["web?"], "web1", true),
            (&["web?"], "web", false),
            (&["*.example.com"], "a.b.example.com", true),
            (&["*.example.com"], "example.com", false),
            (&["*.example.com"], "a.example.com.evil.net", false),
            (&["*a*b*"], "xxaxxbxx", true),
            (&["*a*b"], "ab ab a", false),
            (&["*"], "", true),
            (&["*.example.com", "!bastion.*"], "web1.example.com", true),
            (&["*.example.com", "!bastion.*"], "bastion.example.com", false),
            (&["!bastion.*", "*.example.com"], "bastion.example.com", false),
            (&["fe80::*"], "fe80::1", true),
            (&[], "web1", false),
        ] {
            assert_eq!(patterns(list).unwrap().matches(name), wanted, "{list:?} {name}");
        }
    }

    #[test]
    fn a_pattern_that_takes_long_to_refuse_does_not() {
        let long = "a".repeat(255);
        assert!(!patterns(&[&("*a".repeat(120) + "b")]).unwrap().matches(&long));
    }

    #[test]
    fn what_is_no_pattern_or_matches_nothing_is_refused() {
        for list in [&[""][..], &["a b"], &["!"], &["!web1"], &["a,b"], &["a\n"], &["é"], &["ok", "a/b"]] {
            assert!(patterns(list).is_err(), "{list:?}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_guarded_is_what_it_says_if_it_says_nothing() {
        let rule = |list: &[&str], forward| HostRule { patterns: patterns(list).unwrap(), forward };
        let rules = [rule(&["jump"], Forward::None), rule(&["*"], Forward::default())];
        assert_eq!(HostRule::find(&rules, "jump").map(HostRule::forward), Some(Forward::None));
        assert_eq!(HostRule::find(&rules, "web1").map(HostRule::forward), Some(Forward::Guarded));
        assert_eq!(HostRule::find(&rules[..1], "web1"), None);
    }
}
