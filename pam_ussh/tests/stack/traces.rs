//! What is left in a host when the module is done: nothing. And what the host may have set up before, without the module minding.
//!
//! The host (host.c) compares all that has a name: threads, descriptors, signal dispositions and masks, environment, locale, umask, credentials, capabilities, limits, timers, children.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use ussh_core::record::SPOOL;
use ussh_lab::rounds;

use super::world::{ALICE, Agent, World, at};
use super::{Fact, GOOD, sanitizer};

pub const FACTS: &[(&str, Fact)] = &[
    ("nothing_is_left_behind_whatever_the_answer", nothing_is_left_behind_whatever_the_answer),
    ("nothing_is_left_behind_by_an_agent_that_hangs_or_hangs_up", an_agent_that_hangs_or_hangs_up),
    ("nothing_is_left_behind_by_a_session", nothing_is_left_behind_by_a_session),
    ("where_standard_descriptors_are_closed_nothing_of_ours_takes_their_place", standard_descriptors_stay_free),
    ("without_descriptors_it_refuses_and_lives", without_descriptors_it_refuses_and_lives),
    ("without_memory_it_never_succeeds", without_memory_it_never_succeeds),
    ("loading_and_unloading_does_not_grow", loading_and_unloading_does_not_grow),
];

// security/_pam_types.h
pub const SUCCESS: i32 = 0;
const SERVICE_ERR: i32 = 3;
pub const AUTH_ERR: i32 = 7;
pub const UNAVAILABLE: i32 = 9;
const SESSION_ERR: i32 = 14;

/// What the host says of itself.
#[derive(Debug)]
pub struct Report {
    status: ExitStatus,
    /// All that changed; empty is good.
    pub changes: Vec<String>,
    /// Where descriptors 0 to 2 led while something was said to the user.
    standard: Vec<String>,
    code: Option<i32>,
    loaded: Option<bool>,
    /// Whether the timer rang, where one was set.
    stormed: Option<bool>,
    /// Resident pages after half of the rounds (or as many as the settings say), and at the end.
    pub pages: Option<(i64, i64)>,
    /// Bytes that were allocated from the one to the other and are not freed, where a sanitizer counts them.
    pub heap: Option<i64>,
    pub log: Vec<String>,
}

/// Calls the host as `uid`.
#[track_caller]
pub fn host(world: &World, uid: u32, environment: &[(&str, &str)], settings: &str, call: &[&str]) -> Report {
    let (program, report) = (at("host"), at("report"));
    if !fs::exists(&program).unwrap() {
        world.c_program("host");
    }
    let _ = fs::remove_file(&report);
    world.logged();
    let output = world.call(uid, environment, &program, &[&[report.as_str(), settings], call].concat());
    // Whatever was said went through the conversation, which prints nothing here.
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{settings} {call:?}: {output:?}");
    let mut told = Report {
        status: output.status,
        changes: Vec::new(),
        standard: Vec::new(),
        code: None,
        loaded: None,
        stormed: None,
        pages: None,
        heap: None,
        log: world.logged(),
    };
    for line in fs::read_to_string(&report).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["code", code] => told.code = Some(code.parse().unwrap()),
            ["loaded", loaded] => told.loaded = Some(loaded == "1"),
            ["pages", early, late] => told.pages = Some((early.parse().unwrap(), late.parse().unwrap())),
            ["heap", more] => told.heap = Some(more.parse().unwrap()),
            ["standard", _, target] => told.standard.push(target.to_owned()),
            ["storm", stormed] => told.stormed = Some(stormed == "1"),
            _ => told.changes.push(line.to_owned()),
        }
    }
    told
}

impl Report {
    /// PAM said this, and nothing is another than before.
    #[track_caller]
    pub fn clean(&self, code: i32) {
        assert_eq!(self.changes, [""; 0], "{self:?}");
        assert_eq!(self.code, Some(code), "{self:?}");
    }
}

fn line(options: &str) -> String {
    format!("MODULE ca_file={} {options}", at("cas"))
}

pub fn stack(world: &World, options: &str) {
    world.service("ussh-test", &format!("auth required {0}\naccount required {0}", line(options)));
}

/// Signals in every way in which a host can have them, its standard descriptors closed, no file to be written, and a timer that interrupts every wait.
const HOSTS: [&str; 7] = ["-", "ignore", "handler", "block", "closed", "size=0", "handler,storm,closed"];
pub const BOTH: [&str; 4] = ["ussh-test", "alice", "authenticate", "acct_mgmt"];

fn nothing_is_left_behind_whatever_the_answer(world: &World, agent: &Agent) {
    let socket = agent.socket.to_str().unwrap();
    for settings in HOSTS {
        agent.empty();
        stack(world, "");
        host(world, ALICE, &[("SSH_AUTH_SOCK", socket)], settings, &BOTH).clean(AUTH_ERR);
        host(world, ALICE, &[("SSH_AUTH_SOCK", "/nonexistent/agent")], settings, &BOTH).clean(UNAVAILABLE);
        agent.add(&world.certificate("ca", &GOOD));
        let report = host(world, ALICE, &[("SSH_AUTH_SOCK", socket)], settings, &BOTH);
        report.clean(SUCCESS);
        assert!(report.log.len() == 2 && report.log[1].ends_with(": proof made by auth"), "{report:?}");
        stack(world, "no-such-option");
        host(world, ALICE, &[("SSH_AUTH_SOCK", socket)], settings, &BOTH).clean(SERVICE_ERR);
        host(world, 0, &[], settings, &["ussh-test", "alice", "acct_mgmt"]).clean(SERVICE_ERR);
    }
}

fn an_agent_that_hangs_or_hangs_up(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &GOOD));
    stack(world, "timeout=1");
    agent.freeze();
    for settings in ["-", "block", "handler,storm,closed"] {
        let report = host(world, ALICE, &[("SSH_AUTH_SOCK", agent.socket.to_str().unwrap())], settings, &BOTH);
        report.clean(UNAVAILABLE);
        assert!(report.log[0].contains("no answer in time"), "{report:?}");
        assert_ne!(report.stormed, Some(false), "{report:?}");
    }
    agent.thaw();

    // One that takes the connection and lets it fall at once: what is sent then would be a SIGPIPE.
    let (listener, socket) = world.listen_as("hangs-up", ALICE);
    let hangs_up = std::thread::spawn(move || {
        let accept = |listener: &UnixListener| listener.accept().map(drop);
        HOSTS.iter().try_for_each(|_| accept(&listener))
    });
    for settings in HOSTS {
        host(world, ALICE, &[("SSH_AUTH_SOCK", socket.to_str().unwrap())], settings, &BOTH).clean(UNAVAILABLE);
    }
    hangs_up.join().unwrap().unwrap();
}

fn nothing_is_left_behind_by_a_session(world: &World, _agent: &Agent) {
    world.service("sshd", "session required MODULE");
    fs::set_permissions(SPOOL, fs::Permissions::from_mode(0o700)).unwrap();
    for settings in HOSTS {
        // Where no file can be written there is no record: that refuses, and the host lives.
        let code = if settings == "size=0" { SESSION_ERR } else { SUCCESS };
        let report = host(world, 0, &[], settings, &["sshd", "alice", "open_session", "close_session"]);
        report.clean(code);
        if code == SESSION_ERR {
            assert!(report.log[0].contains("File too large"), "{report:?}");
        }
        assert!(fs::read_dir(SPOOL).unwrap().next().is_none(), "{settings}");
    }
}

fn standard_descriptors_stay_free(world: &World, agent: &Agent) {
    stack(world, "");
    let report = host(world, ALICE, &[("SSH_AUTH_SOCK", agent.socket.to_str().unwrap())], "closed", &BOTH);
    report.clean(AUTH_ERR);
    assert_eq!(report.standard, ["/dev/null"; 3], "while a hook runs");
}

fn without_descriptors_it_refuses_and_lives(world: &World, agent: &Agent) {
    let socket = agent.socket.to_str().unwrap();
    agent.add(&world.certificate("ca", &GOOD));
    stack(world, "");
    let mut codes = Vec::new();
    for more in 0..16 {
        let settings = format!("files={more}");
        let report = host(world, ALICE, &[("SSH_AUTH_SOCK", socket)], &settings, &BOTH);
        report.clean(report.code.unwrap());
        codes.push(report.code.unwrap());
    }
    assert_ne!(codes[0], SUCCESS);
    assert_eq!(codes[15], SUCCESS, "{codes:?}");
    let enough = codes.iter().position(|&code| code == SUCCESS).unwrap();
    assert!(codes[enough..].iter().all(|&code| code == SUCCESS), "{codes:?}");
}

fn without_memory_it_never_succeeds(world: &World, agent: &Agent) {
    let socket = agent.socket.to_str().unwrap();
    agent.add(&world.certificate("ca", &["-n", "alice", "-V", "-2h:-1h"]));
    // A list that needs room.
    let padding = format!("# {}\n", "x".repeat(78)).repeat(12_000);
    fs::write(at("long_cas"), padding + &fs::read_to_string(at("cas")).unwrap()).unwrap();
    world.service("ussh-test", &format!("auth required MODULE ca_file={}", at("long_cas")));
    let (mut short, mut enough) = (0, 0);
    // Up to 4 MiB more than is mapped, in steps that hit another allocation each.
    let tries = rounds(64, 1024);
    for step in 0..tries {
        let settings = format!("memory={}", u64::from(step) * 4 * 1024 * 1024 / u64::from(tries));
        let report = host(world, ALICE, &[("SSH_AUTH_SOCK", socket)], &settings, &BOTH[..3]);
        assert!(!report.status.success() && report.code != Some(SUCCESS), "{settings}: {report:?}");
        assert!(!report.log.iter().any(|line| line.contains("Accepted")), "{report:?}");
        let is_short = report.status.signal().is_some() || report.log.iter().any(|line| line.contains("out of memory"));
        *(if is_short { &mut short } else { &mut enough }) += 1;
    }
    assert!(short > 0 && enough > 0, "{short} short of memory, {enough} not");
}

fn loading_and_unloading_does_not_grow(world: &World, agent: &Agent) {
    let socket = agent.socket.to_str().unwrap();
    agent.add(&world.certificate("ca", &GOOD));
    let settings = format!("rounds={}", rounds(300, 10_000));
    // Success with a proof that is kept, and refusal.
    for (options, code) in [("", SUCCESS), ("max_validity=1m", AUTH_ERR)] {
        stack(world, options);
        let report = host(world, ALICE, &[("SSH_AUTH_SOCK", socket)], &settings, &BOTH);
        report.clean(code);
        let (early, late) = report.pages.unwrap();
        println!("     {settings}: {early} pages resident after half of them, {late} at the end");
        let most = if world.is_sanitized() {
            // Its runtime's own notes and what it keeps from reuse are resident too: it counts what was allocated by anybody else, and to the byte.
            assert_eq!(report.heap, Some(0), "bytes allocated since and not freed");
            sanitizer::MOST_PAGES
        } else {
            // The allocator takes some rounds to settle; what is lost in each of thousands is more.
            32
        };
        assert!(late - early <= most, "{early} pages, then {late}");
    }
    // pam_end lets go of the library, and it really goes.
    let report = host(world, ALICE, &[("SSH_AUTH_SOCK", socket)], "-", &BOTH);
    assert_eq!(report.loaded, Some(false), "{report:?}");
    assert!(fs::metadata(at("host")).unwrap().permissions().mode() & 0o4000 != 0);
}
