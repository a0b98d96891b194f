//! An agent that costs as little as an agent can: one Ed25519 key and its certificate in memory, one connection after the other. What is left of a module's time beside it is the module's.
//!
//! Process: the benchmark user's, on the scratch host. Input: its files, and requests from that user's own processes.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use ussh_core::agent::{Identity, MAX_FRAME, Request, frame};
use ussh_core::certificate::Certificate;
use ussh_core::keys::PrivateKey;

/// Serves until it is killed. `key`: an unencrypted private key of OpenSSH's; beside it lies `key-cert.pub`.
///
/// # Errors
/// A file cannot be read, or no socket be made.
pub fn serve(socket: &Path, key: &Path) -> Result<(), Box<dyn Error>> {
    let private = PrivateKey::from_openssh(&std::fs::read_to_string(key)?)?;
    let beside = format!("{}-cert.pub", key.display());
    let certificate = Certificate::from_openssh(std::fs::read_to_string(beside)?.trim_end())?;
    let identity = Identity { blob: certificate.blob().to_vec(), comment: b"memory".to_vec() };
    let listener = UnixListener::bind(socket)?;
    loop {
        // One client that breaks off is its own business.
        let (stream, _) = listener.accept()?;
        if let Err(error) = answer_all(stream, &identity, &private) {
            eprintln!("memory-agent: {error}");
        }
    }
}

fn answer_all(mut stream: UnixStream, identity: &Identity, key: &PrivateKey) -> Result<(), Box<dyn Error>> {
    loop {
        let mut length = [0; 4];
        match stream.read_exact(&mut length) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let length = usize::try_from(u32::from_be_bytes(length))?;
        if length > MAX_FRAME {
            return Err("a request that is too large".into());
        }
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        let answer = match Request::parse(&payload) {
            Request::List => frame::identities(std::slice::from_ref(identity)),
            Request::Sign { blob, data, .. } if blob == identity.blob => frame::signature(&key.sign(&data)?),
            Request::Sign { .. }
            | Request::AddCertificate { .. }
            | Request::Remove { .. }
            | Request::Challenge { .. }
            | Request::Other(_) => frame::failure(),
        };
        stream.write_all(&answer)?;
    }
}
