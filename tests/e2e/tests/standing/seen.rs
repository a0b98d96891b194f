//! What administrators see: log, metrics, status.

use serde_json::Value;
use ussh_e2e::lab::wait_until;
use ussh_e2e::{CA_DIR, World};

use super::{SOON, assert_login_works, listen_on, log_in, serve_with, signal, status, stop_ca, world};

const SCRAPE: &str = "exec 3<>/dev/tcp/127.0.0.1/9122; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";

fn daemon_log(world: &World) -> String {
    world.host("ca").service("usshca").unwrap().stderr()
}

#[test]
fn as_json_every_line_is_an_object_and_those_of_a_decision_hold_what_it_is_about() {
    let world = world("json", "log_format = \"json\"\n");
    let _watch = world.lab().watch();
    assert_login_works(&world, "alice");
    assert_ne!(log_in(&world, "bob", "wrong", "").0, 0);
    let objects = || -> Vec<Value> {
        let log = daemon_log(&world);
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    };
    let of = |all: &[Value], event: &str| all.iter().find(|o| o["event"] == event).cloned().unwrap_or_default();
    wait_until(SOON, "bob's refusal", || daemon_log(&world).contains("Failed keyboard-interactive")).unwrap();
    let all = objects();
    let issued = of(&all, "issued");
    let serial = world.certificates("alice").unwrap()[0].serial.to_string();
    assert_eq!((issued["serial"].as_str(), issued["key_id"].as_str()), (Some(&*serial), Some("alice")), "{issued}");
    assert_eq!(issued["process"], "usshca-signer");
    assert!(issued["message"].as_str().unwrap().starts_with("Issued certificate ID \"alice\""), "{issued}");
    assert_eq!(of(&all, "connection")["connection"], "1");
    let attempt = all
        .iter()
        .find(|o| o["message"].as_str().unwrap().contains("Failed keyboard-interactive/pam for bob"))
        .unwrap();
    assert_eq!((attempt["event"].as_str(), attempt["connection"].as_str()), (Some("attempt"), Some("2")), "{attempt}");
}

#[test]
fn the_journal_gets_fields_of_its_own_and_stderr_nothing() {
    let world = world("journal", "");
    let _watch = world.lab().watch();
    stop_ca(&world);
    let ca = world.host("ca");
    ca.script(&format!("sed -i '1i log_format = \"journald\"' {CA_DIR}/usshca.toml; mkdir -p /run/systemd/journal"))
        .unwrap();
    let journal = listen_on(&world, "/run/systemd/journal/socket");
    serve_with(&world, &[]);
    journal.wait_for_output("MESSAGE=listening on", SOON).unwrap();
    assert_login_works(&world, "alice");
    journal.wait_for_output("USSHCA_EVENT=issued", SOON).unwrap();
    let said = journal.stdout();
    let serial = world.certificates("alice").unwrap()[0].serial;
    for field in [
        &*format!("USSHCA_SERIAL={serial}"),
        "USSHCA_KEY_ID=alice",
        "SYSLOG_IDENTIFIER=usshca-signer",
        "USSHCA_CONNECTION=1",
        "PRIORITY=6",
    ] {
        assert!(said.lines().any(|line| line == field), "{field}: {said}");
    }
    assert_eq!(daemon_log(&world), "");
}

#[test]
fn metrics_count_what_happened_and_name_nobody_and_a_scraper_that_hangs_holds_nobody_up() {
    let world = world("metrics", "metrics = \"127.0.0.1:9122\"\n");
    let _watch = world.lab().watch();
    let ca = world.host("ca");
    let hangs = "for i in $(seq 20); do exec {fd}<>/dev/tcp/127.0.0.1/9122; printf 'GET /met' >&$fd; done; echo hanging; sleep 1000";
    let hanging = ca.spawn_as("root", ["bash", "-c", hangs]).unwrap();
    hanging.wait_for_output("hanging", SOON).unwrap();
    assert_login_works(&world, "alice");
    assert_ne!(log_in(&world, "bob", "wrong", "").0, 0);
    let scrape = || ca.script(SCRAPE).unwrap().stdout;
    // The signer is asked every five seconds.
    let issued = "usshca_certificates_issued_total{kind=\"user\"} 1\n";
    wait_until(SOON, "the signer's count", || scrape().contains(issued)).unwrap();
    let page = scrape();
    for line in [
        "usshca_connections_accepted_total 2",
        "usshca_attempt_outcomes_total{outcome=\"passed\"} 1",
        "usshca_attempt_outcomes_total{outcome=\"refused\"} 1",
        "usshca_signer_up 1",
        "usshca_connections 0",
    ] {
        assert!(page.lines().any(|l| l == line), "{line}: {page}");
    }
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && !page.contains("alice") && !page.contains("bob"), "{page}");
    drop(hanging);
}

#[test]
fn the_status_says_how_it_is_to_people_and_to_monitoring() {
    let world = world("status", "");
    let _watch = world.lab().watch();
    assert_login_works(&world, "alice");
    wait_until(SOON, "the signer's count", || status(&world)["certificates_issued_user"] == 1).unwrap();
    let good = world.usshca("status").unwrap().ok().unwrap();
    for line in [
        "listening on     0.0.0.0:22",
        "certificates     1 for users, 0 for hosts, 0 refused",
        "last error       none that stands",
    ] {
        assert!(good.stdout.lines().any(|l| l == line), "{line}: {good}");
    }
    // Of no concern to others.
    let bob =
        world.host("ca").run_as("bob", ["sh", "-c", &format!("exec /usr/sbin/usshca --dir {CA_DIR} status")]).unwrap();
    assert!(!bob.success() && bob.stdout.is_empty(), "{bob}");

    let ca = world.host("ca");
    ca.script(&format!("mv {CA_DIR}/state/user_ca {CA_DIR}/state/away")).unwrap();
    let signer = *world.processes("ca", "usshca-signer").unwrap().keys().next().unwrap();
    ca.script(&format!("kill -KILL {signer}")).unwrap();
    wait_until(SOON, "the signer to be down", || daemon_log(&world).contains("signer: cannot serve")).unwrap();
    let down = world.usshca("status").unwrap().refused().unwrap();
    assert_eq!(down.status.code(), 1);
    assert!(down.stderr.contains("its signer is not up") && down.stdout.contains("signer           "), "{down}");
    ca.script(&format!("mv {CA_DIR}/state/away {CA_DIR}/state/user_ca")).unwrap();
    wait_until(SOON, "the signer to be up", || status(&world)["signer"] == "up").unwrap();
    assert_eq!(status(&world)["certificates_issued_user"], 1, "counted over its end");

    signal(&world, "-TERM");
    stop_ca(&world);
    let gone = world.usshca("status").unwrap().refused().unwrap();
    assert_eq!(gone.status.code(), 69);
    assert!(gone.stderr.contains("the CA does not run; try: usshca --dir /var/lib/ca serve"), "{gone}");
}
