//! `publish` and `feed`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::parse_seconds;

/// `usshca publish`.
#[derive(Clone, Debug, Args)]
pub struct PublishArgs {
    /// The folder; made if need be
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// For how long it is valid: seconds, or a number with s, m, h, d or w behind it [default: publish_valid_seconds of the configuration]
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub valid_for: Option<u64>,
    /// Write feed.unsigned, for `usshca feed sign` where the feed key is; the feed in the folder stays as it is
    #[arg(long)]
    pub unsigned: bool,
    /// Say nothing of success
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// JSON
    #[arg(long)]
    pub json: bool,
    /// Of `usshca serve`: a draft if the feed key is elsewhere, and a line for the log, whatever comes of it, on descriptor 3
    #[arg(long, hide = true)]
    pub by_daemon: bool,
}

/// `usshca feed`.
#[derive(Debug, Subcommand)]
pub enum FeedCommand {
    /// What a feed says of itself; whose it is, is not looked at
    Show(FeedShowArgs),
    /// Judge a feed as a host does
    Verify(FeedVerifyArgs),
    /// Sign feed.unsigned in a folder with the feed key, away from the CA
    Sign(FeedSignArgs),
    /// The feed key
    #[command(subcommand)]
    Key(FeedKeyCommand),
}

/// `usshca feed show`.
#[derive(Debug, Args)]
pub struct FeedShowArgs {
    /// The file, or the folder that it is in; `-` is standard input
    #[arg(value_name = "FEED")]
    pub feed: PathBuf,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `usshca feed verify`.
#[derive(Debug, Args)]
pub struct FeedVerifyArgs {
    /// The file, or the folder that it is in; `-` is standard input
    #[arg(value_name = "FEED")]
    pub feed: PathBuf,
    /// The feed key that is trusted, or an earlier one
    #[arg(long, value_name = "KEY.pub")]
    pub key: PathBuf,
    /// Refuse a version below this one
    #[arg(long, value_name = "VERSION")]
    pub min_version: Option<u64>,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `usshca feed sign`.
#[derive(Debug, Args)]
pub struct FeedSignArgs {
    /// The folder with feed.unsigned
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// The feed key: a private key in OpenSSH's format, encrypted or not
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Hand over to this key: it signs from the next version on
    #[arg(long, value_name = "KEY.pub")]
    pub successor: Option<PathBuf>,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `usshca feed key`.
#[derive(Debug, Subcommand)]
pub enum FeedKeyCommand {
    /// The feed key, and where it is held
    Show(FeedKeyShowArgs),
    /// Take another feed key, which the present one names as its successor; the first one, if there is none
    Rotate(RotateArgs),
}

/// `usshca feed key show`.
#[derive(Debug, Args)]
pub struct FeedKeyShowArgs {
    /// The public key alone, in one line: as `public/feed_key.pub` has it
    #[arg(long, conflicts_with = "json")]
    pub public: bool,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `usshca feed key rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// To this key, which is elsewhere [default: a new one of the CA's own]
    #[arg(long, value_name = "KEY.pub", conflicts_with = "handed_over")]
    pub to: Option<PathBuf>,
    /// The present key, which is elsewhere, has handed over in this feed (`usshca feed sign --successor`)
    #[arg(long, value_name = "FEED")]
    pub handed_over: Option<PathBuf>,
    /// JSON
    #[arg(long)]
    pub json: bool,
}
