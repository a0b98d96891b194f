//! The lines: JSON objects, every one of them bounded, unknown fields refused.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use super::{Grant, NONCE_LEN, Proof, Signed, VERSION, Verb};
use crate::keys::PublicKey;

/// Longest line of a proof, and of an answer other than a KRL, in bytes with its end.
pub const MAX_LINE: usize = 64 * 1024;

/// The host's last line: it has what it was given. Without it the inventory says that the delivery was not confirmed.
pub const TAKEN: &str = "{\"taken\":true}\n";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HelloText {
    version: u8,
    verb: String,
    nonce: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedText {
    key: String,
    signature: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProofText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<SignedText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    keys: Vec<SignedText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantText {
    host: String,
    certificates: Vec<String>,
    user_ca: Vec<String>,
    known_hosts: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    feed_key: Option<String>,
    signature: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum AnswerText {
    Refused(String),
    Granted(GrantText),
    Reported { host: String, valid_before: Option<u64> },
    Krl(String),
}

/// What a host is told in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No; why, and what to try.
    Refused(String),
    /// Certificates.
    Granted(Grant),
    /// The report was taken.
    Reported {
        /// Its name in the inventory.
        host: String,
        /// When the first of its certificates ends that the CA knows of, seconds since the epoch.
        valid_before: Option<u64>,
    },
    /// The KRL.
    Krl(Vec<u8>),
}

fn to_line(value: &impl Serialize) -> String {
    // A struct of strings and numbers is always written.
    serde_json::to_string(value).map(|line| line + "\n").unwrap_or_default()
}

/// The CA's first line.
pub fn hello(verb: Verb, nonce: &[u8; NONCE_LEN]) -> String {
    let (verb, nonce) = (verb.name().to_owned(), Base64::encode_string(nonce));
    to_line(&HelloText { version: VERSION, verb, nonce })
}

pub(super) fn read_hello(line: &[u8], verb: Verb) -> Option<[u8; NONCE_LEN]> {
    let hello: HelloText = read(line)?;
    let fits = hello.version == VERSION && hello.verb == verb.name();
    Base64::decode_vec(&hello.nonce).ok().filter(|_| fits)?.try_into().ok()
}

pub(super) fn proof_line(proof: &Proof) -> Option<String> {
    let text = |signed: &Signed| -> Option<SignedText> {
        let key = PublicKey::from_blob(&signed.key).ok()?.to_openssh("");
        Some(SignedText { key, signature: Base64::encode_string(&signed.signature) })
    };
    let token = match &proof.token {
        Some(signed) => Some(text(signed)?),
        None => None,
    };
    let keys = proof.keys.iter().map(text).collect::<Option<_>>()?;
    Some(to_line(&ProofText { token, names: proof.names.clone(), keys }))
}

/// Reads a host's line. `None`: it is none, or longer than [`MAX_LINE`].
pub fn read_proof(line: &[u8]) -> Option<Proof> {
    let text: ProofText = read(line)?;
    let signed = |text: SignedText| -> Option<Signed> {
        let key = PublicKey::from_openssh(&text.key).ok()?.to_blob();
        Some(Signed { key, signature: Base64::decode_vec(&text.signature).ok()? })
    };
    let token = match text.token {
        Some(text) => Some(signed(text)?),
        None => None,
    };
    Some(Proof { token, names: text.names, keys: text.keys.into_iter().map(signed).collect::<Option<_>>()? })
}

/// The CA's last line, but for a KRL, which comes in pieces ([`krl_line`]).
pub fn answer(answer: Answer) -> String {
    to_line(&match answer {
        Answer::Refused(why) => AnswerText::Refused(why),
        Answer::Reported { host, valid_before } => AnswerText::Reported { host, valid_before },
        Answer::Krl(krl) => AnswerText::Krl(Base64::encode_string(&krl)),
        Answer::Granted(grant) => AnswerText::Granted(GrantText {
            host: grant.host,
            certificates: grant.certificates,
            user_ca: grant.user_ca,
            known_hosts: grant.known_hosts,
            feed_key: grant.feed_key,
            signature: Base64::encode_string(&grant.signature),
        }),
    })
}

/// [`answer`] of a refusal.
pub fn refusal(why: &str) -> String {
    answer(Answer::Refused(why.to_owned()))
}

/// The line of a KRL, a piece of it at a time: pieces whose length is a multiple of 3, but for the last one.
pub fn krl_line(piece: &[u8], is_first: bool, is_last: bool) -> String {
    let (before, after) = (if is_first { "{\"krl\":\"" } else { "" }, if is_last { "\"}\n" } else { "" });
    [before, &Base64::encode_string(piece), after].concat()
}

pub(super) fn read_answer(line: &[u8]) -> Option<Answer> {
    Some(match serde_json::from_slice(line).ok()? {
        AnswerText::Refused(why) => Answer::Refused(why),
        AnswerText::Reported { host, valid_before } => Answer::Reported { host, valid_before },
        AnswerText::Krl(krl) => Answer::Krl(Base64::decode_vec(&krl).ok()?),
        AnswerText::Granted(text) => Answer::Granted(Grant {
            host: text.host,
            certificates: text.certificates,
            user_ca: text.user_ca,
            known_hosts: text.known_hosts,
            feed_key: text.feed_key,
            signature: Base64::decode_vec(&text.signature).ok()?,
        }),
    })
}

fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Option<T> {
    serde_json::from_slice(Some(line).filter(|line| line.len() <= MAX_LINE)?).ok()
}
