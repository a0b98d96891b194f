//! The PAM truth table: every answer of pam_ussh under every usual control, through the programs that ask it. No stack succeeds without a verified certificate and a proof, and none
//! fails that has both.
//!
//! `auth` and `account` go through all controls, `programs` through everybody who asks. A module that panics stands beside the good one: `pam_ussh_panics.so` (tests/panics).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod account;
mod auth;
mod programs;
mod rows;
mod stacks;

use std::sync::LazyLock;

use ussh_e2e::lab::trixie_root;
use ussh_e2e::{PersonAgent, Shell, WAY_IN, World, WorldPlan};

/// A host for each test, so that none waits for another's PAM files.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("truth-table").without_servers().with_panics();
    let plan = ["web1", "web2", "web3"].iter().fold(plan, |plan, name| plan.server(name));
    let world = plan.server_on("web13", trixie_root().unwrap()).start().unwrap();
    for name in ["web1", "web2", "web3", "web13"] {
        let host = world.host(name);
        // A second for each su that is refused is much in a table.
        host.script("sed -i 's/^FAIL_DELAY.*//' /etc/login.defs; echo FAIL_DELAY 0 >> /etc/login.defs").unwrap();
        for user in ["alice", "bob"] {
            world.make_way_in(user, name).unwrap();
        }
    }
    world
});

/// A shell on a server.
struct Seat {
    server: &'static str,
    shell: Shell,
}

/// What one command showed, how it ended, and what pam_ussh logged meanwhile.
#[derive(Debug)]
struct Attempt {
    shown: String,
    code: i32,
    log: Vec<String>,
}

impl Seat {
    fn on(server: &'static str, agent: &PersonAgent<'_>) -> Self {
        Seat { server, shell: agent.shell(&format!("{WAY_IN} {server}")).unwrap() }
    }

    fn run(&self, command: &str) -> Attempt {
        let before = WORLD.log_position(self.server);
        let seen = self.shell.run(&format!("{command}; echo \"exit $?\"")).unwrap();
        let log = WORLD.logged_since(self.server, before).unwrap();
        let (shown, code) = seen.trim_end().rsplit_once("exit ").unwrap();
        let ours = log.lines().filter_map(|line| Some(line.split_once("pam_ussh[")?.1.split_once("]: ")?.1.to_owned()));
        Attempt { shown: shown.to_owned(), code: code.parse().unwrap(), log: ours.collect() }
    }

    fn write_pam(&self, service: &str, text: &str) {
        WORLD.host(self.server).write_file(&format!("/etc/pam.d/{service}"), 0o644, text).unwrap();
    }
}

impl Attempt {
    /// Whether the program let it through, by anything that it shows: a code, or what root's `id -u` prints.
    fn is_through(&self) -> bool {
        self.code == 0 || self.shown.lines().any(|line| line == "0")
    }
}

/// All that is wrong with a table, at once.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn note(&mut self, place: &str, what: &str, attempt: &Attempt) {
        self.0.push(format!("{place}: {what}: {attempt:?}"));
    }

    fn none(self) {
        assert!(self.0.is_empty(), "{} wrong:\n{}", self.0.len(), self.0.join("\n"));
    }
}
