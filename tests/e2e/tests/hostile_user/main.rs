//! A user who would be root with somebody else's certificate, or have root connect to where he may not: what he can put into SSH_AUTH_SOCK and beside it, through sudo, su and doas.
//!
//! Nothing lets him through but a certificate that names him, from an agent of his own; and whoever listens sees nobody but him, with no right that he has not (SO_PEERCRED,
//! SO_PEERGROUPS). Everybody else's agents here hold certificates that would do.
//!
//! `whose` goes through the sockets of others, `paths` through ways to spell one, `race` swaps them while the module looks, `environment` has all that is beside SSH_AUTH_SOCK,
//! and `shared` an account of two people.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod attempt;
mod environment;
mod paths;
mod race;
mod shared;
mod street;
mod whose;

use std::sync::LazyLock;
use std::time::Duration;

use ussh_e2e::{World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);

/// What the user reads, whatever the reason.
const NOT_GOOD: &str = "No certificate that is good for this: see \"ssh-add -l\", get a new one with \"ussh --login\" on your own machine, or log in again with \"ssh -A\".";
const NO_AGENT: &str = "There is no SSH agent in this session: log in again with \"ssh -A\", or with \"ussh\" if a [[host]] in ussh.toml names this host.";
const AGENT_SILENT: &str =
    "Your SSH agent does not answer: see \"ssh-add -l\", or log in again with \"ussh\" or \"ssh -A\".";

/// On web1 sockets are tried; on web2 one test changes sudo's files, and on web3 one those of sshd.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("hostile-user").without_servers().people(40, "admins").person("team", "-", &["admins"]);
    let world = ["web1", "web2", "web3"].iter().fold(plan, |plan, name| plan.server(name)).start().unwrap();
    for name in ["web1", "web2"] {
        let host = world.host(name);
        host.write_file("/etc/doas.conf", 0o400, "permit :admins\n").unwrap();
        let sudo = host.read_file("/etc/pam.d/sudo").unwrap();
        host.write_file("/etc/pam.d/doas", 0o644, sudo).unwrap();
        // A second for each su that is refused is much in a table.
        host.script("sed -i 's/^FAIL_DELAY.*//' /etc/login.defs; echo FAIL_DELAY 0 >> /etc/login.defs").unwrap();
    }
    world
});
