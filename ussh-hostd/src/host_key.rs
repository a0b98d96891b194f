//! Host keys and their certificates: which there are, when those are to be renewed, and when somebody must hear of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::clock::UnixTime;
use ussh_core::digest::sha256;
use ussh_core::escape::escape;
use ussh_core::keys::PublicKey;
use ussh_core::trusted_file::{TrustedFileError, read_trusted};

use crate::report::span;

/// sshd's own, without a HostKey line (servconf.c, fill_default_server_options).
pub const DEFAULT_KEYS: [&str; 3] =
    ["/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_rsa_key"];
/// Largest key or certificate, bytes.
const MAX_FILE: usize = 64 * 1024;

/// Where a key's certificate lies (ssh-keygen's and sshd_config's custom).
pub fn certificate_file(key: &Path) -> PathBuf {
    with_end(key, "-cert.pub")
}

/// Where a key's public half lies.
pub fn public_file(key: &Path) -> PathBuf {
    with_end(key, ".pub")
}

fn with_end(key: &Path, end: &str) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// A host key that has, or should have, a certificate.
#[derive(Debug)]
pub struct HostKey {
    /// The private key's file.
    pub key: PathBuf,
    /// What lies beside it, or why that is none.
    pub certificate: Result<Certificate, String>,
}

impl HostKey {
    /// Looks at what lies there.
    pub fn read(key: &Path) -> Self {
        HostKey { key: key.into(), certificate: read_certificate(key) }
    }

    /// sshd's default keys, of those that have a certificate: a host that an administrator signed by hand.
    pub fn signed_by_hand() -> Vec<Self> {
        let keys = DEFAULT_KEYS.iter().map(Path::new).filter(|key| certificate_file(key).exists());
        keys.map(HostKey::read).collect()
    }

    /// When it is to be renewed: at two thirds of its life, and up to a twentieth later, so that hosts that were made together do not come together. At once if there is none.
    pub fn due(&self) -> UnixTime {
        let Ok(certificate) = &self.certificate else { return UnixTime(0) };
        let (from, to) = (certificate.valid_after().0, certificate.valid_before().0);
        if certificate.valid_before() == UnixTime::FOREVER {
            return UnixTime::FOREVER;
        }
        let life = to.saturating_sub(from);
        let [a, b, ..] = sha256(certificate.blob());
        let part = u64::from(u16::from_be_bytes([a, b]));
        UnixTime(from.saturating_add(life / 3 * 2).saturating_add(life / 20 * part / 0x1_0000))
    }

    /// What somebody must hear of; `None`: all is well. From three quarters of its life on, when it should have been renewed long ago.
    pub fn alarm(&self, now: UnixTime) -> Option<String> {
        let name = self.key.display();
        let certificate = match &self.certificate {
            Ok(certificate) => certificate,
            Err(problem) => return Some(format!("the host key {name} has no certificate: {problem}")),
        };
        if let Some(why) = useless(certificate) {
            return Some(format!("the host certificate of {name} {why}: `ussh-hostd renew`, or have it signed anew"));
        }
        let (from, to) = (certificate.valid_after(), certificate.valid_before());
        if to == UnixTime::FOREVER {
            return None;
        }
        if now < from {
            return Some(format!("the host certificate of {name} is not valid yet: is this host's clock wrong?"));
        }
        let left = to.0.saturating_sub(now.0);
        if left == 0 {
            let since = span(Duration::from_secs(now.0.saturating_sub(to.0)));
            return Some(format!(
                "the host certificate of {name} ran out {since} ago: logins are asked about the key, or refused"
            ));
        }
        let life = to.0.saturating_sub(from.0);
        (left < life / 4).then(|| {
            format!("the host certificate of {name} runs out in {} and is not renewed", span(Duration::from_secs(left)))
        })
    }
}

/// What is wrong with it at any time. No critical option of host certificates is defined (PROTOCOL.certkeys), and clients refuse what they do not know.
pub fn useless(certificate: &Certificate) -> Option<&'static str> {
    if !certificate.critical_options().is_empty() {
        return Some("has critical options, and no client takes a host certificate with any");
    }
    certificate
        .principals()
        .is_empty()
        .then_some("is for no name: some clients take it for every host, others for none")
}

fn read_certificate(key: &Path) -> Result<Certificate, String> {
    let text = |path: &Path| -> Result<String, String> {
        let data = read_trusted(path, MAX_FILE).map_err(|e| {
            let is_missing =
                matches!(&e, TrustedFileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
            if is_missing { format!("{} is missing", path.display()) } else { e.to_string() }
        })?;
        String::from_utf8(data).map_err(|_| format!("{} is no text", path.display()))
    };
    let file = certificate_file(key);
    let certificate = Certificate::from_openssh(text(&file)?.trim_end())
        .map_err(|e| format!("{}: {}", file.display(), escape(e.to_string().as_bytes(), 128)))?;
    if certificate.kind() != CertificateKind::Host {
        return Err(format!("{} is a user's", file.display()));
    }
    let public = PublicKey::from_openssh(text(&public_file(key))?.trim_end())
        .map_err(|e| format!("{}: {e}", public_file(key).display()))?;
    if *certificate.public_key() != public {
        return Err(format!("{} is for another key", file.display()));
    }
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::test_support::{Ca, from_now, host_certificate, trusted_folder};

    const DAY: i64 = 86_400;

    fn with(from: i64, to: i64) -> HostKey {
        HostKey { key: "/k".into(), certificate: Ok(host_certificate(&Ca::new(), &["web1"], from, to).0) }
    }

    #[test]
    fn renewal_is_due_from_two_thirds_of_the_life_on_and_not_for_all_at_once() {
        let mut due: Vec<u64> = (0..20).map(|_| with(0, 90 * DAY).due().0).collect();
        due.sort_unstable();
        due.dedup();
        assert!(due.len() > 15, "{due:?}");
        let start = from_now(0).0;
        let day = DAY.unsigned_abs();
        assert!(due.iter().all(|at| (start + 60 * day - 5..start + 65 * day).contains(at)), "{due:?}");
        let none = HostKey { key: "/k".into(), certificate: Err("is missing".into()) };
        assert_eq!(none.due(), UnixTime(0));
    }

    #[test]
    fn an_alarm_comes_long_before_the_end_and_after_the_renewals_own_time() {
        let latest = with(0, 90 * DAY).due();
        let key = with(0, 90 * DAY);
        assert_eq!(key.alarm(latest), None, "it is not late yet");
        assert_eq!(key.alarm(from_now(66 * DAY)), None);
        for (at, said) in [
            (68, "runs out in 22 d and is not renewed"),
            (89, "runs out in 1 d and is not renewed"),
            (92, "ran out 2 d ago"),
            (-1, "not valid yet"),
        ] {
            let alarm = key.alarm(from_now(at * DAY)).unwrap();
            assert!(alarm.contains(said), "{alarm}");
        }
        let none = HostKey { key: "/k".into(), certificate: Err("/k-cert.pub is missing".into()) };
        assert_eq!(none.alarm(from_now(0)).unwrap(), "the host key /k has no certificate: /k-cert.pub is missing");
    }

    #[test]
    fn a_certificate_that_clients_refuse_or_take_for_every_host_is_an_alarm_at_any_time() {
        let ca = Ca::new();
        for (principals, options, said) in [
            (["web1"].as_slice(), ["force-command"].as_slice(), Some("has critical options")),
            (&[], &[], Some("is for no name")),
            (&["web1"], &[], None),
        ] {
            let key = HostKey { key: "/k".into(), certificate: Ok(signed_by_hand(&ca, principals, options)) };
            let alarm = key.alarm(from_now(0));
            assert_eq!(alarm.is_some(), said.is_some(), "{alarm:?}");
            assert!(alarm.is_none_or(|alarm| alarm.contains(said.unwrap())), "{said:?}");
        }
    }

    /// By ssh-keygen, which makes what we do not.
    fn signed_by_hand(ca: &Ca, principals: &[&str], options: &[&str]) -> Certificate {
        let folder = trusted_folder();
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| {
            std::fs::write(at(name), text).unwrap();
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(at(name), private).unwrap();
        };
        write("ca", &ca.0.to_openssh("").unwrap());
        write("key.pub", &Ca::new().line());
        let mut command = std::process::Command::new("ssh-keygen");
        command.args(["-q", "-h", "-I", "web1", "-s"]).arg(at("ca"));
        if !principals.is_empty() {
            command.args(["-n", &principals.join(",")]);
        }
        for option in options {
            command.args(["-O", &format!("critical:{option}=x")]);
        }
        assert!(command.arg(at("key.pub")).status().unwrap().success());
        Certificate::from_openssh(std::fs::read_to_string(at("key-cert.pub")).unwrap().trim_end()).unwrap()
    }

    #[test]
    fn a_certificate_of_another_key_or_kind_is_none() {
        let (folder, ca) = (trusted_folder(), Ca::new());
        let key = folder.path().join("key");
        let put = |file: &Path, text: String| std::fs::write(file, text).unwrap();
        let problem = || HostKey::read(&key).certificate.unwrap_err();
        assert!(problem().ends_with("key-cert.pub is missing"));
        let (certificate, private) = host_certificate(&ca, &["web1"], 0, 60);
        put(&certificate_file(&key), certificate.to_openssh(""));
        assert!(problem().ends_with("key.pub is missing"));
        put(&public_file(&key), ca.line());
        assert!(problem().ends_with("key-cert.pub is for another key"));
        put(&public_file(&key), private.public_key().to_openssh("host"));
        assert_eq!(HostKey::read(&key).certificate.unwrap(), certificate);
        put(&certificate_file(&key), ca.issue("alice", 1, 60).0.to_openssh(""));
        assert!(problem().ends_with("is a user's"));
        put(&certificate_file(&key), "junk".into());
        assert!(problem().contains("key-cert.pub: "));
    }
}
