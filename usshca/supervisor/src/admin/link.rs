//! A connection with the signer.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::Duration;

use ussh_os::process;
use ussh_os::seqpacket::{self, SeqPacket};
use usshca_admin::desk;
use usshca_ipc::admin::{Reply, Request};
use usshca_ipc::channel::{Channel, ChannelError};
use usshca_ipc::layout::Layout;
use usshca_ipc::signer::Control;

use crate::failure::Failure;
use crate::prepare::{Base, other_administrator};
use crate::signer_process::{self, SignerProcess};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection with the CA's signer, or with one of our own that ends with it.
pub struct Link {
    channel: Option<Channel<Request, Reply>>,
    own: Option<SignerProcess>,
}

impl Link {
    /// With the running signer; if none runs, with one for the moment.
    pub fn open(layout: &Layout) -> Result<Self, Failure> {
        let path = layout.admin_socket.display();
        match seqpacket::connect(&layout.admin_socket) {
            Ok(socket) => Self::running(socket),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                Self::own(&Base::load(layout)?)
            }
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                Err(Failure::refused(format!("{path}: {e}; this is for root, or for the account that runs the CA")))
            }
            Err(e) => Err(Failure::unavailable(format!("{path}: {e}"))),
        }
    }

    /// With a signer of our own, on the same state; it holds the lock, so that there is never a second one.
    pub fn own(base: &Base) -> Result<Self, Failure> {
        Self::with(signer_process::start_ready(|| signer_process::start(base))?)
    }

    /// With the running signer; if none runs, with one for the moment that changes nothing on disk, whatever is to be done there.
    pub fn look(base: &Base) -> Result<Self, Failure> {
        match seqpacket::connect(&base.layout.admin_socket) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                Self::with(signer_process::start_ready(|| signer_process::start_looking(base))?)
            }
            _ => Self::open(&base.layout),
        }
    }

    /// Whether it is with the CA's own signer.
    pub fn is_running(&self) -> bool {
        self.own.is_none()
    }

    /// Of a signer of our own: why CA keys sign nothing. The running one tells the supervisor.
    pub fn key_troubles(&self) -> Result<Vec<String>, Failure> {
        self.own.as_ref().map_or_else(|| Ok(Vec::new()), SignerProcess::key_troubles)
    }

    /// With the first signer of a new CA, which makes the inventory.
    pub fn first(base: &Base) -> Result<Self, Failure> {
        Self::with(signer_process::start_ready(|| signer_process::start_first(base))?)
    }

    fn with(signer: SignerProcess) -> Result<Self, Failure> {
        let failed = |e: &dyn std::fmt::Display| Failure::internal(format!("the signer cannot be asked: {e}"));
        let (ours, theirs) = SeqPacket::pair().map_err(|e| failed(&e))?;
        signer.control.send_with(&Control::NewAdmin, &[theirs.as_fd()]).map_err(|e| failed(&e))?;
        Ok(Link { channel: Some(Channel::new(ours)), own: Some(signer) })
    }

    /// Somebody else's socket in this place could say "revoked" and revoke nothing.
    fn running(socket: SeqPacket) -> Result<Self, Failure> {
        match socket.peer() {
            Ok(peer) if peer.uid == 0 || peer.uid == process::effective_uid() => {
                Ok(Link { channel: Some(Channel::new(socket)), own: None })
            }
            Ok(peer) => Err(Failure::refused(other_administrator(peer.uid))),
            Err(e) => Err(Failure::unavailable(format!("the admin socket: {e}"))),
        }
    }

    fn channel(&self) -> Result<&Channel<Request, Reply>, Failure> {
        self.channel.as_ref().ok_or_else(|| Failure::internal("the connection with the signer is closed"))
    }
}

impl desk::Link for Link {
    fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        self.channel()?.send(request).map_err(unavailable)?;
        self.next()
    }

    fn next(&self) -> Result<Reply, Failure> {
        let reply = self.channel()?.receive(Some(PATIENCE)).map_err(unavailable)?.message;
        if let Reply::Refused(why) = reply { Err(Failure::refused(why)) } else { Ok(reply) }
    }
}

impl Drop for Link {
    /// A signer of our own puts its database in order before it ends.
    fn drop(&mut self) {
        self.channel = None;
        if let Some(own) = self.own.take() {
            own.finish();
        }
    }
}

fn unavailable(error: ChannelError) -> Failure {
    let hint = match &error {
        ChannelError::Closed => "it closed the connection; are you one of the CA's administrators?".to_owned(),
        ChannelError::Io(e) if e.kind() == ErrorKind::TimedOut => "it does not answer; look at the CA's log".to_owned(),
        ChannelError::Io(_) | ChannelError::Malformed => error.to_string(),
    };
    Failure::unavailable(format!("the CA's signer: {hint}"))
}
