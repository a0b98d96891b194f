#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use super::*;
use crate::test_support::{Ca, from_now, record_of, this_process, trusted_folder};

fn config(folder: &Path, hook: &str) -> Config {
    let text = format!(
        "state = '{0}/state'\nspool = '{0}/run/sessions'\nbreak_glass_hook_user = 'root'\nbreak_glass_hook = [{hook}]",
        folder.display()
    );
    Config::parse(&text, Path::new("t")).unwrap()
}

/// The note of a session that lives.
fn noted(config: &Config) -> Note {
    let (certificate, _) = Ca::new().issue("alice", 7, 60);
    let note = Note::of(&record_of(this_process(), Some(&certificate)), &certificate);
    note.put(&config.break_glass_folder()).unwrap();
    note
}

fn ends(config: &Config) -> Vec<String> {
    let names = names(&config.break_glass_folder()).unwrap();
    names.iter().map(|name| name.rsplit_once('.').unwrap().1.to_owned()).collect()
}

#[test]
fn pinned_keys_stand_behind_whatever_the_feed_brings_and_are_replaced_as_they_are() {
    let (user, old, new) = (Ca::new(), Ca::new().0.public_key(), Ca::new().0.public_key());
    let first = with_pinned(user.line().as_bytes(), std::slice::from_ref(&old));
    assert_eq!(String::from_utf8_lossy(&first), user.line() + &old.to_openssh(MARK) + "\n");
    let second = with_pinned(&first, std::slice::from_ref(&new));
    assert_eq!(String::from_utf8_lossy(&second), user.line() + &new.to_openssh(MARK) + "\n");
    // A feed that brings a marked line brings nothing.
    assert_eq!(with_pinned(format!("{}\n", old.to_openssh(MARK)).as_bytes(), &[]), b"");
    assert_eq!(with_pinned(&second, &[]), user.line().as_bytes());
}

#[test]
fn a_use_waits_until_the_ca_has_it_and_the_hook_runs_once() {
    let folder = trusted_folder();
    let out = folder.path().join("out");
    let config = config(
        folder.path(),
        &format!("'/bin/sh', '-c', 'echo \"$USSH_KEY_ID $USSH_USER $USSH_FROM $USSH_SERIAL\" >> {}'", out.display()),
    );
    let note = noted(&config);
    for _ in 0..2 {
        let left = report(&config).unwrap_err().to_string();
        assert!(left.starts_with("the CA does not have it: "), "{left}");
        assert_eq!(ends(&config), ["hook", "json", "wall"]);
    }
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "alice alice 192.0.2.1 7\n");
    let waiting = Waiting::read(&config).unwrap();
    assert_eq!((waiting.count, waiting.since), (1, Some(note.opened)));
    assert!(!waiting.is_late(from_now(0)) && waiting.is_late(from_now(LATE.cast_signed())));
    // The CA has it: the note is over, and stays known while its session lives.
    File::create(config.break_glass_folder().join(format!("{}.ca", note.id))).unwrap();
    report(&config).unwrap();
    assert_eq!(ends(&config), ["done"]);
    assert!(!note.put(&config.break_glass_folder()).unwrap(), "taken for a new one");
    assert_eq!(Waiting::read(&config).unwrap().count, 0);
}

#[test]
fn a_hook_that_fails_is_named_and_run_again() {
    let folder = trusted_folder();
    let flag = folder.path().join("flag");
    let config = config(folder.path(), &format!("'/usr/bin/test', '-e', '{}'", flag.display()));
    noted(&config);
    let left = report(&config).unwrap_err().to_string();
    assert!(left.starts_with("break_glass_hook: /usr/bin/test failed"), "{left}");
    assert_eq!(ends(&config), ["hook-failed", "json", "wall"]);
    std::fs::write(&flag, "").unwrap();
    report(&config).unwrap_err();
    assert_eq!(ends(&config), ["hook", "hook-failed", "json", "wall"]);
}

/// Uses of these key IDs, of an earlier boot, each opened ten seconds after the one before; their files' names are in the same order.
fn uses(config: &Config, key_ids: &[&str]) -> Vec<Note> {
    let (certificate, _) = Ca::new().issue("alice", 7, 60);
    let made = key_ids.iter().enumerate().map(|(at, key_id)| {
        let note = Note::of(&record_of(this_process(), Some(&certificate)), &certificate);
        let opened = from_now(i64::try_from(at).unwrap() * 10 - 400);
        let note = Note { id: format!("boot-{at}-1"), key_id: (*key_id).to_owned(), opened, ..note };
        note.put(&config.break_glass_folder()).unwrap();
        note
    });
    made.collect()
}

#[test]
fn a_hook_that_fails_for_one_use_is_run_for_all_others() {
    let folder = trusted_folder();
    let out = folder.path().join("out");
    let script = format!("test \"$USSH_KEY_ID\" != poison && echo \"$USSH_KEY_ID\" >> {}", out.display());
    let config = config(folder.path(), &format!("'/bin/sh', '-c', '{script}'"));
    uses(&config, &["poison", "bob", "carol"]);
    let left = report(&config).unwrap_err().to_string();
    assert!(left.starts_with("break_glass_hook: /bin/sh failed (exit status: 1); the CA"), "{left}");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "bob\ncarol\n");
}

#[test]
fn a_run_has_an_end_and_the_next_one_begins_with_what_it_left() {
    let folder = trusted_folder();
    let out = folder.path().join("out");
    let script = format!("echo \"$USSH_KEY_ID\" >> {}; sleep 60", out.display());
    let config = config(folder.path(), &format!("'/bin/sh', '-c', '{script}'"));
    uses(&config, &["alice", "bob", "carol"]);
    let bounds = Bounds { time: Duration::from_secs(1), ..HOOK };
    for _ in 0..4 {
        let left = report_within(&config, bounds, Duration::from_millis(500)).unwrap_err().to_string();
        assert!(left.contains("no time for 2 uses"), "{left}");
    }
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "alice\nbob\ncarol\nalice\n");
}

/// A queue for the CA alone.
fn queue(config: &Config) -> Queue<'_> {
    let folder = config.break_glass_folder();
    Queue { config, hook: HOOK, time: RUN, folder, told: Vec::new(), problems: Vec::new() }
}

fn told(config: &Config) -> usize {
    ends(config).iter().filter(|end| *end == "ca").count()
}

#[test]
fn a_use_that_the_ca_refuses_keeps_it_from_hearing_of_no_other() {
    let folder = trusted_folder();
    let config = config(folder.path(), "");
    let notes = uses(&config, &["poison", "b", "c", "d", "e", "f", "g", "h", "i", "j"]);
    let mut queue = queue(&config);
    queue.tell_ca(&queue.waiting(&notes, "ca"), |texts| {
        let is_bad = texts.iter().any(|text| text.contains("poison"));
        if is_bad { Err(Untold::Refused("no".into())) } else { Ok(()) }
    });
    assert_eq!((told(&config), queue.problems), (9, vec!["the CA does not have it: no".to_owned()]));
}

#[test]
fn a_use_at_which_the_ca_hangs_up_is_tried_behind_the_others() {
    let folder = trusted_folder();
    let config = config(folder.path(), "");
    let notes = uses(&config, &["poison", "b", "c", "d", "e", "f", "g", "h", "i", "j"]);
    let mut attempts = Vec::new();
    for _ in 0..3 {
        let mut queue = queue(&config);
        queue.tell_ca(&queue.waiting(&notes, "ca"), |texts| {
            let is_bad = texts.iter().any(|text| text.contains("poison"));
            attempts.push(texts.len());
            if is_bad { Err(Untold::NoWay("hung up".into())) } else { Ok(()) }
        });
    }
    // All at once; the two that were not tried, and the first one alone; and those behind it.
    assert_eq!(told(&config), 9);
    assert_eq!(attempts, [8, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn a_use_that_was_noted_by_a_wrong_clock_is_late() {
    let folder = trusted_folder();
    let config = config(folder.path(), "");
    let note = noted(&config);
    let is_late = |note: &Note| {
        let text = note.to_json();
        let file = config.break_glass_folder().join(format!("{}.json", note.id));
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let is_late = Waiting::read(&config).unwrap().is_late(from_now(0));
        std::fs::remove_file(file).unwrap();
        is_late
    };
    assert!(!is_late(&note));
    assert!(is_late(&Note { opened: from_now(1_000_000), ..note.clone() }));
    assert!(!is_late(&Note { opened: from_now(30), ..note.clone() }), "two clocks are never quite the same");
    // Set back so far that it seems to be new: its connection began with this boot, which was long ago.
    assert!(process::age(0).unwrap().as_secs() > LATE, "this machine was started just now");
    let old = format!("{}-1-0", process::boot_id().unwrap());
    assert!(is_late(&Note { id: old, ..note.clone() }));
    assert!(is_late(&Note { id: "an-earlier-boot-1-1".into(), ..note }));
}

#[test]
fn what_is_done_is_forgotten_with_its_session_and_a_torn_note_is_named() {
    let folder = trusted_folder();
    let config = config(folder.path(), "");
    let note = noted(&config);
    let file = |name: &str| config.break_glass_folder().join(name);
    std::fs::remove_file(file(&format!("{}.json", note.id))).unwrap();
    for name in ["other-boot-1-2.done", "gone-1-2.wall", "gone-1-2.hook"] {
        File::create(file(name)).unwrap();
    }
    report(&config).unwrap();
    assert_eq!(ends(&config), [""; 0]);
    std::fs::write(file("torn-1-2.json"), "{").unwrap();
    std::fs::set_permissions(file("torn-1-2.json"), PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(report(&config).unwrap_err().to_string(), "torn-1-2.json: cannot be read");
    assert!(Waiting::read(&config).unwrap().is_late(from_now(0)));
}

#[test]
fn a_hook_that_hangs_with_all_its_children_is_killed_in_time_and_keeps_the_ca_from_nothing() {
    let folder = trusted_folder();
    let pids = folder.path().join("pids");
    let script = format!("trap '' TERM HUP; sleep 600 & echo $! $$ > {}; sleep 600", pids.display());
    let config = config(folder.path(), &format!("'/bin/sh', '-c', \"{script}\""));
    noted(&config);
    let bounds = Bounds { time: Duration::from_secs(1), ..HOOK };
    let left = report_within(&config, bounds, RUN).unwrap_err().to_string();
    assert!(left.starts_with("break_glass_hook: /bin/sh took longer than 1 s; the CA does not have it: "), "{left}");
    assert_eq!(ends(&config), ["hook-failed", "json", "wall"]);
    for pid in std::fs::read_to_string(pids).unwrap().split_whitespace() {
        // SIGKILL is on its way; whose child it has become may not have looked yet.
        let lives = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        let until = Instant::now() + Duration::from_secs(10);
        while lives() {
            assert!(Instant::now() < until, "{pid} lives");
            std::thread::yield_now();
        }
    }
}
