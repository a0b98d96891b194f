//! The CA keeps standing: limits and penalties, shortages, sockets and words for the service manager, logs, metrics and status.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod doors;
mod manager;
mod seen;
mod shortage;
mod told;

use std::time::Duration;

use ussh_e2e::lab::wait_until;
use ussh_e2e::{CA_DIR, World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(30);

/// A laptop and a CA with this in its configuration.
fn world(name: &str, config: &str) -> World {
    WorldPlan::new(name).without_servers().ca_config(config).start().unwrap()
}

/// One login, from another source port or address if `options` say so; its exit code and what was said on stderr.
fn log_in(world: &World, user: &str, password: &str, options: &str) -> (i32, String) {
    let script = format!("exec ssh -o NumberOfPasswordPrompts=1 {options} -A ca");
    let ended = world.unattended(user, password, &script).unwrap().wait(SOON).unwrap();
    (ended.status.code(), ended.stderr)
}

#[track_caller]
fn assert_login_works(world: &World, user: &str) {
    let (code, said) = log_in(world, user, world.password(user), "");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("for {user} is in your agent")), "{said}");
}

/// `usshca status --json`.
fn status(world: &World) -> serde_json::Value {
    serde_json::from_str(&world.usshca("status --json").unwrap().stdout).unwrap()
}

/// Tells the CA's supervisor something.
fn signal(world: &World, name: &str) {
    let pid = world.host("ca").service("usshca").unwrap().pid();
    world.host("ca").script(&format!("kill {name} {pid}")).unwrap();
}

fn stop_ca(world: &World) {
    world.host("ca").stop_service("usshca").unwrap();
    wait_until(SOON, "no usshca", || world.processes("ca", "usshca").unwrap().is_empty()).unwrap();
}

/// A program on the CA's host that prints the datagrams that come to a Unix socket, line by line.
fn listen_on(world: &World, socket: &str) -> ussh_e2e::lab::Process {
    const LISTENER: &str = r#"
use strict; use Socket; $| = 1;
unlink $ARGV[0];
socket(my $socket, PF_UNIX, SOCK_DGRAM, 0) or die "socket: $!";
bind($socket, sockaddr_un($ARGV[0])) or die "bind: $!";
chmod 0666, $ARGV[0];
print "bound\n";
while (defined recv($socket, my $datagram, 65536, 0)) { print $datagram, "\n"; }
"#;
    let ca = world.host("ca");
    ca.write_file("/srv/listen.pl", 0o755, LISTENER).unwrap();
    let listener = ca.spawn_as("root", ["perl", "/srv/listen.pl", socket]).unwrap();
    listener.wait_for_output("bound", SOON).unwrap();
    listener
}

/// `usshca serve` once more, with an environment.
fn serve_with(world: &World, environment: &[(&str, &str)]) {
    let ca = world.host("ca");
    let mut serve = ca.command(["usshca", "--dir", CA_DIR, "serve"]);
    for (name, value) in environment {
        serve = serve.env(name, value);
    }
    serve.service("usshca").unwrap();
}
