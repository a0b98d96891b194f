//! The CA's two keys. Nothing else in the system holds them.

use ussh_core::keys::{KeyError, PrivateKey};

use crate::state::{StateError, StateFolder};

/// Signs users, and signs hosts.
#[derive(Debug)]
pub struct CaKeys {
    /// Signs user certificates.
    pub user: PrivateKey,
    /// Signs host certificates.
    pub host: PrivateKey,
}

/// Why there are no usable CA keys.
#[derive(Debug, thiserror::Error)]
pub enum CaKeyError {
    /// The file.
    #[error("{0}")]
    State(#[from] StateError),
    /// Not an unencrypted private key in OpenSSH's format.
    #[error("{name}: {source}")]
    Key {
        /// Which.
        name: &'static str,
        /// What is wrong.
        source: KeyError,
    },
    /// RSA (its private operations leak time), or a key that a person must touch.
    #[error("{name}: a CA key must be Ed25519 or ECDSA, not {kind}")]
    Kind {
        /// Which.
        name: &'static str,
        /// OpenSSH's short name of its type.
        kind: &'static str,
    },
    /// Users could pose as hosts and the other way round.
    #[error("user_ca and host_ca are the same key: each needs its own")]
    Same,
}

impl CaKeys {
    /// Loads both from the state folder.
    /// # Errors
    /// [`CaKeyError`]
    pub fn load(state: &StateFolder) -> Result<Self, CaKeyError> {
        let keys = CaKeys { user: load(state, "user_ca")?, host: load(state, "host_ca")? };
        if keys.user.public_key() == keys.host.public_key() {
            return Err(CaKeyError::Same);
        }
        Ok(keys)
    }
}

fn load(state: &StateFolder, name: &'static str) -> Result<PrivateKey, CaKeyError> {
    let text = state.secret(name)?;
    let key = PrivateKey::from_openssh(&text).map_err(|source| CaKeyError::Key { name, source })?;
    match key.public_key().short_type() {
        "ED25519" | "ECDSA" => Ok(key),
        kind => Err(CaKeyError::Kind { name, kind }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

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
        let keys = CaKeys::load(&state).unwrap();
        assert_eq!((keys.user.public_key().short_type(), keys.host.public_key().short_type()), ("ED25519", "ECDSA"));
    }

    #[test]
    fn refuses_one_key_for_users_and_hosts() {
        let (dir, state) = state();
        make(&dir, "user_ca", "ed25519");
        fs::copy(dir.path().join("user_ca"), dir.path().join("host_ca")).unwrap();
        assert!(matches!(CaKeys::load(&state), Err(CaKeyError::Same)));
    }

    #[test]
    fn refuses_rsa_and_junk_and_nothing() {
        let (dir, state) = state();
        make(&dir, "user_ca", "ed25519");
        assert!(matches!(CaKeys::load(&state), Err(CaKeyError::State(_))));
        make(&dir, "host_ca", "rsa");
        assert!(matches!(CaKeys::load(&state), Err(CaKeyError::Kind { name: "host_ca", kind: "RSA" })));
        fs::write(dir.path().join("host_ca"), "junk").unwrap();
        assert!(matches!(CaKeys::load(&state), Err(CaKeyError::Key { name: "host_ca", .. })));
    }
}
