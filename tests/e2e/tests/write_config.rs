//! `ussh --write-config` with the ssh of Debian 13 (OpenSSH 10.0): other hosts mean the same before and after, and the file comes back byte for byte. (With Debian 12's: ussh-wrapper's own tests, on the same files.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use ussh_e2e::lab::trixie_root;
use ussh_e2e::{World, WorldPlan};

/// Name and text. `~/.ssh/included` is another file.
const FILES: [(&str, &str); 12] = [
    (
        "plain hosts",
        "Host bastion\n    HostName 203.0.113.7\n    User admin\n    Port 2222\n\nHost db\n    HostName db.internal\n    ProxyJump bastion\n",
    ),
    (
        "everything in Host *",
        "# mine\nHost *\n  ServerAliveInterval 60\n  ForwardAgent no\n  ControlMaster auto\n  ControlPath ~/.ssh/cm-%C\n  IdentitiesOnly yes\n",
    ),
    ("global lines only", "Compression yes\nUser alice\nAddKeysToAgent yes\n"),
    ("an Include first", "Include included\n\nHost db\n  User postgres\n"),
    ("an Include inside of a Host", "Host db\n  Include included\n  User postgres\n"),
    (
        "Match",
        "Match host db exec \"true\"\n  User m\nMatch user root host bastion\n  Port 1\nMatch final host other\n  User late\n",
    ),
    (
        "what OpenSSH 10 brought",
        "Match version OpenSSH_10*\n  User ten\nMatch sessiontype none\n  Port 7\nMatch tagged t command \"\"\n  Port 8\nHost db\n  ObscureKeystrokeTiming no\n  User ${HOME}\n",
    ),
    ("tabs and equals signs", "Host\tdb\tbastion\n\tUser=\tx\n\tPort = 2200\n\tSendEnv\tLANG LC_*\n"),
    ("CRLF", "Host db\r\n  User crlf\r\n  Port 2201\r\n"),
    ("no final newline", "Host db\n  User last"),
    ("canonical names", "CanonicalizeHostname yes\nCanonicalDomains internal\nHost *.internal\n  User canon\n"),
    ("empty", ""),
];

const HOSTS: [&str; 6] = ["db", "bastion", "other", "db.internal", "root@bastion", "not.example.com"];

/// What ssh makes of a host.
fn read(world: &World, user: &str, host: &str) -> String {
    world.sh("laptop", user, &format!("cd; ssh -G {host} 2>&1")).unwrap().stdout
}

#[test]
fn openssh_10_reads_the_same_for_other_hosts_and_the_file_comes_back() {
    let plan = WorldPlan::new("write10").without_servers().laptop_on(trixie_root().unwrap());
    let world = plan.people(FILES.len(), "admins").start().unwrap();
    let _watch = world.lab().watch();
    let laptop = world.host("laptop");
    assert!(world.sh("laptop", "alice", "ssh -V").unwrap().stderr.starts_with("OpenSSH_10."));
    for (name, text) in FILES {
        let user = world.somebody().unwrap();
        let (file, included) = (format!("/home/{user}/.ssh/config"), format!("/home/{user}/.ssh/included"));
        world.sh("laptop", &user, "mkdir -m 700 ~/.ssh").unwrap().ok().unwrap();
        let without = read(&world, &user, "db");
        laptop.write_file_as(&user, &included, 0o600, "Host db\n  Port 4242\n").unwrap();
        laptop.write_file_as(&user, &file, 0o600, text).unwrap();
        let before = HOSTS.map(|host| read(&world, &user, host));
        assert_eq!(before[0] == without, name == "empty", "the file has a say: {name}: {}", before[0]);
        let hosts = "--hosts 'web1,*.example.com,!not.example.com'";
        let written = world.sh("laptop", &user, &format!("ussh --write-config {hosts}")).unwrap().ok().unwrap();
        assert_eq!(written.stdout.lines().count(), 3, "{name}");
        assert_eq!(HOSTS.map(|host| read(&world, &user, host)), before, "{name}");
        for ours in ["web1", "a.example.com"] {
            let read = read(&world, &user, ours);
            for line in ["\nproxyusefdpass yes\n", "/ussh --proxy %h %p\n", "/.local/state/ussh/agent."] {
                assert!(read.contains(line), "{name}: {ours}: {line}: {read}");
            }
        }
        world.sh("laptop", &user, "ussh --remove-config").unwrap().ok().unwrap();
        assert_eq!(laptop.read_file(&file).unwrap(), text, "{name}");
        assert_eq!(HOSTS.map(|host| read(&world, &user, host)), before, "{name}");
    }
}
