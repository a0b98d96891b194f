//! Connections without a record, on OpenSSH 9.2 and 10.0: those from before ussh-hostd was set up are shown as unknown, and those that come by although it was are an alarm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use serde_json::Value;
use ussh_e2e::lab::{Host, Process, trixie_root, wait_until};
use ussh_e2e::{Forgery, PersonAgent, WorldPlan, confined};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);
const HOSTD: &str = "[sync]\nsource = \"file:/srv/ussh-feed\"\nevery_seconds = 86400\n";

/// `ssh` with these arguments, in the background.
fn connect(agent: &PersonAgent<'_>, arguments: &[&str]) -> Process {
    let command = [&["ssh"], arguments].concat();
    let laptop = agent.world().host("laptop");
    laptop.command(command).user(agent.user()).env("SSH_AUTH_SOCK", agent.socket()).spawn().unwrap()
}

/// Users of the sessions in this state, sorted.
fn users(host: &Host, state: &str) -> Vec<String> {
    let printed = host.run(["ussh-hostd", "sessions", "--json"]).unwrap().ok().unwrap().stdout;
    let rows: Vec<Value> = serde_json::from_str(&printed).unwrap();
    let of_state = rows.iter().filter(|row| row["state"].as_str() == Some(state));
    let mut users: Vec<String> = of_state.map(|row| row["user"].as_str().unwrap().to_owned()).collect();
    users.sort();
    users
}

#[test]
fn connections_without_a_record_are_shown_as_unknown_and_new_ones_are_an_alarm() {
    let plan = WorldPlan::new("unrecorded").without_servers().server("web12").people(4, "admins");
    let world = plan.server_on("web13", trixie_root().unwrap()).start().unwrap();
    let _watch = world.lab().watch();
    for server in ["web12", "web13"] {
        let host = world.host(server);
        let agent = world.new_agent(&world.somebody().unwrap()).unwrap();
        for user in [agent.user(), "root"] {
            world.forge(&Forgery::of(user)).unwrap().add_to(&agent).unwrap();
        }
        let (user, as_root) = (agent.user().to_owned(), format!("root@{server}"));
        host.script("cp /etc/pam.d/sshd /srv/pam && sed -i /pam_ussh/d /etc/pam.d/sshd").unwrap();
        let before = connect(&agent, &["-N", server]);
        let roots = connect(&agent, &[&as_root, "exec sleep 4711"]);
        let both = vec![user.clone(), "root".to_owned()];
        wait_until(SOON, "both to be shown", || users(&host, "unknown") == both).unwrap();

        host.write_file("/etc/ussh/hostd.toml", 0o644, HOSTD).unwrap();
        let daemon = host.command(confined(&["ussh-hostd", "run"])).service("ussh-hostd").unwrap();
        daemon.wait_for_output("Watching ", SOON).unwrap();
        let is_good = || host.run(["ussh-hostd", "check"]).unwrap().status.success();
        assert!(is_good(), "{server}: {}", host.run(["ussh-hostd", "check"]).unwrap());
        let status = host.run(["ussh-hostd", "status"]).unwrap().ok().unwrap().stdout;
        assert!(status.contains("sessions   0, and 2 unknown, without a record\n"), "{server}: {status}");

        // sshd is there, and nobody has logged in.
        let silent = connect_to_port(&agent, server);
        let newer = connect(&agent, &[server, "exec sleep 4712"]);
        wait_until(SOON, "the third to be shown", || users(&host, "unknown").len() == 3).unwrap();
        let checked = host.run(["ussh-hostd", "check"]).unwrap();
        let alarm = "1 connection has no record, although younger than the daemon";
        assert!(checked.status.code() == 1 && checked.stderr.contains(alarm), "{server}: {checked}");
        let status = host.run(["ussh-hostd", "status"]).unwrap();
        assert!(status.status.code() == 1 && status.stdout.contains(alarm), "{server}: {status}");
        let metrics = host.run(["ussh-hostd", "status", "--metrics"]).unwrap().stdout;
        assert!(metrics.contains("ussh_hostd_sessions{state=\"unknown\"} 3\n"), "{server}: {metrics}");

        host.script("cp /srv/pam /etc/pam.d/sshd").unwrap();
        drop((newer, silent));
        let known = connect(&agent, &[server, "exec sleep 4713"]);
        wait_until(SOON, "the known one", || users(&host, "live") == std::slice::from_ref(&user)).unwrap();
        wait_until(SOON, "the alarm to end", is_good).unwrap();
        assert_eq!(users(&host, "unknown"), both, "{server}");
        let printed = host.run(["ussh-hostd", "sessions", "--json"]).unwrap().ok().unwrap().stdout;
        let rows: Vec<Value> = serde_json::from_str(&printed).unwrap();
        for row in rows.iter().filter(|row| row["state"].as_str() == Some("unknown")) {
            let ended = host.run(["ussh-hostd", "end", &row["pid"].to_string()]).unwrap().ok().unwrap().stdout;
            let whose = format!("ended: user {} pid ", row["user"].as_str().unwrap());
            assert!(ended.starts_with(&whose), "{server}: {ended}");
        }
        assert!(users(&host, "unknown").is_empty(), "{server}");
        assert_eq!((before.wait(SOON).unwrap().status.code(), roots.wait(SOON).unwrap().status.code()), (255, 255));
        assert_eq!(users(&host, "live"), [user], "{server}");
        drop(known);
    }
}

/// A connection that says nothing.
fn connect_to_port(agent: &PersonAgent<'_>, server: &str) -> Process {
    let script = format!("exec 3<>/dev/tcp/{server}/22; read line <&3; echo $line; exec sleep 4714");
    let silent = agent.world().host("laptop").spawn_as(agent.user(), ["bash", "-c", &script]).unwrap();
    silent.wait_for_output("SSH-2.0", SOON).unwrap();
    silent
}
