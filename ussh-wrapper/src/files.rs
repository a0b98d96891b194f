//! Key and certificate as files, where an agent would not have them (`keep_in = "files"`): in the user's state folder, two pairs for each machine, since home folders may be shared.
//!
//! Two, of which the newer one counts: an `ssh` reads the key at its start and again when it signs, so that a new pair must not take the place of the one that it is about to use.
//! The folder is the user's alone (0700), and so is each file (0600). What is new is written beside its place and renamed into it. A pair goes when its certificate has ended: whichever `ussh` comes next removes it,
//! and the guarded agent does, if it runs.

mod new;

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use ussh_core::certificate::Certificate;
use ussh_core::clock::UnixTime;
use ussh_core::keys::{KeyError, PrivateKey};
use ussh_os::account::Account;
use ussh_os::process::host_name;
use zeroize::Zeroizing;

use self::new::New;
use crate::config::is_plain;
use crate::guard::{Home, HomeError, own_parents};

/// The folder, below the home folder. Not under XDG_STATE_HOME: ssh_config cannot tell where that is.
const FOLDER: &str = ".local/state/ussh/keys";
/// The keys as ssh_config has them. `%L`: the machine's name up to its first dot (ssh_config(5), TOKENS). ssh looks for the certificate at the same name with `-cert.pub` behind (ssh.c `load_public_identity_files`).
pub const IN_SSH_CONFIG: [&str; 2] = ["~/.local/state/ussh/keys/id.%L", "~/.local/state/ussh/keys/id2.%L"];
/// The certificate of a key of the user's own, as ssh_config has it.
pub const OWN_IN_SSH_CONFIG: &str = "~/.local/state/ussh/keys/own.%L-cert.pub";
/// Largest file that is written or read, bytes: a certificate that fills an agent's frame, in base64, and its comment.
pub const MAX_FILE: u64 = 384 * 1024;
/// How long the older pair stays beside the newer one: sshd lets nobody take longer for a login than two minutes by default (sshd_config(5), LoginGraceTime).
const OVERLAP: Duration = Duration::from_secs(300);
/// How long another `ussh` may take with the files, and how often it is looked whether it is done. It writes a few kilobytes.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_AGAIN: Duration = Duration::from_millis(10);
/// Who waits longer than this is told what for.
const UNNOTICED: Duration = Duration::from_secs(1);
/// Bytes for which there must be room before a certificate is asked for: what a usual one, or a key, takes on disk.
const ROOM: u64 = 4096;
/// File systems that count in seconds, or in two of them, still tell one certificate from the one after it.
const APART: Duration = Duration::from_secs(2);

/// Where they lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    home: PathBuf,
    folder: PathBuf,
    /// Of this machine.
    host: String,
    /// The key is in an agent: only the certificate lies here, and ssh reads that once.
    is_bare: bool,
    uid: u32,
}

/// A certificate, with its key beside it.
struct Pair {
    key: PathBuf,
    certificate: Certificate,
    /// When it was put there, or a little later: it is what orders them.
    put: SystemTime,
}

/// What [`Files::remove`] has removed.
#[derive(Debug, Default)]
pub struct Gone {
    /// One for each file that held one; none where it could not be read.
    pub certificates: Vec<Option<Certificate>>,
    /// Why not all of it.
    pub failure: Option<FilesError>,
}

/// What lay there last has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    certificate: PathBuf,
    end: UnixTime,
    now: UnixTime,
}

impl std::fmt::Display for Swept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Swept { certificate, end, now } = self;
        let certificate = certificate.display();
        write!(f, "{certificate} has ended at {end} by this machine's clock, which says {now}: removed")
    }
}

/// Why they cannot be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// No home folder, or one that ssh cannot be told.
    #[error("uid {0} has no home folder of its own that ssh can be told of")]
    NoHome(u32),
    /// The folder is not the user's alone.
    #[error("{0}")]
    Folder(#[from] HomeError),
    /// One above it is not.
    #[error("{0}: not yours alone to change (chmod go-w)")]
    Parent(PathBuf),
    /// The system would not.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What came or lies there is no key for this certificate.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// It would not be read again.
    #[error("{0}: more than {MAX_FILE} bytes")]
    TooLarge(PathBuf),
    /// The CA wants a person asked before each use.
    #[error("by the CA's policy you are to be asked before each use of the key, which a file cannot do")]
    Confirm,
}

impl Files {
    /// The user's, on this machine. Nothing is looked at yet.
    /// # Errors
    /// [`FilesError::NoHome`]
    pub fn of_user(uid: u32) -> Result<Self, FilesError> {
        // As ssh finds it: by the account, not by HOME.
        let home = Account::by_uid(uid).ok().flatten().map(|account| account.home);
        home.and_then(|home| Self::below(&home, uid)).ok_or(FilesError::NoHome(uid))
    }
    /// The same for the certificate of a key of the user's own, which lies in an agent.
    /// # Errors
    /// [`FilesError::NoHome`]
    pub fn of_own_key(uid: u32) -> Result<Self, FilesError> {
        Self::of_user(uid).map(|files| files.for_own_key())
    }
    /// The same beside these.
    pub fn for_own_key(&self) -> Self {
        Files { is_bare: true, ..self.clone() }
    }
    fn below(home: &Path, uid: u32) -> Option<Self> {
        let host = host_name().split('.').next().unwrap_or_default().to_owned();
        let folder = home.join(FOLDER);
        let is_known_to_ssh = is_plain(&format!("id.{host}")) && folder.to_str().is_some_and(is_plain);
        is_known_to_ssh.then_some(Files { home: home.to_path_buf(), folder, host, is_bare: false, uid })
    }
    /// Where keys are, or would be.
    fn keys(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let names: &[&str] = if self.is_bare { &["own"] } else { &["id", "id2"] };
        names.iter().map(|name| self.folder.join(format!("{name}.{}", self.host)))
    }
    /// The first of the two places of a key: by it these files are told apart from others.
    pub fn place(&self) -> PathBuf {
        self.keys().next().unwrap_or_default()
    }
    /// The private key that counts: ssh finds the certificate beside it. None without a certificate.
    pub fn key(&self) -> Option<PathBuf> {
        self.current().map(|pair| pair.key)
    }
    /// Where the certificate of a key of the user's own is, or would be.
    pub fn own_certificate_file(&self) -> PathBuf {
        certificate_beside(&self.place())
    }
    /// The certificate that counts: the one that was put there last, with its key beside it. What cannot be read, by us or by ssh, is none.
    pub fn certificate(&self) -> Option<Certificate> {
        self.current().map(|pair| pair.certificate)
    }
    fn current(&self) -> Option<Pair> {
        self.pairs().max_by_key(|pair| pair.put)
    }
    fn pairs(&self) -> impl Iterator<Item = Pair> + '_ {
        self.keys().filter_map(|key| self.pair(key))
    }
    fn pair(&self, key: PathBuf) -> Option<Pair> {
        let (certificate, metadata) = self.certificate_at(&key)?;
        let is_whole =
            self.is_bare || self.private_key(&key).is_ok_and(|key| key.public_key() == *certificate.public_key());
        is_whole.then_some(Pair { key, certificate, put: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH) })
    }
    fn certificate_at(&self, key: &Path) -> Option<(Certificate, Metadata)> {
        let (text, metadata) = self.read(&certificate_beside(key)).ok()?;
        Some((Certificate::from_openssh(text.trim()).ok()?, metadata))
    }
    /// One that ssh would take too (authfile.c `sshkey_perm_ok`).
    fn private_key(&self, path: &Path) -> Result<PrivateKey, FilesError> {
        let failed = |source| FilesError::Io { path: path.to_path_buf(), source };
        let (text, metadata) = self.read(path).map_err(failed)?;
        if metadata.uid() != self.uid || metadata.mode() & 0o077 != 0 {
            return Err(failed(io::ErrorKind::PermissionDenied.into()));
        }
        Ok(PrivateKey::from_openssh(&text)?)
    }
    /// The private key of this certificate, if both lie there: the newer pair, or the one before it, which somebody may still use.
    pub fn key_of(&self, blob: &[u8]) -> Option<PrivateKey> {
        let pair = self.pairs().find(|pair| pair.certificate.blob() == blob)?;
        // They may be a newer login's by now.
        self.private_key(&pair.key).ok().filter(|key| key.public_key() == *pair.certificate.public_key())
    }
    /// The same of any certificate there.
    pub fn has_key(&self, blob: &[u8]) -> bool {
        self.pairs().any(|pair| pair.certificate.public_key().blob() == blob)
    }

    /// Whether the folder, if it is there, is the user's alone.
    /// # Errors
    /// [`FilesError::Folder`]
    pub fn check(&self) -> Result<(), FilesError> {
        if self.folder.symlink_metadata().is_err() {
            return Ok(());
        }
        Ok(Home::at(self.folder.clone(), self.uid).map(drop)?)
    }
    /// Whether there will be room, in a folder that is the user's alone: better now than after the password.
    /// # Errors
    /// [`FilesError`]
    pub fn make_room(&self) -> Result<(), FilesError> {
        self.make_folder()?;
        let _one_at_a_time = self.lock(LOCK_PATIENCE);
        let place = self.next_place();
        let certificate = certificate_beside(&place);
        if let Some(path) = in_the_way(&place) {
            return Err(FilesError::Io { path, source: io::ErrorKind::IsADirectory.into() });
        }
        // As large as the last one; it is there no more at the end of this.
        let last = self.keys().filter_map(|key| certificate_beside(&key).metadata().ok()).map(|m| m.len()).max();
        let size = |bytes: u64| vec![0; usize::try_from(bytes.min(MAX_FILE)).unwrap_or_default()];
        let _certificate = New::write(&certificate, &size(last.unwrap_or_default().max(ROOM)))?;
        let _key = if self.is_bare { None } else { Some(New::write(&place, &size(ROOM))?) };
        Ok(())
    }
    /// Where the next pair goes: not in place of the one that counts, nor where it cannot.
    fn next_place(&self) -> PathBuf {
        let current = self.current();
        let is_free = |place: &PathBuf| self.is_bare || current.as_ref().is_none_or(|current| current.key != *place);
        self.keys().filter(is_free).min_by_key(|place| in_the_way(place).is_some()).unwrap_or_else(|| self.place())
    }
    /// Puts a pair there, in place of the older one: whoever is about to use the newer one still can.
    /// # Errors
    /// [`FilesError`]
    pub fn put(&self, key: &PrivateKey, certificate: &Certificate, comment: &str) -> Result<(), FilesError> {
        if key.public_key() != *certificate.public_key() {
            return Err(KeyError::Malformed.into());
        }
        self.make_folder()?;
        let _one_at_a_time = self.lock(LOCK_PATIENCE);
        let (current, place) = (self.current(), self.next_place());
        // All of it before anything is taken away.
        let key = New::write(&place, key.to_openssh(comment)?.as_bytes())?;
        let certificate = New::write(&certificate_beside(&place), &as_line(certificate, comment))?;
        if let Some(current) = current {
            // A clock that was set back must not make the new one the older one; some file systems count in seconds.
            certificate.date(SystemTime::now().max(current.put + APART))?;
        }
        // Ended between any of these, it leaves no certificate with another's key.
        remove_file(certificate.place())?;
        key.put()?;
        certificate.put()
    }
    /// Puts a certificate there whose key is in an agent.
    /// # Errors
    /// [`FilesError`]
    pub fn put_certificate(&self, certificate: &Certificate, comment: &str) -> Result<(), FilesError> {
        self.make_folder()?;
        let _one_at_a_time = self.lock(LOCK_PATIENCE);
        New::write(&self.own_certificate_file(), &as_line(certificate, comment))?.put()
    }
    /// Removes all of it, as far as that can be done.
    pub fn remove(&self) -> Gone {
        let _one_at_a_time = self.lock(LOCK_PATIENCE);
        let mut gone = Gone::default();
        for path in new::left(&self.folder, self.keys()) {
            gone.failure = remove_file(&path).err().or(gone.failure);
        }
        for key in self.keys() {
            // When it ends is to be said, whoever else could have changed it.
            let certificate = read_plain(&certificate_beside(&key)).ok();
            let certificate = certificate.and_then(|(text, _)| Certificate::from_openssh(text.trim()).ok());
            // A key that stays is no reason to leave the certificate, which alone is good for nothing else; nor the other way round.
            gone.failure = remove_file(&key).err().or(gone.failure);
            match remove_file(&certificate_beside(&key)) {
                Ok(true) => gone.certificates.push(certificate),
                Ok(false) => {}
                Err(error) => gone.failure = Some(error),
            }
        }
        gone
    }
    /// Removes the pair of this certificate; whether it was there.
    /// # Errors
    /// [`FilesError::Io`]
    pub fn remove_one(&self, blob: &[u8]) -> Result<bool, FilesError> {
        let _one_at_a_time = self.lock(LOCK_PATIENCE);
        let is_named = |key: &PathBuf| self.certificate_at(key).is_some_and(|(there, _)| there.blob() == blob);
        self.keys().find(is_named).map_or(Ok(false), |key| remove_pair(&key))
    }
    /// Removes what has ended, and what was left of logins that were killed; tells of the last certificate.
    pub fn sweep(&self, now: UnixTime) -> Option<Swept> {
        if !self.is_the_users() || self.over(now).is_empty() {
            return None;
        }
        // Whoever puts a pair there, which looks like half of one for a moment, has it meanwhile.
        let _one_at_a_time = self.lock(Duration::ZERO)?;
        let mut ended = None;
        for (path, end) in self.over(now) {
            if remove_file(&path).is_ok_and(|was_there| was_there) {
                ended = ended.max(end.map(|end| (end, path)));
            }
        }
        let (end, certificate) = ended.filter(|_| self.current().is_none())?;
        Some(Swept { certificate, end, now })
    }
    /// What is there and of no use any more, keys first: they are what others could use. With a certificate, when it ends.
    fn over(&self, now: UnixTime) -> Vec<(PathBuf, Option<UnixTime>)> {
        let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
        let current = self.current();
        let is_replaced = |key: &Path| {
            let newer = current.as_ref().filter(|current| current.key != key);
            newer.is_some_and(|newer| newer.put.elapsed().is_ok_and(|age| age > OVERLAP))
        };
        let pairs = self.keys().filter_map(|key| {
            let end = self.certificate_at(&key).map(|(certificate, _)| certificate.valid_before());
            (end.is_none_or(|end| end <= now) || is_replaced(&key))
                .then(|| [(key.clone(), None), (certificate_beside(&key), end)])
        });
        let all = pairs.flatten().chain(new::left(&self.folder, self.keys()).map(|path| (path, None)));
        all.filter(|(path, _)| is_there(path)).collect()
    }

    /// Held while files change. None where it cannot be had, or not in this time: whoever is stopped while he has it keeps nobody from his work for ever.
    fn lock(&self, patience: Duration) -> Option<Flock<File>> {
        let open = OpenOptions::new().read(true).custom_flags(OFlag::O_CLOEXEC.bits()).open(&self.folder);
        let (mut file, begun, mut is_told) = (open.ok()?, Instant::now(), false);
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => return Some(locked),
                Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) if begun.elapsed() < patience => file,
                Err(_) => return None,
            };
            if !is_told && begun.elapsed() > UNNOTICED {
                is_told = true;
                eprintln!(
                    "ussh: another process has {} locked: waiting for it, {} seconds at most",
                    self.folder.display(),
                    patience.as_secs()
                );
            }
            // flock(2) has no timeout.
            std::thread::sleep(LOCK_AGAIN);
        }
    }
    fn make_folder(&self) -> Result<(), FilesError> {
        if let Some(parent) = self.folder.parent() {
            let failed = |source| FilesError::Io { path: parent.to_path_buf(), source };
            DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        }
        own_parents(&self.home, &self.folder, self.uid).map_err(FilesError::Parent)?;
        Home::at(self.folder.clone(), self.uid)?;
        Ok(())
    }
    fn is_the_users(&self) -> bool {
        self.folder.is_dir() && Home::at(self.folder.clone(), self.uid).is_ok()
    }

    fn read(&self, path: &Path) -> io::Result<(Zeroizing<String>, Metadata)> {
        if self.is_the_users() { read_plain(path) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

/// What cannot be replaced by a key or its certificate: a folder.
fn in_the_way(key: &Path) -> Option<PathBuf> {
    let is_folder = |path: &PathBuf| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    [key.to_path_buf(), certificate_beside(key)].into_iter().find(is_folder)
}

/// A file, and no other thing, of no more than [`MAX_FILE`].
fn read_plain(path: &Path) -> io::Result<(Zeroizing<String>, Metadata)> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // Made in one piece: a string that grows leaves copies of the key behind.
    let length = usize::try_from(metadata.len()).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(length + 1));
    Read::by_ref(&mut file).take(MAX_FILE).read_to_string(&mut text)?;
    Ok((text, metadata))
}

/// Where ssh looks for it.
fn certificate_beside(key: &Path) -> PathBuf {
    let mut name = key.to_path_buf().into_os_string();
    name.push("-cert.pub");
    PathBuf::from(name)
}

fn as_line(certificate: &Certificate, comment: &str) -> Vec<u8> {
    (certificate.to_openssh(comment) + "\n").into_bytes()
}

/// Whether there was a certificate.
fn remove_pair(key: &Path) -> Result<bool, FilesError> {
    // The key first: it is what others could use.
    let removed = remove_file(key);
    remove_file(&certificate_beside(key)).and_then(|was_there| removed.map(|_| was_there))
}

fn remove_file(path: &Path) -> Result<bool, FilesError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(FilesError::Io { path: path.to_path_buf(), source }),
    }
}

#[cfg(test)]
mod tests;
