//! The high-water mark: how far the inventory had come, in a file beside it that a backup leaves out. By it an older database that was put back is known.
//!
//! Order: the database commits, then the mark is written, then the caller hears of it. So a database may be ahead of its mark (a kill in between), and is never behind it
//! unless it is an older one.
//!
//! Revocations and KRL versions are marked one by one. Serials are marked by the block: while a process issues, the mark is ahead of the database and names the run, a random
//! number that stands in the database too, and the process takes it back when it ends. After a kill the database has the run that the mark names, and serials go on above the block:
//! so none is given twice, even if the database is a copy out of that very run. A database with another run is an older one, and so is any backup of ours, which has none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ussh_core::clock::UnixTime;
use ussh_core::feed::MAX_AHEAD;

use super::{COUNTER_BITS, InventoryError};

/// Longest mark, in bytes: five numbers and their names.
const MAX_FILE: u64 = 256;

/// How far a database has come. Within an epoch each of the other numbers only rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Upper bits of its serials.
    pub epoch: i64,
    /// Last serial's lower bits; in a mark with a run, of the last one that may have been given.
    pub counter: i64,
    /// How often something was revoked, or a revocation lifted.
    pub acts: i64,
    /// Last KRL's version.
    pub krl_version: i64,
    /// Of a database, which process gave its last serial; of a mark, which process is at work, or 0.
    pub run: i64,
}

/// What is wrong with a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// For people.
    pub problem: String,
    /// Serials, first and last, that may have been given and do not stand in it.
    pub serials: Vec<(u64, u64)>,
}

/// The last counter of an epoch.
const LAST: i64 = (1 << COUNTER_BITS) - 1;

impl Mark {
    /// Reads the file; `None`: there is none, or none that can be understood, and so nothing to compare with.
    /// # Errors
    /// It cannot be read.
    pub fn read(path: &Path) -> Result<Option<Self>, InventoryError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(file_error(path, &e)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|e| file_error(path, &e))?;
        Ok(std::str::from_utf8(&bytes).ok().and_then(Self::parse))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n').peekable();
        // Marks of before have none.
        let has_run = lines.peek()?.starts_with("run ");
        let mut number = |name| -> Option<i64> {
            let digits = lines.next()?.strip_prefix(name)?.strip_prefix(' ')?;
            digits.parse().ok().filter(|n| *n >= 0)
        };
        let run = if has_run { number("run")? } else { 0 };
        let mark = Mark {
            run,
            epoch: number("epoch")?,
            counter: number("counter")?,
            acts: number("revoked")?,
            krl_version: number("krl_version")?,
        };
        lines.next().is_none().then_some(mark)
    }

    /// Writes the file; it is on disk, whole, when this returns.
    /// # Errors
    /// As the kernel says; the file is as it was then.
    pub fn write(&self, path: &Path) -> Result<(), InventoryError> {
        let text = format!(
            "run {}\nepoch {}\ncounter {}\nrevoked {}\nkrl_version {}\n",
            self.run, self.epoch, self.counter, self.acts, self.krl_version
        );
        let new = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|e| file_error(path, &e))
    }

    /// Whether it can be the mark of a database that has come as far as `here` or further. A KRL's version is at least the time, and no further ahead of it than some KRLs
    /// made within one second: a number far in the future is damage, and taken over it could never be taken back.
    pub fn may_follow(&self, here: &Mark, now: UnixTime) -> bool {
        let latest = i64::try_from(now.0.saturating_add(MAX_AHEAD)).unwrap_or(i64::MAX);
        // A database that agrees speaks for the mark, and against the clock.
        self.krl_version <= latest.max(here.krl_version)
    }

    /// What is wrong with a database that has come as far as `self`, by the mark beside it; `None`: nothing.
    pub fn behind(&self, mark: Option<&Mark>) -> Option<Loss> {
        let rest = |last| (serial(self.epoch, self.counter + 1), serial(self.epoch, last));
        let Some(mark) = mark else {
            let problem = "there is no usable state/serials beside it: whether it is the newest cannot be known";
            return Some(Loss { problem: problem.to_owned(), serials: vec![rest(LAST)] });
        };
        if self.epoch != mark.epoch {
            let (first, last) = (serial(mark.epoch, 1), serial(mark.epoch, mark.counter));
            let problem = format!(
                "it is another one than was used last: lost are the serials {first} to {last} as far as they do not stand in it, and all revocations since"
            );
            return Some(Loss { problem, serials: vec![rest(LAST), (first, last)] });
        }
        let is_of_another_run = mark.run != 0 && self.run != mark.run;
        let lost = is_of_another_run || (mark.run == 0 && self.counter < mark.counter);
        let serials = (lost && self.counter < mark.counter).then(|| rest(mark.counter));
        let counted = serials.map(|(first, last)| {
            format!("lost are the serials {first} to {}{last}", if mark.run == 0 { "" } else { "at most " })
        });
        let unknown = (is_of_another_run && serials.is_none()).then(|| "it is a copy of another time".to_owned());
        let revoked = (self.acts < mark.acts).then(|| format!("{} revocations are lost", mark.acts - self.acts));
        let krl = (self.krl_version < mark.krl_version)
            .then(|| format!("the last KRL had version {}, not {}", mark.krl_version, self.krl_version));
        let all: Vec<String> = [counted, unknown, revoked, krl].into_iter().flatten().collect();
        (!all.is_empty()).then(|| Loss {
            problem: format!("it is an older one: {}", all.join("; ")),
            serials: serials.into_iter().collect(),
        })
    }
}

fn serial(epoch: i64, counter: i64) -> u64 {
    (epoch << COUNTER_BITS | counter).cast_unsigned()
}

fn file_error(path: &Path, error: &io::Error) -> InventoryError {
    InventoryError::File { path: path.to_owned(), problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    const MARK: Mark = Mark { epoch: 7, counter: 100, acts: 3, krl_version: 1000, run: 0 };

    #[test]
    fn reads_what_it_wrote_and_nothing_that_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("serials");
        assert_eq!(Mark::read(&path).unwrap(), None);
        MARK.write(&path).unwrap();
        assert_eq!(Mark::read(&path).unwrap(), Some(MARK));
        let whole = fs::read_to_string(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(Mark::read(&path).unwrap(), None, "{end}");
        }
        for other in [whole.replace("100\n", "-100\n"), format!("{whole}x\n"), whole.replace("epoch", "epoc")] {
            fs::write(&path, other).unwrap();
            assert_eq!(Mark::read(&path).unwrap(), None);
        }
    }

    #[test]
    fn a_krl_version_in_the_future_is_damage_unless_the_database_has_it_too() {
        let now = UnixTime(5000);
        let with = |krl_version| Mark { krl_version, ..MARK };
        let latest = i64::try_from(5000 + MAX_AHEAD).unwrap();
        for krl_version in [0, 1000, 5000, latest] {
            assert!(with(krl_version).may_follow(&MARK, now), "{krl_version}");
        }
        for krl_version in [latest + 1, i64::MAX] {
            assert!(!with(krl_version).may_follow(&MARK, now), "{krl_version}");
            assert!(with(krl_version).may_follow(&with(krl_version), now), "the clock is behind");
        }
    }

    #[test]
    fn a_database_is_behind_in_any_one_number_and_never_for_being_ahead() {
        assert_eq!(MARK.behind(Some(&MARK)), None);
        let ahead = Mark { counter: 101, acts: 4, krl_version: 1001, ..MARK };
        assert_eq!(ahead.behind(Some(&MARK)), None);
        for older in [
            Mark { counter: 99, ..ahead },
            Mark { acts: 2, ..ahead },
            Mark { krl_version: 999, ..ahead },
            Mark { epoch: 8, ..ahead },
        ] {
            assert!(older.behind(Some(&MARK)).is_some(), "{older:?}");
        }
        assert!(MARK.behind(None).is_some());
        let lost = Mark { counter: 98, ..MARK }.behind(Some(&MARK)).unwrap();
        let (first, last) = ((7_u64 << 40) + 99, (7_u64 << 40) + 100);
        assert!(lost.problem.contains(&format!("{first} to {last}")), "{lost:?}");
        assert_eq!(lost.serials, [(first, last)]);
        // Without a mark all that is left of the epoch may have been given.
        assert_eq!(MARK.behind(None).unwrap().serials, [((7_u64 << 40) + 101, (8_u64 << 40) - 1)]);
    }

    #[test]
    fn a_mark_that_is_ahead_tells_a_kill_from_a_copy_by_the_run() {
        let ahead = Mark { counter: 4196, run: 5, ..MARK };
        assert_eq!(Mark { run: 5, ..MARK }.behind(Some(&ahead)), None);
        for run in [0, 4, -1] {
            let loss = Mark { run, ..MARK }.behind(Some(&ahead)).unwrap();
            assert_eq!(loss.serials, [((7_u64 << 40) + 101, (7_u64 << 40) + 4196)], "{run}");
            assert!(loss.problem.contains("at most"), "{loss:?}");
        }
        assert!(Mark { run: 5, acts: 2, ..MARK }.behind(Some(&ahead)).is_some());
        // Of an earlier program: a mark without a run, which is exact.
        let text = "epoch 7\ncounter 100\nrevoked 3\nkrl_version 1000\n";
        assert_eq!(Mark::parse(text), Some(MARK));
    }
}
