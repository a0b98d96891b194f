//! Sockets of root's, of a neighbour's, and of one's own on which somebody else answers.

use ussh_e2e::{Forgery, RelayPlan, SocketType};

use crate::attempt::{Due, JUDGED, Row};
use crate::street::Street;
use crate::{NOT_GOOD, SOON, WORLD};
use ussh_e2e::lab::wait_until;

const WRONG_TYPE: &str = "Protocol wrong type for socket (os error 91)";

/// To a path that one relay owns, or to nobody's.
fn row<'a>(name: &'a str, socket: &str, due: Due) -> Row<'a> {
    Row { name, socket: socket.to_owned(), relay: None, due, is_absolute: true }
}

#[test]
fn nobodys_agent_but_ones_own_lets_through_and_nobody_is_reached_whom_the_user_could_not_reach() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    let Street { own, neighbours, roots, .. } = &street;
    let (uid, root) = (street.neighbours_uid, 0);
    let mut rows = vec![
        Row { relay: Some(own), ..row("one's own", own.path(), Due::Accepted(street.serial)) },
        row("one's own agent without a witness", &street.at("agent"), Due::Accepted(street.serial)),
        row("root's agent without a witness", &roots.agent, Due::denied(&roots.agent)),
        row("syslog's", "/dev/log", Due::no_agent("/dev/log", WRONG_TYPE)),
    ];
    for (owner, closed, uid) in [("root's", roots, root), ("a neighbour's", neighbours, uid)] {
        let (open, shut, hidden) = (&closed.open, &closed.closed, &closed.hidden);
        rows.push(Row { relay: Some(open), ..row(owner, open.path(), Due::belongs_to(open.path(), uid)) });
        rows.push(Row { relay: Some(shut), ..row(owner, shut.path(), Due::denied(shut.path())) });
        rows.push(Row { relay: Some(hidden), ..row(owner, hidden.path(), Due::denied(hidden.path())) });
    }
    street.walk(&rows);
}

#[test]
fn groups_open_what_they_open_to_the_user_and_root_s_groups_open_nothing() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    let host = street.host();
    let shared = |group: &str| {
        let path = format!("{}/{group}s", street.roots.folder);
        let relay = WORLD.start_relay(&RelayPlan::new("web1", "root", &path).target(&street.roots.agent)).unwrap();
        host.script(&format!("chgrp {group} {path}; chmod 660 {path}")).unwrap();
        relay
    };
    let (admins, own, roots) = (shared("admins"), shared(&street.user), shared("root"));
    street.walk(&[
        Row { relay: Some(&admins), ..row("his group's", admins.path(), Due::belongs_to(admins.path(), 0)) },
        Row { relay: Some(&own), ..row("his own group's", own.path(), Due::belongs_to(own.path(), 0)) },
        Row { relay: Some(&roots), ..row("root's group's", roots.path(), Due::denied(roots.path())) },
    ]);
}

#[test]
fn sockets_of_roots_daemons_in_run_let_nobody_through() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    let host = street.host();
    let (shut, open) = ("/run/roots-tmux", "/run/roots-open-tmux");
    for socket in [shut, open] {
        host.command(["tmux", "-D", "-S", socket]).service(socket).unwrap();
        wait_until(SOON, "tmux", || host.exists(socket)).unwrap();
    }
    host.run(["chmod", "666", open]).unwrap().ok().unwrap();
    street.walk(&[row("tmux's", shut, Due::denied(shut)), row("tmux's, open to all", open, Due::belongs_to(open, 0))]);
}

#[test]
fn a_hard_link_is_the_socket_itself() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    let uid = street.neighbours_uid;
    let mut rows = Vec::new();
    for (owner, closed, uid) in [("root", &street.roots, 0), ("neighbour", &street.neighbours, uid)] {
        for relay in [&closed.open, &closed.closed, &closed.hidden] {
            let name = relay.path().trim_start_matches(&closed.folder).replace('/', "-");
            let link = street.at(&format!("{owner}{name}"));
            // The kernel lets users link to nothing that is not theirs (fs.protected_hardlinks): root helps.
            street.host().run(["ln", relay.path(), &link]).unwrap().ok().unwrap();
            let due = if name == "-closed" { Due::denied(&link) } else { Due::belongs_to(&link, uid) };
            rows.push(Row { relay: Some(relay), ..row(owner, &link, due) });
        }
    }
    street.walk(&rows);
}

/// SO_PEERCRED tells who listened, not who answers: that one decides is what it proves.
#[test]
fn a_listener_that_was_passed_on_is_its_makers_and_who_answers_proves_what_he_has() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    let Street { user, neighbour, .. } = &street;
    let (host, serial) = (street.host(), street.serial);
    let neighbours_own = format!("{}/for-himself", street.neighbours.folder);
    WORLD
        .forge(&Forgery::of(neighbour).principals(&[neighbour]))
        .unwrap()
        .serve_at(&host, neighbour, &neighbours_own)
        .unwrap();
    let theirs = crate::street::certificate_of(user);
    let neighbours_for_user = format!("{}/for-the-user", street.neighbours.folder);
    theirs.serve_at(&host, neighbour, &neighbours_for_user).unwrap();
    let passed = |path: &str, maker: &str, answers: &str, target: &str| {
        let plan = RelayPlan::new("web1", answers, path).listener(maker).target(target);
        WORLD.start_relay(&plan.log(&format!("/srv/{}.log", path.replace('/', "-")))).unwrap()
    };
    let agent = street.at("agent");
    let to_neighbour = passed(&street.at("passed"), user, neighbour, &neighbours_own);
    let to_helper = passed(&street.at("helped"), user, neighbour, &neighbours_for_user);
    let from_neighbour = passed(&format!("{}/passed", street.neighbours.folder), neighbour, user, &agent);
    let from_root = passed(&format!("{}/passed", street.roots.folder), "root", user, &agent);
    host.run(["chmod", "666", from_neighbour.path(), from_root.path()]).unwrap().ok().unwrap();

    let another_persons =
        Due::Refused(NOT_GOOD, format!("certificate does not name a demanded principal: {JUDGED}, the user's own"));
    let (from, root) = (from_neighbour.path(), from_root.path());
    street.walk(&[
        Row { relay: Some(&to_neighbour), ..row("his, for himself", to_neighbour.path(), another_persons) },
        // No more than a relay of the user's own to that agent would give.
        Row { relay: Some(&to_helper), ..row("his, for the user", to_helper.path(), Due::Accepted(theirs.serial)) },
        Row { relay: Some(&from_neighbour), ..row("made by him", from, Due::belongs_to(from, street.neighbours_uid)) },
        Row { relay: Some(&from_root), ..row("made by root", root, Due::belongs_to(root, 0)) },
    ]);
    assert_ne!(theirs.serial, serial);
}

#[test]
fn other_types_of_sockets_are_no_agents() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    let relay = |name: &str, socket_type| {
        let path = street.at(name);
        let relay = WORLD.start_relay(&RelayPlan::new("web1", &street.user, &path).socket_type(socket_type));
        relay.unwrap()
    };
    let (datagram, packets) = (relay("datagram", SocketType::Datagram), relay("seqpacket", SocketType::SeqPacket));
    let due = |relay: &ussh_e2e::Relay| Due::no_agent(relay.path(), WRONG_TYPE);
    street.walk(&[
        Row { relay: Some(&datagram), ..row("datagrams", datagram.path(), due(&datagram)) },
        Row { relay: Some(&packets), ..row("seqpacket", packets.path(), due(&packets)) },
    ]);
}
