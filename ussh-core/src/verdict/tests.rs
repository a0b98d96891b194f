#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;

use super::*;
use crate::certificate::CertificateParseError;
use crate::keys::{KeyError, PrivateKey, PublicKey};
use crate::revoked::{KrlTemplate, RevokedOf};
use crate::testing::{Keygen, NOW, RawCertificate, SoftFido, TOUCHED, string};

struct Fixture {
    ca: PrivateKey,
    cas: TrustedCas,
    good: RawCertificate,
}

fn fixture() -> Fixture {
    let ca = PrivateKey::generate_ed25519().unwrap();
    let key = PrivateKey::generate_ed25519().unwrap().public_key();
    Fixture { cas: TrustedCas::from_keys(vec![ca.public_key()]), ca, good: RawCertificate::new(&key) }
}

impl Fixture {
    fn demand(&self) -> Demand<'_> {
        Demand {
            cas: &self.cas,
            kind: CertificateKind::User,
            now: UnixTime(NOW),
            principals: PrincipalDemand::User("alice", None),
            critical_options: CriticalOptions::Refuse { origin: None },
            revoked: None,
            max_validity: None,
            max_age: None,
        }
    }

    fn certificate(&self, raw: &RawCertificate) -> Certificate {
        Certificate::parse(&raw.sign(&self.ca)).unwrap()
    }

    fn verdict(&self, raw: &RawCertificate, demand: &Demand<'_>) -> Result<(), Refusal> {
        verify(&self.certificate(raw), demand).map(|_| ())
    }

    fn plain_verdict(&self, raw: &RawCertificate) -> Result<(), Refusal> {
        self.verdict(raw, &self.demand())
    }
}

fn names(list: &[&str]) -> Vec<Vec<u8>> {
    list.iter().map(|n| n.as_bytes().to_vec()).collect()
}

#[test]
fn a_good_certificate_passes_whole() {
    let f = fixture();
    let certificate = f.certificate(&f.good);
    let verified = verify(&certificate, &f.demand()).unwrap();
    assert_eq!(*verified.certificate(), certificate);
    assert_eq!(verified.fido_demand(), FidoDemand::Presence);
}

#[test]
fn refuses_every_bit_flip_that_still_parses() {
    let f = fixture();
    let blob = f.good.sign(&f.ca);
    let mut parsed = 0;
    for bit in 0..blob.len() * 8 {
        let mut flipped = blob.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(certificate) = Certificate::parse(&flipped) {
            parsed += 1;
            assert!(verify(&certificate, &f.demand()).is_err(), "bit {bit}");
        }
    }
    assert!(parsed > 1000, "{parsed}");
}

#[test]
fn refuses_unknown_ca_and_a_ca_that_only_claims_to_be_the_trusted_one() {
    let f = fixture();
    let other = PrivateKey::generate_ed25519().unwrap();
    let foreign = Certificate::parse(&f.good.sign(&other)).unwrap();
    let fingerprint = other.public_key().fingerprint();
    let refused = verify(&foreign, &f.demand()).unwrap_err();
    assert_eq!(refused, Refusal::UntrustedCa { fingerprint });

    let mut forged = f.good.clone();
    forged.ca_blob = Some(f.ca.public_key().to_blob());
    let forged = Certificate::parse(&forged.sign(&other)).unwrap();
    let refused = verify(&forged, &f.demand()).unwrap_err();
    assert_eq!(refused, Refusal::BadCaSignature(KeyError::BadSignature));

    let nobody = TrustedCas::default();
    let mut demand = f.demand();
    demand.cas = &nobody;
    let refused = f.verdict(&f.good, &demand);
    assert!(matches!(refused, Err(Refusal::UntrustedCa { .. })));
}

#[test]
fn takes_rsa_ca_with_sha2_and_refuses_sha1() {
    let keygen = Keygen::new();
    keygen.generate("ca", "rsa-2048");
    keygen.generate("k", "ed25519");
    let cas = TrustedCas::from_keys(vec![keygen.public("ca")]);
    let f = fixture();
    for (algorithm, verdict) in [
        ("rsa-sha2-256", Ok(())),
        ("rsa-sha2-512", Ok(())),
        ("ssh-rsa", Err(KeyError::SignatureAlgorithm("ssh-rsa".into()))),
    ] {
        let args = ["-t", algorithm, "-I", "id", "-n", "alice", "-V", "0x3e8:0x7d0"];
        let certificate = keygen.certify("ca", "k", &args);
        let demand = Demand { cas: &cas, ..f.demand() };
        let ours = verify(&certificate, &demand).map(|_| ());
        assert_eq!(ours, verdict.map_err(Refusal::BadCaSignature), "{algorithm}");
    }
}

/// A key of any type that OpenSSH takes by default, and how it signs.
enum AnyKey {
    Plain(PrivateKey),
    Fido(SoftFido),
}

impl AnyKey {
    fn of_every_type(keygen: &Keygen) -> Vec<AnyKey> {
        let plain = ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-2048", "rsa-4096"];
        let mut keys: Vec<AnyKey> = plain.iter().map(|kind| AnyKey::Plain(keygen.generate(kind, kind))).collect();
        keys.extend(["ed25519", "ecdsa-256"].map(|kind| {
            let name = format!("sk-{kind}");
            AnyKey::Fido(SoftFido::new(keygen.generate(&name, kind)))
        }));
        keys
    }

    fn public(&self) -> PublicKey {
        match self {
            AnyKey::Plain(key) => key.public_key(),
            AnyKey::Fido(key) => key.public.clone(),
        }
    }

    fn certify(&self, key: &PublicKey) -> Vec<u8> {
        let raw = RawCertificate::new(key);
        match self {
            AnyKey::Plain(ca) => raw.sign(ca),
            AnyKey::Fido(ca) => raw.sign_with(&ca.public, |message| ca.sign(message, TOUCHED)),
        }
    }
}

#[test]
fn takes_every_key_type_under_a_ca_of_every_key_type() {
    let keygen = Keygen::new();
    let f = fixture();
    let keys = AnyKey::of_every_type(&keygen);
    for ca in &keys {
        let cas = TrustedCas::from_keys(vec![ca.public()]);
        let demand = Demand { cas: &cas, ..f.demand() };
        for key in &keys {
            let pair = format!("{} under {}", key.public().type_name(), ca.public().type_name());
            let blob = ca.certify(&key.public());
            assert!(keygen.reads_certificate(&blob), "{pair}");
            let certificate = Certificate::parse(&blob).unwrap();
            assert!(verify(&certificate, &demand).is_ok(), "{pair}");

            let mut forged = blob.clone();
            let at = forged.windows(7).position(|window| window == [&[0, 5][..], b"alice"].concat()).unwrap();
            forged[at + 6] = b'f';
            let forged = Certificate::parse(&forged).unwrap();
            let refused = verify(&forged, &demand).map(|_| ()).unwrap_err();
            assert_eq!(refused, Refusal::BadCaSignature(KeyError::BadSignature), "{pair}");
        }
    }
}

#[test]
fn a_fido_ca_must_have_been_touched() {
    let f = fixture();
    let ca = SoftFido::new(PrivateKey::generate_ed25519().unwrap());
    let cas = TrustedCas::from_keys(vec![ca.public.clone()]);
    let demand = Demand { cas: &cas, ..f.demand() };
    let verdict = |flags| {
        let blob = f.good.sign_with(&ca.public, |message| ca.sign(message, flags));
        verify(&Certificate::parse(&blob).unwrap(), &demand).map(|_| ())
    };
    assert_eq!(verdict(TOUCHED), Ok(()));
    assert_eq!(verdict(0), Err(Refusal::BadCaSignature(KeyError::NoUserPresence)));
}

#[test]
fn refuses_host_certificate_for_a_user_and_the_other_way_round() {
    let f = fixture();
    let mut host = f.good.clone();
    host.kind = 2;
    assert_eq!(f.plain_verdict(&host), Err(Refusal::WrongKind));
    let demand = Demand { kind: CertificateKind::Host, ..f.demand() };
    assert_eq!(f.verdict(&host, &demand), Ok(()));
    assert_eq!(f.verdict(&f.good, &demand), Err(Refusal::WrongKind));
}

#[test]
fn is_valid_from_its_first_second_until_before_its_last() {
    let f = fixture();
    let at = |now| f.verdict(&f.good, &Demand { now: UnixTime(now), ..f.demand() });
    let early = |now| Refusal::NotYetValid { valid_after: UnixTime(1000), now: UnixTime(now) };
    let late = |now| Refusal::Expired { valid_before: UnixTime(2000), now: UnixTime(now) };
    assert_eq!(at(0), Err(early(0)));
    assert_eq!(at(999), Err(early(999)));
    assert_eq!(at(1000), Ok(()));
    assert_eq!(at(1999), Ok(()));
    assert_eq!(at(2000), Err(late(2000)));
    assert_eq!(at(u64::MAX), Err(late(u64::MAX)));
    assert_eq!(
        early(5).to_string(),
        "certificate is not yet valid (from 1970-01-01T00:16:40Z, now 1970-01-01T00:00:05Z)"
    );
    assert_eq!(late(5).to_string(), "certificate has expired (at 1970-01-01T00:33:20Z, now 1970-01-01T00:00:05Z)");

    let mut backwards = f.good.clone();
    (backwards.valid_after, backwards.valid_before) = (1501, 1400);
    assert_eq!(
        f.plain_verdict(&backwards),
        Err(Refusal::NotYetValid { valid_after: UnixTime(1501), now: UnixTime(NOW) })
    );
    let mut for_ever = f.good.clone();
    (for_ever.valid_after, for_ever.valid_before) = (0, u64::MAX);
    assert_eq!(f.plain_verdict(&for_ever), Ok(()));
}

#[test]
fn max_validity_bounds_the_span() {
    let f = fixture();
    let within = |raw: &RawCertificate, max| {
        let max_validity = Some(Duration::from_secs(max));
        f.verdict(raw, &Demand { max_validity, ..f.demand() })
    };
    assert_eq!(within(&f.good, 1000), Ok(()));
    let too_long = |span, max| Err(Refusal::ValidityTooLong { span, max });
    assert_eq!(within(&f.good, 999), too_long(1000, 999));
    let mut for_ever = f.good.clone();
    for_ever.valid_before = u64::MAX;
    assert_eq!(within(&for_ever, 86400), too_long(u64::MAX - 1000, 86400));
}

#[test]
fn max_age_counts_from_the_login_which_a_renewal_does_not_reset() {
    let f = fixture();
    let within = |raw: &RawCertificate, max| {
        let max_age = Some(Duration::from_secs(max));
        f.verdict(raw, &Demand { max_age, ..f.demand() })
    };
    assert_eq!(within(&f.good, 500), Ok(()));
    assert_eq!(within(&f.good, 499), Err(Refusal::LoginTooOld { age: 500, max: 499 }));
    let renewed = f.good.clone().extension(b"login-time@ussh", &100_u64.to_be_bytes());
    assert_eq!(within(&renewed, 1400), Ok(()));
    assert_eq!(within(&renewed, 500), Err(Refusal::LoginTooOld { age: 1400, max: 500 }));
    let ahead = f.good.clone().extension(b"login-time@ussh", &1510_u64.to_be_bytes());
    assert_eq!(within(&ahead, 0), Ok(()));
    // As far as clocks may differ, and no further.
    let login_at = |time: u64| f.good.clone().extension(b"login-time@ussh", &time.to_be_bytes());
    assert_eq!(within(&login_at(NOW + 300), 0), Ok(()));
    assert_eq!(within(&login_at(NOW + 301), 0), Err(Refusal::LoginFromTheFuture { ahead: 301 }));
    assert_eq!(f.verdict(&login_at(NOW + 301), &f.demand()), Ok(()), "nobody asks for its age");
    let broken = f.good.clone().extension(b"login-time@ussh", b"1500");
    assert_eq!(within(&broken, 500), Err(Refusal::LoginTooOld { age: 1500, max: 500 }));
}

#[test]
fn refuses_certificate_with_empty_principals() {
    let f = fixture();
    for empty in [Vec::new(), names(&[""]), names(&["", ""])] {
        let mut raw = f.good.clone();
        raw.principals = empty;
        let nobody = PrincipalList::from_names(names(&["", "alice"]));
        for principals in [
            PrincipalDemand::User("alice", None),
            PrincipalDemand::User("", None),
            PrincipalDemand::ListOnly(&nobody),
            PrincipalDemand::AnyNonEmpty,
        ] {
            let demand = Demand { principals, ..f.demand() };
            assert_eq!(f.verdict(&raw, &demand), Err(Refusal::NoPrincipals));
        }
    }
}

/// Refused, and the log says which name was demanded.
fn not_listed(demanded: &str) -> Result<(), Refusal> {
    Err(Refusal::PrincipalNotListed(demanded.into()))
}

#[test]
fn names_the_user_exactly() {
    let f = fixture();
    let with = |list: &[&str], user| {
        let mut raw = f.good.clone();
        raw.principals = names(list);
        let principals = PrincipalDemand::User(user, None);
        f.verdict(&raw, &Demand { principals, ..f.demand() })
    };
    assert_eq!(with(&["root", "alice"], "alice"), Ok(()));
    assert_eq!(with(&["", "alice"], "alice"), Ok(()));
    for bad in ["Alice", "*", "alice,bob", "bob,alice", "alic", "alice2", "al?ce", "alice ", "!bob"] {
        assert_eq!(with(&[bad], "alice"), not_listed("alice, the user's own"), "{bad}");
    }
    assert_eq!(with(&["", "alice"], ""), not_listed(", the user's own"));
    // Whose the name is: nobody's own sentence.
    assert_eq!(with(&["alice"], "a b\n"), not_listed("a\\x20b\\x0a, the user's own"));
}

#[test]
fn a_list_is_demanded_beside_the_user_or_instead() {
    let f = fixture();
    let list = PrincipalList::from_names(names(&["ops", "dba"]));
    let with = |held: &[&str], principals| {
        let mut raw = f.good.clone();
        raw.principals = names(held);
        f.verdict(&raw, &Demand { principals, ..f.demand() })
    };
    let both = PrincipalDemand::User("alice", Some(&list));
    assert_eq!(with(&["alice", "dba"], both), Ok(()));
    assert_eq!(with(&["alice"], both), not_listed("one of ops,dba"));
    assert_eq!(with(&["dba"], both), not_listed("alice, the user's own"));
    let only = PrincipalDemand::ListOnly(&list);
    assert_eq!(with(&["dba"], only), Ok(()));
    assert_eq!(with(&["alice"], only), not_listed("one of ops,dba"));
    let empty = PrincipalList::default();
    let refused = with(&["alice"], PrincipalDemand::ListOnly(&empty));
    assert_eq!(refused, not_listed("one of "));
    let refused = with(&["alice"], PrincipalDemand::User("alice", Some(&empty)));
    assert_eq!(refused, not_listed("one of "));
    assert_eq!(with(&["anything"], PrincipalDemand::AnyNonEmpty), Ok(()));
}

#[test]
fn says_which_list_was_demanded_in_few_words() {
    let f = fixture();
    let reason = |list: PrincipalList| {
        let principals = PrincipalDemand::ListOnly(&list);
        f.verdict(&f.good, &Demand { principals, ..f.demand() }).unwrap_err().to_string()
    };
    let of = |text: &[u8], path: &str| PrincipalList::parse_file(text).of_file(Path::new(path));
    let said = "certificate does not name a demanded principal: one of";
    assert_eq!(reason(of(b"ops\n", "/etc/p/alice")), format!("{said} those in /etc/p/alice"));
    // For sshd a name behind options counts; here nobody would enforce them.
    for nobodys in [&b""[..], b"# ops\n", b"from=\"10.0.0.1\" alice\n"] {
        let expected = format!("{said} those in /etc/p/a\\x20b, which permits nobody");
        assert_eq!(reason(of(nobodys, "/etc/p/a b")), expected);
    }
    let many = names(&["\n: Accepted"; 1000]);
    let escaped = reason(PrincipalList::from_names(many));
    assert!(
        escaped.starts_with(&format!("{said} \\x0a:\\x20Accepted,\\x0a:")) && escaped.len() <= said.len() + 1 + 256
    );
    let long = reason(of(b"ops\n", &format!("/{}", "\n".repeat(1000))));
    assert!(long.ends_with("...") && long.len() < said.len() + 300, "{long}");
}

const BY_SSHD: CriticalOptions<'static> = CriticalOptions::EnforcedBySshd;

fn from(origin: &str) -> CriticalOptions<'static> {
    CriticalOptions::Refuse { origin: Some(origin.parse().unwrap()) }
}

#[test]
fn refuses_unknown_critical_option_but_takes_unknown_extension() {
    let f = fixture();
    for name in [&b"x@example.com"[..], b"permit-pty", b"Force-Command", b"force-command\0", b""] {
        for critical_options in [BY_SSHD, from("10.0.0.1")] {
            let raw = f.good.clone().critical(name, b"");
            let refused = f.verdict(&raw, &Demand { critical_options, ..f.demand() });
            let unknown = Refusal::UnknownCriticalOption(escape_word(name, 64));
            assert_eq!(refused, Err(unknown));
        }
    }
    let unknown = f.good.clone().extension(b"x@example.com", b"data").extension(b"\xff", b"");
    assert_eq!(f.plain_verdict(&unknown), Ok(()));
}

#[test]
fn force_command_is_left_to_sshd() {
    let f = fixture();
    let raw = f.good.clone().critical(b"force-command", &string(b"id"));
    let by_sshd = Demand { critical_options: BY_SSHD, ..f.demand() };
    assert_eq!(f.verdict(&raw, &by_sshd), Ok(()));
    assert_eq!(f.plain_verdict(&raw), Err(Refusal::ForceCommand));

    let malformed = Err(Refusal::MalformedOption("force-command".into()));
    let twice = raw.critical(b"force-command", &string(b"id"));
    assert_eq!(f.verdict(&twice, &by_sshd), malformed);
    for data in [&b""[..], b"id", &string(b"i\0d"), &[string(b"id"), vec![0]].concat()] {
        let raw = f.good.clone().critical(b"force-command", data);
        assert_eq!(f.verdict(&raw, &by_sshd), malformed);
        assert_eq!(f.plain_verdict(&raw), malformed);
    }
}

#[test]
fn source_address_must_match_a_proven_origin() {
    let f = fixture();
    let with = |list: &str, critical_options| {
        let raw = f.good.clone().critical(b"source-address", &string(list.as_bytes()));
        f.verdict(&raw, &Demand { critical_options, ..f.demand() })
    };
    let unproven = CriticalOptions::Refuse { origin: None };
    assert_eq!(with("0.0.0.0/0,::/0", unproven), Err(Refusal::NoOrigin("no address is known".into())));
    assert_eq!(with("192.0.2.1", BY_SSHD), Ok(()));
    for (list, origin) in [
        ("10.0.0.0/8", "10.255.0.1"),
        ("10.0.0.0/8", "::ffff:10.255.0.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1/32,2001:db8::/32", "2001:db8:ffff::1"),
        ("0.0.0.0/0", "203.0.113.9"),
        ("::/0", "2001:db8::1"),
        ("128.0.0.0/1", "200.1.1.1"),
        ("2001:DB8::1/128", "2001:db8::1"),
    ] {
        assert_eq!(with(list, from(origin)), Ok(()), "{list} {origin}");
    }
    for (list, origin) in [
        ("10.0.0.0/8", "11.0.0.0"),
        ("192.0.2.1", "192.0.2.2"),
        ("192.0.2.0/31", "192.0.2.2"),
        ("0.0.0.0/0", "2001:db8::1"),
        ("::/0", "203.0.113.9"),
        ("::ffff:10.0.0.0/104", "10.1.1.1"),
        ("2001:db8::/32", "2001:db9::"),
        ("128.0.0.0/1", "127.255.255.255"),
    ] {
        assert_eq!(with(list, from(origin)), Err(Refusal::SourceAddress), "{list} {origin}");
    }
}

#[test]
fn the_origin_is_looked_for_only_when_a_certificate_names_a_source_address() {
    #[derive(Debug)]
    struct Asked(std::cell::Cell<u32>, Option<IpAddr>);
    impl Origin for Asked {
        fn address(&self) -> Result<IpAddr, String> {
            self.0.set(self.0.get() + 1);
            self.1.ok_or_else(|| "no record".into())
        }
    }
    let f = fixture();
    let judge = |raw: &RawCertificate, origin: &Asked| {
        f.verdict(raw, &Demand { critical_options: CriticalOptions::RefuseUnlessFrom(origin), ..f.demand() })
    };
    let bound = f.good.clone().critical(b"source-address", &string(b"10.0.0.0/8"));
    let forced = f.good.clone().critical(b"force-command", &string(b"id"));
    let inside = Asked(0.into(), Some("10.1.2.3".parse().unwrap()));
    assert_eq!(judge(&f.good, &inside), Ok(()));
    assert_eq!(judge(&forced, &inside), Err(Refusal::ForceCommand));
    assert_eq!(inside.0.get(), 0);
    assert_eq!(judge(&bound, &inside), Ok(()));
    assert_eq!(judge(&bound, &inside), Ok(()));
    assert_eq!(inside.0.get(), 2, "asked anew each time");
    let unknown = Refusal::NoOrigin("no record".into());
    assert_eq!(unknown.to_string(), "source-address cannot be compared, no origin: no record");
    for (origin, why) in [(Some("11.0.0.1".parse().unwrap()), Refusal::SourceAddress), (None, unknown)] {
        let elsewhere = Asked(0.into(), origin);
        assert_eq!(judge(&bound, &elsewhere), Err(why));
        assert_eq!(elsewhere.0.get(), 1);
    }
}

#[test]
fn refuses_a_source_address_list_with_any_bad_entry() {
    let f = fixture();
    let malformed = Err(Refusal::MalformedOption("source-address".into()));
    for list in [
        "",
        ",",
        "10.0.0.0/8,",
        ",10.0.0.0/8",
        "10.0.0.0/8,,192.0.2.1",
        "10.0.0.0/8 ,192.0.2.1",
        "10.0.0.0/33",
        "::/129",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/-1",
        "10.0.0.0/8/8",
        "10.0.0.1/8",
        "2001:db8::1/32",
        "10.1",
        "010.0.0.1",
        "0x0a000001",
        "example.com",
        "*",
        "!10.0.0.0/8",
        "10.0.0.0/8\0",
        "10.0.0.0/99999999999",
        "fe80::1%eth0",
        "[::1]",
    ] {
        for critical_options in [BY_SSHD, from("10.0.0.1")] {
            let raw = f.good.clone().critical(b"source-address", &string(list.as_bytes()));
            let refused = f.verdict(&raw, &Demand { critical_options, ..f.demand() });
            assert_eq!(refused, malformed, "{list:?}");
        }
    }
    let good = string(b"10.0.0.0/8");
    let twice = f.good.clone().critical(b"source-address", &good);
    let twice = twice.critical(b"source-address", &good);
    let demand = Demand { critical_options: from("10.0.0.1"), ..f.demand() };
    assert_eq!(f.verdict(&twice, &demand), malformed);
    let raw = f.good.clone().critical(b"source-address", b"10.0.0.0/8");
    assert_eq!(f.verdict(&raw, &demand), malformed);
}

#[test]
fn verify_required_raises_what_a_fido_key_must_show() {
    let f = fixture();
    let raw = f.good.clone().critical(b"verify-required", b"");
    let verified = verify(&f.certificate(&raw), &f.demand()).unwrap();
    assert_eq!(verified.fido_demand(), FidoDemand::Verification);
    let twice = raw.critical(b"verify-required", b"");
    assert_eq!(f.plain_verdict(&twice), Ok(()));
    let with_data = f.good.clone().critical(b"verify-required", &string(b""));
    let malformed = Refusal::MalformedOption("verify-required".into());
    assert_eq!(f.plain_verdict(&with_data), Err(malformed));
}

#[test]
fn refuses_flag_extension_with_data_and_a_bad_login_time() {
    let f = fixture();
    let malformed = |name: &str| Err(Refusal::MalformedOption(name.into()));
    for name in FLAG_EXTENSIONS {
        let name = std::str::from_utf8(name).unwrap();
        let raw = f.good.clone().extension(name.as_bytes(), b"");
        assert_eq!(f.plain_verdict(&raw), Ok(()));
        let raw = f.good.clone().extension(name.as_bytes(), b"x");
        assert_eq!(f.plain_verdict(&raw), malformed(name));
    }
    let time = 1200_u64.to_be_bytes();
    let once = f.good.clone().extension(b"login-time@ussh", &time);
    assert_eq!(f.plain_verdict(&once), Ok(()));
    let twice = once.extension(b"login-time@ussh", &time);
    assert_eq!(f.plain_verdict(&twice), malformed("login-time@ussh"));
    let short = f.good.clone().extension(b"login-time@ussh", &time[1..]);
    assert_eq!(f.plain_verdict(&short), malformed("login-time@ussh"));
    let nul = f.good.clone().extension(b"a\0b", b"");
    assert_eq!(f.plain_verdict(&nul), malformed("a\\x00b"));
}

#[test]
fn host_certificates_may_hold_no_critical_option() {
    let f = fixture();
    let demand = Demand { kind: CertificateKind::Host, critical_options: BY_SSHD, ..f.demand() };
    let options = [("force-command", string(b"id")), ("verify-required", Vec::new())];
    for (name, data) in options {
        let mut raw = f.good.clone().critical(name.as_bytes(), &data);
        raw.kind = 2;
        let unknown = Refusal::UnknownCriticalOption(name.into());
        assert_eq!(f.verdict(&raw, &demand), Err(unknown));
    }
}

#[test]
fn refuses_a_revoked_serial() {
    let f = fixture();
    let list = |serial| {
        let mut krl = KrlTemplate::new(1, UnixTime(NOW), "");
        krl.certificates = vec![RevokedOf::serials(f.ca.public_key(), &[serial])];
        RevokedKeys::parse(&krl.to_bytes()).unwrap()
    };
    for (serial, verdict) in [(7, Err(Refusal::Revoked)), (8, Ok(()))] {
        let list = list(serial);
        let demand = Demand { revoked: Some(&list), ..f.demand() };
        assert_eq!(f.verdict(&f.good, &demand), verdict);
    }
}

/// Each step fails alone and with all the later ones: the first decides.
#[test]
fn the_first_failing_check_decides() {
    let f = fixture();
    let revoked = RevokedKeys::parse(f.ca.public_key().to_openssh("").as_bytes()).unwrap();
    let nobody = TrustedCas::default();
    let other = PrivateKey::generate_ed25519().unwrap();
    let mut raw = f.good.clone().critical(b"x", b"");
    raw.kind = 2;
    raw.valid_before = 1400;
    raw.ca_blob = Some(f.ca.public_key().to_blob());
    let mut demand =
        Demand { cas: &nobody, principals: PrincipalDemand::User("bob", None), revoked: Some(&revoked), ..f.demand() };
    let judge = |raw: &RawCertificate, demand: &Demand<'_>| {
        verify(&Certificate::parse(&raw.sign(&other)).unwrap(), demand).unwrap_err()
    };
    assert!(matches!(judge(&raw, &demand), Refusal::UntrustedCa { .. }));
    demand.cas = &f.cas;
    assert_eq!(judge(&raw, &demand), Refusal::WrongKind);
    raw.kind = 1;
    assert!(matches!(judge(&raw, &demand), Refusal::Expired { .. }));
    raw.valid_before = 2000;
    assert!(matches!(judge(&raw, &demand), Refusal::PrincipalNotListed(_)));
    demand.principals = PrincipalDemand::User("alice", None);
    assert_eq!(judge(&raw, &demand), Refusal::UnknownCriticalOption("x".into()));
    raw.critical_options.clear();
    assert_eq!(judge(&raw, &demand), Refusal::BadCaSignature(KeyError::BadSignature));
    assert_eq!(f.verdict(&f.good, &demand), Err(Refusal::Revoked));
    demand.revoked = None;
    assert_eq!(f.verdict(&f.good, &demand), Ok(()));
}

#[test]
fn a_parse_error_is_a_refusal() {
    let refusal = Refusal::from(CertificateParseError::TooManyPrincipals);
    assert_eq!(refusal.to_string(), "too many principals");
}
