//! SIGKILL at a system call with which the signer changes its files: strace delivers it as the call is entered, so that it is the last one that was not made.

use std::collections::BTreeMap;

use crate::kit::{Left, PROGRAM, Signer, check, state};
use crate::points;

/// All that changes a file or makes a change last.
const CALLS: &str = "pwrite64,write,fsync,fdatasync,ftruncate,rename,renameat,renameat2,unlink,unlinkat,sendto";

#[test]
fn killed_at_any_call_it_has_recorded_what_left_and_goes_on_by_itself() {
    let state = state();
    let mut left: Left = BTreeMap::new();
    // The first calls are those of the start; after some 150 each kind of call of an issue has had its turn.
    let step = 200 / points();
    let mut issued_before_the_kill = 0;
    for when in (1..=200).step_by(step) {
        let inject = format!("inject={CALLS}:signal=KILL:when={when}");
        let trace = format!("trace={CALLS}");
        let argv = ["/usr/bin/strace", "-o", "/dev/null", "-e", &trace, "-e", &inject, PROGRAM];
        let mut signer = Signer::start(state.path(), &argv, false);
        let before = left.len();
        let killed = !signer.is_ready() || signer.issue(30, &mut left, &mut Vec::new()).is_err();
        assert!(killed, "call {when} was not reached");
        signer.child.wait().unwrap();
        issued_before_the_kill += usize::from(left.len() > before);
        let again = Signer::again(state.path());
        check(&again, &left);
        again.issue(1, &mut left, &mut Vec::new()).unwrap();
        check(&again, &left);
        again.end();
    }
    assert!(
        issued_before_the_kill >= points() / 4,
        "{issued_before_the_kill}: the kills came before anything was issued"
    );
}
