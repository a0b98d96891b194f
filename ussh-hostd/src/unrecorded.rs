//! Connections of sshd's that have no record: opened before there was a `session` line of ours in sshd's PAM stack, or since it is there no more. Nothing is known of their certificates, and nothing ends them:
//! they are shown, and those that should have one are an alarm.
//!
//! Told by sshd's titles, as people see them in ps(1).

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use ussh_os::account::Account;
use ussh_os::process::{ProcessHandle, effective_uid};
use ussh_os::sshd_connection::logged_in;

use crate::config::Config;
use crate::show::daemon_id;
use crate::spool::{ConnectionId, Spool};

/// A record goes when the session is closed, and sshd a moment later.
const CLOSES: Duration = Duration::from_millis(300);

/// One of them.
#[derive(Debug)]
pub struct Unrecorded {
    /// Process that ran open_session, or would have.
    pub id: ConnectionId,
    /// Account; `None`: it has gone.
    pub user: Option<String>,
}

/// All that there are now; none for others than root, who may not look. Takes a moment if there are any.
/// # Errors
/// As the file system says.
pub fn connections(config: &Config) -> io::Result<Vec<Unrecorded>> {
    if effective_uid() != 0 {
        return Ok(Vec::new());
    }
    // A record is written before its user is served.
    let mut found = logged_in();
    let recorded = Spool::new(&config.spool).list()?.connections;
    found.retain(|(id, _)| !recorded.contains(id));
    if !found.is_empty() {
        wait_for_those_that_close(found.iter().map(|(id, _)| *id));
        let serve_still: BTreeSet<ConnectionId> = logged_in().into_iter().map(|(id, _)| id).collect();
        found.retain(|(id, _)| serve_still.contains(id));
    }
    let user = |uid| Account::by_uid(uid).ok().flatten().map(|account| account.name);
    Ok(found.into_iter().map(|(id, uid)| Unrecorded { id, user: user(uid) }).collect())
}

/// Any of them may be about to close.
fn wait_for_those_that_close(found: impl Iterator<Item = ConnectionId>) {
    let deadline = Instant::now() + CLOSES;
    for id in found {
        // One that has ended, or cannot be waited for, leaves the others their time.
        let held = ProcessHandle::open(id.pid, id.start_time);
        let _ = held.and_then(|process| process.wait_end(deadline.saturating_duration_since(Instant::now())));
    }
}

/// What somebody must hear of: some began since the daemon did, which came after the line. What was there before is no news.
pub fn alarm(config: &Config, found: &[Unrecorded]) -> Option<String> {
    let daemon = daemon_id(&config.lock_file())?;
    let newer = found.iter().filter(|one| one.id.start_time > daemon.start_time).count();
    let many = if newer == 1 { "1 connection has".to_owned() } else { format!("{newer} connections have") };
    (newer > 0).then(|| {
        format!(
            "{many} no record, although younger than the daemon (`ussh-hostd sessions` shows such as unknown): put `session requisite pam_ussh.so` back into /etc/pam.d/sshd, or see why it is passed over"
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::path::Path;

    use super::*;
    use crate::test_support::{this_process, trusted_folder};

    #[test]
    fn those_that_began_since_the_daemon_did_are_an_alarm_and_others_none() {
        let folder = trusted_folder();
        let text = format!("spool = '{}/sessions'", folder.path().display());
        let config = Config::parse(&text, Path::new("t")).unwrap();
        let me = this_process();
        let began = |ticks: u64| Unrecorded { id: ConnectionId { start_time: ticks, ..me }, user: None };
        let all = [began(me.start_time - 1), began(me.start_time + 1)];
        assert_eq!(alarm(&config, &all), None, "no daemon runs");
        std::fs::write(config.lock_file(), format!("{}\n", me.stem())).unwrap();
        assert_eq!(alarm(&config, &all[..1]), None);
        let said = alarm(&config, &all).unwrap();
        assert!(said.starts_with("1 connection has no record, "), "{said}");
        let line = include_str!("../../packaging/pam.d/sshd").lines().find(|line| line.starts_with("session")).unwrap();
        let line = line.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        assert!(said.contains(&format!("`{line}`")), "{line}: {said}");
    }

    #[test]
    fn one_that_is_gone_leaves_those_that_close_their_time() {
        let mut sleepers = [(); 2].map(|()| std::process::Command::new("sleep").arg("60").spawn().unwrap());
        let ids = [0, 1].map(|n| ConnectionId::of(sleepers[n].id()).unwrap());
        let [closes, gone] = &mut sleepers;
        gone.kill().unwrap();
        gone.wait().unwrap();
        let began = Instant::now();
        wait_for_those_that_close(ids.into_iter());
        assert!(began.elapsed() >= CLOSES);
        closes.kill().unwrap();
        wait_for_those_that_close(ids.into_iter());
        assert!(
            ProcessHandle::open(ids[0].pid, ids[0].start_time).is_ok_and(|it| it.wait_end(Duration::ZERO).unwrap())
        );
        closes.wait().unwrap();
    }
}
