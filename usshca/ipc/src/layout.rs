//! Where the CA's files lie.

use std::path::{Path, PathBuf};

/// Config and state of one CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// usshca.toml.
    pub config: PathBuf,
    /// policy.toml.
    pub policy: PathBuf,
    /// Owned by the signer, 0700: user_ca, user_ca.pub, host_ca, host_ca.pub, inventory.db.
    pub state: PathBuf,
    /// The CA machine's SSH host key, its .pub and -cert.pub; root's.
    pub host_key: PathBuf,
    /// Admin socket.
    pub admin_socket: PathBuf,
    /// Public files for everybody: user_ca.pub, host_ca.pub, known_hosts (the @cert-authority line).
    pub public: PathBuf,
}

impl Layout {
    /// All under one folder: `--dir D`.
    pub fn in_directory(dir: &Path) -> Self {
        Layout {
            config: dir.join("usshca.toml"),
            policy: dir.join("policy.toml"),
            state: dir.join("state"),
            host_key: dir.join("ssh_host_ed25519_key"),
            admin_socket: dir.join("admin.sock"),
            public: dir.join("public"),
        }
    }
    /// Where a package puts it.
    pub fn system() -> Self {
        let (etc, var) = (Path::new("/etc/usshca"), Path::new("/var/lib/usshca"));
        Layout {
            config: etc.join("usshca.toml"),
            policy: etc.join("policy.toml"),
            state: var.join("state"),
            host_key: etc.join("ssh_host_ed25519_key"),
            admin_socket: Path::new("/run/usshca/admin.sock").to_path_buf(),
            public: var.join("public"),
        }
    }

    /// Where `serve` says how it is; beside the admin socket.
    pub fn status_socket(&self) -> PathBuf {
        self.admin_socket.with_file_name("status.sock")
    }
}
