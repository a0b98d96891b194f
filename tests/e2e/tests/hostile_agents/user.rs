//! The user in the host, whose agent is a hostile one: asks by a set-uid program that looks at itself, and by sudo.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cases::{Case, HONEST};
use crate::hosts::{HOST, SERVE};
use crate::kit::Kit;
use crate::log;
use crate::script::Agent;
use crate::serve::{READY, accept, socket};

/// What came of the set-uid program (pam_ussh/tests/stack/host.c).
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Of pam_authenticate; `None`: the program did not come to its end.
    pub code: Option<i32>,
    /// Of a second one in the same process, with an honest agent.
    pub again: Option<i32>,
    /// PAM message styles, and what was said. To the end of the second.
    pub told: Vec<(i32, String)>,
    /// Largest resident set until the first had ended, KiB; 0: not said.
    pub peak: u64,
    /// What of the process was another than before, or a child that was left.
    pub changes: Vec<String>,
    /// Of both.
    pub took: Duration,
}

/// What came of sudo.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sudo {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seat {
    pub rehearsal: Option<Seen>,
    pub seen: Seen,
    pub sudo: Sudo,
}

/// How long anything may take, whatever the deadlines: what takes longer is killed.
const LAST: &str = "90";

pub fn run(case: &Case, user: &str) {
    let good = format!("/home/{user}/good.sock");
    let listener = UnixListener::bind(&good).unwrap();
    let honest = Agent::good(&Kit::of(user));
    std::thread::spawn(move || accept(&listener, honest));

    let mut agent = Served::start(case, user);
    // What an agent has kept of an earlier attempt, it must still have in the next.
    let rehearsal = case.is_rehearsed.then(|| ask(case, user, &good));
    let seen = ask(case, user, &good);
    if !case.is_rehearsed {
        drop(agent);
        agent = Served::start(case, user);
    }
    let sudo = sudo(case, user);
    drop(agent);
    println!("{}", serde_json::to_string(&Seat { rehearsal, seen, sudo }).unwrap());
}

/// An agent's process; killed when this goes, also if it is frozen.
pub struct Served(Child);

impl Served {
    fn start(case: &Case, user: &str) -> Self {
        Self::start_named(case.name, user)
    }

    /// An honest one in the place of the one that calls this, in a process of its own.
    pub fn start_honest(user: &str) -> Self {
        Self::start_named(HONEST, user)
    }

    fn start_named(case: &str, user: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        let mut child = command.args([SERVE, case, user]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), READY);
        Served(child)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn ask(case: &Case, user: &str, good: &str) -> Seen {
    let report = format!("/home/{user}/report");
    let settings = format!("told,again={good}");
    let (output, took) = timed(user, &[HOST, &report, &settings, case.pace.service(), user, "authenticate"]);
    let mut seen = Seen { took, ..Seen::default() };
    for line in std::fs::read_to_string(&report).unwrap_or_default().lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["code", code] => seen.code = Some(code.parse().unwrap()),
            ["again", code] => seen.again = Some(code.parse().unwrap()),
            ["peak", peak] => seen.peak = peak.parse().unwrap(),
            ["told", style, ..] => {
                let text = line.splitn(3, ' ').nth(2).unwrap();
                seen.told.push((style.parse().unwrap(), text.to_owned()));
            }
            ["loaded" | "pages" | "heap" | "standard", ..] => {}
            _ => seen.changes.push(line.to_owned()),
        }
    }
    if !output.stdout.is_empty() || !output.stderr.is_empty() {
        seen.changes.push(format!("it printed: {output:?}"));
    }
    seen
}

fn sudo(case: &Case, user: &str) -> Sudo {
    let words = [&["sudo"][..], case.pace.sudo_options(), &["id", "-u"]].concat();
    let (Output { status, stdout, stderr }, took) = timed(user, &words);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Sudo { code: status.code(), stdout: text(stdout), stderr: text(stderr), took }
}

/// With the hostile agent in SSH_AUTH_SOCK.
fn timed(user: &str, words: &[&str]) -> (Output, Duration) {
    log::wait_for_room();
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", LAST]).args(words).env("SSH_AUTH_SOCK", socket(user)).stdin(Stdio::null());
    let started = Instant::now();
    let output = command.output().unwrap();
    (output, started.elapsed())
}
