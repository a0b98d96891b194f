//! Somebody on the laptop with a session on a server that freezes sessions.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use ussh_e2e::lab::{trixie_root, wait_for, wait_until};
use ussh_e2e::{Forgery, PersonAgent, Shell, World, WorldPlan, confined};

/// Longest wait for anything.
pub const SOON: Duration = Duration::from_secs(30);
/// Debian 12's OpenSSH and Debian 13's.
pub const SERVERS: [&str; 2] = ["web12", "web13"];
/// A certificate that ends within the test.
pub const SHORT: &str = "-5m:+7s";
pub const LONG: &str = "-5m:+1h";

pub const STANDS_STILL: &str = "your certificate has run out: this session stands still. Run `ussh` on your own machine, and it goes on by itself.";
pub const GOES_ON: &str = "this session goes on.";

pub const HOSTD: &str = "\
warn_before_seconds = 2
look_before_seconds = 2
agent_timeout_seconds = 1
grace_seconds = 1
at_end = \"freeze\"

[sync]
source = \"file:/srv/ussh-feed\"
every_seconds = 86400
";

pub static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("frozen").without_servers().server("web12").people(40, "admins");
    let world = plan.server_on("web13", trixie_root().unwrap()).start().unwrap();
    SERVERS.iter().for_each(|server| configure(&world, server, HOSTD));
    world
});

/// Starts ussh-hostd anew with this configuration.
pub fn configure(world: &World, server: &str, hostd: &str) {
    let host = world.host(server);
    host.write_file("/etc/ussh/hostd.toml", 0o644, hostd).unwrap();
    start_hostd(world, server);
}

pub fn start_hostd(world: &World, server: &str) {
    let host = world.host(server);
    host.command(confined(&["ussh-hostd", "run"]))
        .service("ussh-hostd")
        .unwrap()
        .wait_for_output("Watching ", SOON)
        .unwrap();
}

/// A session, with the shell at its prompt.
pub struct Seat<'world> {
    pub agent: PersonAgent<'world>,
    pub shell: Shell,
    pub server: String,
    /// Of the certificate that it began with.
    pub serial: u64,
}

impl<'world> Seat<'world> {
    /// `ssh` is the command before the server's name.
    pub fn take(world: &'world World, server: &str, validity: &str, ssh: &str) -> Self {
        let agent = world.new_agent(&world.somebody().unwrap()).unwrap();
        let serial = add(&agent, validity);
        let shell = agent.shell(&format!("{ssh} {server}")).unwrap();
        let seat = Seat { agent, shell, server: server.to_owned(), serial };
        wait_for(SOON, "the session in ussh-hostd's list", || seat.row()).unwrap();
        // And in its group: who leaves it before that is in none (docs/sessions.md).
        wait_until(SOON, "ussh-hostd to have it", || seat.has_logged("]: Watching session of certificate ID "))
            .unwrap();
        seat
    }

    pub fn user(&self) -> &str {
        self.agent.user()
    }

    pub fn world(&self) -> &'world World {
        self.agent.world()
    }

    /// A newer certificate in the laptop's agent, in place of what was there; when it ends.
    pub fn renew(&self, validity: &str) -> SystemTime {
        self.agent.sh("ssh-add -q -D").unwrap().ok().unwrap();
        add(&self.agent, validity);
        let shown =
            self.agent.sh("ssh-add -L | ssh-keygen -Lf - | sed -n 's/.* to //p' | xargs -I @ date -d @ +%s").unwrap();
        UNIX_EPOCH + Duration::from_secs(shown.ok().unwrap().stdout.trim().parse().unwrap())
    }

    /// `ussh-hostd sessions --json`, this user's.
    pub fn row(&self) -> Option<Value> {
        rows(self.world(), &self.server).into_iter().find(|row| row["user"] == self.user())
    }

    pub fn state(&self) -> Option<String> {
        Some(self.row()?["state"].as_str()?.to_owned())
    }

    pub fn wait_until_frozen(&self) {
        wait_until(SOON, "the session to be frozen", || self.state().as_deref() == Some("frozen")).unwrap();
    }

    /// When the certificate that it lives by ends.
    pub fn end(&self) -> SystemTime {
        let end = self.row().unwrap()["certificate"]["valid_before"].as_u64().unwrap();
        UNIX_EPOCH + Duration::from_secs(end)
    }

    /// Its lines in ussh-hostd's log.
    pub fn log(&self) -> Vec<String> {
        log_of(self.world(), &self.server, self.user())
    }

    pub fn has_logged(&self, what: &str) -> bool {
        self.log().iter().any(|line| line.contains(what))
    }

    /// Waits for its end, which is said to be for this reason.
    pub fn ends_because(&self, why: &str) {
        let status = self.shell.terminal().expect_exit(SOON).unwrap();
        assert_eq!(status.code(), 255, "{}", self.shell.terminal().transcript());
        wait_until(SOON, "the record to go", || self.row().is_none()).unwrap();
        let log = self.log();
        let ending = log.iter().find(|line| line.contains("]: Ending session of certificate ID ")).unwrap();
        assert!(ending.contains(why), "{why}: {ending}");
    }

    /// What runs in the session's cgroup, whoever its parent is: PIDs. Others' groups may go while they are looked at.
    pub fn in_its_cgroup(&self) -> Vec<String> {
        let found = self.world().host(&self.server).script(&format!(
            "{{ find /sys/fs/cgroup -path '*/ussh-frozen/cgroup.procs' -exec cat {{}} + || true; }} | {{ xargs -r ps -o pid=,user= -p || true; }} | awk '$2 == \"{0}\" {{ print $1 }}'",
            self.user()
        ));
        found.unwrap().stdout.lines().map(str::to_owned).collect()
    }

    /// How many processes of this user run on the server at all.
    pub fn runs(&self, what: &str) -> bool {
        self.world().host(&self.server).run(["pgrep", "-u", self.user(), "-f", what]).unwrap().status.success()
    }
}

fn add(agent: &PersonAgent<'_>, validity: &str) -> u64 {
    let forged = agent.world().forge(&Forgery::of(agent.user()).validity(validity)).unwrap();
    forged.add_to(agent).unwrap();
    forged.serial
}

pub fn rows(world: &World, server: &str) -> Vec<Value> {
    let printed = world.host(server).run(["ussh-hostd", "sessions", "--json"]).unwrap().ok().unwrap().stdout;
    serde_json::from_str(&printed).unwrap()
}

pub fn log_of(world: &World, server: &str, user: &str) -> Vec<String> {
    let log = world.logged_since(server, 0).unwrap();
    let user = format!(" user {user} ");
    log.lines().filter(|l| l.contains("ussh-hostd[") && l.contains(&user)).map(str::to_owned).collect()
}
