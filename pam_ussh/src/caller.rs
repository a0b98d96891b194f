//! Who asks, and through which of this person's agents.
//!
//! The environment only hints where to ask: the connection is made with the caller's own rights and only to a process of the caller's own. Where it leads nowhere (tmux and
//! screen keep the name of a socket that went with its connection), the caller's live sessions are searched for a forwarded agent: see `search`.

use std::cell::{Cell, OnceCell};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ussh_core::agent::{Agent, AgentError};
use ussh_core::certificate::Certificate;
use ussh_core::decision::Reconnect;
use ussh_core::escape::{MAX_FIELD, escape_word};
use ussh_core::record::SPOOL;
use ussh_os::account::Account;
use ussh_os::agent_socket::{ConnectError, Connecting, Peer, connect_as, start_connecting};
use ussh_os::pam_module::environ_variable;
use ussh_os::process;
use ussh_os::unix_diag::inode_of;

use crate::answer::{Denial, Subject};
use crate::login::Login;
use crate::options::AuthOptions;
use crate::origin::AgentOrigin;
use crate::records;
use crate::search::search;

/// The person on this side: the real user of the process that called PAM.
pub struct Caller<'a> {
    pub(crate) uid: u32,
    gid: u32,
    groups: Vec<u32>,
    /// Where to ask first.
    pub(crate) socket: Option<PathBuf>,
    pub(crate) searches: bool,
    /// Whether only the agent of the login counts that this process descends from.
    binds: bool,
    /// That login, once it was looked for.
    login: OnceCell<Login>,
    timeout: Duration,
    /// Where records lie.
    pub(crate) spool: &'a Path,
    /// What is told of it.
    pub(crate) debug: &'a dyn Fn(&str),
    /// The connection to `socket`, where it was begun early.
    early: Cell<Option<Early>>,
}

/// What is done of the talk with the first agent while other things are looked at.
struct Early {
    since: Instant,
    stage: Stage,
}

enum Stage {
    Connecting(Result<Connecting, ConnectError>),
    Listing(Result<Connection, ConnectError>),
}

/// A connection, and the time that is left for it.
struct Connection {
    agent: Agent,
    peer: Peer,
    inode: io::Result<u32>,
    left: Duration,
}

/// A connected agent, and what may be asked of it.
pub struct Reached<'a> {
    /// The agent.
    pub agent: Agent,
    /// For all talk with it but signatures.
    pub left: Duration,
    /// Where it is.
    pub origin: AgentOrigin<'a>,
    /// Whose certificates count.
    pub whose: Whose<'a>,
    /// The login whose agent this is, where the line asks for one.
    pub login: Option<&'a Login>,
    /// A new connection to the very same agent, after one that broke or hung.
    pub reconnect: &'a Reconnect<'a>,
}

/// Whose certificates may be used from an agent.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// Whatever the verdict takes: the caller named this agent himself.
    Anybodys,
    /// Those with this key ID: the agent was searched for.
    Of(&'a [u8]),
    /// Those of the lineage that opened this login.
    OfLogin(&'a Login),
}

impl Whose<'_> {
    /// Whether this certificate is one.
    pub fn includes(&self, certificate: &Certificate) -> bool {
        match self {
            Whose::Anybodys => true,
            Whose::Of(key_id) => certificate.key_id() == *key_id,
            Whose::OfLogin(login) => login.includes(certificate),
        }
    }

    /// Why another one does not count.
    pub fn others(&self) -> String {
        match self {
            Whose::Anybodys => String::new(),
            Whose::Of(_) => "not the key ID of this account's sessions".into(),
            Whose::OfLogin(login) => login.other_lineage(),
        }
    }
}

/// Why a question to one agent came to nothing.
#[derive(Debug)]
pub enum NoAnswer {
    /// The agent gave none.
    Agent(AgentError),
    /// It did, and it was no.
    Denied(Denial),
}

/// Why one socket led to nothing.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Nobody answers there: another socket may lead to the agent that was meant.
    pub(crate) is_dead: bool,
    pub(crate) denial: Denial,
}

impl<'a> Caller<'a> {
    /// Finds out.
    /// # Errors
    /// [`Denial`]
    pub fn find(options: &AuthOptions, subject: &Subject, debug: &'a dyn Fn(&str)) -> Result<Self, Denial> {
        let uid = process::real_uid();
        if uid == 0 {
            demand_root_in_person(subject)?;
        }
        let socket = options
            .agent_socket
            .clone()
            .or_else(|| environ_variable("SSH_AUTH_SOCK").filter(|value| !value.is_empty()).map(PathBuf::from));
        let groups = process::groups().map_err(|error| Denial::Unavailable(format!("groups: {error}")))?;
        Ok(Caller {
            uid,
            gid: process::real_gid(),
            groups,
            socket,
            searches: options.agent_search,
            binds: options.bind_session,
            login: OnceCell::new(),
            timeout: options.timeout,
            spool: Path::new(SPOOL),
            debug,
            early: Cell::new(None),
        })
    }

    /// Begins to connect to the agent that is asked first, while something else is done. Its time runs from here on. If the question is never put, the agent sees a connection that
    /// ends, as any user can make one.
    pub fn connect_early(self) -> Self {
        if let Some(path) = &self.socket {
            let since = Instant::now();
            let stage = Stage::Connecting(start_connecting(self.uid, self.gid, &self.groups, path));
            self.early.set(Some(Early { since, stage }));
        }
        self
    }

    /// Looks for the login that this process descends from, where the line asks for that.
    /// # Errors
    /// [`Denial`]
    pub fn find_login(self) -> Result<Self, Denial> {
        self.login()?;
        Ok(self)
    }

    fn login(&self) -> Result<Option<&Login>, Denial> {
        match (self.binds, self.login.get()) {
            (false, _) => Ok(None),
            (true, Some(login)) => Ok(Some(login)),
            (true, None) => {
                let login = Login::of_this_process(self.uid, self.spool)?;
                (self.debug)(&format!("this login is {}", login.shown()));
                Ok(Some(self.login.get_or_init(|| login)))
            }
        }
    }

    /// Once it is connected: asks it what it holds, so that it looks while something else is done.
    pub fn list_early(self) -> Self {
        if let Some(Early { since, stage: Stage::Connecting(connecting) }) = self.early.take() {
            let (begun, share) = (Instant::now(), self.first_share(since));
            let connected = connecting.and_then(|connecting| connecting.finish(begun + share));
            let left = share.saturating_sub(begun.elapsed());
            let mut connection = connected.map(|connected| Connection::new(connected, left));
            if let Ok(connection) = &mut connection
                && self.may_ask(connection)
            {
                connection.agent.ask_to_list();
            }
            self.early.set(Some(Early { since, stage: Stage::Listing(connection) }));
        }
        self
    }

    /// Whether it is the agent that counts, as far as that is known by now: another one is told nothing.
    fn may_ask(&self, connection: &Connection) -> bool {
        match (self.login(), &self.socket, &connection.inode) {
            (Ok(None), ..) => true,
            (Ok(Some(login)), Some(path), Ok(mine)) => login.demand_agent(path, connection.peer, *mine).is_ok(),
            _ => false,
        }
    }

    /// A connection that was lost unnoticed leaves a socket that takes everything and gives nothing: half of the time is for what may have come after it.
    fn first_share(&self, since: Instant) -> Duration {
        let left = self.timeout.saturating_sub(since.elapsed());
        // Within one login nothing else answers where one of its sockets does not.
        let is_all = !self.searches || self.binds || !records::are_several(self.spool);
        if is_all { left } else { left / 2 }
    }

    /// This user, with `socket` as SSH_AUTH_SOCK.
    #[cfg(test)]
    pub(crate) fn for_test(
        socket: Option<PathBuf>,
        timeout: Duration,
        spool: &'a Path,
        debug: &'a dyn Fn(&str),
    ) -> Self {
        let (uid, gid) = (process::real_uid(), process::real_gid());
        Caller {
            uid,
            gid,
            groups: Vec::new(),
            socket,
            searches: true,
            binds: false,
            login: OnceCell::new(),
            timeout,
            spool,
            debug,
            early: Cell::new(None),
        }
    }

    /// As with `bind_session=yes`.
    #[cfg(test)]
    pub(crate) fn binding(self) -> Self {
        Caller { binds: true, ..self }
    }

    /// Puts the question to the caller's agent; where nobody answers, to those of the caller's live sessions.
    /// # Errors
    /// [`Denial`]: the first one, unless another agent came further.
    pub fn ask<T>(&self, mut question: impl FnMut(&mut Reached<'_>) -> Result<T, NoAnswer>) -> Result<T, Denial> {
        let login = self.login()?;
        let whose = login.map_or(Whose::Anybodys, Whose::OfLogin);
        let early = self.early.take();
        let start = early.as_ref().map_or_else(Instant::now, |early| early.since);
        let left = || self.timeout.saturating_sub(start.elapsed());
        let failed = match &self.socket {
            None => Failed { is_dead: true, denial: Denial::NoAgent },
            Some(path) => {
                (self.debug)(&format!("asking the agent at {}", shown(path)));
                let connection = match early.map(|early| early.stage) {
                    Some(Stage::Listing(connection)) => connection,
                    Some(Stage::Connecting(_)) | None => self.connect(path, self.first_share(start)),
                };
                match self.ask_by(connection, path, (whose, login), |_| true, &mut question) {
                    Ok(answer) => return Ok(answer),
                    Err(failed) => failed,
                }
            }
        };
        if !failed.is_dead {
            return Err(failed.denial);
        }
        if !self.searches {
            (self.debug)("no search: agent_search is off");
            return Err(failed.denial);
        }
        search(self, login, left, failed.denial, &mut question)
    }

    /// Connects to one socket, within `share`, and puts the question if it is the right `peer` that listens.
    pub(crate) fn ask_at<T>(
        &self,
        path: &Path,
        whose: (Whose<'_>, Option<&Login>),
        share: Duration,
        is_right: impl FnOnce(Peer) -> bool,
        question: &mut impl FnMut(&mut Reached<'_>) -> Result<T, NoAnswer>,
    ) -> Result<T, Failed> {
        self.ask_by(self.connect(path, share), path, whose, is_right, question)
    }

    fn connect(&self, path: &Path, share: Duration) -> Result<Connection, ConnectError> {
        let start = Instant::now();
        let connected = connect_as(self.uid, self.gid, &self.groups, path, share)?;
        Ok(Connection::new(connected, share.saturating_sub(start.elapsed())))
    }

    /// Puts the question over a connection to the socket at `path`, if it is the right `peer` that listens.
    fn ask_by<T>(
        &self,
        connection: Result<Connection, ConnectError>,
        path: &Path,
        (whose, login): (Whose<'_>, Option<&Login>),
        is_right: impl FnOnce(Peer) -> bool,
        question: &mut impl FnMut(&mut Reached<'_>) -> Result<T, NoAnswer>,
    ) -> Result<T, Failed> {
        let unreachable = |is_dead: bool, why: &dyn std::fmt::Display| Failed {
            is_dead,
            denial: Denial::AgentUnreachable(format!("{}: {why}", shown(path))),
        };
        let Connection { agent, peer, inode, left } =
            connection.map_err(|error| unreachable(leads_nowhere(&error), &error))?;
        if !is_right(peer) {
            return Err(unreachable(true, &"another process listens there"));
        }
        let inode = Cell::new(inode.map_err(|error| unreachable(false, &error))?);
        if let Some(login) = login {
            let others = login.demand_agent(path, peer, inode.get());
            others.map_err(|why| Failed { is_dead: false, denial: why.into() })?;
        }
        let is_told = Cell::new(false);
        let origin =
            AgentOrigin { uid: self.uid, peer, inode: &inode, spool: self.spool, debug: self.debug, is_told: &is_told };
        let reconnect = |patience| self.reconnect(path, peer, login, &inode, patience);
        let mut reached = Reached { agent, left, origin, whose, login, reconnect: &reconnect };
        question(&mut reached).map_err(|error| match error {
            NoAnswer::Agent(error) => unreachable(is_silence(&error), &error),
            NoAnswer::Denied(denial) => Failed { is_dead: false, denial },
        })
    }

    /// To the one who listened before, and nobody else; the origin is looked for by the connection that is in use.
    fn reconnect(
        &self,
        path: &Path,
        before: Peer,
        login: Option<&Login>,
        inode: &Cell<u32>,
        patience: Duration,
    ) -> Result<Agent, AgentError> {
        let failed = |error: &dyn std::fmt::Display| AgentError::Io(error.to_string());
        let (stream, peer) =
            connect_as(self.uid, self.gid, &self.groups, path, patience).map_err(|error| failed(&error))?;
        if peer != before {
            return Err(failed(&"another process listens there now"));
        }
        let mine = inode_of(&stream).map_err(|error| failed(&error))?;
        if let Some(login) = login {
            login.demand_agent(path, peer, mine).map_err(|why| failed(&why))?;
        }
        inode.set(mine);
        Ok(Agent::new(stream, patience))
    }
}

/// Most bytes of a path in a line of the log, escaped: any path that sun_path has room for (107 bytes, unix(7)) is shown whole.
const MAX_SHOWN: usize = 4 * 107;

/// A path, whatever is in it and of whatever length: no sentence of its own, and the reason behind it always has room in the line of the log.
pub(crate) fn shown(path: &Path) -> String {
    escape_word(path.as_os_str().as_bytes(), MAX_SHOWN)
}

impl Connection {
    fn new((stream, peer): (UnixStream, Peer), left: Duration) -> Self {
        let inode = inode_of(&stream);
        Connection { agent: Agent::new(stream, left), peer, inode, left }
    }
}

/// Nobody is there any more, or never was. A socket that belongs to another user, or may not be used, is not dead: it is the wrong one, and whoever set it shall know.
fn leads_nowhere(error: &ConnectError) -> bool {
    match error {
        ConnectError::Io(error) => matches!(
            error.kind(),
            // ECONNREFUSED: nobody listens, or it is no socket at all (net/unix/af_unix.c `unix_find_bsd`).
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::ConnectionRefused
        ),
        ConnectError::Timeout => true,
        ConnectError::Path | ConnectError::NoChild(_) | ConnectError::WrongPeer(_) => false,
    }
}

/// It broke off, or said nothing in time: sshd does the one when the agent behind it is gone, and the other when the client is.
fn is_silence(error: &AgentError) -> bool {
    match error {
        AgentError::Io(_) | AgentError::Timeout => true,
        AgentError::TooLarge
        | AgentError::Malformed
        | AgentError::Refused
        | AgentError::Interrupted
        | AgentError::Key(_) => false,
    }
}

/// Real uid 0 is root at work, or a daemon that acts for somebody far away, whose agent is not to be found here: a certificate in root's own agent must not speak for
/// that person. sudo, su and doas say who called them (PAM_RUSER), and nobody calls them from afar (PAM_RHOST).
fn demand_root_in_person(subject: &Subject) -> Result<(), Denial> {
    let no_person = || {
        Denial::Misconfigured(format!(
            "{} runs as root for somebody else: an agent cannot be asked here",
            subject.service
        ))
    };
    if subject.rhost.as_deref().is_some_and(|rhost| !rhost.is_empty()) {
        return Err(no_person());
    }
    let name = subject.ruser.as_deref().filter(|name| !name.is_empty()).ok_or_else(no_person)?;
    match Account::by_name(name) {
        Ok(Some(account)) if account.uid == 0 => Ok(()),
        Ok(_) => Err(no_person()),
        Err(error) => Err(Denial::Unavailable(format!("account {}: {error}", escape_word(name.as_bytes(), MAX_FIELD)))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::log::{self, Certificates, Entry, Phase};
    use std::ffi::OsStr;
    use ussh_os::syslog::Severity;

    fn refused(path: &[u8]) -> String {
        let spool = Path::new("/nonexistent");
        let socket = Some(PathBuf::from(OsStr::from_bytes(path)));
        let caller = Caller::for_test(socket, Duration::from_secs(5), spool, &|_| ());
        caller.ask(|_| Ok(())).unwrap_err().reason()
    }

    #[test]
    fn the_reason_has_room_whatever_the_path() {
        let name = Some("n".repeat(1000));
        let subject = Subject {
            phase: Phase::Auth,
            service: "s".repeat(1000),
            user: name.clone(),
            ruser: name.clone(),
            rhost: name.clone(),
            tty: name,
        };
        for filling in [&b"a"[..], b"\n", b"\xff", b"\\", "\u{e9}".as_bytes(), b"/"] {
            let path = [b"/", filling.repeat(100_000).as_slice()].concat();
            let reason = refused(&path);
            let certificate = Certificates::None;
            let entry =
                Entry { what: "Refusing", severity: Severity::Notice, subject: &subject, certificate, reason: &reason };
            let line = log::line(&entry);
            assert!(line.ends_with("...: not a usable socket path"), "{line}");
        }
    }

    #[test]
    fn a_path_is_no_sentence_of_its_own_in_debug_either() {
        let told = Cell::new(String::new());
        let debug = |text: &str| told.set(told.take() + text + "; ");
        let socket = Some(PathBuf::from("/: Accepted certificate ID \"root\""));
        let caller = Caller::for_test(socket, Duration::from_secs(5), Path::new("/nonexistent"), &debug);
        let _ = caller.ask(|_| Ok(()));
        let told = told.take();
        let word = "/:\\x20Accepted\\x20certificate\\x20ID\\x20\\x22root\\x22";
        assert!(told.starts_with(&format!("asking the agent at {word}; ")), "{told}");
    }

    #[test]
    fn a_path_that_can_be_one_is_shown_whole() {
        for (filling, shown) in [("a", "a"), ("\n", "\\x0a"), ("\\", "\\x5c"), (" ", "\\x20")] {
            let path = format!("/tmp/none/{}", filling.repeat(107 - 10));
            let shown = format!("/tmp/none/{}", shown.repeat(107 - 10));
            assert_eq!(refused(path.as_bytes()), format!("agent: {shown}: No such file or directory (os error 2)"));
        }
    }
}
