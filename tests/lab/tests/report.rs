//! A test that fails prints what was done in its lab, and what the hosts logged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::process::Command;

use ussh_lab::{Lab, SSHD_CONFIG};

#[test]
#[ignore = "fails on purpose: started by the tests below"]
fn failing_with_its_own_lab() {
    let lab = Lab::new("report").host("web1").start().unwrap();
    let web1 = lab.host("web1");
    web1.start_sshd(SSHD_CONFIG).unwrap();
    web1.write_file("/srv/own.log", 0o644, "a line of a log of its own\n").unwrap();
    web1.add_log("/srv/own.log");
    web1.run(["sh", "-c", "echo before the end; exit 42"]).unwrap();
    let _pty = web1.pty_as("root", ["cat"]).unwrap();
    panic!("on purpose");
}

#[test]
#[ignore = "fails on purpose: started by the tests below"]
fn failing_with_a_shared_lab() {
    let lab = Box::leak(Box::new(Lab::new("report").host("web1").start().unwrap()));
    let web1 = lab.host("web1");
    web1.run(["logger", "of the test before"]).unwrap();
    ussh_lab::wait_until(ussh_lab::PATIENCE, "the log", || web1.log().contains("before")).unwrap();
    let _watch = lab.watch();
    web1.run(["logger", "-s", "of this test"]).unwrap();
    panic!("on purpose");
}

#[test]
fn a_lab_of_one_test_tells_all() {
    let report = report_of("failing_with_its_own_lab");
    for part in [
        "lab report.",
        "root@web1# sh -c 'echo before the end; exit 42'   (exit 42,",
        "| before the end",
        "-o PidFile=/run/sshd.pid   (still running)",
        "root@web1# cat   (signal 9,",
        "--- web1: syslog ---",
        "Server listening on 0.0.0.0 port 22",
        "--- web1: /srv/own.log ---\na line of a log of its own",
    ] {
        assert!(report.contains(part), "{part:?} is not in: {report}");
    }
}

#[test]
fn a_shared_lab_tells_what_belongs_to_the_test() {
    let report = report_of("failing_with_a_shared_lab");
    assert!(report.contains("of this test"), "{report}");
    assert!(!report.contains("of the test before"), "{report}");
}

fn report_of(test: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
