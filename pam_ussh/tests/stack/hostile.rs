//! Agents that say what no agent should: the fuzz targets' corpus, frames that lie about their length, and a real agent's words cut off anywhere, or with a signature that is none.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// What is done with one connection.
pub enum Script {
    /// These bytes, and then nothing more.
    Bytes(Vec<u8>),
    /// As before, but the connection stays open until the other side has enough.
    Mute(Vec<u8>),
    /// The real agent's answers up to this byte.
    Cut(usize),
    /// All of them, one bit of this byte of the signature turned over.
    Flipped(usize),
}

/// An answer of SSH_AGENT_SIGN_RESPONSE with an Ed25519 signature, framed: draft-miller-ssh-agent §3.6, RFC 8709 §6.
const SIGNATURE: usize = 4 + 1 + 4 + (4 + 11) + (4 + 64);
/// SSH_AGENTC_REQUEST_IDENTITIES, framed.
const LIST: [u8; 5] = [0, 0, 0, 1, 11];

/// All of them, for an agent with one good identity of an Ed25519 key.
pub fn scripts(agent: &Path) -> Vec<Script> {
    let mut agent = UnixStream::connect(agent).unwrap();
    agent.write_all(&LIST).unwrap();
    let listing = read_frame(&mut agent).unwrap().len();
    let mut scripts = Vec::new();
    for (target, framed) in [("agent", false), ("decision", true)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target);
        for entry in fs::read_dir(folder).unwrap() {
            let data = fs::read(entry.unwrap().path()).unwrap();
            // Twice: the second request has an answer too.
            scripts.push(Script::Bytes(if framed { data } else { [frame(&data), frame(&data)].concat() }));
        }
    }
    let lengths = [0, 1, 256 * 1024, 256 * 1024 + 1, 0x7fff_ffff, 0xffff_ffff_u32];
    let lies = lengths.iter().map(|length| [&length.to_be_bytes()[..], &[12], &[0xa5; 4096]].concat());
    scripts.extend(lies.map(Script::Bytes));
    // As large as it may be: one identity that fills it, and as many as it holds with nothing in them.
    let filled = [&[12, 0, 0, 0, 1][..], &(256 * 1024 - 13_u32).to_be_bytes(), &vec![0xa5; 256 * 1024 - 9]].concat();
    let empty = [&[12][..], &2048_u32.to_be_bytes(), &[0; 2048 * 8]].concat();
    scripts.extend([filled, empty].map(|payload| Script::Bytes(frame(&payload))));
    scripts.extend([Script::Mute(Vec::new()), Script::Mute(vec![0, 0, 1])]);
    scripts.extend((0..listing + SIGNATURE).step_by(17).map(Script::Cut));
    scripts.extend((0..SIGNATURE).step_by(13).map(Script::Flipped));
    scripts
}

impl Script {
    /// Plays it to the module. `agent`: the real one.
    pub fn play(&self, client: UnixStream, agent: &Path) {
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        match self {
            Script::Bytes(bytes) => {
                tell(&client, bytes);
                let _ = client.shutdown(Shutdown::Write);
                outlast(&client);
            }
            Script::Mute(bytes) => {
                tell(&client, bytes);
                outlast(&client);
            }
            Script::Cut(most) => {
                let mut left = *most;
                relay(client, agent, |answer| {
                    answer.truncate(left);
                    left -= answer.len();
                    left > 0
                });
            }
            Script::Flipped(byte) => relay(client, agent, |answer| {
                if answer.len() == SIGNATURE {
                    answer[*byte] ^= 0x10;
                }
                true
            }),
        }
    }
}

/// The other side may hang up whenever it has enough.
fn tell(mut client: &UnixStream, bytes: &[u8]) {
    let _ = client.write_all(bytes);
}

/// Until the other side hangs up.
fn outlast(mut client: &UnixStream) {
    let _ = client.read_to_end(&mut Vec::new());
}

/// Hands requests and answers on until one side has enough, or `change` has.
fn relay(mut client: UnixStream, agent: &Path, mut change: impl FnMut(&mut Vec<u8>) -> bool) {
    let mut agent = UnixStream::connect(agent).unwrap();
    while let Some(request) = read_frame(&mut client) {
        agent.write_all(&request).unwrap();
        let mut answer = read_frame(&mut agent).unwrap();
        let goes_on = change(&mut answer);
        tell(&client, &answer);
        if !goes_on {
            return;
        }
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [&u32::try_from(payload.len()).unwrap().to_be_bytes()[..], payload].concat()
}

/// A frame with its length; `None` at the end.
fn read_frame(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut payload = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some(frame(&payload))
}
