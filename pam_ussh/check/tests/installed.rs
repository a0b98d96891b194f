//! By which options `--user` judges when none are given: those of our one line in the service's stack.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;

use pam_ussh_check::installed::Judged;
use pam_ussh_check::pam::stack::Facility;

fn judged(files: &[(&str, &[u8])], facility: Facility) -> (Judged, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let judged = Judged::installed(folder.path(), "sudo", facility);
    let line = judged.line().replace(folder.path().to_str().unwrap(), "F");
    (judged, line)
}

#[test]
fn the_one_line_of_the_facility_gives_its_options() {
    let sudo = b"auth include ours\naccount required pam_ussh.so group=ops\n";
    let files: [(&str, &[u8]); 2] = [
        ("sudo", sudo),
        ("ours", b"# by hand\nauth required pam_ussh.so revoked_keys=/k [cue_prompt=Touch the key]\n"),
    ];
    let (auth, line) = judged(&files, Facility::Auth);
    assert_eq!(auth.arguments.unwrap(), ["revoked_keys=/k", "cue_prompt=Touch the key"]);
    assert!(auth.are_the_services);
    assert!(line.starts_with("judged by revoked_keys=/k [cue_prompt=Touch the key] (from F/ours:2)"), "{line}");
    assert_eq!(judged(&files, Facility::Account).0.arguments.unwrap(), ["group=ops"]);
}

#[test]
fn a_line_without_options_is_told_from_no_line() {
    let (bare, line) = judged(&[("sudo", b"auth required pam_ussh.so\n")], Facility::Auth);
    assert!(bare.are_the_services && line.starts_with("judged by no options (from F/sudo:1)"), "{line}");
    for (files, why) in [
        (&[][..], "F/sudo: No such file or directory (os error 2)"),
        (&[("sudo", &b"auth required pam_unix.so\n"[..])], "F/sudo has no auth line of pam_ussh"),
        (
            &[("sudo", &b"auth required pam_ussh.so max_age=1h\nauth required pam_ussh.so\n"[..])],
            "F/sudo has 2 auth lines of pam_ussh (F/sudo:1, F/sudo:2)",
        ),
        (&[("sudo", &b"@include none\n"[..])], "F/sudo:1: libpam cannot read the stack of sudo"),
    ] {
        let (none, line) = judged(files, Facility::Auth);
        assert_eq!((none.arguments.unwrap().len(), none.are_the_services), (0, false), "{line}");
        assert!(line.starts_with(&format!("judged by no options (from the defaults: {why})")), "{line}");
    }
}

#[test]
fn the_file_that_a_line_names_is_told() {
    let (judged, line) = judged(&[("sudo", b"auth required pam_ussh.so config=/etc/passwd\n")], Facility::Auth);
    assert_eq!(judged.file.as_deref(), Some("/etc/passwd"));
    assert!(line.ends_with("judged by config=/etc/passwd (from F/sudo:1), and /etc/passwd"), "{line}");
}

#[test]
fn options_that_are_no_text_stay_none() {
    let (judged, line) = judged(&[("sudo", b"auth required pam_ussh.so \xff\n")], Facility::Auth);
    assert!(judged.arguments.is_none() && judged.are_the_services);
    assert!(line.starts_with("judged by options that are no text (from F/sudo:1)"), "{line}");
}
