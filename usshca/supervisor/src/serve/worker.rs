//! One PAM worker: one login attempt of one connection.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use ussh_os::process::{self, ChildSetup};
use ussh_os::seqpacket::SeqPacket;
use usshca_ipc::channel::encode;
use usshca_ipc::signer::Control;
use usshca_ipc::worker::WorkerSetup;

use crate::child::{Child, LogPipe};
use crate::prepare::Base;
use crate::serve::signer::Signer;
use crate::serve::source::Source;

/// How long a worker may outstay its own deadline before it is killed.
const OVERTIME: Duration = Duration::from_secs(5);
/// A worker ends itself so long after it should have been killed: by then the supervisor is out of order. Were it first, what its modules have started would be init's, and stay
/// ([`Child::kill_family`]).
const LAST_RESORT: Duration = Duration::from_secs(10);
/// PAM's modules run programs of their own (unix_chkpwd, pam_exec).
const PATH: (&str, &str) = ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");

/// A worker that runs.
pub struct Worker {
    /// Of which connection.
    pub connection: u64,
    /// Where that comes from.
    pub source: Source,
    /// Of which attempt in it, from 1.
    pub attempt: u32,
    /// For whom, as typed.
    pub user: String,
    /// It authenticates nobody.
    pub lookup: bool,
    /// The process.
    pub child: Child,
    /// What it says.
    pub log: LogPipe,
    /// When it is killed.
    pub deadline: Instant,
    /// Who waits for it.
    pub asker: Asker,
}

/// Whether somebody waits for what a worker finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Its front does.
    There,
    /// The front has gone, or goes on to another attempt.
    Gone,
    /// It waited, and the worker was killed for another reason.
    Bereft,
    /// It had gone, and the worker was killed for that: it has not broken down.
    GivenUp,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// PAM said yes.
    Passed,
    /// PAM said no.
    Refused,
    /// Whoever was asked had gone.
    Left,
    /// It could not be found out.
    Unavailable,
    /// A module ended it, or it was killed.
    BrokeDown,
}

impl Ended {
    /// By its exit status (usshca-pam's main).
    pub fn of(status: ExitStatus) -> Self {
        match status.code() {
            Some(0) => Ended::Passed,
            Some(1) => Ended::Refused,
            Some(2) => Ended::Left,
            Some(69) => Ended::Unavailable,
            _ => Ended::BrokeDown,
        }
    }
}

/// What an attempt is about.
pub struct Attempt<'a> {
    /// Of which connection.
    pub connection: u64,
    /// Which one in it, from 1.
    pub attempt: u32,
    /// Where the connection comes from.
    pub peer: SocketAddr,
    /// The user name as typed.
    pub user: &'a str,
    /// Time left for it.
    pub patience: Duration,
    /// PAM's service decides for itself (`Base::pam_gap`).
    pub may_ask_pam: bool,
    /// Nobody is authenticated: signer and worker are told so, both by this.
    pub lookup: bool,
}

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// As the kernel says.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The signer could not be told.
    #[error("the signer was not told")]
    Signer,
}

/// Starts a worker; gives it with the front's end of their channel. It cannot speak before the signer knows its pid: it waits for its setup.
pub fn start(base: &Base, signer: &Signer, attempt: &Attempt<'_>) -> Result<(Worker, SeqPacket), StartError> {
    let (front_end, to_front) = SeqPacket::pair()?;
    let (signer_end, to_signer) = SeqPacket::pair()?;
    // On before the worker exists: what it says shall never be there without a sender.
    signer_end.attest_sender()?;
    let (setup_reader, setup_writer) = io::pipe()?;
    let (log, log_writer) = LogPipe::new()?;
    let child = process::spawn(
        &base.programs.pam,
        &[],
        &[PATH],
        ChildSetup {
            identity: None,
            descriptors: vec![to_front.into_fd(), to_signer.into_fd(), setup_reader.into(), log_writer],
            die_with_parent: true,
            no_network: false,
        },
    )?;
    // From here on the child is killed when it is dropped.
    let child = Child::new(child)?;
    let worker_pid = i32::try_from(child.pid()).map_err(io::Error::other)?;
    let (connection, number) = (attempt.connection, attempt.attempt);
    let (user, patience_seconds) = (attempt.user.to_owned(), attempt.patience.as_secs());
    let news = match attempt.lookup {
        true => Control::NewLookup { connection, attempt: number, worker_pid, user, patience_seconds },
        false => Control::NewWorker { connection, attempt: number, worker_pid, user, patience_seconds },
    };
    signer.tell(&news, signer_end).ok_or(StartError::Signer)?;
    let setup = WorkerSetup {
        connection,
        attempt: number,
        user: attempt.user.to_owned(),
        service: base.config.pam_service.clone(),
        rhost: attempt.peer.ip().to_string(),
        deadline_seconds: u32::try_from((attempt.patience + OVERTIME + LAST_RESORT).as_secs()).unwrap_or(u32::MAX),
        pam_folder: base.pam_folder().map(|folder| folder.to_string_lossy().into_owned()),
        may_ask_pam: attempt.may_ask_pam,
        lookup: attempt.lookup,
    };
    let bytes = encode(&setup).map_err(io::Error::other)?;
    // A few hundred bytes: they fit into the pipe, so that this never waits.
    File::from(std::os::fd::OwnedFd::from(setup_writer)).write_all(&bytes)?;
    let deadline = Instant::now() + attempt.patience + OVERTIME;
    let source = Source::of(attempt.peer.ip());
    let (user, lookup) = (attempt.user.to_owned(), attempt.lookup);
    Ok((
        Worker { connection, source, attempt: number, user, lookup, child, log, deadline, asker: Asker::There },
        front_end,
    ))
}

impl Worker {
    /// What to wait on: its end, and its log while it is open.
    pub fn descriptors(&self) -> impl Iterator<Item = std::os::fd::BorrowedFd<'_>> {
        [Some(self.child.as_fd()), self.log.as_fd()].into_iter().flatten()
    }
}
