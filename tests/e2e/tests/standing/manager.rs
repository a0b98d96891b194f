//! The service manager: sockets that it holds, and what it is told.

use ussh_e2e::CA_DIR;
use ussh_e2e::lab::wait_until;

use super::{SOON, assert_login_works, listen_on, log_in, serve_with, signal, stop_ca, world};

#[test]
fn sockets_of_the_service_manager_are_served_instead_of_the_configured_address() {
    let world = world("sockets", "");
    let _watch = world.lab().watch();
    stop_ca(&world);
    let ca = world.host("ca");
    let argv = [
        "systemd-socket-activate",
        "-l",
        "2222",
        "-l",
        "127.0.0.1:9122",
        "--fdname=ssh:metrics",
        "usshca",
        "--dir",
        CA_DIR,
        "serve",
    ];
    let activated = ca.command(argv).service("usshca").unwrap();
    activated.wait_for_output("Listening on", SOON).unwrap();
    // The first connection starts it, and is served.
    let (code, said) = log_in(&world, "alice", world.password("alice"), "-p 2222 -o HostKeyAlias=ca");
    assert_eq!(code, 0, "{said}");
    let (code, said) = log_in(&world, "alice", world.password("alice"), "");
    assert_eq!(code, 255, "{said}");
    assert!(said.contains("port 22: Connection refused"), "{said}");
    let metrics =
        ca.script("exec 3<>/dev/tcp/127.0.0.1/9122; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3").unwrap();
    assert!(metrics.stdout.contains("usshca_connections_accepted_total 1\n"), "{metrics}");
}

#[test]
fn a_socket_that_the_ca_cannot_serve_is_a_mistake_that_is_said() {
    let world = world("no-socket", "");
    let _watch = world.lab().watch();
    stop_ca(&world);
    let ca = world.host("ca");
    for (arguments, why) in [
        ("-l /run/ssh.sock --fdname=ssh", "the CA serves SSH on TCP"),
        ("-l 0.0.0.0:9122 --fdname=metrics", "metrics have no login of their own"),
        ("-d -l 2222 --fdname=ssh", "no listening stream socket"),
    ] {
        // It starts the program at the first connection, or datagram. What the one before has said is no sign that this one listens.
        let script = format!(
            "rm -f /srv/said; systemd-socket-activate {arguments} usshca --dir {CA_DIR} serve 2>/srv/said & pid=$!; \
             until grep -qs 'Listening on' /srv/said; do :; done; \
             perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un(\"/run/ssh.sock\"))'; \
             (exec 3<>/dev/tcp/127.0.0.1/9122) 2>/dev/null; (echo x > /dev/udp/127.0.0.1/2222) 2>/dev/null; wait $pid; echo $?; cat /srv/said"
        );
        let said = ca.run(["bash", "-c", &script]).unwrap();
        assert!(said.stdout.lines().any(|line| line == "64") && said.stdout.contains(why), "{said}");
    }
}

#[test]
fn the_service_manager_hears_that_the_ca_is_ready_lives_reloads_and_stops() {
    let world = world("notify", "");
    let _watch = world.lab().watch();
    stop_ca(&world);
    let manager = listen_on(&world, "/run/notify.sock");
    serve_with(&world, &[("NOTIFY_SOCKET", "/run/notify.sock"), ("WATCHDOG_USEC", "1000000")]);
    manager.wait_for_output("READY=1", SOON).unwrap();
    // Twice in each second, though nothing happens.
    wait_until(SOON, "three signs of life", || manager.stdout().matches("WATCHDOG=1").count() >= 3).unwrap();
    signal(&world, "-HUP");
    wait_until(SOON, "the reload", || {
        manager.stdout().contains("RELOADING=1") && manager.stdout().matches("READY=1").count() == 2
    })
    .unwrap();
    assert_login_works(&world, "alice");
    signal(&world, "-TERM");
    manager.wait_for_output("STOPPING=1", SOON).unwrap();
}
