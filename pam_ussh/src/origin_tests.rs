#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use std::cell::RefCell;
use std::os::unix::net::UnixStream;

use ussh_os::agent_socket::peer_of;
use ussh_os::process;
use ussh_os::unix_diag::inode_of;

use super::*;
use crate::testing::{Folder, SshAgent, Sshd, is_root, record};

/// A connection of alice's from 192.0.2.7 with her forwarded agent at `forwarded`, and a record.
struct World {
    folder: Folder,
    sshd: Sshd,
    agent: SshAgent,
}

fn world() -> World {
    let folder = Folder::new();
    let (mut sshd, agent) = (Sshd::start(), SshAgent::start(&folder, "alice"));
    sshd.relay(&folder.at("forwarded"), &agent.socket);
    record(sshd.monitor).write(&folder.spool()).unwrap();
    World { folder, sshd, agent }
}

impl World {
    /// The origin by way of the socket at `path`, and what was told of it.
    fn by(&self, path: &Path) -> (Option<IpAddr>, String) {
        self.by_stream(&UnixStream::connect(path).unwrap(), None)
    }

    fn by_stream(&self, stream: &UnixStream, peer: Option<i32>) -> (Option<IpAddr>, String) {
        let told = RefCell::new(String::new());
        let real = peer_of(stream).unwrap();
        let origin = AgentOrigin {
            uid: process::real_uid(),
            peer: Peer { pid: peer.unwrap_or(real.pid), ..real },
            inode: &std::cell::Cell::new(inode_of(stream).unwrap()),
            spool: &self.folder.spool(),
            debug: &|text| told.borrow_mut().push_str(text),
            is_told: &std::cell::Cell::new(false),
        };
        let found = origin.address();
        // Asked again it finds the same, and says it once.
        assert_eq!(origin.address(), found);
        let told = told.take();
        assert!(
            found.as_ref().map_or_else(|why| told == format!("no origin: {why}"), |_| told.starts_with("origin is ")),
            "{told}"
        );
        (found.ok(), told)
    }
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn is_the_address_of_the_connection_whose_sshd_answers() {
    if !is_root() {
        return;
    }
    let mut world = world();
    let told = format!("origin is 192.0.2.7, by the record of pid {}", world.sshd.monitor.pid);
    assert_eq!(world.by(&world.folder.at("forwarded")), (address("192.0.2.7"), told));
    // Not yet accepted, it is sshd's all the same.
    let mute = world.sshd.mute(&world.folder.at("waits"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(mute.pid as i32), nix::sys::signal::SIGSTOP).unwrap();
    assert_eq!(world.by(&world.folder.at("waits")).0, address("192.0.2.7"));
    // Wherever the user puts it.
    std::fs::rename(world.folder.at("forwarded"), world.folder.at("elsewhere")).unwrap();
    assert_eq!(world.by(&world.folder.at("elsewhere")).0, address("192.0.2.7"));
}

#[test]
fn an_agent_of_this_host_has_none() {
    if !is_root() {
        return;
    }
    let world = world();
    let (none, told) = world.by(&world.agent.socket);
    let pid = peer_of(&UnixStream::connect(&world.agent.socket).unwrap()).unwrap().pid;
    assert_eq!((none, told), (None, format!("no origin: pid {pid} serves no recorded connection")));
}

#[test]
fn a_proxy_in_the_place_of_sshds_socket_has_none_whatever_its_number() {
    if !is_root() {
        return;
    }
    let mut world = world();
    let (here, moved) = (world.folder.at("forwarded"), world.folder.at("moved"));
    let holder = peer_of(&UnixStream::connect(&here).unwrap()).unwrap().pid;
    std::fs::rename(&here, &moved).unwrap();
    let mut proxy = Sshd::start();
    proxy.relay(&here, &world.agent.socket);
    let (none, told) = world.by(&here);
    assert!(none.is_none() && told.ends_with(" serves no recorded connection"), "{told}");
    // As if the proxy had listened under the number that sshd's process got later.
    let stream = UnixStream::connect(&here).unwrap();
    let (none, told) = world.by_stream(&stream, Some(holder));
    assert_eq!(
        (none, told),
        (None, format!("no origin: pid {holder} is sshd's, but does not hold the agent's socket"))
    );
    // The other end is sshd's, but of another connection than the number tells.
    let (none, told) = world.by_stream(&UnixStream::connect(&moved).unwrap(), Some(world.sshd.monitor.pid as i32));
    assert!(none.is_none() && told.ends_with("does not hold the agent's socket"), "{told}");
    let (none, told) = world.by_stream(&stream, Some(0));
    assert_eq!((none, told), (None, "no origin: the agent's process is not to be seen here".into()));
    world.sshd.mute(&world.folder.at("still there"));
}

#[test]
fn the_record_must_be_there_of_this_user_of_this_boot_and_hold_an_address() {
    if !is_root() {
        return;
    }
    let world = world();
    let spool = world.folder.spool();
    let good = record(world.sshd.monitor);
    let ask = || world.by(&world.folder.at("forwarded"));
    for (rhost, expected) in
        [("2001:db8::7", address("2001:db8::7")), ("laptop.example.com", None), ("", None), ("192.0.2.7 ", None)]
    {
        SessionRecord { rhost: rhost.into(), ..good.clone() }.write(&spool).unwrap();
        let (found, told) = ask();
        assert_eq!(found, expected, "{rhost}");
        assert!(found.is_some() || told == "no origin: the record has no address", "{told}");
    }
    SessionRecord { uid: good.uid + 1, ..good.clone() }.write(&spool).unwrap();
    assert_eq!(ask(), (None, "no origin: the connection is of uid 1".into()));
    SessionRecord { boot_id: "another".into(), ..good.clone() }.write(&spool).unwrap();
    assert!(ask().1.ends_with("serves no recorded connection"));
    good.remove(&spool).unwrap();
    assert!(ask().1.ends_with("serves no recorded connection"));
    std::fs::write(spool.join(good.file_name()), "{").unwrap();
    let (none, told) = ask();
    assert!(none.is_none() && told.starts_with("no origin: record of pid "), "{told}");
    good.write(&spool).unwrap();
    assert_eq!(ask().0, address("192.0.2.7"));
}

#[test]
fn a_login_that_its_monitor_serves_itself_has_one_too() {
    if !is_root() {
        return;
    }
    let mut world = world();
    let serving = world.sshd.relay(&world.folder.at("roots"), &world.agent.socket);
    record(world.sshd.monitor).remove(&world.folder.spool()).unwrap();
    SessionRecord { rhost: "192.0.2.8".into(), ..record(serving) }.write(&world.folder.spool()).unwrap();
    assert_eq!(world.by(&world.folder.at("roots")).0, address("192.0.2.8"));
    assert_eq!(world.by(&world.folder.at("forwarded")).0, None, "it is another process");
}
