//! `make asan`: all facts of this test with the module under AddressSanitizer and LeakSanitizer, and what is tried for them alone.
//!
//! The runtime must be in a host from its start, but nothing is preloaded into a set-uid program. So the hosts are not set-uid then: root starts them, with the runtime, and identity.c makes
//! of each what a set-uid program would be. What the runtime finds it writes to a file, since a host may have its descriptors closed; leaks it looks for when the host ends.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use ussh_core::record::SPOOL;
use ussh_lab::rounds;

use super::hostile;
use super::traces::{AUTH_ERR, BOTH, Report, SUCCESS, UNAVAILABLE, host, stack};
use super::world::{ALICE, Agent, World, at};
use super::{Fact, GOOD};

pub const FACTS: &[(&str, Fact)] = &[
    ("planted_errors_are_reported_and_nothing_else_is", planted_errors_are_reported_and_nothing_else_is),
    ("nothing_grows_with_the_answers", nothing_grows_with_the_answers),
    ("nothing_grows_with_root_in_person", nothing_grows_with_root_in_person),
    ("nothing_grows_with_sshd_s_logins", nothing_grows_with_sshd_s_logins),
    ("nothing_grows_with_hostile_agents", nothing_grows_with_hostile_agents),
];

/// Facts that cannot be told with it: where no memory is to be had, its runtime ends the process.
pub const CANNOT: [&str; 1] = ["without_memory_it_never_succeeds"];

/// `make asan` says so: then the module must be built for it too.
pub fn is_demanded() -> bool {
    std::env::var_os("USSH_ASAN").is_some_and(|value| value == "1")
}

/// Of the hosts. The child that connects (ussh-os, connecting_child.rs) has the thread-local storage of the thread that waits for it, and with it that thread's list of fake stacks, from which
/// both would take at once: hence detect_stack_use_after_return=0. What was freed is kept from reuse up to 1 MiB only, so that a growing resident set can be told from that.
const HOSTS: &str = "detect_leaks=1:detect_stack_use_after_return=0:quarantine_size_mb=1:thread_local_quarantine_size_kb=64:abort_on_error=0:exitcode=23";

/// What is more for hosts that load the module often: with each load the runtime notes every static variable anew and forgets none: some 90 KB.
const LONG: &str = ":report_globals=0";

/// The runtime, and identity.c.
pub struct Sanitizer {
    preloaded: String,
}

impl Sanitizer {
    /// Where `library` is the module as the tests have it.
    pub fn new(library: &Path) -> Self {
        let module = fs::read(library).unwrap();
        let checks = b"__asan_report_load";
        assert!(module.windows(checks.len()).any(|bytes| bytes == checks), "{} is built without it", library.display());
        let found = Command::new("cc").arg("-print-file-name=libasan.so").output().unwrap();
        // Where there is none, cc prints the bare name.
        let runtime = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
        assert!(runtime.is_absolute(), "no libasan.so: {}", runtime.display());
        Sanitizer { preloaded: format!("{} {}", runtime.display(), at("identity.so")) }
    }

    /// A host, which root starts for `uid`.
    pub fn host<A: AsRef<OsStr>>(&self, uid: u32, program: &str, arguments: &[A]) -> Command {
        let is_long = arguments.iter().any(|word| word.as_ref().to_string_lossy().contains("rounds="));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("LD_PRELOAD", &self.preloaded)
            .env("REAL_UID", uid.to_string())
            .env("ASAN_OPTIONS", format!("{HOSTS}:log_path={}{}", at(REPORT), if is_long { LONG } else { "" }));
        command
    }
}

/// The runtime adds a process ID.
const REPORT: &str = "asan-report";

/// What the runtime has found since it was looked at last.
pub fn reports() -> Vec<String> {
    let entries = fs::read_dir(at("")).unwrap().map(|entry| entry.unwrap().path());
    let ours = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(REPORT);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(path).unwrap();
        text
    };
    entries.filter(ours).map(read).collect()
}

/// Calls once more what has made these reports, with all libraries kept: of one that is unloaded the runtime knows no names.
pub fn legible(found: &[String], command: &mut Command) -> String {
    let _ = command.env("KEEP_LIBRARIES", "1").output();
    let again = reports();
    if again.is_empty() { found } else { &again }.join("\n")
}

fn planted_errors_are_reported_and_nothing_else_is(world: &World, _agent: &Agent) {
    let planted = world.sanitized_c_module("planted");
    for (mistake, report) in [
        ("nothing", None),
        ("leak", Some("LeakSanitizer: detected memory leaks")),
        ("overflow", Some("AddressSanitizer: heap-buffer-overflow")),
        ("use-after-free", Some("AddressSanitizer: heap-use-after-free")),
        ("double-free", Some("AddressSanitizer: attempting double-free")),
    ] {
        world.service("ussh-test", &format!("auth required {planted} {mistake}"));
        for uid in [0, ALICE] {
            let (program, arguments) = (at("pamtester"), ["ussh-test", "alice", "authenticate"]);
            let output = world.set_uid(uid, &program, &arguments).output().unwrap();
            let found = reports();
            match report {
                None => assert!(found.is_empty() && output.status.code() == Some(1), "{found:?} {output:?}"),
                Some(report) => {
                    assert!(found.len() == 1 && found[0].contains(report), "{mistake}: {found:?}");
                    assert_eq!(output.status.code(), Some(23), "{mistake}: {output:?}");
                }
            }
        }
    }
}

/// Calls PAM many times in one host: each time the module is loaded and unloaded. In the second half of the rounds none leaves a byte allocated, and the resident set stays as it is: what the
/// runtime itself notes and keeps from reuse comes to its full size in some hundred.
fn many(world: &World, uid: u32, environment: &[(&str, &str)], settings: &str, call: &[&str]) -> Report {
    let settings = format!("rounds={},{settings}", rounds(200, 2000));
    let report = host(world, uid, environment, &settings, call);
    let (early, late) = report.pages.unwrap();
    println!("     {settings}: {early} pages resident after half of them, {late} at the end");
    assert_eq!(report.heap, Some(0), "bytes allocated since and not freed");
    assert!(late - early <= MOST_PAGES, "{early} pages, then {late}");
    report
}

/// How much the resident set may grow, in pages of 4 KiB: what is freed is kept from reuse up to 1 MiB, and as much is for what the runtime notes of it. It is 2 KiB for each of a thousand rounds.
pub const MOST_PAGES: i64 = 512;

fn nothing_grows_with_the_answers(world: &World, agent: &Agent) {
    let socket = [("SSH_AUTH_SOCK", agent.socket.to_str().unwrap())];
    agent.add(&world.certificate("ca", &GOOD));
    for (options, settings, code) in [
        ("", "-", SUCCESS),
        ("max_validity=1m", "-", AUTH_ERR),
        ("max_validity=1m", "deaf", AUTH_ERR),
        ("max_validity=1m", "handler,closed", AUTH_ERR),
    ] {
        stack(world, options);
        many(world, ALICE, &socket, settings, &BOTH).clean(code);
    }
    many(world, ALICE, &[("SSH_AUTH_SOCK", "/nonexistent/agent")], "-", &BOTH).clean(UNAVAILABLE);
}

fn nothing_grows_with_root_in_person(world: &World, _agent: &Agent) {
    let roots = world.agent("asan-root", 0);
    let socket = [("SSH_AUTH_SOCK", roots.socket.to_str().unwrap())];
    let call = ["ussh-test", "root", "authenticate"];
    stack(world, "");
    many(world, 0, &socket, "ruser=root", &call).clean(AUTH_ERR);
    roots.add(&world.certificate("ca", &["-n", "root", "-V", "-1m:+1h"]));
    many(world, 0, &socket, "ruser=root", &call).clean(SUCCESS);
}

fn nothing_grows_with_sshd_s_logins(world: &World, _agent: &Agent) {
    world.certificate("ca", &GOOD);
    let good = world.certificate_line();
    world.service("sshd", &format!("auth required MODULE ca_file={}\nsession required MODULE", at("cas")));
    let call = ["sshd", "alice", "authenticate", "open_session", "close_session"];
    many(world, 0, &[("SSH_AUTH_INFO_0", &good)], "info", &call).clean(SUCCESS);
    many(world, 0, &[("SSH_AUTH_INFO_0", &good[..good.len() - 9])], "info", &call).clean(AUTH_ERR);
    assert!(fs::read_dir(SPOOL).unwrap().next().is_none());
}

fn nothing_grows_with_hostile_agents(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &GOOD));
    stack(world, "timeout=1");
    let (listener, socket) = world.listen_as("asan-hostile", ALICE);
    let scripts = hostile::scripts(&agent.socket);
    let behind = agent.socket.clone();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let served = thread::spawn(move || serve(&listener, &scripts, &behind, &stopped));
    let environment = [("SSH_AUTH_SOCK", socket.to_str().unwrap())];
    let report = many(world, ALICE, &environment, "varying", &BOTH[..3]);
    drop(stop);
    // One more connection, which ends it.
    drop(std::os::unix::net::UnixStream::connect(&socket).unwrap());
    let (connections, scripts) = served.join().unwrap();
    println!("     {connections} connections, {scripts} scripts");
    assert!(connections >= scripts, "each script has its turn");
    assert_eq!(report.changes, [""; 0], "{report:?}");
    assert_eq!(report.log.len(), rounds(200, 2000) as usize, "one line per decision");
    assert!(report.log.iter().all(|line| line.starts_with("Refusing ")), "{:?}", report.log);
}

/// Plays one script for each connection, in turn. Gives how many connections there were, and scripts.
fn serve(
    listener: &UnixListener,
    scripts: &[hostile::Script],
    behind: &Path,
    stopped: &std::sync::mpsc::Receiver<()>,
) -> (usize, usize) {
    for (number, script) in scripts.iter().cycle().enumerate() {
        let (client, _) = listener.accept().unwrap();
        if matches!(stopped.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected)) {
            return (number, scripts.len());
        }
        script.play(client, behind);
    }
    unreachable!("there are scripts, and they never end")
}
