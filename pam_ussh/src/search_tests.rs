#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::cell::RefCell;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Instant;

use ussh_core::clock::UnixTime;
use ussh_core::record::SessionRecord;

use super::*;
use crate::testing::{Folder, SshAgent, Sshd, certificate, is_root, record};

/// Long enough for anything but what hangs.
const LONG: Duration = Duration::from_secs(10);

/// What came of a question for the keys of an agent.
#[derive(Debug)]
struct Asked {
    keys: Result<Vec<String>, Denial>,
    told: Vec<String>,
}

fn ask(folder: &Folder, socket: Option<PathBuf>, timeout: Duration) -> Asked {
    ask_for(folder, socket, timeout, Ok)
}

/// Asks as this user, with `socket` as SSH_AUTH_SOCK; `take` is the verdict on the comments of the keys.
fn ask_for(
    folder: &Folder,
    socket: Option<PathBuf>,
    timeout: Duration,
    take: impl Fn(Vec<String>) -> Result<Vec<String>, Denial>,
) -> Asked {
    let told = RefCell::new(Vec::new());
    let debug = |text: &str| told.borrow_mut().push(text.to_owned());
    let spool = folder.spool();
    let caller = Caller::for_test(socket, timeout, &spool, &debug);
    let keys = caller.ask(|reached| {
        let keys = reached.agent.list().map_err(NoAnswer::Agent)?;
        let comments = keys.into_iter().map(|key| String::from_utf8(key.comment).unwrap()).collect();
        take(comments).map_err(NoAnswer::Denied)
    });
    Asked { keys, told: told.into_inner() }
}

impl Asked {
    fn answered_by(&self, name: &str) {
        assert_eq!(self.keys.as_ref().ok(), Some(&vec![name.to_owned()]), "{self:?}");
    }

    /// The denial is that of SSH_AUTH_SOCK, and the log tells why nothing else was asked.
    fn not_searched(&self, why: &str) {
        assert!(matches!(&self.keys, Err(Denial::NoAgent | Denial::AgentUnreachable(_))), "{self:?}");
        assert!(self.told.last().unwrap().starts_with(&format!("no search: {why}")), "{why}: {self:?}");
    }

    fn told(&self, text: &str) -> bool {
        self.told.iter().any(|line| line.contains(text))
    }
}

/// A live session of alice's with her agent behind it at the socket `name`.
fn session(folder: &Folder, name: &str, agent: &SshAgent, opened: u64) -> Sshd {
    let mut sshd = Sshd::start();
    sshd.relay(&folder.at(name), &agent.socket);
    SessionRecord { opened: UnixTime(1_700_000_000 + opened), ..record(sshd.monitor) }.write(&folder.spool()).unwrap();
    sshd
}

/// A socket that its listener has left.
fn dead(folder: &Folder) -> PathBuf {
    let path = folder.at("dead");
    let _ = std::fs::remove_file(&path);
    drop(UnixListener::bind(&path).unwrap());
    path
}

#[test]
fn the_newest_sessions_agent_answers_where_ssh_auth_sock_is_unset_or_dead() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let (old, new) = (SshAgent::start(&folder, "old"), SshAgent::start(&folder, "new"));
    let _old = session(&folder, "one", &old, 1);
    let newest = session(&folder, "two", &new, 2);
    let file = folder.at("file");
    std::fs::write(&file, "").unwrap();
    for socket in [None, Some(folder.at("none")), Some(file.join("below")), Some(file), Some(dead(&folder))] {
        let asked = ask(&folder, socket, LONG);
        asked.answered_by("new");
        assert!(asked.told("searching 2 live sessions of ID \"alice\": 2 sockets"), "{asked:?}");
        assert!(asked.told("/two, of pid "), "{asked:?}");
    }
    drop(newest);
    ask(&folder, None, LONG).answered_by("old");
}

#[test]
fn a_socket_that_answers_is_the_only_one_asked_whatever_it_answers() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let (local, forwarded) = (SshAgent::start(&folder, "local"), SshAgent::start(&folder, "forwarded"));
    let _session = session(&folder, "one", &forwarded, 1);
    ask(&folder, Some(local.socket.clone()), LONG).answered_by("local");
    let asked = ask_for(&folder, Some(local.socket.clone()), LONG, |_| Err(Denial::NoCertificate));
    assert!(matches!(asked.keys, Err(Denial::NoCertificate)) && asked.told.len() == 1, "{asked:?}");
    // A path that can be none, and another user's socket, are wrong and not dead.
    for socket in ["agent", "/../\0"] {
        let asked = ask(&folder, Some(socket.into()), LONG);
        assert!(matches!(asked.keys, Err(Denial::AgentUnreachable(_))) && asked.told.len() == 1, "{asked:?}");
    }
}

#[test]
fn without_a_record_there_is_nothing_to_search() {
    let folder = Folder::new();
    ask(&folder, None, LONG).not_searched("no live session of this uid is recorded");
    assert!(matches!(ask(&folder, None, LONG).keys, Err(Denial::NoAgent)));
    let dead = dead(&folder);
    let asked = ask(&folder, Some(dead), LONG);
    asked.not_searched("no live session of this uid is recorded");
    assert!(
        matches!(&asked.keys, Err(Denial::AgentUnreachable(why)) if why.contains("Connection refused")),
        "{asked:?}"
    );
}

#[test]
fn on_a_shared_account_nobodys_agent_is_reached() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    // Behind both sessions the same witness: it would see a connection.
    let witness = UnixListener::bind(folder.at("witness")).unwrap();
    witness.set_nonblocking(true).unwrap();
    let mut sessions = [Sshd::start(), Sshd::start()];
    for (number, sshd) in sessions.iter_mut().enumerate() {
        sshd.relay(&folder.at(&number.to_string()), &folder.at("witness"));
        record(sshd.monitor).write(&folder.spool()).unwrap();
    }
    let short = Duration::from_millis(500);
    let theirs = record(sessions[1].monitor);
    for (other, why) in [
        (Some(certificate("bob")), "live sessions of this uid have different key IDs"),
        (None, "pid"),
        (Some("ssh-new-cert-v01@openssh.com AAAA".into()), "record of pid"),
    ] {
        SessionRecord { certificate: other, ..theirs.clone() }.write(&folder.spool()).unwrap();
        ask(&folder, Some(dead(&folder)), short).not_searched(why);
        ask(&folder, None, short).not_searched(why);
    }
    assert_eq!(witness.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody was reached");
    theirs.write(&folder.spool()).unwrap();
    assert!(ask(&folder, None, short).keys.is_err());
    assert!(witness.accept().is_ok(), "one person's are reached");
}

#[test]
fn from_an_agent_that_was_searched_for_only_that_persons_certificates_are_taken() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let agent = SshAgent::start(&folder, "alice");
    let _session = session(&folder, "one", &agent, 1);
    let parse = |key_id: &str| ussh_core::certificate::Certificate::from_openssh(&certificate(key_id)).unwrap();
    let (alices, bobs) = (parse("alice"), parse("bob"));
    let spool = folder.spool();
    let takes = |socket: Option<PathBuf>| {
        let caller = Caller::for_test(socket, LONG, &spool, &|_| ());
        caller.ask(|reached| Ok([&alices, &bobs].map(|one| reached.whose.includes(one)))).unwrap()
    };
    assert_eq!(takes(None), [true, false]);
    assert_eq!(takes(Some(agent.socket.clone())), [true, true], "one that he names himself may hold anybody's");
}

#[test]
fn a_socket_in_the_place_of_sshds_is_passed_over_and_told_nothing() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let (old, new) = (SshAgent::start(&folder, "old"), SshAgent::start(&folder, "new"));
    let _sessions = (session(&folder, "one", &old, 1), session(&folder, "two", &new, 2));
    std::fs::rename(folder.at("two"), folder.at("moved")).unwrap();
    let hostile = UnixListener::bind(folder.at("two")).unwrap();
    let asked = ask(&folder, None, LONG);
    asked.answered_by("old");
    assert!(asked.told("/two: another process listens there"), "{asked:?}");
    let mut heard = Vec::new();
    std::io::Read::read_to_end(&mut hostile.accept().unwrap().0, &mut heard).unwrap();
    assert_eq!(heard, b"");
}

#[test]
fn other_forwards_of_the_session_are_passed_over() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let agent = SshAgent::start(&folder, "alice");
    let mut sshd = Sshd::start();
    // By their names all three are sshd's: one says nothing, one speaks something else.
    let at = |name: &str| folder.at("ssh-XXXXXXXXXX").join(name);
    std::fs::create_dir(folder.at("ssh-XXXXXXXXXX")).unwrap();
    let web = UnixListener::bind(folder.at("web")).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = web.accept() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    sshd.mute(&at("agent.1"));
    sshd.relay(&at("agent.2"), &folder.at("web"));
    sshd.relay(&at("agent.3"), &folder.at("nothing"));
    sshd.relay(&at("agent.4"), &agent.socket);
    record(sshd.monitor).write(&folder.spool()).unwrap();
    let asked = ask(&folder, None, Duration::from_secs(4));
    asked.answered_by("alice");
    assert!(asked.told(": 4 sockets"), "{asked:?}");
}

#[test]
fn a_socket_that_says_nothing_costs_half_of_the_time_where_there_are_other_sessions() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let agent = SshAgent::start(&folder, "alice");
    let timeout = Duration::from_secs(2);
    let mut lost = Sshd::start();
    lost.mute(&folder.at("lost"));
    record(lost.monitor).write(&folder.spool()).unwrap();
    let start = Instant::now();
    let asked = ask(&folder, Some(folder.at("lost")), timeout);
    assert!(start.elapsed() >= timeout - Duration::from_millis(50), "{:?}", start.elapsed());
    assert!(
        matches!(&asked.keys, Err(Denial::AgentUnreachable(why)) if why.ends_with("/lost: no answer in time")),
        "{asked:?}"
    );

    let _session = session(&folder, "one", &agent, 1);
    let start = Instant::now();
    ask(&folder, Some(folder.at("lost")), timeout).answered_by("alice");
    assert!(start.elapsed() >= timeout / 2 && start.elapsed() < timeout, "{:?}", start.elapsed());
}

#[test]
fn no_more_sockets_are_tried_than_eight_and_all_within_the_time() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let mut sshd = Sshd::start();
    for number in 0..10 {
        sshd.mute(&folder.at(&number.to_string()));
    }
    record(sshd.monitor).write(&folder.spool()).unwrap();
    let timeout = Duration::from_secs(2);
    let start = Instant::now();
    let asked = ask(&folder, None, timeout);
    assert!(start.elapsed() < timeout + Duration::from_millis(300), "{:?}", start.elapsed());
    assert!(matches!(asked.keys, Err(Denial::NoAgent)), "{asked:?}");
    assert!(asked.told(": 8 sockets"), "{asked:?}");
}

#[test]
fn what_came_furthest_is_the_denial() {
    let refused = || {
        let reason = "x".into();
        Denial::Refused { certificate: None, is_signed: true, reason, is_unsigned_challenge: false, others: 0 }
    };
    let unreachable = || Denial::AgentUnreachable("x".into());
    let of = |one, other| telling(one, other, &|_| ()).unwrap();
    assert!(matches!(of(Denial::NoAgent, unreachable()), Denial::NoAgent));
    assert!(matches!(of(Denial::NoAgent, Denial::NoCertificate), Denial::NoCertificate));
    assert!(matches!(of(Denial::NoCertificate, refused()), Denial::Refused { .. }));
    assert!(matches!(of(refused(), Denial::NoCertificate), Denial::Refused { .. }));
    assert!(matches!(of(refused(), unreachable()), Denial::Refused { .. }));
    let ends = telling(refused(), Denial::Unavailable("x".into()), &|_| ());
    assert!(matches!(ends, Err(Denial::Unavailable(_))));
    let ends = telling(Denial::NoAgent, Denial::Interrupted, &|_| ());
    assert!(matches!(ends, Err(Denial::Interrupted)), "whoever gives up is not asked at the next socket");
}

#[test]
fn agent_search_no_asks_nobody_else() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let agent = SshAgent::start(&folder, "alice");
    let _session = session(&folder, "one", &agent, 1);
    let (spool, told) = (folder.spool(), RefCell::new(Vec::new()));
    let debug = |text: &str| told.borrow_mut().push(text.to_owned());
    let mut caller = Caller::for_test(None, LONG, &spool, &debug);
    caller.searches = false;
    let asked: Result<(), Denial> = caller.ask(|_| Ok(()));
    assert!(matches!(asked, Err(Denial::NoAgent)), "{asked:?}");
    assert_eq!(*told.borrow(), ["no search: agent_search is off"]);
}

/// The process that started this one stands for the monitor of this login: it carries no agent.
#[test]
fn where_the_login_binds_no_other_agent_is_asked_or_searched() {
    if !is_root() {
        return;
    }
    let folder = Folder::trusted();
    let agent = SshAgent::start(&folder, "alice");
    let _other = session(&folder, "other", &agent, 1);
    let ask = |socket: Option<PathBuf>| {
        let (spool, told) = (folder.spool(), RefCell::new(Vec::new()));
        let debug = |text: &str| told.borrow_mut().push(text.to_owned());
        let caller = Caller::for_test(socket, LONG, &spool, &debug).binding();
        let asked: Result<(), Denial> = caller.ask(|_| Ok(()));
        (asked, told.into_inner())
    };
    for socket in [None, Some(agent.socket.clone()), Some(folder.at("other"))] {
        let (asked, told) = ask(socket);
        assert!(asked.unwrap_err().reason().contains("descends from no live login that is recorded"), "{told:?}");
    }
    let parent = ussh_os::process_tree::ProcessId::of(std::os::unix::process::parent_id()).unwrap();
    record(parent).write(&folder.spool()).unwrap();
    let (asked, told) = ask(None);
    assert!(matches!(asked, Err(Denial::NoAgent)), "{asked:?}");
    assert_eq!(told, [format!("this login is ID \"alice\" of {parent}"), "searching this login: 0 sockets".into()]);
    for socket in [agent.socket.clone(), folder.at("other")] {
        let (asked, told) = ask(Some(socket.clone()));
        let reason = asked.unwrap_err().reason();
        let other = format!("agent: {}: not that of the login of {parent}: ", socket.display());
        assert!(reason.starts_with(&other) && told.len() == 2, "{reason} {told:?}");
    }
}
