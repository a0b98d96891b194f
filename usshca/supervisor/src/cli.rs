//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const EXIT_STATUS: &str = "\
Exit status:
   0  done
   1  refused, or not found
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
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a working CA: keys, host certificate, config, policy, database
    Init(InitArgs),
    /// Run the CA
    ///
    /// It stays in the foreground. SIGTERM or SIGINT ends it, once those who are logging in have finished, within 10 seconds. SIGHUP is logged and ends nothing: configuration
    /// and policy are read at the start.
    Serve(ServeArgs),
    /// Say whether `serve` would start, and what stands in its way
    Check,
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
}

/// `usshca serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Write one newline to this descriptor when ready, and close it
    #[arg(long, value_name = "N")]
    pub ready_fd: Option<i32>,
}

/// The verbs that ask the signer: a running one over the admin socket, else one of their own for the moment.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Certificates that were issued, newest first
    List(ListArgs),
    /// One certificate
    Show(ShowArgs),
    /// Revoke a certificate by its serial
    Revoke(RevokeArgs),
    /// Write the KRL of all that is revoked
    Krl(KrlArgs),
    /// Host certificates
    #[command(subcommand)]
    Host(HostCommand),
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
}

/// `usshca show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The certificate's serial
    pub serial: u64,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `usshca revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The certificate's serial
    pub serial: u64,
    /// Why, for the inventory
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// JSON
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
    /// Sign a host's public key
    Sign(HostSignArgs),
}

/// `usshca host sign`.
#[derive(Debug, Args)]
pub struct HostSignArgs {
    /// The host's public key (ssh_host_ed25519_key.pub); the certificate is written beside it as …-cert.pub; `-` reads standard input and writes standard output
    #[arg(value_name = "KEY.pub")]
    pub key: PathBuf,
    /// A name of the host; may be repeated; no wildcards
    #[arg(long = "name", alias = "principal", short = 'n', value_name = "HOST", required = true)]
    pub names: Vec<String>,
    /// For how long: seconds, or a number with s, m, h, d or w behind it
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = parse_seconds)]
    pub validity: u64,
    /// Where to put the certificate [default: beside the key, as …-cert.pub]; `-` is standard output
    #[arg(long = "out", short = 'o', value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `90d` → seconds. Units as in ssh-keygen's -V and sshd's time formats, one of them.
fn parse_seconds(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, unit)) if !unit.is_ascii_digit() => {
            (text.get(..at).unwrap_or_default(), Some(unit.to_ascii_lowercase()))
        }
        _ => (text, None),
    };
    let factor = match unit {
        None | Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        Some('w') => 604_800,
        Some(_) => return Err("the unit must be s, m, h, d or w".to_owned()),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("not a number with s, m, h, d or w behind it".to_owned());
    }
    let number = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
    number.filter(|n| *n > 0).ok_or_else(|| "zero, or too large a number".to_owned())
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
    fn reads_times_with_one_unit_and_nothing_else() {
        for (text, seconds) in
            [("90d", 7_776_000), ("12H", 43_200), ("1w", 604_800), ("30m", 1800), ("5s", 5), ("60", 60)]
        {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
        for text in [
            "",
            "d",
            "0",
            "0d",
            "1h30m",
            "-1",
            "+1",
            "1.5h",
            "1y",
            "é",
            "99999999999999999999",
            "18446744073709551615w",
        ] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
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
                assert_eq!((args.names.len(), args.validity), (1, 7_776_000))
            }
            other => panic!("{other:?}"),
        }
        assert!(Cli::try_parse_from(["usshca", "host", "sign", "k.pub"]).is_err());
    }
}
