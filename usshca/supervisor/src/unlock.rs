//! Passphrases for CA keys that are encrypted: from a descriptor, from systemd's credentials, or from whoever sits at the terminal. They are handed to each signer, and wiped at the end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, RawFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ussh_os::hidden_line;
use ussh_os::locked::{Locked, scrub_stack};
use ussh_os::process;
use usshca_ipc::signer::Secret;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Name of the systemd credential.
pub const CREDENTIAL: &str = "usshca-passphrase";
/// Longest text with passphrases, in bytes.
const MAX_TEXT: usize = 16 * 1024;
/// Longest passphrase, in bytes.
const MAX_PASSPHRASE: usize = 1024;
/// Shortest passphrase for new keys, in characters: bcrypt takes some tenths of a second for a guess, and there are few short ones.
const MIN_PASSPHRASE: usize = 10;
/// Of stack that may hold a copy of one, in bytes.
const STACK: usize = 64 * 1024;
/// How often somebody at a terminal may be wrong.
const TRIES: u32 = 3;

/// What is known so far. Of the whole process: a signer that is started again needs it too.
static KNOWN: Mutex<Known> = Mutex::new(Known { kept: Vec::new(), asked: 0 });

struct Known {
    /// In memory that is locked.
    kept: Vec<Locked<Kept>>,
    /// How often somebody was asked.
    asked: u32,
}

/// A passphrase, and behind it nothing.
struct Kept {
    bytes: [u8; MAX_PASSPHRASE],
    length: usize,
}

impl Known {
    fn secrets(&self) -> Vec<Secret> {
        let text = |kept: &Locked<Kept>| {
            kept.bytes.get(..kept.length).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        self.kept.iter().filter_map(text).map(Secret).collect()
    }

    fn keep(&mut self, secret: &Secret) -> Result<(), Failure> {
        let locked = lock(secret);
        scrub_stack::<STACK>();
        let locked = locked.map_err(|e| {
            Failure::internal(format!(
                "no locked memory for the passphrase: {e} (RLIMIT_MEMLOCK; systemd: LimitMEMLOCK=)"
            ))
        })?;
        self.kept.push(locked);
        Ok(())
    }
}

/// What it leaves on the stack is for its caller to wipe.
#[inline(never)]
fn lock(secret: &Secret) -> io::Result<Locked<Kept>> {
    let mut kept = Kept { bytes: [0; MAX_PASSPHRASE], length: secret.0.len() };
    let place = kept.bytes.get_mut(..secret.0.len());
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, format!("longer than {MAX_PASSPHRASE} bytes"));
    place.ok_or_else(too_long)?.copy_from_slice(secret.0.as_bytes());
    Locked::new(kept)
}

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes those of the descriptor, one a line, and those of `$CREDENTIALS_DIRECTORY/usshca-passphrase`.
/// # Errors
/// They cannot be read.
pub fn take(fd: Option<RawFd>) -> Result<(), Failure> {
    let mut taken = Vec::new();
    if let Some(fd) = fd {
        let failed = |e: io::Error| Failure::usage(format!("--passphrase-fd {fd}: {e}"));
        taken.extend(descriptor(fd).and_then(lines).map_err(failed)?);
    }
    if let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        let path = PathBuf::from(folder).join(CREDENTIAL);
        match File::open(&path).and_then(lines) {
            Ok(more) => taken.extend(more),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Failure::config(format!("{}: {e}", path.display()))),
        }
    }
    if !taken.is_empty() {
        harden()?;
        taken.iter().try_for_each(|secret| known().keep(secret))?;
    }
    Ok(())
}

/// 0 is standard input: `usshca … --passphrase-fd 0 < FILE`.
fn descriptor(number: RawFd) -> io::Result<File> {
    match number {
        // By its descriptor: what `io::stdin` buffers stays in memory that nobody wipes.
        0 => Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?)),
        3..=63 => Ok(File::from(process::inherited_descriptor(number)?)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "must be 0 (standard input), or 3 to 63 (as in: --passphrase-fd 3 3< FILE)",
        )),
    }
}

/// All that are known.
pub fn passphrases() -> Vec<Secret> {
    known().secrets()
}

/// Asks whoever sits at the terminal for one more. `wrong`: what is known does not open this key.
/// # Errors
/// There is no terminal, or the answers were wrong too often.
pub fn ask_for(key: &str, wrong: bool) -> Result<(), Failure> {
    let mut known = known();
    let how = if wrong { "and the passphrase is wrong" } else { "and there is no passphrase" };
    let failure = |hint: &str| Failure::config(format!("{key} is encrypted, {how}{hint}"));
    if known.asked >= TRIES {
        return Err(failure(""));
    }
    known.asked += 1;
    if known.asked > 1 && wrong {
        // Nothing can be done about a closed stderr here.
        let _ = writeln!(io::stderr(), "usshca: wrong passphrase for {key}");
    }
    harden()?;
    match ask(&format!("Passphrase of the CA's keys ({key}): ")) {
        Ok(secret) => known.keep(&secret),
        Err(e) if e.kind() == io::ErrorKind::NotFound && wrong => Err(failure(
            ": it is none of those that were given (--passphrase-fd, systemd credential), and there is no terminal to ask at for another one",
        )),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(failure(&format!(
            "; there is no terminal to ask at: give it by --passphrase-fd N, or as the systemd credential {CREDENTIAL}"
        ))),
        Err(e) => Err(failure(&format!("; {e}"))),
    }
}

/// A passphrase for keys that are made now: the first one that is known, or what is typed twice; it is known from here on.
/// # Errors
/// None is given, it is too short, or the two differ.
pub fn new_passphrase() -> Result<Secret, Failure> {
    let long_enough = |secret: Secret| match secret.0.chars().count() {
        MIN_PASSPHRASE.. => Ok(secret),
        _ => Err(Failure::usage(format!("--encrypt: a passphrase must have {MIN_PASSPHRASE} characters or more"))),
    };
    if let Some(first) = passphrases().into_iter().next() {
        return long_enough(first);
    }
    harden()?;
    let ask = |text: &str| {
        ask(text).map_err(|e| {
            if e.kind() == io::ErrorKind::NotFound {
                return Failure::usage(
                    "--encrypt: there is no terminal to ask at; give the passphrase by --passphrase-fd N",
                );
            }
            Failure::usage(format!("--encrypt: {e}"))
        })
    };
    let first = long_enough(ask("Passphrase for the CA's keys: ")?)?;
    if ask("Once more: ")? != first {
        return Err(Failure::usage("--encrypt: the two differ"));
    }
    known().keep(&first)?;
    Ok(first)
}

fn harden() -> Result<(), Failure> {
    process::harden_memory().map_err(|e| Failure::internal(format!("cannot protect this process's memory: {e}")))
}

/// One a line; empty lines are none.
fn lines(file: File) -> io::Result<Vec<Secret>> {
    // Room for all of it at once: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_TEXT + 1));
    let limit = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1)).read_to_string(&mut text)?;
    if text.len() > MAX_TEXT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {MAX_TEXT} bytes")));
    }
    let secrets: Vec<Secret> =
        text.lines().filter(|line| !line.is_empty()).map(|line| Secret(line.to_owned())).collect();
    if secrets.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "holds no passphrase"));
    }
    Ok(secrets)
}

/// At the controlling terminal, whatever standard input is; not echoed. NotFound: there is none.
fn ask(prompt: &str) -> io::Result<Secret> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(|_| io::ErrorKind::NotFound)?;
    let mut text = hidden_line::ask(&terminal, &mut &terminal, prompt)?;
    Ok(Secret(std::mem::take(&mut *text)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::io::Seek;

    use super::*;

    fn of(text: &str) -> io::Result<Vec<Secret>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        lines(file)
    }

    #[test]
    fn a_passphrase_is_a_line_with_all_its_blanks() {
        let read = of(" open sesame \n\nother\n").unwrap();
        assert_eq!(read, [Secret(" open sesame ".to_owned()), Secret("other".to_owned())]);
        assert!(of("\n\n").is_err() && of("").is_err());
        assert!(of(&"x".repeat(MAX_TEXT + 1)).is_err());
    }
}
