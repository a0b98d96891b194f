//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const EXIT_STATUS: &str = "\
Exit status:
   0  done
   1  refused, or not found (as of find, host list --expiring, key list USER)
  64  wrong usage: the command line, or a key file named on it
  69  not available: the CA does not answer, a signer is at work already, or an address is taken
  70  something that should not happen
  73  a file cannot be written
  78  no CA here, or its configuration, policy, keys, inventory or accounts are wrong";

/// An SSH certificate authority: people log in with a password (PAM) and get a certificate that lasts for hours.
#[derive(Debug, Parser)]
#[command(name = "usshca", version, about, arg_required_else_help = true, after_help = EXIT_STATUS)]
pub struct Cli {
    /// Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried
    ///
    /// Without it: the systemd credential usshca-passphrase, or a prompt at the terminal.
    #[arg(long, global = true, value_name = "N")]
    pub passphrase_fd: Option<i32>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Whether the verb works without a CA on this machine, for anybody.
    pub fn needs_no_ca(&self) -> bool {
        matches!(
            self.command,
            Command::Admin(AdminCommand::Feed(FeedCommand::Show(_) | FeedCommand::Verify(_) | FeedCommand::Sign(_)))
        )
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a working CA: keys, host certificate, config, policy, database
    Init(InitArgs),
    /// Run the CA
    ///
    /// It stays in the foreground. SIGTERM or SIGINT ends it, once those who are logging in have finished, within 10 seconds. SIGHUP reads the policy and the CA machine's own host certificate again; what is no good
    /// changes nothing, and the log says what is wrong with it. The configuration is read at the start.
    Serve(ServeArgs),
    /// Say whether `serve` would start, and what stands in its way
    ///
    /// What an administrator should look at is a warning, and changes the exit status only with --strict.
    Check(CheckArgs),
    /// Say how the running CA is: what it listens on, who is connected, its signer, the last certificate and the last error
    ///
    /// For monitoring: 0 = it serves and all is well; 1 = it serves, and something needs an administrator; 69 = it does not run.
    Status(StatusArgs),
    /// The verbs that ask the signer
    #[command(flatten)]
    Admin(AdminCommand),
}

/// `usshca init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// A host name by which people reach the CA; goes into its host certificate; may be repeated [default: this machine's host name]
    #[arg(long = "name", alias = "principal", value_name = "HOST")]
    pub names: Vec<String>,
    /// The CA's name, for what users read [default: the first host name]
    #[arg(long, value_name = "NAME")]
    pub ca_name: Option<String>,
    /// Address to listen on; may be repeated [default: port 22 on all addresses; with --dir port 2222]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Vec<std::net::SocketAddr>,
    /// Encrypt the CA's keys by a passphrase, which is asked for here and at each start
    #[arg(long)]
    pub encrypt: bool,
}

/// `usshca serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Write one newline to this descriptor when ready, and close it
    #[arg(long, value_name = "N")]
    pub ready_fd: Option<i32>,
}

/// `usshca check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Exit status 1 if there is a warning
    #[arg(long)]
    pub strict: bool,
    /// JSON: one object with what is good, the warnings, and the error, if there is one
    #[arg(long)]
    pub json: bool,
}

/// `usshca status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// The verbs that ask the signer: a running one over the admin socket, else one of their own for the moment.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Certificates that were issued, and what was refused, newest first
    List(ListArgs),
    /// One certificate, or one refusal
    Show(ShowArgs),
    /// Say which rule of the policy decides about somebody, why the ones before it do not, and what the certificate would be like
    ///
    /// Nothing is issued. The answer is that of the policy in force, if the CA runs.
    Explain(ExplainArgs),
    /// Revoke certificates, or undo that
    ///
    /// Hosts refuse what is revoked once they have the next KRL.
    Revoke(Box<RevokeArgs>),
    /// What was revoked, when, by whom and why, newest first
    Revocations(RevocationsArgs),
    /// Write the KRL of all that is revoked
    Krl(KrlArgs),
    /// Host certificates
    #[command(subcommand)]
    Host(HostCommand),
    /// Certificates and refusals by whom, what, when and from where they were asked for, newest first
    ///
    /// All of what is given must hold.
    Find(Box<FindArgs>),
    /// Copy the inventory, as it is at one moment, while the CA runs or not
    Backup(BackupArgs),
    /// Judge the recorded requests of users by another policy, and print what would have been different
    ///
    /// Nothing is issued, and the policy in force stays as it is.
    Replay(ReplayArgs),
    /// Registered keys: their users can log in by them where policy takes that
    #[command(subcommand)]
    Key(KeyCommand),
    /// Write the feed for hosts to a folder: CA keys, KRL and known_hosts, signed by the feed key
    ///
    /// Any web server, rsync or configuration management can carry the file `feed` in it. It is replaced in one step, and never by an older one.
    Publish(PublishArgs),
    /// The feed, and the key that signs it
    #[command(subcommand)]
    Feed(FeedCommand),
}

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
    #[arg(long, value_name = "SERIAL")]
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
    /// How it was authenticated: pam, publickey, publickey+pam or none
    #[arg(long = "auth", value_name = "HOW", default_value = "pam", value_parser = ["pam", "publickey", "publickey+pam", "none"])]
    pub authentication: String,
    /// Who makes the key: inject (the CA) or client-key
    #[arg(long, value_name = "MODE", default_value = "inject", value_parser = ["inject", "client-key"])]
    pub mode: String,
    /// Of the key: ed25519, ecdsa, rsa, ed25519-sk or ecdsa-sk
    #[arg(long, value_name = "TYPE", default_value = "ed25519", value_parser = ["ed25519", "ecdsa", "rsa", "ed25519-sk", "ecdsa-sk"])]
    pub key_type: String,
    /// For how long it is asked for: seconds, or a number with s, m, h, d or w behind it [default: as the rule says]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_seconds)]
    pub validity: Option<u64>,
    /// A principal that is asked for; may be repeated [default: all that the rule gives]
    #[arg(long = "principal", value_name = "NAME")]
    pub principals: Vec<String>,
    /// The reason that is given
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `usshca revoke`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(false).args(["serial", "user", "host", "key", "key_id", "before", "ca", "undo", "serials"]))]
pub struct RevokeArgs {
    /// One certificate, by its serial
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
    #[arg(long, value_name = "NUMBER", conflicts_with = "reason")]
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

/// `90d` → seconds. Units as in ssh-keygen's -V and sshd's time formats, one of them.
fn parse_seconds(text: &str) -> Result<u64, String> {
    let error = || "must be a number, not zero, with s, m, h, d or w behind it".to_owned();
    ussh_core::clock::seconds(&text.to_ascii_lowercase()).ok_or_else(error)
}

/// `7-9` → both numbers.
fn parse_serials(text: &str) -> Result<(u64, u64), String> {
    let numbers = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let numbers = numbers.filter(|(first, last): &(u64, u64)| *first != 0 && first <= last);
    numbers.ok_or_else(|| "must be two serials with a hyphen between them, the lower one first".to_owned())
}

/// An address as the inventory has it, or `admin`.
fn parse_source(text: &str) -> Result<String, String> {
    if text == "admin" {
        return Ok(text.to_owned());
    }
    let address = text.parse::<std::net::IpAddr>();
    address.map(|address| address.to_canonical().to_string()).map_err(|_| "must be one IP address, or admin".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::wildcard_enum_match_arm, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn manual_and_completions_are_those_of_this_command_line() {
        let command = Cli::command();
        let mut made = ussh_manual::completions(&command);
        made.push(ussh_manual::manual_page(&command, "8").unwrap());
        assert_eq!(ussh_manual::agree(&made), Ok(()));
    }

    #[test]
    fn a_unit_may_be_a_capital() {
        assert_eq!((parse_seconds("90d"), parse_seconds("12H")), (Ok(7_776_000), Ok(43_200)));
        assert!(parse_seconds("1y").is_err() && parse_seconds("0").is_err());
    }

    #[test]
    fn names_of_hosts_are_given_alike_to_init_and_host_sign() {
        let cli =
            Cli::try_parse_from(["usshca", "init", "--dir", "/d", "--name", "ca", "--name", "ca.example.com"]).unwrap();
        match cli.command {
            Command::Init(args) => assert_eq!(args.names, ["ca", "ca.example.com"]),
            other => panic!("{other:?}"),
        }
        let cli = Cli::try_parse_from(["usshca", "host", "sign", "k.pub", "--name", "web1"]).unwrap();
        match cli.command {
            Command::Admin(AdminCommand::Host(HostCommand::Sign(args))) => {
                assert_eq!((args.names.len(), args.validity), (1, None))
            }
            other => panic!("{other:?}"),
        }
        assert!(Cli::try_parse_from(["usshca", "host", "sign", "k.pub"]).is_err());
    }
}
