//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// An SSH certificate authority: people log in with a password (PAM) and get a certificate that lasts for hours.
#[derive(Debug, Parser)]
#[command(name = "usshca", version, about, arg_required_else_help = true)]
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
    /// The CA's name, for what users read [default: this machine's host name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// A host name by which people reach the CA; goes into its host certificate; may be repeated [default: this machine's host name]
    #[arg(long = "principal", value_name = "HOST")]
    pub principals: Vec<String>,
    /// Address to listen on; may be repeated [default: 0.0.0.0:22 for root, 127.0.0.1:2222 else]
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
    #[arg(long, short = 'o', value_name = "FILE")]
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
    #[arg(long = "principal", short = 'n', value_name = "HOST", required = true)]
    pub principals: Vec<String>,
    /// For how many days
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    pub days: u32,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
