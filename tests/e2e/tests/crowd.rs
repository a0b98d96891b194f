//! Fifty people log in at the same moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ussh_e2e::WorldPlan;
use ussh_e2e::lab::{Process, wait_until};

const PEOPLE: usize = 50;

/// All of them, on a machine that does other things too. One login takes some 0.1 s of processor time.
const SANE: Duration = Duration::from_secs(30);

#[test]
fn fifty_people_at_once_get_one_certificate_each_in_their_own_name() {
    let people: Vec<(String, String)> = (1..=PEOPLE).map(|n| (format!("user{n:02}"), format!("secret {n}"))).collect();
    let mut plan = WorldPlan::new("crowd").without_servers();
    for (name, password) in &people {
        plan = plan.person(name, password, &["admins"]);
    }
    let world = plan.start().unwrap();
    let _watch = world.lab().watch();

    // Nobody answers before all are asked: then all do.
    let laptop = world.host("laptop");
    laptop.script("mkdir -p /srv; mkfifo -m 666 /srv/gate").unwrap();
    laptop
        .write_file("/srv/ask", 0o755, "#!/bin/sh\nread -r go < /srv/gate\nprintf '%s\\n' \"$LAB_PASSWORD\"\n")
        .unwrap();
    let began = Instant::now();
    let login = |(name, password): &(String, String)| {
        world.unattended(name, password, "SSH_ASKPASS=/srv/ask exec ssh -A ca").unwrap()
    };
    let logins: Vec<Process> = people.iter().map(login).collect();
    for process in ["usshca-front", "usshca-pam"] {
        let all = || world.processes("ca", process).unwrap().len() == PEOPLE;
        wait_until(SANE, &format!("{PEOPLE} times {process}"), all).unwrap();
    }
    let opened = Instant::now();
    let gate = laptop.spawn_as("root", ["bash", "-c", "yes 1<>/srv/gate"]).unwrap();
    for ((name, _), login) in people.iter().zip(&logins) {
        let ended = login.wait(SANE).unwrap().ok().unwrap();
        assert!(ended.stderr.contains(&format!("for {name} is in your agent")), "{ended}");
    }
    drop(gate);
    let (in_all, answered) = (began.elapsed(), opened.elapsed());
    assert!(in_all < SANE, "{in_all:?}");
    println!("{PEOPLE} logins at once took {in_all:?}, {answered:?} of it after the answers");

    let mut serials = BTreeSet::new();
    for (name, _) in &people {
        let shown = world.certificates(name).unwrap();
        assert_eq!(shown.len(), 1, "{name}: {shown:?}");
        assert_eq!((&shown[0].key_id, &shown[0].principals), (name, &vec![name.clone()]));
        assert!(serials.insert(shown[0].serial), "serial {} was given twice", shown[0].serial);
    }
    let rows = world.inventory().unwrap();
    let delivered: BTreeSet<u64> =
        rows.iter().filter(|r| r.kind == "user" && r.outcome == "delivered").map(|r| r.serial).collect();
    assert_eq!(delivered, serials);

    for process in ["usshca-front", "usshca-pam"] {
        wait_until(SANE, &format!("no {process} to be left"), || world.processes("ca", process).unwrap().is_empty())
            .unwrap();
    }
}

/// Behind one address, as a bastion's or a configuration management's is: what each of them does is no offence, whatever ends beside it.
#[test]
fn forty_logins_of_one_person_at_once_have_a_row_each_and_cost_their_address_nothing_by_the_defaults() {
    const LOGINS: usize = 40;
    let world = WorldPlan::new("forty").without_servers().with_penalties().start().unwrap();
    let _watch = world.lab().watch();
    let laptop = world.host("laptop");
    laptop.script("mkdir -p /srv; mkfifo -m 666 /srv/gate").unwrap();
    laptop
        .write_file("/srv/ask", 0o755, "#!/bin/sh\nread -r go < /srv/gate\nprintf '%s\\n' \"$LAB_PASSWORD\"\n")
        .unwrap();
    let login = |_| world.unattended("alice", world.password("alice"), "SSH_ASKPASS=/srv/ask exec ssh -A ca").unwrap();
    let logins: Vec<Process> = (0..LOGINS).map(login).collect();
    let all = || world.processes("ca", "usshca-pam").unwrap().len() == LOGINS;
    wait_until(SANE, "all to be asked", all).unwrap();
    let gate = laptop.spawn_as("root", ["bash", "-c", "yes 1<>/srv/gate"]).unwrap();
    let mut told = BTreeSet::new();
    for login in &logins {
        let ended = login.wait(SANE).unwrap().ok().unwrap();
        let serial = ended.stderr.split("Certificate ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        assert!(told.insert(serial.parse::<u64>().unwrap()), "serial {serial} was given twice");
    }
    drop(gate);
    let rows = world.rows_of("alice").unwrap();
    let of_rows: Vec<(u64, &str)> = rows.iter().map(|row| (row.serial, row.outcome.as_str())).collect();
    assert_eq!((rows.len(), of_rows.iter().map(|(serial, _)| *serial).collect::<BTreeSet<_>>()), (LOGINS, told));
    assert!(of_rows.iter().all(|(_, outcome)| *outcome == "delivered"), "{of_rows:?}");
    // Fronts and workers have ended, and were judged.
    for process in ["usshca-front", "usshca-pam"] {
        let none = || world.processes("ca", process).unwrap().is_empty();
        wait_until(SANE, &format!("no {process} to be left"), none).unwrap();
    }
    let status = world.usshca("status --json").unwrap().ok().unwrap().stdout;
    assert!(
        status.contains("\"sources_with_penalties\":0") && status.contains("\"never_authenticated\":0"),
        "{status}"
    );
    world.unattended("alice", world.password("alice"), "exec ssh -A ca").unwrap().wait(SANE).unwrap().ok().unwrap();
}
