//! `revoke`, `revocations` and `krl`.

use std::path::PathBuf;

use clap::Args;

use super::parse_serial;

/// `usshca revoke`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(false).args(["serial", "user", "host", "key", "key_id", "before", "ca", "undo", "serials"]))]
pub struct RevokeArgs {
    /// One certificate, by its serial
    #[arg(value_parser = parse_serial)]
    pub serial: Option<u64>,
    /// All certificates that this user was given so far; the next one is good again
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// All certificates so far of a host that is known by this name
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// A key, in any certificate: a file with the public key, or its fingerprint SHA256:…
    #[arg(long, value_name = "FILE|SHA256:…")]
    pub key: Option<String>,
    /// Every certificate with this key ID, those to come too: bars the user of this name until it is undone
    #[arg(long, value_name = "ID")]
    pub key_id: Option<String>,
    /// All certificates issued before a time in UTC, as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub before: Option<String>,
    /// A CA key: every certificate by it
    #[arg(long, value_name = "user|host")]
    pub ca: Option<Of>,
    /// Lift a revocation, by its number (`usshca revocations`)
    #[arg(long, value_name = "NUMBER", conflicts_with = "reason", value_parser = parse_act)]
    pub undo: Option<u64>,
    /// A range of serials, users' and hosts', in the inventory or not: what an inventory that was put back does not know (`usshca check` names it)
    #[arg(long, value_name = "FIRST-LAST", value_parser = parse_serials)]
    pub serials: Option<(u64, u64)>,
    /// Of --before and --key-id: whose certificates
    #[arg(long, value_name = "user|host", default_value = "user")]
    pub of: Of,
    /// Why, for the inventory
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// The certificates of one of the two CAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Of {
    /// Users'.
    User,
    /// Hosts'.
    Host,
}

/// `usshca revocations`.
#[derive(Debug, Args)]
pub struct RevocationsArgs {
    /// JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// `usshca krl`.
#[derive(Debug, Args)]
pub struct KrlArgs {
    /// Put it in place here, in one step [default: standard output]
    #[arg(long = "out", alias = "output", short = 'o', value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// A revocation's number.
fn parse_act(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "must be the number of a revocation, as `usshca revocations` shows it".to_owned())
}

/// `7-9` → both numbers.
fn parse_serials(text: &str) -> Result<(u64, u64), String> {
    let numbers = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let numbers = numbers.filter(|(first, last): &(u64, u64)| *first != 0 && first <= last);
    numbers.ok_or_else(|| "must be two serials with a hyphen between them, the lower one first".to_owned())
}
