//! The guarded agent's socket and the loop that serves it until its `ssh` has ended.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ussh_os::agent_socket::peer_of;

use super::ca_side::CaSide;
use super::connection::{Connection, Incoming};
use super::directory::PrivateDirectory;

/// Most connections at a time; ssh makes one per agent channel. Those beyond it are taken and closed at once: ssh waits for an answer
/// on each new one before it does anything else, even before it ends by a signal.
const MAX_CONNECTIONS: usize = 16;

/// The guarded agent does not work; the login cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("the guarded agent: {0}")]
pub struct GuardError(#[from] io::Error);

/// A listening socket with the rules behind it.
pub struct Guard {
    side: CaSide,
    listener: UnixListener,
    directory: PrivateDirectory,
    uid: u32,
}

/// What there is to do.
#[derive(Default)]
struct Ready {
    ended: bool,
    woken: bool,
    accept: bool,
    /// Position of the first connection with something to read.
    readable: Option<usize>,
}

impl Guard {
    /// Listens in `directory`. Only `uid` is let in (root can pass the folder's mode).
    /// # Errors
    /// The socket could not be made.
    pub fn open(side: CaSide, directory: PrivateDirectory, uid: u32) -> Result<Self, GuardError> {
        let listener = UnixListener::bind(directory.socket())?;
        listener.set_nonblocking(true)?;
        Ok(Guard { side, listener, directory, uid })
    }
    /// What `ssh` is told to forward.
    pub fn socket(&self) -> PathBuf {
        self.directory.socket()
    }

    /// Answers until `end` becomes readable or hangs up. Whenever `wake` is readable, `on_wake` is called (it must read it);
    /// also at the moment that it gave last, if any.
    /// # Errors
    /// [`GuardError`]
    pub fn serve(
        &mut self,
        end: BorrowedFd<'_>,
        wake: BorrowedFd<'_>,
        on_wake: &mut dyn FnMut() -> Option<Instant>,
    ) -> Result<(), GuardError> {
        let mut connections: Vec<Connection> = Vec::new();
        let mut alarm = None;
        loop {
            let ready = self.wait(end, wake, &connections, alarm)?;
            let now = Instant::now();
            if ready.woken || alarm.is_some_and(|at| at <= now) {
                alarm = on_wake();
            }
            if ready.ended {
                return Ok(());
            }
            // One each time, which is last then: nobody is left out, and a signal waits for one answer at most.
            if let Some(position) = ready.readable {
                let mut connection = connections.remove(position);
                if Self::advance(&mut connection, &mut self.side) {
                    connections.push(connection);
                }
            }
            connections.retain(|connection| connection.deadline().is_none_or(|deadline| now < deadline));
            if ready.accept {
                let accepted = self.accept();
                if connections.len() < MAX_CONNECTIONS {
                    connections.extend(accepted);
                }
            }
        }
    }

    /// What the CA has done, at the end.
    pub fn into_side(self) -> CaSide {
        self.side
    }

    /// Until something is ready, `alarm` has come or a request's time is over.
    fn wait(
        &self,
        end: BorrowedFd<'_>,
        wake: BorrowedFd<'_>,
        connections: &[Connection],
        alarm: Option<Instant>,
    ) -> Result<Ready, GuardError> {
        let fixed = [end, wake, self.listener.as_fd()];
        let streams = connections.iter().map(Connection::as_fd);
        let mut polled: Vec<PollFd<'_>> =
            fixed.into_iter().chain(streams).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let until = connections.iter().filter_map(Connection::deadline).chain(alarm).min();
        match poll(&mut polled, until.map_or(PollTimeout::NONE, timeout)) {
            Err(Errno::EINTR) => return Ok(Ready::default()),
            Err(errno) => return Err(io::Error::from(errno).into()),
            Ok(_) => {}
        }
        let mut happened = polled.iter().map(|fd| fd.any().unwrap_or(true));
        let mut next = || happened.next().unwrap_or(false);
        let (ended, woken, accept) = (next(), next(), next());
        let readable = happened.position(|is_ready| is_ready);
        Ok(Ready { ended, woken, accept, readable })
    }

    /// `false`: the connection is done with.
    fn advance(connection: &mut Connection, side: &mut CaSide) -> bool {
        match connection.receive() {
            Incoming::Partial => true,
            Incoming::Closed => false,
            Incoming::Request(payload) => {
                let answer = side.answer_while(&payload, &|| !has_hung_up(connection.as_fd()));
                connection.send(&answer).is_ok()
            }
        }
    }

    /// A connection that cannot be taken is dropped; whoever made it sees that.
    fn accept(&self) -> Option<Connection> {
        let (stream, _) = self.listener.accept().ok()?;
        if peer_of(&stream).ok()?.uid != self.uid {
            return None;
        }
        Connection::new(stream).ok()
    }
}

/// Whoever asked has closed the connection: a person would be asked for nothing.
pub(super) fn has_hung_up(client: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(client, PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Rounded up, so that the moment has come when it is over.
fn timeout(until: Instant) -> PollTimeout {
    let left = until.saturating_duration_since(Instant::now());
    u16::try_from(left.as_millis().saturating_add(1)).unwrap_or(u16::MAX).into()
}
