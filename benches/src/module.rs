//! The module alone: one PAM authentication in a process that does nothing else, beside what no such module can do without, and beside its like.
//!
//! The runner and the floor are C (`benches/c`), built here and put on the scratch host; see there what they do.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ussh_e2e::lab::{Host, wait_until};

use crate::row::{Comparison, Fact, Goal};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The set-uid runner on the host.
const RUN: &str = "/usr/local/bin/pam_run";
/// The same for sshd's session hook.
const SESSION_RUN: &str = "/usr/local/bin/pam_session";
/// Where everything else lies, on the host.
const FOLDER: &str = "/srv/bench";
/// Debian's rival, from libpam-ssh-agent-auth.
const RIVAL: &str = "/lib/x86_64-linux-gnu/security/pam_ssh_agent_auth.so";
/// How often a peak of memory is read; the largest counts.
const PEAKS: usize = 5;
/// How long an agent may take to come up.
const SOON: Duration = Duration::from_secs(10);

/// Largest size of the module, bytes, without symbols.
const LARGEST: f64 = 1_500_000.0;
/// Most KiB above the floor's peak.
const MOST_MEMORY: f64 = 0.8 * 1024.0;

/// One comparison of two services, each with its agent.
#[derive(Clone, Copy, Debug)]
pub struct Match {
    /// What is said of it.
    pub comparison: Comparison,
    a: (&'static str, &'static str),
    b: (&'static str, &'static str),
}

/// In the order in which they are run.
pub const MATCHES: [Match; 11] = [
    Match {
        comparison: Comparison {
            title: "module, Ed25519",
            a: "one PAM authentication through pam_ussh, in a process of its own; ssh-agent, Ed25519 key and CA, added by ssh-add, so that the agent lists the plain key too and signs with it",
            b: "the same through the floor: a C module that connects, lists, has one signature made by the plain key, and checks nothing",
            goals: &[Goal::RatioAtMost(1.20), Goal::MillisecondsOverAtMost(0.5)],
        },
        a: ("bench-ussh", "ed25519"),
        b: ("bench-floor-plain", "ed25519"),
    },
    Match {
        comparison: Comparison {
            title: "module, Ed25519, certificate alone",
            a: "as above, with an agent that holds the certificate alone, as usshca puts it there: ssh-agent checks its CA's signature before it signs",
            b: "the floor, with that agent; the certificate signs",
            goals: &[Goal::RatioAtMost(1.20), Goal::MillisecondsOverAtMost(0.5)],
        },
        a: ("bench-ussh", "ed25519-cert"),
        b: ("bench-floor", "ed25519-cert"),
    },
    Match {
        comparison: Comparison {
            title: "module, agent in memory",
            a: "as above, with an agent that holds one Ed25519 key in memory and takes no time",
            b: "the floor, with that agent",
            goals: &[Goal::RatioAtMost(1.35), Goal::MillisecondsOverAtMost(0.5)],
        },
        a: ("bench-ussh", "memory"),
        b: ("bench-floor", "memory"),
    },
    Match {
        comparison: Comparison {
            title: "module, RSA-3072",
            a: "as above, ssh-agent, RSA-3072 key, RSA-4096 CA, added by ssh-add",
            b: "the floor, with that agent; the plain key signs",
            goals: &[Goal::RatioAtMost(1.20), Goal::MillisecondsOverAtMost(0.8)],
        },
        a: ("bench-ussh", "rsa"),
        b: ("bench-floor-plain", "rsa"),
    },
    Match {
        comparison: Comparison {
            title: "module, RSA-3072, certificate alone",
            a: "as above, the agent holds the certificate alone",
            b: "the floor, with that agent; the certificate signs",
            goals: &[Goal::RatioAtMost(1.20), Goal::MillisecondsOverAtMost(0.8)],
        },
        a: ("bench-ussh", "rsa-cert"),
        b: ("bench-floor", "rsa-cert"),
    },
    Match {
        comparison: Comparison {
            title: "module, 20 identities",
            a: "an ssh-agent with 20 certificates, of which the oldest is the good one; the others are expired, of another account or of another CA",
            b: "the one good certificate alone",
            goals: &[Goal::RatioAtMost(1.5)],
        },
        a: ("bench-ussh", "twenty"),
        b: ("bench-ussh", "one"),
    },
    Match {
        comparison: Comparison {
            title: "pam_ssh_agent_auth, Ed25519",
            a: "pam_ussh, ssh-agent, Ed25519, added by ssh-add",
            b: "Debian's pam_ssh_agent_auth with the plain key, the same agent",
            goals: &[Goal::Faster],
        },
        a: ("bench-ussh", "ed25519"),
        b: ("bench-rival", "ed25519"),
    },
    Match {
        comparison: Comparison {
            title: "pam_ssh_agent_auth, RSA-3072",
            a: "pam_ussh, ssh-agent, RSA-3072, RSA-4096 CA, added by ssh-add",
            b: "pam_ssh_agent_auth with the plain key, the same agent",
            goals: &[Goal::Faster],
        },
        a: ("bench-ussh", "rsa"),
        b: ("bench-rival", "rsa"),
    },
    Match {
        comparison: Comparison {
            title: "pam_ssh_agent_auth, certificate alone",
            a: "pam_ussh, ssh-agent with the Ed25519 certificate alone, whose CA's signature it checks",
            b: "pam_ssh_agent_auth with the plain key, in an agent that lists it: it takes no certificate",
            goals: &[],
        },
        a: ("bench-ussh", "ed25519-cert"),
        b: ("bench-rival", "ed25519"),
    },
    Match {
        comparison: Comparison {
            title: "pam_permit, Ed25519",
            a: "pam_ussh, ssh-agent, Ed25519, added by ssh-add",
            b: "pam_permit, which asks nobody",
            goals: &[],
        },
        a: ("bench-ussh", "ed25519"),
        b: ("bench-permit", "ed25519"),
    },
    Match {
        comparison: Comparison {
            title: "pam_permit, agent in memory",
            a: "pam_ussh, the agent in memory",
            b: "pam_permit",
            goals: &[],
        },
        a: ("bench-ussh", "memory"),
        b: ("bench-permit", "memory"),
    },
];

/// What a login pays for the session hook.
pub const SESSION: Comparison = Comparison {
    title: "session hook of a login",
    a: "one PAM session of sshd's, opened and closed, through `session required pam_ussh.so`, in a process of its own; ussh-hostd takes each record up",
    b: "the same through `session required pam_permit.so`",
    goals: &[Goal::MillisecondsOverAtMost(1.0)],
};

/// Its two command lines.
pub fn session_commands(user: &str) -> (String, String) {
    let command = |module: &str| format!("{SESSION_RUN} {} {user} {FOLDER}/login", session_folder(module));
    (command("pam_ussh"), command("pam_permit"))
}

fn session_folder(module: &str) -> String {
    format!("{FOLDER}/session-{module}")
}

impl Match {
    /// The two command lines.
    pub fn commands(&self, user: &str) -> (String, String) {
        let command = |(service, agent): (&str, &str)| format!("{RUN} {service} {user} {}", socket(agent));
        (command(self.a), command(self.b))
    }
}

/// Makes keys, agents and services on the host. `timer`: where this very program lies there; `login`: a certificate of the CA that the host trusts, one line, by which the session hook's
/// logins are made: ussh-hostd ends those of any other.
///
/// # Errors
/// What could not be made.
pub fn set_up(host: &Host, user: &str, timer: &str, login: &[u8]) -> Result<()> {
    if !Path::new(RIVAL).exists() {
        return Err("the package libpam-ssh-agent-auth is missing: run `make bench`".into());
    }
    install(host)?;
    leave_the_log_for_later(std::process::id())?;
    host.script(&keys(user))?;
    for (agent, keys, then) in [
        ("ed25519", "ed25519", ""),
        ("ed25519-cert", "ed25519", "ssh-add -q -k -d ed25519"),
        ("rsa", "rsa", ""),
        ("rsa-cert", "rsa", "ssh-add -q -k -d rsa"),
        ("one", "old", ""),
        ("twenty", "old odd*[0-9]", ""),
    ] {
        start_agent(host, user, agent, ["ssh-agent", "-D", "-a", &socket(agent)])?;
        let add = format!("cd {FOLDER} && for key in {keys}; do ssh-add -q $key; done; {then}");
        host.command(["sh", "-c", &add]).user(user).env("SSH_AUTH_SOCK", &socket(agent)).run()?.ok()?;
    }
    let key = format!("{FOLDER}/ed25519");
    start_agent(host, user, "memory", [timer, "memory-agent", &socket("memory"), &key])?;
    for one in MATCHES {
        let (a, b) = one.commands(user);
        for command in [a, b] {
            host.run_as(user, command.split(' '))?.ok()?;
            must_ask(host, user, &command)?;
        }
    }
    // As sshd tells it: the method, and type and blob of the key.
    let key = String::from_utf8_lossy(login).split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    host.write_file(&format!("{FOLDER}/login"), 0o644, format!("publickey {key}"))?;
    let (ours, permit) = session_commands(user);
    host.run_as(user, format!("{ours} check").split(' '))?.ok()?;
    host.run_as(user, permit.split(' '))?.ok()?;
    Ok(())
}

/// Peak memory and size.
///
/// # Errors
/// What could not be measured.
pub fn facts(host: &Host, user: &str) -> Result<Vec<Fact>> {
    let peak = |service: &str| -> Result<f64> {
        let line = format!("{RUN} {service} {user} {} rss", socket("ed25519"));
        let mut largest = 0.0_f64;
        for _ in 0..PEAKS {
            largest = largest.max(host.run_as(user, line.split(' '))?.ok()?.stdout.trim().parse()?);
        }
        Ok(largest)
    };
    let (ours, floor, permit, rival) =
        (peak("bench-ussh")?, peak("bench-floor")?, peak("bench-permit")?, peak("bench-rival")?);
    let module = std::fs::metadata(ussh_e2e::build_folder().join("libpam_ussh.so"))?.len();
    let size = u32::try_from(module).map_or(f64::INFINITY, f64::from);
    Ok(vec![
        Fact {
            title: "peak memory above the floor's",
            value: ours - floor,
            unit: "KiB",
            at_most: Some(MOST_MEMORY),
            at_least: None,
        },
        Fact { title: "peak memory, pam_ussh", value: ours, unit: "KiB", at_most: None, at_least: None },
        Fact { title: "peak memory, the floor", value: floor, unit: "KiB", at_most: None, at_least: None },
        Fact { title: "peak memory, pam_permit", value: permit, unit: "KiB", at_most: None, at_least: None },
        Fact { title: "peak memory, pam_ssh_agent_auth", value: rival, unit: "KiB", at_most: None, at_least: None },
        Fact { title: "size of pam_ussh.so", value: size, unit: "bytes", at_most: Some(LARGEST), at_least: None },
    ])
}

fn socket(agent: &str) -> String {
    format!("{FOLDER}/agents/{agent}.sock")
}

/// Builds one of the C programs on this machine.
///
/// # Errors
/// There is no compiler, or it has something against it.
pub fn compile(source: &str, flags: &[&str]) -> Result<Vec<u8>> {
    let build = tempfile::tempdir()?;
    let target = build.path().join("built");
    let mut command = Command::new("cc");
    command.args(["-Wall", "-Wextra", "-O2", "-D_GNU_SOURCE", "-o"]).arg(&target);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("c").join(source));
    let status = command.args(flags).status()?;
    if !status.success() {
        return Err(format!("cc {source}: {status}").into());
    }
    Ok(std::fs::read(target)?)
}

/// Builds the runner and the floor on this machine, and puts them and the services on the host.
fn install(host: &Host) -> Result<()> {
    host.write_file(RUN, 0o4755, compile("pam_run.c", &["-lpam"])?)?;
    let floor = format!("{FOLDER}/pam_floor.so");
    host.run(["mkdir", "-p", FOLDER])?.ok()?;
    host.write_file(&floor, 0o755, compile("pam_floor.c", &["-shared", "-fPIC"])?)?;
    for (service, module) in [
        ("bench-permit", "pam_permit.so".to_owned()),
        ("bench-floor", floor.clone()),
        ("bench-floor-plain", format!("{floor} plain")),
        ("bench-ussh", format!("pam_ussh.so ca_file={FOLDER}/cas revoked_keys=/etc/ssh/revoked_keys")),
        ("bench-rival", format!("pam_ssh_agent_auth.so file={FOLDER}/authorized_keys")),
    ] {
        host.write_file(&format!("/etc/pam.d/{service}"), 0o644, format!("auth required {module}\n"))?;
    }
    host.write_file(SESSION_RUN, 0o4755, compile("pam_session.c", &["-lpam"])?)?;
    for module in ["pam_ussh", "pam_permit"] {
        let folder = session_folder(module);
        host.run(["mkdir", "-p", &folder])?.ok()?;
        host.write_file(&format!("{folder}/sshd"), 0o644, format!("session required {module}.so\n"))?;
    }
    Ok(())
}

/// Two CAs of ours and one that is nobody's; a good key of each kind; an old good one with 19 younger ones that will not do.
fn keys(user: &str) -> String {
    format!(
        "set -e; cd {FOLDER}
         keygen() {{ ssh-keygen -q -N '' -C '' \"$@\"; }}
         keygen -t ed25519 -f ca; keygen -t rsa -b 4096 -f rsa_ca; keygen -t ed25519 -f other_ca
         cat ca.pub rsa_ca.pub > cas
         certify() {{ ssh-keygen -q -s $1 -I $3 -n $3 -V $4 $2.pub; }}
         keygen -t ed25519 -f ed25519; certify ca ed25519 {user} -1m:+1d
         keygen -t rsa -b 3072 -f rsa; certify rsa_ca rsa {user} -1m:+1d
         keygen -t ed25519 -f old; certify ca old {user} -1d:+1d
         for n in $(seq 19); do
           keygen -t ed25519 -f odd$n
           case $((n % 3)) in
             0) certify ca odd$n {user} -1h:-1m ;;
             1) certify ca odd$n somebody -1h:+1d ;;
             2) certify other_ca odd$n {user} -1h:+1d ;;
           esac
         done
         cat ed25519.pub rsa.pub > authorized_keys
         chown {user} ed25519 rsa old odd*; mkdir agents; chown {user} agents"
    )
}

fn start_agent<'a>(host: &Host, user: &str, agent: &str, argv: impl IntoIterator<Item = &'a str>) -> Result<()> {
    host.command(argv).user(user).service(&format!("agent-{agent}"))?;
    wait_until(SOON, "the agent's socket", || host.exists(&socket(agent)))?;
    Ok(())
}

/// The processes below `parent` that keep the hosts, and read their logs, run when nobody else wants to (SCHED_IDLE): what the reader does with a line is no part of the module's time,
/// and where it is woken on the same processor it would be.
fn leave_the_log_for_later(parent: u32) -> Result<()> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task"))?;
    for task in tasks {
        let children = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let name = std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            if name.trim_end() == "ussh-lab" {
                let status = Command::new("chrt").args(["--idle", "--pid", "0", child]).status()?;
                if !status.success() {
                    return Err(format!("chrt: {status}").into());
                }
            }
            leave_the_log_for_later(child.parse()?)?;
        }
    }
    Ok(())
}

/// What is compared does ask the agent, but for pam_permit: without one it refuses.
fn must_ask(host: &Host, user: &str, command: &str) -> Result<()> {
    if command.contains("bench-permit") {
        return Ok(());
    }
    let (start, _) = command.rsplit_once(' ').ok_or("a command without an agent")?;
    host.run_as(user, format!("{start} {}", socket("none")).split(' '))?.refused()?;
    Ok(())
}
