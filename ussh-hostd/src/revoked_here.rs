//! What this host's administrators have revoked here themselves: `/etc/ussh/revoked_here`, in the form that `ssh-keygen -k` reads. A feed knows nothing of it, and takes none of it back:
//! whatever list is put in place has it added, by `ssh-keygen -k -u` on a copy. The list's version and the time it was made stay the feed's, so that its age and order are what they were.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ussh_core::clock::UnixTime;
use ussh_core::revoked::{KrlTemplate, RevokedError, RevokedKeys};
use ussh_core::trusted_file::{TrustedFileError, read_trusted};

use crate::child::{Bounds, ChildError, program, run};
use crate::config::Config;
use crate::own_file::read_if_named;
use crate::scratch::Scratch;
use crate::trust::MAX_REVOKED;

const SSH_KEYGEN: &str = "/usr/bin/ssh-keygen";
/// Of ssh-keygen, which says nothing.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(60), bytes: 4096 };
/// Largest file, bytes.
const MAX_FILE: usize = 1024 * 1024;

/// Why it cannot be added. No list is replaced then.
#[derive(Debug, thiserror::Error)]
pub enum HereError {
    /// It cannot be read, or others than root can change it.
    #[error("revoked_here: {0}")]
    File(#[from] TrustedFileError),
    /// ssh-keygen does not take it.
    #[error("revoked_here: {0}: mend what it names, or take it out; until then no list is replaced")]
    Lines(String),
    /// There is no room for a copy.
    #[error("revoked_here: {0}")]
    Scratch(#[from] io::Error),
    /// What came of it is no such list.
    #[error("revoked_here: ssh-keygen made a list of it that is none: {0}")]
    Made(#[from] RevokedError),
    /// It is another list.
    #[error("revoked_here: ssh-keygen changed the version of the list, or the time it was made")]
    Header,
}

/// The file, as it is now.
#[derive(Debug)]
pub struct RevokedHere {
    path: PathBuf,
    text: Vec<u8>,
    /// How many lines say something.
    pub lines: usize,
}

impl RevokedHere {
    /// `None`: there is no such file, or nothing in it.
    /// # Errors
    /// [`HereError::File`]
    pub fn read(config: &Config) -> Result<Option<Self>, HereError> {
        let path = &config.revoked_here;
        // One that points nowhere is not none: something was revoked once.
        let Some(text) = read_if_named(path, MAX_FILE)? else { return Ok(None) };
        let says_something = |line: &&[u8]| !matches!(line.trim_ascii().first(), None | Some(b'#'));
        let lines = text.split(|b| *b == b'\n').filter(says_something).count();
        Ok((lines > 0).then(|| RevokedHere { path: path.clone(), text, lines }))
    }

    /// The KRL with all of it added.
    /// # Errors
    /// [`HereError`]
    pub fn added_to(&self, krl: &[u8]) -> Result<Vec<u8>, HereError> {
        let folder = Scratch::new()?;
        let (copy, list) = (folder.path().join("krl"), folder.path().join("revoked_here"));
        std::fs::write(&copy, krl)?;
        std::fs::write(&list, &self.text)?;
        let mut command = program(SSH_KEYGEN, ["-q", "-k", "-u", "-f"]);
        let ended = run(command.arg(&copy).arg(&list), BOUNDS).and_then(|ended| ended.ok());
        ended.map_err(|e: ChildError| {
            let said = e.to_string().replace(&*list.to_string_lossy(), &self.path.to_string_lossy());
            HereError::Lines(said)
        })?;
        let made = read_trusted(&copy, MAX_REVOKED)?;
        let header = |data: &[u8]| RevokedKeys::parse(data).map(|list| (list.version(), list.generated()));
        if header(&made)? != header(krl)? {
            return Err(HereError::Header);
        }
        Ok(made)
    }

    /// In few words, for people.
    pub fn told(&self) -> String {
        let many = if self.lines == 1 { "line" } else { "lines" };
        format!("{} {many} of {} added", self.lines, self.path.display())
    }
}

/// A list that revokes nothing and is older than any. For ssh-keygen the time 0 is none.
pub fn oldest() -> Vec<u8> {
    KrlTemplate::new(0, UnixTime(1), "").to_bytes()
}

/// What is wrong with it, or that it is not in force yet; `None`: nothing.
pub fn problem(config: &Config) -> Option<String> {
    let here = match RevokedHere::read(config) {
        Ok(here) => here?,
        Err(e) => return Some(e.to_string()),
    };
    let Some(target) = &config.revoked_keys else {
        return Some(format!("{}: is not in force: revoked_keys is \"none\"", config.revoked_here.display()));
    };
    // Whatever is wrong with that one is told by others.
    let installed = read_trusted(target, MAX_REVOKED).unwrap_or_else(|_| oldest());
    if RevokedKeys::parse(&installed).ok()?.version().is_none() {
        return Some(format!(
            "{}: is not in force: {} is a plain list of keys; write there",
            config.revoked_here.display(),
            target.display()
        ));
    }
    match here.added_to(&installed) {
        Ok(with_all) if with_all == installed => None,
        Ok(_) => Some(format!(
            "{}: is not in force yet in {}: run `ussh-hostd sync`",
            config.revoked_here.display(),
            target.display()
        )),
        Err(e) => Some(e.to_string()),
    }
}
