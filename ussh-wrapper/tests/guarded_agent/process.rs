//! How the process is started, found, shared and left.

use super::kit::*;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use ussh_core::agent::{Agent, Request, frame};
use ussh_core::keys::PrivateKey;

#[test]
fn one_host_has_a_few_connections_and_cannot_take_anothers() {
    let user = User::new();
    let socket = user.guarded();
    let mut idle: Vec<Agent> = (0..8).map(|_| connect(&socket)).collect();
    for agent in &mut idle {
        assert_eq!(agent.list(), Ok(vec![]));
    }
    let mut ninth = UnixStream::connect(&socket).unwrap();
    // At once, and not when it has been idle for long enough.
    ninth.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(ninth.read(&mut [0; 1]).unwrap(), 0, "a ninth of this process");
    let other = Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", &socket).output().unwrap();
    assert_eq!(other.stdout, b"The agent has no identities.\n", "another process goes on");
    drop(idle.pop());
    until("there is room again", || connect(&socket).list().is_ok());
}

#[test]
fn a_request_that_waits_for_a_touch_holds_up_no_other_host() {
    let user = User::new();
    let pair = user.good();
    // An agent that knows the certificate and never comes to sign with it, on connections of its own.
    let slow = user.path("slow");
    let listener = UnixListener::bind(&slow).unwrap();
    let listing = user.real().list().unwrap();
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (listing, ended) = (frame::identities(&listing), ended.clone());
            std::thread::spawn(move || {
                if answer_listings(stream, &listing) > 0 {
                    ended.send(()).unwrap();
                }
            });
        }
    });
    let socket = said(user.ussh(&["--agent"]).env("SSH_AUTH_SOCK", &slow));
    let socket = Path::new(socket.trim_end());
    let mut waiting = UnixStream::connect(socket).unwrap();
    waiting.write_all(&frame::sign(pair.blob(), &pair.challenge().signed_data(), 0)).unwrap();
    let begun = Instant::now();
    assert_eq!(connect(socket).list().unwrap().len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    waiting.set_nonblocking(true).unwrap();
    assert_eq!(waiting.read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it waits still");
    // The host gives up: so does the agent's connection, or a hundred of these would stand.
    assert!(end.try_recv().is_err());
    drop(waiting);
    assert_eq!(end.recv_timeout(SOON), Ok(()));
    user.ussh(&["--logout"]).env("SSH_AUTH_SOCK", &slow).output().unwrap();
}

/// Until the other side closes; how many other requests came.
fn answer_listings(mut stream: UnixStream, listing: &[u8]) -> usize {
    let mut others = 0;
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return others;
        }
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut payload).unwrap();
        if Request::parse(&payload) == Request::List {
            stream.write_all(listing).unwrap();
        } else {
            others += 1;
        }
    }
}

#[test]
fn twenty_at_once_start_one_process_and_later_ones_find_it() {
    let user = User::new();
    let started: Vec<Child> =
        (0..20).map(|_| user.ussh(&["--agent"]).stdout(Stdio::piped()).spawn().unwrap()).collect();
    let sockets: Vec<Vec<u8>> = started.into_iter().map(|child| child.wait_with_output().unwrap().stdout).collect();
    assert!(sockets.iter().all(|socket| *socket == sockets[0] && !socket.is_empty()), "{sockets:?}");
    let processes = user.processes();
    assert_eq!(processes.len(), 1);
    user.guarded();
    assert_eq!(user.processes(), processes);
    let status = std::fs::read_to_string(format!("/proc/{}/status", processes[0])).unwrap();
    assert!(!status.contains(&format!("\nPPid:\t{}\n", std::process::id())), "{status}");
}

#[test]
fn one_that_was_killed_or_stopped_is_replaced() {
    let user = User::new();
    let pair = user.good();
    let socket = user.guarded();
    kill(user.processes()[0]);
    until("it is gone", || user.processes().is_empty());
    assert!(socket.exists(), "it left its socket");
    assert_eq!(user.guarded(), socket);
    assert!(connect(&socket).sign(pair.blob(), &pair.challenge().signed_data(), 0).is_ok());
    // What is in the way of its socket is no reason not to start.
    kill(user.processes()[0]);
    until("it is gone", || user.processes().is_empty());
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "").unwrap();
    assert_eq!(user.guarded(), socket);
    assert_eq!(connect(&socket).list().unwrap().len(), 1);
}

#[test]
fn goes_with_the_agent_behind_it_and_with_a_logout() {
    let mut user = User::new();
    let socket = user.guarded();
    assert_eq!(user.processes().len(), 1);
    user.ussh(&["--logout"]).output().unwrap();
    until("it goes after --logout", || user.processes().is_empty());
    user.guarded();
    user.agent.kill().unwrap();
    user.agent.wait().unwrap();
    until("it goes with the agent", || user.processes().is_empty());
    assert!(!socket.exists());
}

#[test]
fn another_users_connection_is_closed() {
    let user = User::new();
    if !nix::unistd::getuid().is_root() {
        return;
    }
    user.good();
    let socket = user.guarded();
    for path in [user.runtime.path(), socket.parent().unwrap(), &socket] {
        std::fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    let list = |uid| {
        let mut command = Command::new("ssh-add");
        command.arg("-l").env("SSH_AUTH_SOCK", &socket).uid(uid).gid(uid);
        command.output().unwrap()
    };
    let other = list(65_534);
    // It got through to the socket, and found it closed before or after it had written.
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    let is_closed =
        other.status.signal() == Some(nix::libc::SIGPIPE) || said.contains("communication with agent failed");
    assert!(is_closed && other.stdout.is_empty(), "{other:?}");
    assert!(list(0).status.success());
}

#[test]
fn a_folder_that_is_not_the_users_alone_is_refused_and_nothing_is_forwarded() {
    let user = User::new();
    std::fs::create_dir(user.runtime.path().join("ussh")).unwrap();
    std::fs::set_permissions(user.runtime.path().join("ussh"), Permissions::from_mode(0o777)).unwrap();
    let output = user.ussh(&["--agent"]).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a folder of yours alone"), "{output:?}");
    assert_eq!(user.processes(), Vec::<u32>::new());
}

#[test]
fn new_files_take_effect_without_a_restart() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    assert_eq!(connect(&socket).list().unwrap().len(), 1);
    let other = PrivateKey::generate_ed25519().unwrap().public_key().to_openssh("another CA");
    std::fs::write(user.path("user_ca.pub"), format!("{other}\n")).unwrap();
    until("the CA does not count any more", || connect(&socket).list() == Ok(vec![]));
    assert!(connect(&socket).sign(pair.blob(), &pair.challenge().signed_data(), 0).is_err());
}
