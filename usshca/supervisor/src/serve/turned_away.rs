//! What a client is told that gets no front: an identification and one SSH_MSG_DISCONNECT, which its program shows to the person. No process is made for it, and nothing
//! it says is read.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// The fronts' identification (RFC 4253 §4.2).
const IDENTIFICATION: &[u8] = b"SSH-2.0-usshca\r\n";
/// RFC 4253 §11.1.
const SSH_MSG_DISCONNECT: u8 = 1;
/// RFC 4253 §6: a packet before any key exchange is a multiple of this, in bytes.
const BLOCK: usize = 8;
/// RFC 4253 §6: the least padding, in bytes.
const LEAST_PADDING: usize = 4;

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Too many that have not logged in, all in all.
    MaxStartups,
    /// As many connections as there may be at all.
    Full,
    /// As many from its source as there may be.
    Source,
    /// Its source has a penalty to serve.
    Penalty,
    /// The machine has run out of something.
    Shortage,
}

impl Why {
    /// All of them.
    pub const ALL: [Why; 5] = [Why::MaxStartups, Why::Full, Why::Source, Why::Penalty, Why::Shortage];

    /// For metrics.
    pub fn name(self) -> &'static str {
        match self {
            Why::MaxStartups => "max_startups",
            Why::Full => "max_connections",
            Why::Source => "max_connections_per_source",
            Why::Penalty => "penalty",
            Why::Shortage => "shortage",
        }
    }

    /// What the person reads, and what to try.
    fn sentence(self) -> &'static str {
        match self {
            Why::MaxStartups | Why::Full => {
                "Too many people are logging in at the CA right now. Please try again in a moment."
            }
            Why::Source => "Too many connections to the CA from your address. Please try again in a moment.",
            Why::Penalty => {
                "Not allowed at this time: too many logins from your address have failed. Please try again in a few minutes."
            }
            Why::Shortage => {
                "The CA's machine has run out of resources. Try again in a minute; if it stays so, tell the CA's administrators."
            }
        }
    }

    /// RFC 4253 §11.1: SSH_DISCONNECT_HOST_NOT_ALLOWED_TO_CONNECT, SSH_DISCONNECT_BY_APPLICATION, SSH_DISCONNECT_TOO_MANY_CONNECTIONS.
    fn code(self) -> u32 {
        match self {
            Why::Penalty => 1,
            Why::Shortage => 11,
            Why::MaxStartups | Why::Full | Why::Source => 12,
        }
    }
}

/// How long a connection stays open once all was said: a client sends its half of the key exchange first, and a closed connection would fail that before it reads.
const LINGER: Duration = Duration::from_secs(1);
/// Connections that stay open for that at a time; one more takes the place of the oldest.
const MOST_LEAVING: usize = 64;

/// Clients that were told, and may still be reading.
#[derive(Debug, Default)]
pub struct Leaving(VecDeque<(Instant, TcpStream)>);

impl Leaving {
    /// Says it. Never waits: it fits into the socket's empty buffer, or the client is told nothing.
    pub fn turn_away(&mut self, mut stream: TcpStream, why: Why, now: Instant) {
        // What can go wrong is that the client has gone.
        let _ = stream.set_nonblocking(true);
        let _ = stream.write_all(&goodbye(why));
        let _ = stream.shutdown(Shutdown::Write);
        if self.0.len() >= MOST_LEAVING {
            self.0.pop_front();
        }
        self.0.push_back((now + LINGER, stream));
    }

    /// When the next one is to be closed.
    pub fn next_instant(&self) -> Option<Instant> {
        self.0.front().map(|(until, _)| *until)
    }

    /// Closes those whose time is up.
    pub fn close(&mut self, now: Instant) {
        while self.next_instant().is_some_and(|until| now >= until) {
            self.0.pop_front();
        }
    }
}

/// An identification and an unencrypted SSH_MSG_DISCONNECT (RFC 4253 §6, §11.1).
fn goodbye(why: Why) -> Vec<u8> {
    let text = why.sentence().as_bytes();
    let mut payload = vec![SSH_MSG_DISCONNECT];
    payload.extend_from_slice(&why.code().to_be_bytes());
    put_string(&mut payload, text);
    // Language tag: none.
    put_string(&mut payload, b"");
    // packet_length (4) and padding_length (1) count towards the multiple.
    let mut padding = BLOCK - (4 + 1 + payload.len()) % BLOCK;
    if padding < LEAST_PADDING {
        padding += BLOCK;
    }
    let mut all = IDENTIFICATION.to_vec();
    all.extend_from_slice(&u32::try_from(1 + payload.len() + padding).unwrap_or(0).to_be_bytes());
    all.push(u8::try_from(padding).unwrap_or(0));
    all.extend_from_slice(&payload);
    // Padding should be random where it is encrypted; this one is not.
    all.resize(all.len() + padding, 0);
    all
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_goodbye_is_one_well_formed_packet() {
        for why in Why::ALL {
            let all = goodbye(why);
            let packet = all.strip_prefix(IDENTIFICATION).unwrap();
            let length = u32::from_be_bytes(packet[..4].try_into().unwrap()) as usize;
            let padding = packet[4] as usize;
            assert_eq!(length, packet.len() - 4);
            assert!(packet.len() % BLOCK == 0 && packet.len() >= 16 && (LEAST_PADDING..256).contains(&padding));
            let payload = &packet[5..packet.len() - padding];
            assert_eq!(payload[0], SSH_MSG_DISCONNECT);
            let text = &payload[9..payload.len() - 4];
            assert_eq!(u32::from_be_bytes(payload[5..9].try_into().unwrap()) as usize, text.len());
            assert_eq!(text, why.sentence().as_bytes());
            assert!(all.len() < 512, "it fits into any buffer");
        }
    }

    #[test]
    fn a_client_that_sends_before_it_reads_still_reads_and_few_of_them_stay() {
        use std::io::Read;
        use std::net::TcpListener;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut leaving, now) = (Leaving::default(), Instant::now());
        let connect = |leaving: &mut Leaving| {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            leaving.turn_away(listener.accept().unwrap().0, Why::Source, now);
            client
        };
        let mut client = connect(&mut leaving);
        for _ in 0..100 {
            client.write_all(b"SSH-2.0-x\r\n and a key exchange").unwrap();
        }
        let mut read = Vec::new();
        client.read_to_end(&mut read).unwrap();
        assert_eq!(read, goodbye(Why::Source));
        let more: Vec<TcpStream> = (0..MOST_LEAVING + 10).map(|_| connect(&mut leaving)).collect();
        assert_eq!(leaving.0.len(), MOST_LEAVING);
        leaving.close(now + LINGER);
        assert!(leaving.0.is_empty() && leaving.next_instant().is_none());
        drop(more);
    }
}
