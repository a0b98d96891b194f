//! `account`: when the proof is made again, when it is not, and who is not asked.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use super::world::{ALICE, Agent, BOB, Outcome, World, at};
use super::{AUTH_ERR, Fact, GOOD, SERVICE_ERR, UNAVAILABLE};

pub const FACTS: &[(&str, Fact)] = &[
    ("account_alone_asks_the_agent", account_alone_asks_the_agent),
    ("account_takes_the_proof_of_auth_in_the_same_handle", account_takes_the_proof_of_auth_in_the_same_handle),
    ("account_judges_the_certificate_again_by_its_own_line", account_judges_the_certificate_again_by_its_own_line),
    ("another_modules_data_is_no_proof", another_modules_data_is_no_proof),
    ("root_at_work_passes_account", root_at_work_passes_account),
    ("a_daemon_for_somebody_afar_is_not_root_at_work", a_daemon_for_somebody_afar_is_not_root_at_work),
    ("members_of_the_exempt_group_pass_account", members_of_the_exempt_group_pass_account),
    ("an_account_line_that_is_not_understood_lets_not_even_root_pass", a_line_that_is_not_understood),
];

/// Where no agent is: who passes has not asked one.
const NOWHERE: &str = "/nonexistent/agent";

/// The options of an `auth` and of an `account` line.
fn lines(world: &World, auth: &str, account: &str) {
    let ours = |facility: &str, options: &str| format!("{facility} required MODULE ca_file={} {options}", at("cas"));
    world.service("ussh-test", &format!("{}\n{}", ours("auth", auth), ours("account", account)));
}

fn ask(world: &World, uid: u32, socket: &str, operations: &[&str]) -> Outcome {
    let user = if uid == BOB { "bob" } else { "alice" };
    let mut arguments = vec!["ussh-test", user];
    arguments.extend(operations);
    world.pam(uid, &[("SSH_AUTH_SOCK", socket)], &arguments)
}

impl Outcome {
    /// This one line, without a certificate.
    #[track_caller]
    fn exempted(&self, line: &str) {
        assert!(self.success, "{} {:?}", self.text, self.log);
        assert_eq!(self.log, [line]);
    }
}

fn account_alone_asks_the_agent(world: &World, agent: &Agent) {
    let socket = agent.socket.to_str().unwrap();
    agent.add(&world.certificate("ca", &GOOD));
    lines(world, "", "");
    let outcome = ask(world, ALICE, socket, &["acct_mgmt"]);
    outcome.accepted();
    assert!(outcome.log[0].ends_with(" for alice via ussh-test (account)"), "{:?}", outcome.log);
    ask(world, ALICE, NOWHERE, &["acct_mgmt"]).refused(UNAVAILABLE, "No such file");
    agent.empty();
    let outcome = ask(world, ALICE, socket, &["acct_mgmt"]);
    outcome.refused(AUTH_ERR, "for alice via ussh-test (account): no certificate");
    assert!(outcome.text.contains("No certificate that is good for this"), "{}", outcome.text);
}

fn account_takes_the_proof_of_auth_in_the_same_handle(world: &World, agent: &Agent) {
    let socket = agent.socket.to_str().unwrap();
    agent.add(&world.certificate("ca", &GOOD));
    lines(world, "", &format!("agent_socket={NOWHERE}"));
    let outcome = ask(world, ALICE, socket, &["authenticate", "setcred", "acct_mgmt", "acct_mgmt"]);
    assert!(outcome.success, "{} {:?}", outcome.text, outcome.log);
    assert_eq!(outcome.log.len(), 3, "{:?}", outcome.log);
    for line in &outcome.log[1..] {
        assert!(line.starts_with("Accepted certificate ID \"alice\" (serial "), "{line}");
        assert!(line.ends_with(" for alice via ussh-test (account): proof made by auth"), "{line}");
    }
    // Another handle, and a handle in which auth has failed, have none.
    ask(world, ALICE, socket, &["acct_mgmt"]).refused(UNAVAILABLE, "No such file");
    agent.empty();
    let outcome = ask(world, ALICE, socket, &["-v", "authenticate", "acct_mgmt"]);
    assert!(!outcome.success && !outcome.log.iter().any(|line| line.contains("Accepted")), "{:?}", outcome.log);
}

fn account_judges_the_certificate_again_by_its_own_line(world: &World, agent: &Agent) {
    let socket = agent.socket.to_str().unwrap();
    agent.add(&world.certificate("ca", &["-n", "alice", "-V", "-1m:+1h", "-z", "71"]));
    fs::write(at("spec"), "serial: 71\n").unwrap();
    world.run("ssh-keygen", &["-q", "-k", "-f", &at("revoked-71"), "-s", &at("ca.pub"), &at("spec")]);
    let revoked = format!("revoked_keys={}", at("revoked-71"));
    for (account, why) in [
        (revoked.as_str(), "(account): certificate is revoked"),
        ("max_validity=1h", "longer than the 3600 s allowed"),
        ("group=bob", "not in group bob"),
    ] {
        lines(world, "", account);
        let outcome = ask(world, ALICE, socket, &["authenticate", "acct_mgmt"]);
        assert!(!outcome.success, "{:?}", outcome.log);
        let [accepted, refused] = &outcome.log[..] else { panic!("{:?}", outcome.log) };
        assert!(accepted.starts_with("Accepted ") && refused.contains(why), "{:?}", outcome.log);
    }
}

fn another_modules_data_is_no_proof(world: &World, agent: &Agent) {
    let socket = agent.socket.to_str().unwrap();
    agent.add(&world.certificate("ca", &GOOD));
    let foreign = world.c_module("foreign");
    let ours = format!("MODULE ca_file={}", at("cas"));
    world.service("ussh-test", &format!("auth required {foreign}\naccount required {ours} agent_socket={NOWHERE}"));
    ask(world, ALICE, socket, &["authenticate", "acct_mgmt"]).refused(UNAVAILABLE, "No such file");
    // In front of ours, and behind it in place of ours.
    for auth in [
        format!("auth required {foreign}\nauth required {ours}"),
        format!("auth required {ours}\nauth required {foreign}"),
    ] {
        world.service("ussh-test", &format!("{auth}\naccount required {ours}"));
        let outcome = ask(world, ALICE, socket, &["authenticate", "acct_mgmt"]);
        assert!(outcome.success && outcome.log.len() == 2, "{} {:?}", outcome.text, outcome.log);
    }
}

fn root_at_work_passes_account(world: &World, _agent: &Agent) {
    let passed = |item: &[&str], who: &str| {
        let arguments = [item, &["ussh-test", "alice", "acct_mgmt"]].concat();
        let line = format!("Exempted for alice via ussh-test (account){who}: real uid 0 is not asked");
        world.pam(0, &[], &arguments).exempted(&line);
    };
    lines(world, "", "");
    passed(&[], "");
    passed(&["-I", "ruser=root"], " ruser root");
    // What may go missing by itself locks root out of nothing.
    world.service("ussh-test", "account required MODULE ca_file=/nonexistent revoked_keys=/nonexistent group=nobody-s");
    passed(&[], "");
}

fn a_daemon_for_somebody_afar_is_not_root_at_work(world: &World, _agent: &Agent) {
    lines(world, "", "");
    let arguments = ["-I", "rhost=192.0.2.1", "ussh-test", "alice", "acct_mgmt"];
    world.pam(0, &[], &arguments).refused(SERVICE_ERR, "runs as root for somebody else");
    // What is no text is not nothing.
    let from = |item: &'static [u8]| [b"-I", item, b"ussh-test", b"alice", b"acct_mgmt"].map(OsStr::from_bytes);
    world.pam(0, &[], &from(b"rhost=\xffevil")).refused(SERVICE_ERR, "misconfigured: PAM_RHOST is no text");
    world.pam(0, &[], &from(b"ruser=\xff")).refused(SERVICE_ERR, "misconfigured: PAM_RUSER is no text");
    world.pam(0, &[], &from(b"tty=\xff")).refused(SERVICE_ERR, "misconfigured: PAM_TTY is no text");
}

fn members_of_the_exempt_group_pass_account(world: &World, agent: &Agent) {
    let socket = agent.socket.to_str().unwrap();
    lines(world, "", "account_exempt_group=admins");
    ask(world, ALICE, NOWHERE, &["acct_mgmt"])
        .exempted("Exempted for alice via ussh-test (account): member of group admins");
    ask(world, BOB, NOWHERE, &["acct_mgmt"]).refused(UNAVAILABLE, "No such file");
    // In account only: auth knows no exemption, nor the option.
    ask(world, ALICE, socket, &["authenticate"]).refused(AUTH_ERR, "no certificate");
    lines(world, "account_exempt_group=admins", "");
    ask(world, ALICE, socket, &["authenticate"]).refused(SERVICE_ERR, "account_exempt_group");
    lines(world, "", "account_exempt_group=no-such-group");
    ask(world, ALICE, socket, &["acct_mgmt"]).refused(SERVICE_ERR, "account_exempt_group=no-such-group does not exist");
}

fn a_line_that_is_not_understood(world: &World, _agent: &Agent) {
    for (options, why) in [
        ("account_exempt_group=", "account_exempt_group has no value"),
        ("account_exempt_group=a account_exempt_group=b", "account_exempt_group is repeated"),
        ("exempt_group=admins", "unknown option exempt_group"),
    ] {
        lines(world, "", options);
        for uid in [0, ALICE] {
            ask(world, uid, NOWHERE, &["acct_mgmt"]).refused(SERVICE_ERR, why);
        }
    }
}
