//! A host on another root than the machine's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use ussh_lab::{Lab, SSHD_CONFIG, trixie_root};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn debian_13_with_its_sshd_and_sudo_rs_stands_beside_the_machines_own() {
    let lab = Lab::new("base")
        .laptop("laptop")
        .base("web13", trixie_root().unwrap())
        .user("alice", "secret", &["admins"])
        .start()
        .unwrap();
    let (laptop, web13) = (lab.host("laptop"), lab.host("web13"));
    web13.start_sshd(SSHD_CONFIG).unwrap();
    assert!(web13.read_file("/etc/os-release").unwrap().contains("trixie"));
    assert!(!laptop.read_file("/etc/os-release").unwrap().contains("trixie"));

    let ssh = laptop.pty_as("alice", ["ssh", "-t", "-o", "StrictHostKeyChecking=no", "web13", "bash"]).unwrap();
    ssh.expect("assword:", SOON).unwrap();
    ssh.send("secret\n").unwrap();
    // Only at the prompt: sudo throws away what was typed before it asks.
    let prompt = || ssh.expect("alice@web13:~$", SOON).unwrap();
    prompt();
    ssh.send("/usr/sbin/sshd -V\n").unwrap();
    ssh.expect("OpenSSH_10", SOON).unwrap();
    web13.write_file("/etc/sudoers.d/admins", 0o440, "%admins ALL=(ALL) ALL\n").unwrap();
    for sudo in ["sudo", "sudo-rs"] {
        prompt();
        ssh.send(&format!("{sudo} -k; {sudo} id -u\n")).unwrap();
        ssh.expect("assword", SOON).unwrap();
        ssh.expect(":", SOON).unwrap();
        ssh.send("secret\n").unwrap();
        ssh.expect("\r\n0\r\n", SOON).unwrap();
    }
    prompt();
    ssh.send("exit\n").unwrap();
    assert!(ssh.expect_exit(SOON).unwrap().success());
    assert!(web13.log().contains("Accepted password for alice"));
}
