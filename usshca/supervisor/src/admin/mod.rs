//! The verbs for administrators at the CA's machine. Each asks the signer: the CA's own if it runs, else one for the moment, on the same state and under the same lock.

mod backup;
mod feed;
mod link;
mod lost;
mod outlook;
mod replay;

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use ussh_core::keys::PublicKey;
use usshca_admin::desk::{self, Desk};
use usshca_admin::{files, table, unexpected};
use usshca_ipc::layout::Layout;

pub use self::link::Link;
pub use self::lost::warnings as lost_serials;
pub use self::outlook::{ahead, own_certificate_revoked, warnings as outlook};
use crate::cli::AdminCommand;
use crate::config::Config;
use crate::failure::Failure;

pub use usshca_admin::certificate_path;
pub use usshca_admin::desk::layout_flag;
pub use usshca_admin::time::utc;

/// Runs one verb.
pub fn run(layout: &Layout, verb: AdminCommand) -> Result<(), Failure> {
    match verb {
        AdminCommand::Backup(args) => backup::backup(layout, &args),
        AdminCommand::Replay(args) => replay::replay(layout, &args),
        AdminCommand::Publish(args) => feed::publish(layout, &args),
        AdminCommand::Feed(command) => feed::run(layout, command),
        AdminCommand::List(_)
        | AdminCommand::Show(_)
        | AdminCommand::Explain(_)
        | AdminCommand::Revoke(_)
        | AdminCommand::Revocations(_)
        | AdminCommand::Krl(_)
        | AdminCommand::Host(_)
        | AdminCommand::Find(_)
        | AdminCommand::Key(_) => usshca_admin::run(&Here(layout), verb),
    }
}

/// A public key, of a file or of standard input. Which CA it is for does not matter to that.
fn read_key(path: &Path) -> Result<PublicKey, Failure> {
    usshca_admin::host::read_key(&Here(&Layout::system()), path)
}

/// Text to standard output.
fn print(text: &str) -> Result<(), Failure> {
    write_stdout(text.as_bytes()).map(|_| ())
}

/// Whether a reader wants more; one that has had enough (`| head`) is no failure.
fn write_stdout(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Failure::output(format!("standard output: {e}"))),
    }
}

/// Says so, where ssh's small letters change a name.
pub fn small_letters(names: &[String]) -> Vec<String> {
    usshca_admin::small_letters(names, &note)
}

/// Nothing can be done about a closed stderr here.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "usshca: {text}");
}

/// This machine, with its files and accounts.
struct Here<'a>(&'a Layout);

impl Desk for Here<'_> {
    fn link(&self) -> Result<Box<dyn desk::Link + '_>, Failure> {
        Ok(Box::new(Link::open(self.0)?))
    }

    fn here(&self) -> Option<&Layout> {
        Some(self.0)
    }

    /// Only text hangs on it: a configuration that cannot be read stops no revocation.
    fn publishes(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(&self.0.config).ok()?;
        Config::parse(&text, &self.0.config).ok()?.publish
    }

    fn print(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream(bytes).map(|_| ())
    }

    fn stream(&self, bytes: &[u8]) -> Result<bool, Failure> {
        write_stdout(bytes)
    }

    fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    fn note(&self, text: &str) {
        note(text);
    }

    fn input(&self, most: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().take(most).read_to_end(&mut bytes);
        read.map(|_| bytes).map_err(|e| Failure::usage(format!("-: {e}")))
    }

    fn most_rows(&self) -> u64 {
        u64::MAX
    }
}
