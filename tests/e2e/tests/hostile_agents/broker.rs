//! A process of another user's: has an agent of its own that everybody may ask, and takes over connections that an agent hands to it.

use std::fs::Permissions;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::io::IoSliceMut;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

use crate::kit::Kit;
use crate::script::{Agent, Over, Talk};
use crate::serve::{accept, say_ready};

/// Whose process it is.
pub const OWNER: &str = "bob";
/// Its folder.
pub const FOLDER: &str = "/srv/bob";
/// Its agent's socket.
pub const AGENT: &str = "/srv/bob/agent.sock";
/// Where connections are handed over.
const HAND: &str = "/srv/bob/hand.sock";

/// As bob; the agent would do for `user`.
pub fn run(user: &str) {
    let agent = Agent::good(&Kit::of(user));
    let own = open_to_all(AGENT);
    std::thread::spawn(move || accept(&own, agent));
    let hand = open_to_all(HAND);
    say_ready();
    for stream in hand.incoming() {
        let (user, connection) = take(&stream.unwrap());
        std::thread::spawn(move || Agent::good(&Kit::of(&user)).serve(connection, 0));
    }
}

fn open_to_all(path: &str) -> UnixListener {
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
    listener
}

/// Gives a connection to bob, who goes on with it as an honest agent of `user` would; ours is closed.
pub fn hand_over(talk: &Talk, user: &str) -> Result<(), Over> {
    let bob = UnixStream::connect(HAND)?;
    send_with(&bob, user.as_bytes(), &[talk.stream()])?;
    // Not before he has it.
    (&bob).read_to_end(&mut Vec::new())?;
    Err(Over)
}

/// Bytes, with descriptors beside them.
pub fn send_with(to: &UnixStream, bytes: &[u8], descriptors: &[impl AsFd]) -> Result<(), Over> {
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(&descriptors).size()];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(beside.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = rustix::net::sendmsg(to, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL);
    assert_eq!(sent.map_err(std::io::Error::from)?, bytes.len());
    Ok(())
}

fn take(from: &UnixStream) -> (String, UnixStream) {
    let mut name = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received =
        rustix::net::recvmsg(from, &mut [IoSliceMut::new(&mut name)], &mut beside, RecvFlags::CMSG_CLOEXEC).unwrap();
    let connection = beside.drain().find_map(|message| {
        let RecvAncillaryMessage::ScmRights(mut descriptors) = message else { return None };
        descriptors.next()
    });
    (String::from_utf8(name[..received.bytes].to_vec()).unwrap(), connection.unwrap().into())
}
