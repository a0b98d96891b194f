//! One line per decision, in OpenSSH's words, escaped and at most 1 KiB. Never a secret.

use crate::certificate::Certificate;

/// A decision's line: `Accepted certificate ID "alice" (serial 7) signed by ED25519 CA SHA256:… via …`.
/// `what` is e.g. `Accepted` or `Refusing`; `detail` follows (reason, service, user), escaped by this function.
pub fn certificate_line(what: &str, certificate: &Certificate, detail: &str) -> String {
    let _ = (what, certificate, detail);
    todo!()
}

/// Any line: escaped, cut to 1 KiB.
pub fn line(text: &str) -> String {
    let _ = text;
    todo!()
}
