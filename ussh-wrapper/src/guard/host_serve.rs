//! `ussh --agent --serve`: the guarded agent's process towards hosts. Small, long-lived, one for each agent of the user's.
//!
//! One thread for each connection, so that a host whose request waits (for a touch, for the person's answer) holds up no other; each ssh process, which is to say each host, has its own few.
//! It goes when the agent behind it does (of files: the certificate, which it removes when that has ended), or its own socket: with the login session, by `ussh --logout`, or because another took its place.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::AcceptConn};
use ussh_core::clock::{Clock, SystemClock};
use ussh_os::agent_socket::peer_of;
use ussh_os::resident::give_back_start_up;

use super::connection::{Connection, Incoming};
use super::host_side::{HostSide, Rules, Talk};
use super::journal::Journal;
use crate::certificates::Judge;
use crate::config::{Config, ConfigError, NoUserName, SYSTEM_FILE, Sources, USER_FILE};
use crate::keeper::{Keeper, OwnKey};
use crate::user_agent::{AgentProblem, UserAgent};

/// Most connections of one ssh process at a time. A host that wants more waits for itself.
const MAX_OF_ONE: usize = 8;
/// Most connections at a time.
const MAX_OF_ALL: usize = 256;
/// Largest request, bytes: a certificate with all its principals and a challenge.
const MAX_REQUEST: usize = 64 * 1024;
/// How long a connection may stand idle: who asks, asks at once.
const MAX_IDLE: Duration = Duration::from_secs(30);
/// How often it is looked whether the agent is still there, and the files still the same.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How many of these looks go by between two connections to an agent that the kernel does not list: one in another network namespace.
const CONNECT_EVERY: u32 = 12;
/// How many go by before it stops waiting for a login to write files: ten minutes' worth.
const MAX_LOOKS_FOR_FILES: u32 = 120;
/// Stack of a thread, bytes; only what is used of it is memory.
const STACK: usize = 256 * 1024;

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The user has no name at the CA.
    #[error("{0}")]
    NoUserName(#[from] NoUserName),
    /// There is no agent to stand in front of.
    #[error("{0}")]
    Agent(#[from] AgentProblem),
    /// Standard input is not what `ussh` hands over.
    #[error("standard input is no listening socket: `ussh --agent` starts the guarded agent")]
    NoListener,
    /// The system would not.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Serves until the agent behind it, or its own socket, is gone.
/// # Errors
/// [`ServeError`]
pub fn serve_hosts() -> Result<(), ServeError> {
    let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    if !getsockopt(&listener, AcceptConn).unwrap_or(false) {
        return Err(ServeError::NoListener);
    }
    let sources = Sources::of_this_process();
    let address = listener.local_addr()?;
    let socket = address.as_pathname().ok_or(ServeError::NoListener)?.to_path_buf();
    let (files, Found { upstream, rules }) = Files::read(sources)?;
    let watch = Watch::new(socket, upstream.clone());
    let side = HostSide::new(upstream, rules, Box::new(SystemClock), Journal::of_this_user());
    let guard = HostGuard { listener, side: Arc::new(side), uid: files.sources.uid, crowd: Arc::default() };
    // It stands for a day and mostly waits.
    give_back_start_up();
    guard.run(files, watch);
    guard.side.note_rest(true);
    Ok(())
}

/// What the configuration makes of it.
struct Found {
    upstream: Keeper,
    rules: Rules,
}

/// The configuration's files, and how they were when they were read last.
struct Files {
    sources: Sources,
    paths: Vec<PathBuf>,
    stamps: Vec<Option<(u64, u64, Option<SystemTime>)>>,
}

impl Files {
    /// No stamps yet: the first look reads them once more, so that no change in between is lost.
    fn read(sources: Sources) -> Result<(Self, Found), ServeError> {
        let mut files = Files { sources, paths: Vec::new(), stamps: Vec::new() };
        let found = files.found()?;
        Ok((files, found))
    }
    fn look(&self) -> Vec<Option<(u64, u64, Option<SystemTime>)>> {
        let stamp = |path: &PathBuf| path.metadata().ok().map(|m| (m.ino(), m.len(), m.modified().ok()));
        self.paths.iter().map(stamp).collect()
    }
    /// The CA's file may be another one now, and so may the user's own key.
    fn found(&mut self) -> Result<Found, ServeError> {
        let config = Config::load(&self.sources)?;
        let user = self.sources.home.as_ref().map(|home| home.join(USER_FILE));
        let files =
            [Some(PathBuf::from(SYSTEM_FILE)), user, Some(config.user_ca_file.clone()), config.client_key.clone()];
        self.paths = files.into_iter().flatten().collect();
        let judge = Judge::load(&config, config.user_at_ca(self.sources.uid)?, self.sources.uid)?;
        let upstream = Keeper::of(&config, self.sources.uid, UserAgent::named_by_environment)?;
        Ok(Found { upstream, rules: Rules { judge, confirm: config.confirm } })
    }
    /// What is found if a file has changed. What is wrong with it is for `ussh` to say: until it is mended what was before holds.
    fn changed(&mut self) -> Option<Found> {
        let stamps = self.look();
        if stamps == self.stamps {
            return None;
        }
        self.stamps = stamps;
        self.found().ok()
    }
}

/// Whether there is still a reason to be there.
struct Watch {
    socket: PathBuf,
    inode: Option<u64>,
    upstream: Keeper,
    /// The agent's socket is one that the kernel lists here.
    is_listed: bool,
    looks: u32,
    /// Files have been seen.
    was_there: bool,
}

impl Watch {
    fn new(socket: PathBuf, upstream: Keeper) -> Self {
        let (inode, is_listed) = (inode(&socket), upstream.agent().is_some_and(|agent| listens(agent.path())));
        Watch { socket, inode, upstream, is_listed, looks: 0, was_there: false }
    }
    fn is_over(&mut self) -> bool {
        let is_turn = self.looks.is_multiple_of(CONNECT_EVERY);
        self.looks = self.looks.wrapping_add(1);
        // The agent is looked for in the kernel's list: a connection to one that is itself forwarded would be a channel through to another machine each time.
        let agent_gone = match &self.upstream {
            Keeper::Agent(agent) | Keeper::OwnKey(OwnKey { agent, .. }) if self.is_listed => !listens(agent.path()),
            Keeper::Agent(agent) | Keeper::OwnKey(OwnKey { agent, .. }) => {
                is_turn && matches!(agent.connect(), Err(AgentProblem::Unreachable { .. }))
            }
            Keeper::Files(files) => {
                files.sweep(SystemClock.now());
                let is_there = files.certificate().is_some();
                self.was_there |= is_there;
                // ssh wants the socket before the certificate comes.
                !is_there && (self.was_there || self.looks > MAX_LOOKS_FOR_FILES)
            }
        };
        agent_gone || inode(&self.socket) != self.inode
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if inode(&self.socket) == self.inode {
            let _ = std::fs::remove_file(&self.socket);
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    path.symlink_metadata().ok().map(|metadata| metadata.ino())
}

/// Whether somebody listens at this path: net/unix/af_unix.c `unix_seq_show`, flag `__SO_ACCEPTCON`.
fn listens(path: &Path) -> bool {
    let Ok(list) = std::fs::read("/proc/net/unix") else { return true };
    list.split(|byte| *byte == b'\n').any(|line| {
        let listening = line.split(|byte| *byte == b' ').any(|word| word == b"00010000");
        let named = line.strip_suffix(path.as_os_str().as_bytes());
        listening && named.is_some_and(|before| before.ends_with(b" "))
    })
}

/// How many connections each ssh process has.
type Crowd = Arc<Mutex<HashMap<i32, usize>>>;

/// A listening socket with the rules behind it.
struct HostGuard {
    listener: UnixListener,
    side: Arc<HostSide>,
    uid: u32,
    crowd: Crowd,
}

impl HostGuard {
    fn run(&self, mut files: Files, mut watch: Watch) {
        let mut look_at = Instant::now() + LOOK_EVERY;
        loop {
            let left = look_at.saturating_duration_since(Instant::now());
            let timeout = u16::try_from(left.as_millis().saturating_add(1)).unwrap_or(u16::MAX);
            let mut polled = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, PollTimeout::from(timeout)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => self.accept(),
                Err(_) => return,
            }
            if look_at <= Instant::now() {
                if watch.is_over() {
                    return;
                }
                self.side.note_rest(false);
                if let Some(Found { upstream, rules }) = files.changed() {
                    self.side.set_rules(rules);
                    // In front of the same agent, by another key perhaps. What lies elsewhere has a socket of its own, and another in front of it.
                    if upstream.place() == self.side.upstream().place() {
                        self.side.set_upstream(upstream);
                    }
                }
                look_at = Instant::now() + LOOK_EVERY;
            }
        }
    }

    /// A connection that cannot be served is closed; whoever made it sees that.
    fn accept(&self) {
        let Ok((stream, _)) = self.listener.accept() else {
            // Out of descriptors, perhaps: those that are open end by their own deadlines.
            thread::sleep(Duration::from_millis(50));
            return;
        };
        let Ok(peer) = peer_of(&stream) else { return };
        if peer.uid != self.uid {
            return;
        }
        let Some(seat) = Seat::take(&self.crowd, peer.pid) else { return };
        let side = Arc::clone(&self.side);
        let _ = thread::Builder::new().stack_size(STACK).spawn(move || {
            let _ = converse(&side, stream, seat.process);
            drop(seat);
        });
    }
}

/// One connection's place among those of its process.
struct Seat {
    crowd: Crowd,
    process: i32,
}

impl Seat {
    fn take(crowd: &Crowd, process: i32) -> Option<Self> {
        let mut seats = crowd.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = seats.values().sum();
        let own = seats.entry(process).or_default();
        if *own >= MAX_OF_ONE || all >= MAX_OF_ALL {
            return None;
        }
        *own += 1;
        Some(Seat { crowd: Arc::clone(crowd), process })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        let left = seats.get(&self.process).copied().unwrap_or_default().saturating_sub(1);
        if left == 0 {
            seats.remove(&self.process);
        } else {
            seats.insert(self.process, left);
        }
    }
}

fn converse(side: &HostSide, stream: UnixStream, process: i32) -> io::Result<()> {
    stream.set_read_timeout(Some(MAX_IDLE))?;
    let client = stream.try_clone()?;
    let mut connection = Connection::with_limit(stream, MAX_REQUEST)?;
    let mut talk = Talk::new(side, process, Some(client));
    loop {
        match connection.receive() {
            Incoming::Request(payload) => connection.send(&talk.answer(&payload))?,
            Incoming::Partial if connection.deadline().is_none_or(|deadline| Instant::now() < deadline) => {}
            Incoming::Partial | Incoming::Closed => return Ok(()),
        }
    }
}
