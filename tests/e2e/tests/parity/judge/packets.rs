//! Packets of SSH's transport (RFC 4253 §6), in clear until there are keys, then under aes256-gcm@openssh.com (RFC 5647 as OpenSSH reads it).

use std::io::{self, Read, Write};
use std::net::TcpStream;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::wire::Take;

/// Bytes of the tag.
const TAG: usize = 16;

pub struct Packets {
    stream: TcpStream,
    to_server: Option<Direction>,
    from_server: Option<Direction>,
}

/// One direction's key, and the number of the next packet.
pub struct Direction {
    key: LessSafeKey,
    iv: [u8; 12],
}

impl Direction {
    pub fn new(key: &[u8], iv: &[u8]) -> Self {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
        Direction { key, iv: iv.try_into().unwrap() }
    }

    /// The last eight bytes count up.
    fn nonce(&mut self) -> Nonce {
        let nonce = Nonce::assume_unique_for_key(self.iv);
        let count = u64::from_be_bytes(self.iv[4..].try_into().unwrap()).wrapping_add(1);
        self.iv[4..].copy_from_slice(&count.to_be_bytes());
        nonce
    }
}

impl Packets {
    pub fn new(stream: TcpStream) -> Self {
        Packets { stream, to_server: None, from_server: None }
    }

    /// Both directions from now on.
    pub fn encrypt(&mut self, to_server: Direction, from_server: Direction) {
        (self.to_server, self.from_server) = (Some(to_server), Some(from_server));
    }

    pub fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        // The length counts in clear packets only (OpenSSH: `aadlen`).
        let beside = if self.to_server.is_some() { 0 } else { 4 };
        let block = 16;
        let padding = block - (beside + 1 + payload.len()) % block;
        let padding = if padding < 4 { padding + block } else { padding };
        let mut body = vec![u8::try_from(padding).unwrap()];
        body.extend_from_slice(payload);
        body.resize(body.len() + padding, 0);
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        if let Some(direction) = &mut self.to_server {
            let nonce = direction.nonce();
            direction.key.seal_in_place_append_tag(nonce, Aad::from(length), &mut body).unwrap();
        }
        self.stream.write_all(&[&length[..], &body].concat())
    }

    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let tag = if self.from_server.is_some() { TAG } else { 0 };
        let mut body = vec![0; u32::from_be_bytes(length) as usize + tag];
        self.stream.read_exact(&mut body)?;
        if let Some(direction) = &mut self.from_server {
            let nonce = direction.nonce();
            let opened = direction.key.open_in_place(nonce, Aad::from(length), &mut body);
            let plain = opened.map_err(|_| io::Error::other("a packet that is not genuine"))?.len();
            body.truncate(plain);
        }
        let mut packet = Take(&body);
        let padding = usize::from(packet.byte());
        let payload = packet.0;
        Ok(payload[..payload.len() - padding].to_vec())
    }

    /// The line with the version, which stands before all packets.
    pub fn exchange_versions(&mut self, ours: &str) -> io::Result<String> {
        self.stream.write_all(format!("{ours}\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            line.extend(byte);
        }
        Ok(String::from_utf8(line).unwrap().trim_end().to_owned())
    }
}
