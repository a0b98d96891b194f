//! What hosts, and those who would be hosts, are refused.

use ussh_core::clock::{Clock, SystemClock};
use ussh_core::enroll::{Exchange, ExchangeError, HostToken};
use ussh_core::keys::PrivateKey;
use ussh_e2e::lab::wait_until;

use super::talk::{Talk, assert_refused, enroll, host_ca, host_key, prepare, renew, token};
use super::{SOON, WORLD, rows};

fn stranger() -> PrivateKey {
    PrivateKey::generate_ed25519().unwrap()
}

fn same(token: &HostToken) -> HostToken {
    HostToken::parse(&token.to_text()).unwrap()
}

#[test]
fn tokens_that_are_used_expired_revoked_unknown_or_for_other_names_give_nothing() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new5");
    let good = token("new5");
    for other in [&["new6"][..], &["new5", "new6"]] {
        let refused = enroll(&host, same(&good), other, vec![host_key(&host)]);
        assert_refused(refused, "This token is for other names: new5. Ask the people who run the CA for a new token");
    }
    let unknown = HostToken::generate(&host_ca()).unwrap();
    assert_refused(enroll(&host, unknown, &[], vec![host_key(&host)]), "The CA does not know this token.");
    let short = token("new5 --for 1s");
    wait_until(SOON, "the token's end", || {
        let listed = WORLD.usshca("host tokens --json").unwrap().ok().unwrap().stdout;
        listed.lines().filter(|line| line.contains("\"new5\"")).count() == 1
    })
    .unwrap();
    assert_refused(enroll(&host, short, &[], vec![host_key(&host)]), "This token expired ");
    let made = WORLD.usshca("host token new5 --json").unwrap().ok().unwrap().stdout;
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let revoked = HostToken::parse(made["token"].as_str().unwrap()).unwrap();
    WORLD.usshca(&format!("host token --revoke {}", made["id"])).unwrap().ok().unwrap();
    assert_refused(enroll(&host, revoked, &[], vec![host_key(&host)]), "This token was revoked.");
    assert!(rows("new5").iter().all(|row| row.serial == 0 && row.outcome.starts_with("refused: This token ")));
    assert_eq!(rows("new5").len(), 4);
    assert_eq!(WORLD.usshca("host show new5").unwrap().status.code(), 1);

    enroll(&host, same(&good), &["new5"], vec![host_key(&host)]).unwrap();
    let before = WORLD.log_position("ca");
    assert_refused(enroll(&host, good, &["new5"], vec![stranger()]), "This token was used before, ");
    let log = WORLD.logged_since("ca", before).unwrap();
    assert!(log.contains("Refusing a certificate to \"new5\" from ") && log.contains(": This token was used"), "{log}");
    assert_eq!(rows("new5").iter().filter(|row| row.serial != 0).count(), 1);
}

#[test]
fn other_keys_more_names_and_a_removed_host_are_not_renewed() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new6");
    enroll(&host, token("new6"), &[], vec![host_key(&host)]).unwrap();
    assert_refused(renew(&host, &[], vec![stranger()]), "The CA knows no host with the key SHA256:");
    let beside = renew(&host, &[], vec![host_key(&host), stranger()]);
    assert_refused(beside, "is none of the host new6's. Ask the people who run the CA for a new token");
    for more in [&["new6", "ca"][..], &["ca"], &["*"]] {
        assert_refused(
            renew(&host, more, vec![host_key(&host)]),
            "A host is renewed for the names that it has: new6. ",
        );
    }
    // An image of this machine, set up under another name.
    let copied = enroll(&host, token("new6b"), &[], vec![host_key(&host)]);
    assert_refused(copied, "belongs to the host new6. Each host has keys of its own: make new ones here");
    assert_eq!(rows("new6").iter().filter(|row| row.serial != 0).count(), 1);

    let good = renew(&host, &[], vec![host_key(&host)]).unwrap();
    let removed = WORLD.usshca("host remove new6 --reason scrapped").unwrap().ok().unwrap().stdout;
    assert!(removed.contains("removed host new6: 2 certificates revoked") && removed.contains(" krl "), "{removed}");
    assert_refused(renew(&host, &[], vec![host_key(&host)]), "The host new6 was removed from the CA.");
    let mut report = Exchange::report(vec![host_key(&host)]);
    let talk = Talk::begin(&host, "report");
    talk.say(&report.prove(talk.line(0).as_bytes()).unwrap());
    let refused = report.reported(talk.line(1).as_bytes()).unwrap_err();
    assert!(matches!(&refused, ExchangeError::Refused(why) if why.contains("was removed")), "{refused}");
    assert_eq!(talk.end().code, 1);
    let serial = good.certificates[0].serial();
    let revoked = rows("new6").iter().any(|row| row.serial == serial && row.revoked.is_some());
    assert!(revoked, "{:?}", rows("new6"));
    let listed = WORLD.usshca("host list").unwrap().ok().unwrap().stdout;
    assert!(!listed.contains("new6 "), "{listed}");
    let listed = WORLD.usshca("host list --removed").unwrap().ok().unwrap().stdout;
    assert!(listed.contains("removed "), "{listed}");
}

#[test]
fn a_proof_is_good_once_and_for_its_verb() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new7");
    let token = token("new7");
    let mut first = Exchange::enroll(same(&token), vec![], vec![host_key(&host)]);
    let talk = Talk::begin(&host, "enroll");
    let proof = first.prove(talk.line(0).as_bytes()).unwrap();
    // Whoever heard it is quicker, and brings it on a connection of his own.
    let thief = Talk::begin(&host, "enroll");
    thief.line(0);
    thief.say(&proof);
    let answer = thief.line(1);
    assert!(answer.contains("is not good for this: bad signature"), "{answer}");
    assert_eq!(thief.end().code, 1);
    // With keys of his own in place of the host's.
    let thief = Talk::begin(&host, "enroll");
    let mut his = Exchange::enroll(HostToken::generate(&host_ca()).unwrap(), vec![], vec![stranger()]);
    let own = his.prove(thief.line(0).as_bytes()).unwrap();
    let theirs: serde_json::Value = serde_json::from_str(&proof).unwrap();
    let mut mixed: serde_json::Value = serde_json::from_str(&own).unwrap();
    mixed["token"] = theirs["token"].clone();
    thief.say(&format!("{mixed}\n"));
    let answer = thief.line(1);
    assert!(answer.contains("is not good for this: bad signature"), "{answer}");
    assert_eq!(thief.end().code, 1);
    assert_eq!(rows("new7"), []);
    talk.say(&proof);
    first.granted(talk.line(1).as_bytes(), SystemClock.now()).unwrap();
    talk.say(first.taken());
    assert_eq!(talk.end().code, 0);
}

#[test]
fn the_name_host_opens_nothing_but_a_hosts_verbs() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new8");
    for (command, code, said) in [
        ("help", 0, "ssh host@CA enroll"),
        ("", 0, "ssh host@CA enroll"),
        ("whoami", 64, ""),
        ("list", 64, ""),
        ("for=1h", 64, ""),
        ("'enroll; id'", 64, ""),
        ("admin list", 64, ""),
        ("sign", 64, ""),
    ] {
        let end = Talk::begin(&host, command).end();
        assert_eq!(end.code, code, "{command}: {end:?}");
        assert!(end.lines.concat().contains(said), "{command}: {end:?}");
    }
    // With an agent there is no certificate in it.
    let script = "eval $(ssh-agent) >/dev/null; ssh -A -o BatchMode=yes -o UserKnownHostsFile=/etc/ssh/ca_known_hosts host@ca </dev/null; ssh-add -l; ssh-agent -k >/dev/null";
    assert!(host.command(["sh", "-c", script]).run().unwrap().stdout.contains("no identities"));
    // Nor does any other name get in by nothing, or through this one to somewhere else.
    let ssh = "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/etc/ssh/ca_known_hosts";
    for user in ["root", "alice", "Host", "hosts", "usshca"] {
        let said = host.command(["sh", "-c", &format!("{ssh} {user}@ca report </dev/null")]).run().unwrap();
        assert_eq!(said.status.code(), 255, "{said:?}");
        assert!(said.stderr.contains("Permission denied (keyboard-interactive)"), "{said:?}");
    }
    let forward = format!("{ssh} -W 127.0.0.1:22 host@ca </dev/null");
    let said = host.command(["sh", "-c", &forward]).run().unwrap();
    assert!(said.status.code() != 0 && said.stdout.is_empty(), "{said:?}");
    let subsystem = format!("{ssh} -s host@ca sftp </dev/null");
    let said = host.command(["sh", "-c", &subsystem]).run().unwrap();
    assert!(said.stderr.contains("subsystem request failed"), "{said:?}");
    let address = host.address().to_string();
    let from_here: Vec<_> = WORLD.inventory().unwrap().into_iter().filter(|row| row.from == address).collect();
    assert_eq!(from_here, []);
}

#[test]
fn what_is_no_proof_is_told_so_and_what_has_no_end_is_cut_off() {
    let _watch = WORLD.lab().watch();
    let host = prepare("new8");
    let ssh = "ssh -T -o BatchMode=yes -o UserKnownHostsFile=/etc/ssh/ca_known_hosts host@ca";
    for (what, input) in [
        ("nothing", "true"),
        ("junk", "echo junk"),
        ("an empty object", "echo '{}'"),
        ("no end", "yes | tr -d '\\n'"),
        ("zeros", "cat /dev/zero"),
    ] {
        let script = format!("{{ {input}; }} 2>/dev/null | timeout 25 {ssh} renew");
        let said = host.command(["sh", "-c", &script]).run().unwrap();
        assert_eq!(said.status.code(), 64, "{what}: {said:?}");
        assert!(said.stdout.contains("{\"refused\":\"No proof came"), "{what}: {said:?}");
    }
    let told = Talk::begin(&host, "help").end();
    assert_eq!(told.code, 0, "{told:?}");
}
