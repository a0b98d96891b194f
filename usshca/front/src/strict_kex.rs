//! Terrapin (CVE-2023-48795): a client that does not offer strict key exchange is turned away. russh takes part in strict key exchange but does not demand it, so the client's
//! first packet is looked at as it goes by, before there is any encryption (RFC 4253 §4.2, §6, §7.1; OpenSSH PROTOCOL §1.10). The key exchange itself signs that packet:
//! nobody in between can have added the name.

/// What a client that knows strict key exchange puts among its algorithms.
const NAME: &[u8] = b"kex-strict-c-v00@openssh.com";
const SSH_MSG_KEXINIT: u8 = 20;
/// Longest identification line, in bytes (RFC 4253 §4.2 says 255; sshd reads 8192 with the lines before it, which a client must not send).
const MAX_IDENTIFICATION: usize = 512;
/// Longest KEXINIT packet, in bytes (RFC 4253 §6.1).
const MAX_PACKET: usize = 35_000;
/// The cookie at the start of a KEXINIT, in bytes.
const COOKIE: usize = 16;

/// Looks at what a client sends until it knows.
pub struct StrictKex {
    /// `None`: it knows, and all is well.
    seen: Option<Vec<u8>>,
}

impl StrictKex {
    /// At the first byte of a connection.
    pub fn new() -> Self {
        StrictKex { seen: Some(Vec::new()) }
    }

    /// Takes the next bytes.
    /// # Errors
    /// Why the client is turned away.
    pub fn watch(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        let Some(seen) = &mut self.seen else {
            return Ok(());
        };
        seen.extend_from_slice(bytes);
        match judge(seen)? {
            Verdict::Undecided => {}
            Verdict::Strict => self.seen = None,
        }
        Ok(())
    }

    /// Whether the client's KEXINIT has come and is good.
    pub fn is_content(&self) -> bool {
        self.seen.is_none()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Undecided,
    Strict,
}

fn judge(seen: &[u8]) -> Result<Verdict, &'static str> {
    let Some(line_end) = seen.iter().position(|&b| b == b'\n') else {
        return if seen.len() > MAX_IDENTIFICATION { Err("no SSH client") } else { Ok(Verdict::Undecided) };
    };
    let packet = seen.get(line_end + 1..).unwrap_or_default();
    let Some((length, packet)) = packet.split_first_chunk() else {
        return Ok(Verdict::Undecided);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_PACKET {
        return Err("malformed key exchange");
    }
    let Some(packet) = packet.get(..length) else {
        return Ok(Verdict::Undecided);
    };
    match first_names(packet) {
        Some(names) if names.split(|&b| b == b',').any(|name| name == NAME) => Ok(Verdict::Strict),
        Some(_) => Err("the client does not offer strict key exchange (CVE-2023-48795): it is too old"),
        None => Err("malformed key exchange"),
    }
}

/// kex_algorithms of a KEXINIT: padding length, message number, cookie, then the first name-list.
fn first_names(packet: &[u8]) -> Option<&[u8]> {
    let (_padding, payload) = packet.split_first()?;
    let (&SSH_MSG_KEXINIT, rest) = payload.split_first()? else {
        return None;
    };
    let (length, names) = rest.get(COOKIE..)?.split_first_chunk()?;
    names.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
pub use tests::an_opening;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn opening(names: &str, message: u8) -> Vec<u8> {
        let mut payload = vec![4, message];
        payload.extend_from_slice(&[7; COOKIE]);
        payload.extend_from_slice(&u32::try_from(names.len()).unwrap().to_be_bytes());
        payload.extend_from_slice(names.as_bytes());
        payload.extend_from_slice(&[0; 40]);
        let mut all = b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n".to_vec();
        all.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
        all.extend_from_slice(&payload);
        all
    }

    /// What a good client sends first.
    pub fn an_opening() -> Vec<u8> {
        opening("curve25519-sha256,kex-strict-c-v00@openssh.com", SSH_MSG_KEXINIT)
    }

    /// However the bytes are cut.
    fn watched(opening: &[u8], step: usize) -> Result<bool, &'static str> {
        let mut kex = StrictKex::new();
        opening.chunks(step).try_for_each(|c| kex.watch(c))?;
        Ok(kex.seen.is_none())
    }

    #[test]
    fn a_client_that_offers_it_passes_whatever_the_cut() {
        let good = opening("curve25519-sha256,kex-strict-c-v00@openssh.com,ext-info-c", SSH_MSG_KEXINIT);
        for step in [1, 2, 3, 7, 64, good.len()] {
            assert_eq!(watched(&good, step), Ok(true), "{step}");
        }
        assert_eq!(watched(&good[..good.len() - 1], 5), Ok(false));
    }

    #[test]
    fn a_client_that_does_not_is_turned_away() {
        for names in
            ["curve25519-sha256", "curve25519-sha256,kex-strict-s-v00@openssh.com", "xkex-strict-c-v00@openssh.com", ""]
        {
            assert!(watched(&opening(names, SSH_MSG_KEXINIT), 9).unwrap_err().contains("strict"), "{names}");
        }
    }

    #[test]
    fn anything_before_the_key_exchange_is_malformed() {
        assert_eq!(watched(&opening("kex-strict-c-v00@openssh.com", 2), 9), Err("malformed key exchange"));
        assert_eq!(watched(&[b'a'; 600], 9), Err("no SSH client"));
        assert_eq!(watched(b"SSH-2.0-x\r\n\xff\xff\xff\xff", 9), Err("malformed key exchange"));
        assert_eq!(watched(b"SSH-2.0-x\r\n\0\0\0\x02\x01\x14", 9), Err("malformed key exchange"));
    }
}
