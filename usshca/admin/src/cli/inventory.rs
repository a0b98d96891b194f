//! What asks the inventory and the policy: `list`, `find`, `show`, `backup`, `replay`, `explain`.

use std::path::PathBuf;

use clap::Args;

use super::{parse_seconds, parse_serial};

/// `usshca list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// At most so many, newest first
    #[arg(long, short = 'n', value_name = "N")]
    pub limit: Option<u64>,
    /// JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// CSV, with a head line
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// `usshca find`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whom").required(true).multiple(true).args(["user", "key", "serial", "time", "principal", "host", "from", "state", "rule"]))]
pub struct FindArgs {
    /// Of this user
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// For this key, or by somebody who had logged in with it: a file with the public key, or its fingerprint SHA256:…
    #[arg(long, value_name = "FILE|SHA256:…")]
    pub key: Option<String>,
    /// With this serial
    #[arg(long, value_name = "SERIAL", value_parser = parse_serial)]
    pub serial: Option<u64>,
    /// Asked for from one time to before another, in UTC, as 2026-01-31T12:00:00Z..2026-02-01T00:00:00Z; either may be left out
    #[arg(long, value_name = "FROM..TO")]
    pub time: Option<String>,
    /// That names this principal
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,
    /// Of a host that is known by this name
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Asked for from this address (`admin`: by an administrator)
    #[arg(long, value_name = "IP", value_parser = parse_source)]
    pub from: Option<String>,
    /// What became of it
    #[arg(long, value_name = "STATE")]
    pub state: Option<StateArg>,
    /// By this rule of the policy
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,
    /// At most so many, newest first
    #[arg(long, short = 'n', value_name = "N")]
    pub limit: Option<u64>,
    /// JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// CSV, with a head line
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StateArg {
    /// A serial was given, and no more is known.
    Reserved,
    /// Signed, and not known whether it was delivered.
    Signed,
    /// The user has it.
    Delivered,
    /// The user does not have it, or nobody knows.
    Undelivered,
    /// No certificate was made.
    Refused,
    /// Revoked, whatever else.
    Revoked,
}

/// `usshca backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// A file, which is replaced in one step; or a folder, in which one is made that is named after the time
    #[arg(value_name = "FILE|DIR")]
    pub to: PathBuf,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `usshca replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The other policy
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// Requests of how long ago at most: seconds, or a number with s, m, h, d or w behind it
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_seconds)]
    pub since: u64,
    /// JSON, one object a line, and a last one with the counts
    #[arg(long)]
    pub json: bool,
}

/// What names a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowId {
    /// A certificate's serial.
    Serial(u64),
    /// The number of a row.
    Row(u64),
}

/// A serial, or `r` and a row's number.
fn parse_row_id(text: &str) -> Result<RowId, String> {
    let (number, id): (&str, fn(u64) -> RowId) = match text.strip_prefix('r') {
        Some(number) => (number, RowId::Row),
        None => (text, RowId::Serial),
    };
    number.parse().map(id).map_err(|_| "a serial, or r and the number of a row".to_owned())
}

/// `usshca show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The certificate's serial, or what `list` and `find` print for a refusal: r and a number
    #[arg(value_name = "ID", value_parser = parse_row_id)]
    pub id: RowId,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `usshca explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The account
    pub user: String,
    /// Where the request comes from
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub from: std::net::IpAddr,
    /// When, in UTC, as 2026-01-31T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Suppose that the account is in this group, and in no other that is not named; may be repeated [default: the groups it has on this machine]
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// How it was authenticated: pam, publickey, publickey+pam or none [default: as the rule demands]
    #[arg(long = "auth", value_name = "HOW", value_parser = ["pam", "publickey", "publickey+pam", "none"])]
    pub authentication: Option<String>,
    /// Who makes the key: inject (the CA) or client-key [default: the CA, if the rule allows it]
    #[arg(long, value_name = "MODE", value_parser = ["inject", "client-key"])]
    pub mode: Option<String>,
    /// Of the key: ed25519, ecdsa, rsa, ed25519-sk or ecdsa-sk [default: the first that the rule allows, and the CA makes]
    #[arg(long, value_name = "TYPE", value_parser = ["ed25519", "ecdsa", "rsa", "ed25519-sk", "ecdsa-sk"])]
    pub key_type: Option<String>,
    /// For how long it is asked for: seconds, or a number with s, m, h, d or w behind it [default: as the rule says]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_seconds)]
    pub validity: Option<u64>,
    /// A principal that is asked for; may be repeated [default: all that the rule gives]
    #[arg(long = "principal", value_name = "NAME")]
    pub principals: Vec<String>,
    /// The reason that is given, '' for none [default: one, if the rule demands it]
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// An address as the inventory has it, or `admin`.
fn parse_source(text: &str) -> Result<String, String> {
    if text == "admin" {
        return Ok(text.to_owned());
    }
    let address = text.parse::<std::net::IpAddr>();
    address.map(|address| address.to_canonical().to_string()).map_err(|_| "must be one IP address, or admin".to_owned())
}
