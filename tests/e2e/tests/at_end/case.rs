//! One way, opened by somebody of its own, and what becomes of it at the end of its certificate.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use ussh_e2e::lab::{Pty, wait_until};
use ussh_e2e::{Forgery, PersonAgent};

use crate::hosts::WORLD;
use crate::table::Column;
use crate::ways::{BEAT, Pulse, Way};
use crate::{LATE, SOON};

/// From one look at a pulse to the next, when it is to stand still.
const STILL: Duration = Duration::from_secs(1);
/// Longest time from one pulse of what moves to the next, on a machine that is busy.
const PULSE: Duration = Duration::from_secs(20);

/// It lives by a newer certificate, and is of use.
const GOES_ON: &str = "goes on";
/// sshd and all that the session had running is gone, and the client knows it.
const ENDED: &str = "ended";
/// The same, but what had left it before runs on.
const LEFT: &str = "ended, what had left it goes on";
/// Nothing moves, until there is a newer certificate, and then it is of use.
const FROZEN: &str = "frozen, goes on when renewed";

pub struct Case {
    way: &'static Way,
    server: &'static str,
    agent: PersonAgent<'static>,
    client: Pty,
    port: u16,
    /// Of the certificate that it was opened with.
    pub end: SystemTime,
}

impl Case {
    /// Opens it, with a certificate that ends at `end`.
    pub fn open(way: &'static Way, server: &'static str, column: Column, end: SystemTime) -> Self {
        static PORT: AtomicU16 = AtomicU16::new(7100);
        let agent = WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap();
        let port = PORT.fetch_add(1, Ordering::Relaxed);
        let left = end.duration_since(SystemTime::now()).unwrap().as_secs();
        add(&agent, &format!("-5m:+{left}s"));
        agent.sh("head -c 8000000 /dev/zero > big").unwrap().ok().unwrap();
        let beat = BEAT.replace("NAME", agent.user());
        let script = way
            .script
            .replace("BEAT1", &beat.replace("-N", "-1"))
            .replace("HOST", server)
            .replace("NAME", agent.user())
            .replace("PORT", &port.to_string());
        let client = agent.terminal(&format!("beat='{beat}'; {script}")).unwrap();
        let case = Case { way, server, agent, client, port, end };
        let alive = wait_until(SOON, "a sign of life", || case.row().is_some() && case.moves());
        assert!(alive.is_ok() && SystemTime::now() < end, "{} on {server}: {}", way.what, case.seen());
        if column == Column::Renewed {
            add(&case.agent, "-5m:+1h");
        }
        case
    }

    /// In the manual's words, or what was seen. After the end.
    pub fn outcome(&self) -> String {
        match self.row().map(|row| row["state"].as_str().unwrap().to_owned()).as_deref() {
            Some("live") if self.moves_soon() && self.client.expect_exit(Duration::ZERO).is_err() => GOES_ON.to_owned(),
            Some("frozen") if self.stands_still() => {
                add(&self.agent, "-5m:+1h");
                let goes_on = wait_until(SOON, "the session to go on", || self.moves_soon());
                if goes_on.is_ok() && self.row().is_some_and(|row| row["state"] == "live") {
                    FROZEN.to_owned()
                } else {
                    format!("frozen, and never thawed: {}", self.seen())
                }
            }
            None if self.client.expect_exit(LATE).is_ok() && self.was_ended() => {
                (if self.stands_still() { ENDED } else { LEFT }).to_owned()
            }
            other => format!("{other:?}: {}", self.seen()),
        }
    }

    fn row(&self) -> Option<Value> {
        let printed = WORLD.host(self.server).run(["ussh-hostd", "sessions", "--json"]).unwrap().ok().unwrap().stdout;
        let rows: Vec<Value> = serde_json::from_str(&printed).unwrap();
        rows.into_iter().find(|row| row["certificate"]["key_id"] == self.agent.user())
    }

    fn was_ended(&self) -> bool {
        let ending = format!("]: Ending session of certificate ID \"{}\" ", self.agent.user());
        WORLD.logged_since(self.server, 0).unwrap().lines().any(|line| line.contains(&ending))
    }

    fn seen(&self) -> String {
        let log = WORLD.logged_since(self.server, 0).unwrap();
        let own: Vec<&str> =
            log.lines().filter(|line| line.contains(self.agent.user()) && line.contains("ussh-hostd")).collect();
        format!("{} {own:#?}", self.client.transcript())
    }

    /// Whether it is of use now.
    fn moves(&self) -> bool {
        match self.way.pulse {
            Pulse::Files(_) => self.sizes().into_iter().all(|size| size > 0),
            Pulse::Port | Pulse::Socks | Pulse::PortOnServer => self.connects(),
        }
    }

    /// Whether it moves from now on.
    fn moves_soon(&self) -> bool {
        let before = self.sizes();
        let grow = || self.sizes().iter().zip(&before).all(|(now, before)| now > before);
        match self.way.pulse {
            // With a limit scp sends in bursts.
            Pulse::Files(_) => wait_until(PULSE, "a pulse", grow).is_ok(),
            Pulse::Port | Pulse::Socks | Pulse::PortOnServer => self.connects(),
        }
    }

    fn stands_still(&self) -> bool {
        match self.way.pulse {
            Pulse::Files(_) => {
                let (before, until) = (self.sizes(), Instant::now() + STILL);
                wait_until(STILL * 2, "the time to pass", || Instant::now() > until).unwrap();
                before == self.sizes()
            }
            Pulse::Port | Pulse::Socks | Pulse::PortOnServer => !self.connects(),
        }
    }

    fn sizes(&self) -> Vec<u64> {
        let Pulse::Files(count) = self.way.pulse else { return Vec::new() };
        let user = self.agent.user();
        let script =
            format!("for n in $(seq {count}); do stat -c %s /tmp/pulse-{user}-$n 2> /dev/null || echo 0; done");
        let sizes = WORLD.host(self.server).script(&script).unwrap().stdout;
        sizes.lines().map(|size| size.parse().unwrap()).collect()
    }

    fn connects(&self) -> bool {
        // By SOCKS 5 (RFC 1928): no authentication, CONNECT to 127.0.0.1 port 22.
        let socks = r"printf '\5\1\0' >&3; head -c 2 <&3 > /dev/null; printf '\5\1\0\1\177\0\0\1\0\26' >&3; head -c 10 <&3 > /dev/null;";
        let (host, before) = match self.way.pulse {
            Pulse::Socks => ("laptop", socks),
            Pulse::PortOnServer => (self.server, ""),
            Pulse::Port | Pulse::Files(_) => ("laptop", ""),
        };
        let script = format!("exec 3<> /dev/tcp/127.0.0.1/{}; {before} timeout 3 head -c 4 <&3", self.port);
        WORLD.host(host).run(["bash", "-c", &script]).unwrap().stdout == "SSH-"
    }
}

fn add(agent: &PersonAgent<'_>, validity: &str) {
    let user = agent.user();
    let forged = WORLD.forge(&Forgery::of(user).principals(&[user, "root"]).validity(validity)).unwrap();
    forged.add_to(agent).unwrap();
}
