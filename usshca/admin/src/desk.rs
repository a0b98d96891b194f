//! Where a verb is at work: what it asks, reads and writes goes through this, so that it does not know whether somebody sits at the CA's machine or comes over ssh.

use std::path::{Path, PathBuf};

use usshca_ipc::admin::{Reply, Request};
use usshca_ipc::layout::Layout;

use crate::failure::Failure;
use crate::files::Place;
use crate::own;

/// A connection with the signer.
pub trait Link {
    /// Asks; a refusal is a failure.
    /// # Errors
    /// What to tell the administrator.
    fn ask(&self, request: &Request) -> Result<Reply, Failure>;
    /// The next answer to the same question.
    /// # Errors
    /// What to tell the administrator.
    fn next(&self) -> Result<Reply, Failure>;
}

/// A place to work at.
pub trait Desk {
    /// To ask the signer. Taken when all else that can go wrong has been seen to be right.
    /// # Errors
    /// There is none to be had.
    fn link(&self) -> Result<Box<dyn Link + '_>, Failure>;
    /// The CA's files, if the administrator sits at its machine: with them come this machine's files and accounts.
    fn here(&self) -> Option<&Layout>;
    /// The folder that the CA publishes its feed to, as configured; `None`: nowhere, or it is not known here.
    fn publishes(&self) -> Option<PathBuf> {
        None
    }
    /// To standard output.
    /// # Errors
    /// It takes no more.
    fn print(&self, bytes: &[u8]) -> Result<(), Failure>;
    /// The same, bit by bit; false: who reads it has had enough.
    /// # Errors
    /// It takes no more.
    fn stream(&self, bytes: &[u8]) -> Result<bool, Failure>;
    /// Whether a person reads that.
    fn is_terminal(&self) -> bool;
    /// A line of text to standard error.
    fn note(&self, text: &str);
    /// Standard input, to its end, or to `most` bytes.
    /// # Errors
    /// It cannot be read, or is longer over ssh than it may be.
    fn input(&self, most: u64) -> Result<Vec<u8>, Failure>;
    /// Most rows that are gathered for one answer.
    fn most_rows(&self) -> u64;
}

/// What only somebody at the CA's machine can name.
pub fn not_here(what: &str, instead: &str) -> Failure {
    Failure::usage(format!("over ssh there is no {what}: {instead}"))
}

/// A place for a file that a verb writes.
/// # Errors
/// It cannot be written, or comes over ssh.
pub fn place(desk: &dyn Desk, path: &Path) -> Result<Place, Failure> {
    match desk.here() {
        Some(layout) => {
            own::spare(layout, path)?;
            Place::new(path)
        }
        None => Err(no_place()),
    }
}

/// The same for a certificate, which may be that of the CA machine's own host key.
/// # Errors
/// As [`place`].
pub fn certificate_place(desk: &dyn Desk, path: &Path) -> Result<Place, Failure> {
    match desk.here() {
        Some(layout) => {
            own::spare_for_certificate(layout, path)?;
            Place::new(path)
        }
        None => Err(no_place()),
    }
}

fn no_place() -> Failure {
    not_here("file of the CA's to write", "leave --out away, and send standard output to a file of yours")
}

/// When hosts do what is said (`refuse it`), and what has to happen before, unless the CA does it by itself.
pub fn next_steps(desk: &dyn Desk, what: &str) -> String {
    let when = format!("hosts {what} once they have the next KRL");
    // Over ssh the configuration is not to be read: whether the CA publishes is not known.
    let Some(layout) = desk.here() else { return when };
    if let Some(folder) = desk.publishes() {
        if is_feed_key_elsewhere(layout) {
            let folder = folder.display();
            return format!(
                "{when}: the CA puts it to {folder}/feed.unsigned as soon as it runs, and there it waits until it was where the feed key is, for\n  usshca feed sign {folder} --key FILE"
            );
        }
        return format!("{when}, which the CA publishes to {} as soon as it runs", folder.display());
    }
    let krl = layout.public.join("krl");
    format!(
        "{when}:\n  \
         usshca{} krl --out {krl}\n  \
         then bring {krl} to the feed folder of each host (file krl), and there: ussh-hostd sync",
        layout_flag(layout),
        krl = krl.display()
    )
}

/// By the files of the state: the signer, who knows, may be busy with the verb.
fn is_feed_key_elsewhere(layout: &Layout) -> bool {
    let is_missing = |name: &str| {
        let found = layout.state.join(name).symlink_metadata();
        found.is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
    };
    is_missing("feed_key") && is_missing("feed_key.agent")
}

/// The part of a command line that names this CA: ` --dir D`, or nothing.
pub fn layout_flag(layout: &Layout) -> String {
    match layout.config.parent() {
        Some(dir) if *layout != Layout::system() => format!(" --dir {}", dir.display()),
        _ => String::new(),
    }
}

/// That there is more than can be gathered.
pub(crate) fn too_many(desk: &dyn Desk) -> Failure {
    let most = desk.most_rows();
    Failure::refused(format!(
        "there are more than {most} rows, which is the most over ssh: ask for fewer (-n), or ask at the CA's machine"
    ))
}

/// Text to standard output.
pub(crate) fn print(desk: &dyn Desk, text: &str) -> Result<(), Failure> {
    desk.print(text.as_bytes())
}
