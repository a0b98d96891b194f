//! Who runs as whom on the CA's host during a login, as the kernel says, and as docs/privsep.md says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ussh_e2e::lab::{Pty, wait_until};
use ussh_e2e::{CA_DIR, World, WorldPlan};

const SOON: Duration = Duration::from_secs(30);

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let world = WorldPlan::new("privsep").without_servers().start().unwrap();
    // The signer opens its way to the log when it first has something to say.
    let (code, seen) = world.log_in("alice", "--login").unwrap();
    assert_eq!(code, 0, "{seen}");
    world
});
/// One test at a time holds people at the prompt, so that the processes can be counted.
static PROMPTS: Mutex<()> = Mutex::new(());

/// alice and bob, both asked for their password.
struct AtThePrompt {
    alice: Pty,
    bob: Pty,
    _alone: MutexGuard<'static, ()>,
}

fn at_the_prompt() -> AtThePrompt {
    let alone = PROMPTS.lock().unwrap_or_else(PoisonError::into_inner);
    wait_until(SOON, "no front", || of("usshca-front").is_empty() && of("usshca-pam").is_empty()).unwrap();
    let [alice, bob] = ["alice", "bob"].map(|user| {
        let terminal = WORLD.terminal("laptop", user, "ssh -A ca").unwrap();
        terminal.expect("assword:", SOON).unwrap();
        terminal
    });
    AtThePrompt { alice, bob, _alone: alone }
}

/// Processes on the CA's host with just this name.
fn of(name: &str) -> Vec<i32> {
    let processes = WORLD.processes("ca", name).unwrap();
    processes.into_iter().filter(|(_, other)| other == name).map(|(pid, _)| pid).collect()
}

fn shell(script: &str) -> String {
    WORLD.host("ca").script(script).unwrap().stdout
}

/// What /proc/PID/status says.
fn status(pid: impl std::fmt::Display) -> BTreeMap<String, String> {
    let text = shell(&format!("cat /proc/{pid}/status"));
    let field = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    text.lines().filter_map(field).collect()
}

/// The rows of docs/privsep.md on the CA's processes: process → column → words.
fn documented() -> BTreeMap<String, BTreeMap<String, String>> {
    let text = include_str!("../../../docs/privsep.md");
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.replace('`', "").trim().to_owned()).collect()
    };
    let mut table = text.lines().skip_while(|line| !line.starts_with("| process | how many |"));
    let columns = cells(table.next().expect("docs/privsep.md has no table of the CA's processes"));
    let rows = table.skip(1).take_while(|line| line.starts_with('|')).map(cells);
    rows.map(|row| {
        let name = row[0].split_whitespace().next().unwrap().to_owned();
        (name, columns.iter().cloned().zip(row).collect())
    })
    .collect()
}

const CAPABILITIES: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
const NONE: &str = "0000000000000000";

#[test]
fn processes_are_as_many_and_run_as_the_document_says() {
    let _watch = WORLD.lab().watch();
    let _people = at_the_prompt();
    let documented = documented();
    assert_eq!(documented.len(), 4, "{documented:?}");
    // Any command of root's on that host.
    let host = status("self");
    for (name, says) in &documented {
        let processes = of(name);
        let expected = match says["how many"].as_str() {
            "one" => 1,
            "one per connection" | "one per attempt" => 2,
            other => panic!("{name}: how many is {other}?"),
        };
        assert_eq!(processes.len(), expected, "{name}");
        let uid = shell(&format!("id -u {}", says["uid"])).trim().to_owned();
        for pid in processes {
            let status = status(pid);
            for (field, id) in [("Uid", &uid), ("Gid", &shell(&format!("id -g {}", says["uid"])).trim().to_owned())] {
                let ids: BTreeSet<&str> = status[field].split_whitespace().collect();
                assert_eq!(ids, BTreeSet::from([id.as_str()]), "{name}: {field}");
            }
            match says["capabilities"].as_str() {
                "none" => {
                    let all = CAPABILITIES.map(|set| (set, status[set].as_str()));
                    assert_eq!(all, CAPABILITIES.map(|set| (set, NONE)), "{name}");
                    assert_eq!(status["Groups"], "", "{name}");
                }
                "all" => assert_eq!(status["CapEff"], host["CapEff"], "{name}"),
                other => panic!("{name}: capabilities are {other}?"),
            }
            match says["NoNewPrivs"].as_str() {
                "yes" => assert_eq!(status["NoNewPrivs"], "1", "{name}"),
                "no" => assert_eq!(status["NoNewPrivs"], host["NoNewPrivs"], "{name}"),
                other => panic!("{name}: NoNewPrivs is {other}?"),
            }
            match says["seccomp"].as_str() {
                "filter" => assert_eq!(status["Seccomp"], "2", "{name}"),
                "no" => assert_eq!(status["Seccomp"], host["Seccomp"], "{name}"),
                other => panic!("{name}: seccomp is {other}?"),
            }
            let own_network = shell(&format!("readlink /proc/{pid}/ns/net")) != shell("readlink /proc/1/ns/net");
            assert_eq!(own_network, says["network"].contains("an empty network namespace"), "{name}");
        }
    }
}

#[test]
fn the_document_and_the_must_show_name_the_same_privileges() {
    let documented = documented();
    for (name, uid, capabilities) in [
        ("usshca", "root", "all"),
        ("usshca-front", "usshca-front", "none"),
        ("usshca-pam", "root", "all"),
        ("usshca-signer", "usshca", "none"),
    ] {
        let says = &documented[name];
        assert_eq!((says["uid"].as_str(), says["capabilities"].as_str()), (uid, capabilities), "{name}");
        let confined = if capabilities == "none" { ("yes", "filter") } else { ("no", "no") };
        assert_eq!((says["NoNewPrivs"].as_str(), says["seccomp"].as_str()), confined, "{name}");
    }
}

/// Inodes of the sockets that a process holds.
fn sockets(pid: i32) -> BTreeSet<String> {
    let links = shell(&format!("for fd in /proc/{pid}/fd/*; do readlink $fd; done"));
    let inode = |line: &str| Some(line.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    links.lines().filter_map(inode).collect()
}

/// Inodes of the internet sockets that exist where a process is, in state `state` (tcp_states.h, two hex digits), or in any.
fn internet_sockets(pid: i32, state: Option<&str>) -> BTreeSet<String> {
    let tables = shell(&format!(
        "cd /proc/{pid}/net; for t in tcp tcp6 udp udp6 udplite udplite6 raw raw6; do tail -qn +2 $t; done 2>/dev/null; true"
    ));
    let inode = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let wanted = state.is_none_or(|state| words[3] == state);
        wanted.then(|| words[9].to_owned())
    };
    tables.lines().filter_map(inode).collect()
}

fn unix_sockets() -> BTreeSet<String> {
    shell("tail -n +2 /proc/net/unix").lines().map(|line| line.split_whitespace().nth(6).unwrap().to_owned()).collect()
}

#[test]
fn the_signer_has_no_network_and_no_internet_socket() {
    let _watch = WORLD.lab().watch();
    let _people = at_the_prompt();
    let signer = of("usshca-signer")[0];
    let links = shell(&format!("nsenter -t {signer} -n ip -o link"));
    assert_eq!(links.lines().count(), 1, "{links}");
    assert!(links.contains(": lo: <LOOPBACK> ") && links.contains("state DOWN"), "{links}");
    assert_eq!(internet_sockets(signer, None), BTreeSet::new());

    // Control, admins, the way to the log, and for each of two connections a front and a worker, which it is told of one after the other.
    let all = wait_until(SOON, "all sockets of the signer", || sockets(signer).len() == 7);
    let held = sockets(signer);
    assert!(all.is_ok(), "{held:?}");
    // The way to the log was made where the signer is, the others by the supervisor.
    let own = shell(&format!("tail -n +2 /proc/{signer}/net/unix"));
    let own: BTreeSet<String> = own.lines().map(|line| line.split_whitespace().nth(6).unwrap().to_owned()).collect();
    let others = &(&held - &unix_sockets()) - &own;
    assert!(others.is_empty(), "sockets that are not of the Unix family: {others:?}");
    assert_eq!(held.intersection(&internet_sockets(1, None)).count(), 0);
}

#[test]
fn a_front_holds_its_own_connection_and_its_own_channels_and_no_file() {
    const ESTABLISHED: &str = "01";
    let _watch = WORLD.lab().watch();
    let _people = at_the_prompt();
    let fronts = of("usshca-front");
    let [one, other] = [sockets(fronts[0]), sockets(fronts[1])];
    assert_eq!(one.intersection(&other).count(), 0, "two fronts share a socket");
    let (all, established) = (internet_sockets(1, None), internet_sockets(1, Some(ESTABLISHED)));
    for (front, held) in fronts.iter().zip([&one, &other]) {
        // To the supervisor, to the signer, to the worker; and the connection.
        assert_eq!(held.len(), 4, "{held:?}");
        assert_eq!(held.intersection(&all).count(), 1);
        assert_eq!(held.intersection(&established).count(), 1);
        assert_eq!(held.intersection(&unix_sockets()).count(), 3);
        let files = shell(&format!("for fd in /proc/{front}/fd/*; do readlink $fd; done"));
        let files: Vec<&str> = files.lines().filter(|l| l.starts_with('/') && *l != "/dev/null").collect();
        assert!(files.is_empty(), "{files:?}");
        assert!(!held.contains(&admin_socket()), "a front holds the admin socket");
    }
}

/// Inode of the listening admin socket.
fn admin_socket() -> String {
    let sockets = shell("cat /proc/net/unix");
    let line = sockets.lines().find(|l| l.ends_with(&format!("{CA_DIR}/admin.sock")) && l.contains(" 00010000 "));
    line.unwrap().split_whitespace().nth(6).unwrap().to_owned()
}

#[test]
fn the_uid_of_the_fronts_reaches_no_key_no_inventory_no_admin_socket_and_no_process() {
    let _watch = WORLD.lab().watch();
    let _people = at_the_prompt();
    let ca = WORLD.host("ca");
    let as_front = |script: &str| ca.command(["bash", "-c", script]).user("usshca-front").cwd("/").run().unwrap();
    let secret = ["state/user_ca", "state/host_ca", "state/inventory.db", "ssh_host_ed25519_key"];
    for file in secret {
        assert!(ca.exists(&format!("{CA_DIR}/{file}")), "{file}");
        let refused = as_front(&format!("cat {CA_DIR}/{file}")).refused().unwrap();
        assert!(refused.stderr.contains("Permission denied"), "{refused}");
    }
    let refused = as_front(&format!("usshca --dir {CA_DIR} list")).refused().unwrap();
    assert!(!refused.stdout.contains("ssh-"), "{refused}");
    // Its own kind too: a front cannot be looked into by another one.
    for name in ["usshca", "usshca-front", "usshca-pam", "usshca-signer"] {
        for pid in of(name) {
            let refused = as_front(&format!("ls /proc/{pid}/fd/")).refused().unwrap();
            assert!(refused.stderr.contains("Permission denied"), "{refused}");
            as_front(&format!("head -c 1 /proc/{pid}/environ")).refused().unwrap();
        }
    }
    // The signer's uid has its state, and not the key of the CA's SSH server.
    let as_signer = |script: &str| ca.command(["bash", "-c", script]).user("usshca").cwd("/").run().unwrap();
    as_signer(&format!("cat {CA_DIR}/state/user_ca")).ok().unwrap();
    as_signer(&format!("cat {CA_DIR}/ssh_host_ed25519_key")).refused().unwrap();
}

#[test]
fn who_was_held_at_the_prompt_still_gets_a_certificate() {
    let _watch = WORLD.lab().watch();
    let people = at_the_prompt();
    for (user, terminal) in [("alice", &people.alice), ("bob", &people.bob)] {
        terminal.send(&format!("{}\n", WORLD.password(user))).unwrap();
        assert!(terminal.expect_exit(SOON).unwrap().success(), "{}", terminal.transcript());
        assert_eq!(WORLD.certificates(user).unwrap().len(), 1);
    }
}
