//! What the person sees of it: questions and the log.

use super::kit::*;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use ussh_core::agent::ClearAnswer;
use ussh_core::challenge::{Challenge, ChallengeMessage};
use ussh_core::keys::PrivateKey;

/// Starts it with an askpass that writes down its question and ends as `answer` says.
fn asking(user: &User, with: impl FnOnce(&mut Command)) -> PathBuf {
    user.configure("confirm = [\"sudo*\"]\n");
    let askpass = user.path("askpass");
    let script = format!(
        "#!/bin/sh\nprintf '%s|%s' \"$SSH_ASKPASS_PROMPT\" \"$1\" >'{0}/question'\nexit \"$(cat '{0}/answer')\"\n",
        user.home.path().display()
    );
    std::fs::write(user.path("askpass.sh"), script).unwrap();
    let mut install = Command::new("install");
    install.args(["-m", "0755"]).arg(user.path("askpass.sh")).arg(&askpass);
    assert!(install.status().unwrap().success());
    let mut command = user.ussh(&["--agent"]);
    command.env("SSH_ASKPASS", &askpass).env("DISPLAY", ":0");
    with(&mut command);
    PathBuf::from(said(&mut command).trim_end())
}

#[test]
fn where_confirm_says_so_the_person_is_asked_with_the_text_that_is_signed() {
    let user = User::new();
    let pair = user.good();
    let socket = asking(&user, |_| {});
    let answer = |code: &str| std::fs::write(user.path("answer"), code).unwrap();
    let question = || std::fs::read_to_string(user.path("question")).ok();
    let challenge = pair.challenge();

    answer("1");
    assert_eq!(asked(&socket, &clear(pair.blob(), challenge.message())), DECLINED);
    let shown = ChallengeMessage::parse(challenge.message()).unwrap().to_string();
    assert_eq!(question().unwrap(), format!("confirm|{shown}\n\nSign with the certificate of alice?"));
    assert_eq!(user.log().pop().unwrap()["what"], format!("{shown}: you said no, or nothing"));

    answer("0");
    let signed = connect(&socket).sign_clear(pair.blob(), challenge.message(), 0, &Patiently).unwrap();
    let ClearAnswer::Signature(signature) = signed else { panic!("{signed:?}") };
    assert!(pair.has_signed(&challenge.signed_data(), &signature));

    std::fs::remove_file(user.path("question")).unwrap();
    assert_eq!(asked(&socket, &sign(pair.blob(), &challenge.signed_data(), 0)), NO, "a hash cannot be shown");
    let su = Challenge::new(&pair.certificate, &context("su")).unwrap();
    let unasked = connect(&socket).sign_clear(pair.blob(), su.message(), 0, &Patiently).unwrap();
    assert!(matches!(unasked, ClearAnswer::Signature(_)), "of su nothing is said");
    assert_eq!(question(), None, "nobody was asked");
}

#[test]
fn where_nobody_can_be_asked_nothing_is_signed() {
    let user = User::new();
    let pair = user.good();
    let socket = asking(&user, |command| {
        command.env_remove("DISPLAY");
    });
    std::fs::write(user.path("answer"), "0").unwrap();
    assert_eq!(asked(&socket, &clear(pair.blob(), pair.challenge().message())), DECLINED);
    let log = user.log().pop().unwrap();
    assert!(log["what"].as_str().unwrap().ends_with("there is nowhere to ask you (SSH_ASKPASS, DISPLAY)"), "{log}");
}

#[test]
fn the_connections_host_key_is_noted_as_ssh_tells_it() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    let host = PrivateKey::generate_ed25519().unwrap().public_key();
    let mut agent = connect(&socket);
    let mut bind = strings(27, &[b"session-bind@openssh.com", &host.to_blob(), &[1; 32], b"signature"]);
    bind.push(1);
    assert_eq!(agent.pass_on(&bind).unwrap().as_slice(), NO);
    assert_eq!(agent.pass_on(&bind).unwrap().as_slice(), NO, "the host's own is not believed");
    agent.sign_clear(pair.blob(), pair.challenge().message(), 0, &Patiently).unwrap();
    assert_eq!(user.log().pop().unwrap()["host_key"], host.fingerprint());
    assert!(OsStr::new(&user.said(&["--log"])).to_str().unwrap().contains(&host.fingerprint()));
}
