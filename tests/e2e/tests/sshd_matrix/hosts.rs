//! The two servers. On each several sshd's worth of settings, told apart by the port: an even one asks for publickey alone, the next for our line behind it.

use std::fmt::Write as _;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use ussh_e2e::lab::{SSHD_CONFIG, trixie_root};
use ussh_e2e::{SPOOL, SSHD_WITH_CERTIFICATES, World, WorldPlan};

/// Debian 12's and Debian 13's.
pub const SERVERS: [&str; 2] = ["web12", "web13"];
/// With much to say, if it may: to the user, and to the log.
pub const AUTH: &str = "auth required pam_ussh.so max_validity=1d cue debug";
/// Likewise.
pub const SESSION: &str = "session requisite pam_ussh.so debug";
/// The same, and a record that cannot be written ends nothing.
pub const TOLERANT_SESSION: &str = "session requisite pam_ussh.so spool_failure=allow debug";

/// What pam_motd has to say.
pub const MOTD: &str = "the message of the day";

/// sftp inside of sshd, root may log in.
pub const PLAIN: u16 = 22;
/// `PermitRootLogin prohibit-password`.
pub const ROOT_PROHIBITED: u16 = 24;
/// `ForceCommand`.
pub const FORCED: u16 = 26;
/// sftp by a program of its own.
pub const WITH_PROGRAM: u16 = 28;

const PROGRAM: &str = "/usr/lib/openssh/sftp-server";
/// An sftp client that says SSH_FXP_INIT (draft-ietf-secsh-filexfer-02, section 4) to the command it is given, and prints what that answers, to the byte.
const HELLO: &str = r#"#!/bin/bash
answer=$(mktemp)
{ printf '\0\0\0\5\1\0\0\0\3'; until [ -s "$answer" ]; do sleep 0.02; done; } | "$@" > "$answer"
cat "$answer"
"#;

/// Nobody ends sessions here: ussh-hostd is stopped.
pub static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("sshd-matrix").without_servers().server("web12").people(24, "admins");
    let world = plan.server_on("web13", trixie_root().unwrap()).start().unwrap();
    for server in SERVERS {
        let host = world.host(server);
        host.stop_service("ussh-hostd").unwrap();
        host.stop_service("sshd").unwrap();
        let inside = [
            (PLAIN, ""),
            (ROOT_PROHIBITED, "PermitRootLogin prohibit-password"),
            (FORCED, "ForceCommand echo forced: $SSH_ORIGINAL_COMMAND"),
        ];
        host.start_sshd(&config(server, "internal-sftp", &inside)).unwrap();
        let outside = config(server, PROGRAM, &[(WITH_PROGRAM, "")]);
        host.start_sshd_as("sshd-program", "/etc/ssh/sshd_config_program", &outside).unwrap();
        // What the program answers to that, with nobody in between.
        host.write_file("/srv/hello", 0o755, HELLO).unwrap();
        let answer = host.run(["/srv/hello", PROGRAM]).unwrap().ok().unwrap().stdout_bytes;
        assert_eq!(answer.get(4), Some(&2), "SSH_FXP_VERSION: {answer:?}");
        world.host("laptop").write_file(&format!("/srv/answer-of-{server}"), 0o644, answer).unwrap();
    }
    world.host("laptop").write_file("/srv/hello", 0o755, HELLO).unwrap();
    world
});

fn config(server: &str, sftp: &str, ports: &[(u16, &str)]) -> String {
    let mut config = SSHD_CONFIG
        .replace("KbdInteractiveAuthentication no", "KbdInteractiveAuthentication yes")
        .replace("internal-sftp", sftp)
        + SSHD_WITH_CERTIFICATES
        + "PermitRootLogin yes\nPrintLastLog no\n";
    if server == "web13" {
        // Those who are refused here must not shut the door to the others from the same address.
        config += "PerSourcePenalties no\n";
    }
    for (port, _) in ports {
        writeln!(config, "Port {port}\nPort {}", port + 1).unwrap();
    }
    for (port, setting) in ports {
        for (port, methods) in [(*port, "publickey"), (port + 1, "publickey,keyboard-interactive:pam")] {
            writeln!(config, "Match LocalPort {port}\n{setting}\nAuthenticationMethods {methods}").unwrap();
        }
    }
    config
}

/// The right to change the servers' stacks: one test at a time has it.
pub struct Turn {
    _lock: MutexGuard<'static, ()>,
}

impl Turn {
    /// Waits for it; the servers have these lines then, and a spool that can be written to.
    pub fn of(auth: &str, session: &str) -> Self {
        static LOCK: Mutex<()> = Mutex::new(());
        let turn = Turn { _lock: LOCK.lock().unwrap_or_else(PoisonError::into_inner) };
        turn.write(auth, session);
        turn.each(|server| drop(WORLD.host(server).script(&format!("chmod 700 {SPOOL}")).unwrap()));
        turn
    }

    /// Other lines.
    pub fn write(&self, auth: &str, session: &str) {
        let rest = "account required pam_nologin.so\n@include common-account\n\
            session required pam_loginuid.so\n@include common-session\n\
            session required pam_env.so user_readenv=1 envfile=/etc/default/locale";
        let text = format!("{auth}\n{session}\n{rest}\n");
        self.each(|server| WORLD.host(server).write_file("/etc/pam.d/sshd", 0o644, &text).unwrap());
    }

    /// The stack as it is packaged, and a message of the day.
    pub fn as_packaged(&self) {
        self.each(|server| {
            let host = WORLD.host(server);
            host.write_file("/etc/pam.d/sshd", 0o644, include_str!("../../../../packaging/pam.d/sshd")).unwrap();
            host.write_file("/etc/motd", 0o644, format!("{MOTD}\n")).unwrap();
        });
    }

    /// No record can be written any more.
    pub fn spoil_spool(&self) {
        self.each(|server| drop(WORLD.host(server).script(&format!("chmod 777 {SPOOL}")).unwrap()));
    }

    fn each(&self, work: impl Fn(&str)) {
        SERVERS.iter().for_each(|server| work(server));
    }
}
