//! The guarded agent's socket and the loop that serves it until its `ssh` has ended.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ussh_os::agent_socket::peer_of;

use super::ca_side::CaSide;
use super::connection::{Connection, Incoming};
use super::directory::PrivateDirectory;

/// Most connections at a time; ssh makes one per agent channel.
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
    /// Positions of connections with something to read.
    readable: Vec<usize>,
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

    /// Answers until `end` becomes readable or hangs up. Whenever `wake` is readable, `on_wake` is called (it must read it).
    /// # Errors
    /// [`GuardError`]
    pub fn serve(
        &mut self,
        end: BorrowedFd<'_>,
        wake: BorrowedFd<'_>,
        on_wake: &mut dyn FnMut(),
    ) -> Result<(), GuardError> {
        let mut connections: Vec<Connection> = Vec::new();
        loop {
            let ready = self.wait(end, wake, &connections)?;
            if ready.woken {
                on_wake();
            }
            if ready.ended {
                return Ok(());
            }
            // From the back, so that removing one leaves the positions before it as they are.
            for position in ready.readable.into_iter().rev() {
                let keep =
                    connections.get_mut(position).is_none_or(|connection| Self::advance(connection, &mut self.side));
                if !keep {
                    connections.swap_remove(position);
                }
            }
            if ready.accept {
                connections.extend(self.accept());
            }
        }
    }

    /// What the CA has done, at the end.
    pub fn into_side(self) -> CaSide {
        self.side
    }

    fn wait(&self, end: BorrowedFd<'_>, wake: BorrowedFd<'_>, connections: &[Connection]) -> Result<Ready, GuardError> {
        let listening = if connections.len() < MAX_CONNECTIONS { PollFlags::POLLIN } else { PollFlags::empty() };
        let fixed = [(end, PollFlags::POLLIN), (wake, PollFlags::POLLIN), (self.listener.as_fd(), listening)];
        let streams = connections.iter().map(|connection| (connection.as_fd(), PollFlags::POLLIN));
        let mut polled: Vec<PollFd<'_>> =
            fixed.into_iter().chain(streams).map(|(fd, events)| PollFd::new(fd, events)).collect();
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => return Ok(Ready::default()),
            Err(errno) => return Err(io::Error::from(errno).into()),
            Ok(_) => {}
        }
        let mut happened = polled.iter().map(|fd| fd.any().unwrap_or(true));
        let mut next = || happened.next().unwrap_or(false);
        let (ended, woken, accept) = (next(), next(), next());
        let readable = happened.enumerate().filter_map(|(position, is_ready)| is_ready.then_some(position)).collect();
        Ok(Ready { ended, woken, accept, readable })
    }

    /// `false`: the connection is done with.
    fn advance(connection: &mut Connection, side: &mut CaSide) -> bool {
        match connection.receive() {
            Incoming::Partial => true,
            Incoming::Closed => false,
            Incoming::Request(payload) => connection.send(&side.answer(&payload)).is_ok(),
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
