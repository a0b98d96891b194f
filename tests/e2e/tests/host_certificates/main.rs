//! How hosts get their certificates: by a token, by their own keys, over the stock ssh client.
//!
//! One world for all: each test has hosts of its own.
#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod refused;
mod talk;

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use ussh_core::certificate::Certificate;
use ussh_core::enroll::Exchange;
use ussh_e2e::lab::{Host, SSHD_CONFIG};
use ussh_e2e::{Row, World, WorldPlan};

use talk::{Talk, enroll, exchange, host_ca, host_key, names, prepare, private_key, renew, token};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(30);

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let hosts = ["new1", "new2", "new3", "new4", "new5", "new6", "new7", "new8", "twin"];
    let plan = WorldPlan::new("hosts").without_servers();
    hosts.iter().fold(plan, |plan, host| plan.bare(host)).start().unwrap()
});

/// What `usshca host show --json` says.
fn shown(name: &str) -> Value {
    let output = WORLD.usshca(&format!("host show --json {name}")).unwrap().ok().unwrap();
    serde_json::from_str(&output.stdout).unwrap()
}

/// Rows of a host's certificates and refusals, newest first.
fn rows(host: &str) -> Vec<Row> {
    let mut rows = WORLD.inventory().unwrap();
    rows.retain(|row| row.kind == "host" && row.key_id == host);
    rows
}

/// sshd on a host with what it was given.
fn start_sshd(host: &Host, certificates: &[(&str, &Certificate)], user_ca: &str) {
    let mut config = SSHD_CONFIG.to_owned();
    for (key, certificate) in certificates {
        let line = format!("{}\n", certificate.to_openssh(""));
        host.write_file(&format!("{key}-cert.pub"), 0o644, line).unwrap();
        config += &format!("HostKey {key}\nHostCertificate {key}-cert.pub\n");
    }
    host.write_file("/etc/ssh/trusted_user_ca", 0o644, user_ca).unwrap();
    config += "TrustedUserCAKeys /etc/ssh/trusted_user_ca\nPasswordAuthentication no\n";
    host.start_sshd(&config).unwrap();
}

#[test]
fn a_new_host_enrolls_with_a_token_and_people_log_in_with_no_question_about_its_key() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new1");
    host.script("ssh-keygen -q -t ecdsa -N '' -f /etc/ssh/ssh_host_ecdsa_key").unwrap();
    let ecdsa = || private_key(&host, "/etc/ssh/ssh_host_ecdsa_key");
    let granted = enroll(&host, token("new1 new1.example.com"), &[], vec![host_key(&host), ecdsa()]).unwrap();
    assert_eq!((granted.host.as_str(), granted.host_ca.clone()), ("new1", host_ca()));
    let keys = ["/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ecdsa_key"];
    let user_ca: String = granted.user_ca.iter().map(|key| key.to_openssh("") + "\n").collect();
    start_sshd(&host, &keys.into_iter().zip(&granted.certificates).collect::<Vec<_>>(), &user_ca);

    let (code, seen) = WORLD.log_in("alice", "--login").unwrap();
    assert_eq!(code, 0, "{seen}");
    let before = WORLD.sh("laptop", "alice", "cat ~/.ssh/known_hosts 2>/dev/null; true").unwrap().stdout;
    for algorithm in ["ssh-ed25519-cert-v01@openssh.com", "ecdsa-sha2-nistp256-cert-v01@openssh.com"] {
        let script = format!(
            "ssh -v -o BatchMode=yes -o StrictHostKeyChecking=yes -o HostKeyAlgorithms={algorithm} new1 hostname </dev/null"
        );
        let said = WORLD.sh("laptop", "alice", &script).unwrap();
        assert_eq!((said.status.code(), said.stdout.as_str()), (0, "new1\n"), "{said:?}");
        assert!(said.stderr.contains(&format!("Server host certificate: {algorithm}")), "{said:?}");
    }
    let after = WORLD.sh("laptop", "alice", "cat ~/.ssh/known_hosts 2>/dev/null; true").unwrap().stdout;
    assert_eq!(before, after, "a key was learnt");

    let rows = rows("new1");
    assert_eq!(rows.len(), 2);
    let address = host.address().to_string();
    for (row, certificate) in rows.iter().rev().zip(&granted.certificates) {
        assert_eq!((row.serial, row.outcome.as_str()), (certificate.serial(), "delivered"));
        assert_eq!((row.from.as_str(), &row.principals), (address.as_str(), &names(&["new1", "new1.example.com"])));
    }
    let known = shown("new1");
    assert_eq!((known["seen_from"].as_str(), known["keys"].as_array().unwrap().len()), (Some(address.as_str()), 2));
    assert!(known["enrolled_by"].as_str().unwrap().starts_with("token "), "{known}");
    let listed = WORLD.usshca("host list").unwrap().ok().unwrap().stdout;
    assert!(listed.lines().any(|line| line.starts_with("new1 ") && line.contains(&address)), "{listed}");
    assert!(listed.contains("\nca "), "the CA is a host too: {listed}");
}

#[test]
fn a_host_renews_reports_and_takes_the_krl_by_its_own_key() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new2");
    let first = enroll(&host, token("new2 www"), &["www", "new2"], vec![host_key(&host)]).unwrap();
    let again = renew(&host, &["new2", "www"], vec![host_key(&host)]).unwrap();
    let (one, two) = (&first.certificates[0], &again.certificates[0]);
    assert_eq!(one.principals(), two.principals());
    assert!(two.serial() > one.serial() && two.valid_before() >= one.valid_before());
    assert_eq!(rows("new2")[0].outcome, "delivered");
    // One that does not say that it has it.
    let (granted, code) = exchange(&host, Exchange::renew(host_ca(), vec![], vec![host_key(&host)]), false);
    assert_eq!(code, 0);
    let row = rows("new2").remove(0);
    assert_eq!(row.serial, granted.unwrap().certificates[0].serial());
    assert_eq!(row.outcome, "undelivered: the host did not say that it has it");

    let mut report = Exchange::report(vec![host_key(&host)]);
    let talk = Talk::begin(&host, "report");
    talk.say(&report.prove(talk.line(0).as_bytes()).unwrap());
    let reported = report.reported(talk.line(1).as_bytes()).unwrap();
    assert_eq!((reported.host.as_str(), talk.end().code), ("new2", 0));
    assert_eq!(reported.valid_before, shown("new2")["valid_before"].as_u64());

    let gone = WORLD.usshca(&format!("revoke {}", one.serial())).unwrap().ok().unwrap();
    assert!(gone.stdout.contains("revoked serial"), "{gone:?}");
    let mut krl = Exchange::krl(vec![host_key(&host)]);
    let talk = Talk::begin(&host, "krl");
    talk.say(&krl.prove(talk.line(0).as_bytes()).unwrap());
    let krl = krl.received_krl(talk.line(1).as_bytes()).unwrap();
    assert_eq!(talk.end().code, 0);
    host.write_file("/run/krl", 0o644, krl).unwrap();
    for (certificate, revoked) in [(one, true), (two, false)] {
        host.write_file("/run/c.pub", 0o644, certificate.to_openssh("")).unwrap();
        let said = host.run(["ssh-keygen", "-Qf", "/run/krl", "/run/c.pub"]).unwrap();
        assert_eq!(said.stdout.contains("REVOKED"), revoked, "{said:?}");
    }
}

#[test]
fn a_cloned_host_is_noticed_and_shown() {
    let _watch = WORLD.lab().watch();
    let (host, twin) = (prepare("new3"), prepare("twin"));
    enroll(&host, token("new3"), &[], vec![host_key(&host)]).unwrap();
    let report = |from: &Host| {
        let mut report = Exchange::report(vec![host_key(&host)]);
        let talk = Talk::begin(from, "report");
        talk.say(&report.prove(talk.line(0).as_bytes()).unwrap());
        report.reported(talk.line(1).as_bytes()).unwrap();
        assert_eq!(talk.end().code, 0);
    };
    report(&host);
    report(&twin);
    assert!(shown("new3")["cloned"].is_null(), "it may have moved");
    let before = WORLD.log_position("ca");
    report(&host);
    let places = format!("{} and {}", host.address(), twin.address());
    assert_eq!(shown("new3")["cloned_at"].as_str(), Some(places.as_str()));
    let listed = WORLD.usshca("host list").unwrap().ok().unwrap().stdout;
    assert!(listed.contains(&format!("cloned? at {places}")), "{listed}");
    let log = WORLD.logged_since("ca", before).unwrap();
    assert!(log.contains("Host new3 is in two places"), "{log}");
}

#[test]
fn hosts_whose_certificate_ends_soon_are_listed() {
    let _watch = WORLD.lab().watch();
    let key = host_key(&prepare("new4")).public_key().to_openssh("");
    let sign = |validity: &str| {
        let argv = ["usshca", "--dir", ussh_e2e::CA_DIR, "host", "sign", "--name", "new4", "--validity", validity, "-"];
        WORLD.host("ca").command(argv).stdin(format!("{key}\n")).run().unwrap().ok().unwrap();
    };
    let expiring = |within: &str| {
        // 1: there is none.
        let listed = WORLD.usshca(&format!("host list --expiring {within} --csv")).unwrap().stdout;
        assert!(listed.starts_with("name,principals,keys,valid_before,"), "{listed}");
        listed.lines().any(|line| line.starts_with("new4,new4,SHA256:"))
    };
    sign("6d");
    assert!(expiring("7d") && !expiring("5d"));
    let found = shown("new4");
    assert_eq!((found["enrolled_by"].as_str(), found["seen"].as_u64()), (Some("admin uid 0"), None));
    sign("8d");
    assert!(!expiring("7d") && expiring("9d"));
}
