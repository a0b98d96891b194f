//! What the person sees of it: questions and the log.

use super::kit::*;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use ussh_core::agent::{ClearAnswer, frame};
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
    let over = "asked over a connection that did not say whose it is";
    assert_eq!(question().unwrap(), format!("confirm|{shown}\n{over}\n\nSign with the certificate of alice?"));
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
    assert!(
        log["what"]
            .as_str()
            .unwrap()
            .ends_with("there is nowhere to ask you: run `ussh --confirm` in a terminal, or set SSH_ASKPASS before this agent is started (`ussh --logout` ends it)"),
        "{log}"
    );
}

#[test]
fn the_connections_host_key_is_noted_as_ssh_tells_it() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    let host = PrivateKey::generate_ed25519().unwrap().public_key();
    let mut agent = connect(&socket);
    let other = PrivateKey::generate_ed25519().unwrap().public_key();
    let [bind, forged] = [&host, &other].map(|key| {
        let mut bind = strings(27, &[b"session-bind@openssh.com", &key.to_blob(), &[1; 32], b"signature"]);
        bind.push(1);
        bind
    });
    assert_eq!(agent.pass_on(&bind).unwrap().as_slice(), NO);
    assert_eq!(agent.pass_on(&forged).unwrap().as_slice(), NO, "the host's own is not believed");
    agent.sign_clear(pair.blob(), pair.challenge().message(), 0, &Patiently).unwrap();
    assert_eq!(user.log().pop().unwrap()["host_key"], host.fingerprint());
    assert!(OsStr::new(&user.said(&["--log"])).to_str().unwrap().contains(&host.fingerprint()));
}

#[test]
fn a_host_that_has_everything_signed_is_stopped_and_its_first_deed_stays_in_the_log() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    let signed = |message: &[u8]| {
        let answer = connect(&socket).sign_clear(pair.blob(), message, 0, &Patiently);
        matches!(answer, Ok(ClearAnswer::Signature(_)))
    };
    assert!(signed(&pair.message(|context| context.host = "the-deed".into())));
    // A minute may end meanwhile, not two.
    let given = (0..400u32).filter(|n| {
        signed(&pair.message(|context| {
            context.host = format!("{n}{}", "a".repeat(1000));
            context.tty = "e".repeat(1000);
        }))
    });
    assert!((59..=119).contains(&given.count()));
    let log = user.log();
    assert_eq!(log[0]["challenge"]["host"], "the-deed");
    let refused = log.iter().rfind(|entry| entry["outcome"] == "refused").unwrap();
    let what = refused["what"].as_str().unwrap();
    assert!(what.contains("more than 60 signatures in a minute"), "{what}");
    let size = user.path(".local/state/ussh/agent.log").metadata().unwrap().len();
    assert!(size < 150_000, "{size}");
    let other = Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", &socket).output().unwrap();
    assert!(other.status.success(), "another ssh goes on: {other:?}");
}

#[test]
fn a_question_that_nobody_waits_for_ends_with_the_dialog_that_a_script_started() {
    let user = User::new();
    let pair = user.good();
    let socket = asking(&user, |_| {});
    // As many are: the dialog is the script's child, and holds its standard output.
    let script = format!(
        "#!/bin/sh\n[ -e '{0}/dialog' ] && exit 0\nsleep 300 &\necho $! >'{0}/dialog'\nwait\n",
        user.home.path().display()
    );
    std::fs::write(user.path("askpass"), script).unwrap();
    let mut gone = UnixStream::connect(&socket).unwrap();
    gone.write_all(&frame::wrap(&clear(pair.blob(), pair.challenge().message()))).unwrap();
    let dialog = || std::fs::read_to_string(user.path("dialog")).ok()?.trim_end().parse::<u32>().ok();
    until("the dialog is there", || dialog().is_some());
    drop(gone);
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", dialog().unwrap())).unwrap_or_default();
    until("the dialog is gone", || stat().is_empty() || stat().contains(") Z "));
    until("the next question is asked", || {
        let answer = connect(&socket).sign_clear(pair.blob(), pair.challenge().message(), 0, &Patiently);
        matches!(answer, Ok(ClearAnswer::Signature(_)))
    });
    let log = user.log();
    assert!(log[0]["what"].as_str().unwrap().ends_with("you said no, or nothing"), "{log:?}");
}

#[test]
fn over_an_ssh_that_asks_and_hangs_up_nobody_is_asked_any_more() {
    let user = User::new();
    let pair = user.good();
    let socket = asking(&user, |_| {});
    let script = format!("#!/bin/sh\ntouch '{0}/asked'\nsleep 300\n", user.home.path().display());
    std::fs::write(user.path("askpass"), script).unwrap();
    let request = frame::wrap(&clear(pair.blob(), pair.challenge().message()));
    for count in 1..=3 {
        let mut gone = UnixStream::connect(&socket).unwrap();
        gone.write_all(&request).unwrap();
        until("it is asked", || user.path("asked").exists());
        drop(gone);
        until("it is over", || user.log().len() == count);
        std::fs::remove_file(user.path("asked")).unwrap();
    }
    assert_eq!(asked(&socket, &clear(pair.blob(), pair.challenge().message())), DECLINED);
    let log = user.log().pop().unwrap();
    let what = "3 questions over the same connection were withdrawn within 60 s: none is asked for as long";
    assert!(log["what"].as_str().unwrap().ends_with(what), "{log}");
    assert!(!user.path("asked").exists());
}

#[test]
fn the_question_names_the_host_key_of_the_connection_over_which_it_came() {
    let user = User::new();
    let pair = user.good();
    let socket = asking(&user, |_| {});
    std::fs::write(user.path("answer"), "0").unwrap();
    let host = PrivateKey::generate_ed25519().unwrap().public_key();
    let mut agent = connect(&socket);
    let mut bind = strings(27, &[b"session-bind@openssh.com", &host.to_blob(), &[1; 32], b"signature"]);
    bind.push(1);
    agent.pass_on(&bind).unwrap();
    let answer = agent.sign_clear(pair.blob(), pair.challenge().message(), 0, &Patiently).unwrap();
    assert!(matches!(answer, ClearAnswer::Signature(_)));
    let question = std::fs::read_to_string(user.path("question")).unwrap();
    let over = format!("\nasked over the connection to {}\n\nSign with", host.fingerprint());
    assert!(question.contains(&over), "{question}");
}

#[test]
fn a_script_that_ends_well_while_its_dialog_is_still_open_is_no_yes() {
    let user = User::new();
    let pair = user.good();
    let socket = asking(&user, |_| {});
    std::fs::write(user.path("askpass"), "#!/bin/sh\nsleep 300 &\nexit 0\n").unwrap();
    assert_eq!(asked(&socket, &clear(pair.blob(), pair.challenge().message())), DECLINED);
    assert!(user.log()[0]["what"].as_str().unwrap().ends_with("you said no, or nothing"));
}

#[test]
fn a_name_with_blanks_cannot_go_on_as_another_sentence_in_the_log() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    let message = pair.message(|context| context.host = "web1: sudo as alice  [alice serial 7]  over".into());
    connect(&socket).sign_clear(pair.blob(), &message, 0, &Patiently).unwrap();
    let log = user.log().pop().unwrap();
    let host = "web1:\\x20sudo\\x20as\\x20alice\\x20\\x20[alice\\x20serial\\x207]...";
    assert_eq!(log["what"], format!("{host}: sudo as alice on /dev/pts/3"));
    assert_eq!(log["challenge"]["host"], "web1: sudo as alice  [alice serial 7]  over");
}

#[test]
fn what_was_refused_is_named_in_words() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    let of_git = sshsig("git", b"", "sha512", &[0; 64]);
    for (payload, wanted) in [
        (
            sign(pair.blob(), &login(&[7; 32], pair.blob(), "publickey"), 0),
            "to sign a login as alice elsewhere, which is no pam-ussh challenge",
        ),
        (sign(pair.blob(), &of_git, 0), "to sign an SSHSIG for git, which is no pam-ussh challenge"),
        (sign(pair.blob(), &[1; 32], 0), "to sign something, which is no pam-ussh challenge"),
        (vec![19], "to remove all keys, which hosts are not given"),
        (strings(22, &[b"secret"]), "to lock the agent, which hosts are not given"),
    ] {
        asked(&socket, &payload);
        assert_eq!(user.log().pop().unwrap()["what"], wanted);
    }
}

#[test]
fn over_one_ssh_one_question_is_open_at_a_time() {
    let user = User::new();
    let pair = user.good();
    let socket = asking(&user, |_| {});
    let script = "#!/bin/sh\n: >'HOME/question'\nwhile [ ! -e 'HOME/answer' ]; do sleep 0.05; done\nexit 0\n";
    std::fs::write(user.path("askpass"), script.replace("HOME", user.home.path().to_str().unwrap())).unwrap();
    std::thread::scope(|scope| {
        let sign = || connect(&socket).sign_clear(pair.blob(), pair.challenge().message(), 0, &Patiently);
        let first = scope.spawn(sign);
        until("it is asked", || user.path("question").exists());
        assert_eq!(asked(&socket, &clear(pair.blob(), pair.challenge().message())), DECLINED);
        let why = user.log().pop().unwrap();
        assert!(why["what"].as_str().unwrap().ends_with("another question over the same connection is open"), "{why}");
        std::fs::write(user.path("answer"), "").unwrap();
        assert!(matches!(first.join().unwrap(), Ok(ClearAnswer::Signature(_))));
        assert!(matches!(sign(), Ok(ClearAnswer::Signature(_))), "it is over");
    });
}

#[test]
fn what_was_counted_only_is_in_the_log_when_the_guarded_agent_has_gone() {
    let user = User::new();
    let mut agent = connect(&user.guarded());
    for _ in 0..50 {
        assert_eq!(agent.pass_on(&[19]).unwrap().as_slice(), NO);
    }
    user.ussh(&["--logout"]).output().unwrap();
    until("it has gone", || user.processes().is_empty());
    let log = user.log();
    let counted: u64 = log.iter().map(|entry| entry["not_noted"].as_u64().unwrap_or(0)).sum();
    assert!(log.len() <= 22, "ten a minute, of two minutes at most, and what each leaves: {log:?}");
    assert_eq!(log.len() as u64 + counted, 50, "{log:?}");
}
