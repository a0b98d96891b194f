//! A client that sends to sshd what it is given: ssh(1) would not, of a certificate that it cannot read.
//!
//! It does not look who the server is: the server is a child of this process.

use std::io;
use std::net::TcpStream;

use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use aws_lc_rs::rand::SystemRandom;
use sha2::{Digest, Sha256};

use super::packets::{Direction, Packets};
use crate::job::USER;
use crate::keys::Key;
use crate::wire::{Put, Take, string, strings};

const VERSION: &str = "SSH-2.0-OpenSSH_parity";

// RFC 4253 §12, RFC 4252 §6, RFC 5656 §7.1.
const DISCONNECT: u8 = 1;
const SERVICE_REQUEST: u8 = 5;
const SERVICE_ACCEPT: u8 = 6;
const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;
const ECDH_INIT: u8 = 30;
const ECDH_REPLY: u8 = 31;
const USERAUTH_REQUEST: u8 = 50;
const USERAUTH_FAILURE: u8 = 51;
const USERAUTH_SUCCESS: u8 = 52;

/// Offers the certificate with a signature; whether that let [`USER`] in.
pub fn log_in(stream: TcpStream, certificate: &[u8], key: &Key) -> io::Result<bool> {
    let mut packets = Packets::new(stream);
    let session = exchange_keys(&mut packets)?;
    packets.send(&[&[SERVICE_REQUEST][..], &string(b"ssh-userauth")].concat())?;
    expect(&mut packets, &[SERVICE_ACCEPT])?;

    let algorithm = public_key_algorithm(certificate);
    let mut request = vec![USERAUTH_REQUEST];
    request.extend(strings(&[USER.as_bytes(), b"ssh-connection", b"publickey"]));
    request.push(1);
    request.extend(strings(&[algorithm.as_bytes(), certificate]));
    let signature = key.sign(&[string(&session), request.clone()].concat());
    request.put_string(&signature);
    packets.send(&request)?;
    let answer = expect(&mut packets, &[USERAUTH_SUCCESS, USERAUTH_FAILURE])?;
    Ok(answer[0] == USERAUTH_SUCCESS)
}

/// Of the request (RFC 8332 §3.2): for RSA it names the hash.
fn public_key_algorithm(certificate: &[u8]) -> String {
    match String::from_utf8_lossy(Take(certificate).string()).trim_end_matches('\0') {
        "ssh-rsa-cert-v01@openssh.com" => "rsa-sha2-512-cert-v01@openssh.com".to_owned(),
        other => other.to_owned(),
    }
}

/// curve25519-sha256 (RFC 8731); gives the session's identifier.
fn exchange_keys(packets: &mut Packets) -> io::Result<Vec<u8>> {
    let theirs = packets.exchange_versions(VERSION)?;
    let init = kexinit();
    packets.send(&init)?;
    let their_init = expect(packets, &[KEXINIT])?;

    let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).unwrap();
    let public = private.compute_public_key().unwrap();
    packets.send(&[&[ECDH_INIT][..], &string(public.as_ref())].concat())?;
    let reply = expect(packets, &[ECDH_REPLY])?;
    let mut reply = Take(&reply[1..]);
    let (host_key, their_public) = (reply.string(), reply.string());

    let mut secret = Vec::new();
    agree_ephemeral(private, UnparsedPublicKey::new(&X25519, their_public), (), |shared| {
        secret.put_mpint(shared);
        Ok(())
    })
    .unwrap();
    let hashed = [VERSION.as_bytes(), theirs.as_bytes(), &init, &their_init, host_key, public.as_ref(), their_public];
    let session = Sha256::digest([strings(&hashed), secret.clone()].concat()).to_vec();
    packets.send(&[NEWKEYS])?;
    expect(packets, &[NEWKEYS])?;
    let derive = |letter: u8| Sha256::digest([&secret, &session, &[letter][..], &session].concat()).to_vec();
    let direction = |key: u8, iv: u8| Direction::new(&derive(key), &derive(iv)[..12]);
    packets.encrypt(direction(b'C', b'A'), direction(b'D', b'B'));
    Ok(session)
}

fn kexinit() -> Vec<u8> {
    let cipher: &[u8] = b"aes256-gcm@openssh.com";
    let mac: &[u8] = b"hmac-sha2-256";
    let lists: [&[u8]; 10] =
        [b"curve25519-sha256", b"ssh-ed25519", cipher, cipher, mac, mac, b"none", b"none", b"", b""];
    let mut out = vec![KEXINIT];
    out.extend([0; 16]);
    out.extend(strings(&lists));
    out.push(0);
    out.put_u32(0);
    out
}

/// The next message of one of these types. What sshd says beside the point is passed over.
fn expect(packets: &mut Packets, wanted: &[u8]) -> io::Result<Vec<u8>> {
    loop {
        let message = packets.receive()?;
        match message[0] {
            kind if wanted.contains(&kind) => return Ok(message),
            DISCONNECT => return Err(io::Error::other(String::from_utf8_lossy(&message).into_owned())),
            _ => {}
        }
    }
}
