//! The PAM worker's side: with the front (the conversation) and with the signer (the statement).

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// Descriptors that the supervisor gives a worker, by number.
pub mod descriptors {
    /// Channel<FromWorker, ToWorker>.
    pub const FRONT: i32 = 3;
    /// Channel<Spoken, StatementReply>.
    pub const SIGNER: i32 = 4;
    /// A pipe with a [`super::WorkerSetup`], postcard-encoded, read to its end.
    pub const SETUP: i32 = 5;
    /// The writing end of a pipe: what the process and PAM's modules say on stdout and stderr goes here. The supervisor escapes each line and writes it to its own log.
    pub const LOG: i32 = 6;
}

/// What a worker is told when it starts.
#[derive(Serialize, Deserialize)]
pub struct WorkerSetup {
    /// Connection number.
    pub connection: u64,
    /// Attempt in it, from 1.
    pub attempt: u32,
    /// User name as typed.
    pub user: String,
    /// PAM service (`usshca`).
    pub service: String,
    /// PAM_RHOST: the peer's address.
    pub rhost: String,
    /// Seconds after which the worker ends itself, if nobody has killed it by then.
    pub deadline_seconds: u32,
    /// Folder of the service's stack instead of PAM's own; only where an ordinary user runs the CA.
    pub pam_folder: Option<String>,
    /// Otherwise nothing is asked of PAM, which would leave it to the service `other`, and nobody is let in.
    pub may_ask_pam: bool,
    /// Only whether the account may log in now, and its groups: nobody is authenticated. The signer knows from the supervisor that it is so.
    pub lookup: bool,
}

/// One PAM message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// PAM_PROMPT_ECHO_OFF.
    PromptEchoOff(String),
    /// PAM_PROMPT_ECHO_ON.
    PromptEchoOn(String),
    /// PAM_TEXT_INFO.
    Info(String),
    /// PAM_ERROR_MSG.
    Error(String),
}

/// Worker → front. Nothing follows after `Passed` or `Failed`; an end without either means that the worker broke down.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker {
    /// One conv() call: show all, answer the prompts. Without a prompt among them it is not answered: the worker goes on at once.
    Converse(Vec<Message>),
    /// PAM said yes and the signer has the statement.
    Passed {
        /// Canonical account name, for the user's eyes only: what is certified comes from the statement.
        user: String,
    },
    /// PAM said no (the front is told no more than that).
    Failed {
        /// True: the check could not be made (PAM or the signer is out of order).
        unavailable: bool,
    },
}

/// Front → worker: one answer per prompt, in order. Wiped on drop.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
pub struct ToWorker {
    /// The answers.
    pub answers: Vec<String>,
}

impl Drop for ToWorker {
    fn drop(&mut self) {
        self.answers.iter_mut().for_each(Zeroize::zeroize);
    }
}

impl std::fmt::Debug for ToWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ToWorker({} answers)", self.answers.len())
    }
}

/// Worker → signer, once. The signer takes it only from a sender whose uid the kernel attests (root, or the CA's own uid when all of it runs as one ordinary user) and whose pid is the
/// worker's that the supervisor announced. A worker that ends without a word has broken down, and its attempt is refused as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spoken {
    /// PAM said yes. It is answered.
    Passed(Statement),
    /// PAM did not say yes: for the inventory, and before the front hears of it. It is not answered.
    Refused(PamRefusal),
}

/// Why PAM did not say yes, in words that do not change: the whole text is in the worker's line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PamRefusal {
    /// PAM_AUTH_ERR, and every other no of `pam_authenticate`: a wrong password, likely.
    Authentication,
    /// PAM_USER_UNKNOWN.
    UnknownUser,
    /// PAM_MAXTRIES.
    TooManyTries,
    /// PAM_ACCT_EXPIRED.
    AccountExpired,
    /// Every other no of `pam_acct_mgmt`.
    Account,
    /// PAM_NEW_AUTHTOK_REQD or PAM_AUTHTOK_EXPIRED, and it was not to be changed.
    PasswordExpired,
    /// `pam_chauthtok` said no.
    PasswordNotChanged,
    /// Whoever was asked had gone.
    Left,
    /// It could not be found out.
    Unavailable,
    /// PAM let in somebody whom NSS does not know.
    NoAccount,
}

/// This account passed authentication *and* account management just now; from a worker that only looks up (`signer::Control::NewLookup`), account management alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Canonical account name (pw_name of PAM_USER after PAM).
    pub user: String,
    /// Its uid.
    pub uid: u32,
    /// Its groups by name, through NSS.
    pub groups: Vec<String>,
}

/// Signer → worker.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StatementReply {
    /// Kept for one issue on this connection.
    Kept,
    /// Not taken.
    Rejected,
}
