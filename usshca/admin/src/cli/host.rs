//! `host`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::parse_seconds;

/// `usshca host`.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Sign a host's public key, and enter the host
    Sign(HostSignArgs),
    /// Make a token by which one new host gets its certificates, once, with nobody's help
    ///
    /// It is shown here and never again. The host uses it by the verb `enroll` of `ssh host@CA` (docs/hosts.md), which ussh-hostd does not speak yet: `usshca host sign` needs no token.
    Token(HostTokenArgs),
    /// Tokens that can still be used, newest first
    Tokens(HostTokensArgs),
    /// The hosts, by name
    List(HostListArgs),
    /// One host
    Show(HostShowArgs),
    /// Take a host out: its certificates are revoked, and it gets no more
    Remove(HostRemoveArgs),
}

/// `usshca host token`.
#[derive(Debug, Args)]
pub struct HostTokenArgs {
    /// The host's names: its own first, then the others by which people reach it
    #[arg(value_name = "NAME", required_unless_present = "revoke")]
    pub names: Vec<String>,
    /// For how long it can be used: seconds, or a number with s, m, h, d or w behind it; a week at most
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = parse_seconds)]
    pub life: u64,
    /// Make a token useless, by its number (`usshca host tokens`)
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["names", "life"])]
    pub revoke: Option<u64>,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `usshca host tokens`.
#[derive(Debug, Args)]
pub struct HostTokensArgs {
    /// JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// `usshca host list`.
#[derive(Debug, Args)]
pub struct HostListArgs {
    /// Only those of which a certificate ends within this time, or has ended: seconds, or a number with s, m, h, d or w behind it; exit status 1 if there is none
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub expiring: Option<u64>,
    /// Those that were removed, too
    #[arg(long)]
    pub removed: bool,
    /// JSON, one object a line
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// CSV (RFC 4180), with a line of names first; times are seconds since the epoch
    #[arg(long)]
    pub csv: bool,
}

/// `usshca host show`.
#[derive(Debug, Args)]
pub struct HostShowArgs {
    /// The host's own name
    pub name: String,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `usshca host remove`.
#[derive(Debug, Args)]
pub struct HostRemoveArgs {
    /// The host's own name
    pub name: String,
    /// Why, for the inventory
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `usshca host sign`.
#[derive(Debug, Args)]
pub struct HostSignArgs {
    /// The host's public key (ssh_host_ed25519_key.pub); the certificate is written beside it as …-cert.pub; `-` reads standard input and writes standard output
    #[arg(value_name = "KEY.pub")]
    pub key: PathBuf,
    /// A name of the host, its own first; may be repeated; wildcards only behind it, and as far as the policy names them
    #[arg(long = "name", alias = "principal", short = 'n', value_name = "HOST", required = true)]
    pub names: Vec<String>,
    /// For how long: seconds, or a number with s, m, h, d or w behind it [default: as the policy says, host_validity_seconds]
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub validity: Option<u64>,
    /// Take the key away from the host that has it
    #[arg(long)]
    pub take_key: bool,
    /// Where to put the certificate [default: beside the key, as …-cert.pub]; `-` is standard output
    #[arg(long = "out", short = 'o', value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// JSON
    #[arg(long)]
    pub json: bool,
}
