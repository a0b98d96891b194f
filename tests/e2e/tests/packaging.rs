//! The examples in `packaging/`, installed as they are: they parse, they let the right one in and nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::path::PathBuf;

use ussh_e2e::lab::SSHD_CONFIG;
use ussh_e2e::{World, WorldPlan};

fn example(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// web1 with the examples in place of the world's own files; `more` goes into its sshd_config, before them.
fn with_examples(name: &str, pam: &[&str], more: &str) -> World {
    let world = WorldPlan::new(name).start().unwrap();
    let web1 = world.host("web1");
    web1.stop_service("sshd").unwrap();
    for service in pam {
        web1.write_file(&format!("/etc/pam.d/{service}"), 0o644, example(&format!("pam.d/{service}"))).unwrap();
    }
    let rule = "%admins ALL=(ALL) ALL\n";
    web1.write_file("/etc/sudoers.d/ussh", 0o440, example("sudoers.d/ussh") + rule).unwrap();
    web1.run(["visudo", "-c"]).unwrap().ok().unwrap();
    web1.write_file("/etc/ssh/sshd_config.d/ussh.conf", 0o644, example("ssh/sshd_ussh.conf")).unwrap();
    let config = format!("{more}Include /etc/ssh/sshd_config.d/*.conf\n{SSHD_CONFIG}");
    web1.start_sshd(&config).unwrap();
    let (code, seen) = world.log_in("alice", "--login").unwrap();
    assert_eq!(code, 0, "{seen}");
    world
}

#[test]
fn a_server_set_up_with_the_examples_takes_certificates_and_nothing_else() {
    let world = with_examples("examples", &["sudo", "sudo-i", "su", "doas"], "");
    let _watch = world.lab().watch();
    world.host("web1").write_file("/etc/doas.conf", 0o400, "permit :admins\n").unwrap();
    for command in ["sudo id -u", "sudo -i id -u", "sudo -n id -u", "doas id -u"] {
        let good = world.sh("laptop", "alice", &format!("ssh -A web1 '{command}' </dev/null")).unwrap().ok().unwrap();
        assert_eq!(good.stdout, "0\n", "{command}");
        let bad = world.sh("laptop", "alice", &format!("ssh -a web1 '{command}' </dev/null")).unwrap();
        assert!(!bad.success() && bad.stdout.is_empty(), "{command}: {bad}");
    }
    let su = world.sh("laptop", "alice", "ssh -A web1 'su - -c id' </dev/null").unwrap().refused().unwrap();
    assert!(su.stdout.is_empty(), "{su}");
    let rootok = world.host("web1").run(["su", "-", "alice", "-c", "id -un"]).unwrap().ok().unwrap();
    assert_eq!(rootok.stdout, "alice\n");

    // Without the certificate no other way in is even offered.
    let bare = world.sh("laptop", "alice", "SSH_AUTH_SOCK= ssh -o BatchMode=yes web1 true").unwrap();
    assert!(bare.stderr.contains("Permission denied (publickey)"), "{bare}");
}

#[test]
fn the_example_for_sshds_own_stack_works_with_the_two_lines_it_asks_for() {
    let asked = "KbdInteractiveAuthentication yes\nAuthenticationMethods publickey,keyboard-interactive:pam\n";
    let header = example("pam.d/sshd");
    for line in asked.lines() {
        assert!(header.contains(line), "the example does not say {line}");
    }
    let world = with_examples("examples2", &["sshd"], asked);
    let _watch = world.lab().watch();
    let good = world.sh("laptop", "alice", "ssh web1 hostname </dev/null").unwrap().ok().unwrap();
    assert_eq!(good.stdout, "web1\n");
    let log = world.host("web1").log();
    assert!(log.lines().any(|l| l.contains("pam_ussh") && l.contains("Accepted") && l.contains("via sshd")), "{log}");
}

#[test]
fn the_cas_and_the_laptops_examples_are_read() {
    let world = WorldPlan::new("examples3").without_servers().start().unwrap();
    let _watch = world.lab().watch();
    let (ca, laptop) = (world.host("ca"), world.host("laptop"));
    ca.write_file("/etc/pam.d/usshca", 0o644, example("pam.d/usshca")).unwrap();
    laptop.write_file("/etc/ussh/ussh.toml", 0o644, example("ssh/ussh.toml").replace("ca.example.com", "ca")).unwrap();
    let (code, seen) = world.log_in("alice", "--login").unwrap();
    assert_eq!(code, 0, "{seen}");
    assert_eq!(world.certificates("alice").unwrap().len(), 1);
}
