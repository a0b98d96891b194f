//! Against OpenSSH's own ssh-agent and ssh-add.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use super::{AgentError, Constraints, RSA_SHA2_512, Request, added_key, frame};
use crate::keys::{FidoDemand, KeyError, PrivateKey};
use crate::test_agents::{RealAgent, new_key, receive, template};

/// One key of each type that `add_certificate` takes.
fn keys(agent: &RealAgent) -> Vec<(&'static str, PrivateKey)> {
    let ecdsa = |bits| agent.keygen(bits, &["-t", "ecdsa", "-b", bits]);
    vec![("ed25519", new_key()), ("p256", ecdsa("256")), ("p384", ecdsa("384")), ("p521", ecdsa("521"))]
}

#[test]
fn ssh_agent_takes_shows_uses_and_drops_what_we_add() {
    let ssh_agent = RealAgent::start();
    let mut agent = ssh_agent.connect();
    let ca = new_key();
    for (name, key) in keys(&ssh_agent) {
        let certificate = template(&key.public_key()).sign(&ca).unwrap();
        agent.add_certificate(&certificate, &key, "alice by CA", &Constraints::default()).expect(name);
        assert_eq!(ssh_agent.run("ssh-add", &["-L"], b"").trim(), certificate.to_openssh("alice by CA"), "{name}");

        let listed = agent.list().unwrap();
        assert_eq!((listed.len(), &listed[0].blob[..]), (1, certificate.blob()), "{name}");
        let signature = agent.sign(certificate.blob(), b"message", 0).expect(name);
        key.public_key().verify(b"message", &signature, FidoDemand::Presence).expect(name);

        agent.remove(certificate.blob()).expect(name);
        assert_eq!(agent.list(), Ok(Vec::new()), "{name}");
    }
}

#[test]
fn the_key_in_an_add_is_the_one_that_was_put_in() {
    let ca = new_key();
    for constraints in [Constraints::default(), Constraints { lifetime_seconds: Some(9), confirm: true }] {
        // Some numbers begin with zeros, and some with a byte over 0x7f.
        for key in (0..300).map(|_| PrivateKey::generate_ecdsa_p256().unwrap()).chain([new_key()]) {
            let certificate = template(&key.public_key()).sign(&ca).unwrap();
            let frame = frame::add_certificate(&certificate, &key, "c", &constraints).unwrap();
            let added = added_key(&frame[4..]).unwrap();
            assert_eq!(added.public_key(), key.public_key());
            assert_eq!(added.to_openssh("c").unwrap().len(), key.to_openssh("c").unwrap().len());
            let signature = added.sign(b"message").unwrap();
            key.public_key().verify(b"message", &signature, FidoDemand::Presence).unwrap();
            for end in 0..frame.len().min(80) {
                assert!(added_key(&frame[4..end.max(4)]).is_none(), "cut at {end}");
            }
        }
    }
    assert!(added_key(&[]).is_none() && added_key(&[13, 0, 0]).is_none());
}

#[test]
fn the_lifetime_arrives() {
    let ssh_agent = RealAgent::start();
    let mut agent = ssh_agent.connect();
    let (ca, key) = (new_key(), new_key());
    let certificate = template(&key.public_key()).sign(&ca).unwrap();
    let constraints = Constraints { lifetime_seconds: Some(1), confirm: false };
    agent.add_certificate(&certificate, &key, "", &constraints).unwrap();
    let added = Instant::now();
    assert_eq!(agent.list().unwrap().len(), 1);
    while !agent.list().unwrap().is_empty() {
        assert!(added.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_wish_to_be_asked_arrives() {
    // With nothing to ask through, ssh-agent refuses to sign.
    let ssh_agent = RealAgent::start();
    let mut agent = ssh_agent.connect();
    let (ca, key) = (new_key(), new_key());
    let certificate = template(&key.public_key()).sign(&ca).unwrap();
    agent.add_certificate(&certificate, &key, "", &Constraints { lifetime_seconds: None, confirm: true }).unwrap();
    assert_eq!(agent.sign(certificate.blob(), b"message", 0), Err(AgentError::Refused));
    assert_eq!(agent.list().unwrap().len(), 1, "the connection goes on");
}

#[test]
fn an_add_of_ours_reads_as_a_request() {
    let (ca, key) = (new_key(), new_key());
    let certificate = template(&key.public_key()).sign(&ca).unwrap();
    let constraints = Constraints { lifetime_seconds: Some(3600), confirm: true };
    let sent = frame::add_certificate(&certificate, &key, "comment", &constraints).unwrap();
    assert_eq!(
        Request::parse(&sent[4..]),
        Request::AddCertificate {
            certificate_blob: certificate.blob().to_vec(),
            comment: b"comment".to_vec(),
            constraints,
            payload: zeroize::Zeroizing::new(sent[4..].to_vec()),
        }
    );
}

#[test]
fn refuses_to_add_a_key_to_anothers_certificate() {
    let certificate = template(&new_key().public_key()).sign(&new_key()).unwrap();
    let added = frame::add_certificate(&certificate, &new_key(), "", &Constraints::default());
    assert_eq!(added.err(), Some(KeyError::Malformed));
}

#[test]
fn refuses_to_add_for_no_time_at_all() {
    let key = new_key();
    let certificate = template(&key.public_key()).sign(&new_key()).unwrap();
    let constraints = Constraints { lifetime_seconds: Some(0), confirm: false };
    assert_eq!(frame::add_certificate(&certificate, &key, "", &constraints).err(), Some(KeyError::Malformed));
}

#[test]
fn what_ssh_add_sends_is_read_and_passed_on() {
    let ssh_agent = RealAgent::start();
    let ca = new_key();
    for (name, kind) in [
        ("ed25519", &["-t", "ed25519"][..]),
        ("ecdsa", &["-t", "ecdsa", "-b", "521"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
    ] {
        let key = ssh_agent.keygen(name, kind);
        let certificate = template(&key.public_key()).sign(&ca).unwrap();
        std::fs::write(ssh_agent.folder().join(format!("{name}-cert.pub")), certificate.to_openssh("")).unwrap();

        // ssh-add talks to us; what it sends goes on to the real agent.
        let front = ssh_agent.folder().join(format!("{name}.sock"));
        let listener = UnixListener::bind(&front).unwrap();
        let mut behind = ssh_agent.connect();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut requests = Vec::new();
            while let Some(payload) = receive(&mut stream) {
                let answer = behind.pass_on(&payload).unwrap();
                stream.write_all(&frame::wrap(&answer)).unwrap();
                requests.push(Request::parse(&payload));
            }
            requests
        });
        let environment = format!("SSH_AUTH_SOCK={}", front.display());
        ssh_agent.run("env", &[&environment, "ssh-add", "-q", "-t", "3600", "-c", name], b"");

        let requests = served.join().unwrap();
        let [plain, with_certificate] = &requests[..] else { panic!("{requests:?}") };
        assert_eq!(*plain, Request::Other(25), "{name}: the key alone");
        let Request::AddCertificate { certificate_blob, constraints, .. } = with_certificate else {
            panic!("{with_certificate:?}");
        };
        assert_eq!(certificate_blob, certificate.blob(), "{name}");
        assert_eq!(*constraints, Constraints { lifetime_seconds: Some(3600), confirm: true }, "{name}");
        let listed = ssh_agent.connect().list().unwrap();
        assert!(listed.iter().any(|identity| identity.blob == certificate.blob()), "{name}");
    }
}

#[test]
fn rsa_keys_sign_with_sha2_when_asked() {
    let ssh_agent = RealAgent::start();
    let key = ssh_agent.keygen("rsa", &["-t", "rsa", "-b", "2048"]);
    ssh_agent.run("ssh-add", &["-q", "rsa"], b"");
    let blob = key.public_key().to_blob();
    let mut agent = ssh_agent.connect();
    let signature = agent.sign(&blob, b"message", RSA_SHA2_512).unwrap();
    assert_eq!(key.public_key().verify(b"message", &signature, FidoDemand::Presence), Ok(()));
    let sha1 = agent.sign(&blob, b"message", 0).unwrap();
    assert!(key.public_key().verify(b"message", &sha1, FidoDemand::Presence).is_err());
}

#[test]
fn a_locked_agent_lists_nothing() {
    let ssh_agent = RealAgent::start();
    let mut agent = ssh_agent.connect();
    let (ca, key) = (new_key(), new_key());
    let certificate = template(&key.public_key()).sign(&ca).unwrap();
    agent.add_certificate(&certificate, &key, "", &Constraints::default()).unwrap();
    let mut lock = vec![22];
    crate::wire::WireWrite::put_string(&mut lock, b"passphrase");
    agent.pass_on(&lock).unwrap();
    assert_eq!(agent.list(), Ok(Vec::new()));
    assert_eq!(agent.sign(certificate.blob(), b"message", 0), Err(AgentError::Refused));
}
