//! A person at the key: who is told what while sudo, su and doas wait, and what Ctrl-C does to them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ussh_e2e::lab::{trixie_root, wait_until};
use ussh_e2e::{Forgery, PersonAgent, Shell, WAY_IN, World, WorldPlan};

const SOON: Duration = Duration::from_secs(20);
const HINT: &str = "Touch your security key, or confirm at your agent.";
const NOT_SIGNED: &str =
    "Your SSH agent has not signed for your certificate: try again, and touch its key, or say yes, when you are asked.";
const INTERRUPTED: &str = "Interrupted while your SSH agent was asked: try again.";
const LINE: &str = "auth required pam_ussh.so ca_file=/etc/ssh/trusted_user_ca";
const CTRL_C: &str = "\u{3}";
const CTRL_BACKSLASH: &str = "\u{1c}";

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let world = WorldPlan::new("at-the-key").without_servers().server("web1").people(12, "admins").start().unwrap();
    world.sudo_pam("web1", LINE).unwrap();
    world
});

/// A shell on a server, and an agent that asks its person first.
fn desk<'world>(world: &'world World, user: &str, server: &str) -> (PersonAgent<'world>, Shell) {
    world.make_way_in(user, server).unwrap();
    let agent = world.new_confirming_agent(user).unwrap();
    let good = world.forge(&Forgery::of(user).principals(&[user, "root"])).unwrap();
    good.add_confirmed_to(&agent).unwrap();
    let shell = agent.shell(&format!("{WAY_IN} {server}")).unwrap();
    (agent, shell)
}

fn somebody() -> String {
    WORLD.somebody().unwrap()
}

/// Types a command and waits until the module has said this.
fn start(shell: &Shell, command: &str, said: &str) {
    shell.terminal().send(&format!("{command}\n")).unwrap();
    shell.terminal().expect(said, SOON).unwrap();
}

/// Runs `command` on `server` without a terminal, as scripts do, with an agent that signs when the person has read the hint: what it wrote to its two outputs.
fn outputs_of_a_slow_signature(world: &World, user: &str, server: &str, command: &str) -> [String; 2] {
    world.make_way_in(user, server).unwrap();
    let agent = world.new_confirming_agent(user).unwrap();
    let good = world.forge(&Forgery::of(user).principals(&[user, "root"])).unwrap();
    good.add_confirmed_to(&agent).unwrap();
    let host = world.host(server);
    let [out, err] = ["out", "err"].map(|name| format!("/home/{user}/{name}"));
    let (heard, output) = std::thread::scope(|threads| {
        let running = threads.spawn(|| agent.sh(&format!("{WAY_IN} {server} '{command} > {out} 2> {err}'")));
        let heard = wait_until(SOON, "the hint", || host.read_file(&err).is_ok_and(|text| text.contains(HINT)));
        agent.confirm(true).unwrap();
        (heard, running.join().unwrap().unwrap())
    });
    let read = [out, err].map(|path| host.read_file(&path).unwrap());
    heard.unwrap_or_else(|error| panic!("{command}: {error}: {read:?}"));
    assert!(output.success(), "{command}: {output:?}");
    read
}

#[test]
fn what_is_said_meanwhile_is_no_part_of_what_the_command_prints() {
    const DATA: &str = "to the byte\n\n\tand no newline";
    let _watch = WORLD.lab().watch();
    allow_doas();
    WORLD.host("web1").write_file("/srv/data", 0o600, DATA).unwrap();
    WORLD.host("web1").write_file("/etc/pam.d/su", 0o644, format!("{LINE}\n@include common-account\n")).unwrap();
    for command in ["sudo cat /srv/data", "su root -c \"cat /srv/data\"", "doas cat /srv/data"] {
        let [out, err] = outputs_of_a_slow_signature(&WORLD, &somebody(), "web1", command);
        assert_eq!((out.as_str(), err.trim()), (DATA, HINT), "{command}");
    }
}

#[test]
fn nor_is_it_by_sudo_rs() {
    let plan = WorldPlan::new("at-the-key-out").without_servers().server_on("web13", trixie_root().unwrap());
    let world = plan.start().unwrap();
    let web13 = world.host("web13");
    web13.write_file("/etc/sudoers.d/ussh", 0o440, "%admins ALL=(ALL) ALL\n").unwrap();
    web13.write_file("/srv/data", 0o600, "data").unwrap();
    world.sudo_pam("web13", LINE).unwrap();
    // It says all on the terminal, and nothing where there is none.
    let (agent, shell) = desk(&world, "alice", "web13");
    start(&shell, "sudo-rs cat /srv/data > out", HINT);
    agent.confirm(true).unwrap();
    shell.terminal().expect("ready> ", SOON).unwrap();
    assert_eq!(shell.run("cat out").unwrap(), "data");
}

/// The terminal takes lines and shows what is typed, and nothing is left on it but the shell.
fn all_is_well(shell: &Shell) {
    let modes = shell.run("stty -a").unwrap();
    for mode in ["isig", "icanon", "echo"] {
        assert!(modes.split_whitespace().any(|one| one == mode), "{mode}: {modes}");
    }
    assert_eq!(shell.run("ps -o comm= -t $(tty)").unwrap(), "bash\nps\n");
    assert_eq!(shell.run("echo still $((40 + 2))").unwrap(), "still 42\n");
}

#[test]
fn a_signature_that_takes_its_time_is_explained_and_one_that_does_not_is_not() {
    let _watch = WORLD.lab().watch();
    let (agent, shell) = desk(&WORLD, &somebody(), "web1");
    start(&shell, "sudo id -u", HINT);
    agent.confirm(true).unwrap();
    assert_eq!(shell.terminal().expect("ready> ", SOON).unwrap(), "\n0\n");
    // It is confirmed at once from now on.
    let shown = shell.run("sudo id -u").unwrap();
    assert!(shown.ends_with("0\n") && !shown.contains(HINT), "{shown}");
}

#[test]
fn a_person_who_says_no_is_refused() {
    let _watch = WORLD.lab().watch();
    let (agent, shell) = desk(&WORLD, &somebody(), "web1");
    agent.confirm(false).unwrap();
    let shown = shell.run("sudo id -u").unwrap();
    assert!(shown.contains(NOT_SIGNED) && !shown.contains("\n0\n"), "{shown}");
}

#[test]
fn a_touch_costs_its_own_time_and_no_more() {
    let _watch = WORLD.lab().watch();
    let user = somebody();
    let (_agent, shell) = desk(&WORLD, &user, "web1");
    let web1 = WORLD.host("web1");
    web1.write_file("/etc/pam.d/sudo-i", 0o644, format!("{LINE} touch_timeout=2\n")).unwrap();
    let before = WORLD.log_position("web1");
    let since = Instant::now();
    let shown = shell.run("sudo -i id -u").unwrap();
    let took = since.elapsed();
    assert!(shown.contains(HINT) && shown.contains(NOT_SIGNED), "{shown}");
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(10), "{took:?}");
    let log = WORLD.logged_since("web1", before).unwrap();
    let told =
        |line: &str| line.contains(&format!("for {user} via sudo-i ")) && line.ends_with(": agent: no answer in time");
    assert!(log.lines().any(told), "{log}");
}

#[test]
fn ctrl_c_ends_sudo_at_once_and_leaves_the_terminal_as_it_was() {
    let _watch = WORLD.lab().watch();
    // With as many tries as sudo usually has: it must not go on to the second.
    WORLD.host("web1").write_file("/etc/sudoers.d/ussh-tries", 0o440, "Defaults passwd_tries=3\n").unwrap();
    for key in [CTRL_C, CTRL_BACKSLASH] {
        // Each time somebody else: an agent that is busy with its question has no time for another, and ssh waits for it too.
        let user = somebody();
        let (_agent, shell) = desk(&WORLD, &user, "web1");
        let before = WORLD.log_position("web1");
        start(&shell, "sudo id -u; echo status $?", HINT);
        let since = Instant::now();
        shell.terminal().send(key).unwrap();
        let shown = shell.terminal().expect("ready> ", SOON).unwrap();
        assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
        let lines: Vec<&str> = shown.lines().skip(1).collect();
        assert!(lines[0].ends_with(INTERRUPTED), "{shown}");
        assert_eq!(lines[1..], ["sudo: 1 incorrect password attempt", "status 1"], "{shown}");
        let log = WORLD.logged_since("web1", before).unwrap();
        let refused = |line: &&str| line.contains(&format!("Refusing for {user} via sudo "));
        let refused: Vec<&str> = log.lines().filter(refused).collect();
        assert!(refused.len() == 1 && refused[0].ends_with(": interrupted by the user"), "asked once: {log}");
        all_is_well(&shell);
    }
}

/// Where SIGINT is not blocked it ends the program by itself, before our deadline and without a word of ours.
fn ends_by_the_signal_itself(shell: &Shell, command: &str) {
    start(shell, command, HINT);
    let since = Instant::now();
    shell.terminal().send(CTRL_C).unwrap();
    let shown = shell.terminal().expect("ready> ", SOON).unwrap();
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert_eq!(shown.trim(), "^C", "{command}");
    // 128 and the signal, as a shell tells it.
    assert_eq!(shell.run("echo $?").unwrap(), "130\n", "{command}");
    all_is_well(shell);
}

#[test]
fn ctrl_c_ends_su_by_the_signal_itself() {
    let _watch = WORLD.lab().watch();
    let (_agent, shell) = desk(&WORLD, &somebody(), "web1");
    ends_by_the_signal_itself(&shell, "su root -c 'id -u'");
}

/// Lets the admins have doas.
fn allow_doas() {
    let web1 = WORLD.host("web1");
    web1.write_file("/etc/pam.d/doas", 0o644, format!("{LINE}\naccount required pam_permit.so\n")).unwrap();
    web1.write_file("/etc/doas.conf", 0o400, "permit :admins\n").unwrap();
}

#[test]
fn ctrl_c_ends_doas_by_the_signal_itself() {
    let _watch = WORLD.lab().watch();
    allow_doas();
    let (_agent, shell) = desk(&WORLD, &somebody(), "web1");
    ends_by_the_signal_itself(&shell, "doas id -u");
}

#[test]
fn ctrl_c_ends_sudo_rs_by_the_signal_itself() {
    let plan = WorldPlan::new("at-the-key-rs").without_servers().server_on("web13", trixie_root().unwrap());
    let world = plan.start().unwrap();
    world.host("web13").write_file("/etc/sudoers.d/ussh", 0o440, "%admins ALL=(ALL) ALL\n").unwrap();
    world.sudo_pam("web13", LINE).unwrap();
    let (_agent, shell) = desk(&world, "alice", "web13");
    ends_by_the_signal_itself(&shell, "sudo-rs id -u");
}

#[test]
fn a_certificate_that_is_revoked_while_the_key_is_waited_for_opens_nothing() {
    let world =
        WorldPlan::new("revoked-meanwhile").without_servers().server("web1").people(1, "admins").start().unwrap();
    let _watch = world.lab().watch();
    world.sudo_pam("web1", &format!("{LINE} revoked_keys=/etc/ssh/revoked_keys")).unwrap();
    let user = world.somebody().unwrap();
    let (agent, shell) = desk(&world, &user, "web1");
    let web1 = world.host("web1");
    // Another list, which revokes somebody else: it is read, and the answer stays the same.
    let revoke = |name: &str| {
        let make = format!(
            "echo 'id: {name}' > /root/spec && ssh-keygen -q -k -s none -f /etc/ssh/new /root/spec && mv /etc/ssh/new /etc/ssh/revoked_keys"
        );
        web1.script(&make).unwrap();
    };
    start(&shell, "sudo id -u", HINT);
    revoke("nobody-at-all");
    agent.confirm(true).unwrap();
    assert_eq!(shell.terminal().expect("ready> ", SOON).unwrap(), "\n0\n");

    let (agent, shell) = desk(&world, &user, "web1");
    let before = world.log_position("web1");
    start(&shell, "sudo id -u", HINT);
    revoke(&user);
    agent.confirm(true).unwrap();
    let shown = shell.terminal().expect("ready> ", SOON).unwrap();
    assert!(shown.contains("No certificate that is good for this") && !shown.contains("\n0\n"), "{shown}");
    let log = world.logged_since("web1", before).unwrap();
    assert!(log.lines().any(|line| line.contains(" via sudo ") && line.ends_with(": certificate is revoked")), "{log}");
}
