//! An agent that holds one certificate, whatever it looks like, and signs with the key that it was given.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use crate::keys::Key;
use crate::wire::{Put, Take, string};

// draft-ietf-sshm-ssh-agent §6.1.
pub const FAILURE: u8 = 5;
pub const SUCCESS: u8 = 6;
pub const REQUEST_IDENTITIES: u8 = 11;
pub const IDENTITIES_ANSWER: u8 = 12;
pub const SIGN_REQUEST: u8 = 13;
pub const SIGN_RESPONSE: u8 = 14;
const ADD_IDENTITY: u8 = 17;
const REMOVE_ALL_IDENTITIES: u8 = 19;
/// Flag of a signature request.
const RSA_SHA2_256: u32 = 2;

/// Serves one connection, in a thread.
pub fn serve_one(listener: UnixListener, certificate: &[u8], key: &Key) -> JoinHandle<()> {
    let (certificate, key) = (certificate.to_vec(), key.clone());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while let Some(request) = read_frame(&mut stream) {
            let answer = answer(&request, &certificate, &key);
            if write_frame(&mut stream, &answer).is_err() {
                return;
            }
        }
    })
}

/// What an honest agent answers that holds this certificate and its key.
pub fn answer(request: &[u8], certificate: &[u8], key: &Key) -> Vec<u8> {
    let mut request = Take(request);
    match request.byte() {
        REQUEST_IDENTITIES => listing(&[(certificate, b"parity")]),
        SIGN_REQUEST => {
            let (_blob, data, flags) = (request.string(), request.string(), request.u32());
            let algorithm = if flags & RSA_SHA2_256 != 0 { "rsa-sha2-256" } else { "rsa-sha2-512" };
            [&[SIGN_RESPONSE][..], &string(&key.sign_by(algorithm, data))].concat()
        }
        _ => vec![FAILURE],
    }
}

/// Answer to a listing: blobs and comments.
pub fn listing(identities: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = vec![IDENTITIES_ANSWER];
    out.put_u32(u32::try_from(identities.len()).unwrap());
    for (blob, comment) in identities {
        out.put_string(blob);
        out.put_string(comment);
    }
    out
}

/// Puts this certificate, and nothing else, into a real ssh-agent; whether it took it.
pub fn put_into(stream: &mut UnixStream, certificate: &[u8], key: &Key) -> bool {
    let mut ask = |request: &[u8]| {
        write_frame(stream, request).unwrap();
        read_frame(stream).unwrap()[0] == SUCCESS
    };
    assert!(ask(&[REMOVE_ALL_IDENTITIES]));
    key.add_to_agent(certificate).is_some_and(|body| ask(&[&[ADD_IDENTITY][..], &body].concat()))
}

/// One payload; `None` at the end.
pub fn read_frame(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

pub fn write_frame(stream: &mut UnixStream, frame: &[u8]) -> std::io::Result<()> {
    stream.write_all(&string(frame))
}
