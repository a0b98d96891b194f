//! Sessions of many people, each a shell with two programs, over plain ssh with the agent forwarded.

use serde_json::Value;
use ussh_core::certificate::Certificate;
use ussh_e2e::lab::{Process, wait_until};
use ussh_e2e::{Forgery, PersonAgent, World};

use crate::SOON;
use crate::moments::now;

/// What a session runs: of each second one, a program that does not heed a SIGHUP.
pub const RUNS: [&str; 2] = ["sleep 4714 & sleep 4715; true", "nohup sleep 4714 > /dev/null 2>&1 & sleep 4715; true"];

/// One agent with its certificate, and its sessions.
pub struct Guest {
    pub agent: PersonAgent<'static>,
    pub serial: u64,
    /// Of the certificate that is its agent's newest, seconds since the epoch.
    pub end: f64,
    pub clients: Vec<Process>,
}

impl Guest {
    /// Somebody with a certificate that ends at `end`, and no session yet.
    pub fn new(world: &'static World, name: &str, end: f64) -> Self {
        let agent = world.new_agent(name).unwrap();
        let (serial, end) = certify(&agent, end);
        Guest { agent, serial, end, clients: Vec::new() }
    }

    /// A newer certificate in the agent, which a session by an older one goes on with.
    pub fn renew(&mut self, end: f64) {
        (_, self.end) = certify(&self.agent, end);
    }

    pub fn connect(&mut self, server: &str, runs: &str) {
        let laptop = self.agent.world().host("laptop");
        let ssh = laptop.command(["ssh", "-A", server, runs]).user(self.agent.user());
        self.clients.push(ssh.env("SSH_AUTH_SOCK", self.agent.socket()).spawn().unwrap());
    }

    pub fn is_connected(&self) -> bool {
        self.clients.iter().all(|client| client.status().unwrap().is_none())
    }
}

/// A certificate in the agent that ends then, as nearly as whole seconds allow.
fn certify(agent: &PersonAgent<'_>, end: f64) -> (u64, f64) {
    let left = (end - now()).round().max(1.0);
    let forged = agent.world().forge(&Forgery::of(agent.user()).validity(&format!("-5m:+{left}s"))).unwrap();
    forged.add_to(agent).unwrap();
    let line = std::str::from_utf8(forged.certificate()).unwrap();
    (forged.serial, Certificate::from_openssh(line.trim()).unwrap().valid_before().0 as f64)
}

/// `ussh-hostd sessions --json`.
pub fn rows(world: &World, server: &str) -> Vec<Value> {
    let printed = world.host(server).run(["ussh-hostd", "sessions", "--json"]).unwrap().ok().unwrap().stdout;
    serde_json::from_str(&printed).unwrap()
}

pub fn wait_for_sessions(world: &World, server: &str, count: usize) {
    wait_until(SOON, "the sessions", || rows(world, server).len() >= count).unwrap();
}

/// sshd's process of each session that lives by, or came with, this certificate.
pub fn pids(world: &World, server: &str, serial: u64) -> Vec<u64> {
    let is_its = |row: &Value| row["certificate"]["serial"].as_str().is_some_and(|s| s == serial.to_string());
    rows(world, server).iter().filter(|row| is_its(row)).map(|row| row["pid"].as_u64().unwrap()).collect()
}
