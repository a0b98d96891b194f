//! An account of two people, one of whom would have the other's certificate speak for him.

use ussh_e2e::lab::wait_until;
use ussh_e2e::{Forged, Forgery, Leftover, PersonAgent};

use crate::{AGENT_SILENT, SOON, WORLD};

const LINE: &str = "auth required pam_ussh.so revoked_keys=/etc/ssh/revoked_keys debug";
const SPOOL: &str = "/run/ussh-hostd/sessions";

/// Somebody with an agent and a certificate that gets into the account.
fn somebody() -> (PersonAgent<'static>, Forged) {
    let agent = WORLD.new_agent(&WORLD.somebody().unwrap()).unwrap();
    let forged = WORLD.forge(&Forgery::of(agent.user()).principals(&["team"])).unwrap();
    forged.add_to(&agent).unwrap();
    (agent, forged)
}

/// The records of all sessions on web3, as text.
fn records() -> Vec<String> {
    let host = WORLD.host("web3");
    let names =
        host.list_folder(SPOOL).unwrap().into_iter().filter(|name| name.ends_with(".json") && !name.starts_with('.'));
    // One that is gone again is none.
    names.filter_map(|name| host.read_file(&format!("{SPOOL}/{name}")).ok()).collect()
}

/// Runs sudo in a shell that was left. What it printed, and what pam_ussh logged.
fn sudo(left: &Leftover, command: &str) -> (String, Vec<String>) {
    let position = WORLD.log_position("web3");
    let (_, shown) = left.run(command).unwrap();
    let log = WORLD.logged_since("web3", position).unwrap();
    let ours = log.lines().filter(|line| line.contains("pam_ussh[") && line.contains("ruser team"));
    (shown, ours.map(str::to_owned).collect())
}

/// `~/.pam_environment` belongs to the account, and so to both: it says that every login is of the same certificate. Neither what `auth` lines do with it (in setcred) nor what
/// `session` lines do behind ours changes a record; and so the search still knows that there are two.
#[test]
fn a_pam_environment_makes_no_other_persons_session_ones_own() {
    let _watch = WORLD.lab().watch();
    let web3 = WORLD.host("web3");
    WORLD.sudo_pam("web3", LINE).unwrap();
    let stack = web3.read_file("/etc/pam.d/sshd").unwrap();
    assert!(stack.contains("pam_env.so user_readenv=1"), "{stack}");
    web3.write_file("/etc/pam.d/sshd", 0o644, format!("auth required pam_env.so user_readenv=1\n{stack}")).unwrap();
    let ((one, ones), (two, twos)) = (somebody(), somebody());

    let shell = one.shell("ssh -A team@web3").unwrap();
    let left = Leftover::of(&shell, &WORLD, "web3", "team").unwrap();
    shell.exit().unwrap();
    wait_until(SOON, "the record to go", || records().is_empty()).unwrap();
    let mine = one.shell("ssh -A team@web3").unwrap();
    let by =
        |forged: &Forged, key_id: &str| format!("Accepted certificate ID \"{key_id}\" (serial {}) ", forged.serial);
    let (shown, log) = sudo(&left, "sudo id -u");
    assert!(shown == "0\n" && log.last().unwrap().contains(&by(&ones, one.user())), "{shown} {log:#?}");

    let listed = one.sh("ssh-add -L").unwrap().ok().unwrap().stdout;
    let claimed = listed.split(' ').take(2).collect::<Vec<_>>().join(" ").replace('@', "\\@");
    let file = format!("SSH_AUTH_INFO_0 OVERRIDE=\"publickey {claimed}\"\nWITNESS OVERRIDE=seen\n");
    web3.write_file_as("team", "/home/team/.pam_environment", 0o600, file).unwrap();
    // Behind the other's connection lies a witness of who is asked.
    let witness = format!("/home/{}/witness", two.user());
    let relay = WORLD.relay("laptop", two.user(), &witness, two.socket()).unwrap();
    let theirs = two.shell(&format!("ssh -o ForwardAgent={witness} team@web3")).unwrap();
    assert_eq!(theirs.run("echo $WITNESS").unwrap(), "seen\n", "the file must be read, or this shows nothing");
    let certificates: Vec<String> = records();
    let own = two.sh("ssh-add -L").unwrap().ok().unwrap().stdout;
    let blob = own.split(' ').nth(1).unwrap();
    assert_eq!(certificates.iter().filter(|record| record.contains(blob)).count(), 1, "{certificates:#?}");

    for command in ["sudo id -u", "SSH_AUTH_SOCK=/run/none sudo id -u"] {
        let (shown, log) = sudo(&left, command);
        let last = log.last().unwrap();
        assert!(shown.contains(AGENT_SILENT) && !shown.lines().any(|line| line == "0"), "{shown} {log:#?}");
        assert!(last.contains("Refusing ") && last.ends_with("No such file or directory (os error 2)"), "{log:#?}");
        let told = "no search: live sessions of this uid have different key IDs";
        assert!(log.iter().any(|line| line.ends_with(told)), "{log:#?}");
    }
    assert_eq!(relay.seen().unwrap(), (0, 0));

    // Whoever names the other's socket uses what the account lets him use anyway, and the log names the other.
    let socket = theirs.run("echo $SSH_AUTH_SOCK").unwrap().trim().to_owned();
    let (shown, log) = sudo(&left, &format!("SSH_AUTH_SOCK={socket} sudo id -u"));
    assert!(shown == "0\n" && log.last().unwrap().contains(&by(&twos, two.user())), "{shown} {log:#?}");
    assert_eq!(relay.seen().unwrap(), (1, 1));

    theirs.exit().unwrap();
    mine.exit().unwrap();
    web3.write_file("/etc/pam.d/sshd", 0o644, stack).unwrap();
}
