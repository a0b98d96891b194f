#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
use super::*;
use crate::clock::UnixTime;
use crate::keys::{PrivateKey, PublicKey};
use crate::revoked::{KrlTemplate, RevokedOf};
use crate::testing::Keygen;

const NOW: UnixTime = UnixTime(1_800_000_000);
const DAY: u64 = 86_400;

fn key() -> PrivateKey {
    PrivateKey::generate_ed25519().unwrap()
}

/// A CA with its three keys.
struct Ca {
    user: PublicKey,
    host: PublicKey,
    feed: PrivateKey,
}

impl Ca {
    fn new() -> Self {
        Ca { user: key().public_key(), host: key().public_key(), feed: key() }
    }

    fn contents(&self, version: u64) -> FeedContents {
        let revoked = RevokedOf::serials(self.user.clone(), &[7]);
        let krl = KrlTemplate { certificates: vec![revoked], ..KrlTemplate::new(version, NOW, "test") };
        FeedContents {
            ca: "Example CA".to_owned(),
            version,
            generated: NOW,
            valid_for: DAY,
            user_ca: format!("{}\n", self.user.to_openssh("user CA")).into_bytes(),
            krl: krl.to_bytes(),
            known_hosts: format!("@cert-authority * {}\n", self.host.to_openssh("host CA")).into_bytes(),
            handovers: Vec::new(),
        }
    }

    fn draft(&self, version: u64) -> Bundle {
        draft(self.contents(version), &self.feed.public_key(), None).unwrap()
    }

    fn feed(&self, version: u64) -> Vec<u8> {
        seal(self.draft(version), &self.feed).unwrap()
    }

    fn pinned(&self) -> Pinned {
        Pinned { key: self.feed.public_key(), taken: None }
    }

    /// A feed whose manifest was changed before it was signed, and that no maker of ours lets through.
    fn forged(&self, change: impl FnOnce(String) -> String) -> Vec<u8> {
        let mut bundle = self.draft(NOW.0);
        let before = String::from_utf8(bundle.manifest.clone()).unwrap();
        let after = change(before.clone());
        assert_ne!(after, before, "the change found nothing to change");
        bundle.manifest = after.into_bytes();
        bundle.signature = sign(&self.feed, &bundle.manifest).unwrap().into_bytes();
        bundle.to_bytes()
    }

    /// A feed with other files, whose manifest is true of them.
    fn with(&self, change: impl FnOnce(&mut FeedContents)) -> Vec<u8> {
        let mut contents = self.contents(NOW.0);
        change(&mut contents);
        let mut bundle = draft(contents, &self.feed.public_key(), None).unwrap();
        bundle.signature = sign(&self.feed, &bundle.manifest).unwrap().into_bytes();
        bundle.to_bytes()
    }

    fn refused(&self, feed: &[u8]) -> FeedError {
        verify(feed, &self.pinned(), NOW).unwrap_err()
    }

    /// Hands over to `next`; the manifest by which it does.
    fn hand_over(&mut self, version: u64, next: PrivateKey) -> Handover {
        let mut bundle = draft(self.contents(version), &self.feed.public_key(), Some(&next.public_key())).unwrap();
        bundle.signature = sign(&self.feed, &bundle.manifest).unwrap().into_bytes();
        self.feed = next;
        Handover { manifest: bundle.manifest, signature: bundle.signature }
    }
}

#[test]
fn a_feed_is_taken_with_all_that_is_in_it() {
    let ca = Ca::new();
    let feed = ca.feed(NOW.0);
    let taken = verify(&feed, &ca.pinned(), NOW).unwrap();
    assert_eq!((taken.manifest().version, taken.manifest().ca.as_str()), (NOW.0, "Example CA"));
    assert_eq!(taken.cas().keys(), std::slice::from_ref(&ca.user));
    assert_eq!(taken.revoked().version(), Some(NOW.0));
    assert_eq!((taken.signed_by(), taken.pin()), (&ca.feed.public_key(), &ca.feed.public_key()));
    assert_eq!(taken.bundle().to_bytes(), feed);
    assert!(taken.known_hosts().starts_with(b"@cert-authority * ssh-ed25519 "));
    // The same one once more is no step back.
    let again = Pinned { taken: Some(taken.taken()), ..ca.pinned() };
    assert_eq!(verify(&feed, &again, NOW).unwrap().taken(), taken.taken());
}

#[test]
fn stock_ssh_keygen_checks_the_manifest_and_signs_one() {
    let (ca, keygen) = (Ca::new(), Keygen::new());
    let bundle = Bundle::parse(&ca.feed(NOW.0)).unwrap();
    keygen.write("manifest.sig", &bundle.signature);
    keygen.write("allowed", format!("ca {}\n", ca.feed.public_key().to_openssh("")));
    let verify_as = |namespace: &str| {
        let args = ["-Y", "verify", "-f", "allowed", "-I", "ca", "-n", namespace, "-s", "manifest.sig"];
        keygen.write("manifest", &bundle.manifest);
        let out = std::process::Command::new("ssh-keygen")
            .args(args)
            .current_dir(keygen.path(""))
            .stdin(std::fs::File::open(keygen.path("manifest")).unwrap())
            .output();
        out.unwrap().status.success()
    };
    assert!(verify_as(NAMESPACE));
    assert!(!verify_as("file"));

    // The other way round, with each type of key that a feed key may be.
    for kind in [&["-t", "ed25519"][..], &["-t", "ecdsa"], &["-t", "rsa", "-b", "3072"]] {
        let name = kind[1];
        keygen.run(&[&["-q", "-N", "", "-f", name], kind].concat());
        let public = PublicKey::from_openssh(&keygen.read_text(&format!("{name}.pub"))).unwrap();
        let mut bundle = draft(ca.contents(NOW.0), &public, None).unwrap();
        keygen.write(&format!("manifest.{name}"), &bundle.manifest);
        keygen.run(&["-Y", "sign", "-f", name, "-n", NAMESPACE, &format!("manifest.{name}")]);
        bundle.signature = keygen.read(&format!("manifest.{name}.sig"));
        let pinned = Pinned { key: public.clone(), taken: None };
        assert_eq!(verify(&bundle.to_bytes(), &pinned, NOW).unwrap().signed_by(), &public, "{name}");
    }
    // Another namespace, another hash: not for this.
    keygen.write("m", &bundle.manifest);
    keygen.run(&["-Y", "sign", "-f", "ed25519", "-n", "file", "m"]);
    let other = verify_signature(&keygen.read("m.sig"), &bundle.manifest).unwrap_err();
    assert_eq!(other, SignatureError::Namespace("file".to_owned()));
    std::fs::remove_file(keygen.path("m.sig")).unwrap();
    keygen.run(&["-Y", "sign", "-f", "ed25519", "-n", NAMESPACE, "-O", "hashalg=sha256", "m"]);
    let other = verify_signature(&keygen.read("m.sig"), &bundle.manifest).unwrap_err();
    assert_eq!(other, SignatureError::Hash("sha256".to_owned()));
}

#[test]
fn a_feed_that_is_cut_anywhere_or_changed_anywhere_is_refused() {
    let ca = Ca::new();
    let feed = ca.feed(NOW.0);
    for end in 0..feed.len() {
        assert!(matches!(ca.refused(&feed[..end]), FeedError::Torn(_)), "{end}");
    }
    let mut longer = feed.clone();
    longer.push(0);
    assert_eq!(ca.refused(&longer), FeedError::Torn("there is more behind its end"));
    for at in 0..feed.len() {
        let mut changed = feed.clone();
        changed[at] ^= 0x20;
        // What is inside the armour of a signature may be written in more than one way (a line's end, an unused bit); the feed is the same one then.
        if let Ok(taken) = verify(&changed, &ca.pinned(), NOW) {
            let as_it_was = Bundle::parse(&feed).unwrap();
            let Bundle { manifest, user_ca, krl, known_hosts, .. } = taken.bundle();
            assert_eq!(
                (manifest, user_ca, krl, known_hosts),
                (&as_it_was.manifest, &as_it_was.user_ca, &as_it_was.krl, &as_it_was.known_hosts),
                "{at}"
            );
        }
    }
}

#[test]
fn a_part_that_is_too_long_is_refused_by_its_name() {
    let ca = Ca::new();
    let whole = Bundle::parse(&ca.feed(NOW.0)).unwrap();
    let part = |what, max: usize, change: fn(&mut Bundle, Vec<u8>)| {
        let mut bundle = whole.clone();
        change(&mut bundle, vec![b' '; max + 1]);
        assert_eq!(ca.refused(&bundle.to_bytes()), FeedError::TooLarge { what, max });
    };
    part("the manifest", MAX_MANIFEST, |b, long| b.manifest = long);
    part("the signature", MAX_SIGNATURE, |b, long| b.signature = long);
    part(USER_CA, MAX_KEYS, |b, long| b.user_ca = long);
    part(KNOWN_HOSTS, MAX_KEYS, |b, long| b.known_hosts = long);
    part(KRL, MAX_KRL, |b, long| b.krl = long);
    assert_eq!(ca.refused(&vec![0; MAX_FEED + 1]), FeedError::TooLarge { what: "the feed", max: MAX_FEED });
    let mut bundle = whole.clone();
    bundle.handovers = vec![Handover { manifest: Vec::new(), signature: Vec::new() }; MAX_HANDOVERS + 1];
    assert_eq!(ca.refused(&bundle.to_bytes()), FeedError::Torn("more handovers than there may be"));
}

#[test]
fn another_key_is_refused_be_it_the_user_cas_or_one_that_says_it_is_the_feed_key() {
    let (ca, thief) = (Ca::new(), Ca::new());
    let wrong = FeedError::WrongKey {
        signed_by: thief.feed.public_key().fingerprint(),
        pinned: ca.feed.public_key().fingerprint(),
    };
    assert_eq!(ca.refused(&thief.feed(NOW.0)), wrong);
    // A manifest that names the true key, signed by the other one.
    let mut bundle = ca.draft(NOW.0);
    bundle.signature = sign(&thief.feed, &bundle.manifest).unwrap().into_bytes();
    assert_eq!(ca.refused(&bundle.to_bytes()), wrong);
    let other_key = FeedError::OtherKey {
        named: ca.feed.public_key().fingerprint(),
        signed_by: thief.feed.public_key().fingerprint(),
    };
    assert_eq!(open(&bundle.to_bytes()).unwrap_err(), other_key);
    // The signature of another manifest.
    bundle.signature = Bundle::parse(&ca.feed(NOW.0 + 1)).unwrap().signature;
    assert_eq!(ca.refused(&bundle.to_bytes()), FeedError::Signature(SignatureError::Key(KeyError::BadSignature)));
    bundle.signature = Vec::new();
    assert_eq!(ca.refused(&bundle.to_bytes()), FeedError::Signature(SignatureError::Malformed));
}

#[test]
fn versions_never_go_back_and_are_never_used_twice() {
    let ca = Ca::new();
    let (old, new) = (ca.feed(NOW.0), ca.feed(NOW.0 + 1));
    let taken = Some(verify(&new, &ca.pinned(), NOW).unwrap().taken());
    let pinned = Pinned { taken, ..ca.pinned() };
    assert_eq!(verify(&old, &pinned, NOW).unwrap_err(), FeedError::GoesBack { offered: NOW.0, taken: NOW.0 + 1 });
    let other = ca.with(|contents| contents.version = NOW.0 + 1);
    let other = verify(&other, &pinned, NOW);
    assert_eq!(other.unwrap_err(), FeedError::Forked(NOW.0 + 1));
    assert!(verify(&ca.feed(NOW.0 + 2), &pinned, NOW).is_ok());
}

#[test]
fn it_is_good_from_a_day_before_it_was_made_until_it_expires() {
    let ca = Ca::new();
    let feed = ca.feed(NOW.0);
    let at = |time: u64| verify(&feed, &ca.pinned(), UnixTime(time)).map(|_| ());
    assert_eq!(at(NOW.0 + DAY - 1), Ok(()));
    assert_eq!(at(NOW.0 + DAY), Err(FeedError::Expired { valid_until: NOW.0 + DAY, now: NOW.0 + DAY }));
    assert_eq!(at(NOW.0 - MAX_AHEAD), Ok(()));
    let early = NOW.0 - MAX_AHEAD - 1;
    assert_eq!(at(early), Err(FeedError::InTheFuture { version: NOW.0, generated: NOW.0, now: early }));
    // A version far ahead of its own time: no true feed could follow.
    let far = ca.with(|contents| contents.version = NOW.0 + MAX_AHEAD + 1);
    assert!(matches!(ca.refused(&far), FeedError::InTheFuture { .. }));
}

#[test]
fn a_manifest_that_is_not_just_as_it_must_be_is_refused() {
    let ca = Ca::new();
    let feed_key = ca.feed.public_key().to_openssh("");
    for (from, to, problem) in [
        ("\"format\": 1", "\"format\": 2", "format 2 is unknown"),
        ("\"format\": 1,", "\"format\": 1, \"more\": 1,", "unknown field `more`"),
        ("\"format\": 1,", "\"format\": 1, \"version\": 2,", "duplicate field `version`"),
        ("\"format\": 1,", "", "missing field `format`"),
        ("\"size\":", "\"size\": 1, \"size\":", "duplicate field `size`"),
        ("\"krl\": {", "\"x\": 1, \"krl\": {", "unknown field `x`"),
        ("\"ca\": \"Example CA\"", "\"ca\": \"a\\u001b[2J\"", "printable ASCII"),
        ("\"ca\": \"Example CA\"", "\"ca\": \"\"", "1 to 64"),
        ("\"version\": 1800000000", "\"version\": 0", "version: 0"),
        ("\"version\": 1800000000", "\"version\": -1", "invalid value"),
        ("\"valid_until\": 1800086400", "\"valid_until\": 1800000000", "valid_until"),
        ("\"valid_until\": 1800086400", "\"valid_until\": 18000864000", "valid_until"),
        ("\"feed_key\": \"", "\"feed_key\": \" ", "feed_key: must be a key's type and base64 alone"),
        ("\"feed_key\":", &format!("\"successor\": \"{feed_key}\", \"feed_key\":"), "is the feed key itself"),
        ("\"feed_key\":", "\"successor\": \"ssh-ed25519 AAAA\", \"feed_key\":", "successor: malformed key"),
    ] {
        match ca.refused(&ca.forged(|text| text.replacen(from, to, 1))) {
            FeedError::Manifest(why) => assert!(why.contains(problem), "{to}: {why}"),
            other => panic!("{to}: {other}"),
        }
    }
    let twice = ca.refused(&ca.forged(|text| format!("{text}{{}}")));
    assert!(matches!(&twice, FeedError::Manifest(why) if why.contains("trailing")), "{twice}");
}

#[test]
fn files_must_be_those_of_the_manifest() {
    let ca = Ca::new();
    let whole = Bundle::parse(&ca.feed(NOW.0)).unwrap();
    let other = Bundle::parse(&Ca::new().feed(NOW.0)).unwrap();
    let swapped = |change: fn(&mut Bundle, &Bundle)| {
        let mut bundle = whole.clone();
        change(&mut bundle, &other);
        ca.refused(&bundle.to_bytes())
    };
    assert_eq!(swapped(|b, other| b.user_ca.clone_from(&other.user_ca)), FeedError::Digest(USER_CA));
    assert_eq!(swapped(|b, other| b.krl.clone_from(&other.krl)), FeedError::Digest(KRL));
    assert_eq!(swapped(|b, other| b.known_hosts.clone_from(&other.known_hosts)), FeedError::Digest(KNOWN_HOSTS));
    let size = FeedError::Size { file: KRL, found: 0, said: whole.krl.len() as u64 };
    assert_eq!(swapped(|b, _| b.krl.clear()), size);
}

#[test]
fn contents_that_sshd_could_not_use_are_refused_though_they_are_signed() {
    let ca = Ca::new();
    let line = ca.user.to_openssh("");
    let user_ca = |text: &str| ca.refused(&ca.with(|contents| contents.user_ca = text.as_bytes().to_vec()));
    assert_eq!(user_ca("# nothing\n"), FeedError::UserCa("holds no CA key".to_owned()));
    assert_eq!(user_ca(&format!("{line}\njunk\n")), FeedError::UserCa("line 2 is no CA key".to_owned()));

    let krl = |data: &[u8]| ca.refused(&ca.with(|contents| contents.krl = data.to_vec()));
    let good = ca.contents(NOW.0).krl;
    assert!(matches!(krl(&good[..good.len() - 1]), FeedError::Krl(RevokedError::Malformed(_))));
    assert!(matches!(krl(b"junk\n"), FeedError::Krl(RevokedError::Malformed(_))));
    assert_eq!(krl(format!("{line}\n").as_bytes()), FeedError::NotAKrl);
    let none = draft(FeedContents { krl: Vec::new(), ..ca.contents(1) }, &ca.feed.public_key(), None);
    assert!(matches!(none.unwrap_err(), FeedError::Manifest(why) if why.contains("krl: must have 1 to")));

    let host = ca.host.to_openssh("");
    for (text, problem) in [
        (format!("* {host}\n"), "line 1: must begin with @cert-authority"),
        (format!("@cert-authority * {host}\n\n"), "line 2: must begin with @cert-authority"),
        (format!("@cert-authority * {host}\n@revoked * {host}\n"), "line 2: must begin"),
        ("@cert-authority *\n".to_owned(), "must hold host patterns and a key"),
        (format!("@cert-authority  {host}\n"), "must hold host patterns and a key"),
        ("@cert-authority * ssh-ed25519 AAAA\n".to_owned(), "line 1: malformed key"),
    ] {
        match ca.refused(&ca.with(|contents| contents.known_hosts = text.clone().into_bytes())) {
            FeedError::KnownHosts(why) => assert!(why.contains(problem), "{text}: {why}"),
            other => panic!("{text}: {other}"),
        }
    }
}

#[test]
fn one_key_in_two_roles_is_refused() {
    let ca = Ca::new();
    let own = ca.feed.public_key().to_openssh("");
    let user = format!("{own}\n");
    let as_user = ca.refused(&ca.with(|contents| contents.user_ca = user.into_bytes()));
    assert_eq!(as_user, FeedError::OneKey("the feed key is a user CA's"));
    let host = format!("@cert-authority * {own}\n");
    let as_host = ca.refused(&ca.with(|contents| contents.known_hosts = host.into_bytes()));
    assert_eq!(as_host, FeedError::OneKey("the feed key is a host CA's"));
    let both = format!("{}\n", ca.host.to_openssh(""));
    let both = ca.refused(&ca.with(|contents| contents.user_ca = both.into_bytes()));
    assert_eq!(both, FeedError::OneKey("a user CA's key is a host CA's"));
    let mut bundle = draft(ca.contents(NOW.0), &ca.feed.public_key(), Some(&ca.user)).unwrap();
    bundle.signature = sign(&ca.feed, &bundle.manifest).unwrap().into_bytes();
    assert_eq!(ca.refused(&bundle.to_bytes()), FeedError::OneKey("the feed key is a user CA's"));
}

#[test]
fn a_new_feed_key_is_taken_from_its_predecessor_and_from_nobody_else() {
    let mut ca = Ca::new();
    let first = ca.pinned();
    let second = key();
    let second_public = second.public_key();
    // The feed by which the first key hands over is good itself, and pins the second one.
    let handing_over = {
        let bundle = draft(ca.contents(NOW.0), &ca.feed.public_key(), Some(&second_public)).unwrap();
        seal(bundle, &ca.feed).unwrap()
    };
    assert_eq!(verify(&handing_over, &first, NOW).unwrap().pin(), &second_public);

    let mut handovers = vec![ca.hand_over(NOW.0, second)];
    handovers.push(ca.hand_over(NOW.0 + 1, key()));
    let of = |ca: &Ca, handovers: &[Handover]| {
        let contents = FeedContents { handovers: handovers.to_vec(), ..ca.contents(NOW.0 + 2) };
        seal(draft(contents, &ca.feed.public_key(), None).unwrap(), &ca.feed).unwrap()
    };
    let feed = of(&ca, &handovers);
    // From the first key, the second, and the third.
    for pinned in [first.key.clone(), second_public.clone(), ca.feed.public_key()] {
        let taken = verify(&feed, &Pinned { key: pinned, taken: None }, NOW).unwrap();
        assert_eq!(taken.pin(), &ca.feed.public_key());
    }
    let wrong = |pinned: &PublicKey| FeedError::WrongKey {
        signed_by: ca.feed.public_key().fingerprint(),
        pinned: pinned.fingerprint(),
    };
    // A link is missing.
    for missing in [&handovers[1..], &[]] {
        assert_eq!(verify(&of(&ca, missing), &first, NOW).unwrap_err(), wrong(&first.key));
    }
    // Somebody else's word.
    let mut thief = Ca::new();
    let other = thief.hand_over(NOW.0, key());
    assert_eq!(
        verify(&of(&thief, &[other]), &first, NOW).unwrap_err(),
        FeedError::WrongKey { signed_by: thief.feed.public_key().fingerprint(), pinned: first.key.fingerprint() }
    );
    // The key that has handed over is no longer the one: from its own old feed, and with its own new one.
    let after = Pinned { key: second_public.clone(), taken: None };
    assert!(matches!(verify(&handing_over, &after, NOW).unwrap_err(), FeedError::WrongKey { .. }));
    // A manifest of the pinned key that names nobody hands nothing over.
    let ca = Ca::new();
    let bundle = Bundle::parse(&ca.feed(NOW.0)).unwrap();
    let empty = Handover { manifest: bundle.manifest.clone(), signature: bundle.signature.clone() };
    let mut bundle = bundle;
    bundle.handovers = vec![empty];
    let nobody = FeedError::Handover { number: 1, problem: "it names no successor".to_owned() };
    assert_eq!(ca.refused(&bundle.to_bytes()), nobody);
}

/// Whoever stole it could go on beside its successor, even at hosts that have the handover before them.
#[test]
fn a_key_that_has_handed_over_signs_no_feed_that_says_so() {
    let old = || PrivateKey::ed25519_from_seed(&[7; 32]).unwrap();
    let mut ca = Ca { feed: old(), ..Ca::new() };
    let pinned = ca.pinned();
    let handover = ca.hand_over(NOW.0, key());
    let feed = |handovers: Vec<Handover>| {
        let contents = FeedContents { handovers, ..ca.contents(NOW.0 + 1) };
        seal(draft(contents, &old().public_key(), None).unwrap(), &old()).unwrap()
    };
    let fingerprint = old().public_key().fingerprint();
    let wrong = FeedError::WrongKey { signed_by: fingerprint.clone(), pinned: fingerprint };
    assert_eq!(verify(&feed(vec![handover]), &pinned, NOW).unwrap_err(), wrong);
    // A host that has heard of no successor cannot know.
    assert!(verify(&feed(Vec::new()), &pinned, NOW).is_ok());
}

#[test]
fn handovers_lie_in_the_state_as_in_a_feed() {
    let mut ca = Ca::new();
    let list = vec![ca.hand_over(NOW.0, key()), ca.hand_over(NOW.0 + 1, key())];
    let bytes = Handover::list_to_bytes(&list);
    assert_eq!(Handover::list_from_bytes(&bytes).unwrap(), list);
    assert!(Handover::list_from_bytes(&bytes[..bytes.len() - 1]).is_err());
    assert_eq!(Handover::list_from_bytes(&[0; 4]).unwrap(), Vec::new());
    assert_eq!(Handover::list_from_bytes(&[0; 5]), Err(FeedError::Torn("there is more behind its end")));
}
