//! Refusals in words, for the log: what it was that a host asked for.

use ussh_core::escape::escape_word;
use ussh_core::sshsig::PREAMBLE;
use ussh_core::wire::Reader;

/// SSH_MSG_USERAUTH_REQUEST (RFC 4252 §6).
const USERAUTH_REQUEST: u8 = 50;
/// Longest foreign word, bytes.
const MAX_WORD: usize = 64;

/// A request that hosts are not given, by its first byte (draft-ietf-sshm-ssh-agent §6.1; OpenSSH's authfd.h for those of protocol 1).
pub fn request_name(payload: &[u8]) -> String {
    let number = payload.first().copied().unwrap_or_default();
    let name = match number {
        1..=10 => "a request of SSH protocol 1",
        11 | 13 => "a malformed request",
        17 | 25 => "to add a key",
        18 => "to remove a key",
        19 => "to remove all keys",
        20 | 26 => "to add a smartcard",
        21 => "to remove a smartcard",
        22 => "to lock the agent",
        23 => "to unlock the agent",
        27 => return extension_name(payload).unwrap_or_else(|| "a malformed extension".to_owned()),
        _ => return format!("request number {number}"),
    };
    name.to_owned()
}

fn extension_name(payload: &[u8]) -> Option<String> {
    let name = Reader::new(payload.get(1..)?).string().ok()?;
    Some(format!("the extension {}", escape_word(name, MAX_WORD)))
}

/// What was to be signed: a login's request, an SSHSIG of another namespace, or something.
pub fn what_it_is(data: &[u8]) -> String {
    login(data).or_else(|| sshsig(data)).unwrap_or_else(|| "something".to_owned())
}

/// RFC 4252 §7: session identifier, request, user, service, method. Where it goes does not stand in it.
fn login(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(data);
    let _session = reader.string().ok()?;
    if reader.byte().ok()? != USERAUTH_REQUEST {
        return None;
    }
    Some(format!("a login as {} elsewhere", escape_word(reader.string().ok()?, MAX_WORD)))
}

fn sshsig(data: &[u8]) -> Option<String> {
    let mut reader = Reader::new(data);
    if reader.take(PREAMBLE.len()).ok()? != PREAMBLE {
        return None;
    }
    Some(format!("an SSHSIG for {}", escape_word(reader.string().ok()?, MAX_WORD)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ussh_core::wire::WireWrite;

    #[test]
    fn a_login_and_a_file_are_named_and_names_are_words() {
        let mut data = Vec::new();
        data.put_string(&[7; 32]);
        data.put_byte(50);
        data.put_string(b"root x");
        assert_eq!(what_it_is(&data), "a login as root\\x20x elsewhere");
        let mut data = PREAMBLE.to_vec();
        data.put_string(b"git");
        assert_eq!(what_it_is(&data), "an SSHSIG for git");
        assert_eq!([what_it_is(b""), what_it_is(&[1; 32]), what_it_is(PREAMBLE)], ["something"; 3]);
    }

    #[test]
    fn requests_are_named() {
        assert_eq!(request_name(&[19]), "to remove all keys");
        assert_eq!(request_name(&[200]), "request number 200");
        let mut extension = vec![27];
        extension.put_string(b"query\n");
        assert_eq!(request_name(&extension), "the extension query\\x0a");
        assert_eq!(request_name(&[27]), "a malformed extension");
    }
}
