//! Somebody on the laptop, with one certificate, in front of one server.

use std::sync::{Mutex, PoisonError};

use ussh_e2e::lab::{Output, wait_until};
use ussh_e2e::{Forgery, PersonAgent};

use crate::hosts::WORLD;
use crate::seen::Seen;
use crate::table::Column;
use crate::ways::{Way, What};
use crate::{SOON, forward};

/// What our line thinks of it; sshd takes both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    Good,
    /// Valid for longer than `max_validity` of the line.
    TooLong,
}

pub struct Seat {
    pub server: &'static str,
    pub agent: PersonAgent<'static>,
    pub serial: u64,
}

impl Seat {
    /// Longer than the line allows.
    pub const LONG: &str = "-5m:+30h";

    /// Somebody else each time.
    pub fn with(server: &'static str, certificate: Certificate) -> Self {
        let validity = if certificate == Certificate::Good { "-5m:+1h" } else { Seat::LONG };
        let seat = Seat::of(server, &WORLD.somebody().unwrap(), validity);
        let (host, user) = (WORLD.host(server), seat.agent.user());
        host.write_file_as(user, &format!("/home/{user}/.bash_profile"), 0o600, "exec echo the shell\n").unwrap();
        seat.agent.sh("head -c 300000 /dev/urandom > data").unwrap().ok().unwrap();
        seat
    }

    /// The certificate lies in an agent of its own and, for those who go without one, in a file. It names root as well.
    pub fn of(server: &'static str, user: &str, validity: &str) -> Self {
        let agent = WORLD.new_agent(user).unwrap();
        let forged = WORLD.forge(&Forgery::of(user).principals(&[user, "root"]).validity(validity)).unwrap();
        forged.add_to(&agent).unwrap();
        forged.write(&WORLD, user, &format!("key-{}", forged.serial)).unwrap();
        Seat { server, agent, serial: forged.serial }
    }

    /// Whose account it is that is gone to.
    pub fn account(&self, way: &Way) -> &str {
        if way.is_root { "root" } else { self.agent.user() }
    }

    /// A way that is one command.
    pub fn go<'way>(&self, way: &'way Way, column: Column) -> Seen<'way> {
        let What::Script { script, .. } = way.what else { panic!("{} is no script", way.name) };
        self.run(way, column, script)
    }

    /// A script, with what it names put in.
    pub fn run<'way>(&self, way: &'way Way, column: Column, script: &str) -> Seen<'way> {
        let host = if way.is_root { format!("root@{}", self.server) } else { self.server.to_owned() };
        let options = format!("-o Port={}", way.port + u16::from(column.is_behind()));
        let script = script
            .replace("OPTIONS", &options)
            .replace("HOST", &host)
            .replace("SERVER", self.server)
            .replace("KEY", &format!("key-{}", self.serial));
        // What is logged of root's logins does not say whose they are: one at a time.
        static ROOT: Mutex<()> = Mutex::new(());
        let _alone = way.is_root.then(|| ROOT.lock().unwrap_or_else(PoisonError::into_inner));
        let before = WORLD.log_position(self.server);
        let output = self.agent.sh(&script).unwrap();
        let account = self.account(way).to_owned();
        if output.status.code() == 0 {
            // Both come a little behind what the client sees of it.
            let (what, times) = match way.what {
                // Behind a requisite line that refuses nobody else is asked.
                _ if column == Column::Unrecorded => (format!(" for {account} via sshd "), way.connections().max(1)),
                What::Master => (format!("session opened for user {account}"), 1),
                What::Script { .. } | What::Forward => {
                    (format!("session closed for user {account}"), way.connections())
                }
            };
            let all = || WORLD.host(self.server).log()[before..].matches(&what).count() >= times;
            wait_until(SOON, &what, all).unwrap();
        }
        let said = WORLD.said_of_logins(self.server, &account, before).unwrap();
        let log = WORLD.logged_since(self.server, before).unwrap();
        let worked = self.has_worked(way, &output);
        Seen { way, column, account, server: self.server, serial: self.serial, output, worked, said, log }
    }

    /// Whether all was as it should be on the laptop, to the byte.
    fn has_worked(&self, way: &Way, output: &Output) -> bool {
        let (stdout, stderr) = match way.what {
            What::Script { stdout, stderr, .. } => (stdout, stderr),
            What::Forward => (forward::UP, ""),
            What::Master => return false,
        };
        let fill = |text: &str| text.replace("USER", self.account(way)).replace("SERVER", self.server);
        output.status.code() == 0 && output.stdout == fill(stdout) && output.stderr == fill(stderr)
    }
}
