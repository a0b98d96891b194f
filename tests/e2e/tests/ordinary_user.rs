//! A CA that an ordinary user makes and runs in a folder of his own: it works for his own account, whose password PAM lets him check, and says what it cannot do without root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use ussh_e2e::{World, WorldPlan};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(30);
const CA: &str = "/usr/sbin/usshca --dir myca";
const WITHOUT_ROOT: &str = "without root PAM can check your own password only";

/// Exit code, and what was shown.
fn log_in(world: &World, user: &str) -> (i32, String) {
    let script = "exec ssh -A -o NumberOfPasswordPrompts=1 -p 2222 ca";
    let ssh = world.terminal("laptop", user, script).unwrap();
    ssh.expect("assword: ", SOON).unwrap();
    ssh.send(&format!("{}\n", world.password(user))).unwrap();
    let code = ssh.expect_exit(SOON).unwrap().code();
    ssh.expect_close(SOON).unwrap();
    (code, ssh.transcript())
}

/// bob's, on a machine where root has set up nothing.
#[test]
fn a_ca_of_an_ordinary_user_serves_his_own_account_and_says_what_it_cannot_do() {
    let world = WorldPlan::new("ordinary").without_servers().start().unwrap();
    let _watch = world.lab().watch();
    let ca = world.host("ca");
    ca.stop_service("usshca").unwrap();
    ca.script("rm /etc/pam.d/usshca").unwrap();
    let run = |arguments: &str| world.sh("ca", "bob", &format!("exec {CA} {arguments}")).unwrap();

    let init = run("init --name ca --listen 0.0.0.0:2222").ok().unwrap();
    assert!(init.stdout.contains("myca/pam.d/usshca (new") && init.stdout.contains(WITHOUT_ROOT), "{init}");
    let check = run("check").ok().unwrap();
    assert!(check.stdout.contains("PAM service usshca: there") && check.stderr.contains(WITHOUT_ROOT), "{check}");
    let serve = ca.command(["bash", "-c", &format!("exec {CA} serve")]).user("bob").service("bob's CA").unwrap();
    serve.wait_for_output("listening on 0.0.0.0:2222", SOON).unwrap();
    assert!(serve.stderr().contains(WITHOUT_ROOT), "{}", serve.stderr());
    let line = ca.read_file("/home/bob/myca/public/known_hosts").unwrap();
    world.host("laptop").write_file("/etc/ssh/ssh_known_hosts", 0o644, line).unwrap();
    // All of it is bob's.
    let owners = ca.script("ps -o user= -C usshca,usshca-signer | sort -u").unwrap().stdout;
    assert_eq!(owners.trim(), "bob");

    let (code, seen) = log_in(&world, "bob");
    assert_eq!(code, 0, "{seen}");
    assert!(seen.contains("for bob is in your agent"), "{seen}");
    let rows = world.inventory_in("bob", "/home/bob/myca").unwrap();
    let bobs: Vec<_> = rows.iter().filter(|row| row.kind == "user").collect();
    assert_eq!(bobs.len(), 1, "{rows:?}");
    assert_eq!(
        (bobs[0].key_id.as_str(), bobs[0].outcome.as_str(), bobs[0].authenticated.as_str()),
        ("bob", "delivered", "pam")
    );
    assert_eq!(world.certificates("bob").unwrap()[0].serial, bobs[0].serial);

    // The right password of somebody else is none that unix_chkpwd would look at.
    let (code, seen) = log_in(&world, "alice");
    assert_eq!(code, 255, "{seen}");
    assert!(seen.contains("Permission denied (keyboard-interactive)"), "{seen}");
    // A wrong one of his own.
    ca.script("echo 'bob:another' | chpasswd").unwrap();
    let (code, seen) = log_in(&world, "bob");
    assert_eq!(code, 255, "{seen}");
    let mut after = world.inventory_in("bob", "/home/bob/myca").unwrap();
    let refused: Vec<_> = after.extract_if(.., |row| row.is_refused_login()).map(|row| row.key_id).collect();
    assert_eq!((refused, after.len()), (vec!["bob".to_owned(), "alice".to_owned()], rows.len()));
    // No root, no low port.
    let low = run("serve").refused().unwrap();
    assert!(low.stderr.contains("another usshca is running here"), "{low}");
    ca.script("sed -i 's/:2222/:222/' /home/bob/myca/usshca.toml").unwrap();
    serve.signal(ussh_e2e::lab::Signal::SIGTERM).unwrap();
    assert!(serve.wait(SOON).unwrap().success(), "{}", serve.stderr());
    let low = run("serve").refused().unwrap();
    assert!(low.stderr.contains("0.0.0.0:222: Permission denied"), "{low}");
}
