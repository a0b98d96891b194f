//! Requests as the guarded agent meets them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::{Constraints, Request, frame, parse_signature, parse_success};
use crate::wire::WireWrite;

/// The payload of a frame.
fn payload(frame: &[u8]) -> &[u8] {
    &frame[4..]
}

fn blob_of(type_name: &str) -> Vec<u8> {
    let mut blob = Vec::new();
    blob.put_string(type_name.as_bytes());
    blob.extend_from_slice(b"the rest is not looked at");
    blob
}

/// An add of a certificate: type, blob, private fields, comment, constraints.
fn add(number: u8, type_name: &str, blob: &[u8], fields: &[u8], constraints: &[u8]) -> Vec<u8> {
    let mut payload = vec![number];
    payload.put_string(type_name.as_bytes());
    payload.put_string(blob);
    payload.extend_from_slice(fields);
    payload.put_string(b"a comment\xff");
    payload.extend_from_slice(constraints);
    payload
}

fn strings(n: usize) -> Vec<u8> {
    let mut fields = Vec::new();
    (0..n).for_each(|_| fields.put_string(b"secret"));
    fields
}

const ED25519: &str = "ssh-ed25519-cert-v01@openssh.com";

/// An add of an Ed25519 certificate that is well-formed but for these constraints.
fn add_constrained(constraints: &[u8]) -> Request {
    Request::parse(&add(25, ED25519, &blob_of(ED25519), &strings(2), constraints))
}

fn constraints_of(request: Request) -> Option<Constraints> {
    let Request::AddCertificate { constraints, .. } = request else { return None };
    Some(constraints)
}

#[test]
fn reads_list_sign_and_remove() {
    assert_eq!(Request::parse(payload(&frame::list())), Request::List);
    assert_eq!(
        Request::parse(payload(&frame::sign(b"blob", b"data", 4))),
        Request::Sign { blob: b"blob".to_vec(), data: b"data".to_vec(), flags: 4 }
    );
    assert_eq!(Request::parse(payload(&frame::remove(b"blob"))), Request::Remove { blob: b"blob".to_vec() });
}

#[test]
fn anything_cut_short_or_too_long_is_other() {
    for (number, whole) in [(11, frame::list()), (13, frame::sign(b"b", b"d", 0)), (18, frame::remove(b"b"))] {
        let whole = payload(&whole);
        for end in 1..whole.len() {
            assert_eq!(Request::parse(&whole[..end]), Request::Other(number));
        }
        assert_eq!(Request::parse(&[whole, &[0]].concat()), Request::Other(number));
    }
}

#[test]
fn an_empty_payload_and_unknown_numbers_are_other() {
    assert_eq!(Request::parse(b""), Request::Other(0));
    for number in [1, 9, 19, 20, 22, 23, 26, 27, 255] {
        assert_eq!(Request::parse(&[number, 0, 0, 0, 0]), Request::Other(number));
    }
}

#[test]
fn reads_an_add_of_a_certificate_of_each_type_to_its_last_byte() {
    let mut sk_ecdsa = strings(1);
    sk_ecdsa.put_byte(1);
    sk_ecdsa.extend(strings(2));
    let sk_ed25519 = [strings(1), sk_ecdsa.clone()].concat();
    for (type_name, fields) in [
        (ED25519, strings(2)),
        ("ecdsa-sha2-nistp256-cert-v01@openssh.com", strings(1)),
        ("ecdsa-sha2-nistp384-cert-v01@openssh.com", strings(1)),
        ("ecdsa-sha2-nistp521-cert-v01@openssh.com", strings(1)),
        ("ssh-rsa-cert-v01@openssh.com", strings(4)),
        ("sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", sk_ecdsa),
        ("sk-ssh-ed25519-cert-v01@openssh.com", sk_ed25519),
    ] {
        let whole = add(17, type_name, &blob_of(type_name), &fields, b"");
        let Request::AddCertificate { certificate_blob, comment, constraints, payload } = Request::parse(&whole) else {
            panic!("{type_name}");
        };
        assert_eq!(certificate_blob, blob_of(type_name));
        assert_eq!(comment, b"a comment\xff");
        assert_eq!(constraints, Constraints::default());
        assert_eq!(*payload, whole);

        for end in 1..whole.len() {
            assert_eq!(Request::parse(&whole[..end]), Request::Other(17), "{type_name} {end}");
        }
        assert_eq!(Request::parse(&[&whole[..], &[2]].concat()), Request::Other(17), "{type_name}");
    }
}

#[test]
fn an_add_of_a_plain_key_is_other() {
    for type_name in ["ssh-ed25519", "ssh-rsa", "sk-ssh-ed25519@openssh.com", "ssh-dss-cert-v01@openssh.com", ""] {
        let whole = add(17, type_name, &blob_of(type_name), &strings(2), b"");
        assert_eq!(Request::parse(&whole), Request::Other(17), "{type_name}");
    }
}

#[test]
fn an_add_whose_blob_is_of_another_type_is_other() {
    for blob in [blob_of("ssh-rsa-cert-v01@openssh.com"), blob_of("ssh-ed25519"), Vec::new()] {
        assert_eq!(Request::parse(&add(17, ED25519, &blob, &strings(2), b"")), Request::Other(17));
    }
}

#[test]
fn reads_constraints_in_either_order() {
    let both = Some(Constraints { lifetime_seconds: Some(3600), confirm: true });
    assert_eq!(constraints_of(add_constrained(&[1, 0, 0, 0x0e, 0x10, 2])), both);
    assert_eq!(constraints_of(add_constrained(&[2, 1, 0, 0, 0x0e, 0x10])), both);
    assert_eq!(constraints_of(add_constrained(b"")), Some(Constraints::default()));
}

#[test]
fn unknown_repeated_and_broken_constraints_make_it_other() {
    let mut restrict = vec![255];
    restrict.put_string(b"restrict-destination-v00@openssh.com");
    restrict.put_string(b"");
    for constraints in [
        &restrict[..],
        &[255],
        &[3, 0, 0, 0, 1],
        &[0],
        &[2, 2],
        &[1, 0, 0, 0, 9, 1, 0, 0, 0, 9],
        &[1, 0, 0, 0],
        &[1, 0, 0, 0, 0],
    ] {
        assert_eq!(add_constrained(constraints), Request::Other(25), "{constraints:?}");
    }
}

#[test]
fn constraints_on_the_unconstrained_add_make_it_other() {
    let whole = add(17, ED25519, &blob_of(ED25519), &strings(2), &[2]);
    assert_eq!(Request::parse(&whole), Request::Other(17));
}

#[test]
fn a_request_is_shown_without_its_private_key() {
    let shown = format!("{:?}", add_constrained(b""));
    assert!(shown.contains("***"));
    assert!(!shown.contains(&format!("{:?}", b"secret")[1..18]), "{shown}");
}

#[test]
fn answers_end_where_they_end() {
    assert_eq!(parse_success(payload(&frame::success())), Ok(()));
    assert!(parse_success(&[6, 0]).is_err());
    assert!(parse_success(&[]).is_err());
    let signature = frame::signature(b"sig");
    assert_eq!(parse_signature(payload(&signature)), Ok(b"sig".to_vec()));
    assert!(parse_signature(&[payload(&signature), &[0]].concat()).is_err());
    assert!(parse_signature(&payload(&signature)[..7]).is_err());
    assert!(parse_signature(&[14]).is_err());
}
