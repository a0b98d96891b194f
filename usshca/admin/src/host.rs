//! `usshca host sign`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::json;
use ussh_core::escape::{MAX_FIELD, escape};
use ussh_core::keys::{KeyError, PublicKey};
use usshca_ipc::admin::{Reply, Request};
use usshca_ipc::host::Host;

use super::{Desk, PUBLIC, certificate_path, print, small_letters, unexpected};
use crate::cli::HostSignArgs;
use crate::desk::{Link, certificate_place, not_here};
use crate::failure::Failure;
use crate::json;

/// Longest public key file, in bytes.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// Signs a host's public key and puts the certificate beside it.
/// # Errors
/// What to tell the administrator.
pub fn sign(desk: &dyn Desk, args: &HostSignArgs) -> Result<(), Failure> {
    let stdio = Path::new("-");
    let key = read_key(desk, &args.key)?;
    let names = small_letters(&args.names, &|text| desk.note(text));
    let request = Request::HostSign {
        public_key: key.to_blob(),
        principals: names.clone(),
        validity_seconds: args.validity,
        take_key: args.take_key,
    };
    let to = match &args.output {
        Some(path) => path.clone(),
        None if args.key == stdio => stdio.to_owned(),
        None => certificate_path(&args.key),
    };
    let file = (to != stdio).then_some(to.as_path());
    // Before the certificate is made, so that none is made in vain.
    let place = file.map(|path| certificate_place(desk, path)).transpose()?;
    let link = desk.link()?;
    let name = names.first().map_or("", String::as_str);
    let back = is_removed(link.as_ref(), name);
    let shown = |text: &str| escape(text.as_bytes(), MAX_FIELD);
    let Reply::HostCertificate { line, serial, taken_from } = link.ask(&request)? else {
        return Err(unexpected());
    };
    drop(link);
    if back {
        desk.note(&format!("note: host {} was removed; it is back", shown(name)));
    }
    if let Some(other) = taken_from.as_deref().map(shown) {
        desk.note(&format!(
            "note: this key was host {other}'s, and is host {}'s from now on. {other}'s certificates stay good to their end: usshca revoke --host {other} ends them",
            shown(name)
        ));
    }
    if let Some(place) = place {
        place
            .put(format!("{line}\n").as_bytes(), PUBLIC)
            .map_err(|e| Failure { message: format!("{e} (the certificate has serial {serial})"), ..e })?;
    }
    print(
        desk,
        &match (args.json, file) {
            (true, _) => json::line(
                &json!({ "serial": serial.to_string(), "certificate": line, "file": file.map(Path::to_string_lossy) }),
            ),
            (false, None) => format!("{line}\n"),
            (false, Some(path)) => format!("{}: host certificate with serial {serial}\n", path.display()),
        },
    )
}

fn host_of(link: &dyn Link, name: &str) -> Option<Host> {
    match link.ask(&Request::HostShow { name: name.to_owned() }) {
        Ok(Reply::Host(host)) => Some(*host),
        Ok(_) | Err(_) => None,
    }
}

fn is_removed(link: &dyn Link, name: &str) -> bool {
    host_of(link, name).is_some_and(|host| host.removed.is_some())
}

/// The fingerprint that is given, or that of the key in a file; `what` is where it is given, for people.
/// # Errors
/// It is none (64), or the file holds no key.
pub fn fingerprint(desk: &dyn Desk, what: &str, text: &str) -> Result<String, Failure> {
    let Some(hash) = text.strip_prefix("SHA256:") else {
        return Ok(read_key(desk, Path::new(text))?.fingerprint());
    };
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    // 32 bytes without padding.
    if hash.len() == 43 && hash.bytes().all(is_base64) {
        return Ok(text.to_owned());
    }
    let shown = escape(text.as_bytes(), 64);
    Err(Failure::usage(format!(
        "{what} {shown}: no fingerprint; must be SHA256: and 43 characters, as ssh-keygen -l prints it, or a file with the public key"
    )))
}

/// One public key, of a file or of standard input (`-`).
/// # Errors
/// What to tell the administrator.
pub fn read_key(desk: &dyn Desk, path: &Path) -> Result<PublicKey, Failure> {
    Ok(read_key_with_comment(desk, path)?.0)
}

/// The same, with what stands behind it.
/// # Errors
/// What to tell the administrator.
pub fn read_key_with_comment(desk: &dyn Desk, path: &Path) -> Result<(PublicKey, String), Failure> {
    let shown = path.display();
    let text = if path == Path::new("-") {
        String::from_utf8(desk.input(MAX_KEY_FILE)?).map_err(|_| Failure::usage(format!("{shown}: no text")))?
    } else if desk.here().is_some() {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MAX_KEY_FILE).read_to_string(&mut text));
        read.map_err(|e| Failure::usage(format!("{shown}: {e}")))?;
        text
    } else {
        return Err(not_here("key file to read", "give -, and the public key on standard input"));
    };
    let key = parse_key(&text).map_err(|problem| Failure::usage(format!("{shown}: {problem}")))?;
    let words: Vec<&str> = text.split_ascii_whitespace().skip(2).collect();
    Ok((key, words.join(" ")))
}

fn parse_key(text: &str) -> Result<PublicKey, String> {
    if text.contains("PRIVATE KEY") {
        return Err("a private key; it stays on its host: give the file that ends in .pub".to_owned());
    }
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    match (lines.next(), lines.next()) {
        (Some(line), None) => PublicKey::from_openssh(line).map_err(|e| {
            let hint = if e == KeyError::IsCertificate { "; give the plain public key" } else { "" };
            format!("{e}{hint}")
        }),
        (None, _) => Err("empty; give a public key".to_owned()),
        (Some(_), Some(_)) => Err("more than one line; give one public key".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use ussh_core::keys::PrivateKey;

    use super::*;

    #[test]
    fn takes_one_plain_public_key_and_nothing_else() {
        let private = PrivateKey::generate_ed25519().unwrap();
        let key = private.public_key();
        let line = key.to_openssh("root@web1");
        assert_eq!(parse_key(&line).unwrap(), key);
        assert_eq!(parse_key(&format!("\n{line}\n\n")).unwrap(), key);
        assert!(parse_key(&format!("{line}\n{line}\n")).unwrap_err().contains("more than one"));
        assert!(parse_key("").unwrap_err().contains("empty"));
        assert!(parse_key("junk").is_err());
        assert!(parse_key(&private.to_openssh("x").unwrap()).unwrap_err().contains("private key"));
    }
}
