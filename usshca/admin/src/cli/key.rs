//! `key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `usshca key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Register a user's key
    Register(KeyRegisterArgs),
    /// The keys that are registered, newest first
    List(KeyListArgs),
    /// End a key's registration; certificates that were issued by it stay good
    Remove(KeyRemoveArgs),
}

/// `usshca key register`.
#[derive(Debug, Args)]
pub struct KeyRegisterArgs {
    /// The account
    pub user: String,
    /// The public key (id_ed25519.pub, or one of a security key); `-` reads standard input
    #[arg(value_name = "KEY.pub", default_value = "-")]
    pub key: PathBuf,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `usshca key list`.
#[derive(Debug, Args)]
pub struct KeyListArgs {
    /// Of this account only; exit status 1 if it has none
    pub user: Option<String>,
    /// JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// `usshca key remove`.
#[derive(Debug, Args)]
pub struct KeyRemoveArgs {
    /// The key's fingerprint SHA256:…, or a file with the public key
    #[arg(value_name = "SHA256:…|FILE")]
    pub key: String,
    /// JSON
    #[arg(long)]
    pub json: bool,
}
