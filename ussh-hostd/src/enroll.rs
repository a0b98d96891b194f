//! `enroll`: from a token to a host that proves itself by certificates and takes those of people, in one command; or to a host on which nothing has changed.
//!
//! Process: its own short run as root. Trusted input: the token, the files that root alone can change. Untrusted: all that comes from the CA's side, until the token's own signature on it is checked.
//!
//! The order: sshd's configuration is good as it is → keys are read, or made in memory → the CA grants → the KRL → everything is put in place → `sshd -t`, and `sshd -T` says that sshd goes by it → sshd
//! reads it anew → the CA is told. Up to there everything is undone if anything fails; by the next one, if this one is killed (`cut_short`).

use std::path::{Path, PathBuf};
use std::process::Command;

use ussh_core::break_glass::read_keys;
use ussh_core::ca_file::TrustedCas;
use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::enroll::{Exchange, Granted, HostToken, MAX_KEYS};
use ussh_core::escape::escape;
use ussh_core::keys::{KeyError, PrivateKey};
use ussh_core::revoked::{RevokedError, RevokedKeys};
use ussh_core::trusted_file::{TrustedFileError, read_trusted};

use crate::ca_ssh::{CaError, CaServer, Known};
use crate::child::{Bounds, ChildError, program, run};
use crate::config::Config;
use crate::cut_short;
use crate::enrolment::{Enrolment, EnrolmentError};
use crate::glass::with_pinned;
use crate::host_key::{DEFAULT_KEYS, certificate_file, public_file};
use crate::pinned::FeedPin;
use crate::place::{NewFile, PlaceError, Placed, put_with_journal, sweep_beside};
use crate::revoked_here::RevokedHere;
use crate::scratch::Scratch;
use crate::sshd::{self, SshdError};
use crate::sync::{SyncError, check_pinned, lock};
use crate::undisturbed::Undisturbed;
use crate::unread;

/// Where sshd is told of it.
pub const DROP_IN: &str = "/etc/ssh/sshd_config.d/ussh-host.conf";
const SSH_KEYGEN: &str = "/usr/bin/ssh-keygen";
/// Largest private key, bytes.
const MAX_KEY: usize = 64 * 1024;

/// What is to be done.
#[derive(Debug)]
pub struct Wish {
    /// The CA, as ssh is told it.
    pub ca: String,
    /// Its port.
    pub port: u16,
    /// The right to it.
    pub token: HostToken,
    /// To be told if the token is for others.
    pub names: Vec<String>,
    /// Private host keys; none: sshd's default ones.
    pub keys: Vec<PathBuf>,
    /// They are made anew.
    pub new_keys: bool,
    /// How the CA is known other than by the token.
    pub known_hosts: Option<PathBuf>,
    /// This copy of an enrolled machine takes its place.
    pub same_machine: bool,
}

/// Why the host is what it was before.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// sshd would not even start as it is.
    #[error("{0}. Nothing was asked of the CA, and nothing was changed")]
    Before(Box<SshdError>),
    /// A host key cannot be read.
    #[error("{0}")]
    File(#[from] TrustedFileError),
    /// A host key is none that can be used here.
    #[error("{path}: {problem}")]
    Key {
        /// The private key.
        path: PathBuf,
        /// What is wrong with it.
        problem: KeyError,
    },
    /// This program makes no signature with an RSA key.
    #[error("{0}: an RSA key gets no certificate here; Ed25519 and ECDSA keys do (by hand: `usshca host sign`)")]
    Rsa(PathBuf),
    /// Too many.
    #[error("a host has {MAX_KEYS} keys at most")]
    ManyKeys,
    /// ssh-keygen makes none.
    #[error("no key can be made: {0}")]
    Make(String),
    /// A copy of another machine.
    #[error(
        "this machine is a copy of one that is enrolled as {0}, and has its host keys: `--new-keys` makes new ones (or, if it is that machine with a new ID: `--same-machine`)"
    )]
    Copy(String),
    /// The file that says so is torn.
    #[error("{0}")]
    Enrolment(#[from] EnrolmentError),
    /// The CA gave nothing.
    #[error("{0}")]
    Ca(#[from] CaError),
    /// The KRL is none.
    #[error("the CA's KRL is not good: {0}")]
    Krl(RevokedError),
    /// What is to be remembered cannot be written.
    #[error("{0}")]
    Text(#[from] serde_json::Error),
    /// A file could not be put in place.
    #[error("{0}")]
    Place(#[from] PlaceError),
    /// sshd does not take it.
    #[error("{0}. Everything is as it was before; the token is used up")]
    After(Box<SshdError>),
    /// sshd did not take it, and a file could not be put back.
    #[error("{problem}; and {} could not be put back", mixed.display())]
    Mixed {
        /// What was wrong.
        problem: Box<SshdError>,
        /// The file.
        mixed: PathBuf,
    },
    /// A sync is at work.
    #[error("{0}")]
    Busy(#[from] SyncError),
}

/// A host key at hand.
struct Key {
    path: PathBuf,
    private: PrivateKey,
    /// Those of its files that are new.
    files: Vec<NewFile>,
}

/// Enrolls. What it did, for people.
/// # Errors
/// [`EnrollError`]
pub fn enroll(config: &Config, wish: Wish) -> Result<Vec<String>, EnrollError> {
    let Wish { ca, port, token, names, keys, new_keys, known_hosts, same_machine } = wish;
    let _lock = lock(config)?;
    sweep(config);
    refuse_a_copy(config, new_keys || same_machine)?;
    let keys = take_keys(keys, new_keys)?;
    if keys.iter().any(|key| key.path.exists()) {
        could_take_up().map_err(|e| EnrollError::Before(Box::new(e)))?;
    }

    let private = || keys.iter().map(|key| copy_of(&key.private)).collect::<Result<Vec<_>, _>>();
    let own = |problem| EnrollError::Key { path: PathBuf::from("host key"), problem };
    let known_by = HostToken::parse(&token.to_text()).ok_or_else(|| own(KeyError::Malformed))?;
    let known = known_hosts.as_deref().map_or(Known::Token(&known_by), Known::File);
    let server = CaServer { name: &ca, port, known };
    let exchange = Exchange::enroll(token, names, private().map_err(own)?);
    let pending = server.certificates(exchange)?;
    let krl = server.krl(Exchange::krl(private().map_err(own)?))?;
    let revoked = RevokedKeys::parse(&krl).map_err(EnrollError::Krl)?;
    let pinned = read_keys(&config.break_glass.ca_file).map_err(SyncError::from)?;
    check_pinned(&pinned, &TrustedCas::from_keys(pending.granted.user_ca.clone()), Some(&revoked))?;

    let granted = &pending.granted;
    let paths: Vec<PathBuf> = keys.iter().map(|key| key.path.clone()).collect();
    let enrolment = Enrolment::new(&ca, port, &granted.host, &granted.host_ca, paths.clone(), SystemClock.now().0);
    let mut files: Vec<NewFile> = keys.into_iter().flat_map(|key| key.files).collect();
    files.extend(certificate_files(&paths, &granted.certificates));
    let user_ca: String = granted.user_ca.iter().map(|key| key.to_openssh("") + "\n").collect();
    files.push(NewFile::public(&config.ca_file, with_pinned(user_ca.as_bytes(), &pinned)));
    if let Some(file) = &config.revoked_keys {
        let here = RevokedHere::read(config).map_err(SyncError::from)?;
        let krl = here.map_or(Ok(krl.clone()), |here| here.added_to(&krl)).map_err(SyncError::from)?;
        files.push(NewFile::public(file, krl));
    }
    files.extend(enrolment.files(&config.state)?);
    if let Some(key) = &granted.feed_key {
        files.push(FeedPin::new(key.clone()).file(&config.state)?);
    }
    files.push(NewFile::public(DROP_IN, drop_in(config, &paths)));

    let mut told = told_of(granted);
    let undisturbed = Undisturbed::begin();
    let placed = put_with_journal(files, &cut_short::journal(config))?;
    told.push(match take_up(placed, config, &paths)? {
        true => "sshd has read it".to_owned(),
        false => "sshd does not run: it goes by it when it is started".to_owned(),
    });
    drop(undisturbed);
    unread::clear(&config.state);
    if let Err(e) = pending.confirm() {
        told.push(format!("the CA was not told that all is in place, and says so in its inventory: {e}"));
    }
    Ok(told)
}

/// Whether sshd is good as it is, would read what is to be written, and could be told to.
fn could_take_up() -> Result<(), SshdError> {
    sshd::test()?;
    let effective = sshd::effective_and_includes()?;
    effective.demand_include(Path::new(DROP_IN))?;
    effective.demand_own_config()?;
    effective.running().map(drop)
}

fn told_of(granted: &Granted) -> Vec<String> {
    let mut told = Vec::new();
    for certificate in &granted.certificates {
        let names: Vec<String> = certificate.principals().iter().map(|name| escape(name, 256)).collect();
        told.push(format!("{}: certificate for {}", certificate.public_key().short_type(), names.join(", ")));
    }
    told.push(format!("enrolled as {}", escape(granted.host.as_bytes(), 256)));
    told.push(match &granted.feed_key {
        Some(key) => format!("feed key {}", key.fingerprint()),
        None => {
            "this CA has no feed key yet: `ussh-hostd sync` needs one (sync.feed_key), or a folder of root's".to_owned()
        }
    });
    told
}

fn refuse_a_copy(config: &Config, is_meant: bool) -> Result<(), EnrollError> {
    match Enrolment::read(&config.state) {
        Ok(before) if before.is_a_copy() && !is_meant => Err(EnrollError::Copy(escape(before.host.as_bytes(), 256))),
        Ok(_) | Err(EnrolmentError::None) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Takes away what one that was killed has left where the files of this one do not lie: private keys may be among it.
fn sweep(config: &Config) {
    for key in Enrolment::read(&config.state).map(|before| before.keys).unwrap_or_default() {
        sweep_beside(&key);
    }
    Scratch::sweep();
}

/// Each beside its key.
pub fn certificate_files(keys: &[PathBuf], certificates: &[Certificate]) -> Vec<NewFile> {
    let both = keys.iter().zip(certificates);
    both.map(|(key, certificate)| NewFile::public(certificate_file(key), certificate.to_openssh("") + "\n")).collect()
}

/// `sshd -t`, then `sshd -T` must say that it goes by what was written, then it reads it. Whether one runs.
fn take_up(placed: Placed, config: &Config, keys: &[PathBuf]) -> Result<bool, EnrollError> {
    let judged = sshd::test().and_then(|()| sshd::effective_and_includes()).and_then(|effective| {
        let drop_in = Path::new(DROP_IN);
        effective.demand_include(drop_in)?;
        effective.demand(drop_in, "trustedusercakeys", &config.ca_file)?;
        if let Some(revoked) = &config.revoked_keys {
            effective.demand(drop_in, "revokedkeys", revoked)?;
        }
        for key in keys {
            effective.demand(drop_in, "hostkey", key)?;
            effective.demand(drop_in, "hostcertificate", &certificate_file(key))?;
        }
        effective.reload()
    });
    match judged {
        Ok(runs) => {
            placed.complete()?;
            Ok(runs)
        }
        Err(problem) => Err(match placed.undo() {
            Ok(()) => EnrollError::After(Box::new(problem)),
            Err(mixed) => EnrollError::Mixed { problem: Box::new(problem), mixed },
        }),
    }
}

fn drop_in(config: &Config, keys: &[PathBuf]) -> String {
    let mut text = "# Written by `ussh-hostd enroll`, which writes it anew each time: settings of your own belong into another file.\n".to_owned();
    text += &format!("TrustedUserCAKeys {}\n", config.ca_file.display());
    if let Some(revoked) = &config.revoked_keys {
        text += &format!("RevokedKeys {}\n", revoked.display());
    }
    // A HostKey line takes the place of all that sshd has by itself: with one of them named, each must be.
    if keys.iter().any(|key| !DEFAULT_KEYS.iter().any(|default| Path::new(default) == key)) {
        let defaults = DEFAULT_KEYS.iter().map(PathBuf::from).filter(|key| key.exists() && !keys.contains(key));
        for key in keys.iter().cloned().chain(defaults) {
            text += &format!("HostKey {}\n", key.display());
        }
    }
    for key in keys {
        text += &format!("HostCertificate {}\n", certificate_file(key).display());
    }
    text
}

/// Those that are named, or of sshd's default ones those that are there and can sign here; where there is none, an Ed25519 key is made.
fn take_keys(named: Vec<PathBuf>, new_keys: bool) -> Result<Vec<Key>, EnrollError> {
    let chosen = if named.is_empty() {
        // RSA keys do not sign in this program: those that are there stay without a certificate.
        let defaults = DEFAULT_KEYS.iter().filter(|key| !key.contains("_rsa_")).map(PathBuf::from);
        let there: Vec<PathBuf> = defaults.filter(|key| key.exists()).collect();
        if there.is_empty() { DEFAULT_KEYS.iter().take(1).map(PathBuf::from).collect() } else { there }
    } else {
        named
    };
    if chosen.len() > MAX_KEYS {
        return Err(EnrollError::ManyKeys);
    }
    let take = |path: PathBuf| if new_keys || !path.exists() { make(path) } else { read(path) };
    let mut keys: Vec<Key> = chosen.into_iter().map(take).collect::<Result<_, _>>()?;
    let rsa = Path::new(DEFAULT_KEYS.last().copied().unwrap_or_default());
    // A copy's RSA key is its original's as well.
    if new_keys
        && rsa.exists()
        && let Some(first) = keys.first_mut()
    {
        first.files.extend(generate(rsa, "rsa")?);
    }
    Ok(keys)
}

/// A host key from its file.
/// # Errors
/// [`EnrollError`]
pub fn read_private(path: &Path) -> Result<PrivateKey, EnrollError> {
    let failed = |problem| EnrollError::Key { path: path.into(), problem };
    let text = zeroize::Zeroizing::new(read_trusted(path, MAX_KEY)?);
    PrivateKey::from_openssh(&String::from_utf8_lossy(&text)).map_err(failed)
}

fn read(path: PathBuf) -> Result<Key, EnrollError> {
    let private = read_private(&path)?;
    let public = private.public_key();
    // The crate that could is not proof against timing (RUSTSEC-2023-0071).
    if public.short_type() == "RSA" {
        return Err(EnrollError::Rsa(path));
    }
    // sshd does without it, `check` and `renew` do not: they compare the certificate with it.
    let file = public_file(&path);
    let is_missing = matches!(file.symlink_metadata(), Err(e) if e.kind() == std::io::ErrorKind::NotFound);
    let files = is_missing.then(|| NewFile::public(file, public.to_openssh(&comment()) + "\n"));
    Ok(Key { path, private, files: files.into_iter().collect() })
}

fn make(path: PathBuf) -> Result<Key, EnrollError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files = generate(&path, if name.contains("ecdsa") { "ecdsa" } else { "ed25519" })?;
    let failed = |problem| EnrollError::Key { path: path.clone(), problem };
    let text = files.first().map(|file| String::from_utf8_lossy(&file.data).into_owned()).unwrap_or_default();
    let private = PrivateKey::from_openssh(&text).map_err(failed)?;
    Ok(Key { path, private, files })
}

/// A key pair by ssh-keygen, out of a folder that is gone afterwards.
fn generate(path: &Path, kind: &str) -> Result<Vec<NewFile>, EnrollError> {
    let folder = Scratch::new().map_err(|e| EnrollError::Make(e.to_string()))?;
    let file = folder.path().join("key");
    let mut command: Command = program(SSH_KEYGEN, ["-q", "-t", kind, "-N", "", "-C", &comment(), "-f"]);
    let bounds = Bounds { time: std::time::Duration::from_secs(60), bytes: 4096 };
    run(command.arg(&file), bounds)
        .and_then(|ended| ended.ok())
        .map_err(|e: ChildError| EnrollError::Make(e.to_string()))?;
    Ok(vec![
        NewFile::private(path, read_trusted(&file, MAX_KEY)?),
        NewFile::public(public_file(path), read_trusted(&public_file(&file), MAX_KEY)?),
    ])
}

/// Of a host key that is written here.
fn comment() -> String {
    format!("root@{}", ussh_os::process::host_name())
}

/// An exchange takes its keys with it, and there are two.
fn copy_of(key: &PrivateKey) -> Result<PrivateKey, KeyError> {
    PrivateKey::from_openssh(&key.to_openssh("")?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("t")).unwrap()
    }

    #[test]
    fn sshd_is_told_of_the_ca_the_list_and_each_certificate() {
        let keys = [PathBuf::from(DEFAULT_KEYS[0]), PathBuf::from(DEFAULT_KEYS[1])];
        let text = drop_in(&config(""), &keys);
        assert_eq!(
            text.lines().skip(1).collect::<Vec<_>>(),
            [
                "TrustedUserCAKeys /etc/ssh/trusted_user_ca",
                "RevokedKeys /etc/ssh/revoked_keys",
                "HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub",
                "HostCertificate /etc/ssh/ssh_host_ecdsa_key-cert.pub",
            ]
        );
        let text = drop_in(&config("revoked_keys = 'none'"), &["/k/own".into()]);
        assert!(text.contains("\nHostKey /k/own\n") && text.contains("\nHostCertificate /k/own-cert.pub\n"), "{text}");
        assert!(!text.contains("RevokedKeys"), "{text}");
    }

    #[test]
    fn a_key_that_is_taken_gets_its_public_half_if_that_is_missing() {
        let folder = crate::test_support::trusted_folder();
        let path = folder.path().join("key");
        let made = make(path.clone()).unwrap();
        let put = |file: &NewFile| {
            std::fs::write(&file.path, &file.data).unwrap();
            std::fs::set_permissions(&file.path, std::os::unix::fs::PermissionsExt::from_mode(file.mode)).unwrap();
        };
        put(&made.files[0]);
        let taken = read(path.clone()).unwrap();
        assert_eq!(taken.files.len(), 1);
        assert_eq!((&taken.files[0].path, taken.files[0].mode), (&public_file(&path), 0o644));
        assert_eq!(taken.files[0].data, made.files[1].data, "as ssh-keygen writes it");
        put(&taken.files[0]);
        assert!(read(path).unwrap().files.is_empty(), "one that is there stays what it is");
    }

    #[test]
    fn a_key_that_is_made_is_a_pair_and_leaves_nothing_behind() {
        let path = PathBuf::from("/nonexistent/ssh_host_ecdsa_key");
        let key = make(path.clone()).unwrap();
        assert_eq!(key.private.public_key().type_name(), "ecdsa-sha2-nistp256");
        assert_eq!((&key.files[0].path, key.files[0].mode), (&path, 0o600));
        assert_eq!((&key.files[1].path, key.files[1].mode), (&public_file(&path), 0o644));
        let public = String::from_utf8(key.files[1].data.clone()).unwrap();
        assert_eq!(ussh_core::keys::PublicKey::from_openssh(public.trim()).unwrap(), key.private.public_key());
        assert!(!Path::new(&format!("/run/ussh-hostd.{}", std::process::id())).exists());
    }
}
