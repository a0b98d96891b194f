//! `bind_session`: sudo takes a certificate of the lineage that opened the very connection in which it was typed, from that connection's agent, and no other.
//!
//! Trusted: which process descends from which, and who holds a socket, by the kernel's word; the records of sshd's connections, which are root's. Untrusted: the environment, names of
//! processes, numbers that SO_PEERCRED gives, paths of sockets, and what the user's other connections and programs do meanwhile.
//!
//! A process belongs to the login whose monitor (the process of sshd's that ran open_session, and wrote the record) it descends from. A user brings that about in one way only: by starting
//! it there. What has left its login (forked twice: tmux, screen, at, a service) belongs to none, and is told to go where a login is known.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::path::Path;

use ussh_core::certificate::Certificate;
use ussh_core::escape::{MAX_FIELD, escape};
use ussh_core::record::{RecordError, SessionRecord};
use ussh_core::trusted_file::{TrustedFileError, demand_trusted_folder};
use ussh_core::verdict::VerifiedCertificate;
use ussh_os::agent_socket::Peer;
use ussh_os::process_tree::{HeldProcess, NoAncestors, ProcessId, find_ancestor, shares_pid_namespace};
use ussh_os::sshd_connection::{NotCarried, carrier_of, looks_like_monitor};

use crate::answer::Denial;
use crate::caller::shown;
use crate::options::AuthOptions;
use crate::records::{self, Found};

/// The connection of sshd's that this process descends from, and the certificate that opened it.
#[derive(Debug)]
pub struct Login {
    monitor: HeldProcess,
    certificate: Certificate,
    /// The sshd process that carries the agent, and our end of that connection, by its inode.
    carrier: RefCell<Option<(u32, HeldProcess)>>,
}

/// Why something is not of the caller's own login.
#[derive(Debug, thiserror::Error)]
pub enum Unbound {
    /// No process above this one has a record: its login has ended, or it has left it, or there was none.
    #[error("this process descends from no live login that is recorded: {0}")]
    NoLogin(String),
    /// It is of a connection, which has no record, nor has any that came after it: nobody writes them.
    #[error(
        "this process descends from no live login that is recorded: {0}; {1} is the sshd of a connection that is not: is our session line in sshd's stack (`pam-ussh-check --stack /etc/pam.d/*`)?"
    )]
    NotRecorded(String, ProcessId),
    /// sudo to another account, and sudo there.
    #[error("the login that this process descends from ({0}) is of uid {1}")]
    OtherUser(ProcessId, u32),
    /// Password, or a plain key (break-glass).
    #[error("the login that this process descends from ({0}) was made without a certificate")]
    WithoutCertificate(ProcessId),
    /// Its certificate names nobody.
    #[error("the certificate of the login that this process descends from ({0}) has an empty key ID")]
    Nameless(ProcessId),
    /// An agent of this host, of another login, or somebody in the place of the login's own.
    #[error("agent: {path}: not that of the login of {monitor}: {why}")]
    OtherAgent {
        /// The socket, escaped.
        path: String,
        /// The login's.
        monitor: ProcessId,
        /// What is there in its place.
        why: NotCarried,
    },
    /// While the agent was asked.
    #[error("the login that this process descends from ({0}) has ended")]
    Ended(ProcessId),
}

impl Unbound {
    /// One sentence and what to try.
    pub fn user_text(&self) -> &'static str {
        match self {
            Unbound::NoLogin(_) | Unbound::OtherUser(..) | Unbound::Ended(_) => {
                "This shell does not belong to a login that is known: open a new one (ssh -A, ussh) and run this there, outside of an older tmux or screen."
            }
            Unbound::NotRecorded(..) => {
                "This host keeps no record of its logins, and this needs one: please tell its administrator (pam-ussh-check --stack /etc/pam.d/* says what is missing)."
            }
            Unbound::WithoutCertificate(_) | Unbound::Nameless(_) => {
                "This login was made without a certificate of yours: open a new one with \"ussh\", or \"ssh -A\", and run this there."
            }
            Unbound::OtherAgent { .. } => {
                "The SSH agent of this shell is not that of its own login: unset SSH_AUTH_SOCK, or open a new login (ssh -A, ussh), and run this there."
            }
        }
    }
}

/// That certificate and agent are those of the caller's own login, or that the line does not ask for that. Made in this module only.
#[derive(Debug)]
#[must_use]
pub struct Bond(Kind);

#[derive(Debug)]
enum Kind {
    NotDemanded,
    Of { login: ProcessId, certificate_digest: [u8; 32] },
}

impl Bond {
    /// Where the line does not ask for one.
    /// # Errors
    /// [`Denial::Unavailable`]: it does.
    pub fn unless_demanded(options: &AuthOptions) -> Result<Self, Denial> {
        if options.bind_session {
            return Err(Denial::Unavailable("bind_session=yes, and no login was looked for".into()));
        }
        Ok(Bond(Kind::NotDemanded))
    }

    /// Whether it is for this certificate.
    pub fn is_for(&self, certificate: &VerifiedCertificate) -> bool {
        match &self.0 {
            Kind::NotDemanded => true,
            Kind::Of { certificate_digest, .. } => *certificate_digest == certificate.certificate().digest(),
        }
    }

    /// The login that it is of.
    pub fn login(&self) -> Option<ProcessId> {
        match self.0 {
            Kind::NotDemanded => None,
            Kind::Of { login, .. } => Some(login),
        }
    }
}

impl Login {
    /// That of this very process, which acts for `uid`.
    /// # Errors
    /// [`Denial`]
    pub fn of_this_process(uid: u32, spool: &Path) -> Result<Self, Denial> {
        demand_spool(spool)?;
        let found = find_ancestor(|above| match records::read(spool, above) {
            Ok(Found::Live(record)) => Ok(Some(record)),
            Ok(Found::Nothing) => Ok(None),
            Err(error) => Err(NotFound::Record(above, error)),
        });
        let (monitor, record) = found?.ok_or_else(|| {
            no_login(spool, "none of the processes above it is the sshd of a recorded connection".into())
        })?;
        Login::of_record(monitor, &record, uid)
    }

    fn of_record(monitor: ProcessId, record: &SessionRecord, uid: u32) -> Result<Self, Denial> {
        let held = HeldProcess::open(monitor).map_err(|_| Unbound::Ended(monitor))?;
        // Of another namespace than this one's it would be a stranger's number.
        match shares_pid_namespace(monitor.pid) {
            Ok(true) => {}
            Ok(false) => return Err(Unbound::NoLogin(NoAncestors::OtherNamespace.to_string()).into()),
            Err(error) => return Err(Denial::Unavailable(format!("pid namespace of {monitor}: {error}"))),
        }
        if record.uid != uid {
            return Err(Unbound::OtherUser(monitor, record.uid).into());
        }
        let line = record.certificate.as_deref().ok_or(Unbound::WithoutCertificate(monitor))?;
        let certificate = Certificate::from_openssh(line)
            .map_err(|error| Denial::Unavailable(format!("certificate in the record of {monitor}: {error}")))?;
        if certificate.key_id().is_empty() {
            return Err(Unbound::Nameless(monitor).into());
        }
        Ok(Login { monitor: held, certificate, carrier: RefCell::new(None) })
    }

    /// The process that ran its open_session.
    pub fn monitor(&self) -> ProcessId {
        self.monitor.id
    }

    /// For those who look closely.
    pub fn shown(&self) -> String {
        format!("ID \"{}\" of {}", escape(self.certificate.key_id(), MAX_FIELD), self.monitor.id)
    }

    /// Why a certificate of another lineage does not do.
    pub fn other_lineage(&self) -> String {
        let (key_id, ca) = (escape(self.certificate.key_id(), MAX_FIELD), self.certificate.ca());
        format!("not of the lineage of this login: ID \"{key_id}\" of CA {}", ca.fingerprint())
    }

    /// Whether it is one of the CA and the key ID that opened the login.
    pub fn includes(&self, certificate: &Certificate) -> bool {
        certificate.same_lineage(&self.certificate)
    }

    /// Whether what we are connected to by our socket `mine`, at `path`, is the agent that the login's own sshd carries. To be called before anything is said there.
    /// # Errors
    /// [`Unbound::OtherAgent`]
    pub fn demand_agent(&self, path: &Path, peer: Peer, mine: u32) -> Result<(), Unbound> {
        if self.carries(mine) {
            return Ok(());
        }
        match carrier_of(&self.monitor, peer, mine) {
            Ok(sshd) => {
                self.carrier.replace(Some((mine, sshd)));
                Ok(())
            }
            Err(why) => Err(Unbound::OtherAgent { path: shown(path), monitor: self.monitor.id, why }),
        }
    }

    /// Whether the other end of our socket is held by an sshd process of this login's, which has lived ever since it was found to be.
    fn carries(&self, mine: u32) -> bool {
        let carrier = self.carrier.borrow();
        let is_known = carrier.as_ref().is_some_and(|(inode, sshd)| *inode == mine && !sshd.has_ended());
        is_known && !self.monitor.has_ended()
    }

    /// After the proof, which came by our socket `mine`.
    /// # Errors
    /// [`Denial`]
    pub fn bond(&self, certificate: &VerifiedCertificate, mine: u32) -> Result<Bond, Denial> {
        if !self.carries(mine) {
            return Err(Unbound::Ended(self.monitor.id).into());
        }
        self.bond_of(certificate)
    }

    /// For a proof that `auth` has made, by the login with this process, in the same handle. `None`: it is none of this login.
    pub fn bond_kept(&self, certificate: &VerifiedCertificate, login: Option<ProcessId>) -> Option<Bond> {
        let is_this = login == Some(self.monitor.id) && !self.monitor.has_ended();
        if is_this { self.bond_of(certificate).ok() } else { None }
    }

    fn bond_of(&self, certificate: &VerifiedCertificate) -> Result<Bond, Denial> {
        if !self.includes(certificate.certificate()) {
            return Err(Denial::of_other_lineage(certificate.certificate().clone(), 0, self));
        }
        let certificate_digest = certificate.certificate().digest();
        Ok(Bond(Kind::Of { login: self.monitor.id, certificate_digest }))
    }
}

/// Why there is no login to be found.
enum NotFound {
    Above(NoAncestors),
    Record(ProcessId, RecordError),
}

impl From<NoAncestors> for NotFound {
    fn from(why: NoAncestors) -> Self {
        NotFound::Above(why)
    }
}

impl From<NotFound> for Denial {
    fn from(why: NotFound) -> Self {
        match why {
            NotFound::Above(NoAncestors::Unreadable(error)) => Denial::Unavailable(format!("/proc: {error}")),
            NotFound::Above(why) => Unbound::NoLogin(why.to_string()).into(),
            NotFound::Record(above, error) => Denial::Unavailable(format!("record of {above}: {error}")),
        }
    }
}

impl From<Unbound> for Denial {
    fn from(why: Unbound) -> Self {
        Denial::Unbound(Box::new(why))
    }
}

/// No record was found. Where this is a login all the same, and none that came later has one, a new one would be no better.
fn no_login(spool: &Path, why: String) -> Unbound {
    let sshd = find_ancestor(|above| Ok::<_, NoAncestors>(looks_like_monitor(above.pid).then_some(())));
    match sshd {
        Ok(Some((sshd, ()))) if !records::is_any_newer(spool, sshd) => Unbound::NotRecorded(why, sshd),
        _ => Unbound::NoLogin(why),
    }
}

/// Records are root's word only where nobody else can put one.
fn demand_spool(spool: &Path) -> Result<(), Denial> {
    demand_trusted_folder(spool).map_err(|error| {
        if matches!(&error, TrustedFileError::Io { source, .. } if source.kind() == ErrorKind::NotFound) {
            return no_login(spool, format!("no connection is recorded in {}", spool.display())).into();
        }
        Denial::Unavailable(format!("records: {error}"))
    })
}

/// Whether the records are there, and not for this process to read: it cannot tell which login it is of.
pub fn is_hidden(spool: &Path) -> bool {
    std::fs::read_dir(spool).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
