//! What is asked, and what is answered.

use super::kit::*;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use ussh_core::agent::{ClearAnswer, Constraints, frame};
use ussh_core::certificate::CertificateKind;
use ussh_core::clock::UnixTime;
use ussh_core::keys::PrivateKey;

#[test]
fn lists_the_users_good_certificates_and_nothing_else_of_the_agent() {
    let user = User::new();
    let stranger = PrivateKey::generate_ed25519().unwrap();
    for (ca, kind, key_id, from, to) in [
        (&stranger, CertificateKind::User, "alice", now() - 60, now() + 3600),
        (&user.ca, CertificateKind::User, "bob", now() - 60, now() + 3600),
        (&user.ca, CertificateKind::Host, "alice", now() - 60, now() + 3600),
        (&user.ca, CertificateKind::User, "alice", now() - 60, now() - 1),
        (&user.ca, CertificateKind::User, "alice", now() + 600, now() + 3600),
    ] {
        user.pair(ca, kind, key_id, from, to).add_to(&mut user.real());
    }
    let socket = user.guarded();
    assert_eq!(connect(&socket).list(), Ok(vec![]));
    let pair = user.good();
    let listed = connect(&socket).list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].blob, pair.blob());
    assert_eq!(listed[0].comment, b"ussh alice serial 42 challenge@ussh", "not the comment that it has in the agent");
    assert!(listed[0].takes_clear_challenges());
}

#[test]
fn signs_challenges_by_their_hash_and_in_clear() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    let hashed = pair.challenge();
    let signature = connect(&socket).sign(pair.blob(), &hashed.signed_data(), 0).unwrap();
    assert!(pair.has_signed(&hashed.signed_data(), &signature));
    let told = pair.challenge();
    let answer = connect(&socket).sign_clear(pair.blob(), told.message(), 0, &Patiently).unwrap();
    let ClearAnswer::Signature(signature) = answer else { panic!("{answer:?}") };
    assert!(pair.has_signed(&told.signed_data(), &signature));
    let log = user.log();
    assert_eq!(log.len(), 2, "{log:?}");
    assert_eq!(log[0]["what"], "a challenge, shown as a hash only");
    assert_eq!(log[1]["what"], "web1: sudo as alice on /dev/pts/3");
    assert_eq!(log[1]["challenge"]["tty"], "/dev/pts/3");
    assert!(log.iter().all(|entry| entry["outcome"] == "signed" && entry["serial"] == "42"), "{log:?}");
    assert_eq!(user.path(".local/state/ussh/agent.log").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = user.said(&["--log"]);
    assert!(
        text.lines().nth(1).unwrap().ends_with("Z  signed   web1: sudo as alice on /dev/pts/3  [alice serial 42]"),
        "{text}"
    );
}

#[test]
fn whatever_else_root_on_a_host_asks_for_it_gets_nothing_and_the_agent_stays_as_it_was() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    let of = |ca: &PrivateKey, kind, key_id: &str, to| {
        let pair = user.pair(ca, kind, key_id, now() - 60, to);
        pair.add_to(&mut user.real());
        pair
    };
    let stranger = of(&PrivateKey::generate_ed25519().unwrap(), CertificateKind::User, "alice", now() + 3600);
    let bob = of(&user.ca, CertificateKind::User, "bob", now() + 3600);
    let expired = of(&user.ca, CertificateKind::User, "alice", now() - 1);
    let host = of(&user.ca, CertificateKind::Host, "alice", now() + 3600);
    let absent = user.pair(&user.ca, CertificateKind::User, "alice", now() - 60, now() + 3600);
    let plain = pair.key.public_key().to_blob();
    let (blob, data) = (pair.blob(), pair.challenge().signed_data());
    let name = "pam-ussh@ussh";
    let login_with = |session: &[u8]| login(session, blob, "publickey");
    let bind = strings(27, &[b"session-bind@openssh.com", &plain, b"session", b"signature"]);
    let mut odd_version = pair.message(|_| {});
    odd_version[0] = 2;
    let far = |by: i64| pair.message(|c| c.now = UnixTime(now().checked_add_signed(by).unwrap()));

    let rows: Vec<(&str, Vec<u8>, &[u8])> = vec![
        // Logins.
        ("a login", sign(blob, &login_with(&[7; 32]), 0), NO),
        (
            "a login with a host-bound method",
            sign(blob, &login(&[7; 32], blob, "publickey-hostbound-v00@openssh.com"), 0),
            NO,
        ),
        ("a login with the plain key", sign(&plain, &login(&[7; 32], &plain, "publickey"), 0), NO),
        ("a login whose session is a challenge", sign(blob, &login_with(&data), 0), NO),
        ("a login whose session is called SSHSIG", sign(blob, &login_with(b"SSHSIG"), 0), NO),
        ("a login whose session is empty", sign(blob, &login_with(b""), 0), NO),
        // Both at once.
        ("a challenge with a login behind it", sign(blob, &[&data[..], &login_with(&[7; 32])].concat(), 0), NO),
        ("a login with a challenge behind it", sign(blob, &[&login_with(&[7; 32])[..], &data].concat(), 0), NO),
        ("a challenge whose digest is a login", sign(blob, &sshsig(name, b"", "sha512", &login_with(&[7; 32])), 0), NO),
        (
            "a challenge whose reserved field is a login",
            sign(blob, &sshsig(name, &login_with(&[7; 32]), "sha512", &[0; 64]), 0),
            NO,
        ),
        // Other namespaces and forms.
        ("a file's SSHSIG", sign(blob, &sshsig("file", b"", "sha512", &[0; 64]), 0), NO),
        ("a commit's SSHSIG", sign(blob, &sshsig("git", b"", "sha512", &[0; 64]), 0), NO),
        ("no namespace", sign(blob, &sshsig("", b"", "sha512", &[0; 64]), 0), NO),
        ("ours and more", sign(blob, &sshsig("pam-ussh@ussh.example.com", b"", "sha512", &[0; 64]), 0), NO),
        ("ours and NUL", sign(blob, &sshsig("pam-ussh@ussh\0", b"", "sha512", &[0; 64]), 0), NO),
        ("the CA's login proof", sign(blob, &sshsig("usshca-login@ussh", b"", "sha512", &[0; 64]), 0), NO),
        ("sha256", sign(blob, &sshsig(name, b"", "sha256", &[0; 32]), 0), NO),
        ("a byte more", sign(blob, &[&data[..], &[0]].concat(), 0), NO),
        ("a byte less", sign(blob, &data[..data.len() - 1], 0), NO),
        ("the bare message", sign(blob, &pair.message(|_| {}), 0), NO),
        ("nothing", sign(blob, b"", 0), NO),
        ("a certificate to be", sign(blob, &blob[..blob.len() - 87], 0), NO),
        ("32 bytes", sign(blob, &[1; 32], 0), NO),
        // Other keys.
        ("a challenge by the plain key", sign(&plain, &data, 0), NO),
        ("by another CA's certificate", sign(stranger.blob(), &stranger.challenge().signed_data(), 0), NO),
        ("by another person's", sign(bob.blob(), &bob.challenge().signed_data(), 0), NO),
        ("by an expired one", sign(expired.blob(), &expired.challenge().signed_data(), 0), NO),
        ("by a host's", sign(host.blob(), &host.challenge().signed_data(), 0), NO),
        ("by one that the agent does not hold", sign(absent.blob(), &absent.challenge().signed_data(), 0), NO),
        (
            "by one with a byte changed",
            sign(&[&blob[..blob.len() - 1], &[blob[blob.len() - 1] ^ 1]].concat(), &data, 0),
            NO,
        ),
        // Forms of the request.
        ("flags of the old days", sign(blob, &data, 1), NO),
        ("all flags", sign(blob, &data, u32::MAX), NO),
        ("a request with more behind it", [&sign(blob, &data, 0)[..], &[0]].concat(), NO),
        ("a request that ends early", sign(blob, &data, 0)[..40].to_vec(), NO),
        ("a length beyond the end", [&[13][..], &u32::MAX.to_be_bytes(), blob].concat(), NO),
        ("a listing with more behind it", vec![11, 0], NO),
        // In clear.
        ("of another certificate", clear(blob, &absent.message(|_| {})), DECLINED),
        ("by the plain key in clear", clear(&plain, &pair.message(|_| {})), DECLINED),
        ("by another person's in clear", clear(bob.blob(), &bob.message(|_| {})), DECLINED),
        ("an old one", clear(blob, &far(-601)), DECLINED),
        ("one to come", clear(blob, &far(660)), DECLINED),
        ("no host", clear(blob, &pair.message(|c| c.host.clear())), DECLINED),
        ("no service", clear(blob, &pair.message(|c| c.service.clear())), DECLINED),
        ("no user", clear(blob, &pair.message(|c| c.user.clear())), DECLINED),
        ("a terminal's orders", clear(blob, &pair.message(|c| c.host = "web1\u{1b}[2J".into())), DECLINED),
        ("a second line", clear(blob, &pair.message(|c| c.tty = "x\nweb2".into())), DECLINED),
        ("another version", clear(blob, &odd_version), NO),
        ("a long name", clear(blob, &pair.message(|c| c.host = "x".repeat(1025))), NO),
        ("no message", clear(blob, b""), NO),
        ("a message with more behind it", clear(blob, &[&pair.message(|_| {})[..], &[0]].concat()), NO),
        // What else an agent knows.
        (
            "add",
            frame::add_certificate(&absent.certificate, &absent.key, "x", &Constraints::default()).unwrap()[4..]
                .to_vec(),
            NO,
        ),
        (
            "add with a lifetime",
            frame::add_certificate(
                &absent.certificate,
                &absent.key,
                "x",
                &Constraints { lifetime_seconds: Some(9), confirm: false },
            )
            .unwrap()[4..]
                .to_vec(),
            NO,
        ),
        ("remove", frame::remove(blob)[4..].to_vec(), NO),
        ("remove the plain key", frame::remove(&plain)[4..].to_vec(), NO),
        ("remove all", vec![19], NO),
        ("add a smartcard", strings(20, &[b"/usr/lib/opensc-pkcs11.so", b"1234"]), NO),
        ("remove a smartcard", strings(21, &[b"/usr/lib/opensc-pkcs11.so", b"1234"]), NO),
        ("add a smartcard constrained", strings(26, &[b"/tmp/evil.so", b""]), NO),
        ("lock", strings(22, &[b"secret"]), NO),
        ("unlock", strings(23, &[b"secret"]), NO),
        ("session-bind", bind, NO),
        ("session-bind, torn", strings(27, &[b"session-bind@openssh.com"]), NO),
        ("restrict-destination", strings(27, &[b"restrict-destination-v00@openssh.com", b""]), NO),
        ("query", strings(27, &[b"query"]), NO),
        ("an extension without a name", vec![27], NO),
        ("protocol 1", vec![1], NO),
        ("protocol 1, remove all", vec![9], NO),
    ];
    assert!(rows.len() > 60);
    let held = user.real().list().unwrap();
    for (what, payload, wanted) in &rows {
        assert_eq!(asked(&socket, payload), *wanted, "{what}");
    }
    // Every message number with nothing behind it, but the listing.
    for number in (0..=255).filter(|number| *number != 11) {
        assert_eq!(asked(&socket, &[number]), NO, "{number}");
    }
    assert_eq!(user.real().list().unwrap(), held);
    assert!(user.real().sign(blob, b"data", 0).is_ok(), "it is not locked");
    assert!(user.log().iter().all(|entry| entry["outcome"] == "refused"));
    assert!(connect(&socket).sign(blob, &data, 0).is_ok(), "and it still serves");
}

#[test]
fn a_host_that_sends_one_text_and_asks_to_sign_another_gets_nothing() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    let (shown, meant) = (pair.challenge(), pair.challenge());
    let mut agent = connect(&socket);
    let answer = agent.sign_clear(pair.blob(), shown.message(), 0, &Patiently).unwrap();
    let ClearAnswer::Signature(signature) = answer else { panic!("{answer:?}") };
    assert!(pair.has_signed(&shown.signed_data(), &signature) && !pair.has_signed(&meant.signed_data(), &signature));
    assert_eq!(agent.pass_on(&sign(pair.blob(), &meant.signed_data(), 0)).unwrap().as_slice(), NO);
    let last = user.log().pop().unwrap();
    assert_eq!(last["what"], "to sign a hash on a connection that had sent a challenge in clear");
}

#[test]
fn torn_pipelined_oversized_requests_and_descriptors_harm_nobody() {
    let user = User::new();
    let (pair, socket) = (user.good(), user.guarded());
    let process = user.processes()[0];
    let descriptors = || std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    let listing = asked(&socket, &[11]);
    until("connections are closed", || descriptors() <= 5);
    let before = descriptors();

    let mut torn = UnixStream::connect(&socket).unwrap();
    for byte in frame::list() {
        torn.write_all(&[byte]).unwrap();
        assert_eq!(asked(&socket, &[11]), listing, "others go on");
    }
    let answer = |stream: &mut UnixStream| {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut payload).unwrap();
        payload
    };
    assert_eq!(answer(&mut torn), listing);

    let mut pipelined = UnixStream::connect(&socket).unwrap();
    let challenge = frame::sign(pair.blob(), &pair.challenge().signed_data(), 0);
    pipelined.write_all(&[&frame::list()[..], &frame::wrap(&[19]), &challenge, &frame::list()].concat()).unwrap();
    let answers: Vec<Vec<u8>> = (0..4).map(|_| answer(&mut pipelined)).collect();
    assert_eq!((&answers[0], &answers[1][..], answers[2][0], &answers[3]), (&listing, NO, 14, &listing));

    for length in [0, 64 * 1024 + 1, u32::MAX] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(&length.to_be_bytes()).unwrap();
        // At once, and not when it has waited for the rest long enough.
        stream.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "{length}");
    }

    let gifts = UnixStream::connect(&socket).unwrap();
    let fds = [gifts.as_raw_fd(); 8];
    let list = frame::list();
    sendmsg::<()>(
        gifts.as_raw_fd(),
        &[IoSlice::new(&list)],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::empty(),
        None,
    )
    .unwrap();
    assert_eq!(answer(&mut gifts.try_clone().unwrap()), listing);
    drop((torn, pipelined, gifts));
    until("nothing stays open", || descriptors() <= before);
}

#[test]
fn a_certificate_that_was_listed_and_runs_out_while_the_connection_stands_signs_nothing_more() {
    let user = User::new();
    let end = now() + 4;
    let short = user.pair(&user.ca, CertificateKind::User, "alice", now() - 60, end);
    short.add_to(&mut user.real());
    let mut agent = connect(&user.guarded());
    assert_eq!(agent.list().unwrap().len(), 1);
    assert!(agent.sign(short.blob(), &short.challenge().signed_data(), 0).is_ok());
    until("it has run out", || now() >= end);
    assert_eq!(agent.pass_on(&sign(short.blob(), &short.challenge().signed_data(), 0)).unwrap().as_slice(), NO);
    assert_eq!(agent.pass_on(&clear(short.blob(), short.challenge().message())).unwrap().as_slice(), DECLINED);
    for entry in &user.log()[1..] {
        assert!(entry["what"].as_str().unwrap().contains("has expired"), "{entry}");
    }
}

#[test]
fn of_hashes_as_many_are_signed_in_a_minute_as_of_challenges_in_clear() {
    let user = User::new();
    let (pair, mut agent) = (user.good(), connect(&user.guarded()));
    let data = pair.challenge().signed_data();
    let given = (0..130).filter(|_| agent.sign(pair.blob(), &data, 0).is_ok()).count();
    // A minute may end meanwhile.
    assert!((60..=120).contains(&given), "{given}");
    let log = user.log();
    assert!(log.iter().any(|e| e["what"].as_str().unwrap().contains("more than 60 signatures in a minute")), "{log:?}");
}

#[test]
fn a_connection_is_good_for_256_requests_and_the_next_one_begins_anew() {
    let user = User::new();
    let (_pair, socket) = (user.good(), user.guarded());
    let mut agent = connect(&socket);
    assert!((0..256).all(|_| agent.list().is_ok()));
    assert_eq!(agent.pass_on(&[11]).unwrap().as_slice(), NO);
    assert_eq!(user.log().pop().unwrap()["what"], "more than 256 requests on one connection");
    assert!(connect(&socket).list().is_ok());
}
