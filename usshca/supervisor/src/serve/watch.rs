//! What the loop waits for: a few descriptors by poll, and behind one of them, an epoll, all of the connections' and workers'.
//!
//! With a thousand connections there are five thousand descriptors, and poll looks at each of them at every wake-up: some 0.4 ms, several times a login. epoll does not.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Most events that are taken at a time: the rest is there the next time.
const BATCH: usize = 64;

/// Whose descriptor it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Token {
    /// A worker's, by its number.
    Worker(u64),
    /// A connection's, by its number.
    Connection(u64),
}

/// The descriptors of connections and workers. One that is closed is forgotten by itself.
pub struct Watch {
    epoll: Epoll,
}

impl Watch {
    /// None yet.
    /// # Errors
    /// As the kernel says.
    pub fn new() -> io::Result<Self> {
        Ok(Watch { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    /// Waits for this one from now on.
    /// # Errors
    /// As the kernel says: there is no room for more (`/proc/sys/fs/epoll/max_user_watches`).
    pub fn add(&self, fd: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token.number()))?)
    }

    /// Waits for it no longer.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        // The only error is that it was not waited for.
        let _ = self.epoll.delete(fd);
    }

    /// Those that have something to say now, each once, workers first.
    pub fn ready(&self) -> io::Result<Vec<Token>> {
        let mut events = [EpollEvent::empty(); BATCH];
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(e) => return Err(e.into()),
        };
        let mut tokens: Vec<Token> = events.iter().take(count).map(|event| Token::of(event.data())).collect();
        tokens.sort_unstable();
        tokens.dedup();
        Ok(tokens)
    }
}

impl AsFd for Watch {
    /// Readable while any of them has something to say.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl Token {
    fn number(self) -> u64 {
        match self {
            Token::Worker(number) => number << 1,
            Token::Connection(number) => number << 1 | 1,
        }
    }

    fn of(number: u64) -> Self {
        if number & 1 == 0 { Token::Worker(number >> 1) } else { Token::Connection(number >> 1) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn whoever_has_something_to_say_is_named_once_and_again_until_it_is_heard() {
        let watch = Watch::new().unwrap();
        let (mut a, mut to_a) = io::pipe().unwrap();
        let (b, mut to_b) = io::pipe().unwrap();
        watch.add(a.as_fd(), Token::Connection(1)).unwrap();
        watch.add(b.as_fd(), Token::Connection(1)).unwrap();
        let (c, mut to_c) = io::pipe().unwrap();
        watch.add(c.as_fd(), Token::Worker(1)).unwrap();
        assert_eq!(watch.ready().unwrap(), []);
        for to in [&mut to_a, &mut to_b, &mut to_c] {
            to.write_all(b"x").unwrap();
        }
        assert_eq!(watch.ready().unwrap(), [Token::Worker(1), Token::Connection(1)]);
        a.read_exact(&mut [0]).unwrap();
        assert_eq!(watch.ready().unwrap(), [Token::Worker(1), Token::Connection(1)]);
        watch.remove(b.as_fd());
        drop(c);
        assert_eq!(watch.ready().unwrap(), []);
    }
}
