//! The spool: which connections there are. Files that our session hook writes, and beside a record the certificate that renewed it.
//!
//! `<pid>-<start_time>.json` is a record ([`SessionRecord`]); `<pid>-<start_time>.renewed` holds the newest certificate that was proved for it, one line, and
//! `<pid>-<start_time>.begun` what is under way with it ([`Begun`]), both written by this daemon so that its next run knows; names that begin with a dot are being written. Whatever belongs
//! to no living process of this boot is removed, but for what was begun, which outlives its connection until it is finished.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ussh_core::certificate::Certificate;
use ussh_core::record::{RecordError, SessionRecord};
use ussh_core::trusted_file::read_trusted;
/// Names a connection: the process that ran open_session.
pub use ussh_os::process_tree::ProcessId as ConnectionId;

use crate::begun::Begun;
use crate::own_file::remove_if_there;

/// Largest sidecar, bytes: a certificate in base64, or the numbers of a session's programs.
const MAX_SIDECAR: usize = 64 * 1024;
/// Largest note of an end that was begun, bytes: it names up to 8192 processes.
const MAX_BEGUN: usize = 1024 * 1024;

/// What a file in the spool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Record(ConnectionId),
    Renewed(ConnectionId),
    Begun(ConnectionId),
    BeingWritten(ConnectionId),
    Foreign,
}

impl Name {
    fn parse(name: &str) -> Self {
        let of = |stem: &str, kind: fn(ConnectionId) -> Name| ConnectionId::parse(stem).map_or(Name::Foreign, kind);
        if let Some(stem) = name.strip_prefix('.') {
            let kinds = [".json", ".renewed", ".begun"];
            let stem = stem.strip_suffix(".new").and_then(|s| kinds.iter().find_map(|kind| s.strip_suffix(kind)));
            return stem.map_or(Name::Foreign, |s| of(s, Name::BeingWritten));
        }
        match name.rsplit_once('.') {
            Some((stem, "json")) => of(stem, Name::Record),
            Some((stem, "renewed")) => of(stem, Name::Renewed),
            Some((stem, "begun")) => of(stem, Name::Begun),
            _ => Name::Foreign,
        }
    }
}

/// What a scan found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Connections with a record.
    pub connections: BTreeSet<ConnectionId>,
    /// Those with which something is under way, whether they live or not.
    pub begun: BTreeSet<ConnectionId>,
    /// Names that nobody of ours gives; left alone.
    pub foreign: BTreeSet<String>,
    /// How many files of connections that are gone were removed.
    pub removed: usize,
}

/// A record that was read.
#[derive(Debug)]
pub enum Found {
    /// Of a living process of this boot.
    Live(Box<SessionRecord>),
    /// Written in another boot: its process number means nothing now.
    OtherBoot,
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Spool {
    folder: PathBuf,
}

impl Spool {
    /// Names it.
    pub fn new(folder: &Path) -> Self {
        Spool { folder: folder.into() }
    }

    /// Makes the folder (0700) and its parent (0755) if they are missing; neither may be anybody else's.
    /// # Errors
    /// As the file system says, or `PermissionDenied` for a folder that others own or can write to.
    pub fn make(&self) -> io::Result<()> {
        if let Some(parent) = self.folder.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
            owned_by_us(parent)?;
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        owned_by_us(&self.folder)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lists the connections, without changing anything; a missing folder holds none.
    /// # Errors
    /// As the file system says.
    pub fn list(&self) -> io::Result<Listing> {
        self.scan(false)
    }

    /// Lists the connections and removes what belongs to none that lives.
    /// # Errors
    /// As the file system says.
    pub fn list_and_clean(&self) -> io::Result<Listing> {
        self.scan(true)
    }

    fn scan(&self, clean: bool) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let entries = match std::fs::read_dir(&self.folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(listing),
            other => other?,
        };
        for entry in entries {
            let name = entry?.file_name();
            let id = match Name::parse(&name.to_string_lossy()) {
                Name::Foreign => {
                    listing.foreign.insert(name.to_string_lossy().into_owned());
                    continue;
                }
                Name::Record(id) if id.may_live() => {
                    listing.connections.insert(id);
                    continue;
                }
                Name::Begun(id) => {
                    listing.begun.insert(id);
                    continue;
                }
                Name::Record(id) | Name::Renewed(id) | Name::BeingWritten(id) => id,
            };
            if clean && !id.may_live() {
                match std::fs::remove_file(self.folder.join(&name)) {
                    Ok(()) => listing.removed += 1,
                    // The session's own close hook was quicker.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(listing)
    }

    /// Reads a connection's record.
    /// # Errors
    /// [`RecordError`]
    pub fn read(&self, id: ConnectionId, boot_id: &str) -> Result<Found, RecordError> {
        let record = SessionRecord::read(&self.file(id, "json"))?;
        Ok(if record.boot_id == boot_id { Found::Live(Box::new(record)) } else { Found::OtherBoot })
    }

    /// Removes what lies here for a connection; what is missing is fine.
    /// # Errors
    /// As the file system says.
    pub fn remove(&self, id: ConnectionId) -> io::Result<()> {
        for extension in ["json", "renewed", "begun"] {
            remove_if_there(&self.file(id, extension))?;
        }
        Ok(())
    }

    /// The certificate that this connection lives by, unjudged: the remembered one if it continues that of the login, or else that of the login.
    pub fn current(&self, id: ConnectionId, login: &Certificate) -> Certificate {
        let renewed = self.renewed(id).filter(|r| r.same_lineage(login) && r.valid_before() > login.valid_before());
        renewed.unwrap_or_else(|| login.clone())
    }

    /// `None`: nothing is remembered, or nothing that can be read.
    fn renewed(&self, id: ConnectionId) -> Option<Certificate> {
        let data = read_trusted(&self.file(id, "renewed"), MAX_SIDECAR).ok()?;
        Certificate::from_openssh(std::str::from_utf8(&data).ok()?.trim_end()).ok()
    }

    /// Remembers the certificate that renewed this connection.
    /// # Errors
    /// As the file system says; the one before stays then.
    pub fn set_renewed(&self, id: ConnectionId, certificate: &Certificate) -> io::Result<()> {
        self.set(id, "renewed", format!("{}\n", certificate.to_openssh("")).as_bytes())
    }

    /// What is under way with a connection, and for how long; `None`: nothing, or nothing that can be read.
    pub fn begun(&self, id: ConnectionId) -> Option<(Begun, Duration)> {
        let file = self.file(id, "begun");
        let begun = serde_json::from_slice(&read_trusted(&file, MAX_BEGUN).ok()?).ok()?;
        let written = std::fs::metadata(&file).and_then(|m| m.modified()).ok()?;
        Some((begun, SystemTime::now().duration_since(written).unwrap_or_default()))
    }

    /// Remembers it.
    /// # Errors
    /// As the file system says; what was remembered before stays then.
    pub fn set_begun(&self, id: ConnectionId, begun: &Begun) -> io::Result<()> {
        self.set(id, "begun", &serde_json::to_vec(begun).map_err(io::Error::other)?)
    }

    /// Nothing is under way any more; what is missing is fine.
    /// # Errors
    /// As the file system says.
    pub fn clear_begun(&self, id: ConnectionId) -> io::Result<()> {
        remove_if_there(&self.file(id, "begun"))
    }

    fn file(&self, id: ConnectionId, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", id.stem()))
    }

    fn set(&self, id: ConnectionId, extension: &str, data: &[u8]) -> io::Result<()> {
        let file = self.file(id, extension);
        let temporary = self.folder.join(format!(".{}.{extension}.new", id.stem()));
        put(&temporary, 0o600, data).and_then(|()| std::fs::rename(&temporary, &file)).inspect_err(|_| {
            let _ = std::fs::remove_file(&temporary);
        })
    }
}

/// Writes a new file; one of that name that was left over is replaced.
fn put(path: &Path, mode: u32, data: &[u8]) -> io::Result<()> {
    remove_if_there(path)?;
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(data)
}

/// Refuses a folder that is a link, or that others own or can write to.
fn owned_by_us(folder: &Path) -> io::Result<()> {
    let m = std::fs::symlink_metadata(folder)?;
    if m.is_dir() && m.uid() == ussh_os::process::effective_uid() && m.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{}: bad ownership or modes", folder.display())))
    }
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
