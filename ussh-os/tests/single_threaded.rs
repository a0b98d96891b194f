//! Facts about forking and about the sandbox. They need a process with one thread, as their callers are: so no test harness, one after the other.
//! With an argument this program is the child that a sandbox test looks at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use ussh_os::agent_socket::{ConnectError, connect_as, connect_as_or_here};
use ussh_os::process::{ChildSetup, effective_uid, spawn};
use ussh_os::process_tree::run_same_program;
use ussh_os::resident::{give_back_start_up, scrub_and_give_back_stack};
use ussh_os::sandbox::{self, Profile};
use ussh_os::seqpacket::SeqPacket;

fn main() {
    if let Some(role) = std::env::args().nth(1).filter(|role| role.starts_with("child-")) {
        return child(&role);
    }
    let facts: &[(&str, fn())] = &[
        (
            "a_child_gets_its_descriptors_its_environment_and_nothing_else",
            a_child_gets_its_descriptors_its_environment_and_nothing_else,
        ),
        ("descriptors_keep_their_order_wherever_they_lay", descriptors_keep_their_order_wherever_they_lay),
        ("a_child_has_no_signal_blocked", a_child_has_no_signal_blocked),
        ("a_missing_program_is_reported", a_missing_program_is_reported),
        ("identity_network_and_death_signal", identity_network_and_death_signal),
        ("a_child_dies_with_its_parent", a_child_dies_with_its_parent),
        ("the_front_has_no_privilege_left", the_front_has_no_privilege_left),
        ("the_signer_has_its_files_and_threads", the_signer_has_its_files_and_threads),
        ("exec_kills_a_sandboxed_process", exec_kills_a_sandboxed_process),
        ("a_second_thread_keeps_the_sandbox_shut", a_second_thread_keeps_the_sandbox_shut),
        ("the_empty_root_must_be_empty_and_root_s", the_empty_root_must_be_empty_and_root_s),
        ("limits_hold", limits_hold),
        ("a_lookup_that_never_ends_costs_the_timeout", a_lookup_that_never_ends_costs_the_timeout),
        ("a_child_that_is_left_behind_gives_its_user_no_memory", a_child_that_is_left_behind_gives_its_user_no_memory),
        (
            "children_that_are_left_behind_are_few_and_waited_for_in_the_end",
            children_that_are_left_behind_are_few_and_waited_for_in_the_end,
        ),
        (
            "a_lookup_that_never_ends_holds_no_thread_where_no_child_can_be_had",
            a_lookup_that_never_ends_holds_no_thread_where_no_child_can_be_had,
        ),
        (
            "a_program_that_lies_where_nothing_answers_is_known_all_the_same",
            a_program_that_lies_where_nothing_answers_is_known_all_the_same,
        ),
        (
            "code_and_constants_are_given_back_and_come_again_as_they_were",
            code_and_constants_are_given_back_and_come_again_as_they_were,
        ),
        ("a_deep_stack_is_wiped_and_given_back", a_deep_stack_is_wiped_and_given_back),
    ];
    // Under AddressSanitizer (`make asan`) a process has terabytes mapped from its start: it does not outlive a limit of one gibibyte.
    let is_sanitized = std::env::var_os("USSH_ASAN").is_some_and(|value| value == "1");
    for (name, fact) in facts {
        if is_sanitized && *name == "limits_hold" {
            println!("test {name} ... ignored, the sanitizer itself needs what it takes away");
            continue;
        }
        fact();
        println!("test {name} ... ok");
    }
}

/// Runs a shell line with descriptor 3 as a socket to us; gives what it wrote there.
fn shell(line: &str, setup: ChildSetup) -> String {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut descriptors = vec![OwnedFd::from(theirs)];
    descriptors.extend(setup.descriptors);
    let mut child =
        spawn(Path::new("/bin/sh"), &["-c", line], &[("A", "b")], ChildSetup { descriptors, ..setup }).unwrap();
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    text
}

fn a_child_gets_its_descriptors_its_environment_and_nothing_else() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    // One that is open and lacks close-on-exec, as a careless library leaves them.
    let stray = std::fs::File::open("/dev/null").unwrap();
    fcntl(&stray, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let setup = ChildSetup { descriptors: vec![theirs.into()], ..ChildSetup::default() };
    let text = shell("echo four >&4; exec 1>&3; readlink /proc/$$/fd/0; ls -x /proc/$$/fd; env", setup);
    let mut four = String::new();
    ours.read_to_string(&mut four).unwrap();
    assert_eq!(four, "four\n");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "/dev/null");
    assert_eq!(lines[1].split_whitespace().collect::<String>(), "01234", "{text}");
    assert!(lines.contains(&"A=b"));
    assert!(!lines.iter().any(|line| line.starts_with("HOME=")));
}

fn descriptors_keep_their_order_wherever_they_lay() {
    // Sources that lie on each other's targets, the wrong way round.
    let files: Vec<UnixStream> = (0..4).map(|_| UnixStream::pair().unwrap()).flat_map(|(a, b)| [a, b]).collect();
    let mut files = files.into_iter();
    let (mut readers, mut given) = (Vec::new(), Vec::new());
    while let (Some(reader), Some(writer)) = (files.next(), files.next()) {
        readers.insert(0, reader);
        given.insert(0, OwnedFd::from(writer));
    }
    shell(
        "for i in 4 5 6 7; do eval \"echo $i >&$i\"; done",
        ChildSetup { descriptors: given, ..ChildSetup::default() },
    );
    for (number, mut reader) in (4..).zip(readers) {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("{number}\n"));
    }
}

/// As in a daemon that hears of them by signalfd(2).
fn a_child_has_no_signal_blocked() {
    let before = SigSet::thread_get_mask().unwrap();
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGCHLD]).thread_block().unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    // No shell: some unblock all signals themselves.
    let line =
        r#"open my $status, "<", "/proc/self/status"; open my $out, ">&=", 3; print $out grep /^SigBlk/, <$status>"#;
    let setup = ChildSetup { descriptors: vec![theirs.into()], ..ChildSetup::default() };
    let mut child = spawn(Path::new("/usr/bin/perl"), &["-e", line], &[], setup).unwrap();
    before.thread_set_mask().unwrap();
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    assert_eq!(text, "SigBlk:\t0000000000000000\n");
}

fn a_missing_program_is_reported() {
    let (a, _b) = UnixStream::pair().unwrap();
    let setup = ChildSetup { descriptors: vec![a.into()], die_with_parent: true, ..ChildSetup::default() };
    let error = spawn(Path::new("/no/such/program"), &[], &[], setup).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

fn identity_network_and_death_signal() {
    if effective_uid() != 0 {
        return;
    }
    let setup =
        ChildSetup { identity: Some((61001, 61002)), die_with_parent: true, no_network: true, ..ChildSetup::default() };
    let text = shell(
        "grep -E '^(Uid|Gid|Groups|CapEff|CapPrm|CapBnd):' /proc/self/status >&3; cat /proc/self/net/dev | grep -c : >&3",
        setup,
    );
    let squeezed: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        squeezed,
        [
            "Uid: 61001 61001 61001 61001",
            "Gid: 61002 61002 61002 61002",
            "Groups:",
            "CapPrm: 0000000000000000",
            "CapEff: 0000000000000000",
            "CapBnd: 0000000000000000",
            "1"
        ]
    );
}

fn a_child_dies_with_its_parent() {
    // The thread is the parent (prctl(2)): it ends, the child gets SIGKILL.
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let identity = (effective_uid() == 0).then_some((61001, 61001));
    let mut child = std::thread::spawn(move || {
        let setup =
            ChildSetup { die_with_parent: true, identity, descriptors: vec![theirs.into()], ..ChildSetup::default() };
        spawn(Path::new("/bin/sh"), &["-c", "echo up >&3; read x <&3"], &[], setup).unwrap()
    })
    .join()
    .unwrap();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    ours.write_all(b"gone").unwrap_err();
}

// ---- sandbox ----

/// This program once more. LeakSanitizer (`make asan`) does not look for leaks there: at the end it would fork and trace, which a sandbox forbids; and a child that hangs in connect() is left
/// behind with its stack on purpose.
fn this_program() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env("LSAN_OPTIONS", "detect_leaks=0");
    command
}

/// Starts this program as a child that enters the sandbox, then waits for a line. Gives it and the lines of its /proc/PID/status once it is in.
fn sandboxed(role: &str) -> (Child, Vec<String>) {
    let mut child = this_program().arg(role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "in\n");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let lines = status.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    (child, lines)
}

fn assert_no_privilege(status: &[String]) {
    let mut expected = vec![
        "CapInh: 0000000000000000",
        "CapPrm: 0000000000000000",
        "CapEff: 0000000000000000",
        "CapAmb: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
    ];
    if effective_uid() == 0 {
        expected.push("CapBnd: 0000000000000000");
    }
    for line in expected {
        assert!(status.iter().any(|have| have == line), "{line} missing in {status:#?}");
    }
}

/// Lets it go on, and gives what it then says, line by line `what: errno`.
fn finish(mut child: Child) -> (Vec<String>, std::process::ExitStatus) {
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    (text.lines().map(str::to_owned).collect(), child.wait().unwrap())
}

fn the_front_has_no_privilege_left() {
    let (child, status) = sandboxed("child-front");
    assert_no_privilege(&status);
    let (said, end) = finish(child);
    assert!(end.success(), "{end}: {said:?}");
    let eperm = libc::EPERM;
    for call in [
        "open",
        "unix socket",
        "tcp socket",
        "fork",
        "clone",
        "executable memory",
        "kill",
        "setuid",
        "raise limit",
        "sender's name",
        "file lock",
    ] {
        assert!(said.contains(&format!("{call}: {eperm}")), "{call}: {said:?}");
    }
    assert!(said.contains(&format!("thread: {eperm}")), "{said:?}");
    assert!(said.contains(&format!("timeout: {}", libc::EPERM)), "{said:?}");
    assert_sends_neither_descriptors_nor_signals(&said);
    for call in ["memory", "time", "random", "socketpair", "quick ack"] {
        assert!(said.contains(&format!("{call}: 0")), "{call}: {said:?}");
    }
}

fn the_signer_has_its_files_and_threads() {
    let (child, status) = sandboxed("child-signer");
    assert_no_privilege(&status);
    let (said, end) = finish(child);
    assert!(end.success(), "{end}: {said:?}");
    let eperm = libc::EPERM;
    for call in ["tcp socket", "fork", "clone", "executable memory", "kill", "setuid", "raise limit"] {
        assert!(said.contains(&format!("{call}: {eperm}")), "{call}: {said:?}");
    }
    assert!(said.contains(&format!("quick ack: {eperm}")), "{said:?}");
    assert_sends_neither_descriptors_nor_signals(&said);
    // A deadline on a socket of its own: an agent that holds a CA key may hang.
    for call in [
        "open",
        "unix socket",
        "thread",
        "memory",
        "time",
        "random",
        "socketpair",
        "sender's name",
        "file lock",
        "timeout",
    ] {
        assert!(said.contains(&format!("{call}: 0")), "{call}: {said:?}");
    }
}

/// A descriptor that is sent is closed in the receiver, who waits there as long as SO_LINGER says; what is readable sends the signal that F_SETSIG says to whom F_SETOWN says.
fn assert_sends_neither_descriptors_nor_signals(said: &[String]) {
    for call in [
        "descriptor",
        "many messages",
        "linger",
        "owner",
        "owner in full",
        "signal",
        "signal-driven",
        "signal-driven by ioctl",
        "owner by ioctl",
        "group by ioctl",
        "lease",
    ] {
        assert!(said.contains(&format!("{call}: {}", libc::EPERM)), "{call}: {said:?}");
    }
    for call in ["packet", "flags", "close-on-exec", "copy"] {
        assert!(said.contains(&format!("{call}: 0")), "{call}: {said:?}");
    }
}

fn exec_kills_a_sandboxed_process() {
    for role in ["child-front-exec", "child-signer-exec"] {
        let (child, _) = sandboxed(role);
        let (said, end) = finish(child);
        assert_eq!(end.signal(), Some(libc::SIGSYS), "{said:?}");
    }
}

fn a_second_thread_keeps_the_sandbox_shut() {
    let (child, status) = sandboxed("child-threaded");
    assert!(status.iter().any(|line| line == "Seccomp: 0"));
    assert_eq!(finish(child).0, ["refused"]);
}

fn the_empty_root_must_be_empty_and_root_s() {
    if effective_uid() != 0 {
        return;
    }
    let folder = std::env::temp_dir().join(format!("ussh-os-root-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let text = |folder: &Path| {
        let output = this_program().arg("child-root").arg(folder).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(text(&folder), "root: []\n");
    std::fs::write(folder.join("something"), b"").unwrap();
    assert_eq!(text(&folder), "refused: the empty root is not empty\n");
    std::fs::remove_file(folder.join("something")).unwrap();
    std::os::unix::fs::chown(&folder, Some(61001), None).unwrap();
    assert_eq!(text(&folder), "refused: the empty root is not root's alone\n");
    std::fs::remove_dir(&folder).unwrap();
}

fn limits_hold() {
    let (child, _) = sandboxed("child-limits");
    assert_eq!(finish(child).0, ["files: 24"]);
}

/// A file system of the user's own that answers no lookup: once not even its start, once it takes the question and keeps it.
fn a_lookup_that_never_ends_costs_the_timeout() {
    if effective_uid() != 0 || !Path::new("/dev/fuse").exists() {
        return;
    }
    for role in ["child-fuse-dead", "child-fuse-mute"] {
        let output = this_program().arg(role).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "timeout\n");
    }
}

/// A daemon looks again and again, and a user's file system may hang each time.
fn children_that_are_left_behind_are_few_and_waited_for_in_the_end() {
    if effective_uid() != 0 || !Path::new("/dev/fuse").exists() {
        return;
    }
    let output = this_program().arg("child-fuse-many").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = "timeout\nleft behind: 4\nanother user's: No such file or directory (os error 2)\nleft behind: 0\n";
    assert_eq!(said, expected);
}

/// It has the user's uid and lives on, in a process that may be traced and in one that may not: the user gets at the memory of neither.
fn a_child_that_is_left_behind_gives_its_user_no_memory() {
    if effective_uid() != 0 || !Path::new("/dev/fuse").exists() {
        return;
    }
    for (role, dumpable) in [("child-fuse-traced", true), ("child-fuse-untraced", false)] {
        let output = this_program().arg(role).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let [timeout, after, mem] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
        assert_eq!((timeout, after), ("timeout", format!("dumpable: {dumpable}").as_str()), "{said}");
        assert!(mem.starts_with("head: cannot open ") && mem.ends_with(": Permission denied"), "{said}");
    }
}

fn a_lookup_that_never_ends_holds_no_thread_where_no_child_can_be_had() {
    if effective_uid() != 0 || !Path::new("/dev/fuse").exists() {
        return;
    }
    let output = this_program().arg("child-fuse-here").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "no child: true\nhere: the kernel does not know the way to a socket there\n");
}

/// The program of whoever poses as an agent may lie in a file system of its user's own.
fn a_program_that_lies_where_nothing_answers_is_known_all_the_same() {
    if effective_uid() != 0 || !Path::new("/dev/fuse").exists() {
        return;
    }
    let output = this_program().arg("child-fuse-program").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "itself: true\nanother: false\n");
}

// ---- the child's side ----

fn child(role: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let pair = SeqPacket::pair().unwrap();
    match role {
        "child-front" | "child-front-exec" => sandbox::enter(Profile::Front).unwrap(),
        "child-signer" | "child-signer-exec" => sandbox::enter(Profile::Signer).unwrap(),
        "child-root" => return child_root(),
        "child-fuse-dead" | "child-fuse-mute" => return child_fuse(role == "child-fuse-mute"),
        "child-fuse-here" => return child_fuse_here(),
        "child-fuse-program" => return child_fuse_program(),
        "child-fuse-many" => {
            child_fuse(true);
            return leave_many_behind();
        }
        "child-fuse-traced" | "child-fuse-untraced" => {
            nix::sys::prctl::set_dumpable(role == "child-fuse-traced").unwrap();
            child_fuse(true);
            return tell_what_its_user_reads();
        }
        "child-limits" => sandbox::limit(Some(1 << 30), Some(60), Some(16)).unwrap(),
        "child-threaded" => {}
        _ => panic!("{role}"),
    }
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let thread = (role == "child-threaded").then(|| std::thread::spawn(move || receiver.recv()));
    println!("in");
    let mut line = String::new();
    io::stdin().read_line(&mut line).unwrap();
    match role {
        "child-threaded" => println!("{}", if sandbox::enter(Profile::Front).is_err() { "refused" } else { "entered" }),
        "child-limits" => {
            let files: Vec<_> = (0..100)
                .map_while(|_| {
                    std::fs::File::open("/dev/null")
                        .map_err(|error| println!("files: {}", error.raw_os_error().unwrap()))
                        .ok()
                })
                .collect();
            drop(files);
        }
        "child-front-exec" | "child-signer-exec" => {
            let path = c"/bin/true";
            // SAFETY: execve with a terminated path and empty lists (execve(2)).
            unsafe { libc::execve(path.as_ptr(), [std::ptr::null()].as_ptr(), [std::ptr::null()].as_ptr()) };
        }
        _ => {
            try_calls();
            try_sockets(&connection, &pair);
        }
    }
    drop(sender);
    if let Some(thread) = thread {
        let _ = thread.join();
    }
}

const USER: u32 = 61001;
const IN_FUSE: &str = "/mnt/folder/agent";

/// Mounts a FUSE file system of a user's, with one more option, in a mount namespace of its own; it is there as long as what this gives.
fn mount_fuse(answer_init: bool, option: &str) -> std::fs::File {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!("fd={},rootmode=40755,user_id={USER},group_id={USER}{option}", device.as_raw_fd());
    mount(Some("test"), "/mnt", Some("fuse"), MsFlags::empty(), Some(options.as_str())).unwrap();
    let mut server = device.try_clone().unwrap();
    if answer_init {
        std::thread::spawn(move || {
            // linux/fuse.h: fuse_in_header is length, opcode, unique, …; INIT (26) is answered with fuse_out_header and fuse_init_out, everything else with silence.
            let mut request = vec![0u8; 1 << 17];
            while let Ok(length) = server.read(&mut request) {
                let [_, _, _, _, opcode, _, _, _, ..] = request[..length] else { return };
                if opcode == 26 {
                    let mut reply = Vec::new();
                    reply.extend((16u32 + 64).to_ne_bytes());
                    reply.extend(0u32.to_ne_bytes());
                    reply.extend(&request[8..16]);
                    reply.extend([7u32, 31, 4096, 0].map(u32::to_ne_bytes).concat());
                    reply.extend([0u32, 4096, 1, 0].map(u32::to_ne_bytes).concat());
                    reply.resize(16 + 64, 0);
                    server.write_all(&reply).unwrap();
                }
            }
        });
    }
    device
}

/// Connects to a path in it as its user.
fn child_fuse(answer_init: bool) {
    let _device = mount_fuse(answer_init, "");
    let start = Instant::now();
    let result = connect_as(USER, USER, &[], Path::new(IN_FUSE), Duration::from_millis(300));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    match result {
        Err(ConnectError::Timeout) => println!("timeout"),
        other => println!("{other:?}"),
    }
}

/// The same by a thread that can start no child: the first process of its namespace of process IDs has ended. Root may go into that file system.
fn child_fuse_here() {
    let _device = mount_fuse(true, ",allow_other");
    let (send, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWPID).unwrap();
        Command::new("true").status().unwrap();
        println!("no child: {}", Command::new("true").status().is_err());
        send.send(connect_as_or_here(USER, USER, &[], Path::new(IN_FUSE), Duration::from_millis(300))).unwrap();
    });
    match answer.recv_timeout(Duration::from_secs(5)) {
        Ok(connected) => println!("here: {}", connected.unwrap_err()),
        Err(_) => println!("here: it hangs"),
    }
    // Nothing else would let a thread go.
    nix::mount::umount2("/mnt", nix::mount::MntFlags::MNT_FORCE | nix::mount::MntFlags::MNT_DETACH).unwrap();
}

/// Runs a program that lies in a FUSE, which then falls silent, and asks whether it is the one of another process.
fn child_fuse_program() {
    let device = mount_fuse(false, ",allow_other");
    let is_silent = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let falls_silent = std::sync::Arc::clone(&is_silent);
    std::thread::spawn(move || serve_one_program(device, &std::fs::read("/bin/sleep").unwrap(), &falls_silent));
    let mut program = Command::new("/mnt/program").arg("60").spawn().unwrap();
    is_silent.store(true, Ordering::SeqCst);
    let (pid, me) = (program.id(), std::process::id());
    let (send, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        send.send(run_same_program(pid, pid)).unwrap();
        send.send(run_same_program(me, pid)).unwrap();
    });
    for asked in ["itself", "another"] {
        match answer.recv_timeout(Duration::from_secs(5)) {
            Ok(same) => println!("{asked}: {same}"),
            Err(_) => println!("{asked}: it hangs"),
        }
    }
    nix::mount::umount2("/mnt", nix::mount::MntFlags::MNT_FORCE | nix::mount::MntFlags::MNT_DETACH).unwrap();
    program.kill().unwrap();
    program.wait().unwrap();
}

/// linux/fuse.h: whatever is looked up is the program. What it tells is good for no time, so that it is asked again.
fn serve_one_program(mut device: std::fs::File, program: &[u8], is_silent: &std::sync::atomic::AtomicBool) {
    const ENOSYS: i32 = -38;
    let attributes = |node: u64| {
        let (mode, size) = if node == 1 { (0o40755u32, 0) } else { (0o100_755, program.len() as u64) };
        [
            [node, size, size.div_ceil(512), 0, 0, 0].map(u64::to_ne_bytes).concat(),
            [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0].map(u32::to_ne_bytes).concat(),
        ]
        .concat()
    };
    let mut request = vec![0u8; 1 << 18];
    while let Ok(length) = device.read(&mut request) {
        let number = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
        let (opcode, node) = (request[4], number(16));
        let found = match opcode {
            // LOOKUP, GETATTR, OPEN, READ, FLUSH, RELEASE, INIT; FORGET has no answer.
            1 => Some([[2, 0, 0, 0, 0].map(u64::to_ne_bytes).concat(), attributes(2)].concat()),
            3 => Some([[0u64, 0].map(u64::to_ne_bytes).concat(), attributes(node)].concat()),
            14 => Some(vec![0; 16]),
            15 => {
                let (from, size) =
                    (number(48) as usize, u32::from_ne_bytes(request[56..60].try_into().unwrap()) as usize);
                Some(program[from.min(program.len())..(from + size).min(program.len())].to_vec())
            }
            25 | 18 => Some(Vec::new()),
            26 => Some([[7u32, 31, 4096, 0, 0, 4096, 1, 0].map(u32::to_ne_bytes).concat(), vec![0; 32]].concat()),
            _ => None,
        };
        if opcode == 2 || is_silent.load(Ordering::SeqCst) || length < 40 {
            continue;
        }
        let (error, body) = found.map_or((ENOSYS, Vec::new()), |body| (0, body));
        let head = [(16 + body.len() as u32).to_ne_bytes(), error.to_ne_bytes()].concat();
        // One that was interrupted is not waited for any more.
        let _ = device.write_all(&[&head[..], &request[8..16], &body[..]].concat());
    }
}

fn children() -> usize {
    let children = format!("/proc/self/task/{}/children", nix::unistd::gettid());
    std::fs::read_to_string(children).unwrap().split_whitespace().count()
}

/// One is there already. Others of the user's come to a limit; once that file system lets them go they are waited for.
fn leave_many_behind() {
    let path = Path::new(IN_FUSE);
    for _ in 0..6 {
        let result = connect_as(61001, 61001, &[], path, Duration::from_millis(50));
        assert!(matches!(result, Err(ConnectError::Timeout)), "{result:?}");
    }
    println!("left behind: {}", children());
    let other = connect_as(61002, 61002, &[], Path::new("/none/agent"), Duration::from_secs(5));
    println!("another user's: {}", other.unwrap_err());
    nix::mount::umount2("/mnt", nix::mount::MntFlags::MNT_FORCE | nix::mount::MntFlags::MNT_DETACH).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while children() > 0 && Instant::now() < end {
        let _ = connect_as(61001, 61001, &[], Path::new("/none/agent"), Duration::from_secs(5));
    }
    println!("left behind: {}", children());
}

/// Opens the memory of our one child as the user whom it is.
fn tell_what_its_user_reads() {
    println!("dumpable: {}", nix::sys::prctl::get_dumpable().unwrap());
    let children = format!("/proc/self/task/{}/children", nix::unistd::gettid());
    let child = std::fs::read_to_string(children).unwrap().trim().to_owned();
    let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap();
    assert!(status.contains("Uid:\t61001\t61001\t61001\t61001"), "{status}");
    let mut reader = Command::new("setpriv");
    reader.args(["--reuid", "61001", "--regid", "61001", "--clear-groups", "head", "-c1"]);
    let output = reader.arg(format!("/proc/{child}/mem")).output().unwrap();
    print!("{}", String::from_utf8(output.stderr).unwrap());
}

fn child_root() {
    let folder = std::env::args().nth(2).unwrap();
    match sandbox::enter_empty_root(Path::new(&folder)) {
        Err(error) => println!("refused: {error}"),
        Ok(()) => println!(
            "root: {:?}",
            std::fs::read_dir("/").unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
        ),
    }
}

fn say(what: &str, result: io::Result<()>) {
    println!("{what}: {}", result.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1)));
}

fn check(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// asm-generic/fcntl.h and sockios.h; the libc crate lacks them.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;
const F_OWNER_PID: i32 = 1;
const FIOSETOWN: u64 = 0x8901;
const SIOCSPGRP: u64 = 0x8902;

/// What a process can do to others with the sockets that it has.
fn try_sockets(connection: &TcpStream, (ours, theirs): &(SeqPacket, SeqPacket)) {
    say("packet", ours.send(b"plain", &[]));
    say("packet", theirs.receive_within(Duration::from_secs(1)).map(|packet| assert_eq!(*packet.data, b"plain")));
    say("descriptor", ours.send(b"and one", &[connection.as_fd()]));
    say("flags", theirs.set_nonblocking(true));
    say("copy", connection.try_clone().map(drop));
    let (tcp, unix) = (connection.as_raw_fd(), ours.as_fd().as_raw_fd());
    let parent = i64::from(std::os::unix::process::parent_id());
    // SAFETY: each of these system calls takes plain values, or memory that lives during the call and has the size that is said.
    unsafe {
        let option = |socket: i32, level: i32, name: i32, value: &[i32]| {
            let length = size_of_val(value) as libc::socklen_t;
            check(libc::setsockopt(socket, level, name, value.as_ptr().cast(), length).into())
        };
        let command = |number: i32, value: i64| check(libc::fcntl(unix, number, value).into());
        say("many messages", check(libc::sendmmsg(unix, std::ptr::null_mut(), 0, 0).into()));
        say("linger", option(tcp, libc::SOL_SOCKET, libc::SO_LINGER, &[1, 1000]));
        say("timeout", option(tcp, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &[1, 0, 0, 0]));
        say("quick ack", option(tcp, libc::IPPROTO_TCP, libc::TCP_QUICKACK, &[1]));
        say("sender's name", option(unix, libc::SOL_SOCKET, libc::SO_PASSCRED, &[1]));
        say("owner", command(libc::F_SETOWN, parent));
        let owner = [F_OWNER_PID, parent as i32];
        say("owner in full", check(libc::fcntl(unix, F_SETOWN_EX, owner.as_ptr()).into()));
        say("signal", command(F_SETSIG, 0));
        let flags = libc::fcntl(unix, libc::F_GETFL);
        say("signal-driven", command(libc::F_SETFL, i64::from(flags | libc::O_ASYNC)));
        say("lease", command(libc::F_SETLEASE, libc::F_UNLCK.into()));
        say("close-on-exec", command(libc::F_SETFD, libc::FD_CLOEXEC.into()));
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = libc::F_UNLCK as i16;
        say("file lock", check(libc::fcntl(unix, libc::F_SETLK, &raw mut lock).into()));
        for (what, request) in
            [("signal-driven by ioctl", libc::FIOASYNC), ("owner by ioctl", FIOSETOWN), ("group by ioctl", SIOCSPGRP)]
        {
            say(what, check(libc::ioctl(tcp, request as _, &raw const owner[1]).into()));
        }
    }
}

fn try_calls() {
    say("open", std::fs::File::open("/dev/null").map(drop));
    // SAFETY: each of these system calls takes plain values, or memory that lives during the call; a forked child would end at once.
    unsafe {
        say("unix socket", check(libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0).into()));
        say("tcp socket", check(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0).into()));
        let fork = libc::fork();
        if fork == 0 {
            libc::_exit(0);
        }
        say("fork", check(fork.into()));
        let clone = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
        if clone == 0 {
            libc::_exit(0);
        }
        say("clone", check(clone));
        let map = |protection| {
            libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        let page = map(libc::PROT_READ | libc::PROT_WRITE);
        say("memory", check(page as i64));
        say(
            "executable memory",
            check(map(libc::PROT_READ | libc::PROT_EXEC) as i64)
                .and_then(|()| check(libc::mprotect(page, 4096, libc::PROT_EXEC).into())),
        );
        say("executable memory", check(libc::mprotect(page, 4096, libc::PROT_EXEC).into()));
        say("kill", check(libc::kill(libc::getppid(), 0).into()));
        say("setuid", check(libc::setuid(0).into()));
        let limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
        say("raise limit", check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit).into()));
        let mut time: libc::timespec = std::mem::zeroed();
        say("time", check(libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_REALTIME, &raw mut time)));
        let mut random = [0u8; 8];
        say("random", check(libc::syscall(libc::SYS_getrandom, random.as_mut_ptr(), random.len(), 0)));
    }
    say("socketpair", UnixStream::pair().map(drop));
    say("thread", std::thread::Builder::new().spawn(|| ()).map(|thread| thread.join().unwrap()));
}

/// A line of /proc/self/status, in KiB.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A digest and the number of all bytes that are mapped from files and cannot be written; by the kernel, since AddressSanitizer lets nobody read between two constants.
fn constant_bytes() -> (u64, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let (mut digest, mut size) = (0_u64, 0);
    for line in maps.lines().filter(|line| line.contains('/')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Among them what is read-only after relocation (RELRO) alone: that must not become as it is in the file.
        if ["r-xp", "r--p"].contains(&words[1]) {
            let (start, end) = words[0].split_once('-').unwrap();
            let start = usize::from_str_radix(start, 16).unwrap();
            let mut bytes = vec![0; usize::from_str_radix(end, 16).unwrap() - start];
            memory.read_exact_at(&mut bytes, start as u64).unwrap();
            digest = bytes.iter().fold(digest, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            size += bytes.len();
        }
    }
    (digest, size)
}

fn code_and_constants_are_given_back_and_come_again_as_they_were() {
    static WRITTEN: AtomicU64 = AtomicU64::new(1);
    WRITTEN.store(2, Ordering::Relaxed);
    let (digest, size) = constant_bytes();
    let before = status("RssFile");
    assert!(before * 1024 >= size as u64 / 10 * 9, "{before} KiB of {size} bytes");

    give_back_start_up();
    let after = status("RssFile");
    assert!(after * 2 < before, "{after} of {before} KiB are left");
    assert_eq!(constant_bytes(), (digest, size));
    assert_eq!(WRITTEN.load(Ordering::Relaxed), 2);
}

fn a_deep_stack_is_wiped_and_given_back() {
    const DEEP: usize = 400 * 1024;
    #[inline(never)]
    fn secret() -> usize {
        let mut secret = [0xa5_u8; DEEP];
        std::hint::black_box(&mut secret).as_ptr() as usize
    }
    let address = secret();
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let count = |memory: &std::fs::File| {
        let mut bytes = vec![0; DEEP];
        memory.read_exact_at(&mut bytes, address as u64).unwrap();
        bytes.iter().filter(|&&byte| byte == 0xa5).count()
    };
    assert!(count(&memory) > DEEP / 2);
    let before = status("RssAnon");
    scrub_and_give_back_stack::<{ 512 * 1024 }>();
    let after = status("RssAnon");
    assert!(after + 200 < before, "{after} KiB after {before}");
    // But for holes in the frames that lie there now.
    assert!(count(&memory) < 256, "{} bytes are left", count(&memory));
}
