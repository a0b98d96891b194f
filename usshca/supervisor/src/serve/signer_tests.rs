#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::path::Path;

use usshca_ipc::channel::Channel;
use usshca_ipc::layout::Layout;

use super::*;
use crate::child::Child;
use crate::config::Config;
use crate::prepare::Programs;

/// A process, and the signer's end of its channel, which the test holds.
pub fn process() -> (SignerProcess, Channel<FromSignerControl, Control>) {
    let (ours, theirs) = SeqPacket::pair().unwrap();
    let sleeper = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let process = SignerProcess { child: Child::new(sleeper).unwrap(), control: Channel::new(ours) };
    set_nonblocking(&process).unwrap();
    (process, Channel::new(theirs))
}

pub fn base(dir: &Path) -> Base {
    let config = Config::parse("ca_name = \"ca\"\nhost_principals = [\"ca\"]\n", Path::new("x")).unwrap();
    let none = dir.join("none");
    let programs = Programs { front: none.clone(), pam: none.clone(), signer: none };
    Base { layout: Layout::in_directory(dir), config, programs, accounts: None }
}

fn policy(text: &str) -> Vec<PolicyText> {
    vec![PolicyText { name: "policy.toml".into(), folder: String::new(), text: text.into() }]
}

/// One that is up, and its end of its channel.
pub fn up() -> (Signer, Channel<FromSignerControl, Control>) {
    let (process, theirs) = process();
    (signer(State::up(process, Instant::now())), theirs)
}

fn signer(state: State) -> Signer {
    Signer::new(state, OwnedFd::from(std::fs::File::open("/dev/null").unwrap()), policy("first"))
}

/// All that the signer has said is taken in.
fn advance(signer: &mut Signer, base: &Base) {
    signer.advance(base, Instant::now());
}

#[test]
fn reloads_that_overtake_the_signer_are_answered_for_one_by_one_and_the_last_good_one_stays() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path());
    let (process, theirs) = process();
    let mut signer = signer(State::up(process, Instant::now()));
    for text in ["good", "bad", "better", "worse"] {
        signer.offer(policy(text));
    }
    let kept = || FromSignerControl::PolicyKept("no".into());
    theirs.send(&FromSignerControl::PolicyTaken).unwrap();
    advance(&mut signer, &base);
    assert_eq!((signer.state(), &signer.policy), ("up", &policy("good")), "the first answer is about the first");
    for answer in [kept(), FromSignerControl::PolicyTaken, kept()] {
        theirs.send(&answer).unwrap();
    }
    advance(&mut signer, &base);
    // The next signer starts with what this one has taken.
    assert_eq!((signer.state(), &signer.policy), ("up", &policy("better")));
    assert!(signer.offered.is_empty());
    // An answer to nothing is out of turn.
    theirs.send(&FromSignerControl::PolicyTaken).unwrap();
    advance(&mut signer, &base);
    assert_eq!((signer.state(), &signer.policy), ("down", &policy("better")));
}

#[test]
fn what_a_signer_has_not_answered_for_when_it_ends_is_offered_to_the_next_one_and_judged_there() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path());
    let (process, theirs) = process();
    let mut signer = signer(State::up(process, Instant::now()));
    signer.offer(policy("second"));
    signer.offer(policy("third"));
    drop(theirs);
    advance(&mut signer, &base);
    assert_eq!(signer.state(), "down");
    // Its program is missing here: it stays down, and keeps what it was to offer.
    signer.advance(&base, Instant::now() + LONGEST_WAIT);
    assert_eq!((signer.state(), &signer.policy), ("down", &policy("first")), "nobody has judged the others");
    assert_eq!(signer.waiting, Some(policy("third")), "the newest of them is not forgotten");
    // One more while it is down takes their place.
    signer.offer(policy("fourth"));

    let (process, theirs) = self::process();
    signer.state = State::Starting { process, deadline: Instant::now() + START_PATIENCE };
    theirs.send(&FromSignerControl::Ready).unwrap();
    advance(&mut signer, &base);
    assert_eq!(signer.state(), "up");
    let asked = theirs.receive(Some(START_PATIENCE)).unwrap();
    assert_eq!((asked.message, asked.descriptors.len()), (Control::NewPolicy, 1));
    theirs.send(&FromSignerControl::PolicyTaken).unwrap();
    advance(&mut signer, &base);
    assert_eq!((signer.state(), &signer.policy), ("up", &policy("fourth")));
}

#[test]
fn what_a_signer_has_said_before_it_ended_is_taken_in_and_what_it_says_out_of_turn_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path());
    let (mut signer, theirs) = up();
    for connection in [1, 2] {
        theirs.send(&FromSignerControl::LoggedIn { connection }).unwrap();
    }
    theirs.send(&FromSignerControl::Served { connection: 3 }).unwrap();
    drop(theirs);
    advance(&mut signer, &base);
    assert_eq!((signer.state(), signer.take_logged_in(), signer.take_served()), ("down", vec![1, 2], vec![3]));

    // Heard while connections are seen to, it is not lost on the way to the next round, which is not waited for.
    let (mut signer, theirs) = up();
    theirs.send(&FromSignerControl::PolicyTaken).unwrap();
    theirs.send(&FromSignerControl::LoggedIn { connection: 1 }).unwrap();
    signer.hear(Instant::now());
    assert_eq!((signer.state(), signer.take_logged_in()), ("up", vec![]));
    assert!(signer.next_instant().unwrap() <= Instant::now());
    advance(&mut signer, &base);
    assert_eq!(signer.state(), "down");
}

#[test]
fn an_inventory_that_takes_no_rows_is_an_error_until_it_does_again_and_of_its_own_signer_alone() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path());
    let (mut signer, theirs) = up();
    assert_eq!(signer.inventory_trouble(), None);
    theirs.send(&FromSignerControl::InventoryTrouble(Some("no room for w7f".to_owned()))).unwrap();
    signer.hear(Instant::now());
    assert_eq!((signer.state(), signer.inventory_trouble()), ("up", Some("no room for w7f")));
    theirs.send(&FromSignerControl::InventoryTrouble(None)).unwrap();
    signer.hear(Instant::now());
    assert_eq!((signer.state(), signer.inventory_trouble()), ("up", None));
    theirs.send(&FromSignerControl::InventoryTrouble(Some("no room".to_owned()))).unwrap();
    drop(theirs);
    advance(&mut signer, &base);
    signer.advance(&base, Instant::now() + LONGEST_WAIT);
    assert_eq!((signer.state(), signer.inventory_trouble()), ("down", None), "the next one will say");
}

#[test]
fn waits_grow_to_half_a_minute_and_no_further() {
    assert_eq!(wait_after(0), Duration::from_millis(250));
    assert_eq!(wait_after(3), Duration::from_secs(2));
    assert_eq!(wait_after(7), LONGEST_WAIT);
    assert_eq!(wait_after(u32::MAX), LONGEST_WAIT);
}
