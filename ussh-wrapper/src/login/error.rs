//! Why there is no new certificate, in words for the user, and what follows from it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ussh_core::clock::{Clock, SystemClock};

use super::heard::LIMITS;
use super::known_hosts::KnownHostsError;
use super::{HostKeyTrouble, Missing, Prompting, Skew, down};
use crate::config::{CA_VARIABLE, CaAddress, SYSTEM_FILE};
use crate::exec::ExecError;
use crate::guard::{GuardError, HomeError};
use crate::status::duration;
use crate::user_agent::AgentProblem;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Nobody to ask.
    #[error("no CA is configured ({CA_VARIABLE}, or `ca` in {SYSTEM_FILE})")]
    NoCa,
    /// The CA could not prove itself.
    #[error("{0}")]
    KnownHosts(#[from] KnownHostsError),
    /// It takes no connection, or is mute.
    #[error("the CA {ca} does not answer: {reason}")]
    NoAnswer {
        /// The CA.
        ca: CaAddress,
        /// In ssh's words.
        reason: String,
    },
    /// It took the connection, and then was silent for too long.
    #[error("the CA {ca} was silent for {}, and is not waited for any longer", duration(LIMITS.silence.as_secs()))]
    Silent {
        /// The CA.
        ca: CaAddress,
    },
    /// The same of several.
    #[error("none of the CAs answers: {0}")]
    NoneAnswers(String),
    /// It did not answer a moment ago, and nobody waits for it anew.
    #[error("the CA {ca} did not answer {} ago, and is asked again in {}", duration(*ago), duration(down::LEFT_ALONE_SECONDS.saturating_sub(*ago)))]
    LeftAlone {
        /// The CA.
        ca: CaAddress,
        /// In seconds.
        ago: u64,
    },
    /// What answers has not proved to be the CA.
    #[error("{}", not_proven(ca, trouble, known_hosts))]
    NotProven {
        /// The CA.
        ca: CaAddress,
        /// What is wrong with its proof.
        trouble: HostKeyTrouble,
        /// The file by which the CA is known.
        known_hosts: PathBuf,
    },
    /// What answers has a host certificate, and is another program.
    #[error("what answers as the CA {ca} is no CA: it announces itself as {program}, and not as usshca")]
    NoUsshca {
        /// The CA.
        ca: CaAddress,
        /// As it has announced itself.
        program: String,
    },
    /// No ssh.
    #[error("{0}")]
    Ssh(#[from] ExecError),
    /// The guarded agent could not be set up or broke.
    #[error("{0}")]
    Guard(#[from] GuardError),
    /// The user's agent is gone.
    #[error("{0}")]
    Agent(#[from] AgentProblem),
    /// `ssh` to the CA failed and no certificate came.
    #[error("the login at the CA {ca} as {user} failed: {}", failed(*denied, *prompting, said))]
    Failed {
        /// The CA.
        ca: CaAddress,
        /// The name used there.
        user: String,
        /// The CA let nobody in: its answer, not an end of the connection.
        denied: bool,
        /// The last that ssh said, or how it ended.
        said: String,
        /// Whether somebody could be asked.
        prompting: Prompting,
    },
    /// The CA let the user in, but gave no certificate; it says why itself.
    #[error("the CA {ca} let {user} in, but gave no certificate")]
    NotGiven {
        /// The CA.
        ca: CaAddress,
        /// The name used there.
        user: String,
        /// It wants a reason.
        wants_reason: bool,
    },
    /// The CA was content, but no good certificate is in the agent.
    #[error("the CA {ca} was content, but no good certificate has come{reason}")]
    NothingCame {
        /// The CA.
        ca: CaAddress,
        /// Empty, or why one that came was not taken.
        reason: String,
        /// Whether that one was for another account.
        somebody_elses: bool,
        /// How far this machine's clock is from the CA's.
        skew: Option<Skew>,
    },
    /// The user's agent would not have it.
    #[error("the agent at {path} ({program}) did not take the certificate of the CA {ca}: {reason}")]
    AgentRefused {
        /// The CA.
        ca: CaAddress,
        /// The agent's socket.
        path: String,
        /// Its program.
        program: String,
        /// What it said.
        reason: String,
    },
    /// It could not be written to files.
    #[error("the certificate of the CA {ca} could not be kept: {reason}")]
    NotKept {
        /// The CA.
        ca: CaAddress,
        /// Why not.
        reason: String,
        /// The certificate is for a key of the user's own.
        own_key: bool,
    },
    /// Somebody else asked for us, and got none.
    #[error("another ussh has asked in the meantime: {0}")]
    Shared(String),
    /// Somebody else asked for us, and no CA was to be had.
    #[error("another ussh has asked in the meantime: {0}")]
    SharedCaFailure(String),
    /// Somebody else asks, and gets no answer.
    #[error("another ussh has been asking for a certificate for {} minutes, and nobody answers it", .0.as_secs() / 60)]
    WaitedInVain(Duration),
    /// The file by which one waits for another.
    #[error("{0}")]
    Line(HomeError),
    /// The user, or somebody else, wants us to end.
    #[error("interrupted")]
    Interrupted(i32),
}

impl From<io::Error> for LoginError {
    fn from(error: io::Error) -> Self {
        LoginError::Guard(error.into())
    }
}

impl LoginError {
    /// Whether another who asked the same at the same moment would get the same answer.
    pub fn concerns_all(&self) -> bool {
        match self {
            LoginError::NoAnswer { .. }
            | LoginError::Silent { .. }
            | LoginError::NoneAnswers(_)
            | LoginError::NotProven { .. }
            | LoginError::NoUsshca { .. }
            | LoginError::Failed { .. }
            | LoginError::NotGiven { .. }
            | LoginError::NothingCame { .. }
            | LoginError::AgentRefused { .. }
            | LoginError::NotKept { .. } => true,
            LoginError::NoCa
            | LoginError::KnownHosts(_)
            | LoginError::LeftAlone { .. }
            | LoginError::Ssh(_)
            | LoginError::Guard(_)
            | LoginError::Agent(_)
            | LoginError::Shared(_)
            | LoginError::SharedCaFailure(_)
            | LoginError::WaitedInVain(_)
            | LoginError::Line(_)
            | LoginError::Interrupted(_) => false,
        }
    }
    /// What is missing to ask anybody, if that is why.
    pub fn missing(&self) -> Option<Missing> {
        if let LoginError::Failed { prompting: Prompting::Impossible(missing), .. } = self {
            Some(*missing)
        } else {
            None
        }
    }
    /// Whether the login came to no session at the CA, so that nothing was done there.
    pub fn is_before_the_session(&self) -> bool {
        (self.is_ca_failure() && !matches!(self, LoginError::Silent { .. }))
            || matches!(
                self,
                LoginError::NoCa
                    | LoginError::KnownHosts(_)
                    | LoginError::Ssh(_)
                    | LoginError::Failed { denied: true, .. }
            )
    }
    /// Whether a certificate had no place here: nothing of the CA's.
    pub fn is_no_place(&self) -> bool {
        match self {
            LoginError::AgentRefused { .. }
            | LoginError::NotKept { .. }
            | LoginError::Line(_)
            | LoginError::Guard(_) => true,
            LoginError::Agent(problem) => problem.is_no_place(),
            LoginError::NoCa
            | LoginError::KnownHosts(_)
            | LoginError::NoAnswer { .. }
            | LoginError::Silent { .. }
            | LoginError::NoneAnswers(_)
            | LoginError::LeftAlone { .. }
            | LoginError::NotProven { .. }
            | LoginError::NoUsshca { .. }
            | LoginError::Ssh(_)
            | LoginError::Failed { .. }
            | LoginError::NotGiven { .. }
            | LoginError::NothingCame { .. }
            | LoginError::Shared(_)
            | LoginError::SharedCaFailure(_)
            | LoginError::WaitedInVain(_)
            | LoginError::Interrupted(_) => false,
        }
    }
    /// Whether the fault lies with the CA or the way there, and not with what was asked of it or what it decided.
    pub fn is_ca_failure(&self) -> bool {
        matches!(
            self,
            LoginError::NoAnswer { .. }
                | LoginError::Silent { .. }
                | LoginError::NoneAnswers(_)
                | LoginError::LeftAlone { .. }
                | LoginError::NotProven { .. }
                | LoginError::NoUsshca { .. }
                | LoginError::SharedCaFailure(_)
        )
    }
}

/// ssh's exit status says nothing to a person.
fn failed(denied: bool, prompting: Prompting, said: &str) -> String {
    match (denied, prompting) {
        (true, Prompting::Possible) => "it did not take the answers (wrong password or code)".to_owned(),
        (true, Prompting::ByProgram) => {
            "it did not take the answers (wrong password or code) of the program that asks (SSH_ASKPASS)".to_owned()
        }
        (true, Prompting::Impossible(_)) => "it has questions, and nobody can be asked".to_owned(),
        (false, _) => said.to_owned(),
    }
}

/// What it means. Until the CA has proved itself ssh sends it nothing but the user's name.
fn not_proven(ca: &CaAddress, trouble: &HostKeyTrouble, known_hosts: &Path) -> String {
    let clock = || {
        let now = std::time::UNIX_EPOCH + Duration::from_secs(SystemClock.now().0);
        format!("by this machine's clock, which says {}", humantime::format_rfc3339_seconds(now))
    };
    let file = known_hosts.display();
    match trouble {
        HostKeyTrouble::NoCertificate => format!(
            "what answers as the CA {ca} has no host certificate: another machine has its address, or the CA's host key was changed and not certified"
        ),
        HostKeyTrouble::Expired => format!("the host certificate of the CA {ca} has expired {}", clock()),
        HostKeyTrouble::NotYetValid => {
            format!("the host certificate of the CA {ca} is not valid yet {}", clock())
        }
        HostKeyTrouble::OtherName => format!(
            "what answers as the CA {ca} has a host certificate for another name: another of your hosts has its address, or `ca` is not the name that is certified"
        ),
        HostKeyTrouble::OtherCa => format!(
            "the host certificate of what answers as the CA {ca} is not signed by a key in {file}: somebody stands in between, or your host CA has another key now"
        ),
        HostKeyTrouble::Revoked => {
            format!("the host key of what answers as the CA {ca} is marked as revoked in {file}")
        }
    }
}
