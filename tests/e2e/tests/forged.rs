//! A CA that was taken over: what it can do with the agent that `ussh` forwards to it.
//!
//! `evil` has a host certificate of our own host CA, takes the users' passwords, and then runs what an attacker would: the worst that somebody can be who poses as the CA.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;
use std::time::Duration;

use ussh_e2e::lab::{Output, SSHD_CONFIG, wait_until};
use ussh_e2e::{CA_DIR, World, WorldPlan};

const SOON: Duration = Duration::from_secs(30);
/// EX_UNAVAILABLE of sysexits.h: no certificate.
const UNAVAILABLE: i32 = 69;

/// A password is taken, and then the user's attack runs, whatever was asked for.
const EVIL_SSHD: &str = "\
LogLevel VERBOSE
HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub
ForceCommand exec /bin/bash /srv/attack-$USER 2>&1
";

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let plan = WorldPlan::new("forged").bare("evil");
    let people = ["rita", "sara", "tina", "vera"];
    let plan = people.iter().fold(plan, |plan, name| plan.person(name, &format!("password of {name}"), &["admins"]));
    let world = plan.start().unwrap();
    world.sign_host("evil").unwrap();
    // It announces itself as the CA does: `ussh` tells nobody else a password.
    let disguise = "perl -pe 's/OpenSSH_(?=[0-9.]+p[0-9])/usshca__/g' /usr/sbin/sshd > /run/sshd-as-ca && chmod 755 /run/sshd-as-ca && mount --bind /run/sshd-as-ca /usr/sbin/sshd";
    world.host("evil").script(disguise).unwrap().ok().unwrap();
    let asks = SSHD_CONFIG.replace("KbdInteractiveAuthentication no", "KbdInteractiveAuthentication yes");
    world.host("evil").start_sshd(&format!("{asks}{EVIL_SSHD}")).unwrap();
    world
});

/// Logs `user` in at `evil` by `ussh`, which then runs `attack` as that user; what the attack printed is in stderr.
fn log_in_at_evil(user: &str, attack: &str) -> Output {
    WORLD.host("evil").write_file(&format!("/srv/attack-{user}"), 0o755, attack).unwrap();
    let login = WORLD.unattended(user, WORLD.password(user), "USSH_CA=evil exec ussh --login").unwrap();
    let ended = login.wait(SOON).unwrap();
    assert!(ended.stderr.contains("attack begins") && ended.stderr.contains("attack ends"), "{ended}");
    ended
}

/// Runs each line, and says with which status it ended.
fn attack(lines: &[&str]) -> String {
    let mut script = "cd; echo attack begins\n".to_owned();
    for (number, line) in lines.iter().enumerate() {
        script += &format!("{line}\necho \"[{number}] ended with $?\"\n");
    }
    script + "echo attack ends\n"
}

fn agent_of(user: &str) -> String {
    WORLD.sh("laptop", user, "ssh-add -L").unwrap().ok().unwrap().stdout
}

/// A key of the user's own in their agent, with which web1 lets them in.
fn give_own_key(user: &str) {
    WORLD
        .sh("laptop", user, "ssh-keygen -q -t ed25519 -N '' -C own -f ~/own && ssh-add -q ~/own")
        .unwrap()
        .ok()
        .unwrap();
    let public = WORLD.host("laptop").read_file(&format!("/home/{user}/own.pub")).unwrap();
    let (web1, evil) = (WORLD.host("web1"), WORLD.host("evil"));
    web1.make_folder_as(user, &format!("/home/{user}/.ssh"), 0o700).unwrap();
    web1.write_file_as(user, &format!("/home/{user}/.ssh/authorized_keys"), 0o600, &public).unwrap();
    evil.write_file_as(user, &format!("/home/{user}/own.pub"), 0o644, &public).unwrap();
}

#[test]
fn a_hostile_ca_sees_uses_and_removes_no_key_of_the_users() {
    let _watch = WORLD.lab().watch();
    give_own_key("rita");
    let before = agent_of("rita");
    let lines = [
        "ssh-add -L",
        "ssh -o BatchMode=yes -o StrictHostKeyChecking=no web1 echo got in",
        "echo x | ssh-keygen -Y sign -f own.pub -n file",
        "ssh-add -D",
        "ssh-add -d own.pub",
        "printf '#!/bin/sh\\necho locked\\n' > askpass; chmod +x askpass; SSH_ASKPASS=$PWD/askpass SSH_ASKPASS_REQUIRE=force ssh-add -x",
        "SSH_ASKPASS=$PWD/askpass SSH_ASKPASS_REQUIRE=force ssh-add -s /usr/lib/x86_64-linux-gnu/libc.so.6",
        "ssh-add -T own.pub",
    ];
    let ended = log_in_at_evil("rita", &attack(&lines));
    assert_eq!(ended.status.code(), UNAVAILABLE, "{ended}");
    assert!(ended.stderr.contains("no good certificate has come"), "{ended}");
    for (number, line) in lines.iter().enumerate() {
        assert!(!ended.stderr.contains(&format!("[{number}] ended with 0")), "{line} went well: {ended}");
    }
    assert!(ended.stderr.contains("The agent has no identities."), "{ended}");
    assert!(!ended.stderr.contains("got in") && !ended.stderr.contains("BEGIN SSH SIGNATURE"), "{ended}");
    assert_eq!(agent_of("rita"), before, "the agent is no longer what it was");

    // Nor was a key offered to it in the login.
    let log = WORLD.host("evil").log();
    assert!(log.contains("Accepted keyboard-interactive/pam for rita"), "{log}");
    assert!(!log.lines().any(|l| l.contains("publickey") && l.contains("rita")), "{log}");

    // What it was after is there, and works for its owner.
    let own = WORLD.sh("laptop", "rita", "ssh -o BatchMode=yes web1 echo got in").unwrap().ok().unwrap();
    assert_eq!(own.stdout, "got in\n");
    // And with the agent itself forwarded, as a stock `ssh -A` does, the attack goes well: the guard is what keeps it out.
    WORLD.host("evil").write_file("/srv/attack-rita", 0o755, attack(&lines[..2])).unwrap();
    let stock = WORLD.unattended("rita", WORLD.password("rita"), "exec ssh -A evil").unwrap().wait(SOON).unwrap();
    assert!(stock.stdout.contains("got in"), "{stock}");
}

#[test]
fn a_hostile_ca_can_add_no_plain_key_and_no_certificate_of_another_ca() {
    let _watch = WORLD.lab().watch();
    give_own_key("sara");
    let before = agent_of("sara");
    let lines = [
        "ssh-keygen -q -t ed25519 -N '' -f plain && ssh-add plain",
        "ssh-keygen -q -t ed25519 -N '' -f other_ca && ssh-keygen -q -s other_ca -I sara -n sara -V +1h plain.pub && ssh-add plain",
    ];
    let ended = log_in_at_evil("sara", &attack(&lines));
    assert_eq!(ended.status.code(), UNAVAILABLE, "{ended}");
    assert!(!ended.stderr.contains("ended with 0"), "{ended}");
    assert!(ended.stderr.contains("the one it offered was not taken"), "{ended}");
    assert_eq!(agent_of("sara"), before);
}

/// Lays key and certificate `name` into the user's home on `evil`, signed with our CA's own key: nobody but root on the CA can do that.
fn forge(user: &str, name: &str, options: &str) {
    let script = format!(
        "d=$(mktemp -d); ssh-keygen -q -t ed25519 -N '' -C {name} -f $d/k; \
         ssh-keygen -q -s {CA_DIR}/state/user_ca -I {user} -z 4711 {options} $d/k.pub; mv $d/k /srv/{name}; mv $d/k-cert.pub /srv/{name}-cert.pub"
    );
    let (ca, evil) = (WORLD.host("ca"), WORLD.host("evil"));
    ca.script(&script).unwrap();
    for file in [name, &format!("{name}-cert.pub")] {
        let content = ca.read_bytes(&format!("/srv/{file}")).unwrap();
        evil.write_file_as(user, &format!("/home/{user}/{file}"), 0o600, content).unwrap();
    }
}

#[test]
fn a_certificate_of_our_ca_that_no_server_would_take_is_not_taken() {
    let _watch = WORLD.lab().watch();
    give_own_key("tina");
    let before = agent_of("tina");
    for (name, options) in [
        ("expired", "-n tina -V -2h:-1h"),
        ("early", "-n tina -V +1h:+2h"),
        ("host", "-h -n tina -V -1m:+1h"),
        ("nobody", "-V -1m:+1h"),
        ("unknown-option", "-n tina -V -1m:+1h -O critical:frobnicate@example.com=1"),
    ] {
        forge("tina", name, options);
        let ended = log_in_at_evil("tina", &attack(&[&format!("ssh-add {name}")]));
        assert_eq!(ended.status.code(), UNAVAILABLE, "{name}: {ended}");
        assert!(ended.stderr.contains("the one it offered was not taken"), "{name}: {ended}");
        assert_eq!(agent_of("tina"), before, "{name}");
    }
}

#[test]
fn a_good_certificate_is_taken_without_its_plain_key_and_for_no_longer_than_it_is_valid() {
    let _watch = WORLD.lab().watch();
    give_own_key("vera");
    let before = agent_of("vera");
    forge("vera", "good", "-n vera -V -1m:+6s");
    // ssh-add adds key and certificate, both without a lifetime, and says of the plain key that it was refused.
    let ended = log_in_at_evil("vera", &attack(&["ssh-add good", "ssh-add -L"]));
    assert!(ended.success(), "{ended}");
    let listed = WORLD.certificates("vera").unwrap();
    assert_eq!(listed.len(), 1, "{ended}");
    assert_eq!(listed[0].serial, 4711);
    // The CA sees what it has added itself, and nothing else.
    assert!(ended.stderr.contains("ssh-ed25519-cert-v01@openssh.com ") && !ended.stderr.contains(" own\n"), "{ended}");
    assert_eq!(agent_of("vera").lines().count(), before.lines().count() + 1);
    wait_until(SOON, "the agent to drop it", || agent_of("vera") == before).unwrap();
}
