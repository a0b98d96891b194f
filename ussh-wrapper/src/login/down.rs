//! CAs that did not answer a moment ago, so that not every `ssh` of a script waits for the same one anew.
//!
//! One small file in the user's runtime folder. It only ever saves a wait: what is torn, too large, somebody else's or from the future is as good as not there.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use ussh_core::clock::UnixTime;

use crate::config::CaAddress;
use crate::guard::Home;

/// How long a CA that did not answer is left alone, in seconds.
pub const LEFT_ALONE_SECONDS: u64 = 60;
/// The file's name.
const FILE: &str = "ca-down";
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 8 * 1024;

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Down {
    file: Option<PathBuf>,
    /// CA and when it did not answer.
    entries: Vec<(String, UnixTime)>,
}

impl Down {
    /// Of this user; where there is no folder for it, nothing is.
    pub(super) fn load(uid: u32, now: UnixTime) -> Self {
        Home::open(uid).map_or_else(|_| Down::default(), |home| Down::read(home.folder(), uid, now))
    }
    fn read(folder: &Path, uid: u32, now: UnixTime) -> Self {
        let file = folder.join(FILE);
        let text = read_own(&file, uid).unwrap_or_default();
        let is_recent = |at: u64| at <= now.0 && now.0 - at < LEFT_ALONE_SECONDS;
        let entry = |line: &str| {
            let (at, ca) = line.split_once(' ')?;
            let at = at.parse().ok().filter(|at| is_recent(*at))?;
            Some((CaAddress::try_from(ca.to_owned()).ok()?.to_string(), UnixTime(at)))
        };
        // A line without its end is one that was never written to the end.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        Down { file: Some(file), entries: whole.lines().filter_map(entry).collect() }
    }
    /// When it did not answer, if that was a moment ago.
    pub(super) fn since(&self, ca: &CaAddress) -> Option<UnixTime> {
        let name = ca.to_string();
        self.entries.iter().filter(|(down, _)| *down == name).map(|(_, at)| *at).max()
    }
    /// It did not answer.
    pub(super) fn note(&mut self, ca: &CaAddress, now: UnixTime) {
        self.entries.retain(|(down, _)| *down != ca.to_string());
        self.entries.push((ca.to_string(), now));
        self.write();
    }
    /// It answered.
    pub(super) fn forget(&mut self, ca: &CaAddress) {
        let before = self.entries.len();
        self.entries.retain(|(down, _)| *down != ca.to_string());
        if self.entries.len() != before {
            self.write();
        }
    }
    /// What cannot be written is asked anew the next time.
    fn write(&self) {
        let Some(file) = &self.file else { return };
        let own = file.with_extension(std::process::id().to_string());
        let text: String = self.entries.iter().map(|(ca, at)| format!("{} {ca}\n", at.0)).collect();
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&own);
        let written =
            made.and_then(|mut new| new.write_all(text.as_bytes())).and_then(|()| std::fs::rename(&own, file));
        if written.is_err() {
            let _ = std::fs::remove_file(&own);
        }
    }
}

/// A plain file of the user's that nobody else can write; no link is followed, and no pipe waited for.
fn read_own(path: &Path, uid: u32) -> Option<String> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file: File = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.uid() != uid || metadata.mode() & 0o022 != 0 || metadata.len() > MAX_FILE {
        return None;
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn ca(name: &str) -> CaAddress {
        CaAddress::try_from(name.to_owned()).unwrap()
    }
    fn uid() -> u32 {
        nix::unistd::getuid().as_raw()
    }
    fn folder() -> tempfile::TempDir {
        tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
    }
    fn read(folder: &tempfile::TempDir, now: u64) -> Down {
        Down::read(folder.path(), uid(), UnixTime(now))
    }

    #[test]
    fn what_did_not_answer_is_remembered_for_a_minute_and_forgotten_when_it_does() {
        let folder = folder();
        let mut down = read(&folder, NOW.0);
        down.note(&ca("ca1"), NOW);
        down.note(&ca("[2001:db8::1]:2222"), NOW);
        assert_eq!(read(&folder, NOW.0 + 59).since(&ca("ca1")), Some(NOW));
        assert_eq!(read(&folder, NOW.0 + 59).since(&ca("[2001:db8::1]:2222")), Some(NOW));
        assert_eq!(read(&folder, NOW.0).since(&ca("ca1:2222")), None);
        assert_eq!(read(&folder, NOW.0 + 60).since(&ca("ca1")), None);
        assert_eq!(read(&folder, NOW.0 - 1).since(&ca("ca1")), None, "a clock that was set back");
        down.forget(&ca("ca1"));
        assert_eq!(read(&folder, NOW.0).since(&ca("ca1")), None);
        assert_eq!(fs::metadata(folder.path().join(FILE)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left there");
    }

    #[test]
    fn a_torn_or_hostile_file_says_nothing_and_is_replaced() {
        let now = NOW.0;
        let long = format!("{now} ca1\n").repeat(2000);
        for text in [
            format!("{now} ca1"),
            format!("{now}"),
            format!("{now}ca1\n"),
            format!("-{now} ca1\n"),
            format!("{now} -oProxyCommand=x\n"),
            format!("{} ca1\n", now + 1),
            "\u{0}\n".to_owned(),
            long,
        ] {
            let folder = folder();
            fs::write(folder.path().join(FILE), &text).unwrap();
            fs::set_permissions(folder.path().join(FILE), Permissions::from_mode(0o600)).unwrap();
            assert_eq!(read(&folder, now).since(&ca("ca1")), None, "{}", text.len());
            read(&folder, now).note(&ca("ca1"), NOW);
            assert_eq!(read(&folder, now).since(&ca("ca1")), Some(NOW));
        }
    }

    #[test]
    fn a_link_a_pipe_and_what_others_may_write_are_not_read() {
        let good = format!("{} ca1\n", NOW.0);
        let folder = folder();
        let (file, other) = (folder.path().join(FILE), folder.path().join("other"));
        fs::write(&other, &good).unwrap();
        symlink(&other, &file).unwrap();
        assert_eq!(read(&folder, NOW.0).since(&ca("ca1")), None, "a link");
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(&folder, NOW.0).since(&ca("ca1")), None, "a pipe");
        fs::remove_file(&file).unwrap();
        fs::write(&file, &good).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o620)).unwrap();
        assert_eq!(read(&folder, NOW.0).since(&ca("ca1")), None, "writable by the group");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&folder, NOW.0).since(&ca("ca1")), Some(NOW));
        assert_eq!(Down::read(folder.path(), uid() + 1, NOW).since(&ca("ca1")), None, "another's");
    }
}
