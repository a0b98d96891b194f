//! The clock inside of a host: runs two commands in turn and times each from before its fork to after its end.
//!
//! Process: an ordinary user's, in the host. Input: the command line, from the bench outside.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What ends the first command and begins the second.
const SEPARATOR: &str = "--";

/// How long each run took, in microseconds; the n-th of `a` was followed by the n-th of `b`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// The first command's.
    pub a: Vec<u64>,
    /// The second command's.
    pub b: Vec<u64>,
}

/// Why there is no series. One run that fails spoils all: what it took says nothing.
#[derive(Debug, thiserror::Error)]
pub enum TimerError {
    /// Not two commands.
    #[error("two commands are wanted, with one `--` between them")]
    NotTwoCommands,
    /// A command could not be started.
    #[error("{command}: {source}")]
    Start {
        /// The command.
        command: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A command failed.
    #[error("run {run} of `{command}` failed: {status}")]
    Failed {
        /// The command.
        command: String,
        /// From 1; 0 is the one that is not counted.
        run: u32,
        /// How it ended.
        status: ExitStatus,
    },
}

/// Runs `A… -- B…`: A and B once without counting, then `runs` times in turn.
///
/// # Errors
/// [`TimerError`]
pub fn time_in_turn(runs: u32, commands: &[OsString]) -> Result<Series, TimerError> {
    let (a, b) = split(commands)?;
    // What is read for the first time is read from the disk: that pair is for the caches.
    time(a, 0)?;
    time(b, 0)?;
    let mut series = Series::default();
    for run in 1..=runs {
        series.a.push(time(a, run)?);
        series.b.push(time(b, run)?);
    }
    Ok(series)
}

/// Program and arguments of the two.
type Words<'a> = (&'a OsStr, &'a [OsString]);

fn split(commands: &[OsString]) -> Result<(Words<'_>, Words<'_>), TimerError> {
    let mut parts = commands.split(|word| word == SEPARATOR);
    match (parts.next(), parts.next(), parts.next()) {
        (Some([a, of_a @ ..]), Some([b, of_b @ ..]), None) => Ok(((a, of_a), (b, of_b))),
        _ => Err(TimerError::NotTwoCommands),
    }
}

/// Microseconds of one run.
fn time((program, arguments): Words<'_>, run: u32) -> Result<u64, TimerError> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begin = Instant::now();
    let status = command.status();
    let took = begin.elapsed();
    let command = || [program].into_iter().chain(arguments.iter().map(OsString::as_os_str)).collect::<Vec<_>>();
    let command = || command().join(OsStr::new(" ")).to_string_lossy().into_owned();
    match status {
        Ok(status) if status.success() => Ok(microseconds(took)),
        Ok(status) => Err(TimerError::Failed { command: command(), run, status }),
        Err(source) => Err(TimerError::Start { command: command(), source }),
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn runs_both_commands_in_turn_and_once_before() {
        let folder = std::env::temp_dir().join(format!("ussh-bench-turn.{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let log = folder.join("log");
        let say = |what: &str| ["sh", "-c", &format!("echo {what} >> {}", log.display())].map(OsString::from);
        let line: Vec<OsString> = say("a").into_iter().chain([SEPARATOR.into()]).chain(say("b")).collect();
        let series = time_in_turn(3, &line);
        let told = std::fs::read_to_string(&log);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(told.unwrap(), "a\nb\na\nb\na\nb\na\nb\n");
        let series = series.unwrap();
        assert_eq!((series.a.len(), series.b.len()), (3, 3));
    }

    #[test]
    fn times_the_whole_process() {
        let series = time_in_turn(2, &words("sleep 0.05 -- true")).unwrap();
        assert!(series.a.iter().all(|&took| took >= 50_000), "{series:?}");
        assert!(series.b.iter().all(|&took| took > 0), "{series:?}");
    }

    #[test]
    fn a_run_that_fails_is_an_error_and_not_a_time() {
        let failed = time_in_turn(2, &words("true -- false")).unwrap_err();
        assert!(matches!(&failed, TimerError::Failed { command, run: 0, .. } if command == "false"), "{failed}");
        let missing = time_in_turn(2, &words("no-such-program -x -- true")).unwrap_err();
        assert!(matches!(&missing, TimerError::Start { command, .. } if command == "no-such-program -x"), "{missing}");
    }

    #[test]
    fn refuses_anything_but_two_commands() {
        for line in ["true", "true --", "-- true", "true -- true -- true", "true -- -- true"] {
            assert!(matches!(time_in_turn(1, &words(line)), Err(TimerError::NotTwoCommands)), "{line}");
        }
    }
}
