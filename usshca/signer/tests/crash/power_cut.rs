//! The power fails at an fsync: the files are built as a disk would hold them, with and without some of what was not waited for, and a signer is started on them.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::kit::{Left, PROGRAM, Signer, check, state};
use crate::points;
use crate::trace::{self, Call, Files, Unsynced};

#[test]
fn after_a_power_cut_at_any_fsync_what_left_is_recorded_and_the_ca_goes_on_by_itself() {
    let state = state();
    let folder = state.path().to_str().unwrap();
    let start = files_of(state.path());
    let log = tempfile::NamedTempFile::new().unwrap();
    let signer = Signer::started(state.path(), &trace::argv(log.path().to_str().unwrap(), PROGRAM), false);
    let mut left: Left = BTreeMap::new();
    // Enough for the log to be written into the database meanwhile (4000 pages).
    signer.issue(260, &mut left, &mut Vec::new()).unwrap();
    signer.end();
    let calls = trace::read(log.path(), folder);
    let ends =
        |name: &str| calls.iter().filter(|call| matches!(call, Call::Sync { path } if path.ends_with(name))).count();
    assert!(
        ends("inventory.db") >= 2 && ends("inventory.db-wal") > 520 && ends("serials.new") >= 1,
        "not all was seen"
    );

    let syncs: Vec<usize> = (0..calls.len()).filter(|&n| matches!(calls[n], Call::Sync { .. })).collect();
    let other_syncs = syncs.iter().filter(|&&n| !matches!(&calls[n], Call::Sync { path } if path.ends_with("-wal")));
    let step = (syncs.len() / points()).max(1);
    let chosen: std::collections::BTreeSet<usize> = syncs.iter().step_by(step).chain(other_syncs).copied().collect();
    let out = leaving(&calls, &left);
    let mut seen = 0;
    for (number, &at) in chosen.iter().enumerate() {
        let before = &calls[..at];
        let out: Left = out.iter().filter(|(_, when)| *when < at).map(|(serial, _)| (*serial, Vec::new())).collect();
        seen = seen.max(out.len());
        let ways = [Unsynced::Lost, Unsynced::LaterHalf, Unsynced::EarlierHalf];
        // Each way at each point takes its time.
        let ways = if points() > 20 { &ways[..] } else { &ways[number % 3..=number % 3] };
        for &unsynced in ways {
            let again = tempfile::tempdir().unwrap();
            let disk = trace::disk_after(&start, before, unsynced);
            check_mark(&disk, folder, &out);
            put(again.path(), folder, &disk);
            let signer = Signer::again(again.path());
            check(&signer, &out);
            let mut more = out.clone();
            signer.issue(1, &mut more, &mut Vec::new()).unwrap();
            check(&signer, &more);
            signer.end();
        }
    }
    assert!(seen > 900, "{seen}");
}

/// The mark beside the database covers every serial that left: an older database that is put back after this must not give one of them again.
fn check_mark(disk: &Files, folder: &str, out: &Left) {
    let Some((last, _)) = out.last_key_value() else { return };
    let mark = String::from_utf8(disk[&format!("{folder}/serials")].clone()).unwrap();
    let number = |name: &str| {
        let line = mark.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no mark: {mark:?}")).trim().parse::<u64>().unwrap()
    };
    let marked = number("epoch ") << 40 | number("counter ");
    assert!(*last <= marked, "serial {last} left, and the mark says {marked}");
}

/// Which serial left the process with which call.
fn leaving(calls: &[Call], left: &Left) -> Vec<(u64, usize)> {
    let mut out = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        let Call::Send { data } = call else { continue };
        // Logs and short answers.
        if data.len() < 300 {
            continue;
        }
        let is_in = |certificate: &[u8]| data.windows(certificate.len()).any(|window| window == certificate);
        out.extend(left.iter().filter(|(_, certificate)| is_in(certificate)).map(|(serial, _)| (*serial, at)));
    }
    assert_eq!(out.len(), left.len(), "not every certificate was seen to leave");
    out
}

fn files_of(folder: &Path) -> Files {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

/// Without the file that SQLite maps: it is made anew when there is nobody who has it open.
fn put(to: &Path, from: &str, files: &Files) {
    fs::set_permissions(to, Permissions::from_mode(0o700)).unwrap();
    for (path, bytes) in files.iter().filter(|(path, _)| !path.ends_with("-shm")) {
        let path = to.join(path.strip_prefix(from).unwrap().trim_start_matches('/'));
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
}
