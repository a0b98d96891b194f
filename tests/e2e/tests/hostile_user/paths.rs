//! Ways to spell where the agent is: links, /proc, what is no socket, and what is no path.

use ussh_e2e::{Relay, RelayPlan};

use crate::attempt::{Due, Row};
use crate::street::Street;
use crate::{SOON, WORLD};

const NOT_FOUND: &str = "No such file or directory (os error 2)";
const NOT_A_FOLDER: &str = "Not a directory (os error 20)";
const REFUSED: &str = "Connection refused (os error 111)";
const TOO_MANY_LINKS: &str = "Too many levels of symbolic links (os error 40)";

/// A spelling, and whose socket it means.
fn row<'a>(name: &'a str, socket: &str, relay: Option<&'a Relay>, due: Due) -> Row<'a> {
    Row { name, socket: socket.to_owned(), relay, due, is_absolute: true }
}

#[test]
fn symbolic_links_lead_no_further_than_the_user_may_go() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    let (own, roots, neighbours) = (&street.own, &street.roots, &street.neighbours);
    let link = |name: &str, target: &str| {
        street.sh(&format!("ln -s {target} {name}"));
        street.at(name)
    };
    let (accepted, uid) = (Due::Accepted(street.serial), street.neighbours_uid);
    let mut rows = vec![row("to one's own", &link("to-own", own.path()), Some(own), accepted.clone())];
    for (owner, closed, uid) in [("root's", roots, 0), ("a neighbour's", neighbours, uid)] {
        for relay in [&closed.open, &closed.closed, &closed.hidden] {
            let socket = link(&format!("to{}", relay.path().replace('/', "-")), relay.path());
            let is_open = std::ptr::eq(relay, &closed.open);
            let due = if is_open { Due::belongs_to(&socket, uid) } else { Due::denied(&socket) };
            rows.push(row(owner, &socket, Some(relay), due));
        }
        let folder = link(&format!("{owner}-folder").replace([' ', '\''], "-"), &closed.folder);
        let (open, hidden) = (format!("{folder}/open"), format!("{folder}/hidden/../open"));
        rows.push(row("through a linked folder", &open, Some(&closed.open), Due::belongs_to(&open, uid)));
        rows.push(row("through a closed folder and back", &hidden, Some(&closed.open), Due::denied(&hidden)));
    }
    // 40 links are followed (MAXSYMLINKS, include/linux/namei.h).
    street.sh("ln -s own chain1; for i in $(seq 2 41); do ln -s chain$((i - 1)) chain$i; done; ln -s loop loop; ln -s nothing dangling");
    for (name, due) in [
        ("chain3", None),
        ("chain40", None),
        ("chain41", Some(TOO_MANY_LINKS)),
        ("loop", Some(TOO_MANY_LINKS)),
        ("dangling", Some(NOT_FOUND)),
    ] {
        let socket = street.at(name);
        let due = due.map_or(accepted.clone(), |why| Due::no_agent(&socket, why));
        rows.push(row(name, &socket, Some(own), due));
    }
    let log = link("log", "/dev/log");
    rows.push(row("to syslog", &log, None, Due::no_agent(&log, "Protocol wrong type for socket (os error 91)")));
    street.walk(&rows);
}

/// The doors of other processes in /proc stand open to root (PTRACE_MODE_READ, proc(5)), and to the user only those of his own.
#[test]
fn proc_opens_no_door_that_is_closed_to_the_user() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    let (own, roots, neighbours) = (&street.own, &street.roots, &street.neighbours);
    let holds = |path: &str| {
        format!(
            "use POSIX (); sysopen(my $f, '{path}', 010000000) or die $!; POSIX::dup2(fileno $f, 30); $| = 1; print 'ready'; sleep 1000"
        )
    };
    let run = |user: &str, script: &str| street.leave_running(user, &["perl", "-e", script]);
    // Each holds a socket without having opened it (O_PATH), and stands in the folder to which only he has access.
    let his = run(&street.user, &holds(own.path()));
    let root = run("root", &format!("chdir '{}/hidden'; {}", roots.folder, holds(roots.open.path())));
    let neighbour =
        run(&street.neighbour, &format!("chdir '{}/hidden'; {}", neighbours.folder, holds(neighbours.open.path())));
    let accepted = || Due::Accepted(street.serial);
    let mut rows = vec![
        row("his root", &format!("/proc/{his}/root{}", own.path()), Some(own), accepted()),
        row("what he holds", &format!("/proc/{his}/fd/30"), Some(own), accepted()),
        row("what his thread holds", &format!("/proc/{his}/task/{his}/fd/30"), Some(own), accepted()),
        Row {
            is_absolute: false,
            ..row("the asker's root", &format!("/proc/self/root{}", own.path()), Some(own), accepted())
        },
    ];
    for (pid, closed) in [(root, roots), (neighbour, neighbours), (1, roots)] {
        for (door, relay) in [
            (format!("root{}", closed.open.path()), &closed.open),
            (format!("root{}", closed.hidden.path()), &closed.hidden),
            ("cwd/open".to_owned(), &closed.hidden),
            ("fd/30".to_owned(), &closed.open),
        ] {
            let socket = format!("/proc/{pid}/{door}");
            rows.push(row("another's door", &socket, Some(relay), Due::denied(&socket)));
        }
        // The same behind a link of the user's.
        let link = street.at(&format!("door-{pid}"));
        street.sh(&format!("ln -s /proc/{pid}/root{} {link}", closed.hidden.path()));
        rows.push(row("a link to another's door", &link, Some(&closed.hidden), Due::denied(&link)));
    }
    for (closed, uid) in [(roots, 0), (neighbours, street.neighbours_uid)] {
        let through_his = format!("/proc/{his}/root{}", closed.open.path());
        rows.push(row(
            "another's through his own door",
            &through_his,
            Some(&closed.open),
            Due::belongs_to(&through_his, uid),
        ));
        let hidden = format!("/proc/{his}/root{}", closed.hidden.path());
        rows.push(row(
            "another's hidden one through his own door",
            &hidden,
            Some(&closed.hidden),
            Due::denied(&hidden),
        ));
    }
    street.walk(&rows);
}

/// Where one is root of a namespace of one's own, it shows a world of one's own; yet on this host one is oneself.
#[test]
fn roots_in_a_namespace_of_his_own_is_the_user() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    let (own, roots) = (&street.own, &street.roots);
    let his = street.leave_running(&street.user, &["unshare", "-Urm", "sh", "-c", "echo ready; exec sleep 1000"]);
    let path = |relay: &Relay| format!("/proc/{his}/root{}", relay.path());
    street.walk(&[
        row("his own", &path(own), Some(own), Due::Accepted(street.serial)),
        row("root's", &path(&roots.open), Some(&roots.open), Due::belongs_to(&path(&roots.open), 0)),
        row("root's closed", &path(&roots.closed), Some(&roots.closed), Due::denied(&path(&roots.closed))),
        row("root's hidden", &path(&roots.hidden), Some(&roots.hidden), Due::denied(&path(&roots.hidden))),
    ]);
}

/// The child that connects has closed all descriptors but its own socket, which leads nowhere; those of the host (sudo's, su's) are no way either.
#[test]
fn proc_self_fd_is_nobodys_agent() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    for (program, command) in [("sudo", "sudo id -u"), ("su", "su root -c 'id -u'"), ("doas", "doas id -u")] {
        let position = WORLD.log_position("web1");
        // What he holds himself on the low numbers is the very thing that would let him through.
        let each = format!(
            "for n in $(seq 0 15); do SSH_AUTH_SOCK=/proc/self/fd/$n timeout 25 {command} || echo no; done 2>/dev/null"
        );
        let held = "for my $n (0, 3..9) { sysopen(my $f, 'own', 010000000) or die; POSIX::dup2(fileno $f, $n) }";
        let script = format!("use POSIX (); $^F = 9; {held} exec 'bash', '-c', $ARGV[0]");
        let host = street.host();
        let tried = host.command(["perl", "-e", &script, &each]).user(&street.user).cwd(&street.folder).run().unwrap();
        assert_eq!(tried.stdout, "no\n".repeat(16), "{program}: {tried}");
        let log = street.logged_since(position);
        assert_eq!(log.len(), 16, "{log:#?}");
        for (n, line) in log.iter().enumerate() {
            let whys = [NOT_FOUND, REFUSED].map(|why| format!("agent: /proc/self/fd/{n}: {why}"));
            assert!(whys.iter().any(|why| line.ends_with(why)), "{n}: {line}");
        }
        assert_eq!(log.iter().filter(|line| line.ends_with(REFUSED)).count(), 1, "the child's own: {log:#?}");
    }
    assert_eq!(street.own.seen().unwrap(), (0, 0));
    assert_eq!(street.strangers(), Vec::<String>::new());
}

#[test]
fn what_is_no_socket_is_refused_at_once_and_never_opened() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    street.sh("mkfifo fifo; echo text > file; mkdir folder; ln -s / top");
    street
        .sh("perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); bind(S, pack_sockaddr_un(\"left\")); listen(S, 1)'");
    let no_agent = |socket: &str, why: &str| row("no socket", socket, None, Due::no_agent(socket, why));
    let at = |name: &str| street.at(name);
    street.walk(&[
        no_agent(&at("fifo"), REFUSED),
        no_agent(&at("file"), REFUSED),
        no_agent(&at("folder"), REFUSED),
        no_agent(&at("left"), REFUSED),
        no_agent("/dev/zero", REFUSED),
        no_agent("/dev/null", REFUSED),
        no_agent("/etc/passwd", "Permission denied (os error 13)"),
        no_agent("/", "Permission denied (os error 13)"),
        no_agent(&at("top"), "Permission denied (os error 13)"),
        no_agent("/etc/passwd/agent", NOT_A_FOLDER),
        no_agent(&at("own/"), NOT_A_FOLDER),
        no_agent("/proc/1/mem", "Permission denied (os error 13)"),
        no_agent("/dev/fd/9999", NOT_FOUND),
    ]);
}

#[test]
fn paths_that_are_none_are_refused_unseen() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    // sockaddr_un has 108 bytes, and so room for 107 and a NUL (unix(7)).
    let folder = street.at(&"f".repeat(105 - street.folder.len() - 1));
    street.host().make_folder_as(&street.user, &folder, 0o755).unwrap();
    let relay = |path: &str, log: &str| {
        let agent = street.at("agent");
        WORLD.start_relay(&RelayPlan::new("web1", &street.user, path).target(&agent).log(&street.at(log))).unwrap()
    };
    let (fits, full) = (relay(&format!("{folder}/s"), "fits"), relay(&format!("{folder}/ss"), "full"));
    assert_eq!((fits.path().len(), full.path().len()), (107, 108));
    let long = format!("{folder}/{}", "s".repeat(200 - 106));
    let abstract_name = format!("@{}", street.user);
    let hidden = relay(&abstract_name, "abstract");
    let accepted = || Due::Accepted(street.serial);
    let own = &street.own;
    let none = |name, socket: &str, relay| row(name, socket, relay, Due::unusable(socket));
    let mut rows = vec![
        row("107 bytes", fits.path(), Some(&fits), accepted()),
        none("108 bytes", full.path(), Some(&full)),
        none("200 bytes", &long, None),
        none("abstract", &abstract_name, Some(&hidden)),
        none("relative", "own", Some(own)),
        none("relative", "./own", Some(own)),
        none("relative", &format!("../{}/own", street.user), Some(own)),
        none("of the shell", "~/own", Some(own)),
        // A blank is no end of the word in the log.
        row(
            "a space before it",
            &format!(" {}", own.path()),
            Some(own),
            Due::unusable(&format!("\\x20{}", own.path())),
        ),
        // An abstract name begins with NUL, which no variable can hold: what is left of it is nothing.
        row("empty", "", Some(own), Due::unset()),
        row("two slashes", &format!("/{}", own.path()), Some(own), accepted()),
        row("up from the root", &format!("/..{}", own.path()), Some(own), accepted()),
    ];
    let dots = format!("{}/./../{}/own", street.folder, street.user);
    rows.push(row("dots", &dots, Some(own), accepted()));
    street.walk(&rows);
}

#[test]
fn control_characters_in_a_path_stay_inside_the_line() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    let lie = "x\n Accepted certificate ID \"y\"\u{1b}[2J";
    street.sh(&format!("ln -s own '{lie}'"));
    let (there, gone) = (street.at(lie), street.at(&format!("no{lie}")));
    let shown = format!("{}/nox\\x0a\\x20Accepted\\x20certificate\\x20ID\\x20\\x22y\\x22\\x1b[2J", street.folder);
    street.walk(&[
        row("a link of that name", &there, Some(&street.own), Due::Accepted(street.serial)),
        row("nothing of that name", &gone, None, Due::no_agent(&shown, NOT_FOUND)),
    ]);

    // Not UTF-8: shown as far as it goes, and used as it is.
    let position = WORLD.log_position("web1");
    let script =
        r#"SSH_AUTH_SOCK="$PWD"/$'\xff\xfe' sudo id -u; ln -s own $'\xff'; SSH_AUTH_SOCK="$PWD"/$'\xff' sudo id -u"#;
    let host = street.host();
    let tried = host.command(["bash", "-c", script]).user(&street.user).cwd(&street.folder).run().unwrap();
    assert_eq!(tried.stdout, "0\n", "{tried}");
    let log = street.logged_since(position);
    assert_eq!(log.len(), 2, "{log:#?}");
    assert!(log[0].is_ascii() && log[0].contains("Refusing ") && log[0].ends_with(NOT_FOUND), "{log:#?}");
    assert!(log[1].contains(&format!(" (serial {}) ", street.serial)), "{log:#?}");
}

#[test]
fn a_path_of_a_hundred_kilobytes_leaves_room_for_the_reason() {
    let _watch = WORLD.lab().watch();
    let street = Street::on("web1");
    let position = WORLD.log_position("web1");
    let script = "SSH_AUTH_SOCK=/$(head -c 100000 /dev/zero | tr '\\0' a) timeout 25 sudo id -u";
    let refused = street.host().command(["bash", "-c", script]).user(&street.user).timeout(SOON).run().unwrap();
    assert!(refused.status.code() != 0 && refused.stderr.contains(crate::AGENT_SILENT), "{refused}");
    let log = street.logged_since(position);
    assert_eq!(log.len(), 1, "{log:#?}");
    assert!(log[0].ends_with(": not a usable socket path"), "{log:#?}");
}
