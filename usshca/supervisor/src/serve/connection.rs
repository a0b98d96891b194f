//! One connection: its front, and what the front may ask for.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use ussh_os::process::{self, ChildSetup};
use ussh_os::seqpacket::SeqPacket;
use usshca_ipc::channel::{Channel, ChannelError};
use usshca_ipc::front::{FromSupervisor, FrontSetup, ToSupervisor};
use usshca_ipc::signer::Control;
use zeroize::Zeroize;

use crate::child::{Child, LogPipe, setup_file};
use crate::serve::Ground;
use crate::serve::signer::Signer;
use crate::serve::source::Source;

/// How long a connection may go on after its login grace: key, certificate, delivery, a person who confirms.
const SESSION: Duration = Duration::from_secs(150);
/// Longest user name, in bytes.
const MAX_USER: usize = 256;

/// What became of a connection's attempts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conduct {
    /// How many PAM has refused.
    pub refused: u32,
    /// One could not be carried out, through no fault of the client's.
    pub troubled: bool,
    /// It got what is for everybody: it did not come for nothing.
    pub served: bool,
    /// Somebody has logged in.
    pub logged_in: bool,
}

/// A connection.
pub struct Connection {
    /// Its number, from 1.
    pub id: u64,
    /// The other end, as the kernel says.
    pub peer: SocketAddr,
    /// Where that is.
    pub source: Source,
    /// Its front.
    pub front: Child,
    /// The channel with it, non-blocking.
    pub channel: Channel<FromSupervisor, ToSupervisor>,
    /// False once the front has closed it, or is not listened to any more.
    pub talks: bool,
    /// What the front says.
    pub log: LogPipe,
    /// Which signer knows this connection.
    pub signer_generation: Option<u64>,
    /// Attempts so far, those that were refused included.
    pub attempts: u32,
    /// How many of them looked an account up.
    pub lookups: u32,
    /// What became of its attempts.
    pub conduct: Conduct,
    /// It was ended to make room for somebody else.
    evicted: bool,
    /// Until when it must have logged in.
    pub grace_end: Instant,
    /// When its front is killed.
    pub deadline: Instant,
}

/// Starts the front of a connection that was accepted.
pub fn start(ground: &Ground, signer: &Signer, id: u64, stream: TcpStream) -> std::io::Result<Connection> {
    let peer = canonical(stream.peer_addr()?);
    // Small packets both ways: Nagle's algorithm would add 40 ms here and there.
    stream.set_nodelay(true)?;
    let (ours, front_end) = SeqPacket::pair()?;
    let (signer_end, front_to_signer) = SeqPacket::pair()?;
    ours.set_nonblocking(true)?;
    let (log, log_writer) = LogPipe::new()?;
    let setup = front_setup(ground, id, peer)?;
    let signer_generation = signer.tell(&Control::NewFront { connection: id, peer }, signer_end);
    let front = process::spawn(
        &ground.base.programs.front,
        &[],
        &[],
        ChildSetup {
            identity: ground.base.accounts.map(|a| a.front),
            descriptors: vec![stream.into(), front_end.into_fd(), front_to_signer.into_fd(), setup, log_writer],
            die_with_parent: true,
            no_network: false,
        },
    )?;
    let grace_end = Instant::now() + Duration::from_secs(ground.base.config.login_grace_seconds.into());
    Ok(Connection {
        id,
        peer,
        source: Source::of(peer.ip()),
        front: Child::new(front)?,
        channel: Channel::new(ours),
        talks: true,
        log,
        signer_generation,
        attempts: 0,
        lookups: 0,
        conduct: Conduct::default(),
        evicted: false,
        grace_end,
        deadline: grace_end + SESSION,
    })
}

fn front_setup(ground: &Ground, connection: u64, peer: SocketAddr) -> std::io::Result<std::os::fd::OwnedFd> {
    let config = &ground.base.config;
    let mut setup = FrontSetup {
        connection,
        peer,
        host_key: ground.host.key.as_str().to_owned(),
        host_certificate: ground.host.certificate.clone(),
        login_grace_seconds: config.login_grace_seconds,
        max_attempts: config.max_attempts,
        ca_name: config.ca_name.clone(),
    };
    let file = setup_file(&setup);
    setup.host_key.zeroize();
    file
}

/// An IPv4 address that came in on an IPv6 socket is an IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What a front asks for, looked at.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing at the moment.
    Nothing,
    /// A worker for this user name.
    Worker {
        /// As typed.
        user: String,
        /// To look the account up only.
        lookup: bool,
    },
    /// It is gone, or says what no front of ours says.
    Over(&'static str),
}

impl Connection {
    /// For logs.
    pub fn name(&self) -> String {
        format!("connection {} from {}", self.id, self.peer)
    }

    /// Ends it, to make room.
    pub fn evict(&mut self) {
        self.evicted = true;
        self.front.kill();
    }

    /// Whether it was ended to make room.
    pub fn is_evicted(&self) -> bool {
        self.evicted
    }

    /// Takes the next message.
    pub fn next(&self) -> Asked {
        match self.channel.receive(None) {
            Ok(received) => match received.message {
                ToSupervisor::StartWorker { user } if is_user_name(&user) => Asked::Worker { user, lookup: false },
                ToSupervisor::StartLookup { user } if is_user_name(&user) => Asked::Worker { user, lookup: true },
                ToSupervisor::StartWorker { .. } | ToSupervisor::StartLookup { .. } => {
                    Asked::Over("asked for an impossible user name")
                }
            },
            Err(ChannelError::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => Asked::Nothing,
            Err(ChannelError::Closed) => Asked::Over(""),
            Err(ChannelError::Io(_)) => Asked::Over("its channel broke"),
            Err(ChannelError::Malformed) => Asked::Over("said something malformed"),
        }
    }

    /// What to wait on: its end, its channel and its log while they are open.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let channel = self.talks.then(|| self.channel.socket().as_fd());
        [Some(self.front.as_fd()), channel, self.log.as_fd()].into_iter().flatten()
    }
}

/// Any name that PAM could be asked about; what is a real one is PAM's to know.
fn is_user_name(user: &str) -> bool {
    !user.is_empty() && user.len() <= MAX_USER && !user.chars().any(char::is_control)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// One whose front is any process.
    pub fn connection(id: u64, peer: SocketAddr, front: std::process::Child) -> Connection {
        let (ours, _gone) = SeqPacket::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let grace_end = Instant::now() + SESSION;
        Connection {
            id,
            peer,
            source: Source::of(peer.ip()),
            front: Child::new(front).unwrap(),
            channel: Channel::new(ours),
            talks: false,
            log: LogPipe::new().unwrap().0,
            signer_generation: Some(1),
            attempts: 1,
            lookups: 0,
            conduct: Conduct::default(),
            evicted: false,
            grace_end,
            deadline: grace_end,
        }
    }

    #[test]
    fn refuses_user_names_that_would_break_a_log_or_pam() {
        assert!(is_user_name("alice") && is_user_name("EXAMPLE\\alice") && is_user_name("élise"));
        assert!(!is_user_name("") && !is_user_name("a\nb") && !is_user_name("a\0") && !is_user_name(&"a".repeat(257)));
    }

    #[test]
    fn an_ipv4_client_on_an_ipv6_socket_is_an_ipv4_client() {
        let mapped: SocketAddr = ([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201], 5).into();
        assert_eq!(canonical(mapped).to_string(), "192.0.2.1:5");
    }
}
