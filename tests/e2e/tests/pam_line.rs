//! The PAM line: what is on it, what it names and where it stands. A line that is not understood whole lets nobody through.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ussh_e2e::lab::Signal;
use ussh_e2e::{Forgery, PersonAgent, Shell, WAY_IN, World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);

/// A shell of alice's on web1, and an agent with one certificate that names alice and ops, from 300 s ago for 65 minutes. One test at a time changes sudo's PAM file.
struct Desk {
    shell: Shell,
    serial: u64,
    _agent: PersonAgent<'static>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let world = WorldPlan::new("pam-line").start().unwrap();
    world.make_way_in("alice", "web1").unwrap();
    world
});

static DESK: LazyLock<Mutex<Desk>> = LazyLock::new(|| {
    let agent = WORLD.new_agent("alice").unwrap();
    let forged = WORLD.forge(&Forgery::of("alice").principals(&["alice", "ops"])).unwrap();
    forged.add_to(&agent).unwrap();
    let shell = agent.shell(&format!("{WAY_IN} web1")).unwrap();
    Mutex::new(Desk { shell, serial: forged.serial, _agent: agent })
});

fn desk() -> MutexGuard<'static, Desk> {
    DESK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one sudo showed, and what pam_ussh logged of it.
#[derive(Debug)]
struct Attempt {
    shown: String,
    log: Vec<String>,
}

impl Desk {
    /// sudo with these lines in place of `auth required pam_ussh.so …`.
    fn sudo(&self, lines: &str) -> Attempt {
        WORLD.sudo_pam("web1", lines).unwrap();
        let before = WORLD.log_position("web1");
        let shown = self.shell.run("sudo id -u").unwrap();
        let log = WORLD.logged_since("web1", before).unwrap();
        // What `debug` adds is no decision.
        let ours = log.lines().filter(|line| line.contains("pam_ussh[") && !line.contains("]: debug: "));
        Attempt { shown, log: ours.map(str::to_owned).collect() }
    }

    /// `options` on an otherwise good line let alice become root.
    fn accepts(&self, options: &str) {
        self.accepts_stack(&format!("auth required pam_ussh.so {options}"));
    }

    fn accepts_stack(&self, lines: &str) {
        let mut attempt = self.sudo(lines);
        // What `debug` adds is no decision.
        attempt.log.retain(|line| !line.contains("]: debug: "));
        assert_eq!(attempt.shown, "0\n", "{lines}: {attempt:?}");
        assert_eq!(attempt.log.len(), 1, "{lines}: {attempt:?}");
        assert!(attempt.log[0].contains(&format!("(serial {}) ", self.serial)), "{lines}: {attempt:?}");
        assert!(attempt.log[0].contains("Accepted certificate"), "{lines}: {attempt:?}");
    }

    /// They do not, and the log says why.
    fn refuses(&self, options: &str, reason: &str) {
        self.refuses_stack(&format!("auth required pam_ussh.so {options}"), reason);
    }

    fn refuses_stack(&self, lines: &str, reason: &str) {
        let attempt = self.sudo(lines);
        assert!(attempt.shown.contains("sudo: ") && !is_root(&attempt.shown), "{lines}: {attempt:?}");
        assert!(!attempt.shown.contains(reason), "{lines}: {attempt:?}");
        assert_eq!(attempt.log.len(), 1, "{lines}: {attempt:?}");
        assert!(attempt.log[0].contains("Refusing "), "{lines}: {attempt:?}");
        assert!(attempt.log[0].ends_with(&format!(": {reason}")), "{lines}: wanted {reason:?}: {attempt:?}");
    }
}

/// What the log says of a file or folder on web1 that others can change.
fn bad_ownership(path: &str, commands: &str) -> String {
    let found = WORLD.host("web1").run(["stat", "-c", "uid %u, mode %04a", path]).unwrap().ok().unwrap().stdout;
    let wanted = format!("it must belong to root and be writable by nobody else; try {commands}");
    format!("{path}: bad ownership or modes ({}): {wanted}", found.trim())
}

fn is_root(shown: &str) -> bool {
    shown.lines().any(|line| line == "0")
}

#[test]
fn an_empty_line_has_good_defaults() {
    let _watch = WORLD.lab().watch();
    let desk = desk();
    desk.accepts("");
    desk.accepts("debug ca_file=/etc/ssh/trusted_user_ca revoked_keys=/etc/ssh/revoked_keys timeout=5s");
}

#[test]
fn refuses_lines_that_it_does_not_understand() {
    let _watch = WORLD.lab().watch();
    let desk = desk();
    for (options, reason) in [
        ("group=", "option group has no value: give it one, or leave it out"),
        ("group", "option group has no value: give it one, or leave it out"),
        ("revoked_keys=", "option revoked_keys has no value: give it one, or leave it out"),
        ("ca_file=", "option ca_file has no value: give it one, or leave it out"),
        ("authorized_principals=", "option authorized_principals has no value: give it one, or leave it out"),
        ("ca_fil=/etc/ssh/trusted_user_ca", "unknown option ca_fil"),
        ("revoked_key=/etc/ssh/revoked_keys", "unknown option revoked_key; write revoked_keys="),
        ("Debug", "unknown option Debug"),
        ("nullok", "unknown option nullok"),
        ("debug=yes", "option debug takes no value"),
        ("debug debug", "option debug is repeated: keep one of them"),
        ("group=admins group=admins", "option group is repeated: keep one of them"),
        ("ca_file=/etc/ssh/trusted_user_ca ca_file=/etc/ssh/other", "option ca_file is repeated: keep one of them"),
        (
            "require_user_principal=no",
            "require_user_principal=no needs authorized_principals= or authorized_principals_file=",
        ),
        (
            "authorized_principals=alice authorized_principals_file=/etc/ssh/principals",
            "authorized_principals and authorized_principals_file exclude each other: keep one of them",
        ),
        ("require_user_principal=perhaps authorized_principals=ops", "option require_user_principal must be yes or no"),
        (
            "authorized_principals=alice,",
            "option authorized_principals must be names with commas between them, none of them empty",
        ),
        ("ca_file=etc/ssh/trusted_user_ca", "option ca_file must be an absolute path"),
        ("revoked_keys=../revoked_keys", "option revoked_keys must be an absolute path"),
        (
            "authorized_principals_file=/etc/ssh/%h",
            "option authorized_principals_file must be an absolute path, with no %-sequences but %u, %U and %%",
        ),
        ("max_validity=0", "option max_validity must be seconds above 0, or a number with s, m, h or d behind it"),
        ("max_validity=1y", "option max_validity must be seconds above 0, or a number with s, m, h or d behind it"),
        ("timeout=10m", "option timeout must be at most 5m"),
    ] {
        desk.refuses(options, &format!("misconfigured: {}", reason));
    }
    desk.accepts("");
}

#[test]
fn the_usual_file_gives_what_the_line_leaves_open() {
    const FILE: &str = "/etc/ussh/pam_ussh.toml";
    let _watch = WORLD.lab().watch();
    let desk = desk();
    let web1 = WORLD.host("web1");
    let write = |mode, text: &str| web1.write_file(FILE, mode, text).unwrap();
    web1.script("install -d -m 755 /etc/ussh").unwrap();
    desk.accepts("");
    write(0o644, "[default]\nmax_validity_seconds = 60\n");
    desk.refuses("", "certificate is valid for 3900 s, longer than the 60 s allowed");
    write(0o644, "[default]\nmax_validity_seconds = 60\n[service.sudo]\nmax_validity_seconds = 61\n");
    desk.refuses("", "certificate is valid for 3900 s, longer than the 61 s allowed");
    desk.accepts("max_validity=2h");
    write(0o644, "[service.su]\ngrup = \"admins\"\n");
    desk.refuses("", &format!("misconfigured: {FILE} [service.su]: unknown option grup"));
    write(0o666, "");
    desk.refuses("", &format!("misconfigured: {}", bad_ownership(FILE, "chmod go-w")));
    web1.script(&format!("ln -sf nowhere {FILE}")).unwrap();
    desk.refuses("", &format!("misconfigured: {FILE}: No such file or directory (os error 2)"));
    web1.script(&format!("rm {FILE}")).unwrap();
    desk.accepts("");
    desk.refuses(&format!("config={FILE}"), &format!("misconfigured: {FILE}: No such file or directory (os error 2)"));
}

#[test]
fn refuses_ca_files_that_are_not_roots_alone() {
    let _watch = WORLD.lab().watch();
    let desk = desk();
    let make = "install -D -m 644 /etc/ssh/trusted_user_ca";
    WORLD
        .host("web1")
        .script(&format!(
            "cd /etc/ssh; {make} ca/good; {make} ca/everybodys; chmod 666 ca/everybodys; {make} ca/groups; chmod 664 ca/groups\n\
             {make} ca/alices; chown alice ca/alices; {make} open/ca; chmod 777 open; {make} /home/alice/ca; ln -s /home/alice/ca ca/link\n\
             ln -s /etc/ssh/ca/good ca/good-link; : > ca/empty; echo '# no key' > ca/comment; echo nonsense > ca/nonsense; mkdir ca/folder; mkfifo ca/fifo\n\
             ssh-keygen -q -t ed25519 -N '' -f ca/other; head -c 2000000 /dev/zero > ca/long"
        ))
        .unwrap();
    desk.accepts("ca_file=/etc/ssh/ca/good");
    desk.accepts("ca_file=/etc/ssh/ca/good-link");
    for (file, reason) in [
        ("/etc/ssh/ca/none", "/etc/ssh/ca/none: No such file or directory (os error 2)"),
        ("/etc/ssh/ca/everybodys", &bad_ownership("/etc/ssh/ca/everybodys", "chmod go-w")),
        ("/etc/ssh/ca/groups", &bad_ownership("/etc/ssh/ca/groups", "chmod go-w")),
        ("/etc/ssh/ca/alices", &bad_ownership("/etc/ssh/ca/alices", "chown root")),
        ("/etc/ssh/open/ca", &bad_ownership("/etc/ssh/open", "chmod go-w")),
        ("/etc/ssh/ca/link", &bad_ownership("/home/alice", "chown root")),
        ("/etc/ssh/ca/folder", "/etc/ssh/ca/folder: not a regular file"),
        ("/etc/ssh/ca/fifo", "/etc/ssh/ca/fifo: not a regular file"),
        ("/etc/ssh/ca/long", "/etc/ssh/ca/long: larger than 1048576 bytes"),
        ("/etc/ssh/ca/empty", "/etc/ssh/ca/empty holds no CA key"),
        ("/etc/ssh/ca/comment", "/etc/ssh/ca/comment holds no CA key"),
        (
            "/etc/ssh/ca/nonsense",
            "/etc/ssh/ca/nonsense holds no CA key: line 1 is none (write the key alone, `TYPE BASE64 COMMENT`), and reading stops there",
        ),
    ] {
        desk.refuses(&format!("ca_file={file}"), &format!("misconfigured: {reason}"));
    }
    let shown = WORLD.host("ca").script(&format!("ssh-keygen -lf {}/public/user_ca.pub", ussh_e2e::CA_DIR)).unwrap();
    let ca = shown.stdout.split(' ').nth(1).unwrap().to_owned();
    desk.refuses("ca_file=/etc/ssh/ca/other.pub", &format!("CA {ca} is not trusted"));
}

#[test]
fn refuses_revocation_lists_that_are_none() {
    let _watch = WORLD.lab().watch();
    let desk = desk();
    WORLD
        .host("web1")
        .script(
            "mkdir /etc/ssh/krl; cd /etc/ssh/krl; ssh-keygen -q -t ed25519 -N '' -f key; echo serial: 7 > list\n\
             ssh-keygen -q -k -f good -s /etc/ssh/trusted_user_ca list; ssh-keygen -Q -f good key.pub; : > empty; head -c 30 good > torn\n\
             echo nonsense > junk; cp good open; chmod 666 open; cp key.pub plain; cp /etc/ssh/trusted_user_ca ca",
        )
        .unwrap();
    desk.accepts("revoked_keys=/etc/ssh/krl/good");
    desk.accepts("revoked_keys=/etc/ssh/krl/plain");
    for (list, reason) in [
        ("none", "misconfigured: /etc/ssh/krl/none: No such file or directory (os error 2)"),
        ("empty", "misconfigured: /etc/ssh/krl/empty: the revocation list is empty"),
        ("open", &format!("misconfigured: {}", bad_ownership("/etc/ssh/krl/open", "chmod go-w"))),
        ("ca", "certificate is revoked"),
    ] {
        desk.refuses(&format!("revoked_keys=/etc/ssh/krl/{list}"), reason);
    }
    for list in ["torn", "junk"] {
        let attempt = desk.sudo(&format!("auth required pam_ussh.so revoked_keys=/etc/ssh/krl/{list}"));
        assert!(!is_root(&attempt.shown), "{attempt:?}");
        let reason = format!("misconfigured: /etc/ssh/krl/{list}: the revocation list is broken: ");
        assert!(attempt.log.len() == 1 && attempt.log[0].contains(&reason), "{attempt:?}");
    }
}

#[test]
fn group_lets_its_members_through_and_nobody_else() {
    let _watch = WORLD.lab().watch();
    let desk = desk();
    desk.accepts("group=admins");
    desk.accepts("group=alice");
    desk.refuses("group=contractors", "not in group contractors");
    desk.refuses("group=admin", "misconfigured: group=admin does not exist");
    desk.refuses("group=Admins", "misconfigured: group=Admins does not exist");
}

#[test]
fn lists_of_principals_add_to_the_users_name_or_stand_in_for_it() {
    let _watch = WORLD.lab().watch();
    let desk = desk();
    let not_named = |list: &str| format!("certificate does not name a demanded principal: one of {list}");
    desk.accepts("authorized_principals=alice");
    desk.accepts("authorized_principals=dba,ops");
    desk.refuses("authorized_principals=dba", &not_named("dba"));
    desk.refuses("authorized_principals=Ops", &not_named("Ops"));
    desk.accepts("authorized_principals=ops require_user_principal=no");
    desk.refuses("authorized_principals=dba require_user_principal=no", &not_named("dba"));
}

#[test]
fn a_file_of_principals_is_found_by_the_users_name() {
    let _watch = WORLD.lab().watch();
    let desk = desk();
    let web1 = WORLD.host("web1");
    let line = "authorized_principals_file=/etc/ssh/principals/%u";
    desk.refuses(line, "no authorized principals for this user: /etc/ssh/principals/alice is not there");
    web1.write_file("/etc/ssh/principals/alice", 0o644, "# who may\nops\n").unwrap();
    desk.accepts(line);
    let uid = web1.run(["id", "-u", "alice"]).unwrap().stdout.trim().to_owned();
    web1.write_file(&format!("/etc/ssh/principals/{uid}"), 0o644, "ops\n").unwrap();
    desk.accepts("authorized_principals_file=/etc/ssh/principals/%U require_user_principal=no");
    web1.write_file("/etc/ssh/principals/alice", 0o644, "dba\n").unwrap();
    let of_the_file = "certificate does not name a demanded principal: one of those in /etc/ssh/principals/alice";
    desk.refuses(line, of_the_file);
    web1.write_file("/etc/ssh/principals/alice", 0o644, "").unwrap();
    desk.refuses(line, &format!("{of_the_file}, which permits nobody"));
    web1.write_file("/etc/ssh/principals/alice", 0o666, "ops\n").unwrap();
    desk.refuses(line, &format!("misconfigured: {}", bad_ownership("/etc/ssh/principals/alice", "chmod go-w")));
}

#[test]
fn validity_and_age_have_their_limits() {
    let _watch = WORLD.lab().watch();
    let desk = desk();
    desk.accepts("max_validity=65m");
    desk.accepts("max_validity=1d max_age=1h");
    desk.refuses("max_validity=3899", "certificate is valid for 3900 s, longer than the 3899 s allowed");
    let attempt = desk.sudo("auth required pam_ussh.so max_age=299");
    assert!(!is_root(&attempt.shown), "{attempt:?}");
    let [line] = attempt.log.as_slice() else { panic!("{attempt:?}") };
    assert!(line.contains(": login was 3") && line.ends_with(" s ago, more than the 299 s allowed"), "{line}");
}

#[test]
fn another_socket_than_the_callers_is_asked_as_the_caller() {
    let _watch = WORLD.lab().watch();
    let desk = desk();
    let socket = desk.shell.run("echo $SSH_AUTH_SOCK").unwrap().trim().to_owned();
    desk.accepts(&format!("agent_socket={socket}"));
    desk.refuses("agent_socket=/run/none", "agent: /run/none: No such file or directory (os error 2)");
}

#[test]
fn sufficient_with_pam_deny_behind_it_works() {
    let _watch = WORLD.lab().watch();
    let desk = desk();
    let deny = "auth required pam_deny.so";
    desk.accepts_stack(&format!("auth sufficient pam_ussh.so\n{deny}"));
    desk.refuses_stack(&format!("auth sufficient pam_ussh.so group=contractors\n{deny}"), "not in group contractors");
    desk.refuses_stack(
        &format!("auth sufficient pam_ussh.so grup=admins\n{deny}"),
        "misconfigured: unknown option grup",
    );
    let jump = |options: &str| {
        format!(
            "auth [success=1 default=ignore] pam_ussh.so {options}\nauth requisite pam_deny.so\nauth required pam_permit.so"
        )
    };
    desk.accepts_stack(&jump(""));
    desk.refuses_stack(&jump("group=contractors"), "not in group contractors");
}

#[test]
fn no_failure_becomes_a_success_beside_pam_permit() {
    let _watch = WORLD.lab().watch();
    let desk = desk();
    for options in ["group=contractors", "grup=admins", "ca_file=/etc/ssh/none", "agent_socket=/run/none"] {
        let lines = format!("auth required pam_ussh.so {options}\nauth required pam_permit.so");
        let attempt = desk.sudo(&lines);
        assert!(!is_root(&attempt.shown) && attempt.log.len() == 1, "{lines}: {attempt:?}");
    }
}

#[test]
fn a_line_of_account_that_is_not_understood_lets_nobody_through_either() {
    let _watch = WORLD.lab().watch();
    let attempt = desk().sudo("auth required pam_ussh.so\naccount required pam_ussh.so grup=admins");
    assert!(!is_root(&attempt.shown), "{attempt:?}");
    let reason = "(account) ruser alice tty /dev/pts/0: misconfigured: unknown option grup";
    assert!(attempt.log.len() == 2 && attempt.log[1].ends_with(reason), "{attempt:?}");
}

#[test]
fn session_of_sudo_is_no_place_and_says_so_although_sudo_goes_on() {
    let _watch = WORLD.lab().watch();
    let attempt = desk().sudo("auth required pam_ussh.so\nsession required pam_ussh.so");
    let reason = "misconfigured: pam_ussh in session: its place is sshd's stack only; elsewhere it goes into auth";
    assert!(attempt.log.iter().any(|line| line.ends_with(reason)), "{attempt:?}");
    // sudo runs the command whatever open_session says: auth alone decides.
    let refused = desk().sudo("auth required pam_ussh.so group=contractors\nsession required pam_ussh.so");
    assert!(is_root(&attempt.shown) && !is_root(&refused.shown), "{attempt:?} {refused:?}");
}

#[test]
fn account_of_sshd_is_no_place_and_says_so() {
    let _watch = WORLD.lab().watch();
    let web2 = WORLD.host("web2");
    let agent = WORLD.new_agent("alice").unwrap();
    WORLD.forge(&Forgery::of("alice")).unwrap().add_to(&agent).unwrap();
    let ssh = "ssh -o BatchMode=yes web2 hostname";
    assert_eq!(agent.sh(ssh).unwrap().ok().unwrap().stdout, "web2\n");
    let pam = web2.read_file("/etc/pam.d/sshd").unwrap();
    let line = "account required pam_ussh.so\n@include common-account";
    web2.write_file("/etc/pam.d/sshd", 0o644, pam.replace("@include common-account", line)).unwrap();
    let before = WORLD.log_position("web2");
    let refused = agent.sh(ssh).unwrap();
    let log = WORLD.logged_since("web2", before).unwrap();
    web2.write_file("/etc/pam.d/sshd", 0o644, pam).unwrap();
    assert_eq!(refused.status.code(), 255, "{refused}");
    assert!(!refused.stdout.contains("web2"), "{refused}");
    let reason = "misconfigured: pam_ussh in account of sshd: the certificate cannot be seen there; its place is auth (behind publickey) and session";
    assert!(log.lines().any(|line| line.contains("pam_ussh[") && line.ends_with(reason)), "{log}");
    assert!(agent.sh(ssh).unwrap().success());
}

#[test]
fn login_is_no_place_and_says_so() {
    let _watch = WORLD.lab().watch();
    let web2 = WORLD.host("web2");
    let rest = "session required pam_unix.so\n";
    for (line, reason) in [
        (
            "auth required pam_ussh.so\naccount required pam_permit.so\n",
            "pam_ussh in login: a console has no agent, and the rescue door must stay open; its place is auth of sudo and su, auth and session of sshd",
        ),
        (
            "auth required pam_permit.so\naccount required pam_ussh.so\n",
            "pam_ussh in account of login: a console has no agent; its place is auth of sudo and su, auth and session of sshd",
        ),
    ] {
        web2.write_file("/etc/pam.d/login", 0o644, format!("{line}{rest}")).unwrap();
        let before = WORLD.log_position("web2");
        let console = web2.pty_as("root", ["login", "alice"]).unwrap();
        console.expect("pam_ussh is not set up rightly on this host: please tell its administrator.", SOON).unwrap();
        console.signal(Signal::SIGKILL).unwrap();
        let log = WORLD.logged_since("web2", before).unwrap();
        assert!(
            log.lines().any(|l| l.contains("pam_ussh[") && l.ends_with(&format!("misconfigured: {reason}"))),
            "{log}"
        );
        assert!(!log.contains("pam_unix(login:session): session opened"), "{log}");
    }
}
