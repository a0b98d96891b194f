//! What journald gets where it listens, and how little room others' words get.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use super::world::{ALICE, Agent, Outcome, World, at};
use super::{AUTH_ERR, Fact};

pub const FACTS: &[(&str, Fact)] = &[
    ("journald_gets_fields_and_syslog_nothing", journald_gets_fields_and_syslog_nothing),
    ("a_journald_that_does_not_take_it_leaves_it_to_syslog", a_journald_that_does_not_take_it_leaves_it_to_syslog),
    ("words_of_others_take_no_room_from_the_reason", words_of_others_take_no_room_from_the_reason),
];

const FOLDER: &str = "/run/systemd/journal";

fn journald() -> UnixDatagram {
    fs::create_dir_all(FOLDER).unwrap();
    let path = format!("{FOLDER}/socket");
    let _ = fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn ask(world: &World, agent: &Agent, items: &[&str]) -> Outcome {
    world.service("ussh-test", &format!("auth required MODULE ca_file={}", at("cas")));
    let arguments = [items, &["ussh-test", "alice", "authenticate"]].concat();
    world.pam(ALICE, &[("SSH_AUTH_SOCK", agent.socket.to_str().unwrap())], &arguments)
}

fn journald_gets_fields_and_syslog_nothing(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &["-n", "bob", "-V", "-1m:+1h", "-z", "7"]));
    let socket = journald();
    let outcome = ask(world, agent, &["-I", "tty=pts/1\nUSSH_DECISION=accepted"]);
    assert!(!outcome.success && outcome.log.is_empty(), "{:?}", outcome.log);
    let mut buffer = [0u8; 8192];
    let length = socket.recv(&mut buffer).unwrap();
    let entry = String::from_utf8(buffer[..length].to_vec()).unwrap();
    let field = |name: &str| {
        let mut lines = entry.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let value = lines.next().unwrap_or_else(|| panic!("{name} in {entry}")).to_owned();
        assert_eq!(lines.next(), None, "{name} once: {entry}");
        value
    };
    let fingerprint = field("USSH_CA");
    assert!(fingerprint.starts_with("SHA256:"));
    for (name, value) in [
        ("PRIORITY", "5"),
        ("SYSLOG_FACILITY", "10"),
        ("SYSLOG_IDENTIFIER", "pam_ussh"),
        ("USSH_DECISION", "refusing"),
        ("USSH_PHASE", "auth"),
        ("USSH_SERVICE", "ussh-test"),
        ("USSH_USER", "alice"),
        ("USSH_TTY", "pts/1\\x0aUSSH_DECISION=accepted"),
        ("USSH_KEY_ID", "alice"),
        ("USSH_SERIAL", "7"),
        ("USSH_REASON", "certificate does not name a demanded principal: alice, the user's own"),
    ] {
        assert_eq!(field(name), value, "{name}");
    }
    let line = format!(
        "Refusing certificate ID \"alice\" (serial 7) signed by ED25519 CA {fingerprint} for alice via ussh-test tty pts/1\\x0aUSSH_DECISION=accepted: certificate does not name a demanded principal: alice, the user's own"
    );
    assert_eq!(field("MESSAGE"), line);
    assert!(socket.recv(&mut buffer).is_err(), "one entry per decision");
    fs::remove_dir_all(FOLDER).unwrap();
}

fn a_journald_that_does_not_take_it_leaves_it_to_syslog(world: &World, agent: &Agent) {
    // Its queue is full: it is not waited for.
    let socket = journald();
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    while other.send_to(b"x", format!("{FOLDER}/socket")).is_ok() {}
    ask(world, agent, &[]).refused(AUTH_ERR, "no certificate");
    // It is gone, and has left its socket.
    drop(socket);
    ask(world, agent, &[]).refused(AUTH_ERR, "no certificate");
    fs::remove_dir_all(FOLDER).unwrap();
}

fn words_of_others_take_no_room_from_the_reason(world: &World, agent: &Agent) {
    let key_id = "\u{1b}]0;x\u{7}\r\n".repeat(10_000);
    agent.add(&world.certificate_for("ca", &key_id, &["-n", "bob", "-V", "-1m:+1h", "-z", "7"]));
    let items: Vec<String> =
        ["ruser", "rhost", "tty"].iter().map(|name| format!("{name}={}", "\u{7f}\n".repeat(30_000))).collect();
    let items: Vec<&str> = items.iter().flat_map(|item| ["-I", item.as_str()]).collect();
    let outcome = ask(world, agent, &items);
    assert!(!outcome.success);
    // libpam's own audit record cannot hold such items: the code is not ours.
    let [line] = &outcome.log[..] else { panic!("{:?}", outcome.log) };
    assert!(line.ends_with(": certificate does not name a demanded principal: alice, the user's own"), "{line}");
    assert!(line.len() + "<85>pam_ussh[4194304]: ".len() <= 1024, "{} bytes", line.len());
    assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line}");
    assert!(line.contains("\" (serial 7) signed by ED25519 CA SHA256:"), "{line}");
}
