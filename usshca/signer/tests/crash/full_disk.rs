//! A disk that is full, and one that fails: nothing leaves that is not recorded, the user reads a true sentence, and the CA goes on when it can.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use crate::kit::{PROGRAM, Signer, check, state};

#[test]
fn on_a_full_disk_nothing_is_issued_and_with_room_it_goes_on_without_a_restart() {
    let state = state();
    let folder = state.path().to_str().unwrap();
    // A disk of its own, of 4 MB, in a mount namespace that ends with the signer.
    let script = "cp -a \"$0\" \"$0.copy\" && mount -t tmpfs -o size=4m,mode=700 tmpfs \"$0\" && cp -a \"$0.copy\"/. \"$0\" && rm -r \"$0.copy\" && exec \"$1\"";
    let signer =
        Signer::started(state.path(), &["/usr/bin/unshare", "-m", "/bin/sh", "-c", script, folder, PROGRAM], false);
    let (mut left, mut refused) = (BTreeMap::new(), Vec::new());
    signer.issue(1, &mut left, &mut refused).unwrap();
    assert_eq!((left.len(), refused.len()), (4, 0));
    assert_eq!(signer.inventory_trouble(), None);

    let inside = PathBuf::from(format!("/proc/{}/root{folder}", signer.child.id()));
    let filler = inside.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    // What the log has room for already is still written; then there is none.
    for _ in 0..200 {
        signer.issue(1, &mut left, &mut refused).unwrap();
        if !refused.is_empty() {
            break;
        }
    }
    let before = left.len();
    refused.clear();
    signer.issue(2, &mut left, &mut refused).unwrap();
    assert_eq!((left.len(), refused.len()), (before, 8));
    for message in &refused {
        assert!(message.starts_with("The CA cannot issue certificates at the moment."), "{message}");
    }

    assert!(matches!(signer.inventory_trouble(), Some(Some(_))));
    assert_eq!(signer.inventory_trouble(), None, "it is as it was");

    drop(file);
    fs::remove_file(&filler).unwrap();
    // Before anybody asks for a certificate: whoever looks at the status after the room was made shall see it.
    assert_eq!(signer.inventory_trouble(), Some(None));
    refused.clear();
    signer.issue(2, &mut left, &mut refused).unwrap();
    assert_eq!((left.len(), refused.len()), (before + 8, 0), "{refused:?}");
    check(&signer, &left);
    signer.end();
}

#[test]
fn a_disk_that_fails_for_a_while_costs_those_who_ask_meanwhile_and_nobody_else() {
    for (calls, error) in [("fsync,fdatasync", "EIO"), ("pwrite64", "EIO"), ("pwrite64", "ENOSPC")] {
        let state = state();
        let inject = format!("inject={calls}:error={error}:when=60..75");
        let trace = format!("trace={calls}");
        let argv = ["/usr/bin/strace", "-o", "/dev/null", "-e", &trace, "-e", &inject, PROGRAM];
        let signer = Signer::started(state.path(), &argv, false);
        let (mut left, mut refused) = (BTreeMap::new(), Vec::new());
        signer.issue(60, &mut left, &mut refused).unwrap();
        assert!(!refused.is_empty(), "{calls} {error}: nobody noticed");
        assert!(
            refused.iter().all(|message| message.contains("at the moment") || message.contains("could not note")),
            "{refused:?}"
        );
        let mut after = Vec::new();
        signer.issue(1, &mut left, &mut after).unwrap();
        assert!(after.is_empty(), "{calls} {error}: {after:?}");
        check(&signer, &left);
        signer.end();
        let again = Signer::again(state.path());
        check(&again, &left);
        again.end();
    }
}
