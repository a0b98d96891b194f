#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use super::*;
use crate::test_support::{Ca, from_now, record_of, this_process, trusted_folder};

#[test]
fn what_stands_still_is_frozen_whatever_the_clock_says() {
    for (is_frozen, is_in_time, state) in [
        (true, false, State::Frozen),
        (true, true, State::Frozen),
        (false, true, State::Live),
        (false, false, State::Expired),
    ] {
        assert_eq!(state_of_good(is_frozen, is_in_time), state);
    }
}

#[test]
fn serial_keeps_all_its_digits_in_json() {
    let cells = CertificateCells { key_id: "alice".into(), serial: u64::MAX, valid_before: None, renewed: false };
    let json = serde_json::to_value(cells).unwrap();
    assert_eq!(json["serial"], "18446744073709551615");
}

#[test]
fn what_the_daemon_cannot_use_is_told_while_it_runs() {
    let folder = trusted_folder();
    let text = format!(
        "ca_file = '{0}/ca'\nrevoked_keys = 'none'\nspool = '{0}/h/sessions'\nstate = '{0}/state'",
        folder.path().display()
    );
    let config = Config::parse(&text, Path::new("t")).unwrap();
    std::fs::write(&config.ca_file, Ca::new().line()).unwrap();
    Spool::new(&config.spool).make().unwrap();
    trust_note::write(&config.trust_note(), Some("/x: bad ownership")).unwrap();
    // Left behind by one that was killed.
    assert_eq!(Status::read(&config, from_now(0)).unwrap().daemon_problem, None);
    assert_eq!(problems(&config, from_now(0)), [""; 0]);

    let pid = std::process::id();
    let id = format!("{pid}-{}\n", process::start_time(pid).unwrap());
    std::fs::write(config.lock_file(), id).unwrap();
    let status = Status::read(&config, from_now(0)).unwrap();
    assert_eq!(status.daemon_problem.as_deref(), Some("/x: bad ownership"));
    assert!(status.text().contains("which renews no session, when it looked last: /x: bad ownership\n"));
    assert_eq!(
        problems(&config, from_now(0)),
        ["good now, but the daemon found when it looked last: /x: bad ownership"]
    );
    trust_note::write(&config.trust_note(), None).unwrap();
    assert_eq!(problems(&config, from_now(0)), [""; 0]);
}

#[test]
fn a_host_key_without_a_certificate_has_no_end_and_no_names() {
    let folder = trusted_folder();
    let text = format!("spool = '{0}/h/sessions'\nstate = '{0}/state'", folder.path().display());
    let mut status = Status::read(&Config::parse(&text, Path::new("t")).unwrap(), from_now(0)).unwrap();
    status.host_certificates =
        vec![HostCertificateRow { key: "/k".into(), names: vec![], valid_before: None, renewal: Some(0) }];
    assert!(status.text().contains("host key   /k: no certificate, renewal due\n"), "{}", status.text());
}

#[test]
fn missing_file_comes_with_what_fetches_it_and_a_broken_one_without() {
    let folder = trusted_folder();
    let text = format!(
        "ca_file = '{0}/ca'\nrevoked_keys = '{0}/revoked'\nspool = '{0}/h/sessions'\nstate = '{0}/state'",
        folder.path().display()
    );
    let config = Config::parse(&text, Path::new("t")).unwrap();
    let ca = Ca::new();
    for (name, data) in [("ca", ca.line().into_bytes()), ("revoked", ca.krl(1, from_now(0), &[]))] {
        let [problem] = problems(&config, from_now(0)).try_into().unwrap();
        assert!(problem.contains(name) && problem.ends_with(": run `ussh-hostd sync`"), "{problem}");
        std::fs::write(folder.path().join(name), data).unwrap();
    }
    assert_eq!(problems(&config, from_now(0)), [""; 0]);
    std::fs::write(folder.path().join("revoked"), "junk").unwrap();
    assert!(!problems(&config, from_now(0)).concat().contains("sync"));
}

/// A host of nothing but what `text` says, in a folder of its own.
fn host(text: &str) -> (tempfile::TempDir, Config) {
    let folder = trusted_folder();
    let text = format!(
        "ca_file = '{0}/ca'\nrevoked_keys = 'none'\nspool = '{0}/h/sessions'\nstate = '{0}/state'\nbreak_glass_ca_file = '{0}/glass'\n{text}",
        folder.path().display()
    );
    let config = Config::parse(&text, Path::new("t")).unwrap();
    (folder, config)
}

/// The one session that there is, by a certificate that ends so many seconds from now, and its line in the table.
fn session(config: &Config, ca: &Ca, seconds: i64) -> (SessionRow, String) {
    let now = from_now(0);
    let valid_before = UnixTime(now.0.checked_add_signed(seconds).unwrap());
    let (certificate, _) = ca.issue_until(valid_before, "alice", 7, &["alice"], &[]);
    record_of(this_process(), Some(&certificate)).write(&config.spool).unwrap();
    let rows = recorded(config, now).unwrap();
    let line = table(&rows, now).lines().nth(1).unwrap().to_owned();
    let [row] = rows.try_into().unwrap();
    assert_eq!(row.certificate.as_ref().unwrap().valid_before, Some(valid_before.0));
    (row, line)
}

#[test]
fn a_session_ends_when_the_daemon_acts_and_not_when_its_certificate_does() {
    let ca = Ca::new();
    for (text, seconds, left, said, state) in [
        ("", 5, Some(5), "5 s", State::Live),
        ("", -5, Some(-5), "0 s", State::Expired),
        ("end_after_seconds = 12", 5, Some(17), "17 s", State::Live),
        ("end_after_seconds = 12", -5, Some(7), "7 s", State::Expired),
        ("end_after_seconds = 12\nat_end = 'warn'", -5, Some(7), "7 s", State::Expired),
        // It has come, and the session goes on.
        ("at_end = 'warn'", -5, None, "-", State::Expired),
    ] {
        let (_folder, config) = host(text);
        std::fs::write(&config.ca_file, ca.line()).unwrap();
        let (row, line) = session(&config, &ca, seconds);
        let end = row.certificate.as_ref().unwrap().valid_before.unwrap();
        let expected = left.map(|left: i64| end.checked_add_signed(left - seconds).unwrap());
        assert_eq!((row.ends, row.state), (expected, state), "{text}");
        let state = if state == State::Expired { "certificate expired" } else { "live" };
        assert!(line.contains(&format!("  {said}  ")) && line.ends_with(&format!("  {state}")), "{text}: {line}");
    }
}

#[test]
fn what_stands_still_ends_at_its_limit_alone() {
    let (_folder, config) = host("at_end = 'freeze'");
    assert_eq!(end_by_certificate(from_now(-5), State::Frozen, &config, from_now(0)), None);
    assert_eq!(end_by_certificate(UnixTime(7), State::Expired, &config, from_now(0)), Some(7));
    assert_eq!(end_by_certificate(UnixTime::FOREVER, State::Live, &config, from_now(0)), None);
    let (_folder, config) = host("without_certificate_limit_seconds = 100");
    record_of(this_process(), None).write(&config.spool).unwrap();
    let [row] = recorded(&config, from_now(0)).unwrap().try_into().unwrap();
    assert!(row.ends.is_some() && row.ends == row.limit, "{row:?}");
}

#[test]
fn the_break_glass_ca_is_named_among_the_ca_keys() {
    let (folder, config) = host("");
    let (ca, glass) = (Ca::new(), Ca::new());
    let fingerprint = glass.0.public_key().fingerprint();
    std::fs::write(&config.ca_file, ca.line()).unwrap();
    let told = || {
        let status = Status::read(&config, from_now(0)).unwrap();
        let line = status.text().lines().find(|line| line.starts_with("CA keys ")).unwrap().to_owned();
        (line, serde_json::to_value(&status).unwrap()["break_glass_ca_keys"].clone())
    };
    assert_eq!(told(), ("CA keys    1".into(), serde_json::json!([])));
    std::fs::write(folder.path().join("glass"), glass.line()).unwrap();
    assert_eq!(told().0, "CA keys    1", "it is not trusted yet");
    let marked = crate::glass::with_pinned(ca.line().as_bytes(), &[glass.0.public_key()]);
    std::fs::write(&config.ca_file, marked).unwrap();
    let line = format!("CA keys    2, for break-glass of them {fingerprint}");
    assert_eq!(told(), (line, serde_json::json!([fingerprint])));
}

#[test]
fn what_is_wrong_with_the_break_glass_ca_is_said_once() {
    let (folder, config) = host("");
    std::fs::write(&config.ca_file, Ca::new().line()).unwrap();
    std::fs::write(folder.path().join("glass"), "garbage\n").unwrap();
    let line = format!("break_glass_ca_file: malformed record: {}/glass: line 1 is no CA key", folder.path().display());
    assert_eq!(problems(&config, from_now(0)), [line.as_str()]);
    assert_eq!(Status::read(&config, from_now(0)).unwrap().text().matches(&line).count(), 1);
}

#[test]
fn a_daemon_is_missed_where_one_is_to_run() {
    let (_folder, config) = host("");
    assert!(!lacks_daemon(&config, false), "nothing is set up here");
    assert!(lacks_daemon(&config, true));
    std::fs::create_dir_all(&config.state).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&config.state, mode).unwrap();
    std::fs::write(config.state.join("host.json"), "{").unwrap();
    assert!(lacks_daemon(&config, false), "it is enrolled");
    std::fs::remove_file(config.state.join("host.json")).unwrap();
    Spool::new(&config.spool).make().unwrap();
    assert!(lacks_daemon(&config, false), "logins are recorded");
    std::fs::write(config.lock_file(), "4194303-1\n").unwrap();
    assert!(lacks_daemon(&config, true), "it was killed");
    std::fs::write(config.lock_file(), this_process().stem() + "\n").unwrap();
    assert!(!lacks_daemon(&config, true));
}

#[test]
fn a_feed_is_good_until_it_is_stale_by_whichever_comes_first() {
    let (_folder, config) = host("[sync]\nsource = 'file:/'\nstale_after_seconds = 8");
    let state = |made: i64| {
        let (generated, end) = (from_now(made).0, from_now(86_400).0);
        let feed = format!(
            "{{\"format\":1,\"feed_key\":\"{}\",\"last\":{{\"version\":7,\"digest\":{:?},\"ca\":\"ca\",\"generated\":{generated},\"valid_until\":{end}}}}}",
            Ca::new().0.public_key().to_openssh(""),
            [0_u8; 32],
        );
        std::fs::create_dir_all(&config.state).unwrap();
        std::fs::write(config.state.join("feed.json"), feed).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(config.state.join("feed.json"), private).unwrap();
        (Status::read(&config, UnixTime(generated + made.unsigned_abs())).unwrap(), generated + 8)
    };
    for (made, said) in [(-20, "version 7, stale since 12 s, key "), (-3, "version 7, good for another 5 s, key ")] {
        let (status, stale_from) = state(made);
        assert!(status.text().contains(said), "{}", status.text());
        assert_eq!(status.alarms.iter().any(|alarm| alarm.contains("the feed is stale since 12 s")), made == -20);
        assert_eq!(status.feed.as_ref().unwrap().valid_until, stale_from);
        let line = format!("ussh_hostd_feed_valid_until_seconds {stale_from}\n");
        assert!(status.metrics(&[]).contains(&line), "{}", status.metrics(&[]));
    }
}
