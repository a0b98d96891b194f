//! `ussh` is `ssh` once there is a certificate: arguments, output, exit status, multiplexing, scp, sftp.

use super::{WORLD, log_in};

#[test]
fn ends_as_ssh_would_whatever_the_command_does() {
    let _watch = WORLD.lab().watch();
    log_in("rosa");
    for arguments in [
        "web1 'exit 7'",
        "web1 'echo out; echo err >&2; exit 1'",
        "-o SendEnv=LANG -p 22 -l rosa -- web1 'printf %s \"$LANG  $USER\"'",
        "web1 'kill -TERM $$'",
        "-G web1",
        "-V",
        "nosuchhost true",
        "-Z",
        "web1 'cat; echo $(stat -c %F - <&0)' < /etc/hostname",
        "-T -N -o ConnectTimeout=5 -o ExitOnForwardFailure=yes -L 1:127.0.0.1:1 web1",
    ] {
        let run = |program: &str| {
            let output = WORLD.sh("laptop", "rosa", &format!("{program} {arguments}")).unwrap();
            (output.status, output.stdout, output.stderr)
        };
        assert_eq!(run("ussh"), run("ssh"), "{arguments}");
    }
    assert_eq!(WORLD.sh("laptop", "rosa", "ussh web1 'exit 7'").unwrap().status.code(), 7);
}

#[test]
fn a_signal_to_ussh_is_a_signal_to_ssh() {
    let _watch = WORLD.lab().watch();
    log_in("alice");
    let ended = |program: &str| {
        let command = format!("exec {program} web1 'echo here; exec tail -f /dev/null'");
        let terminal = super::terminal("alice", &command);
        terminal.expect("here", super::SOON).unwrap();
        terminal.signal(ussh_e2e::lab::Signal::SIGTERM).unwrap();
        super::end(&terminal)
    };
    assert_eq!(ended("ussh"), ended("ssh"));
}

#[test]
fn multiplexing_works_through_ussh() {
    let _watch = WORLD.lab().watch();
    log_in("bob");
    let ussh = |arguments: &str| {
        let output = WORLD.sh("laptop", "bob", &format!("ussh -o ControlPath=~/mux {arguments}")).unwrap();
        output.ok().unwrap()
    };
    ussh("-o ControlMaster=yes -o ControlPersist=yes web1 true");
    assert!(ussh("-O check web1").stderr.contains("Master running"));
    // Over the master: without a certificate in the agent there is no other way.
    WORLD.sh("laptop", "bob", "ssh-add -q -D").unwrap().ok().unwrap();
    let over = WORLD.sh("laptop", "bob", "ssh -o BatchMode=yes -o ControlPath=~/mux web1 id -un").unwrap();
    assert_eq!(over.ok().unwrap().stdout, "bob\n");
    ussh("-O exit web1");
    let direct = WORLD.sh("laptop", "bob", "ssh -o BatchMode=yes -o ControlPath=~/mux web1 id -un").unwrap();
    assert_eq!(direct.status.code(), 255, "{direct}");
}

#[test]
fn scp_and_sftp_carry_files_with_the_certificate() {
    let _watch = WORLD.lab().watch();
    log_in("carol");
    let script = "set -e; echo content > a; scp -q a web1:b; scp -q -S /usr/bin/ussh web1:b c; \
                  printf 'rename b d\\nget d e\\n' | sftp -q -b - web1 >/dev/null; cat c e";
    let copied = WORLD.sh("laptop", "carol", script).unwrap().ok().unwrap();
    assert_eq!((copied.stdout.as_str(), copied.stderr.as_str()), ("content\ncontent\n", ""));
}
