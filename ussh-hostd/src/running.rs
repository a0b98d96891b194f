//! What configuration the daemon that runs goes by: it reads it at its start alone, and whoever looks later must hear when it has changed since.

use std::io;

use ussh_core::digest::{hexadecimal, sha256};

use crate::config::Config;
use crate::show::daemon_pid;
use crate::trust_note;

/// What to do about it.
pub const CHANGED: &str =
    "the configuration has changed since the daemon started, which goes by what it was: restart ussh-hostd";

/// By the daemon, at its start.
/// # Errors
/// As the file system says.
pub fn write(config: &Config) -> io::Result<()> {
    trust_note::write(&config.running_file(), Some(&digest(config)))
}

/// Whether a daemon runs by another configuration than this.
pub fn differs(config: &Config) -> bool {
    // Without a daemon it is what the last one has left behind.
    daemon_pid(&config.lock_file()).is_some()
        && trust_note::read(&config.running_file()).is_some_and(|written| written != digest(config))
}

/// Of what it means: a comment that is new changes nothing.
fn digest(config: &Config) -> String {
    hexadecimal(&sha256(format!("{config:?}").as_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::path::Path;

    use super::*;
    use crate::health::Health;
    use crate::test_support::{from_now, trusted_folder};

    #[test]
    fn a_configuration_that_changed_is_told_while_the_daemon_runs_and_a_comment_is_none() {
        let folder = trusted_folder();
        let parse = |more: &str| {
            let text = format!("spool = '{0}/sessions'\nstate = '{0}/state'\n{more}", folder.path().display());
            Config::parse(&text, Path::new("t")).unwrap()
        };
        let alarms = |config: &Config| {
            let alarms = Health::read(config, from_now(0)).alarms.into_iter();
            alarms.filter(|alarm| alarm.kind == "configuration").map(|alarm| alarm.text).collect::<Vec<_>>()
        };
        write(&parse("")).unwrap();
        assert_eq!(alarms(&parse("at_end = 'warn'")), [""; 0], "no daemon runs");
        let pid = std::process::id();
        let id = format!("{pid}-{}\n", ussh_os::process::start_time(pid).unwrap());
        std::fs::write(parse("").lock_file(), id).unwrap();
        assert_eq!(alarms(&parse("# a comment")), [""; 0]);
        for changed in ["at_end = 'warn'", "[sync]\nevery_seconds = 5"] {
            assert_eq!(alarms(&parse(changed)), [CHANGED]);
        }
    }
}
