//! Administrators' connections: root's, or those of the account that runs the CA.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};

use ussh_os::agent_socket::Peer;
use ussh_os::seqpacket::SeqPacket;
use usshca_ipc::admin::{Reply, Request};
use usshca_ipc::channel::{Channel, ChannelError};

use super::{Flow, Heard, Server, hear};
use crate::log;

/// Most connections at a time; more wait in the listener's queue.
const MAX_ADMINS: usize = 32;

/// One administrator.
pub struct Admin {
    channel: Channel<Reply, Request>,
    peer: Peer,
    /// Answers that did not fit into the socket yet. Nothing more is read meanwhile.
    owed: VecDeque<Reply>,
}

impl Admin {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.socket().as_fd()
    }

    pub(super) fn is_owed_nothing(&self) -> bool {
        self.owed.is_empty()
    }

    /// Sends what the socket takes.
    fn pay(&mut self) -> Result<(), ChannelError> {
        while let Some(reply) = self.owed.front() {
            match self.channel.send(reply) {
                Err(ChannelError::Io(e)) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                other => other?,
            }
            self.owed.pop_front();
        }
        Ok(())
    }
}

impl Server {
    pub(super) fn has_room_for_admin(&self) -> bool {
        self.admins.len() < MAX_ADMINS
    }

    pub(super) fn on_listener(&mut self) -> Flow {
        let accepted = self.listener.as_ref().map(|l| l.accept().and_then(|s| s.set_nonblocking(true).map(|()| s)));
        match accepted {
            Some(Ok(socket)) => self.add_admin(socket),
            // The one who knocked is gone, or there are too few descriptors.
            Some(Err(e)) => log::warning(&format!("an administrator could not be let in: {e}")),
            None => {}
        }
        Flow::Continue
    }

    /// Root, or whoever the supervisor named, by the kernel's word at the time of connect().
    pub(super) fn add_admin(&mut self, socket: SeqPacket) {
        let peer = match socket.peer() {
            Ok(peer) if self.admin_uids.contains(&peer.uid) => peer,
            Ok(peer) => return log::warning(&format!("uid {} is no administrator: not let in", peer.uid)),
            Err(e) => return log::warning(&format!("an administrator whom the kernel does not name: {e}")),
        };
        if !self.has_room_for_admin() {
            return log::warning("too many administrators at a time: one is not let in");
        }
        self.next_admin += 1;
        self.admins.insert(self.next_admin, Admin { channel: Channel::new(socket), peer, owed: VecDeque::new() });
    }

    pub(super) fn on_admin(&mut self, id: u64) -> Flow {
        self.write_refused_logins_for_reader();
        let Some(admin) = self.admins.get_mut(&id) else {
            return Flow::Continue;
        };
        if admin.is_owed_nothing() {
            match hear(&admin.channel) {
                Heard::Message(request, _) => {
                    let by = format!("admin uid {}", admin.peer.uid);
                    admin.owed.extend(crate::admin::answer(&mut self.ca, &by, request));
                }
                Heard::Nothing => {}
                Heard::Gone(e) => {
                    if !matches!(e, ChannelError::Closed) {
                        log::warning(&format!("administrator, uid {}: {e}: closed", admin.peer.uid));
                    }
                    self.admins.remove(&id);
                    return Flow::Continue;
                }
            }
        }
        if let Err(e) = admin.pay() {
            log::warning(&format!("administrator, uid {}: {e}: closed", admin.peer.uid));
            self.admins.remove(&id);
        }
        Flow::Continue
    }
}
