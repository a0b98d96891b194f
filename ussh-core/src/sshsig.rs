//! SSHSIG (PROTOCOL.sshsig): what is signed to prove a key for one purpose, told apart from every other by its namespace.
//!
//! It begins with `SSHSIG`, where a login's signed data begins with the length of a session identifier and a certificate with that of its type's name, so that none of them passes for another.

use crate::digest::sha512;
use crate::wire::WireWrite;

/// PROTOCOL.sshsig MAGIC_PREAMBLE.
pub const PREAMBLE: &[u8] = b"SSHSIG";

/// PROTOCOL.sshsig hash algorithm.
pub const HASH: &str = "sha512";

/// What a key signs for `message`: preamble, namespace, reserved, hash algorithm, the message's SHA-512. The same as `ssh-keygen -Y sign -n namespace` signs.
pub fn signed_data(namespace: &str, message: &[u8]) -> Vec<u8> {
    let mut data = PREAMBLE.to_vec();
    data.put_string(namespace.as_bytes());
    data.put_string(b"");
    data.put_string(HASH.as_bytes());
    data.put_string(&sha512(message));
    data
}
