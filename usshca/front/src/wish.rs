//! What a user asks for on the command line: `ssh -A ca for=1h principals=web,db reason=what for`.
//!
//! The shell on the user's side has eaten the quotes by the time the words come here, so a reason goes on up to the next word that is one of ours, or to the end.

use ussh_core::escape::{MAX_FIELD, escape};
use usshca_ipc::front::{MAX_REASON, MAX_WISHED, MAX_WISHES, Makes, Wish};

const FOR: &str = "for=";
const PRINCIPALS: &str = "principals=";
const REASON: &str = "reason=";
const KEY: &str = "key=";
const WORDS: [&str; 4] = [FOR, PRINCIPALS, REASON, KEY];

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// What the signer is told.
    pub wish: Wish,
    /// `key=ecdsa`: the kind of key that the CA is to make.
    pub key: Option<Makes>,
}

/// Reads a command line of wishes; `None`: its first word is none.
/// # Errors
/// What is wrong, and what to write.
pub fn parse(line: &str) -> Option<Result<Order, String>> {
    WORDS.iter().any(|word| line.starts_with(word)).then(|| read(line))
}

fn read(line: &str) -> Result<Order, String> {
    let (mut wish, mut key) = (Wish::default(), None);
    let mut seen: Vec<&str> = Vec::new();
    let mut words = line.split(' ').filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        let Some((name, value)) = WORDS.iter().find_map(|n| Some((*n, word.strip_prefix(n)?))) else {
            return Err(format!("{} is none of for=, principals=, reason= and key=", shown(word)));
        };
        if seen.contains(&name) {
            return Err(format!("{name} stands there twice"));
        }
        seen.push(name);
        match name {
            FOR => {
                let seconds = ussh_core::clock::seconds(value);
                wish.validity_seconds = Some(
                    seconds.ok_or_else(|| format!("{} is no time such as for=30m, for=8h or for=1d", shown(word)))?,
                );
            }
            PRINCIPALS => {
                wish.principals = value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
                if wish.principals.is_empty() || wish.principals.len() > MAX_WISHES {
                    return Err(format!("principals= wants 1 to {MAX_WISHES} names, with commas between them"));
                }
                if wish.principals.iter().any(|name| name.len() > MAX_WISHED) {
                    return Err(format!("principals= wants names of at most {MAX_WISHED} bytes"));
                }
            }
            KEY => {
                key = Some(match value {
                    "ed25519" => Makes::Ed25519,
                    "ecdsa" => Makes::Ecdsa,
                    _ => return Err(format!("{} is neither key=ed25519 nor key=ecdsa", shown(word))),
                });
            }
            _ => {
                let mut reason = vec![value];
                while let Some(more) = words.next_if(|word| !WORDS.iter().any(|own| word.starts_with(own))) {
                    reason.push(more);
                }
                wish.reason = unquoted(&reason.join(" ")).to_owned();
                if wish.reason.is_empty() || wish.reason.len() > MAX_REASON {
                    return Err(format!("reason= wants a text of 1 to {MAX_REASON} bytes"));
                }
            }
        }
    }
    Ok(Order { wish, key })
}

/// Quotes that came through, since somebody quoted twice.
fn unquoted(text: &str) -> &str {
    let inner = |quote| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

fn shown(word: &str) -> String {
    escape(word.as_bytes(), MAX_FIELD)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn wish(seconds: Option<u64>, principals: &[&str], reason: &str) -> Wish {
        let principals = principals.iter().map(|&p| p.to_owned()).collect();
        Wish { validity_seconds: seconds, principals, reason: reason.to_owned() }
    }

    #[test]
    fn wishes_come_in_any_order_and_a_reason_may_have_blanks() {
        for (line, expected) in [
            ("for=1h", wish(Some(3600), &[], "")),
            ("for=90", wish(Some(90), &[], "")),
            ("principals=web,db", wish(None, &["web", "db"], "")),
            ("reason=fix it now", wish(None, &[], "fix it now")),
            ("reason=\"fix it now\" for=30m", wish(Some(1800), &[], "fix it now")),
            ("reason=a=b principals=web for=1d", wish(Some(86_400), &["web"], "a=b")),
            ("for=1h  reason=  what for ", wish(Some(3600), &[], " what for")),
        ] {
            assert_eq!(parse(line).unwrap().unwrap(), Order { wish: expected, key: None }, "{line}");
        }
        let ecdsa = Order { wish: wish(None, &[], "for it"), key: Some(Makes::Ecdsa) };
        assert_eq!(parse("reason=for it key=ecdsa").unwrap().unwrap(), ecdsa);
    }

    #[test]
    fn what_is_none_is_named() {
        for (line, part) in [
            ("for=", "for= is no time"),
            ("for=0", "for=0 is no time"),
            ("for=1y", "for=1y is no time"),
            ("for=1h for=2h", "twice"),
            ("reason=a reason=b", "reason= stands there twice"),
            ("for=1h now", "now is none of"),
            ("principals=", "names"),
            ("principals=,", "names"),
            ("reason=", "reason="),
            ("key=", "neither"),
            ("key=rsa", "key=rsa is neither"),
            ("for=1h\x1b[2J", "for=1h\\x1b[2J"),
        ] {
            assert!(parse(line).unwrap().unwrap_err().contains(part), "{line}: {:?}", parse(line));
        }
        assert!(parse(&format!("reason={}", "x".repeat(MAX_REASON + 1))).unwrap().is_err());
        assert!(parse(&format!("principals={}", "x,".repeat(MAX_WISHES + 1))).unwrap().is_err());
        let long = |length| parse(&format!("principals=web,{}", "x".repeat(length))).unwrap();
        assert!(long(MAX_WISHED).is_ok());
        assert_eq!(long(MAX_WISHED + 1).unwrap_err(), "principals= wants names of at most 256 bytes");
    }

    #[test]
    fn another_command_is_no_wish() {
        for line in ["", "whoami", "forever", "reason", "help for=1h"] {
            assert!(parse(line).is_none(), "{line}");
        }
    }
}
