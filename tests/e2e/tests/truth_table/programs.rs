//! Everybody who asks `auth`: sudo, su, doas and sudo-rs. What each makes of our answers, who is judged, and what its user reads.

use ussh_e2e::{Forgery, PersonAgent};

use crate::rows::{AUTH_ERR, SERVICE_ERR, UNAVAILABLE};
use crate::{Attempt, Seat, WORLD, Wrong};

/// One of them.
struct Program {
    server: &'static str,
    command: &'static str,
    /// As PAM gets it: also the name of the file in /etc/pam.d.
    service: &'static str,
    /// PAM_USER.
    judged: &'static str,
    /// What PAM_TTY is before `pts/…`.
    tty: &'static str,
    /// Whether it asks with PAM_SILENT.
    is_silent: bool,
    /// What it makes of one sentence of ours.
    quotes: fn(sentence: &str) -> String,
    /// What it says itself of a code.
    says: fn(code: &str) -> String,
}

const PROGRAMS: [Program; 9] = [
    sudo("web3", "sudo id -u", "sudo"),
    sudo("web3", "sudo -i id -u", "sudo-i"),
    su("web3", "su root -c 'id -u'", "su"),
    su("web3", "su -l root -c 'id -u'", "su-l"),
    Program {
        server: "web3",
        command: "doas id -u",
        service: "doas",
        judged: "alice",
        tty: "",
        is_silent: false,
        quotes: |sentence| format!("{sentence}\n"),
        says: |_| "doas: Authentication failed\n".to_owned(),
    },
    sudo("web13", "sudo id -u", "sudo"),
    sudo_rs("sudo-rs id -u", true),
    // sudo-rs 0.2.5 has no service of its own for a login shell.
    sudo_rs("sudo-rs -i id -u", false),
    su("web13", "su root -c 'id -u'", "su"),
];

const fn sudo(server: &'static str, command: &'static str, service: &'static str) -> Program {
    Program {
        server,
        command,
        service,
        judged: "alice",
        tty: "/dev/",
        is_silent: true,
        quotes: |sentence| format!("{sentence}\n"),
        says: |code| match code {
            SERVICE_ERR => format!("sudo: PAM authentication error: {code}\nsudo: a password is required\n"),
            _ => "sudo: 1 incorrect password attempt\n".to_owned(),
        },
    }
}

const fn sudo_rs(command: &'static str, is_silent: bool) -> Program {
    Program {
        is_silent,
        quotes: |sentence| format!("[sudo error] {sentence}\n"),
        says: |code| match code {
            AUTH_ERR => "sudo-rs: Maximum 1 incorrect authentication attempts\n".to_owned(),
            _ => format!("sudo-rs: PAM error: {code}\n"),
        },
        ..sudo("web13", command, "sudo")
    }
}

const fn su(server: &'static str, command: &'static str, service: &'static str) -> Program {
    Program { judged: "root", is_silent: false, says: |code| format!("su: {code}\n"), ..sudo(server, command, service) }
}

const NOT_GOOD: &str = "No certificate that is good for this: see \"ssh-add -l\", get a new one with \"ussh --login\" on your own machine, or log in again with \"ssh -A\".";
const NO_AGENT: &str = "There is no SSH agent in this session: log in again with \"ssh -A\", or with \"ussh\" if a [[host]] in ussh.toml names this host.";
const AGENT_SILENT: &str =
    "Your SSH agent does not answer: see \"ssh-add -l\", or log in again with \"ussh\" or \"ssh -A\".";
const NOT_SET_UP: &str = "pam_ussh is not set up rightly on this host: please tell its administrator.";

/// What the agent holds, which agent it is, and which line asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Good,
    Emptied,
    AnothersAgent,
    Expired,
    AgentOff,
    Revoked,
    ForceCommand,
    Misconfigured,
    Panic,
}

const CASES: [Case; 9] = [
    Case::Good,
    Case::Emptied,
    Case::AnothersAgent,
    Case::Expired,
    Case::AgentOff,
    Case::Revoked,
    Case::ForceCommand,
    Case::Misconfigured,
    Case::Panic,
];

impl Case {
    /// The one certificate that alice's agent holds.
    fn certificate(self) -> Option<Forgery> {
        let good = Forgery::of("alice").principals(&["alice", "root"]);
        match self {
            Case::Emptied => None,
            Case::Expired => Some(good.validity("-2h:-1h")),
            Case::ForceCommand => Some(good.option("force-command=/bin/true")),
            Case::Good | Case::AnothersAgent | Case::AgentOff | Case::Revoked | Case::Misconfigured | Case::Panic => {
                Some(good)
            }
        }
    }

    fn line(self) -> &'static str {
        match self {
            Case::Misconfigured => "pam_ussh.so revoked_keys=/etc/ssh/own-krl grup=admins",
            Case::Panic => "pam_ussh_panics.so revoked_keys=/etc/ssh/own-krl inject_panic=auth",
            Case::Good
            | Case::Emptied
            | Case::AnothersAgent
            | Case::Expired
            | Case::AgentOff
            | Case::Revoked
            | Case::ForceCommand => "pam_ussh.so revoked_keys=/etc/ssh/own-krl",
        }
    }

    /// libpam's code, our sentence, and a part of the reason in the log. `None`: lets through.
    fn refusal(self) -> Option<(&'static str, &'static str, &'static str)> {
        match self {
            Case::Good => None,
            Case::Emptied => Some((AUTH_ERR, NOT_GOOD, "no certificate")),
            Case::AnothersAgent => Some((UNAVAILABLE, AGENT_SILENT, ": the agent belongs to uid ")),
            Case::Expired => Some((AUTH_ERR, NOT_GOOD, "certificate has expired (at ")),
            Case::AgentOff => Some((UNAVAILABLE, NO_AGENT, "no SSH_AUTH_SOCK")),
            Case::Revoked => Some((AUTH_ERR, NOT_GOOD, "certificate is revoked")),
            Case::ForceCommand => Some((AUTH_ERR, NOT_GOOD, "force-command cannot be honoured here")),
            Case::Misconfigured => Some((SERVICE_ERR, NOT_SET_UP, "misconfigured: unknown option grup")),
            // After a panic nothing more is tried with the handle than the code.
            Case::Panic => Some((UNAVAILABLE, "", "")),
        }
    }
}

/// alice's shell on a server, and the socket of bob's agent there: it would do, and he lets everybody at it.
struct Desk {
    seat: Seat,
    anothers_socket: String,
    _anothers: Seat,
}

impl Desk {
    fn on(server: &'static str, alice: &PersonAgent<'_>, bob: &PersonAgent<'_>) -> Self {
        let (seat, anothers) = (Seat::on(server, alice), Seat::on(server, bob));
        anothers.run("chmod 755 $(dirname $SSH_AUTH_SOCK); chmod 666 $SSH_AUTH_SOCK");
        let anothers_socket = anothers.run("echo $SSH_AUTH_SOCK").shown.trim().to_owned();
        assert!(anothers_socket.starts_with("/tmp/"), "{anothers_socket}");
        Desk { seat, anothers_socket, _anothers: anothers }
    }

    fn run(&self, program: &Program, case: Case) -> Attempt {
        self.write_pam(&format!("auth required {}\n", case.line()));
        let environment = match case {
            Case::AnothersAgent => format!("SSH_AUTH_SOCK={} ", self.anothers_socket),
            Case::AgentOff => "SSH_AUTH_SOCK= ".to_owned(),
            Case::Good
            | Case::Emptied
            | Case::Expired
            | Case::Revoked
            | Case::ForceCommand
            | Case::Misconfigured
            | Case::Panic => String::new(),
        };
        self.seat.run(&format!("{environment}{}", program.command))
    }

    /// For everybody; `su-l` is Debian's own file, which includes `su`.
    fn write_pam(&self, auth: &str) {
        for service in ["sudo", "sudo-i", "su", "doas"] {
            let rest = "account required pam_permit.so\nsession required pam_permit.so\n";
            self.seat.write_pam(service, &format!("{auth}{rest}"));
        }
    }
}

/// What is wrong with the log.
fn wrong_in_log(program: &Program, case: Case, serial: Option<u64>, attempt: &Attempt) -> Option<String> {
    let Program { service, judged, tty, .. } = program;
    let [line] = attempt.log.as_slice() else { return Some("not one line in the log".to_owned()) };
    if case == Case::Panic {
        let fits = line.starts_with("internal error at ") && line.ends_with(": refusing");
        return (!fits).then(|| "the log does not tell of a panic".to_owned());
    }
    let asked = format!(" via {service} ruser alice tty {tty}pts/");
    let Some((before, rest)) = line.split_once(&asked) else { return Some(format!("the log lacks {asked:?}")) };
    let by = serial.map_or_else(String::new, |serial| format!(" (serial {serial}) "));
    let names_certificate = matches!(case, Case::Good | Case::Expired | Case::Revoked | Case::ForceCommand);
    let fits = match case.refusal() {
        None => before.starts_with("Accepted certificate ID \"alice\"") && !rest.contains(": "),
        Some((_, _, reason)) => {
            before.starts_with("Refusing") && rest.split_once(": ").is_some_and(|(_, why)| why.contains(reason))
        }
    };
    // Before the line is understood nobody is looked at.
    let names_user = before.ends_with(&format!(" for {judged}")) || case == Case::Misconfigured;
    (!fits || !names_user || (names_certificate && !before.contains(&by))).then(|| "the log says something else".into())
}

#[test]
fn every_program_lets_through_with_a_certificate_alone_and_shows_what_to_try_otherwise() {
    let _watch = WORLD.lab().watch();
    let (alice, bob) = (WORLD.new_agent("alice").unwrap(), WORLD.new_agent("bob").unwrap());
    WORLD.forge(&Forgery::of("alice").principals(&["alice", "root"])).unwrap().add_to(&bob).unwrap();
    let desks = set_up(&alice, &bob);
    let mut wrong = Wrong::default();
    for case in CASES {
        alice.sh("ssh-add -q -D").unwrap().ok().unwrap();
        let certificate = case.certificate().map(|forgery| WORLD.forge(&forgery).unwrap());
        if let Some(certificate) = &certificate {
            certificate.add_to(&alice).unwrap();
        }
        let serial = certificate.map(|certificate| certificate.serial);
        revoke(serial.filter(|_| case == Case::Revoked));
        for program in &PROGRAMS {
            let desk = desks.iter().find(|desk| desk.seat.server == program.server).unwrap();
            let attempt = desk.run(program, case);
            let expected = match case.refusal() {
                None => "0\n".to_owned(),
                Some((code, "", _)) => (program.says)(code),
                Some((code, sentence, _)) => (program.quotes)(sentence) + &(program.says)(code),
            };
            let place = format!("{} on {} {case:?}", program.command, program.server);
            if attempt.is_through() != (case == Case::Good) {
                wrong.note(&place, "LET THROUGH, or not let through", &attempt);
            }
            if attempt.shown != expected {
                wrong.note(&place, &format!("does not show {expected:?}"), &attempt);
            }
            if let Some(what) = wrong_in_log(program, case, serial, &attempt) {
                wrong.note(&place, &what, &attempt);
            }
        }
    }
    asks_in_silence_or_not(&desks, &mut wrong);
    doas_asks_account_where_it_skips_auth(&alice, &desks[0], &mut wrong);
    wrong.none();
}

fn set_up(alice: &PersonAgent<'_>, bob: &PersonAgent<'_>) -> [Desk; 2] {
    let (web3, web13) = (WORLD.host("web3"), WORLD.host("web13"));
    web3.write_file("/etc/doas.conf", 0o400, DOAS).unwrap();
    // sudo-rs does not know the other settings, and says so each time.
    let sudoers = "Defaults timestamp_timeout=0, passwd_tries=1\n%admins ALL=(ALL) ALL\n";
    web13.write_file("/etc/sudoers.d/ussh", 0o440, sudoers).unwrap();
    [Desk::on("web3", alice, bob), Desk::on("web13", alice, bob)]
}

/// A list of this test's own with this serial, or with one that nobody has.
fn revoke(serial: Option<u64>) {
    let ca = WORLD.host("ca");
    ca.write_file("/srv/spec", 0o644, format!("serial: {}\n", serial.unwrap_or(1))).unwrap();
    ca.script("ssh-keygen -q -k -f /srv/own-krl -s /var/lib/ca/public/user_ca.pub /srv/spec").unwrap();
    let list = ca.read_bytes("/srv/own-krl").unwrap();
    for server in ["web3", "web13"] {
        WORLD.host(server).write_file("/etc/ssh/own-krl", 0o644, &list).unwrap();
    }
}

/// pam_echo heeds PAM_SILENT. We do so too, but in sudo.
fn asks_in_silence_or_not(desks: &[Desk], wrong: &mut Wrong) {
    for desk in desks {
        WORLD.host(desk.seat.server).write_file("/etc/echo", 0o644, "heard\n").unwrap();
        desk.write_pam("auth optional pam_echo.so file=/etc/echo\nauth required pam_deny.so\n");
        for program in PROGRAMS.iter().filter(|program| program.server == desk.seat.server) {
            let attempt = desk.seat.run(program.command);
            if attempt.is_through() || attempt.shown.contains("heard") == program.is_silent {
                wrong.note(program.command, "is silent, or is not", &attempt);
            }
        }
    }
}

/// Who logged a line.
const AUTH: &str = " via doas ruser ";
const ACCOUNT: &str = " via doas (account) ruser ";

/// `auth` may be skipped for two commands: for one always, for the other while it was asked not long ago.
const DOAS: &str =
    "permit :admins\npermit nopass :admins as root cmd whoami\npermit persist :admins as root cmd true\n";

fn doas_asks_account_where_it_skips_auth(alice: &PersonAgent<'_>, desk: &Desk, wrong: &mut Wrong) {
    let lines = "auth required pam_ussh.so\naccount required pam_ussh.so\nsession required pam_permit.so\n";
    desk.seat.write_pam("doas", lines);
    let refused = format!("{NOT_GOOD}\ndoas: Authentication failed\n");
    for (holds_good, command, shown, phases) in [
        (true, "doas true", "", &[AUTH, ACCOUNT][..]),
        (true, "doas true", "", &[ACCOUNT]),
        (true, "doas whoami", "root\n", &[ACCOUNT]),
        (true, "doas -n whoami", "root\n", &[ACCOUNT]),
        (false, "doas true", &refused, &[ACCOUNT]),
        (false, "doas -n true", &refused, &[ACCOUNT]),
        (false, "doas whoami", &refused, &[ACCOUNT]),
        (false, "doas -n whoami", &refused, &[ACCOUNT]),
    ] {
        alice.sh("ssh-add -q -D").unwrap().ok().unwrap();
        if holds_good {
            WORLD.forge(&Forgery::of("alice")).unwrap().add_to(alice).unwrap();
        }
        let attempt = desk.seat.run(command);
        let decision = if holds_good { "Accepted certificate " } else { "Refusing " };
        let logged = attempt.log.len() == phases.len()
            && attempt.log.iter().zip(phases).all(|(line, phase)| line.starts_with(decision) && line.contains(phase));
        if (attempt.code == 0) != holds_good || attempt.shown != *shown || !logged {
            wrong.note(command, &format!("is not {decision}{phases:?}"), &attempt);
        }
    }
}
