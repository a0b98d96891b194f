//! Who is let in: limits, penalties, and what happens when something runs out.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use ussh_os::syslog::Severity;

use crate::log;
use crate::serve::connection::{self, Connection};
use crate::serve::event_loop::{EventLoop, limit};
use crate::serve::source::{Network, Source};
use crate::serve::turned_away::Why;
use crate::serve::watch::Token;

/// How long nothing is accepted after the kernel has run out of something.
const SHORTAGE_PAUSE: Duration = Duration::from_secs(1);
/// Connections accepted in one go at a listener.
const ACCEPT_BATCH: usize = 16;
/// Descriptors that are kept for those who are to be told that there are none.
const SPARES: usize = 8;

/// Since when newcomers are dropped for being too many (sshd.c, drop_connection: it too says when that begins and ends).
#[derive(Debug, Default)]
pub struct Throttling {
    since: Option<Instant>,
    dropped: u64,
}

impl Throttling {
    fn dropped(&mut self, waiting: usize, limits: &str, now: Instant) {
        self.dropped += 1;
        if self.since.is_none() {
            self.since = Some(now);
            log::warning(&format!(
                "MaxStartups throttling begins: {waiting} have not logged in (max_startups {limits})"
            ));
        }
    }

    fn over(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            let (dropped, seconds) = (std::mem::take(&mut self.dropped), now.duration_since(since).as_secs());
            log::info(&format!("MaxStartups throttling ends after {seconds} s: {dropped} connections were dropped"));
        }
    }
}

impl EventLoop {
    pub(super) fn accepts(&self, now: Instant) -> bool {
        self.accept_after.is_none_or(|after| now >= after)
    }

    pub(super) fn accept(&mut self, now: Instant) {
        self.leaving.close(now);
        if self.accepts(now) {
            self.renew_spares();
        }
        // A pause that is over must not wake the loop again.
        self.accept_after = self.accept_after.filter(|after| now < *after);
        for listener in 0..self.listeners.len() {
            // A batch at most, so that the others are seen to in between.
            for _ in 0..ACCEPT_BATCH {
                if !self.accepts(now) {
                    return;
                }
                match self.listeners.get(listener).map(accept_one) {
                    Some(Ok(Accepted::Connection(stream, peer))) => self.judge(stream, peer.ip(), now),
                    Some(Ok(Accepted::GoneAgain)) => {}
                    Some(Ok(Accepted::Nothing)) | None => break,
                    Some(Err(e)) => {
                        log::error(&format!("cannot accept connections: {e}; trying again in a second"));
                        self.accept_after = Some(now + SHORTAGE_PAUSE);
                        self.tell_of_shortage(listener, now);
                    }
                }
            }
        }
    }

    /// With the descriptors that are kept for it: as many are told as there are of them; the others wait.
    fn tell_of_shortage(&mut self, listener: usize, now: Instant) {
        while let Some(spare) = self.spares.pop() {
            drop(spare);
            match self.listeners.get(listener).map(accept_one) {
                Some(Ok(Accepted::Connection(stream, _))) => self.refuse(stream, Why::Shortage, now),
                _ => return,
            }
        }
    }

    /// Once those who were told have gone.
    fn renew_spares(&mut self) {
        while self.spares.len() < SPARES
            && let Ok(file) = File::open("/dev/null")
        {
            self.spares.push(file.into());
        }
    }

    /// Starts a front, or says why there is none.
    fn judge(&mut self, stream: TcpStream, peer: IpAddr, now: Instant) {
        let source = Source::of(peer);
        match self.objection(source, now) {
            Some(why) => self.refuse(stream, why, now),
            None => self.admit(stream, now),
        }
    }

    /// What speaks against letting this source in once more: the cheapest to find out first.
    fn objection(&mut self, source: Source, now: Instant) -> Option<Why> {
        if self.penalties.left(source, now).is_some() {
            return Some(Why::Penalty);
        }
        let most = self.ground.base.config.max_connections_per_source;
        if self.connections.values().filter(|c| c.source == source).count() >= limit(most) {
            if self.named.is_due(source, now) {
                log::event(
                    Severity::Warning,
                    &format!(
                        "{source} has {most} connections (max_connections_per_source); more from there are closed at once"
                    ),
                    &[("event", "source_limit"), ("source", &source.to_string())],
                );
            }
            return Some(Why::Source);
        }
        let limits = self.ground.base.config.max_startups;
        let waiting = self.connections.values().filter(|c| c.waits()).count();
        if limits.drops(waiting, dice()) {
            self.throttling.dropped(waiting, &limits.to_string(), now);
            // Whoever crowds the others out is not the one who is let in.
            let waiting_from = self.connections.values().filter(|c| c.waits()).map(|c| c.source.network());
            let crowd = crowd(waiting_from, source.network());
            if crowd.is_none() || limits.is_full(waiting) && !crowd.is_some_and(|crowd| self.evict(crowd)) {
                return Some(Why::MaxStartups);
            }
        } else if !limits.drops(waiting, 0) {
            self.throttling.over(now);
        }
        (self.connections.len() >= limit(self.ground.base.config.max_connections)).then_some(Why::Full)
    }

    /// Ends the oldest connection from there that has not logged in.
    fn evict(&mut self, crowd: Network) -> bool {
        let oldest = self.connections.values_mut().find(|c| c.waits() && c.source.network() == crowd);
        oldest.is_some_and(|connection| {
            log::warning(&format!("{}: has to make room: killed", connection.name()));
            connection.evict();
            self.counters.evicted += 1;
            true
        })
    }

    fn refuse(&mut self, stream: TcpStream, why: Why, now: Instant) {
        self.counters.turned_away(why);
        self.leaving.turn_away(stream, why, now);
    }

    fn admit(&mut self, stream: TcpStream, now: Instant) {
        self.last_connection += 1;
        self.counters.accepted += 1;
        // For the case that there are no descriptors left for a front.
        let spare = stream.try_clone();
        let number = self.last_connection;
        let started = connection::start(&self.ground, &self.signer, number, stream).and_then(|connection| {
            connection.descriptors().try_for_each(|fd| self.watch.add(fd, Token::Connection(number)))?;
            Ok(connection)
        });
        match started {
            Ok(connection) => {
                let (number, peer) = (number.to_string(), connection.peer.to_string());
                log::event(
                    Severity::Info,
                    &connection.name(),
                    &[("event", "connection"), ("connection", &number), ("peer", &peer)],
                );
                self.connections.insert(connection.id, connection);
            }
            Err(e) => {
                log::error(&format!("connection {number}: no front: {e}"));
                match spare {
                    Ok(stream) => self.refuse(stream, Why::Shortage, now),
                    Err(_) => self.counters.turned_away(Why::Shortage),
                }
                self.accept_after = Some(now + SHORTAGE_PAUSE);
            }
        }
    }
}

impl Connection {
    /// Whether it counts as one that has not logged in.
    fn waits(&self) -> bool {
        !self.conduct.logged_in && !self.is_evicted()
    }
}

/// The network that most of those come from who have not logged in, if it has more than twice as many as the newcomer's would.
fn crowd(waiting: impl Iterator<Item = Network>, newcomers: Network) -> Option<Network> {
    let mut by_network: HashMap<Network, usize> = HashMap::new();
    for network in waiting {
        *by_network.entry(network).or_default() += 1;
    }
    let own = by_network.get(&newcomers).map_or(1, |n| n + 1);
    let (network, most) = by_network.into_iter().max_by_key(|(_, n)| *n)?;
    (network != newcomers && most > own * 2).then_some(network)
}

/// 0 ..= 99. Without randomness nobody is dropped early, and everybody from `full` on.
fn dice() -> u32 {
    getrandom::u32().map_or(99, |random| random % 100)
}

enum Accepted {
    Connection(TcpStream, SocketAddr),
    /// accept(2): an error of the one connection, not of the listener.
    GoneAgain,
    Nothing,
}

/// The next connection that waits at this listener. An error is a shortage.
fn accept_one(listener: &TcpListener) -> io::Result<Accepted> {
    match listener.accept() {
        Ok((stream, peer)) => Ok(Accepted::Connection(stream, peer)),
        Err(e) => match e.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EWOULDBLOCK) => Ok(Accepted::Nothing),
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => Err(e),
            _ => Ok(Accepted::GoneAgain),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn network(address: &str) -> Network {
        Source::of(address.parse().unwrap()).network()
    }

    #[test]
    fn whoever_has_less_than_half_of_what_the_largest_network_has_is_no_part_of_the_crowd() {
        let (large, small, none) = (network("192.0.2.1"), network("198.51.100.1"), network("203.0.113.1"));
        let waiting = |many: usize, few: usize| [vec![large; many], vec![small; few]].concat().into_iter();
        assert_eq!(crowd(waiting(5, 1), small), Some(large));
        assert_eq!(crowd(waiting(4, 1), small), None);
        assert_eq!(crowd(waiting(5, 1), large), None);
        assert_eq!(crowd(waiting(3, 0), none), Some(large));
        assert_eq!(crowd(waiting(2, 2), none), None);
        assert_eq!(crowd(waiting(0, 0), none), None);
    }

    #[test]
    fn dice_fall_on_all_sides() {
        let seen: std::collections::BTreeSet<u32> = (0..5000).map(|_| dice()).collect();
        assert_eq!((seen.len(), seen.last()), (100, Some(&99)));
    }
}
