//! One trick of one user on one server, and what is to be seen of it there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use ussh_e2e::lab::{Process, Pty, Signal, wait_for, wait_until};
use ussh_e2e::{Forged, Forgery, PersonAgent};

use crate::tricks::{BYSTANDER, LEFT, ODD_AGENT, PRELUDE, Trick};
use crate::{SOON, WORLD};

pub struct Case {
    pub trick: &'static Trick,
    pub server: &'static str,
    agent: PersonAgent<'static>,
    client: Pty,
    /// Another session of the same user.
    bystander: Process,
    port: u16,
    /// Of the session in which the trick is done.
    pub certificate: Forged,
}

impl Case {
    /// The trick is in place, in a session whose certificate ends at `end`, or in an hour. Its agent holds somebody else's certificate besides, which lasts.
    pub fn open(trick: &'static Trick, server: &'static str, other: &Forged, end: Option<SystemTime>) -> Self {
        static PORT: AtomicU16 = AtomicU16::new(7200);
        let port = PORT.fetch_add(1, Ordering::Relaxed);
        let agent = WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap();
        let (user, host) = (agent.user().to_owned(), WORLD.host(server));
        let home = format!("/home/{user}");
        for (name, content) in other.files("other") {
            host.write_file_as(&user, &format!("{home}/{name}"), 0o600, content).unwrap();
        }
        let fill = |text: &str| text.replace("HOST", server).replace("NAME", &user).replace("PORT", &port.to_string());
        host.write_file_as(&user, &format!("{home}/trick"), 0o755, fill(&format!("{PRELUDE}{}\n", trick.script)))
            .unwrap();
        WORLD.host("laptop").write_file_as(&user, &format!("{home}/odd"), 0o644, ODD_AGENT).unwrap();
        if !trick.before.is_empty() {
            host.command(["bash", "-c", trick.before]).user(&user).env("HOME", &home).run().unwrap().ok().unwrap();
        }

        let lasting = WORLD.forge(&Forgery::of(&user)).unwrap();
        lasting.write(&WORLD, &user, "by").unwrap();
        let ssh =
            format!("exec ssh -a -n -o IdentityAgent=none -o IdentitiesOnly=yes -i ~/by {server} 'exec {BYSTANDER}'");
        let bystander = WORLD.host("laptop").command(["bash", "-c", &ssh]).user(&user).spawn().unwrap();

        let left = end.map_or(3600, |end| end.duration_since(SystemTime::now()).expect("in time").as_secs());
        let certificate = WORLD.forge(&Forgery::of(&user).validity(&format!("-5m:+{left}s"))).unwrap();
        certificate.add_to(&agent).unwrap();
        other.add_to(&agent).unwrap();
        let client = agent.terminal(&fill(trick.client)).unwrap();
        let case = Case { trick, server, agent, client, bystander, port, certificate };
        let in_place = wait_until(SOON, "the trick to be in place", || host.exists(&format!("{home}/set")));
        assert!(in_place.is_ok(), "{} on {server}: {}", trick.what, case.client.transcript());
        if trick.stops_client {
            case.client.signal(Signal::SIGSTOP).unwrap();
        }
        case
    }

    pub fn user(&self) -> &str {
        self.agent.user()
    }

    /// In his home folder on the server.
    pub fn has_made(&self, file: &str) -> bool {
        WORLD.host(self.server).exists(&format!("/home/{}/{file}", self.user()))
    }

    /// Whether what keeps the machine busy goes on now.
    pub fn has_begun(&self) -> bool {
        !self.trick.script.contains("begin;") || self.has_made("begun")
    }

    /// What was not his to write to.
    pub fn could_write_to(&self) -> String {
        WORLD.host(self.server).script(&format!("cat /home/{}/could 2> /dev/null || true", self.user())).unwrap().stdout
    }

    pub fn pulse(&self) -> u64 {
        let printed =
            WORLD.host(self.server).run(["stat", "-c", "%s", &format!("/home/{}/pulse", self.user())]).unwrap();
        printed.stdout.trim().parse().unwrap_or(0)
    }

    /// The state of the session in which the trick is done, if it is there.
    pub fn state<'a>(&self, seen: &'a Seen) -> Option<&'a str> {
        let serial = self.certificate.serial.to_string();
        let row = seen.rows.iter().find(|row| row["certificate"]["serial"] == serial.as_str())?;
        row["state"].as_str()
    }

    /// From the last word to the last process, as the log says; the longest of his sessions that ended.
    pub fn took(&self) -> Duration {
        let hostd = WORLD.host(self.server).service("ussh-hostd").unwrap();
        let took = wait_for(SOON, "its end in the log", || {
            // What it says itself: nobody waits for the log, which has much to take at once here.
            let log = hostd.stderr();
            let own = log.lines().filter(|line| line.contains(&format!(": user {} ", self.user())));
            let ends = own.filter_map(|line| line.split_once(": Session ended after ")?.1.split_once(" ms, "));
            ends.filter_map(|(took, _)| took.parse().ok()).max()
        });
        Duration::from_millis(took.unwrap())
    }

    /// What is wrong once the session is to have ended; `may_leave`: what had left it may go on.
    pub fn trouble(&self, seen: &Seen, may_leave: bool) -> Option<String> {
        if let Some(state) = self.state(seen) {
            return Some(format!("the session is {state}"));
        }
        let lasting = seen.rows.iter().filter(|row| row["user"] == self.user()).count();
        if lasting != 1 || self.bystander.status().unwrap().is_some() {
            return Some(format!("his other session: {lasting} rows, {:?}", self.bystander.status()));
        }
        let mut expected = BTreeMap::from([(BYSTANDER.to_owned(), 1), (format!("sshd: {}@notty", self.user()), 1)]);
        let mut left = 0;
        for line in seen.processes.get(self.user()).into_iter().flatten() {
            // OpenSSH 10's name.
            let line = line.replace("sshd-session: ", "sshd: ");
            match expected.get_mut(&line) {
                Some(count) if *count > 0 => *count -= 1,
                _ if line == LEFT && may_leave => left += 1,
                _ => return Some(format!("there is {line:?}")),
            }
        }
        if expected.values().any(|count| *count > 0) {
            return Some(format!("missing of his other session: {expected:?}"));
        }
        if may_leave && self.trick.script.contains(&format!("(setsid {LEFT}")) && left + seen.of_root(LEFT) == 0 {
            return Some("what had left the session is gone: docs/sessions.md says that it goes on".to_owned());
        }
        if !may_leave && seen.of_root(LEFT) > 0 || seen.of_root("sleep 472") > 0 {
            return Some("there is something of root's".to_owned());
        }
        if seen.who.lines().any(|line| line.split(' ').next() == Some(self.user())) {
            return Some("there is an entry in utmp".to_owned());
        }
        seen.listening
            .contains(&format!(":{:04X} 00000000:0000 0A ", self.port))
            .then(|| "a forward listens".to_owned())
    }
}

/// A server at one moment.
pub struct Seen {
    rows: Vec<Value>,
    /// Command lines of each user.
    processes: BTreeMap<String, Vec<String>>,
    who: String,
    listening: String,
}

impl Seen {
    pub fn on(server: &str) -> Self {
        let host = WORLD.host(server);
        let printed = host.run(["ussh-hostd", "sessions", "--json"]).unwrap().ok().unwrap().stdout;
        let mut processes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let listed = host.run(["ps", "-eo", "user:32,args"]).unwrap().ok().unwrap().stdout;
        for line in listed.lines() {
            let (user, args) = line.split_once(' ').unwrap();
            processes.entry(user.to_owned()).or_default().push(args.trim().to_owned());
        }
        Seen {
            rows: serde_json::from_str(&printed).unwrap(),
            processes,
            who: host.run(["who"]).unwrap().ok().unwrap().stdout,
            listening: host.run(["cat", "/proc/net/tcp"]).unwrap().ok().unwrap().stdout,
        }
    }

    fn of_root(&self, begin: &str) -> usize {
        self.processes.get("root").into_iter().flatten().filter(|line| line.starts_with(begin)).count()
    }
}
