//! The CA's two keys. Nothing else in the system holds them.

use std::sync::Arc;

use usshca_ipc::signer::Secret;

use crate::ca_key::{CaKey, CaKeyError};
use crate::state::StateFolder;

/// Signs users, and signs hosts.
#[derive(Debug)]
pub struct CaKeys {
    /// Signs user certificates, on two threads.
    pub user: Arc<CaKey>,
    /// Signs host certificates.
    pub host: CaKey,
}

impl CaKeys {
    /// Loads both from the state folder. None of them may be one of `others` (wire forms): the machine's SSH host keys.
    /// # Errors
    /// [`CaKeyError`]
    pub fn load(state: &StateFolder, passphrases: &[Secret], others: &[Vec<u8>]) -> Result<Self, CaKeyError> {
        let load = |name| CaKey::load(state, name, passphrases);
        let keys = CaKeys { user: Arc::new(load("user_ca")?), host: load("host_ca")? };
        if keys.user.public_key() == keys.host.public_key() {
            return Err(CaKeyError::Same("user_ca", "host_ca"));
        }
        for (name, key) in [("user_ca", &*keys.user), ("host_ca", &keys.host)] {
            if others.iter().any(|other| other == key.public_key().blob()) {
                return Err(CaKeyError::Same(name, "an SSH host key of this machine"));
            }
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use ussh_core::keys::SigningKey;

    use super::*;

    fn state() -> (tempfile::TempDir, StateFolder) {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let state = StateFolder::open(dir.path()).unwrap();
        (dir, state)
    }

    fn make(dir: &tempfile::TempDir, name: &str, kind: &str) {
        let path = dir.path().join(name);
        let _ = fs::remove_file(&path);
        let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-f"]).arg(&path).status().unwrap();
        assert!(made.success());
    }

    #[test]
    fn loads_two_different_keys() {
        let (dir, state) = state();
        make(&dir, "user_ca", "ed25519");
        make(&dir, "host_ca", "ecdsa");
        let keys = CaKeys::load(&state, &[], &[]).unwrap();
        assert_eq!((keys.user.public_key().short_type(), keys.host.public_key().short_type()), ("ED25519", "ECDSA"));
    }

    #[test]
    fn refuses_one_key_for_users_and_hosts() {
        let (dir, state) = state();
        make(&dir, "user_ca", "ed25519");
        fs::copy(dir.path().join("user_ca"), dir.path().join("host_ca")).unwrap();
        assert!(matches!(CaKeys::load(&state, &[], &[]), Err(CaKeyError::Same("user_ca", "host_ca"))));
    }

    #[test]
    fn refuses_rsa_and_junk_and_nothing() {
        let (dir, state) = state();
        make(&dir, "user_ca", "ed25519");
        assert!(matches!(CaKeys::load(&state, &[], &[]), Err(CaKeyError::State(_))));
        make(&dir, "host_ca", "rsa");
        assert!(matches!(CaKeys::load(&state, &[], &[]), Err(CaKeyError::Kind { kind: "RSA", .. })));
        fs::write(dir.path().join("host_ca"), "junk").unwrap();
        assert!(matches!(CaKeys::load(&state, &[], &[]), Err(CaKeyError::Key { .. })));
    }

    #[test]
    fn refuses_a_ca_key_that_is_a_host_key_of_the_machine() {
        let (dir, state) = state();
        make(&dir, "user_ca", "ed25519");
        make(&dir, "host_ca", "ed25519");
        let other = CaKeys::load(&state, &[], &[]).unwrap().host.public_key().to_blob();
        let refused = CaKeys::load(&state, &[], &[other]).unwrap_err();
        assert!(matches!(refused, CaKeyError::Same("host_ca", "an SSH host key of this machine")), "{refused}");
    }

    #[test]
    fn an_encrypted_key_is_opened_by_its_passphrase_and_by_no_other() {
        let (dir, state) = state();
        make(&dir, "user_ca", "ed25519");
        make(&dir, "host_ca", "ed25519");
        let path = dir.path().join("host_ca");
        // As OpenSSH encrypts it.
        let args = ["-q", "-p", "-P", "", "-N", "open sesame", "-f"];
        assert!(Command::new("ssh-keygen").args(args).arg(&path).status().unwrap().success());
        let load = |words: &[&str]| {
            let words: Vec<Secret> = words.iter().map(|word| Secret((*word).to_owned())).collect();
            CaKeys::load(&state, &words, &[])
        };
        let none = load(&[]).unwrap_err();
        assert!(matches!(&none, CaKeyError::Passphrase { name, wrong: false } if name == "host_ca"), "{none}");
        let wrong = load(&["open"]).unwrap_err();
        assert!(matches!(&wrong, CaKeyError::Passphrase { name, wrong: true } if name == "host_ca"), "{wrong}");
        assert_eq!(load(&["open", "open sesame"]).unwrap().host.public_key().short_type(), "ED25519");
        assert!(!format!("{:?}", Secret("open sesame".to_owned())).contains("sesame"));
    }

    #[test]
    fn an_agent_that_fails_is_trouble_at_once_and_none_once_it_signs_again() {
        let (dir, state) = state();
        make(&dir, "user_ca", "ed25519");
        let (socket, key) = (dir.path().join("agent"), dir.path().join("key"));
        fs::rename(dir.path().join("user_ca"), &key).unwrap();
        fs::write(dir.path().join("user_ca.agent"), format!("socket = {:?}\n", socket.display().to_string())).unwrap();
        fs::set_permissions(dir.path().join("user_ca.agent"), Permissions::from_mode(0o600)).unwrap();
        let start = || {
            let _ = fs::remove_file(&socket);
            let agent =
                Command::new("ssh-agent").args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).spawn().unwrap();
            let end = Instant::now() + Duration::from_secs(20);
            while UnixStream::connect(&socket).is_err() {
                assert!(Instant::now() < end, "no ssh-agent");
                std::thread::yield_now();
            }
            let added = Command::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket).status().unwrap();
            assert!(added.success());
            agent
        };
        let mut agent = start();
        let ca_key = CaKey::load(&state, "user_ca", &[]).unwrap();
        ca_key.sign(b"one").unwrap();
        assert_eq!(ca_key.trouble(), None);
        agent.kill().unwrap();
        agent.wait().unwrap();
        assert_eq!(ca_key.trouble(), None, "nobody has asked it since");
        ca_key.sign(b"two").unwrap_err();
        let trouble = ca_key.trouble().unwrap();
        assert!(trouble.starts_with("user_ca: ") && trouble.contains("cannot be reached"), "{trouble}");
        let mut agent = start();
        ca_key.sign(b"three").unwrap();
        assert_eq!(ca_key.trouble(), None);
        agent.kill().unwrap();
        agent.wait().unwrap();
    }
}
