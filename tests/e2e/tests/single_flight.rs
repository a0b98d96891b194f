//! Many `ussh` at the same moment with an empty agent: one of them asks, at a real CA, and the others have what came of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ussh_e2e::lab::{Output, Process, Status, wait_until};
use ussh_e2e::{World, WorldPlan};

const MANY: usize = 50;
/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(30);
/// What people with a wrong password are promised: all is over by then.
const PROMISED: Duration = Duration::from_secs(5);

/// Asks, says so in a file, and answers when told to.
const GATED: &str =
    "#!/bin/sh\necho asked >> /srv/asked.$USER\nread -r go < /srv/gate.$USER\nprintf '%s\\n' \"$LAB_PASSWORD\"\n";
/// Asks and answers at once.
const COUNTED: &str = "#!/bin/sh\necho asked >> /srv/asked.$USER\nprintf '%s\\n' \"$LAB_PASSWORD\"\n";

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let world = WorldPlan::new("flight").without_servers().server("web1").people(10, "admins").start().unwrap();
    // By default sshd drops the eleventh connection that has not logged in yet.
    let web1 = world.host("web1");
    let config = web1.read_file("/etc/ssh/sshd_config").unwrap();
    web1.stop_service("sshd").unwrap();
    web1.start_sshd(&format!("MaxStartups 200\n{config}")).unwrap();
    let laptop = world.host("laptop");
    laptop.script("mkdir -m 1777 /srv/x; chmod 1777 /srv").unwrap();
    laptop.write_file("/srv/gated", 0o755, GATED).unwrap();
    laptop.write_file("/srv/counted", 0o755, COUNTED).unwrap();
    world
});

/// Somebody whose questions are counted, and answered when [`open`] says so.
fn somebody() -> String {
    let user = WORLD.somebody().unwrap();
    WORLD
        .host("laptop")
        .script(&format!("mkfifo -m 666 /srv/gate.{user}; install -m 666 /dev/null /srv/asked.{user}"))
        .unwrap();
    user
}

fn start(user: &str, password: &str, askpass: &str, command: &str) -> Process {
    WORLD.unattended(user, password, &format!("SSH_ASKPASS={askpass} USER={user} exec {command}")).unwrap()
}

fn questions(user: &str) -> usize {
    WORLD.host("laptop").read_file(&format!("/srv/asked.{user}")).unwrap().lines().count()
}

/// From now on every question is answered.
fn open(user: &str) -> Process {
    WORLD.host("laptop").spawn_as("root", ["bash", "-c", &format!("yes 1<>/srv/gate.{user}")]).unwrap()
}

fn wait_for_the_question(user: &str) {
    wait_until(SOON, "the question", || questions(user) == 1).unwrap();
}

/// Certificates and refusals of theirs in the CA's inventory: how often PAM was talked to.
fn conversations(user: &str) -> u64 {
    WORLD.rows_of(user).unwrap().iter().map(|row| row.count).sum()
}

/// No `ssh` of theirs goes on asking, and whoever wants the lock has it.
fn nothing_is_left(user: &str) {
    let laptop = WORLD.host("laptop");
    wait_until(SOON, "no process to be left", || {
        !laptop.run(["pgrep", "-u", user, "-x", "ssh|ussh"]).unwrap().success()
    })
    .unwrap();
    let free =
        laptop.run_as(user, ["sh", "-c", "set -e; for f in /tmp/ussh-$(id -u)/login.*; do flock -n $f true; done"]);
    free.unwrap().ok().unwrap();
}

fn ends(processes: &[Process]) -> Vec<Output> {
    processes.iter().map(|process| process.wait(SOON).unwrap()).collect()
}

#[test]
fn fifty_at_once_ask_one_question_and_all_connect() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    let password = WORLD.password(&user);
    let all: Vec<Process> = (0..MANY).map(|_| start(&user, password, "/srv/gated", "ussh web1 id -un")).collect();
    wait_until(SOON, "all others to say that they wait", || {
        all.iter().filter(|one| one.stderr().contains("another ussh is asking")).count() == MANY - 1
    })
    .unwrap();
    let answered = Instant::now();
    let gate = open(&user);
    for ended in ends(&all) {
        assert_eq!((ended.status.code(), ended.stdout.trim()), (0, user.as_str()), "{ended}");
    }
    println!("{MANY} connections: {:?} after the answer", answered.elapsed());
    drop(gate);
    assert_eq!((questions(&user), conversations(&user)), (1, 1));
    assert_eq!(WORLD.certificates(&user).unwrap().len(), 1);
    nothing_is_left(&user);
}

#[test]
fn fifty_at_once_with_an_answer_at_once_ask_one_question_too() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    let password = WORLD.password(&user);
    let all: Vec<Process> = (0..MANY).map(|_| start(&user, password, "/srv/counted", "ussh web1 id -un")).collect();
    for ended in ends(&all) {
        assert_eq!((ended.status.code(), ended.stdout.trim()), (0, user.as_str()), "{ended}");
    }
    assert_eq!((questions(&user), conversations(&user)), (1, 1));
}

/// A reason is for the CA's row only: it is none to wait for nobody, nor to log in again.
#[test]
fn eight_at_once_with_eight_reasons_are_one_question_and_all_go_on_in_agent_and_files() {
    let _watch = WORLD.lab().watch();
    for files in [false, true] {
        let user = somebody();
        let password = WORLD.password(&user);
        if files {
            let place = format!("/home/{user}/.config/ussh/ussh.toml");
            WORLD.host("laptop").write_file_as(&user, &place, 0o600, "keep_in = \"files\"\n").unwrap();
        }
        let each = |number| format!("env USSH_REASON=r{number} ussh web1 id -un");
        let all: Vec<Process> = (0..8).map(|n| start(&user, password, "/srv/counted", &each(n))).collect();
        for ended in ends(&all) {
            assert_eq!((ended.status.code(), ended.stdout.trim()), (0, user.as_str()), "{files} {ended}");
        }
        assert_eq!((questions(&user), conversations(&user)), (1, 1), "{files}");
        // Whoever asks for one by name has it, one after the other.
        let by_name = |number| format!("ussh --login --reason n{number}");
        let all: Vec<Process> = (0..3).map(|n| start(&user, password, "/srv/counted", &by_name(n))).collect();
        for ended in ends(&all) {
            assert_eq!(ended.status.code(), 0, "{files} {ended}");
        }
        assert_eq!((questions(&user), conversations(&user)), (4, 4), "{files}");
    }
}

#[test]
fn a_wrong_password_fails_once_for_all_fifty_and_a_later_start_asks_again() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    let all: Vec<Process> = (0..MANY).map(|_| start(&user, "wrong", "/srv/gated", "ussh web1 id -un")).collect();
    wait_for_the_question(&user);
    wait_until(SOON, "all others to wait", || {
        all.iter().filter(|one| one.stderr().contains("another ussh is asking")).count() == MANY - 1
    })
    .unwrap();
    let answered = Instant::now();
    let gate = open(&user);
    let ended = ends(&all);
    let took = answered.elapsed();
    drop(gate);
    println!("{MANY} failures: {took:?} after the answer");
    assert!(took < PROMISED, "{took:?}");
    assert!(ended.iter().all(|ended| ended.status.code() == 69), "{}", ended[0]);
    let shared = |ended: &&Output| ended.stderr.contains("another ussh has asked in the meantime: the login at the CA");
    assert_eq!(ended.iter().filter(shared).count(), MANY - 1);
    assert_eq!((questions(&user), conversations(&user)), (1, 1), "one question, one row of one refusal");
    assert_eq!(WORLD.certificates(&user).unwrap(), []);
    nothing_is_left(&user);
    let again = start(&user, WORLD.password(&user), "/srv/counted", "ussh web1 id -un").wait(SOON).unwrap();
    assert_eq!(again.status.code(), 0, "{again}");
    assert_eq!(questions(&user), 2, "asked anew");
}

#[test]
fn when_the_one_that_asks_is_killed_the_next_one_asks_at_ten_moments() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    let password = WORLD.password(&user);
    let begun = Instant::now();
    let alone = start(&user, password, "/srv/counted", "ussh --login").wait(SOON).unwrap();
    let whole = begun.elapsed();
    assert_eq!(alone.status.code(), 0, "{alone}");
    let laptop = WORLD.host("laptop");
    for moment in 0..10 {
        WORLD.sh("laptop", &user, "ssh-add -qD").unwrap().ok().unwrap();
        let first = start(&user, password, "/srv/counted", "ussh web1 true");
        let kill_at = Instant::now() + whole * moment / 10;
        let others: Vec<Process> = (0..5).map(|_| start(&user, password, "/srv/counted", "ussh web1 true")).collect();
        // The moment is what is tried.
        std::thread::sleep(kill_at.saturating_duration_since(Instant::now()));
        laptop.run(["kill", "-9", &first.pid().to_string()]).unwrap();
        for ended in ends(&others) {
            assert_eq!(ended.status.code(), 0, "killed at {moment} tenths: {ended}");
        }
        nothing_is_left(&user);
    }
}

#[test]
fn when_the_one_whose_question_stands_is_killed_its_ssh_ends_and_the_next_one_asks() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    let password = WORLD.password(&user);
    let first = start(&user, password, "/srv/gated", "ussh web1 true");
    wait_for_the_question(&user);
    let others: Vec<Process> = (0..5).map(|_| start(&user, password, "/srv/counted", "ussh web1 true")).collect();
    for other in &others {
        other.wait_for_output("another ussh is asking", SOON).unwrap();
    }
    WORLD.host("laptop").run(["kill", "-9", &first.pid().to_string()]).unwrap().ok().unwrap();
    for ended in ends(&others) {
        assert_eq!(ended.status.code(), 0, "{ended}");
    }
    assert_eq!(questions(&user), 2);
    nothing_is_left(&user);
}

#[test]
fn ctrl_c_hands_the_question_over_to_the_next_one_with_a_terminal() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    let first = WORLD.terminal("laptop", &user, "ussh web1 id -un").unwrap();
    first.expect("assword:", SOON).unwrap();
    let second = WORLD.terminal("laptop", &user, "ussh web1 id -un").unwrap();
    second.expect("another ussh is asking for a certificate: waiting for it", SOON).unwrap();
    first.send("\u{3}").unwrap();
    assert!(
        matches!(first.expect_exit(SOON).unwrap(), Status::Signaled(2) | Status::Exited(130)),
        "{}",
        first.transcript()
    );
    second.expect("assword:", SOON).unwrap();
    second.send(&format!("{}\n", WORLD.password(&user))).unwrap();
    assert_eq!(second.expect_exit(SOON).unwrap().code(), 0, "{}", second.transcript());
    assert_eq!(second.transcript().lines().last().map(str::trim), Some(user.as_str()));
    assert_eq!(WORLD.certificates(&user).unwrap().len(), 1);
}

#[test]
fn one_that_can_ask_nobody_spoils_it_for_none_that_can() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    // In a session of its own it has no terminal, and no askpass.
    let mute = "env -u SSH_ASKPASS -u SSH_ASKPASS_REQUIRE setsid --wait ussh web1 true";
    let asking = WORLD.terminal("laptop", &user, "ussh web1 id -un").unwrap();
    asking.expect("assword:", SOON).unwrap();
    let waits = start(&user, "", "/srv/counted", mute);
    waits.wait_for_output("another ussh is asking", SOON).unwrap();
    asking.send(&format!("{}\n", WORLD.password(&user))).unwrap();
    assert_eq!(asking.expect_exit(SOON).unwrap().code(), 0);
    let ended = waits.wait(SOON).unwrap();
    assert_eq!(ended.status.code(), 0, "{ended}");
    WORLD.sh("laptop", &user, "ssh-add -qD").unwrap().ok().unwrap();
    let alone = start(&user, "", "/srv/counted", mute).wait(SOON).unwrap();
    assert_eq!(alone.status.code(), 69, "{alone}");
    assert!(alone.stderr.contains("there is no terminal to ask on"), "{alone}");
}
