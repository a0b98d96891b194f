//! The files that a PAM line names.

use ussh_core::ca_file::TrustedCas;
use ussh_core::principals::PrincipalList;
use ussh_core::revoked::RevokedKeys;

use crate::fixtures;

/// TrustedUserCAKeys: whatever is read is a plain key that reads back as itself.
pub fn ca_file(data: &[u8]) {
    let cas = TrustedCas::parse(data);
    let lines: String = cas.keys().iter().map(|key| key.to_openssh("") + "\n").collect();
    assert_eq!(TrustedCas::parse(lines.as_bytes()).keys(), cas.keys());
}

/// AuthorizedPrincipalsFile: nobody is let in by an empty name or an empty list.
pub fn principals(data: &[u8]) {
    let list = PrincipalList::parse_file(data);
    assert!(!list.permits(&[]) && !list.permits(&[Vec::new()]));
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(list) = PrincipalList::from_comma_list(text)
    {
        assert!(!list.is_empty() && !list.permits(&[Vec::new()]));
    }
}

/// RevokedKeys: a broken one is an error; one that reads is asked, and the answer is the same each time.
pub fn revoked(data: &[u8]) {
    let Ok(list) = RevokedKeys::parse(data) else { return };
    let certificate = fixtures::certificate();
    assert_eq!(list.revokes(certificate), list.revokes(certificate));
    for key in fixtures::keys() {
        assert_eq!(list.revokes_key(key), list.revokes_key(key));
    }
}
