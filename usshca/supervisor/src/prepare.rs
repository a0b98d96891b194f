//! All that must be in place before the CA serves; `check` looks at the same.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::keys::{PrivateKey, PublicKey};
use ussh_core::trusted_file::{TrustedFileError, read_trusted, read_trusted_below};
use ussh_os::account::Account;
use ussh_os::process;
use usshca_ipc::layout::Layout;
use usshca_ipc::signer::{KeySetup, PolicyText};
use zeroize::Zeroizing;

use crate::config::{Config, MAX_FILE};
use crate::failure::Failure;
use crate::init::pam;
use crate::log::LogFormat;
use crate::pam_stack;
use crate::policy;
use crate::unlock;

/// Where a package puts the CA's programs.
const LIBEXEC: &str = "/usr/libexec/usshca";

/// What the log's line on [`Base::pam_gap`] begins with.
pub const PAM_GAP: &str = "PAM service: ";

/// What an ordinary user must know of a CA of his own.
pub const WITHOUT_ROOT: &str = "without root PAM can check your own password only, and change none (unix_chkpwd looks at /etc/shadow for nobody else; \
    modules that ask a server may know more); fronts, PAM and signer all run as you: nothing but their sandboxes keeps the CA keys from them";

/// The CA's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// usshca-front.
    pub front: PathBuf,
    /// usshca-pam.
    pub pam: PathBuf,
    /// usshca-signer.
    pub signer: PathBuf,
}

/// (uid, gid) of the processes without privilege.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accounts {
    /// Of the signer.
    pub signer: (u32, u32),
    /// Of the fronts.
    pub front: (u32, u32),
}

/// What a signer is started with.
#[derive(Clone, Debug)]
pub struct Base {
    /// Where everything lies.
    pub layout: Layout,
    /// usshca.toml.
    pub config: Config,
    /// The programs.
    pub programs: Programs,
    /// `None`: all of it runs as one ordinary user.
    pub accounts: Option<Accounts>,
}

/// The CA machine's own SSH host key and certificate.
pub struct HostIdentity {
    /// OpenSSH private key format.
    pub key: Zeroizing<String>,
    /// `type base64`.
    pub certificate: String,
    /// Seconds since the epoch, exclusive; `None`: for ever.
    pub valid_before: Option<u64>,
}

impl Base {
    /// Reads the configuration, finds accounts and programs.
    pub fn load(layout: &Layout) -> Result<Self, Failure> {
        let text = read_text(layout, &layout.config)?;
        let config = Config::parse(&text, &layout.config).map_err(|e| Failure::config(e.to_string()))?;
        let accounts = accounts(&config)?;
        Ok(Base { layout: layout.clone(), config, programs: programs()?, accounts })
    }

    /// The policy's files, as they are now.
    pub fn policy(&self) -> Result<Vec<PolicyText>, Failure> {
        policy::read(&self.layout.policy, |path| read_text(&self.layout, path))
    }

    /// What a signer needs to know of keys and of the feed.
    pub fn key_setup(&self) -> KeySetup {
        KeySetup {
            passphrases: unlock::passphrases(),
            others: host_keys(&self.layout.host_key),
            ca_name: self.config.ca_name.clone(),
            feed_valid_seconds: self.config.publish_valid_seconds,
            known_hosts_pattern: self.config.known_hosts_pattern.clone(),
        }
    }

    /// uid whose word counts besides root's: root's own, or the ordinary user's who runs the CA.
    pub fn owner_uid(&self) -> u32 {
        process::effective_uid()
    }

    /// The host key with its certificate: they must belong together, and be valid now.
    pub fn host_identity(&self) -> Result<HostIdentity, Failure> {
        let path = &self.layout.host_key;
        let key = Zeroizing::new(read_text(&self.layout, path)?);
        let mode = path.metadata().map_err(|e| Failure::config(format!("{}: {e}", path.display())))?.mode();
        if mode & 0o077 != 0 {
            return Err(Failure::config(format!("{}: others can read it; try: chmod 600 {0}", path.display())));
        }
        let certificate_path = with_suffix(path, "-cert.pub");
        let line = read_text(&self.layout, &certificate_path)?;
        let private =
            PrivateKey::from_openssh(&key).map_err(|e| Failure::config(format!("{}: {e}", path.display())))?;
        let certificate = Certificate::from_openssh(line.trim())
            .map_err(|e| Failure::config(format!("{}: {e}", certificate_path.display())))?;
        check_host_certificate(&certificate, &private)
            .map_err(|problem| Failure::config(format!("{}: {problem}", certificate_path.display())))?;
        let end = certificate.valid_before().0;
        Ok(HostIdentity {
            key,
            certificate: certificate.to_openssh(""),
            valid_before: (end != u64::MAX).then_some(end),
        })
    }

    /// What an administrator should look at in the policy and in the CA's PAM stack; a failure if the policy is no good. Works beside a CA that runs.
    /// # Errors
    /// As [`policy::check`].
    pub fn warnings(&self) -> Result<Vec<String>, Failure> {
        let mut warnings = policy::check(self)?;
        warnings.extend(self.pam_warnings());
        warnings.extend(self.without_root().map(str::to_owned));
        let (listens, socket) = ussh_os::syslog::journal();
        if self.config.log_format == LogFormat::Journald && !listens {
            warnings.push(format!(
                "log_format is \"journald\", and no journal listens at {socket}: lines go to syslog, or to standard error where there is none either"
            ));
        }
        Ok(warnings)
    }

    /// What an administrator should look at in the CA's PAM stack.
    pub fn pam_warnings(&self) -> Vec<String> {
        // Its accounts are there when it is root's.
        pam_stack::warnings(&self.config.pam_service, self.pam_folder().as_deref(), self.accounts.is_some())
    }

    /// What does not work, or is not kept apart, since an ordinary user runs the CA.
    fn without_root(&self) -> Option<&'static str> {
        self.accounts.is_none().then_some(WITHOUT_ROOT)
    }

    /// The CA's own folder of PAM stacks, absolute: where an ordinary user runs it, who writes none into PAM's folders. `None`: PAM's own.
    pub fn pam_folder(&self) -> Option<PathBuf> {
        let folder = self.layout.config.parent()?.join(pam::OWN_FOLDER);
        let is_ours = self.accounts.is_none() && folder.join(&self.config.pam_service).is_file();
        is_ours.then(|| std::path::absolute(folder).ok()).flatten()
    }

    /// What the CA's PAM service leaves to `other`, in one line: that must not decide who gets a certificate.
    pub fn pam_gap(&self) -> Option<String> {
        pam_stack::left_to_other(&self.config.pam_service, self.pam_folder().as_deref())
    }

    /// As [`Self::pam_gap`], with what to do about it.
    /// # Errors
    /// There is such a gap.
    pub fn check_pam_service(&self) -> Result<(), Failure> {
        let Some(gap) = self.pam_gap() else { return Ok(()) };
        let [folder, _] = pam_stack::FOLDERS;
        let advice = pam::lines(Path::new(folder)).map_or_else(
            || "write one".to_owned(),
            |lines| format!("to let in whoever may log in to this machine, put there:\n{}", lines.trim_end()),
        );
        Err(Failure::config(format!("{gap}; {advice}")))
    }
}

/// The machine's SSH host keys, this CA's and sshd's, as far as they can be read: no key of the CA's may be one of them.
fn host_keys(own: &Path) -> Vec<Vec<u8>> {
    let sshd = std::fs::read_dir("/etc/ssh").into_iter().flatten().flatten().map(|entry| entry.path());
    let is_public = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("ssh_host_") && name.ends_with("_key.pub")
    };
    let files = sshd.filter(is_public).chain([with_suffix(own, ".pub")]);
    let texts = files.filter_map(|path| std::fs::read_to_string(path).ok());
    texts.filter_map(|text| PublicKey::from_openssh(text.trim_end()).ok()).map(|key| key.to_blob()).collect()
}

fn check_host_certificate(certificate: &Certificate, key: &PrivateKey) -> Result<(), String> {
    if certificate.kind() != CertificateKind::Host {
        return Err("not a host certificate".to_owned());
    }
    if *certificate.public_key() != key.public_key() {
        return Err("does not belong to the host key beside it".to_owned());
    }
    if certificate.principals().is_empty() {
        return Err("names no host".to_owned());
    }
    let now = SystemClock.now();
    if now < certificate.valid_after() || now >= certificate.valid_before() {
        return Err("is not valid now; sign the host key again: usshca host sign".to_owned());
    }
    Ok(())
}

fn accounts(config: &Config) -> Result<Option<Accounts>, Failure> {
    if process::effective_uid() != 0 {
        return Ok(None);
    }
    let found = Accounts { signer: account(&config.signer_user)?, front: account(&config.front_user)? };
    if found.signer.0 == found.front.0 {
        return Err(Failure::config("signer_user and front_user have the same uid: each needs its own"));
    }
    Ok(Some(found))
}

fn account(name: &str) -> Result<(u32, u32), Failure> {
    match Account::by_name(name) {
        Ok(Some(account)) if account.uid != 0 => Ok((account.uid, account.gid)),
        Ok(Some(_)) => {
            Err(Failure::config(format!("the account {name} is root's: the CA needs accounts without privilege")))
        }
        Ok(None) => Err(Failure::config(format!(
            "there is no account {name}; try: useradd --system --no-create-home --shell /usr/sbin/nologin {name}"
        ))),
        Err(e) => Err(Failure::internal(format!("looking up the account {name}: {e}"))),
    }
}

fn programs() -> Result<Programs, Failure> {
    let own = std::env::current_exe().map_err(|e| Failure::internal(format!("/proc/self/exe: {e}")))?;
    let find = |name: &str| {
        let folders = own.parent().into_iter().chain([Path::new(LIBEXEC)]);
        let mut places = folders.map(|folder| folder.join(name));
        places.find(|p| p.is_file()).ok_or_else(|| {
            Failure::config(format!("{name} is missing: it belongs beside {} or in {LIBEXEC}", own.display()))
        })
    };
    Ok(Programs { front: find("usshca-front")?, pam: find("usshca-pam")?, signer: find("usshca-signer")? })
}

/// Reads a file that only root, or the user who runs the CA, can have written.
fn read_text(layout: &Layout, path: &Path) -> Result<String, Failure> {
    let read = match layout.config.parent() {
        Some(folder) if *layout != Layout::system() => {
            read_trusted_below(folder, process::effective_uid(), path, MAX_FILE)
        }
        _ => read_trusted(path, MAX_FILE),
    };
    let bytes = read.map_err(|e| {
        if let Some(failure) = run_by_another(layout, &e) {
            return failure;
        }
        let hint = match error_kind(&e) {
            Some(ErrorKind::NotFound) if path == layout.config => "; is there a CA here? `usshca init` makes one",
            Some(ErrorKind::NotFound) if path == with_suffix(&layout.host_key, "-cert.pub") => {
                "; the CA shows its users a host certificate: usshca host sign makes one of the host key's .pub, while the CA is down too"
            }
            Some(ErrorKind::PermissionDenied) => "; this is for root, or for the account that runs the CA",
            _ => "",
        };
        Failure::config(format!("{e}{hint}"))
    })?;
    String::from_utf8(bytes).map_err(|_| Failure::config(format!("{}: not UTF-8", path.display())))
}

/// Root who looks at a CA of somebody else's is not to make it root's, which would end it: what is wrong is who looks.
fn run_by_another(layout: &Layout, error: &TrustedFileError) -> Option<Failure> {
    let is_ownership = matches!(error, TrustedFileError::BadOwnership { .. });
    if !is_ownership || process::effective_uid() != 0 || *layout == Layout::system() {
        return None;
    }
    // Whose file, and whose state: what others can write to may still be root's CA.
    let owner = |path: &Path| path.symlink_metadata().ok().map(|found| found.uid()).filter(|uid| *uid != 0);
    let uid = owner(&layout.config)?;
    (owner(&layout.state) == Some(uid)).then(|| Failure::refused(other_administrator(uid)))
}

/// What is said to whoever is not the one who runs a CA.
pub fn other_administrator(uid: u32) -> String {
    let whose = Account::by_uid(uid).ok().flatten().map_or_else(|| format!("uid {uid}"), |account| account.name);
    format!("this CA is run by {whose}, who alone administers it: run this as {whose}")
}

fn error_kind(error: &TrustedFileError) -> Option<ErrorKind> {
    if let TrustedFileError::Io { source, .. } = error { Some(source.kind()) } else { None }
}

/// `…/ssh_host_ed25519_key` → `…/ssh_host_ed25519_key-cert.pub`.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use ussh_core::clock::UnixTime;
    use ussh_core::issue::CertificateTemplate;

    use super::*;

    fn host_certificate(key: &PrivateKey, kind: CertificateKind, after: u64, before: u64) -> Certificate {
        let template = CertificateTemplate {
            public_key: key.public_key(),
            serial: 1,
            kind,
            key_id: "ca".into(),
            principals: vec!["ca.example.com".into()],
            valid_after: UnixTime(after),
            valid_before: UnixTime(before),
            critical_options: vec![],
            extensions: vec![],
        };
        template.sign(&PrivateKey::generate_ed25519().unwrap()).unwrap()
    }

    #[test]
    fn takes_a_host_certificate_of_this_key_that_is_valid_now_and_no_other() {
        let (key, other) = (PrivateKey::generate_ed25519().unwrap(), PrivateKey::generate_ed25519().unwrap());
        let now = SystemClock.now().0;
        let good = host_certificate(&key, CertificateKind::Host, now - 60, now + 60);
        assert_eq!(check_host_certificate(&good, &key), Ok(()));
        assert!(check_host_certificate(&good, &other).unwrap_err().contains("does not belong"));
        let user = host_certificate(&key, CertificateKind::User, now - 60, now + 60);
        assert!(check_host_certificate(&user, &key).unwrap_err().contains("not a host certificate"));
        let expired = host_certificate(&key, CertificateKind::Host, now - 60, now - 1);
        assert!(check_host_certificate(&expired, &key).unwrap_err().contains("not valid now"));
        let early = host_certificate(&key, CertificateKind::Host, now + 60, now + 120);
        assert!(check_host_certificate(&early, &key).unwrap_err().contains("not valid now"));
    }

    #[test]
    fn the_certificate_lies_beside_the_key() {
        assert_eq!(with_suffix(Path::new("/d/key"), "-cert.pub"), Path::new("/d/key-cert.pub"));
    }
}
