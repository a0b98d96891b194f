//! What an agent does on a connection: as an honest one would, but for the steps that a case replaces.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpid, kill_process};
use sha2::{Digest, Sha512};

use crate::agent::{self, FAILURE, REQUEST_IDENTITIES, SIGN_REQUEST};
use crate::keys::Key;
use crate::kit::{Kit, USER_KEY};
use crate::wire::{Put, Take, string, strings};

// draft-ietf-sshm-ssh-agent §6.1.
pub const SUCCESS: u8 = 6;
pub const EXTENSION: u8 = 27;
pub const EXTENSION_RESPONSE: u8 = 29;
/// Name of our extension (docs/challenge.md): the last word of the comment of an identity that takes challenges in clear.
pub const CHALLENGE: &[u8] = b"challenge@ussh";

/// The connection is done with, and closed.
pub struct Over;

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Over
    }
}

pub type Step = Box<dyn Fn(&mut Talk, &Ask<'_>) -> Result<(), Over> + Send + Sync>;

/// What an agent lists, and the key with which it signs for that.
#[derive(Clone)]
pub struct Identity {
    pub blob: Vec<u8>,
    pub comment: Vec<u8>,
    pub key: Key,
}

impl Identity {
    /// A good one.
    pub fn good(kit: &Kit) -> Self {
        Self::with_key(kit, USER_KEY)
    }

    /// A good one for the key of this name.
    pub fn with_key(kit: &Kit, key: &str) -> Self {
        Self::of(kit.issue(&kit.certificate(key)), kit.key(key))
    }

    pub fn of(blob: Vec<u8>, key: Key) -> Self {
        Identity { blob, comment: b"hostile".to_vec(), key }
    }

    pub fn comment(mut self, comment: impl Into<Vec<u8>>) -> Self {
        self.comment = comment.into();
        self
    }
}

/// One agent.
pub struct Agent {
    pub identities: Vec<Identity>,
    at_once: Step,
    at_listing: Step,
    at_signing: Step,
    at_challenge: Step,
}

/// A question, and what is known of it.
pub struct Ask<'a> {
    pub agent: &'a Agent,
    /// Its payload; empty before there is any.
    pub request: &'a [u8],
    /// The payload that an honest agent would answer.
    pub honest: Vec<u8>,
    /// How many connections came before this one.
    pub connection: usize,
}

fn honestly(talk: &mut Talk, ask: &Ask<'_>) -> Result<(), Over> {
    talk.answer(&ask.honest)
}

impl Agent {
    /// An honest agent that holds these.
    pub fn with(identities: Vec<Identity>) -> Self {
        Agent {
            identities,
            at_once: Box::new(|_, _| Ok(())),
            at_listing: Box::new(honestly),
            at_signing: Box::new(honestly),
            at_challenge: Box::new(honestly),
        }
    }

    /// An honest agent with a good identity.
    pub fn good(kit: &Kit) -> Self {
        Self::with(vec![Identity::good(kit)])
    }

    /// As soon as there is a connection.
    pub fn at_once(mut self, step: impl Fn(&mut Talk, &Ask<'_>) -> Result<(), Over> + Send + Sync + 'static) -> Self {
        self.at_once = Box::new(step);
        self
    }

    /// Instead of the answer to a listing.
    pub fn at_listing(
        mut self,
        step: impl Fn(&mut Talk, &Ask<'_>) -> Result<(), Over> + Send + Sync + 'static,
    ) -> Self {
        self.at_listing = Box::new(step);
        self
    }

    /// Instead of a signature.
    pub fn at_signing(
        mut self,
        step: impl Fn(&mut Talk, &Ask<'_>) -> Result<(), Over> + Send + Sync + 'static,
    ) -> Self {
        self.at_signing = Box::new(step);
        self
    }

    /// Instead of the answer to a challenge in clear.
    pub fn at_challenge(
        mut self,
        step: impl Fn(&mut Talk, &Ask<'_>) -> Result<(), Over> + Send + Sync + 'static,
    ) -> Self {
        self.at_challenge = Box::new(step);
        self
    }

    /// Serves one connection to its end.
    pub fn serve(&self, stream: UnixStream, connection: usize) {
        let mut talk = Talk { stream };
        let first = Ask { agent: self, request: &[], honest: Vec::new(), connection };
        if (self.at_once)(&mut talk, &first).is_err() {
            return;
        }
        while let Some(request) = talk.asked() {
            let step = match request[0] {
                REQUEST_IDENTITIES => &self.at_listing,
                SIGN_REQUEST => &self.at_signing,
                EXTENSION => &self.at_challenge,
                other => panic!("pam_ussh asks {other}"),
            };
            let ask = Ask { agent: self, request: &request, honest: self.honest(&request), connection };
            if step(&mut talk, &ask).is_err() {
                return;
            }
        }
    }

    fn honest(&self, request: &[u8]) -> Vec<u8> {
        if request[0] == REQUEST_IDENTITIES {
            return self.listing();
        }
        let asked = Asked::of(request);
        let Some(identity) = self.identities.iter().find(|identity| identity.blob == asked.blob) else {
            return vec![FAILURE];
        };
        if request[0] == SIGN_REQUEST {
            return agent::answer(request, &identity.blob, &identity.key);
        }
        let signature = identity.key.sign(&sshsig(&asked.data));
        [&[EXTENSION_RESPONSE][..], &strings(&[CHALLENGE, &signature])].concat()
    }

    /// All identities, as an answer.
    pub fn listing(&self) -> Vec<u8> {
        let all: Vec<(&[u8], &[u8])> =
            self.identities.iter().map(|identity| (&identity.blob[..], &identity.comment[..])).collect();
        agent::listing(&all)
    }
}

/// A request for a signature, or a challenge in clear.
pub struct Asked {
    pub blob: Vec<u8>,
    /// To be signed, or to be made an SSHSIG of.
    pub data: Vec<u8>,
}

impl Asked {
    pub fn of(request: &[u8]) -> Self {
        let mut take = Take(request);
        if take.byte() == EXTENSION {
            assert_eq!(take.string(), CHALLENGE);
        }
        Asked { blob: take.string().to_vec(), data: take.string().to_vec() }
    }
}

impl Ask<'_> {
    /// What is to be signed.
    pub fn data(&self) -> Vec<u8> {
        Asked::of(self.request).data
    }
}

/// What is signed for a message in our namespace (PROTOCOL.sshsig).
pub fn sshsig(message: &[u8]) -> Vec<u8> {
    let fields = strings(&[b"pam-ussh@ussh", b"", b"sha512", &Sha512::digest(message)]);
    [&b"SSHSIG"[..], &fields].concat()
}

/// A connection, and what an agent may do with it.
pub struct Talk {
    stream: UnixStream,
}

impl Talk {
    /// One request's payload; `None` at the end.
    pub fn asked(&mut self) -> Option<Vec<u8>> {
        agent::read_frame(&mut self.stream)
    }

    /// These bytes and nothing else.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Over> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// A payload, with its length in front.
    pub fn answer(&mut self, payload: &[u8]) -> Result<(), Over> {
        Ok(agent::write_frame(&mut self.stream, payload)?)
    }

    /// A payload whose length is said to be this.
    pub fn answer_of(&mut self, length: u32, payload: &[u8]) -> Result<(), Over> {
        self.send(&[&length.to_be_bytes(), payload].concat())
    }

    /// A payload byte by byte, with a pause before each.
    pub fn answer_slowly(&mut self, payload: &[u8], pause: Duration) -> Result<(), Over> {
        string(payload).iter().try_for_each(|byte| {
            std::thread::sleep(pause);
            self.send(&[*byte])
        })
    }

    /// These bytes again and again.
    pub fn send_for_ever(&mut self, bytes: &[u8]) -> Result<(), Over> {
        loop {
            self.send(bytes)?;
        }
    }

    /// Nothing more, until the other side is gone.
    pub fn hang(&mut self) -> Result<(), Over> {
        let mut ignored = [0; 4096];
        while self.stream.read(&mut ignored)? > 0 {}
        Err(Over)
    }

    /// This whole process stands still, until it is killed.
    pub fn freeze(&mut self) -> Result<(), Over> {
        freeze();
        // The signal may take another thread first.
        self.hang()
    }

    /// Closes with a request unread, which the other side sees as a reset.
    pub fn reset(&mut self) -> Result<(), Over> {
        let mut wanted = [PollFd::new(&self.stream, PollFlags::IN)];
        poll(&mut wanted, None).map_err(std::io::Error::from)?;
        Err(Over)
    }

    pub fn shut_down(&mut self, which: Shutdown) -> Result<(), Over> {
        Ok(self.stream.shutdown(which)?)
    }

    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

/// SIGSTOP to oneself.
pub fn freeze() {
    kill_process(getpid(), Signal::STOP).unwrap();
}

/// An answer with this number and these strings.
pub fn message(number: u8, fields: &[&[u8]]) -> Vec<u8> {
    [&[number][..], &strings(fields)].concat()
}

/// A listing that claims to hold so many.
pub fn counting(count: u32, listing: &[u8]) -> Vec<u8> {
    let mut out = vec![listing[0]];
    out.put_u32(count);
    out.extend_from_slice(&listing[5..]);
    out
}
