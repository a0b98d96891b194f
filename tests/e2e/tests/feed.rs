//! The feed, from the CA that publishes it to the sshd that goes by it; and a CA whose keys are encrypted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use ussh_e2e::lab::{Output, wait_for, wait_until};
use ussh_e2e::{CA_DIR, FEED, World, WorldPlan};

const SOON: Duration = Duration::from_secs(30);
/// Where the CA publishes.
const PUBLISHED: &str = "/srv/feed";
const PUBLISH: &str = "publish = \"/srv/feed\"\npublish_every_seconds = 600\npublish_valid_seconds = 1200\n";

fn publishing(name: &str) -> World {
    let mut plan = WorldPlan::new(name).without_servers().server("web1");
    plan = plan.person("dana", "secret of dana", &["admins"]);
    let world = plan.start().unwrap();
    let ca = world.host("ca");
    ca.stop_service("usshca").unwrap();
    let config = format!("{CA_DIR}/usshca.toml");
    let text = ca.read_file(&config).unwrap();
    ca.write_file(&config, 0o644, format!("{PUBLISH}{text}")).unwrap();
    world.start_ca().unwrap();
    world
}

/// The version of the published feed, as a host judges it that has pinned the first feed key.
fn version(world: &World) -> Option<u64> {
    let arguments = format!("feed verify {PUBLISHED} --key {CA_DIR}/public/feed_key.pub --json");
    let judged = world.usshca(&arguments).unwrap();
    let (_, rest) = judged.stdout.split_once("\"version\":\"")?;
    rest.split('"').next()?.parse().ok()
}

/// The files of the published feed to the server, and into place there.
fn carry(world: &World) {
    let (ca, web1) = (world.host("ca"), world.host("web1"));
    for name in ["user_ca.pub", "krl"] {
        web1.write_file(&format!("{FEED}/{name}"), 0o644, ca.read_bytes(&format!("{PUBLISHED}/{name}")).unwrap())
            .unwrap();
    }
    web1.run(["ussh-hostd", "sync"]).unwrap().ok().unwrap();
}

fn log_in_at_web1(world: &World, user: &str) -> Output {
    world.sh("laptop", user, "ssh -o BatchMode=yes web1 id -un").unwrap()
}

#[test]
fn what_is_revoked_is_published_at_once_and_sshd_refuses_it() {
    let world = publishing("feed");
    let _watch = world.lab().watch();
    // One at the start.
    let first = wait_for(SOON, "the first feed", || version(&world)).unwrap();
    assert_eq!(world.log_in("dana", "--login").unwrap().0, 0);
    carry(&world);
    assert_eq!(log_in_at_web1(&world, "dana").ok().unwrap().stdout, "dana\n");

    let serial = world.certificates("dana").unwrap()[0].serial;
    let said = world.usshca(&format!("revoke {serial}")).unwrap().ok().unwrap();
    assert!(said.stdout.contains("revoked serial"), "{said}");
    // The next one would be due in ten minutes.
    let second = wait_for(SOON, "the next feed", || version(&world).filter(|version| *version > first)).unwrap();
    assert!(second > first);
    let position = world.log_position("web1");
    carry(&world);
    let refused = log_in_at_web1(&world, "dana");
    assert_eq!(refused.status.code(), 255, "{refused}");
    let log = world.logged_since("web1", position).unwrap();
    assert!(log.contains("revoked by file /etc/ssh/revoked_keys"), "{log}");

    // A signer that is killed loses no version; undone, it is published at once too.
    world.host("ca").script("kill -KILL $(pidof usshca-signer)").unwrap();
    let acts = world.usshca("revocations --json").unwrap().ok().unwrap().stdout;
    assert_eq!(acts.lines().count(), 1, "{acts}");
    world.usshca("revoke --undo 1").unwrap().ok().unwrap();
    wait_until(SOON, "the feed after the undoing", || version(&world).is_some_and(|version| version > second)).unwrap();
    carry(&world);
    assert_eq!(log_in_at_web1(&world, "dana").ok().unwrap().stdout, "dana\n");
}

#[test]
fn the_feed_comes_over_stock_ssh_and_only_administrators_publish() {
    let world = publishing("feed-ssh");
    let _watch = world.lab().watch();
    wait_until(SOON, "the first feed", || version(&world).is_some()).unwrap();
    let fetch = "ssh -a ca feed > ~/feed";
    let fetched = world.unattended("dana", world.password("dana"), fetch).unwrap().wait(SOON).unwrap();
    assert!(fetched.status.success(), "{fetched}");
    let (ca, laptop) = (world.host("ca"), world.host("laptop"));
    let feed = laptop.read_bytes("/home/dana/feed").unwrap();
    ca.write_file("/srv/fetched", 0o644, &feed).unwrap();
    let key = format!("{CA_DIR}/public/feed_key.pub");
    let judged = world.usshca(&format!("feed verify /srv/fetched --key {key}")).unwrap().ok().unwrap();
    assert!(judged.stdout.contains("good, version"), "{judged}");
    // On a terminal too it is what it is: no byte of it becomes another.
    let (code, _) = {
        let terminal = world.terminal("laptop", "dana", "stty raw; ssh -tt -a ca feed > ~/on-a-terminal").unwrap();
        terminal.expect("assword:", SOON).unwrap();
        terminal.send(&format!("{}\r", world.password("dana"))).unwrap();
        (terminal.expect_exit(SOON).unwrap().code(), terminal.expect_close(SOON).unwrap())
    };
    assert_eq!(code, 0);
    let judged = laptop.read_bytes("/home/dana/on-a-terminal").unwrap();
    assert!(judged.starts_with(b"USSH-FEED-1\n"), "{judged:?}");

    // dana may read the feed, and not make one.
    let before = version(&world);
    for verb in ["publish /home/dana/published", "feed key rotate", "feed key show"] {
        let script = format!("PATH=$PATH:/usr/sbin:/usr/local/sbin exec usshca --dir {CA_DIR} {verb}");
        let said = ca.command(["sh", "-c", &script]).user("dana").run().unwrap();
        let why = "this is for root, or for the account that runs the CA";
        assert!(said.status.code() == 1 && said.stderr.contains(why), "{said}");
    }
    assert_eq!(version(&world), before);
    // Somebody who has the user CA's key, and not the feed key, makes no feed.
    world.usshca(&format!("publish {PUBLISHED} --unsigned")).unwrap().ok().unwrap();
    let forged = world.usshca(&format!("feed sign {PUBLISHED} --key {CA_DIR}/state/user_ca")).unwrap();
    assert!(forged.status.code() == 1 && forged.stderr.contains("user_ca is another one"), "{forged}");
    assert_eq!(version(&world), before);
}

#[test]
fn a_ca_with_encrypted_keys_asks_at_its_start_and_never_again() {
    let world = WorldPlan::new("feed-keys").without_servers().start().unwrap();
    let _watch = world.lab().watch();
    let ca = world.host("ca");
    ca.stop_service("usshca").unwrap();
    ca.script(&format!("for k in user_ca host_ca feed_key; do ssh-keygen -q -p -P '' -N 'open sesame' -f {CA_DIR}/state/$k; chown usshca: {CA_DIR}/state/$k; done")).unwrap();

    // Nobody to ask.
    let alone = ca.command(["setsid", "-w", "usshca", "--dir", CA_DIR, "serve"]).run().unwrap();
    assert_eq!(alone.status.code(), 78, "{alone}");
    assert!(alone.stderr.contains("user_ca is encrypted, and there is no passphrase"), "{alone}");
    // Somebody who does not know it.
    let terminal = ca.command(["usshca", "--dir", CA_DIR, "serve"]).terminal().unwrap();
    for _ in 0..3 {
        terminal.expect("Passphrase of the CA's keys (user_ca): ", SOON).unwrap();
        terminal.send("close sesame\n").unwrap();
    }
    let status = terminal.expect_exit(SOON).unwrap();
    terminal.expect_close(SOON).unwrap();
    assert_eq!(status.code(), 78, "{}", terminal.transcript());
    assert!(terminal.transcript().contains("wrong passphrase"), "{}", terminal.transcript());
    assert!(!terminal.transcript().contains("sesame"), "it is not echoed: {}", terminal.transcript());

    // Somebody who presses Ctrl-C; stty names what is not as usual.
    let script = format!("trap : INT; usshca --dir {CA_DIR} serve; echo it was $?; stty; echo done");
    let terminal = ca.command(["sh", "-c", &script]).terminal().unwrap();
    terminal.expect("Passphrase of the CA's keys (user_ca): ", SOON).unwrap();
    terminal.send("open\x03").unwrap();
    let seen = terminal.expect("done", SOON).unwrap();
    assert!(seen.contains("it was 130\nspeed ") && !seen.contains("-echo"), "{seen}");

    let terminal = ca.command(["usshca", "--dir", CA_DIR, "serve"]).terminal().unwrap();
    terminal.expect("Passphrase of the CA's keys (user_ca): ", SOON).unwrap();
    terminal.send("open sesame\n").unwrap();
    terminal.expect("listening on", SOON).unwrap();
    assert_eq!(world.log_in("alice", "--login").unwrap().0, 0);
    // A signer that is started again gets it from the supervisor; nobody is asked.
    ca.script("kill -KILL $(pidof usshca-signer)").unwrap();
    terminal.expect("signer: up again", SOON).unwrap();
    assert_eq!(world.log_in("bob", "--login").unwrap().0, 0);
    assert_eq!(terminal.transcript().matches("Passphrase").count(), 1);
    let signer = "/proc/$(pidof usshca-signer)";
    let seen = ca.script(&format!("grep VmLck {signer}/status; grep 'core file' {signer}/limits")).unwrap().stdout;
    assert!(!seen.contains(" 0 kB") && seen.contains("Max core file size        0                    0"), "{seen}");
    terminal.signal(ussh_e2e::lab::Signal::SIGTERM).unwrap();
    assert_eq!(terminal.expect_exit(SOON).unwrap().code(), 0);
}

#[test]
fn with_the_feed_key_elsewhere_the_ca_publishes_drafts_and_its_log_stays_json() {
    let world = WorldPlan::new("feed-away").without_servers().start().unwrap();
    let _watch = world.lab().watch();
    let ca = world.host("ca");
    ca.stop_service("usshca").unwrap();
    ca.script(&format!("ssh-keygen -q -t ed25519 -N '' -f /root/feed; mkdir -m 777 {PUBLISHED}")).unwrap();
    world.usshca("feed key rotate --to /root/feed.pub").unwrap().ok().unwrap();
    let config = format!("{CA_DIR}/usshca.toml");
    let text = ca.read_file(&config).unwrap();
    ca.write_file(&config, 0o644, format!("log_format = \"json\"\n{PUBLISH}{text}")).unwrap();
    world.start_ca().unwrap();
    let log = || ca.service("usshca").unwrap().stderr();
    // A folder to which others may write: it says so, and what to do.
    wait_until(SOON, "the failure in the log", || {
        log().contains("not published to /srv/feed: /srv/feed: others may write to it")
    })
    .unwrap();
    let status = || world.usshca("status").unwrap();
    assert!(status().stdout.contains("feed: not published to /srv/feed"), "{}", status());
    ca.script(&format!("chmod go-w {PUBLISHED}")).unwrap();
    // The next one is due a minute after a failure, or after a revocation.
    assert_eq!(world.log_in("alice", "--login").unwrap().0, 0);
    let serial = world.certificates("alice").unwrap()[0].serial;
    world.usshca(&format!("revoke {serial}")).unwrap().ok().unwrap();
    wait_until(SOON, "the draft", || ca.exists(&format!("{PUBLISHED}/feed.unsigned"))).unwrap();
    wait_until(SOON, "the log to say so", || log().contains("feed.unsigned: version ")).unwrap();
    assert!(!status().stdout.contains("not published") && status().status.code() == 0, "{}", status());
    assert!(!ca.exists(&format!("{PUBLISHED}/feed")));
    let lines = log();
    let plain: Vec<&str> = lines.lines().filter(|line| !line.starts_with('{') || !line.ends_with('}')).collect();
    assert!(plain.is_empty() && lines.lines().count() > 3, "{plain:?}");
    world.usshca(&format!("feed sign {PUBLISHED} --key /root/feed")).unwrap().ok().unwrap();
    assert!(ca.exists(&format!("{PUBLISHED}/feed")) && !ca.exists(&format!("{PUBLISHED}/feed.unsigned")));
    // Whoever asks for it over SSH is told where it is.
    let asked = world.unattended("alice", world.password("alice"), "ssh -a ca feed").unwrap().wait(SOON).unwrap();
    assert!(asked.stderr.contains("Take it from where it is published"), "{asked}");
}
