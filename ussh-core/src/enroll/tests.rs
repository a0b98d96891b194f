#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
use super::*;
use crate::certificate::CertificateKind;
use crate::clock::UnixTime;
use crate::issue::CertificateTemplate;
use crate::keys::{KeyError, PrivateKey, PublicKey};
use crate::testing::Keygen;

const NONCE: [u8; NONCE_LEN] = [7; NONCE_LEN];
/// Amid the life of the certificates here.
const NOW: UnixTime = UnixTime(1500);

fn key() -> PrivateKey {
    PrivateKey::generate_ed25519().unwrap()
}

fn copy(key: &PrivateKey) -> PrivateKey {
    PrivateKey::from_openssh(&key.to_openssh("").unwrap()).unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

struct World {
    host_ca: PrivateKey,
    user_ca: PrivateKey,
    token: HostToken,
    host: PrivateKey,
}

fn world() -> World {
    let host_ca = key();
    let token = HostToken::generate(&host_ca.public_key()).unwrap();
    World { token, host_ca, user_ca: key(), host: key() }
}

impl World {
    fn exchange(&self) -> Exchange {
        let token = HostToken::parse(&self.token.to_text()).unwrap();
        Exchange::enroll(token, names(&["web1"]), vec![copy(&self.host)])
    }

    fn certificate(&self, ca: &PrivateKey, key: &PublicKey, kind: CertificateKind) -> String {
        let template = CertificateTemplate {
            public_key: key.clone(),
            serial: 7,
            kind,
            key_id: "web1".into(),
            principals: names(&["web1"]),
            valid_after: UnixTime(1000),
            valid_before: UnixTime(2000),
            critical_options: vec![],
            extensions: vec![],
        };
        template.sign(ca).unwrap().to_openssh("")
    }

    fn grant(&self) -> Grant {
        Grant {
            host: "web1".into(),
            certificates: vec![self.certificate(&self.host_ca, &self.host.public_key(), CertificateKind::Host)],
            user_ca: vec![self.user_ca.public_key().to_openssh("user CA")],
            known_hosts: format!("@cert-authority * {}", self.host_ca.public_key().to_openssh("")),
            feed_key: Some(key().public_key().to_openssh("")),
            signature: vec![],
        }
    }

    fn signed(&self, mut grant: Grant, ca: &PrivateKey) -> String {
        grant.signature = ca.sign(&grant.signed_data(&NONCE)).unwrap();
        answer(Answer::Granted(grant))
    }
}

fn proof(exchange: &mut Exchange) -> Proof {
    let line = exchange.prove(hello(exchange.verb(), &NONCE).as_bytes()).unwrap();
    assert!(line.ends_with("]}\n") && line.lines().count() == 1, "{line}");
    read_proof(line.as_bytes()).unwrap()
}

fn claims(names: &[String]) -> Claims<'_> {
    Claims { verb: Verb::Enroll, nonce: &NONCE, names }
}

#[test]
fn a_token_survives_its_text_and_shows_nothing() {
    let world = world();
    let text = world.token.to_text();
    assert!(text.starts_with("ussh-host-") && text.len() == 96, "{}", text.len());
    let again = HostToken::parse(&format!(" {}\n", *text)).unwrap();
    assert_eq!(again.key().unwrap().public_key(), world.token.key().unwrap().public_key());
    assert!(again.is_of(&world.host_ca.public_key()) && !again.is_of(&world.user_ca.public_key()));
    assert_eq!(format!("{again:?}"), "HostToken(***)");
    for wrong in ["", "ussh-host-", &text[1..], &text[..95], &format!("{}A", *text), &text.replace('-', "_")] {
        assert!(HostToken::parse(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn a_host_that_proves_itself_is_given_certificates_that_it_can_check() {
    let world = world();
    let mut exchange = world.exchange();
    let proof = proof(&mut exchange);
    let proven = claims(&proof.names).verify(&proof).unwrap();
    assert_eq!(proven.token(), Some(world.token.key().unwrap().public_key().fingerprint().as_str()));
    assert_eq!((proven.names(), proven.keys()), (&names(&["web1"])[..], &[world.host.public_key()][..]));
    let grant = world.grant();
    let granted = exchange.granted(world.signed(grant.clone(), &world.host_ca).as_bytes(), NOW).unwrap();
    assert_eq!(granted.host_ca, world.host_ca.public_key());
    assert_eq!(granted.user_ca, [world.user_ca.public_key()]);
    assert_eq!(granted.certificates[0].public_key(), &world.host.public_key());
    assert_eq!(Some(granted.feed_key.unwrap().to_openssh("")), grant.feed_key);
}

/// Whoever carries the lines can do with them nothing but this.
#[test]
fn a_proof_is_good_for_its_verb_nonce_names_keys_and_token_only() {
    let world = world();
    let proof = proof(&mut world.exchange());
    let asked = proof.names.clone();
    let refused = |claims: Claims<'_>, proof: &Proof| claims.verify(proof).unwrap_err();
    let is_signature = |error: &ProofError| matches!(error, ProofError::Signature { error: KeyError::BadSignature, fingerprint } if fingerprint.starts_with("SHA256:"));
    let other_nonce = Claims { nonce: &[8; NONCE_LEN], ..claims(&asked) };
    assert!(is_signature(&refused(other_nonce, &proof)));
    for verb in [Verb::Renew, Verb::Report, Verb::Krl, Verb::BreakGlass] {
        assert_eq!(refused(Claims { verb, ..claims(&asked) }, &proof), ProofError::Token);
        let without = Proof { token: None, ..proof.clone() };
        assert!(is_signature(&refused(Claims { verb, ..claims(&asked) }, &without)), "{verb:?}");
    }
    assert_eq!(refused(claims(&asked), &Proof { token: None, ..proof.clone() }), ProofError::Token);
    // Other names, said twice: by the front in its own words, and in the proof.
    let more = names(&["web1", "web2"]);
    assert_eq!(refused(claims(&more), &proof), ProofError::Count);
    assert!(is_signature(&refused(claims(&more), &Proof { names: more.clone(), ..proof.clone() })));
    // A key of somebody else's, in place of the host's or beside it.
    let theirs = claims(&asked).sign(None, &[key()]).unwrap().keys;
    assert!(is_signature(&refused(claims(&asked), &Proof { keys: theirs.clone(), ..proof.clone() })));
    let both = [proof.keys.clone(), theirs].concat();
    assert!(is_signature(&refused(claims(&asked), &Proof { keys: both, ..proof.clone() })));
    // The token's signature from here, beside keys of somebody else's who signed the same but for that.
    let theirs = claims(&asked).sign(Some(&world.token.key().unwrap()), &[key()]).unwrap().keys;
    assert!(is_signature(&refused(claims(&asked), &Proof { keys: theirs, ..proof.clone() })));
    // One verb's for another.
    let renewal = Claims { verb: Verb::Renew, ..claims(&asked) }.sign(None, &[copy(&world.host)]).unwrap();
    assert!(is_signature(&refused(Claims { verb: Verb::Report, ..claims(&asked) }, &renewal)));
    // Another token over the same keys.
    let other = HostToken::generate(&world.host_ca.public_key()).unwrap().key().unwrap();
    let token = claims(&asked).sign(Some(&other), &[copy(&world.host)]).unwrap().token;
    assert!(is_signature(&refused(claims(&asked), &Proof { token, ..proof.clone() })));
    // A signature by the right key in another namespace: as git or ssh-keygen -Y would make one.
    let mut foreign = proof.clone();
    let data = crate::sshsig::signed_data("file", b"x");
    foreign.keys[0].signature = world.host.sign(&data).unwrap();
    assert!(is_signature(&refused(claims(&asked), &foreign)));
    assert!(claims(&asked).verify(&proof).is_ok());
}

#[test]
fn keys_are_bounded_each_once_and_no_token_stands_for_one() {
    let world = world();
    let token = world.token.key().unwrap();
    let verify = |token: Option<&PrivateKey>, keys: &[PrivateKey], names: &[String]| {
        claims(names).verify(&claims(names).sign(token, keys).unwrap()).map(|_| ())
    };
    let eight: Vec<PrivateKey> = (0..8).map(|_| key()).collect();
    assert_eq!(verify(Some(&token), &eight, &[]), Ok(()));
    let nine: Vec<PrivateKey> = (0..9).map(|_| key()).collect();
    assert_eq!(verify(Some(&token), &nine, &[]), Err(ProofError::Count));
    assert_eq!(verify(Some(&token), &[], &[]), Err(ProofError::Count));
    let twice = [copy(&world.host), copy(&world.host)];
    assert_eq!(verify(Some(&token), &twice, &[]), Err(ProofError::Count));
    assert_eq!(verify(Some(&token), &twice[..1], &vec!["a".to_owned(); 65]), Err(ProofError::Count));
    assert_eq!(verify(Some(&token), &[copy(&token)], &[]), Err(ProofError::Token));
}

#[test]
fn hosts_of_every_key_type_prove_themselves_and_a_security_key_does_not() {
    let keygen = Keygen::new();
    for kind in ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-2048"] {
        let keys = [keygen.generate(kind, kind)];
        let claims = Claims { verb: Verb::Report, nonce: &NONCE, names: &[] };
        let proof = claims.sign(None, &keys).unwrap();
        assert_eq!(claims.verify(&proof).unwrap().keys(), [keys[0].public_key()], "{kind}");
    }
    let fido = crate::testing::SoftFido::new(key());
    let keys = vec![Signed { key: fido.public.to_blob(), signature: vec![] }];
    let proof = Proof { token: None, names: vec![], keys };
    let claims = Claims { verb: Verb::Report, nonce: &NONCE, names: &[] };
    assert_eq!(claims.verify(&proof), Err(ProofError::Fido));
}

#[test]
fn a_host_takes_nothing_that_its_ca_did_not_sign_for_it_in_this_exchange() {
    let world = world();
    let refused = |line: String| {
        let mut exchange = world.exchange();
        proof(&mut exchange);
        exchange.granted(line.as_bytes(), NOW).unwrap_err()
    };
    let by_the_ca = |change: &dyn Fn(&mut Grant)| {
        let mut grant = world.grant();
        change(&mut grant);
        refused(world.signed(grant, &world.host_ca))
    };
    // Each field is under the signature.
    let after = |change: &dyn Fn(&mut Grant)| {
        let mut grant = world.grant();
        grant.signature = world.host_ca.sign(&grant.signed_data(&NONCE)).unwrap();
        change(&mut grant);
        refused(answer(Answer::Granted(grant)))
    };
    let theirs = || key().public_key().to_openssh("");
    let signature = ExchangeError::Bad("its signature");
    assert_eq!(after(&|g| g.user_ca = vec![theirs()]), signature);
    assert_eq!(after(&|g| g.user_ca.push(theirs())), signature);
    assert_eq!(after(&|g| g.feed_key = Some(theirs())), signature);
    assert_eq!(after(&|g| g.feed_key = None), signature);
    assert_eq!(after(&|g| g.known_hosts.push(' ')), signature);
    assert_eq!(after(&|g| g.host = "web2".into()), signature);
    assert_eq!(after(&|g| g.certificates.push(g.certificates[0].clone())), signature);
    // Another CA, all of it in order.
    let other = key();
    let mut grant = world.grant();
    grant.certificates = vec![world.certificate(&other, &world.host.public_key(), CertificateKind::Host)];
    assert_eq!(refused(world.signed(grant, &other)), ExchangeError::OtherCa);
    let not_ours = ExchangeError::Bad("a certificate is not for this host's key");
    let of = |key: &PublicKey, kind| vec![world.certificate(&world.host_ca, key, kind)];
    assert_eq!(by_the_ca(&|g| g.certificates = of(&key().public_key(), CertificateKind::Host)), not_ours);
    assert_eq!(by_the_ca(&|g| g.certificates = of(&world.host.public_key(), CertificateKind::User)), not_ours);
    assert_eq!(by_the_ca(&|g| g.certificates.push(g.certificates[0].clone())), not_ours);
    assert_eq!(by_the_ca(&|g| g.certificates.clear()), ExchangeError::Bad("no certificates"));
    let host_ca = world.host_ca.public_key().to_openssh("");
    assert_eq!(by_the_ca(&|g| g.user_ca = vec![host_ca.clone()]), ExchangeError::Bad("no user CA of its own"));
    // An answer to an exchange of before.
    let mut grant = world.grant();
    grant.signature = world.host_ca.sign(&grant.signed_data(&[8; NONCE_LEN])).unwrap();
    assert_eq!(refused(answer(Answer::Granted(grant))), signature);
    assert_eq!(refused(refusal("no\x1b")), ExchangeError::Refused("no\x1b".into()));
    assert_eq!(refused("junk\n".into()), ExchangeError::Malformed("no answer"));
    assert_eq!(refused(answer(Answer::Krl(vec![1]))), ExchangeError::Malformed("no certificates"));
}

#[test]
fn a_host_takes_no_certificate_that_no_client_would_take() {
    let world = world();
    let good = || CertificateTemplate {
        public_key: world.host.public_key(),
        serial: 7,
        kind: CertificateKind::Host,
        key_id: "web1".into(),
        principals: names(&["WEB1", "web1.example.com"]),
        valid_after: UnixTime(1000),
        valid_before: UnixTime(2000),
        critical_options: vec![],
        extensions: vec![],
    };
    let taken_at = |now: u64, template: CertificateTemplate| {
        let mut exchange = world.exchange();
        proof(&mut exchange);
        let mut grant = world.grant();
        grant.certificates = vec![template.sign(&world.host_ca).unwrap().to_openssh("")];
        match exchange.granted(world.signed(grant, &world.host_ca).as_bytes(), UnixTime(now)) {
            Ok(_) => "taken",
            Err(ExchangeError::Bad(why)) => why,
            Err(e) => panic!("{e}"),
        }
    };
    // The CA's clock may be some minutes ahead.
    for now in [700, 1000, 1999] {
        assert_eq!(taken_at(now, good()), "taken", "{now}");
    }
    for now in [2000, 1 << 40] {
        assert!(taken_at(now, good()).starts_with("a certificate has run out already"), "{now}");
    }
    for now in [0, 699] {
        assert!(taken_at(now, good()).starts_with("a certificate is not valid yet"), "{now}");
    }
    for name in ["force-command", "x@example.com"] {
        let critical_options = vec![crate::certificate::CertificateOption::string(name, "x")];
        let why = taken_at(1500, CertificateTemplate { critical_options, ..good() });
        assert!(why.starts_with("a certificate has critical options"), "{name}: {why}");
    }
    assert_eq!(
        taken_at(1500, CertificateTemplate { principals: names(&["db1"]), ..good() }),
        "a certificate is not for all names that were asked for"
    );
}

#[test]
fn a_hello_for_another_verb_or_of_another_version_is_not_answered() {
    let world = world();
    let prove = |line: &str| world.exchange().prove(line.as_bytes()).unwrap_err();
    let malformed = ExchangeError::Malformed("no hello");
    assert_eq!(prove(&hello(Verb::Renew, &NONCE)), malformed);
    assert_eq!(prove(&hello(Verb::Enroll, &NONCE).replace("\"version\":1", "\"version\":2")), malformed);
    assert_eq!(prove(&hello(Verb::Enroll, &NONCE).replace("\"verb\"", "\"more\":1,\"verb\"")), malformed);
    assert_eq!(prove(""), malformed);
    assert_eq!(prove(&refusal("later")), ExchangeError::Refused("later".into()));
}

#[test]
fn lines_are_bounded_and_hold_what_they_must_and_nothing_else() {
    let world = world();
    let mut exchange = world.exchange();
    let line = exchange.prove(hello(Verb::Enroll, &NONCE).as_bytes()).unwrap();
    assert!(read_proof(line.as_bytes()).is_some());
    for wrong in [
        line.replace("\"names\"", "\"name\""),
        line.replace("ssh-ed25519 ", "ssh-rsa "),
        line.replace("\"keys\"", "\"more\":1,\"keys\""),
        line.replace("\"signature\":\"", "\"signature\":\"!"),
        line.replace('\n', "{}"),
        line.replace('\n', &" ".repeat(MAX_LINE)),
        String::new(),
        "[".repeat(5000),
    ] {
        assert!(read_proof(wrong.as_bytes()).is_none(), "{wrong:.200}");
    }
}

#[test]
fn a_krl_in_pieces_is_one_line() {
    let krl: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let pieces: Vec<&[u8]> = krl.chunks(300).collect();
    let last = pieces.len() - 1;
    let line: String = pieces.iter().enumerate().map(|(n, piece)| krl_line(piece, n == 0, n == last)).collect();
    assert_eq!(line, answer(Answer::Krl(krl.clone())));
    assert_eq!(Exchange::krl(vec![key()]).received_krl(line.as_bytes()), Ok(krl));
}
