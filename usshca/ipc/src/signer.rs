//! The signer's control channel: only the supervisor speaks on it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::admin::{Explained, Supposed};

/// Descriptors that a signer gets, by number.
pub mod descriptors {
    /// Channel<FromSignerControl, Control>, attested.
    pub const CONTROL: i32 = 3;
    /// A pipe with a [`super::SignerSetup`], postcard-encoded, read to its end.
    pub const SETUP: i32 = 4;
    /// Listening socket for admins (absent in one-shot mode, where the control channel's first NewAdmin brings the only admin).
    pub const ADMIN: i32 = 5;
}

/// One file of the policy, as the supervisor read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyText {
    /// As people know it: its path.
    pub name: String,
    /// The folder by which a rule of the first file includes it; empty for the first one.
    pub folder: String,
    /// What stands in it.
    pub text: String,
}

/// What a signer is told when it starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignerSetup {
    /// Folder with the CA keys and the inventory, owned by the signer.
    pub state: std::path::PathBuf,
    /// The policy's files, the main one first, read by the supervisor.
    pub policy: Vec<PolicyText>,
    /// uids that may speak on the admin socket.
    pub admin_uids: Vec<u32>,
    /// uid from which PAM statements are taken (0, or the CA's own when run by an ordinary user).
    pub worker_uid: u32,
    /// Whether a listening admin socket comes as descriptor 5.
    pub listens: bool,
    /// Whether there is no inventory yet, and it is to make one: `usshca init` alone says so. Else a missing one is a lost one.
    pub creates: bool,
    /// Only the policy is to be read: the signer says what it is like and ends, without a look at the state, and so beside a signer that is at work.
    pub only_policy: bool,
    /// What it needs to know of keys and of the feed.
    pub keys: KeySetup,
    /// One job beside the signer that serves, which holds the state folder; then it ends.
    pub side_job: Option<SideJob>,
}

/// What a signer's program does beside the one that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SideJob {
    /// Copies the inventory, as it is at one moment, into the pipe that comes as descriptor [`descriptors::ADMIN`], and says [`FromSignerControl::Copied`].
    Backup,
    /// Answers [`Control::Judge`] by the policy of the setup. It says [`FromSignerControl::PolicyGood`] before.
    Judge,
    /// Serves administrators as a signer that is alone on its state, and changes nothing on disk: what a kill, or a backup that was put back, has left to be done is told and not done.
    Look,
}

/// What a signer needs to know of keys and of the feed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KeySetup {
    /// Each is tried on each key that is encrypted.
    pub passphrases: Vec<Secret>,
    /// Wire forms of keys that no key of the CA's may be: the machine's SSH host keys.
    pub others: Vec<Vec<u8>>,
    /// The CA's name, as it stands in the feed.
    pub ca_name: String,
    /// For how long a feed is valid, in seconds.
    pub feed_valid_seconds: u64,
    /// For which hosts the host CA is trusted by whoever has the feed or a host's grant: patterns as in known_hosts (sshd(8)). Empty: `*`.
    pub known_hosts_pattern: String,
}

/// Something that is wiped when it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl Drop for Secret {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Supervisor → signer. Each brings one descriptor, but for the question.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// A new connection's front: Channel<front::FromSigner, front::ToSigner>.
    NewFront {
        /// Connection number.
        connection: u64,
        /// Kernel's getpeername.
        peer: SocketAddr,
    },
    /// A PAM worker for that connection: Channel<worker::StatementReply, worker::Spoken>.
    NewWorker {
        /// Connection number.
        connection: u64,
        /// Attempt in it.
        attempt: u32,
        /// Its pid; the sender of the statement must be it.
        worker_pid: i32,
        /// The user name as typed, at most 256 bytes without control characters: for the inventory, if nobody passes.
        user: String,
        /// Seconds until the connection's time to log in is over.
        patience_seconds: u64,
    },
    /// An admin connection: Channel<admin::Reply, admin::Request> (one-shot mode).
    NewAdmin,
    /// Whether it still hears; the answer is [`FromSignerControl::Hears`].
    Hears,
    /// A policy instead of the one it has: the descriptor is a file with the `Vec<PolicyText>`, postcard-encoded. The answer is [`FromSignerControl::PolicyTaken`] or [`FromSignerControl::PolicyKept`].
    NewPolicy,
    /// What the policy would say to this; of [`SideJob::Judge`] alone, and without a descriptor.
    Judge(Box<Supposed>),
    /// As [`Control::NewWorker`], but this worker authenticates nobody: its statement says that there is such an account, and that it may log in.
    NewLookup {
        /// Connection number.
        connection: u64,
        /// Attempt in it; they are counted together.
        attempt: u32,
        /// Its pid; the sender of the statement must be it.
        worker_pid: i32,
        /// The user name as typed, at most 256 bytes without control characters: for the inventory, if nobody passes.
        user: String,
        /// Seconds until the connection's time to log in is over.
        patience_seconds: u64,
    },
}

/// Signer → supervisor, when it is ready or has an answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSignerControl {
    /// Keys loaded, inventory open, policy read, sandbox entered.
    Ready,
    /// The answer to [`Control::Hears`].
    Hears,
    /// It cannot serve; why. It exits after this.
    Failed(String),
    /// Another signer is at work on this state. It exits after this.
    Busy(String),
    /// A user or a group that the policy names. Of `only_policy`, any number of times.
    PolicyName {
        /// A group, else a user.
        is_group: bool,
        /// Its name.
        name: String,
        /// Where it stands first, for people: file, line and rule.
        place: String,
    },
    /// What an administrator should look at in the policy. Of `only_policy`, any number of times.
    PolicyWarning(String),
    /// The policy is good, and all was said of it. It exits after this.
    PolicyGood,
    /// The new policy is in force.
    PolicyTaken,
    /// The new policy is no good; why. The old one stays in force.
    PolicyKept(String),
    /// A key is encrypted, and no passphrase that came along opens it. It exits after this.
    NeedsPassphrase {
        /// Its file.
        key: String,
        /// There was one, and it was wrong.
        wrong: bool,
    },
    /// Something was revoked, or a revocation lifted: hosts should know of it.
    Changed,
    /// The inventory was copied and the copy is whole. It exits after this.
    Copied {
        /// How long it is.
        bytes: u64,
        /// How many rows of certificates and refusals it holds.
        rows: u64,
    },
    /// The answer to [`Control::Judge`], or a word in it that policy does not know.
    Judged(Result<Box<Explained>, String>),
    /// Somebody has proved who they are on this connection: it does not count as one that waits to log in any more.
    LoggedIn {
        /// Connection number.
        connection: u64,
    },
    /// A connection got what is for everybody, and so came for something.
    Served {
        /// Connection number.
        connection: u64,
    },
    /// What it has done since it started. It comes before each [`FromSignerControl::Hears`].
    Counts(Counts),
    /// Why CA keys sign nothing, or nothing that is taken, a sentence each; all of it, whenever it has changed. It comes before [`FromSignerControl::Hears`].
    KeyTroubles(Vec<String>),
    /// Why nothing can be written to the inventory, so that nobody gets a certificate; `None`: it can again. Whenever it has changed; it comes before [`FromSignerControl::Hears`].
    InventoryTrouble(Option<String>),
}

/// What a signer that was started says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// [`FromSignerControl::Ready`]
    Ready,
    /// [`FromSignerControl::NeedsPassphrase`]
    NeedsPassphrase {
        /// Its file.
        key: String,
        /// There was one, and it was wrong.
        wrong: bool,
    },
    /// [`FromSignerControl::Failed`]
    Failed(String),
    /// [`FromSignerControl::Busy`]
    Busy(String),
    /// Anything else: it spoke out of turn.
    OutOfTurn,
}

impl From<FromSignerControl> for Started {
    fn from(said: FromSignerControl) -> Self {
        match said {
            FromSignerControl::Ready => Started::Ready,
            FromSignerControl::NeedsPassphrase { key, wrong } => Started::NeedsPassphrase { key, wrong },
            FromSignerControl::Failed(why) => Started::Failed(why),
            FromSignerControl::Busy(why) => Started::Busy(why),
            FromSignerControl::Hears
            | FromSignerControl::PolicyName { .. }
            | FromSignerControl::PolicyWarning(_)
            | FromSignerControl::PolicyGood
            | FromSignerControl::PolicyTaken
            | FromSignerControl::PolicyKept(_)
            | FromSignerControl::Copied { .. }
            | FromSignerControl::Judged(_)
            | FromSignerControl::LoggedIn { .. }
            | FromSignerControl::Served { .. }
            | FromSignerControl::Counts(_)
            | FromSignerControl::KeyTroubles(_)
            | FromSignerControl::InventoryTrouble(_)
            | FromSignerControl::Changed => Started::OutOfTurn,
        }
    }
}

/// What a signer has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Certificates for users.
    pub issued_user: u64,
    /// Certificates for hosts.
    pub issued_host: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// When the last certificate was issued, seconds since the epoch; 0: none was.
    pub last_issued: u64,
}
