//! The module in real PAM stacks, called by a set-uid program (pamtester) as sudo or sshd would call it, with real agents and certificates. The real sudo and sshd are for the lab.
//! Needs root, for a mount namespace of its own; nothing outside of that is touched. No test harness: a namespace is entered by a process with one thread.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod account;
mod hostile;
mod log;
mod sanitizer;
mod traces;
mod world;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ussh_core::record::{SPOOL, SessionRecord};
use world::{ALICE, Agent, BOB, Outcome, World, at};

// pam_strerror
const AUTH_ERR: &str = "Authentication failure";
const PERM_DENIED: &str = "Permission denied";
const UNAVAILABLE: &str = "Authentication service cannot retrieve authentication info";
const SERVICE_ERR: &str = "Error in service module";
const SESSION_ERR: &str = "Cannot make/remove an entry for the specified session";

type Fact = fn(&World, &Agent);

/// Options of a certificate that does.
const GOOD: [&str; 4] = ["-n", "alice", "-V", "-1m:+1h"];

fn main() {
    if !nix::unistd::geteuid().is_root() {
        assert!(!sanitizer::is_demanded(), "needs root");
        println!("test stack ... ignored, needs root");
        return;
    }
    let world = World::new();
    let agent = world.agent("alice", ALICE);
    let facts: &[(&str, Fact)] = &[
        ("a_good_certificate_is_accepted_and_logged", a_good_certificate_is_accepted_and_logged),
        (
            "a_certificate_that_is_not_good_is_refused_for_its_reason",
            a_certificate_that_is_not_good_is_refused_for_its_reason,
        ),
        ("a_bad_identity_hides_no_good_one", a_bad_identity_hides_no_good_one),
        ("a_plain_key_is_no_certificate", a_plain_key_is_no_certificate),
        ("revoked_is_refused_and_so_is_a_broken_list", revoked_is_refused_and_so_is_a_broken_list),
        ("a_krl_that_is_too_old_is_refused_as_stale", a_krl_that_is_too_old_is_refused_as_stale),
        ("group_decides", group_decides),
        ("lists_of_principals_decide", lists_of_principals_decide),
        ("a_line_that_is_not_understood_lets_nobody_in", a_line_that_is_not_understood_lets_nobody_in),
        ("the_file_gives_what_the_line_leaves_open", the_file_gives_what_the_line_leaves_open),
        (
            "a_file_that_is_not_understood_or_trusted_lets_nobody_in",
            a_file_that_is_not_understood_or_trusted_lets_nobody_in,
        ),
        ("files_that_others_can_change_are_not_trusted", files_that_others_can_change_are_not_trusted),
        ("only_the_caller_s_own_agent_counts", only_the_caller_s_own_agent_counts),
        ("a_frozen_agent_costs_the_timeout", a_frozen_agent_costs_the_timeout),
        ("a_daemon_s_own_agent_speaks_for_nobody", a_daemon_s_own_agent_speaks_for_nobody),
        ("wrong_places_refuse", wrong_places_refuse),
        ("the_other_hooks", the_other_hooks),
        ("silence_is_kept", silence_is_kept),
        ("sshd_s_certificate_gets_in_and_nothing_less", sshd_s_certificate_gets_in_and_nothing_less),
        ("a_session_is_recorded_and_forgotten", a_session_is_recorded_and_forgotten),
        ("a_session_without_record_is_refused_unless_allowed", a_session_without_record_is_refused_unless_allowed),
    ];
    let facts = facts.iter().chain(account::FACTS).chain(log::FACTS).chain(traces::FACTS);
    let sanitized = if world.is_sanitized() { sanitizer::FACTS } else { &[] };
    for (name, fact) in facts.chain(sanitized) {
        if world.is_sanitized() && sanitizer::CANNOT.contains(name) {
            println!("test {name} ... ignored, the sanitizer itself needs what it takes away");
            continue;
        }
        agent.empty();
        fact(&world, &agent);
        println!("test {name} ... ok");
    }
}

/// One `auth` line of ours with these options, called as alice for alice with this agent.
fn auth(world: &World, agent: &Agent, options: &str) -> Outcome {
    auth_as(world, ALICE, agent, options)
}

fn auth_as(world: &World, uid: u32, agent: &Agent, options: &str) -> Outcome {
    world.service("ussh-test", &format!("auth required MODULE ca_file={} {options}", at("cas")));
    let socket = agent.socket.to_str().unwrap();
    world.pam(uid, &[("SSH_AUTH_SOCK", socket)], &["-I", "ruser=alice", "ussh-test", "alice", "authenticate"])
}

impl Outcome {
    #[track_caller]
    fn accepted(&self) {
        assert!(self.success, "{} {:?}", self.text, self.log);
        assert_eq!(self.log.len(), 1, "one line per decision: {:?}", self.log);
        assert!(self.log[0].starts_with("Accepted certificate ID \"alice\" (serial "), "{:?}", self.log);
    }

    /// Refused with this code, and this in the one line of the log.
    #[track_caller]
    fn refused(&self, code: &str, why: &str) {
        assert!(!self.success, "{} {:?}", self.text, self.log);
        assert!(self.text.contains(code), "{code} in {:?} {:?}", self.text, self.log);
        assert_eq!(self.log.len(), 1, "one line per decision: {:?}", self.log);
        assert!(self.log[0].starts_with("Refusing ") && self.log[0].contains(why), "{why} in {:?}", self.log);
    }
}

fn a_good_certificate_is_accepted_and_logged(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &["-n", "bob,alice", "-V", "-1m:+1h", "-z", "7"]));
    let outcome = auth(world, agent, "");
    outcome.accepted();
    assert!(outcome.log[0].contains("(serial 7) signed by ED25519 CA SHA256:"), "{:?}", outcome.log);
    assert!(outcome.log[0].ends_with(" for alice via ussh-test ruser alice"), "{:?}", outcome.log);
    assert_eq!(outcome.text, "pamtester: successfully authenticated\n");
    let mut outcome = auth(world, agent, "max_validity=2h max_age=10m timeout=5 debug");
    let asking = format!("asking the agent at {}", agent.socket.display());
    assert!(outcome.log[0].starts_with("debug: ") && outcome.log[0].ends_with(&asking), "{:?}", outcome.log);
    outcome.log.remove(0);
    outcome.accepted();
}

fn a_certificate_that_is_not_good_is_refused_for_its_reason(world: &World, agent: &Agent) {
    let cases: &[(&str, &[&str], &str, &str)] = &[
        ("other_ca", &["-n", "alice", "-V", "-1m:+1h"], "", "is not trusted"),
        ("ca", &["-n", "alice", "-V", "-2h:-1h"], "", "certificate has expired"),
        ("ca", &["-n", "alice", "-V", "+1h:+2h"], "", "certificate is not yet valid"),
        ("ca", &["-V", "-1m:+1h"], "", "certificate lists no principals"),
        ("ca", &["-n", "bob", "-V", "-1m:+1h"], "", "does not name a demanded principal: alice, the user's own"),
        ("ca", &["-n", "Alice", "-V", "-1m:+1h"], "", "does not name a demanded principal"),
        ("ca", &["-h", "-n", "alice", "-V", "-1m:+1h"], "", "certificate is of the wrong type"),
        ("ca", &["-n", "alice", "-V", "-1m:+1h", "-O", "force-command=true"], "", "force-command cannot be honoured"),
        (
            "ca",
            &["-n", "alice", "-V", "-1m:+1h", "-O", "source-address=127.0.0.1"],
            "",
            "source-address cannot be compared, no origin: pid ",
        ),
        (
            "ca",
            &["-n", "alice", "-V", "-1m:+1h", "-O", "critical:new@example.com"],
            "",
            "unknown critical option new@example.com",
        ),
        ("ca", &["-n", "alice", "-V", "-1m:+1h"], "max_validity=1h", "longer than the 3600 s allowed"),
        ("ca", &["-n", "alice", "-V", "-10m:+1h"], "max_age=9m", "more than the 540 s allowed"),
    ];
    for (ca, certificate, options, why) in cases {
        agent.empty();
        agent.add(&world.certificate(ca, certificate));
        let outcome = auth(world, agent, options);
        outcome.refused(AUTH_ERR, why);
        assert!(outcome.log[0].starts_with("Refusing certificate ID \"alice\""), "{:?}", outcome.log);
        assert!(outcome.text.contains("No certificate that is good for this: see \"ssh-add -l\""), "{}", outcome.text);
        assert!(!outcome.text.contains(why), "the user is not told which rule said no: {}", outcome.text);
    }
}

fn a_bad_identity_hides_no_good_one(world: &World, agent: &Agent) {
    for options in [["-n", "bob", "-V", "-1m:+1h"], ["-n", "alice", "-V", "-1m:+1h"], ["-n", "alice", "-V", "-2h:-1h"]]
    {
        agent.add(&world.certificate("ca", &options));
    }
    agent.add(&world.certificate("other_ca", &["-n", "alice", "-V", "-1m:+1h"]));
    auth(world, agent, "").accepted();
    // debug: the others are told of when none does.
    let outcome = auth(world, agent, "max_validity=1m debug");
    assert!(!outcome.success);
    assert_eq!(
        outcome.log.iter().filter(|line| line.starts_with("debug: tried certificate")).count(),
        4,
        "{:?}",
        outcome.log
    );
    assert!(outcome.log.last().unwrap().ends_with("(and 3 more tried)"), "{:?}", outcome.log);
}

fn a_plain_key_is_no_certificate(world: &World, agent: &Agent) {
    auth(world, agent, "").refused(AUTH_ERR, "no certificate");
    agent.add(&at("bob"));
    auth(world, agent, "").refused(AUTH_ERR, "no certificate");
}

fn revoked_is_refused_and_so_is_a_broken_list(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &["-n", "alice", "-V", "-1m:+1h", "-z", "7"]));
    let list = at("revoked");
    let line = format!("revoked_keys={list}");
    auth(world, agent, &line).refused(SERVICE_ERR, "No such file");
    fs::write(&list, b"").unwrap();
    auth(world, agent, &line).refused(SERVICE_ERR, "empty");
    fs::write(&list, b"SSHKRL\n\0truncated").unwrap();
    auth(world, agent, &line).refused(SERVICE_ERR, "broken");
    for (serial, good) in [("8", true), ("7", false)] {
        fs::write(at("spec"), format!("serial: {serial}\n")).unwrap();
        world.run("ssh-keygen", &["-q", "-k", "-f", &list, "-s", &at("ca.pub"), &at("spec")]);
        let outcome = auth(world, agent, &line);
        if good { outcome.accepted() } else { outcome.refused(AUTH_ERR, "(serial 7)") }
    }
}

fn a_krl_that_is_too_old_is_refused_as_stale(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &["-n", "alice", "-V", "-1m:+1h", "-z", "7"]));
    let list = at("krl");
    fs::write(at("spec"), "serial: 8\n").unwrap();
    world.run("ssh-keygen", &["-q", "-k", "-f", &list, "-s", &at("ca.pub"), &at("spec")]);
    let line = format!("revoked_keys={list} krl_max_age=1h");
    auth(world, agent, &line).accepted();

    // PROTOCOL.krl: magic, format version, krl_version, generated_date.
    let mut krl = fs::read(&list).unwrap();
    let generated = u64::from_be_bytes(krl[20..28].try_into().unwrap());
    let mut dated = |generated: u64| {
        krl[20..28].copy_from_slice(&generated.to_be_bytes());
        fs::write(&list, &krl).unwrap();
        auth(world, agent, &line)
    };
    dated(generated - 3000).accepted();
    let stale = dated(generated - 4000);
    stale.refused(UNAVAILABLE, "the revocation list is stale: ");
    assert!(stale.log[0].contains("cannot check: ") && stale.log[0].ends_with(" more than the 3600 s allowed"));
    assert!(stale.text.contains("Your certificate could not be checked on this host"), "{}", stale.text);
    dated(generated + 4000).refused(UNAVAILABLE, "ahead of this host's clock: one of the two clocks is wrong");
    // Whether its age is limited or not: a host whose clock was set back would take again what is over.
    let unlimited = format!("revoked_keys={list}");
    auth(world, agent, &unlimited).refused(UNAVAILABLE, "ahead of this host's clock");
    dated(generated - 4000);
    auth(world, agent, &unlimited).accepted();

    fs::write(&list, "# nobody\n").unwrap();
    auth(world, agent, &line).refused(SERVICE_ERR, "a plain list does not say when it was made");
    auth(world, agent, "krl_max_age=1h").refused(SERVICE_ERR, "krl_max_age= needs revoked_keys=");
}

fn group_decides(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &["-n", "alice", "-V", "-1m:+1h"]));
    auth(world, agent, "group=admins").accepted();
    auth(world, agent, "group=alice").accepted();
    auth(world, agent, "group=bob").refused(PERM_DENIED, "not in group bob");
    auth(world, agent, "group=no-such-group").refused(SERVICE_ERR, "group=no-such-group does not exist");

    // What docs/deviations.md says to write where uber/pam-ussh let everybody in who is not a member.
    let exemption = "auth [success=done default=ignore] pam_succeed_if.so quiet user notingroup admins";
    world.service("ussh-test", &format!("{exemption}\nauth required MODULE ca_file={} group=admins", at("cas")));
    let no_agent =
        |uid, name| world.pam(uid, &[], &["-I", &format!("ruser={name}"), "ussh-test", name, "authenticate"]);
    assert!(no_agent(BOB, "bob").success, "not a member, exempt");
    no_agent(ALICE, "alice").refused(UNAVAILABLE, "no SSH_AUTH_SOCK");
}

fn lists_of_principals_decide(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &["-n", "alice,ops", "-V", "-1m:+1h"]));
    auth(world, agent, "authorized_principals=dev,ops").accepted();
    auth(world, agent, "authorized_principals=dev").refused(AUTH_ERR, "demanded principal: one of dev");

    let file = at("principals-61001");
    let line = format!("authorized_principals_file={}", at("principals-%U"));
    let missing = format!("no authorized principals for this user: {file} is not there");
    auth(world, agent, &line).refused(AUTH_ERR, &missing);
    fs::write(&file, "").unwrap();
    let nobody = format!("demanded principal: one of those in {file}, which permits nobody");
    auth(world, agent, &line).refused(AUTH_ERR, &nobody);
    fs::write(&file, "# who may\nops\n").unwrap();
    auth(world, agent, &line).accepted();

    agent.empty();
    agent.add(&world.certificate("ca", &["-n", "ops", "-V", "-1m:+1h"]));
    auth(world, agent, &line).refused(AUTH_ERR, "demanded principal: alice, the user's own");
    auth(world, agent, &format!("{line} require_user_principal=no")).accepted();
}

fn a_line_that_is_not_understood_lets_nobody_in(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &["-n", "alice", "-V", "-1m:+1h"]));
    for (options, why) in [
        ("grup=admins", "unknown option grup"),
        ("group=", "option group has no value: give it one, or leave it out"),
        ("debug debug", "option debug is repeated: keep one of them"),
        ("require_user_principal=no", "require_user_principal=no needs"),
        ("max_validity=8 h", "unknown option h"),
    ] {
        let outcome = auth(world, agent, options);
        outcome.refused(SERVICE_ERR, why);
        assert!(outcome.text.contains("pam_ussh is not set up rightly"), "{}", outcome.text);
    }
}

/// One `auth` line that names this file, and says nothing else but `options`.
fn auth_by_file(world: &World, agent: &Agent, text: &str, options: &str) -> Outcome {
    let file = at("pam_ussh.toml");
    fs::write(&file, text).unwrap();
    world.service("ussh-test", &format!("auth required MODULE config={file} {options}"));
    let socket = agent.socket.to_str().unwrap();
    world.pam(ALICE, &[("SSH_AUTH_SOCK", socket)], &["-I", "ruser=alice", "ussh-test", "alice", "authenticate"])
}

fn the_file_gives_what_the_line_leaves_open(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &["-n", "alice", "-V", "-10m:+1h"]));
    let cas = format!("ca_file = \"{}\"\n", at("cas"));
    let other_cas = format!("ca_file = \"{}\"\n", at("other_cas"));
    let by_file = |text: &str, options: &str| auth_by_file(world, agent, text, options);
    by_file(&format!("[default]\n{cas}"), "").accepted();
    by_file(&format!("[default]\n{other_cas}"), "").refused(AUTH_ERR, "is not trusted");
    by_file(&format!("[default]\n{other_cas}[service.ussh-test]\n{cas}"), "").accepted();
    by_file(&format!("[default]\n{cas}[service.ussh-test]\n{other_cas}"), "").refused(AUTH_ERR, "is not trusted");
    by_file(&format!("[default]\n{cas}[service.sudo]\n{other_cas}"), "").accepted();
    let strict = format!("[default]\n{cas}max_age_seconds = 60\n");
    by_file(&strict, "").refused(AUTH_ERR, "more than the 60 s allowed");
    by_file(&strict, "max_age=11m").accepted();
    by_file(&format!("[default]\n{cas}\n[service.sudo]\ngroup = \"bob\"\n"), "").accepted();
    by_file(&format!("[default]\n{cas}\n[service.ussh-test]\ngroup = \"bob\"\n"), "")
        .refused(PERM_DENIED, "not in group bob");
}

fn a_file_that_is_not_understood_or_trusted_lets_nobody_in(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &["-n", "alice", "-V", "-10m:+1h"]));
    let file = at("pam_ussh.toml");
    let good = format!("[default]\nca_file = \"{}\"\n", at("cas"));
    let by_file = |text: &str| auth_by_file(world, agent, text, "");
    by_file(&good).accepted();
    for (text, why) in [
        (format!("{good}grup = \"admins\"\n"), format!("misconfigured: {file} [default]: unknown option grup")),
        (
            format!("{good}[service.su]\ngrup = \"admins\"\n"),
            format!("misconfigured: {file} [service.su]: unknown option grup"),
        ),
        (format!("{good}max_age_seconds = \n"), format!("misconfigured: {file}: line 3: ")),
        (format!("{good}#{}\n", "x".repeat(65536)), format!("misconfigured: {file}: larger than 65536 bytes")),
    ] {
        by_file(&text).refused(SERVICE_ERR, &why);
    }
    fs::write(&file, &good).unwrap();
    let again = |why: &str| {
        let socket = agent.socket.to_str().unwrap();
        world
            .pam(ALICE, &[("SSH_AUTH_SOCK", socket)], &["-I", "ruser=alice", "ussh-test", "alice", "authenticate"])
            .refused(SERVICE_ERR, why);
    };
    fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).unwrap();
    again(&format!("misconfigured: {file}: bad ownership or modes"));
    fs::remove_file(&file).unwrap();
    again(&format!("misconfigured: {file}: No such file or directory"));
    std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
    again("misconfigured: /dev");
    fs::remove_file(&file).unwrap();
}

fn files_that_others_can_change_are_not_trusted(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &["-n", "alice", "-V", "-1m:+1h"]));
    let set_mode = |mode| fs::set_permissions(at("cas"), fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o664);
    auth(world, agent, "").refused(SERVICE_ERR, "bad ownership or modes");
    set_mode(0o644);
    fs::write(at("empty_cas"), "# none\n").unwrap();
    world.service("ussh-test", &format!("auth required MODULE ca_file={}", at("empty_cas")));
    let socket = agent.socket.to_str().unwrap();
    let outcome = world.pam(ALICE, &[("SSH_AUTH_SOCK", socket)], &["ussh-test", "alice", "authenticate"]);
    outcome.refused(SERVICE_ERR, "holds no CA key");
}

fn only_the_caller_s_own_agent_counts(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &["-n", "alice", "-V", "-1m:+1h"]));
    // bob calls, and points at alice's agent: first out of reach for him, then opened up by alice.
    auth_as(world, BOB, agent, "").refused(UNAVAILABLE, "Permission denied");
    let folder = agent.socket.parent().unwrap();
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(&agent.socket, 0o777);
    auth_as(world, BOB, agent, "").refused(UNAVAILABLE, "the agent belongs to uid 61001");
    set_mode(&agent.socket, 0o600);
    assert!(folder.exists());

    // bob's own agent with alice's certificate in it: his uid, her name. She gave him the key.
    let bobs = world.agent("bob", BOB);
    bobs.add(&at("alice"));
    auth_as(world, BOB, &bobs, "").accepted();
    auth_as(world, ALICE, &bobs, "").refused(UNAVAILABLE, "Permission denied");

    for (environment, why) in [
        (vec![], "no SSH_AUTH_SOCK"),
        (vec![("SSH_AUTH_SOCK", "")], "no SSH_AUTH_SOCK"),
        (vec![("SSH_AUTH_SOCK", "agent.sock")], "not a usable socket path"),
        (vec![("SSH_AUTH_SOCK", "/nonexistent/agent")], "No such file"),
    ] {
        let outcome = world.pam(ALICE, &environment, &["ussh-test", "alice", "authenticate"]);
        outcome.refused(UNAVAILABLE, why);
        assert!(outcome.text.contains("\"ssh -A\""), "{}", outcome.text);
    }
    // agent_socket= takes the environment's place.
    world.service(
        "ussh-test",
        &format!("auth required MODULE ca_file={} agent_socket={}", at("cas"), agent.socket.display()),
    );
    world.pam(ALICE, &[("SSH_AUTH_SOCK", "/nonexistent/agent")], &["ussh-test", "alice", "authenticate"]).accepted();
}

fn a_frozen_agent_costs_the_timeout(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &["-n", "alice", "-V", "-1m:+1h"]));
    agent.freeze();
    let start = Instant::now();
    let outcome = auth(world, agent, "timeout=1");
    let took = start.elapsed();
    agent.thaw();
    outcome.refused(UNAVAILABLE, "no answer in time");
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(4), "{took:?}");
    auth(world, agent, "timeout=1").accepted();
}

fn a_daemon_s_own_agent_speaks_for_nobody(world: &World, _agent: &Agent) {
    let roots = world.agent("root", 0);
    roots.add(&world.certificate("ca", &["-n", "alice,root", "-V", "-1m:+1h"]));
    let socket = [("SSH_AUTH_SOCK", roots.socket.to_str().unwrap())];
    world.service("ussh-test", &format!("auth required MODULE ca_file={}", at("cas")));
    for arguments in [
        vec!["ussh-test", "alice", "authenticate"],
        vec!["-I", "ruser=alice", "ussh-test", "alice", "authenticate"],
        vec!["-I", "ruser=root", "-I", "rhost=192.0.2.1", "ussh-test", "alice", "authenticate"],
    ] {
        world.pam(0, &socket, &arguments).refused(SERVICE_ERR, "runs as root for somebody else");
    }
    let garbled = [b"-I", &b"ruser=root"[..], b"-I", b"rhost=\xffevil", b"ussh-test", b"root", b"authenticate"];
    world.pam(0, &socket, &garbled.map(OsStr::from_bytes)).refused(SERVICE_ERR, "misconfigured: PAM_RHOST is no text");
    // root in person, as sudo and su tell it.
    world.pam(0, &socket, &["-I", "ruser=root", "ussh-test", "root", "authenticate"]).accepted();
}

fn wrong_places_refuse(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &["-n", "alice", "-V", "-1m:+1h"]));
    let socket = [("SSH_AUTH_SOCK", agent.socket.to_str().unwrap())];
    let line = format!("MODULE ca_file={}", at("cas"));
    world.service("login", &format!("auth required {line}\naccount required {line}\nsession required MODULE"));
    world.pam(ALICE, &socket, &["login", "alice", "authenticate"]).refused(SERVICE_ERR, "a console has no agent");
    world.pam(ALICE, &socket, &["login", "alice", "acct_mgmt"]).refused(SERVICE_ERR, "a console has no agent");
    world.pam(0, &[], &["login", "alice", "open_session"]).refused(SESSION_ERR, "its place is sshd's stack only");
    world.service("sshd", "account required MODULE");
    world.pam(0, &[], &["sshd", "alice", "acct_mgmt"]).refused(SERVICE_ERR, "the certificate cannot be seen there");
    // Somebody who makes a program call itself sshd.
    world.service("sshd", &format!("auth required {line}"));
    let claimed = format!("SSH_AUTH_INFO_0={}", world.certificate_line());
    world
        .pam(ALICE, &socket, &["-E", &claimed, "sshd", "alice", "authenticate"])
        .refused(SERVICE_ERR, "the process is not sshd's");
}

fn the_other_hooks(world: &World, agent: &Agent) {
    agent.add(&world.certificate("ca", &["-n", "alice", "-V", "-1m:+1h"]));
    let line = format!("MODULE ca_file={}", at("cas"));
    let socket = [("SSH_AUTH_SOCK", agent.socket.to_str().unwrap())];
    // `sufficient` in front of pam_deny: setcred must not say "ignore".
    world.service("ussh-test", &format!("auth sufficient {line}\nauth required pam_deny.so\npassword required {line}"));
    world.pam(ALICE, &socket, &["ussh-test", "alice", "authenticate", "setcred"]).accepted();
    let outcome = world.pam(ALICE, &socket, &["ussh-test", "alice", "chauthtok"]);
    assert!(
        !outcome.success && outcome.log.iter().all(|line| line.contains("no passwords to change")),
        "{:?}",
        outcome.log
    );
    world.pam(ALICE, &[], &["ussh-test", "no-such-user", "authenticate"]).refused(AUTH_ERR, "no such account");
}

fn silence_is_kept(world: &World, agent: &Agent) {
    world.service("ussh-test", &format!("auth required MODULE ca_file={}", at("cas")));
    let socket = [("SSH_AUTH_SOCK", agent.socket.to_str().unwrap())];
    let outcome = world.pam(ALICE, &socket, &["ussh-test", "alice", "authenticate(PAM_SILENT)"]);
    outcome.refused(AUTH_ERR, "no certificate");
    assert_eq!(outcome.text, format!("pamtester: {AUTH_ERR}\n"));
}

fn sshd_s_certificate_gets_in_and_nothing_less(world: &World, agent: &Agent) {
    world.certificate(
        "ca",
        &["-n", "alice", "-V", "-1m:+1h", "-z", "9", "-O", "force-command=true", "-O", "source-address=127.0.0.1"],
    );
    let good = world.certificate_line();
    let login = |options: &str, info: Option<&str>| {
        world.service("sshd", &format!("auth required MODULE ca_file={} {options}", at("cas")));
        let info = info.map(|info| format!("SSH_AUTH_INFO_0={info}"));
        let mut arguments = vec!["-I", "rhost=192.0.2.1", "-I", "tty=ssh"];
        arguments.extend(info.iter().flat_map(|info| ["-E", info.as_str()]));
        arguments.extend(["sshd", "alice", "authenticate"]);
        // The process's environment says nothing here.
        world.pam(0, &[("SSH_AUTH_INFO_0", &good), ("SSH_AUTH_SOCK", agent.socket.to_str().unwrap())], &arguments)
    };
    let plain = format!("publickey {}", fs::read_to_string(at("bob.pub")).unwrap().trim());

    let outcome = login("", Some(&good));
    outcome.accepted();
    assert!(outcome.log[0].ends_with(" for alice via sshd tty ssh rhost 192.0.2.1"), "{:?}", outcome.log);
    login("", Some(&format!("{plain}\n{good}\nkeyboard-interactive/pam"))).accepted();
    login("", None).refused(AUTH_ERR, "no certificate");
    login("", Some("")).refused(AUTH_ERR, "no certificate");
    login("", Some(&plain)).refused(AUTH_ERR, "no certificate");
    login("", Some(&good[..good.len() - 9])).refused(AUTH_ERR, "unreadable certificate");
    login("max_validity=1h", Some(&good)).refused(AUTH_ERR, "longer than the 3600 s allowed");
    login("group=bob", Some(&good)).refused(PERM_DENIED, "not in group bob");
    world.certificate("other_ca", &["-n", "alice", "-V", "-1m:+1h"]);
    login("", Some(&world.certificate_line())).refused(AUTH_ERR, "is not trusted");
}

fn records() -> Vec<SessionRecord> {
    let Ok(folder) = fs::read_dir(SPOOL) else { return Vec::new() };
    folder.map(|entry| SessionRecord::read(&entry.unwrap().path()).unwrap()).collect()
}

fn open_session(world: &World, options: &str, info: &str, operations: &[&str]) -> Outcome {
    world.service("sshd", &format!("session required MODULE {options}"));
    let info = format!("SSH_AUTH_INFO_0={info}");
    let mut arguments = vec!["-I", "rhost=192.0.2.1", "-E", &info, "sshd", "alice"];
    arguments.extend(operations);
    world.pam(0, &[], &arguments)
}

fn a_session_is_recorded_and_forgotten(world: &World, _agent: &Agent) {
    world.certificate("ca", &["-n", "alice", "-V", "-1m:+2h", "-z", "1"]);
    let long = world.certificate_line();
    world.certificate("ca", &["-n", "alice", "-V", "-1m:+1h", "-z", "2"]);
    let short = world.certificate_line();

    let outcome = open_session(world, "", &format!("{long}\n{short}"), &["open_session"]);
    assert!(outcome.success && outcome.log.is_empty(), "{} {:?}", outcome.text, outcome.log);
    assert_eq!(outcome.text, "pamtester: successfully opened a session\n", "nothing is printed in a session");
    let [record] = &records()[..] else { panic!("{:?}", records()) };
    assert_eq!((record.user.as_str(), record.uid, record.rhost.as_str()), ("alice", ALICE, "192.0.2.1"));
    assert_eq!(record.certificate.as_deref(), short.strip_prefix("publickey "), "the one that ends first");
    assert!(record.start_time > 0 && record.boot_id.len() == 36);
    record.remove(Path::new(SPOOL)).unwrap();

    // No certificate: that is recorded.
    assert!(open_session(world, "debug", "keyboard-interactive/pam", &["open_session"]).success);
    let [record] = &records()[..] else { panic!("{:?}", records()) };
    assert_eq!(record.certificate, None);
    record.remove(Path::new(SPOOL)).unwrap();

    assert!(open_session(world, "", &short, &["open_session", "close_session"]).success);
    assert!(records().is_empty());
}

fn a_session_without_record_is_refused_unless_allowed(world: &World, _agent: &Agent) {
    world.certificate("ca", &["-n", "alice", "-V", "-1m:+1h"]);
    let good = world.certificate_line();
    let unreadable = &good[..good.len() - 9];
    open_session(world, "", unreadable, &["open_session"]).refused(SESSION_ERR, "cannot be read");
    open_session(world, "ca_file=/etc/ca", &good, &["open_session"])
        .refused(SESSION_ERR, "option ca_file is for auth and account only");
    let garbled = [b"-E", &b"SSH_AUTH_INFO_0=publickey \xff"[..], b"sshd", b"alice", b"open_session"];
    world.service("sshd", "session required MODULE");
    world.pam(0, &[], &garbled.map(OsStr::from_bytes)).refused(SESSION_ERR, "SSH_AUTH_INFO_0 is no text");

    fs::set_permissions(SPOOL, fs::Permissions::from_mode(0o777)).unwrap();
    let outcome = open_session(world, "", &good, &["open_session"]);
    outcome.refused(SESSION_ERR, "bad ownership or modes (uid 0, mode 0777): it must belong to root");
    assert!(outcome.log[0].ends_with("; try chmod go-w"), "{:?}", outcome.log);
    let whose = "Refusing for alice via sshd rhost 192.0.2.1: cannot check: record in ";
    assert!(outcome.log[0].contains(whose), "{:?}", outcome.log);
    let outcome = open_session(world, "spool_failure=allow", &good, &["open_session"]);
    assert!(outcome.success, "{}", outcome.text);
    // It refuses nothing, and says so in one line.
    let [line] = &outcome.log[..] else { panic!("{:?}", outcome.log) };
    let whose = whose.replace("Refusing", "Session goes on unwatched");
    assert!(line.starts_with(&whose) && line.contains("bad ownership or modes"), "{line}");
    assert!(fs::read_dir(SPOOL).unwrap().next().is_none());
}
