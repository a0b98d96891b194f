//! When, and for what: validity to the second, and the type of the certificate.

use crate::certificate::now;
use crate::forge::Forge;
use crate::row::{Case, Draft, Row, changed, keygen, row};

const EXPIRED: &str = "Certificate invalid: expired";
const EARLY: &str = "Certificate invalid: not yet valid";

/// Seconds after the making of the table in which it is judged at the latest.
const WINDOW: u64 = 280;

/// A certificate whose validity is reckoned from the very second in which it is judged.
fn around_now(name: &'static str, validity: fn(u64) -> (u64, u64)) -> Draft {
    row(name, move |forge: &Forge| -> Case {
        let start = now();
        let ca = forge.ca();
        let certificates = (start..start + WINDOW).map(|second| {
            let (after, before) = validity(second);
            (second, forge.certificate().valid(after, before).sign(&ca))
        });
        forge.good().by_second(certificates)
    })
}

pub fn rows() -> Vec<Row> {
    vec![
        around_now("valid from now on", |now| (now, now + 600)).accepted(),
        around_now("valid from the next second on", |now| (now + 1, now + 600))
            .refused(EARLY, "certificate is not yet valid…"),
        around_now("valid up to this second and not in it", |now| (now - 600, now))
            .refused(EXPIRED, "certificate has expired…"),
        around_now("valid in this second for the last time", |now| (now - 600, now + 1)).accepted(),
        around_now("valid in this second alone", |now| (now, now + 1)).accepted(),
        around_now("never valid: start and end are now", |now| (now, now)).refused(EXPIRED, "certificate has expired…"),
        around_now("inverted around now", |now| (now + 5, now - 5)).refused(EARLY, "certificate is not yet valid…"),
        keygen("expired an hour ago", "-I alice -n alice -V -2h:-1h").refused(EXPIRED, "certificate has expired…"),
        keygen("not yet valid for an hour", "-I alice -n alice -V +1h:+2h")
            .refused(EARLY, "certificate is not yet valid…"),
        keygen("for ever", "-I alice -n alice -V always:forever").accepted(),
        changed("from 0 to 0", |c| c.valid(0, 0)).refused(EXPIRED, "certificate has expired…"),
        changed("from 0 on", |c| c.valid(0, u64::MAX)).accepted(),
        changed("from 0 to 1", |c| c.valid(0, 1)).refused(EXPIRED, "certificate has expired…"),
        changed("from the last second on", |c| c.valid(u64::MAX, u64::MAX))
            .refused(EARLY, "certificate is not yet valid…"),
        changed("to the last second but one", |c| c.valid(0, u64::MAX - 1)).accepted(),
        changed("from 2^63 on", |c| c.valid(1 << 63, u64::MAX)).refused(EARLY, "certificate is not yet valid…"),
        changed("up to 2^63", |c| c.valid(0, 1 << 63)).accepted(),
        keygen("a host certificate", "-h -I alice -n alice -V -5m:+1h")
            .refused("Certificate invalid: not a user certificate", "certificate is of the wrong type"),
        changed("type 0", |mut c| {
            c.kind = 0;
            c
        })
        .refused(
            "parse key: unknown/unsupported certificate type",
            "malformed certificate: neither a user nor a host certificate",
        ),
        changed("type 3", |mut c| {
            c.kind = 3;
            c
        })
        .refused(
            "parse key: unknown/unsupported certificate type",
            "malformed certificate: neither a user nor a host certificate",
        ),
        changed("type 257, which ends in 1", |mut c| {
            c.kind = 257;
            c
        })
        .refused(
            "parse key: unknown/unsupported certificate type",
            "malformed certificate: neither a user nor a host certificate",
        ),
        changed("type 2^32-1", |mut c| {
            c.kind = u32::MAX;
            c
        })
        .refused(
            "parse key: unknown/unsupported certificate type",
            "malformed certificate: neither a user nor a host certificate",
        ),
    ]
}
