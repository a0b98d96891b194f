//! An agent that holds one certificate, whatever it looks like, and signs with the key that it was given.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use crate::keys::Key;
use crate::wire::{Put, Take, string};

// draft-ietf-sshm-ssh-agent §6.1.
const FAILURE: u8 = 5;
const SUCCESS: u8 = 6;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
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

fn answer(request: &[u8], certificate: &[u8], key: &Key) -> Vec<u8> {
    let mut request = Take(request);
    match request.byte() {
        REQUEST_IDENTITIES => {
            let mut out = vec![IDENTITIES_ANSWER];
            out.put_u32(1);
            out.put_string(certificate);
            out.put_string(b"parity");
            out
        }
        SIGN_REQUEST => {
            let (_blob, data, flags) = (request.string(), request.string(), request.u32());
            let algorithm = if flags & RSA_SHA2_256 != 0 { "rsa-sha2-256" } else { "rsa-sha2-512" };
            [&[SIGN_RESPONSE][..], &string(&key.sign_by(algorithm, data))].concat()
        }
        _ => vec![FAILURE],
    }
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

fn read_frame(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

fn write_frame(stream: &mut UnixStream, frame: &[u8]) -> std::io::Result<()> {
    stream.write_all(&string(frame))
}
