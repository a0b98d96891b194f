//! Break-glass: certificates of a CA of their own, made beforehand for security keys, by which people come in while nothing else works. What they must be, and the note of each use.
//!
//! The CA's public key lies on each host in [`CA_FILE`], brought there by the host's administrators; no feed brings it, and none takes it away. A note is written by root (pam_ussh in sshd, ussh-hostd)
//! into [`FOLDER`], which a restart of the machine leaves alone, and stays there until the CA has it. Trusted because of where it lies and whose it is; what certificates say in it is escaped.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ca_file::TrustedCas;
use crate::certificate::Certificate;
use crate::clock::UnixTime;
use crate::escape::escape;
use crate::keys::PublicKey;
use crate::record::{RecordError, SessionRecord};
use crate::trusted_file::{Owner, TrustedFileError, open_no_follow, read_trusted};
use crate::verdict::Refusal;

/// Where the CA's public key lies on a host; missing: there is no break-glass here.
pub const CA_FILE: &str = "/etc/ussh/break_glass_ca.pub";
/// Where the CAs lie that sshd trusts, unless a configuration says otherwise.
pub const TRUSTED: &str = "/etc/ssh/trusted_user_ca";
/// Where the notes lie.
pub const FOLDER: &str = "/var/lib/ussh-hostd/break-glass";
/// The comment of the CA's key in sshd's TrustedUserCAKeys, by which sudo's line knows it.
pub const MARK: &str = "ussh-break-glass";
/// Largest CA file, bytes.
const MAX_CA_FILE: usize = 64 * 1024;
/// Largest file of trusted CAs, bytes.
const MAX_TRUSTED: usize = 1024 * 1024;
/// Longest note, bytes.
pub const MAX_NOTE: usize = 4096;
/// Longest name, key ID or address in a note, bytes.
const MAX_WORD: usize = 256;
/// Longest name of a service in an ID, bytes: with the rest it fits into 128.
const MAX_SERVICE: usize = 32;
/// Format that this version writes and reads.
const VERSION: u32 = 1;

/// Holds a certificate of the break-glass CA to what is demanded of none other: its key is a security key that must be touched, and it names somebody.
/// # Errors
/// [`Refusal::BreakGlass`]
pub fn check(certificate: &Certificate) -> Result<(), Refusal> {
    if !certificate.public_key().is_fido() {
        return Err(Refusal::BreakGlass("its key is no security key"));
    }
    if certificate.extensions().iter().any(|extension| extension.name == b"no-touch-required") {
        return Err(Refusal::BreakGlass("it does without a touch"));
    }
    if certificate.key_id().is_empty() {
        return Err(Refusal::BreakGlass("its key ID names nobody"));
    }
    Ok(())
}

/// The keys in a CA file, which root alone can change; none if there is no file.
/// # Errors
/// [`RecordError`]: it cannot be read, or holds a line that is no key.
pub fn read_keys(path: &Path) -> Result<Vec<PublicKey>, RecordError> {
    let data = match read_trusted(path, MAX_CA_FILE) {
        Err(TrustedFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(RecordError::Folder)?,
    };
    let cas = TrustedCas::parse(&data);
    match cas.junk_at() {
        Some(line) => Err(RecordError::Malformed(format!("{}: line {line} is no CA key", path.display()))),
        None => Ok(cas.keys().to_vec()),
    }
}

/// Those of the keys at `path` that are not in the trusted CA file at `trusted` without the mark, and those that are: user CAs, which stay that, and are an alarm. While that file cannot be read there are none of these.
/// # Errors
/// As [`read_keys`].
pub fn read_keys_apart(path: &Path, trusted: &Path) -> Result<(Vec<PublicKey>, Vec<PublicKey>), RecordError> {
    let cas = read_trusted(trusted, MAX_TRUSTED).map(|data| TrustedCas::parse(&data)).unwrap_or_default();
    Ok(read_keys(path)?.into_iter().partition(|key| !cas.is_user_ca(key)))
}

/// One use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// Format: 1.
    pub version: u32,
    /// Of the use, in all boots of the host: of a session as [`id`] says, of another one as [`Elsewhere`] does.
    pub id: String,
    /// The account; escaped, as all words here.
    pub user: String,
    /// The client; empty: unknown. Of a use outside of a login: the service too, and who asked it where.
    pub from: String,
    /// Of the certificate.
    pub key_id: String,
    /// Of the certificate; in decimal, since many readers lose digits above 2^53.
    pub serial: String,
    /// Of the certificate's key.
    pub key: String,
    /// Of its CA.
    pub ca: String,
    /// When the session was opened, or the service used, by the host's clock.
    pub opened: UnixTime,
}

/// A use that opens no session: in sudo and the like.
#[derive(Clone, Debug)]
pub struct Elsewhere<'a> {
    /// PAM_SERVICE.
    pub service: &'a str,
    /// The account that it was asked for.
    pub user: &'a str,
    /// The one who asked; empty: unknown.
    pub ruser: &'a str,
    /// Where; empty: at no terminal.
    pub tty: &'a str,
    /// Where the agent that proved it is; empty: unknown.
    pub from: &'a str,
    /// Of the host's boot.
    pub boot_id: &'a str,
    /// The process that asked PAM.
    pub pid: u32,
    /// Of that process.
    pub start_time: u64,
    /// By the host's clock.
    pub at: UnixTime,
}

impl Elsewhere<'_> {
    /// `BOOT-PID-STARTTIME-SECONDS-SERVICE`: no session's, since those end in a number, and another one for each use of a process that asks PAM again and again.
    fn id(&self) -> String {
        let Elsewhere { boot_id, pid, start_time, at, .. } = self;
        format!("{boot_id}-{pid}-{start_time}-{}-{}", at.0, service_word(self.service))
    }

    /// In the place of an address, so that whoever reads an address reads it too: `192.0.2.1 (sudo by alice on /dev/pts/3)`.
    fn from(&self) -> String {
        let from = if self.from.is_empty() { "an unknown address" } else { self.from };
        let known = |name: &str, value: &str| if value.is_empty() { String::new() } else { format!(" {name} {value}") };
        format!("{from} ({}{}{})", service_word(self.service), known("by", self.ruser), known("on", self.tty))
    }
}

/// A service's name as it stands in an ID and in the log: letters and digits from its first letter on.
pub fn service_word(service: &str) -> String {
    let letters = service.chars().filter(char::is_ascii_alphanumeric).skip_while(|c| !c.is_ascii_alphabetic());
    let word: String = letters.take(MAX_SERVICE).collect();
    if word.is_empty() { "pam".to_owned() } else { word }
}

/// The service that a note's ID names; `None`: it is a session's.
pub fn service_of(id: &str) -> Option<&str> {
    id.rsplit('-').next().filter(|last| last.starts_with(|first: char| first.is_ascii_alphabetic()))
}

impl Note {
    /// Of a session and the certificate that opened it.
    pub fn of(record: &SessionRecord, certificate: &Certificate) -> Self {
        Self::with(certificate, id(record), &record.user, &record.rhost, record.opened)
    }

    /// Of a use that opens no session.
    pub fn elsewhere(used: &Elsewhere<'_>, certificate: &Certificate) -> Self {
        Self::with(certificate, used.id(), used.user, &used.from(), used.at)
    }

    fn with(certificate: &Certificate, id: String, user: &str, from: &str, opened: UnixTime) -> Self {
        let word = |text: &[u8]| escape(text, MAX_WORD);
        Note {
            version: VERSION,
            id,
            user: word(user.as_bytes()),
            from: word(from.as_bytes()),
            key_id: word(certificate.key_id()),
            serial: certificate.serial().to_string(),
            key: certificate.public_key().fingerprint(),
            ca: certificate.ca().fingerprint(),
            opened,
        }
    }

    /// Reads one, of whomever; `None`: it is none, or is longer than [`MAX_NOTE`].
    pub fn parse(text: &[u8]) -> Option<Self> {
        let note: Note = serde_json::from_slice(Some(text).filter(|text| text.len() <= MAX_NOTE)?).ok()?;
        let is_word = |text: &str| text.len() <= 4 * MAX_WORD && text.bytes().all(|b| matches!(b, b' '..=b'~'));
        let words = [&note.user, &note.from, &note.key_id, &note.serial, &note.key, &note.ca];
        let fits = note.version == VERSION && is_id(&note.id) && words.iter().all(|word| is_word(word));
        Some(note).filter(|_| fits)
    }

    /// One line.
    pub fn to_json(&self) -> String {
        // Strings and numbers are always written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Puts it where it stays, on disk, unless it lies there already or did (`ID.done`): false then.
    /// # Errors
    /// [`RecordError`]; nothing is left behind then.
    pub fn put(&self, folder: &Path) -> Result<bool, RecordError> {
        make_folder(folder)?;
        let name = |end: &str| folder.join(format!("{}.{end}", self.id));
        if name("json").exists() || name("done").exists() {
            return Ok(false);
        }
        // sshd and the daemon may both be at it.
        let temporary = folder.join(format!(".{}.{}", self.id, std::process::id()));
        let written = write(&temporary, self.to_json().as_bytes())
            .and_then(|()| std::fs::rename(&temporary, name("json")))
            .and_then(|()| File::open(folder)?.sync_all());
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written?;
        Ok(true)
    }
}

/// Of the session of this record: `BOOT-PID-STARTTIME`.
pub fn id(record: &SessionRecord) -> String {
    format!("{}-{}-{}", record.boot_id, record.pid, record.start_time)
}

/// What can be a file's name here.
pub fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The folder, 0700; whoever else can write to it could forge notes, or take them away.
/// # Errors
/// [`RecordError`]
pub fn make_folder(folder: &Path) -> Result<(), RecordError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let (_, metadata) = open_no_follow(folder)?;
    if !metadata.is_dir() {
        return Err(RecordError::Malformed(format!("{} is no folder", folder.display())));
    }
    Owner::ROOT.demand(folder, &metadata).map_err(RecordError::Folder)
}

fn write(path: &Path, data: &[u8]) -> io::Result<()> {
    let _ = std::fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(data)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::certificate::{CertificateKind, CertificateOption};
    use crate::issue::CertificateTemplate;
    use crate::keys::PrivateKey;
    use crate::wire::WireWrite;

    /// PROTOCOL.u2f: sk-ssh-ed25519@openssh.com.
    fn security_key() -> PublicKey {
        let mut blob = Vec::new();
        blob.put_string(b"sk-ssh-ed25519@openssh.com");
        let plain = PrivateKey::generate_ed25519().unwrap().public_key().to_blob();
        blob.put_string(&plain[plain.len() - 32..]);
        blob.put_string(b"ssh:");
        PublicKey::from_blob(&blob).unwrap()
    }

    fn certificate(public_key: PublicKey, key_id: &str, extensions: &[&str]) -> Certificate {
        let template = CertificateTemplate {
            public_key,
            serial: 7,
            kind: CertificateKind::User,
            key_id: key_id.into(),
            principals: vec!["root".into()],
            valid_after: UnixTime(0),
            valid_before: UnixTime(1000),
            critical_options: vec![],
            extensions: extensions.iter().map(|name| CertificateOption::flag(name)).collect(),
        };
        template.sign(&PrivateKey::generate_ed25519().unwrap()).unwrap()
    }

    fn record() -> SessionRecord {
        SessionRecord {
            version: 1,
            pid: 12,
            start_time: 34,
            boot_id: "b-1".into(),
            user: "root".into(),
            uid: 0,
            rhost: "192.0.2.1".into(),
            certificate: None,
            opened: UnixTime(5),
        }
    }

    #[test]
    fn takes_a_security_key_that_is_touched_and_nothing_less() {
        assert_eq!(check(&certificate(security_key(), "alice", &["permit-pty"])), Ok(()));
        let plain = PrivateKey::generate_ed25519().unwrap().public_key();
        for (refused, reason) in [
            (certificate(plain, "alice", &[]), "its key is no security key"),
            (certificate(security_key(), "alice", &["no-touch-required"]), "it does without a touch"),
        ] {
            assert_eq!(check(&refused), Err(Refusal::BreakGlass(reason)));
        }
    }

    #[test]
    fn a_note_lies_there_once_and_never_again_after_it_was_done() {
        let folder = tempfile::tempdir_in("/run").unwrap();
        let folder = folder.path().join("a/b");
        let note = Note::of(&record(), &certificate(security_key(), "alicé", &[]));
        assert!(note.put(&folder).unwrap());
        assert!(!note.put(&folder).unwrap());
        let names = || -> Vec<String> {
            std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
        };
        assert_eq!(names(), ["b-1-12-34.json"]);
        let read = Note::parse(&std::fs::read(folder.join("b-1-12-34.json")).unwrap()).unwrap();
        assert_eq!((&read, read.key_id.as_str()), (&note, "alic\\xc3\\xa9"));
        std::fs::rename(folder.join("b-1-12-34.json"), folder.join("b-1-12-34.done")).unwrap();
        assert!(!note.put(&folder).unwrap());
        assert_eq!(names(), ["b-1-12-34.done"]);
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(note.put(&folder).is_err(), "a folder that others can write to");
    }

    #[test]
    fn a_use_in_sudo_has_an_id_of_its_own_and_says_where_it_was() {
        let used = Elsewhere {
            service: "sudo-i",
            user: "alice",
            ruser: "alice",
            tty: "/dev/pts/3",
            from: "192.0.2.1",
            boot_id: "b-1",
            pid: 12,
            start_time: 34,
            at: UnixTime(5),
        };
        let good = certificate(security_key(), "alice", &[]);
        let note = Note::elsewhere(&used, &good);
        assert_eq!((note.id.as_str(), service_of(&note.id)), ("b-1-12-34-5-sudoi", Some("sudoi")));
        assert_eq!(note.from, "192.0.2.1 (sudoi by alice on /dev/pts/3)");
        assert_eq!(Note::parse(note.to_json().as_bytes()), Some(note));
        assert_eq!(service_of(&id(&record())), None, "a session's");
        let bare = Elsewhere { service: "9\n", ruser: "", tty: "", from: "", ..used };
        let bare = Note::elsewhere(&bare, &good);
        assert_eq!((bare.id.as_str(), bare.from.as_str()), ("b-1-12-34-5-pam", "an unknown address (pam)"));
        let boot_id = "01234567-0123-0123-0123-0123456789ab";
        let (pid, start_time, at) = (u32::MAX, u64::MAX, UnixTime(99_999_999_999));
        let long = Elsewhere { service: &"x".repeat(500), boot_id, pid, start_time, at, tty: &"t".repeat(500), ..used };
        assert!(Note::parse(Note::elsewhere(&long, &good).to_json().as_bytes()).is_some());
    }

    #[test]
    fn what_is_no_note_is_not_read() {
        let good = Note::of(&record(), &certificate(security_key(), "alice", &[]));
        assert_eq!(Note::parse(good.to_json().as_bytes()), Some(good.clone()));
        for bad in [
            Note { version: 2, ..good.clone() },
            Note { id: "../x".into(), ..good.clone() },
            Note { id: String::new(), ..good.clone() },
            Note { user: "a\nb".into(), ..good.clone() },
            Note { from: "x".repeat(2000), ..good.clone() },
        ] {
            assert_eq!(Note::parse(bad.to_json().as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Note::parse(good.to_json().replace("\"user\"", "\"host\"").as_bytes()), None);
    }
}
