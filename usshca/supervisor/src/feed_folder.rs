//! A folder with a feed. `feed` is the feed: one file, put in place in one step, so that every reader sees the old one or the new one, whole, whenever the writer is killed.
//!
//! Beside it the same contents as single files, for people, configuration management and stock tools: `manifest` and `manifest.sig` (`ssh-keygen -Y verify -n feed@ussh`), `user_ca.pub`, `krl`, `known_hosts`.
//! Each of them is put in place in one step too, after the feed; they may be of different versions while a writer is at work, or where it was killed, until the next one.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use ussh_core::escape::escape;
use ussh_core::feed::{Bundle, FEED, FeedError, KNOWN_HOSTS, KRL, MAX_FEED, USER_CA, VerifiedFeed, open};

use ussh_os::process;

use crate::failure::Failure;
use crate::own_place;

/// The manifest, as it was signed.
pub const MANIFEST: &str = "manifest";
/// Its signature, as `ssh-keygen -Y sign` writes one.
pub const SIGNATURE: &str = "manifest.sig";
/// A feed that waits for its signature.
pub const DRAFT: &str = "feed.unsigned";
/// Mode of the folder, if it is made here.
const FOLDER_MODE: u32 = 0o755;
/// Mode of all files.
const MODE: u32 = 0o644;
/// All that is ever in such a folder, but for what a killed writer leaves of it.
const NAMES: [&str; 7] = [FEED, MANIFEST, SIGNATURE, USER_CA, KRL, KNOWN_HOSTS, DRAFT];
/// What feeds and drafts begin with (`ussh_core::feed`).
const MAGIC: &[u8] = b"USSH-FEED-";

/// A folder that this process alone writes to. All is done by its descriptor: whatever has its path later is another one.
pub struct FeedFolder {
    /// For people.
    path: PathBuf,
    /// Locked as long as this lives.
    folder: File,
}

impl FeedFolder {
    /// Makes it if need be (0755; its parent must be there), and locks it. One that is there must be a feed's or empty, and nobody else's to write to, nor to put another one in
    /// place of: whoever can put things there could keep the feed from its readers, or have it written over another folder's files.
    /// # Errors
    /// It cannot be made, it is not such a folder, or another one writes to it.
    pub fn lock(path: &Path) -> Result<Self, Failure> {
        let opened = own_place::open_folder(path, Some(Mode::from_bits_truncate(FOLDER_MODE)));
        let folder = opened.map_err(|e| {
            if !own_place::is_of_others(&e) {
                return failure(path, &e);
            }
            Failure::output(format!(
                "{}: {e}, and could put another folder in its place; nothing was changed: name one that only root, or the account that publishes, can put there",
                path.display()
            ))
        })?;
        check_owner(path, &folder.metadata().map_err(|e| failure(path, &e))?)?;
        check_contents(path, &folder)?;
        match folder.try_lock() {
            Ok(()) => Ok(FeedFolder { path: path.to_owned(), folder }),
            Err(TryLockError::WouldBlock) => {
                Err(Failure::unavailable(format!("{}: somebody else is publishing there", path.display())))
            }
            Err(TryLockError::Error(e)) => Err(failure(path, &e)),
        }
    }

    /// The feed that is there; `None`: none.
    /// # Errors
    /// It cannot be read, or is none.
    pub fn present(&self) -> Result<Option<VerifiedFeed>, Failure> {
        let path = self.path.join(FEED);
        match read_at(&self.folder, FEED) {
            Ok(bytes) => open(&bytes).map(Some).map_err(|e| not_a_feed(&path, &e)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(unreadable(&path, &e)),
        }
    }

    /// The draft that is there.
    /// # Errors
    /// It cannot be read, or is none.
    pub fn draft(&self) -> Result<Bundle, Failure> {
        let path = self.path.join(DRAFT);
        let bytes = read_at(&self.folder, DRAFT).map_err(|e| {
            if e.kind() != io::ErrorKind::NotFound {
                return unreadable(&path, &e);
            }
            Failure::usage(format!(
                "{}: there is no draft to sign; on the CA: usshca publish --unsigned DIR, then bring the folder here as {}",
                path.display(),
                self.path.display()
            ))
        })?;
        Bundle::parse(&bytes).map_err(|e| not_a_feed(&path, &e))
    }

    /// Puts a feed in place of an older one; never the other way round.
    /// # Errors
    /// The one that is there is newer; a file cannot be written.
    pub fn put(&self, feed: &[u8]) -> Result<VerifiedFeed, Failure> {
        let new = open(feed).map_err(|e| not_a_feed(&self.path.join(FEED), &e))?;
        // One that is no feed is replaced: nobody takes it anyway.
        if let Ok(Some(present)) = self.present()
            && present.manifest().version > new.manifest().version
        {
            let (present, new) = (present.manifest().version, new.manifest().version);
            return Err(Failure::refused(format!(
                "{}: there is version {present} already, newer than this one ({new}); nothing was changed",
                self.path.display()
            )));
        }
        self.file(FEED, feed)?;
        let parts = new.bundle();
        for (name, bytes) in [
            (USER_CA, &parts.user_ca),
            (KRL, &parts.krl),
            (KNOWN_HOSTS, &parts.known_hosts),
            (MANIFEST, &parts.manifest),
            (SIGNATURE, &parts.signature),
        ] {
            self.file(name, bytes)?;
        }
        self.remove(DRAFT)?;
        Ok(new)
    }

    /// Puts a draft in place; the feed stays as it is.
    /// # Errors
    /// A file cannot be written.
    pub fn put_draft(&self, draft: &[u8]) -> Result<(), Failure> {
        self.file(DRAFT, draft)
    }

    fn remove(&self, name: &str) -> Result<(), Failure> {
        unlink(&self.folder, name).map_err(|e| failure(&self.path.join(name), &e))
    }

    /// In one step, on disk when it returns. What a killed writer left is taken away first.
    fn file(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let temporary = temporary_name(name);
        let write = || -> io::Result<()> {
            unlink(&self.folder, &temporary)?;
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let opened = openat(&self.folder, temporary.as_str(), flags, Mode::from_bits_truncate(MODE))?;
            let mut file = File::from(opened);
            file.write_all(bytes)?;
            file.set_permissions(Permissions::from_mode(MODE))?;
            file.sync_all()?;
            renameat(&self.folder, temporary.as_str(), &self.folder, name)?;
            self.folder.sync_all()
        };
        write().map_err(|e| failure(&self.path.join(name), &e))
    }
}

/// One that is not there is gone already.
fn unlink(folder: &File, name: &str) -> io::Result<()> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// By what the kernel says of the open folder.
fn check_owner(path: &Path, found: &Metadata) -> Result<(), Failure> {
    let refuse = |what: &str, mend: &str| {
        let place = path.display();
        Err(Failure::output(format!(
            "{place}: {what}, who could put other files there; nothing was changed: {mend} {place}, or name another folder"
        )))
    };
    if !found.is_dir() {
        return Err(Failure::output(format!("{}: not a folder", path.display())));
    }
    let own = process::effective_uid();
    if found.uid() != own && found.uid() != 0 {
        return refuse(&format!("it belongs to uid {}", found.uid()), &format!("chown {own}"));
    }
    if found.mode() & 0o022 != 0 {
        return refuse("others may write to it", "chmod go-w");
    }
    Ok(())
}

/// An empty folder or a feed's: in any other one (`~/.ssh`, say) files of the same names are somebody's. What a killed writer left is a feed's too.
fn check_contents(path: &Path, folder: &File) -> Result<(), Failure> {
    let names = names_in(folder).map_err(|e| failure(path, &e))?;
    let is_left = |name: &OsString| NAMES.iter().any(|own| name.to_str() == Some(&temporary_name(own)));
    let is_name = |name: &OsString| NAMES.iter().any(|own| name == own);
    let has_feed = names.iter().any(|name| name == FEED || name == DRAFT);
    let foreign = names.iter().find(|name| !(is_left(name) || has_feed && is_name(name)));
    // Beside a feed other things may lie.
    let is_feed = |name| read_at(folder, name).is_ok_and(|bytes| bytes.starts_with(MAGIC));
    match foreign {
        Some(name) if !is_feed(FEED) && !is_feed(DRAFT) => Err(Failure::output(format!(
            "{}: no feed's folder: there is {} in it; nothing was changed: name an empty folder, or one that is not there yet",
            path.display(),
            escape(name.as_encoded_bytes(), 64)
        ))),
        _ => Ok(()),
    }
}

fn names_in(folder: &File) -> io::Result<Vec<OsString>> {
    let mut all = Dir::openat(folder, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in all.iter() {
        let name = entry?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." {
            names.push(std::ffi::OsStr::from_bytes(&name).to_owned());
        }
    }
    Ok(names)
}

fn temporary_name(name: &str) -> String {
    format!(".{name}.new")
}

/// How what lies there is opened: no link, and nothing that is waited for, whoever put it there.
fn reading() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC
}

/// A file of the folder.
fn read_at(folder: &File, name: &str) -> io::Result<Vec<u8>> {
    read_regular(openat(folder, name, reading(), Mode::empty())?.into())
}

fn read_regular(file: File) -> io::Result<Vec<u8>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("no regular file"));
    }
    limited(file)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()))
}

fn limited(from: impl Read) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(MAX_FEED).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    from.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A feed, of a file or of the folder that it is in. What it says of itself is true; whose it is, is not looked at.
/// # Errors
/// It cannot be read, or is none.
pub fn read(path: &Path) -> Result<VerifiedFeed, Failure> {
    let bytes = read_bytes(path)?;
    open(&bytes).map_err(|e| not_a_feed(path, &e))
}

/// The bytes of the same, unchecked. `-`: standard input.
/// # Errors
/// They cannot be read.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    if path == Path::new("-") {
        return limited(io::stdin().lock()).map_err(|e| Failure::usage(format!("-: {e}")));
    }
    if path.is_dir() {
        let path = path.join(FEED);
        let opened = OpenOptions::new().read(true).custom_flags(reading().bits()).open(&path);
        return opened.and_then(read_regular).map_err(|e| unreadable(&path, &e));
    }
    // Of whatever kind somebody names: `<(ssh ca feed)` is a pipe.
    File::open(path).and_then(limited).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))
}

fn not_a_feed(path: &Path, error: &FeedError) -> Failure {
    Failure::refused(format!("{}: {error}", path.display()))
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    Failure::output(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_has_the_folders_path_after_it_was_looked_at_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("victim/feed")).unwrap();
        fs::write(at("victim/feed/known_hosts"), "old known hosts").unwrap();
        fs::create_dir(at("www")).unwrap();
        let folder = FeedFolder::lock(&at("www/feed")).unwrap();
        // Whoever owns the folder above it does this, if it is taken at all.
        fs::rename(at("www"), at("away")).unwrap();
        symlink("victim", at("www")).unwrap();
        folder.put_draft(b"USSH-FEED-DRAFT").unwrap();
        folder.file(KNOWN_HOSTS, b"new").unwrap();
        folder.remove(KRL).unwrap();
        assert_eq!(fs::read(at("away/feed").join(DRAFT)).unwrap(), b"USSH-FEED-DRAFT");
        assert_eq!(fs::read(at("away/feed/known_hosts")).unwrap(), b"new");
        assert_eq!(fs::read(at("victim/feed/known_hosts")).unwrap(), b"old known hosts");
        assert_eq!(fs::read_dir(at("victim/feed")).unwrap().count(), 1);
    }
}
