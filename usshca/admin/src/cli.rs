//! The command line: the machine's own verbs here, those of the signer by what they are about.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::feed::*;
pub use self::host::*;
pub use self::inventory::*;
pub use self::key::*;
pub use self::revoke::*;

mod feed;
mod host;
mod inventory;
mod key;
mod revoke;

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

/// `90d` → seconds. Units as in ssh-keygen's -V and sshd's time formats, one of them.
fn parse_seconds(text: &str) -> Result<u64, String> {
    let error = || "must be a number, not zero, with s, m, h, d or w behind it".to_owned();
    ussh_core::clock::seconds(&text.to_ascii_lowercase()).ok_or_else(error)
}

/// A serial.
fn parse_serial(text: &str) -> Result<u64, String> {
    let hint = "must be the serial of a certificate, a number, as `usshca list` shows it";
    text.parse().map_err(|_| match text.strip_prefix('r').map(str::parse::<u64>) {
        Some(Ok(_)) => format!("{hint}; r and a number is a refusal, for `usshca show`: there is no certificate"),
        Some(Err(_)) | None => hint.to_owned(),
    })
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
