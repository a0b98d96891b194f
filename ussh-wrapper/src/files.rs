//! Key and certificate as files, where an agent would not have them (`keep_in = "files"`): in the user's state folder, one pair for each machine, since home folders may be shared.
//!
//! The folder is the user's alone (0700), and so is each file (0600). Both are written beside their place and renamed into it. They go when the certificate has ended: whichever `ussh` comes next removes them,
//! and the guarded agent does, if it runs.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use ussh_core::certificate::Certificate;
use ussh_core::clock::UnixTime;
use ussh_core::keys::{KeyError, PrivateKey};
use ussh_os::account::Account;
use ussh_os::process::host_name;
use zeroize::Zeroizing;

use crate::config::is_plain;
use crate::guard::{Home, HomeError, own_parents};

/// The folder, below the home folder. Not under XDG_STATE_HOME: ssh_config cannot tell where that is.
const FOLDER: &str = ".local/state/ussh/keys";
/// The key as ssh_config has it. `%L`: the machine's name up to its first dot (ssh_config(5), TOKENS). ssh looks for the certificate at the same name with `-cert.pub` behind (ssh.c `load_public_identity_files`).
pub const IN_SSH_CONFIG: &str = "~/.local/state/ussh/keys/id.%L";
/// The certificate of a key of the user's own, as ssh_config has it.
pub const OWN_IN_SSH_CONFIG: &str = "~/.local/state/ussh/keys/own.%L-cert.pub";
/// Largest file that is read, bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Where they lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    home: PathBuf,
    folder: PathBuf,
    /// Of the key.
    name: String,
    /// The key is in an agent: only the certificate lies here.
    is_bare: bool,
    uid: u32,
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
    /// The file's text is none.
    #[error("{0}: no private key of OpenSSH's format")]
    NoKey(PathBuf),
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
        let home = Account::by_uid(uid).ok().flatten().map(|account| account.home);
        let files = home.and_then(|home| Self::named(&home, "own", uid)).ok_or(FilesError::NoHome(uid))?;
        Ok(Files { is_bare: true, ..files })
    }
    fn below(home: &Path, uid: u32) -> Option<Self> {
        Self::named(home, "id", uid)
    }
    fn named(home: &Path, first: &str, uid: u32) -> Option<Self> {
        let host = host_name();
        let name = format!("{first}.{}", host.split('.').next().unwrap_or_default());
        let folder = home.join(FOLDER);
        (is_plain(&name) && folder.to_str().is_some_and(is_plain)).then_some(Files {
            home: home.to_path_buf(),
            folder,
            name,
            is_bare: false,
            uid,
        })
    }
    /// The private key.
    pub fn key(&self) -> PathBuf {
        self.folder.join(&self.name)
    }
    /// The certificate.
    pub fn certificate_file(&self) -> PathBuf {
        self.folder.join(format!("{}-cert.pub", self.name))
    }
    /// The certificate that lies there, with a key beside it. What cannot be read is none.
    pub fn certificate(&self) -> Option<Certificate> {
        let text = self.read(&self.certificate_file()).ok()?;
        let certificate = Certificate::from_openssh(text.trim()).ok()?;
        (self.is_bare || self.key().is_file()).then_some(certificate)
    }
    /// The private key that lies there.
    /// # Errors
    /// [`FilesError`]
    pub fn private_key(&self) -> Result<PrivateKey, FilesError> {
        let path = self.key();
        let text = self.read(&path).map_err(|source| FilesError::Io { path: path.clone(), source })?;
        PrivateKey::from_openssh(&text).map_err(|_| FilesError::NoKey(path))
    }
    /// Puts a pair there, in place of what there was. The key goes first: an ssh that comes between the two finds a certificate that is another key's, and passes it over.
    /// # Errors
    /// [`FilesError`]
    pub fn put(&self, key: &PrivateKey, certificate: &Certificate, comment: &str) -> Result<(), FilesError> {
        if key.public_key() != *certificate.public_key() {
            return Err(KeyError::Malformed.into());
        }
        self.make_folder()?;
        self.write(&self.key(), key.to_openssh(comment)?.as_bytes())?;
        self.write(&self.certificate_file(), (certificate.to_openssh(comment) + "\n").as_bytes())
    }
    /// Puts a certificate there whose key is in an agent.
    /// # Errors
    /// [`FilesError`]
    pub fn put_certificate(&self, certificate: &Certificate, comment: &str) -> Result<(), FilesError> {
        self.make_folder()?;
        self.write(&self.certificate_file(), (certificate.to_openssh(comment) + "\n").as_bytes())
    }
    /// Removes both; whether there was a certificate.
    /// # Errors
    /// [`FilesError::Io`]
    pub fn remove(&self) -> Result<bool, FilesError> {
        // The key first: it is what others could use.
        let key = self.remove_file(&self.key());
        self.remove_file(&self.certificate_file()).and_then(|was_there| key.map(|_| was_there))
    }
    /// Removes both if the certificate has ended.
    pub fn sweep(&self, now: UnixTime) {
        if self.certificate().is_some_and(|certificate| certificate.valid_before() <= now) {
            let _ = self.remove();
        }
    }

    fn make_folder(&self) -> Result<(), FilesError> {
        own_parents(&self.home, &self.folder, self.uid).map_err(FilesError::Parent)?;
        Home::at(self.folder.clone(), self.uid)?;
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<bool, FilesError> {
        match std::fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(FilesError::Io { path: path.to_path_buf(), source }),
        }
    }

    fn read(&self, path: &Path) -> io::Result<Zeroizing<String>> {
        if !self.folder.is_dir() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Home::at(self.folder.clone(), self.uid).map_err(|error| io::Error::other(error.to_string()))?;
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        // Made in one piece: a string that grows leaves copies of the key behind.
        let length = file.metadata()?.len().min(MAX_FILE);
        let mut text = Zeroizing::new(String::with_capacity(usize::try_from(length).unwrap_or_default() + 1));
        file.take(MAX_FILE).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Others see the old content or the new, whole.
    fn write(&self, path: &Path, content: &[u8]) -> Result<(), FilesError> {
        let mut own = path.to_path_buf().into_os_string();
        own.push(format!(".{}", std::process::id()));
        let own = PathBuf::from(own);
        // Of one that was killed, with the same number.
        let _ = std::fs::remove_file(&own);
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).custom_flags(flags).open(&own);
        let written = opened.and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        written.and_then(|()| std::fs::rename(&own, path)).map_err(|source| {
            let _ = std::fs::remove_file(&own);
            FilesError::Io { path: path.to_path_buf(), source }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::process::Command;

    use ussh_core::certificate::CertificateKind;
    use ussh_core::issue::CertificateTemplate;

    use super::*;
    use crate::test_support::own_folder as new_folder;

    fn own_uid() -> u32 {
        nix::unistd::getuid().as_raw()
    }

    fn pair(ecdsa: bool, valid_before: u64) -> (PrivateKey, Certificate) {
        let key = if ecdsa { PrivateKey::generate_ecdsa_p256() } else { PrivateKey::generate_ed25519() }.unwrap();
        let template = CertificateTemplate {
            public_key: key.public_key(),
            serial: 7,
            kind: CertificateKind::User,
            key_id: "alice".into(),
            principals: vec!["alice".into()],
            valid_after: UnixTime(1),
            valid_before: UnixTime(valid_before),
            critical_options: vec![],
            extensions: vec![],
        };
        let certificate = template.sign(&PrivateKey::generate_ed25519().unwrap()).unwrap();
        (key, certificate)
    }

    #[test]
    fn a_pair_is_the_users_alone_and_openssh_reads_it() {
        let home = new_folder();
        let files = Files::below(home.path(), own_uid()).unwrap();
        assert!(files.certificate().is_none() && files.private_key().is_err());
        assert!(!home.path().join(".local").exists(), "to look makes nothing");
        for ecdsa in [false, true] {
            let (key, certificate) = pair(ecdsa, 1000);
            files.put(&key, &certificate, "ussh alice serial 7").unwrap();
            let mode = |path: PathBuf| path.metadata().unwrap().mode() & 0o7777;
            assert_eq!(
                (mode(files.key()), mode(files.certificate_file()), mode(files.folder.clone())),
                (0o600, 0o600, 0o700)
            );
            assert_eq!(fs::read_dir(&files.folder).unwrap().count(), 2, "nothing else is left");
            assert_eq!(files.certificate().unwrap().blob(), certificate.blob());
            assert_eq!(files.private_key().unwrap().public_key(), key.public_key());
            let shown = Command::new("ssh-keygen").arg("-yf").arg(files.key()).output().unwrap();
            let wanted = key.public_key().to_openssh("");
            assert!(String::from_utf8(shown.stdout).unwrap().starts_with(wanted.trim()));
        }
        let (key, _) = pair(false, 1000);
        assert!(matches!(files.put(&key, &pair(false, 1000).1, ""), Err(FilesError::Key(_))), "another's certificate");
    }

    #[test]
    fn they_go_when_the_certificate_has_ended_and_not_before() {
        let home = new_folder();
        let files = Files::below(home.path(), own_uid()).unwrap();
        files.sweep(UnixTime(5));
        let (key, certificate) = pair(false, 1000);
        files.put(&key, &certificate, "").unwrap();
        files.sweep(UnixTime(999));
        assert!(files.certificate().is_some());
        files.sweep(UnixTime(1000));
        assert!(!files.key().exists() && !files.certificate_file().exists());
        assert!(!files.remove().unwrap());
        files.put(&key, &certificate, "").unwrap();
        assert!(files.remove().unwrap() && !files.key().exists());
    }

    #[test]
    fn a_folder_that_others_can_enter_is_neither_written_nor_read() {
        let home = new_folder();
        let files = Files::below(home.path(), own_uid()).unwrap();
        let (key, certificate) = pair(false, 1000);
        files.put(&key, &certificate, "").unwrap();
        fs::set_permissions(&files.folder, Permissions::from_mode(0o750)).unwrap();
        assert!(files.certificate().is_none() && files.private_key().is_err());
        assert!(matches!(files.put(&key, &certificate, ""), Err(FilesError::Folder(HomeError::Folder(_)))));
        fs::set_permissions(&files.folder, Permissions::from_mode(0o700)).unwrap();
        // Others can turn what lies below.
        fs::set_permissions(home.path().join(".local"), Permissions::from_mode(0o777)).unwrap();
        let parent = files.put(&key, &certificate, "");
        assert!(matches!(parent, Err(FilesError::Parent(path)) if path == home.path().join(".local")));
    }

    #[test]
    fn it_lies_where_ssh_looks() {
        let home = new_folder();
        let files = Files::below(home.path(), own_uid()).unwrap();
        let named = IN_SSH_CONFIG.replace("%L", host_name().split('.').next().unwrap());
        assert_eq!(files.key().to_str().unwrap(), named.replace('~', home.path().to_str().unwrap()));
    }
}
