//! source-address in sudo and su: honoured where a record of ours proves from where the connection comes whose sshd carries the agent, refused everywhere else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use ussh_e2e::lab::{trixie_root, wait_until};
use ussh_e2e::{Forgery, Leftover, PersonAgent, Shell, WAY_IN, World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);
const SPOOL: &str = "/run/ussh-hostd/sessions";
const LINE: &str =
    "auth required pam_ussh.so ca_file=/etc/ssh/trusted_user_ca revoked_keys=/etc/ssh/revoked_keys debug";
/// What the user reads, whatever the reason.
const NOT_GOOD: &str = "No certificate that is good for this: see \"ssh-add -l\", get a new one with \"ussh --login\" on your own machine, or log in again with \"ssh -A\".";
const ELSEWHERE: &str = ": source-address does not allow this origin";
const UNKNOWN: &str = ": source-address cannot be compared, no origin: ";

/// web1 is Debian 12 (OpenSSH 9.2), web13 Debian 13 (OpenSSH 10.0); on web2 one test alone counts processes.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("origin").people(24, "admins");
    let world = plan.server_on("web13", trixie_root().unwrap()).start().unwrap();
    for server in ["web1", "web2", "web13"] {
        world.sudo_pam(server, LINE).unwrap();
        world.host(server).write_file("/etc/pam.d/su", 0o644, format!("{LINE}\n@include common-account\n")).unwrap();
    }
    world
});

/// Somebody else each time, with an empty agent and a way into the server that needs no certificate.
fn somebody(server: &str) -> PersonAgent<'static> {
    let name = WORLD.somebody().unwrap();
    WORLD.make_way_in(&name, server).unwrap();
    WORLD.new_agent(&name).unwrap()
}

/// Adds a certificate for this person that is bound to `addresses`.
fn add_bound(agent: &PersonAgent<'_>, addresses: &str) -> u64 {
    let forgery = Forgery::of(agent.user()).principals(&[agent.user(), "root"]);
    let forged = WORLD.forge(&forgery.option(&format!("source-address={addresses}"))).unwrap();
    forged.add_to(agent).unwrap();
    forged.serial
}

fn laptop() -> String {
    format!("{}/32", WORLD.host("laptop").address())
}

/// What a command in a shell said, and what pam_ussh logged of it.
#[derive(Debug)]
struct Attempt {
    text: String,
    log: Vec<String>,
}

fn attempt(server: &str, user: &str, run: impl FnOnce() -> String) -> Attempt {
    let before = WORLD.log_position(server);
    let text = run();
    let by = format!("ruser {user}");
    let log = WORLD.logged_since(server, before).unwrap();
    let mine = log.lines().filter(|line| line.contains("pam_ussh[") && line.contains(&by));
    Attempt { text, log: mine.map(str::to_owned).collect() }
}

fn in_shell(shell: &Shell, server: &str, user: &str, command: &str) -> Attempt {
    attempt(server, user, || shell.run(command).unwrap())
}

impl Attempt {
    fn accepted(&self, serial: u64) {
        assert_eq!(self.text, "0\n", "{self:?}");
        let line = self.log.last().unwrap();
        assert!(line.contains("Accepted certificate ID ") && line.contains(&format!("(serial {serial}) ")), "{self:?}");
    }

    /// For its source-address; `why` there is no origin is in the log for those who look closely.
    fn refused(&self, serial: u64, why: &str) {
        assert!(!self.text.contains("0\n") && self.text.matches(NOT_GOOD).count() == 1, "{self:?}");
        let decisions: Vec<&String> = self.log.iter().filter(|line| !line.contains("debug: ")).collect();
        assert_eq!(decisions.len(), 1, "{self:?}");
        let line = decisions[0];
        assert!(line.contains("Refusing ") && line.contains(&format!("(serial {serial}) ")), "{self:?}");
        // One reason is that no origin is known, and another that it is the wrong one.
        let is_known = why.starts_with("origin is ");
        let says_so = if is_known {
            line.contains(ELSEWHERE)
        } else {
            line.contains(UNKNOWN) && line.contains(why.trim_start_matches("no origin: "))
        };
        assert!(says_so, "{why}: {self:?}");
        assert!(self.told(why), "{why}: {self:?}");
    }

    fn told(&self, text: &str) -> bool {
        self.log.iter().any(|line| line.contains("debug: ") && line.contains(text))
    }
}

/// The records of this user's sessions, by the name of their files.
fn records(server: &str, user: &str) -> Vec<String> {
    let host = WORLD.host(server);
    let names = host.list_folder(SPOOL).unwrap().into_iter().filter(|name| !name.starts_with('.'));
    let files = names.filter(|name| name.ends_with(".json")).map(|name| format!("{SPOOL}/{name}"));
    files
        .filter(|file| {
            let record = host.read_file(file).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
            record.is_some_and(|record| record["user"] == user)
        })
        .collect()
}

fn honours_the_address_of_the_connection(server: &str) {
    let agent = somebody(server);
    let user = agent.user();
    let serial = add_bound(&agent, &format!("192.0.2.0/24,{}", laptop()));
    // sshd itself judges it for the login, by the same address.
    for ssh in ["ssh -A", WAY_IN] {
        let shell = agent.shell(&format!("{ssh} {server}")).unwrap();
        for command in ["sudo id -u", "su root -c 'id -u'"] {
            let accepted = in_shell(&shell, server, user, command);
            accepted.accepted(serial);
            let address = WORLD.host("laptop").address();
            assert!(accepted.told(&format!("origin is {address}, by the record of pid ")), "{accepted:?}");
        }
        shell.exit().unwrap();
    }
}

#[test]
fn a_certificate_bound_to_the_address_of_the_connection_is_good_through_its_forwarded_agent() {
    let _watch = WORLD.lab().watch();
    honours_the_address_of_the_connection("web1");
}

#[test]
fn pam_ussh_check_says_to_a_user_that_only_root_may_read_where_he_comes_from() {
    let _watch = WORLD.lab().watch();
    let agent = somebody("web1");
    let user = agent.user();
    let serial = add_bound(&agent, &laptop());
    let shell = agent.shell("ssh -A web1").unwrap();
    in_shell(&shell, "web1", user, "sudo id -u").accepted(serial);
    let said = shell.run(&format!("pam-ussh-check --user {user}; echo status $?")).unwrap();
    let options = LINE.split_once(".so ").unwrap().1;
    assert!(said.contains(&format!("judged by {options} (from /etc/pam.d/sudo:")), "{said}");
    assert!(said.contains("source-address not checked: only root may read where this connection comes from"), "{said}");
    let line = format!("sudo for {user}: not decided: only root may read {SPOOL}; sudo may well accept");
    assert!(said.contains(&line) && said.contains("status 3"), "{said}");
    assert!(!said.contains("the user reads"), "{said}");

    // What else refuses it can be seen without: here a list that revokes the CA.
    let revoked = "ca_file=/etc/ssh/trusted_user_ca revoked_keys=/etc/ssh/trusted_user_ca";
    let said = shell.run(&format!("pam-ussh-check --user {user} {revoked}; echo status $?")).unwrap();
    assert!(said.contains("): certificate is revoked") && said.contains("status 1"), "{said}");
    assert!(!said.contains("may well accept"), "{said}");
    shell.exit().unwrap();
}

#[test]
fn openssh_10_does_as_well() {
    let _watch = WORLD.lab().watch();
    let version = WORLD.host("web13").run(["ssh", "-V"]).unwrap().stderr;
    assert!(version.starts_with("OpenSSH_10."), "{version}");
    honours_the_address_of_the_connection("web13");
}

#[test]
fn a_certificate_bound_to_another_address_is_refused() {
    let _watch = WORLD.lab().watch();
    for server in ["web1", "web13"] {
        let agent = somebody(server);
        let user = agent.user();
        let neighbour = WORLD.host(server).address();
        let serial = add_bound(&agent, &format!("192.0.2.7,{neighbour}/32"));
        let shell = agent.shell(&format!("{WAY_IN} {server}")).unwrap();
        let origin = format!("origin is {}, by the record", WORLD.host("laptop").address());
        in_shell(&shell, server, user, "sudo id -u").refused(serial, &origin);
        shell.exit().unwrap();
    }
}

/// Puts a bound certificate with its key on a server as `~/NAME`, as a thief would who has it from the laptop.
fn steal(agent: &PersonAgent<'_>, server: &str, name: &str) -> u64 {
    let user = agent.user();
    let forged = WORLD.forge(&Forgery::of(user).option(&format!("source-address={}", laptop()))).unwrap();
    forged.write(&WORLD, user, name).unwrap();
    for file in [name.to_owned(), format!("{name}-cert.pub")] {
        let path = format!("/home/{user}/{file}");
        let bytes = WORLD.host("laptop").read_bytes(&path).unwrap();
        WORLD.host(server).write_file_as(user, &path, 0o600, bytes).unwrap();
    }
    forged.serial
}

#[test]
fn the_same_certificate_in_an_agent_of_the_server_is_refused() {
    let _watch = WORLD.lab().watch();
    let agent = somebody("web1");
    let user = agent.user();
    let serial = steal(&agent, "web1", "stolen");
    let shell = agent.shell(&format!("{WAY_IN} web1")).unwrap();
    let local = "export FORWARDED=$SSH_AUTH_SOCK; eval $(ssh-agent) > /dev/null; ssh-add -q ~/stolen; ssh-add -l";
    assert!(shell.run(local).unwrap().contains("ED25519-CERT"));
    let refused = in_shell(&shell, "web1", user, "sudo id -u");
    // ssh-agent leaves its socket to a child and ends: the number of who listened is nobody's, or anybody's later.
    refused.refused(serial, "no origin: the agent's process is not to be seen here");

    // Nor does it help to answer at the place of sshd's socket.
    shell.run("mv $FORWARDED $FORWARDED.sshds; ln -s $SSH_AUTH_SOCK $FORWARDED").unwrap();
    let refused = in_shell(&shell, "web1", user, "SSH_AUTH_SOCK=$FORWARDED sudo id -u");
    refused.refused(serial, "no origin: the agent's process is not to be seen here");
    shell.run("kill $SSH_AGENT_PID").unwrap();
    shell.exit().unwrap();
}

/// Logs in to web2 until sshd's process gets this number: what a patient user brings about by starting programs, root brings about by asking the kernel.
fn shell_served_by(pid: u32, agent: &PersonAgent<'_>) -> Shell {
    for _ in 0..10 {
        // Of a login's processes the monitor is the first; the one that serves the session is forked some numbers later.
        for ahead in [3, 2, 4] {
            // What may be written to is mounted for this one only.
            let ask = format!("mount -t proc proc /mnt; echo {} > /mnt/sys/kernel/ns_last_pid", pid - ahead);
            WORLD.host("web2").run(["unshare", "-m", "bash", "-ec", &ask]).unwrap().ok().unwrap();
            let shell = agent.shell(&format!("{WAY_IN} web2")).unwrap();
            if shell.run("echo $PPID").unwrap().trim() == pid.to_string() {
                return shell;
            }
            shell.exit().unwrap();
        }
    }
    panic!("no sshd got the number {pid}");
}

#[test]
fn an_agent_whose_number_sshd_got_later_has_no_origin() {
    let _watch = WORLD.lab().watch();
    let agent = somebody("web2");
    let user = agent.user();
    let serial = steal(&agent, "web2", "stolen");
    let first = agent.shell(&format!("{WAY_IN} web2")).unwrap();
    // The process that listens leaves its socket to a child, and ends.
    let start = "sh -c 'echo $$ > ~/number; exec ssh-agent -a ~/local' > /dev/null; SSH_AUTH_SOCK=~/local ssh-add -q ~/stolen; cat ~/number";
    let number: u32 = first.run(start).unwrap().trim().parse().unwrap();
    assert!(!WORLD.host("web2").run(["test", "-e", &format!("/proc/{number}")]).unwrap().success());
    first.exit().unwrap();

    let shell = shell_served_by(number, &agent);
    let refused = in_shell(&shell, "web2", user, "SSH_AUTH_SOCK=~/local sudo id -u");
    refused.refused(serial, &format!("no origin: pid {number} is sshd's, but does not hold the agent's socket"));
    shell.run("pkill -u $(id -u) ssh-agent").unwrap();
    shell.exit().unwrap();
}

#[test]
fn a_relay_of_the_users_own_at_the_place_of_sshds_socket_has_no_origin() {
    let _watch = WORLD.lab().watch();
    let agent = somebody("web1");
    let user = agent.user();
    let serial = add_bound(&agent, &laptop());
    let shell = agent.shell("ssh -A web1").unwrap();
    in_shell(&shell, "web1", user, "sudo id -u").accepted(serial);
    let socket = shell.run("echo $SSH_AUTH_SOCK").unwrap().trim().to_owned();
    shell.run("mv $SSH_AUTH_SOCK $SSH_AUTH_SOCK.sshds").unwrap();
    let relay = WORLD.relay("web1", user, &socket, &format!("{socket}.sshds")).unwrap();
    // The very agent answers, but what stands in between could as well have answered itself.
    in_shell(&shell, "web1", user, "sudo id -u").refused(serial, " serves no recorded connection");
    assert_eq!(relay.seen().unwrap(), (1, 1));
    // Under its other name sshd's socket is still sshd's.
    in_shell(&shell, "web1", user, "SSH_AUTH_SOCK=$SSH_AUTH_SOCK.sshds sudo id -u").accepted(serial);
    shell.exit().unwrap();
}

#[test]
fn without_a_record_or_with_one_of_a_host_name_there_is_no_origin() {
    let _watch = WORLD.lab().watch();
    let agent = somebody("web1");
    let user = agent.user();
    let serial = add_bound(&agent, &laptop());
    let shell = agent.shell("ssh -A web1").unwrap();
    in_shell(&shell, "web1", user, "sudo id -u").accepted(serial);
    let web1 = WORLD.host("web1");
    let file = records("web1", user).pop().unwrap();
    let good = web1.read_file(&file).unwrap();
    let put = |change: &dyn Fn(&mut Value)| {
        let mut record: Value = serde_json::from_str(&good).unwrap();
        change(&mut record);
        web1.write_file(&file, 0o600, record.to_string()).unwrap();
    };
    put(&|record| record["rhost"] = "laptop".into());
    in_shell(&shell, "web1", user, "sudo id -u").refused(serial, "no origin: the record has no address");
    put(&|record| record["uid"] = 1.into());
    in_shell(&shell, "web1", user, "sudo id -u").refused(serial, "no origin: the connection is of uid 1");
    put(&|record| record["boot_id"] = "another".into());
    in_shell(&shell, "web1", user, "sudo id -u").refused(serial, " serves no recorded connection");
    web1.remove_file(&file).unwrap();
    in_shell(&shell, "web1", user, "sudo id -u").refused(serial, " serves no recorded connection");
    web1.write_file(&file, 0o600, &good).unwrap();
    in_shell(&shell, "web1", user, "sudo id -u").accepted(serial);
    shell.exit().unwrap();
}

#[test]
fn an_agent_that_was_searched_for_has_the_origin_of_its_connection() {
    let _watch = WORLD.lab().watch();
    let agent = somebody("web1");
    let user = agent.user();
    let serial = add_bound(&agent, &laptop());
    let first = agent.shell("ssh -A web1").unwrap();
    let left = Leftover::of(&first, &WORLD, "web1", user).unwrap();
    first.exit().unwrap();
    wait_until(SOON, "the record to go", || records("web1", user).is_empty()).unwrap();
    let shell = agent.shell("ssh -A web1").unwrap();
    let found = attempt("web1", user, || left.run("sudo id -u").unwrap().1);
    found.accepted(serial);
    assert!(found.told("searching 1 live sessions") && found.told("origin is "), "{found:?}");
    shell.exit().unwrap();
}

#[test]
fn a_certificate_without_source_address_needs_no_origin_and_is_not_asked_for_one() {
    let _watch = WORLD.lab().watch();
    let agent = somebody("web1");
    let user = agent.user();
    let forged = WORLD.forge(&Forgery::of(user)).unwrap();
    forged.add_to(&agent).unwrap();
    let shell = agent.shell(&format!("{WAY_IN} web1")).unwrap();
    let accepted = in_shell(&shell, "web1", user, "sudo id -u");
    accepted.accepted(forged.serial);
    assert!(!accepted.told("origin"), "{accepted:?}");
    shell.exit().unwrap();
}
