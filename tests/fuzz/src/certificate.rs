//! Certificates and signatures.

use ussh_core::certificate::Certificate;
use ussh_core::challenge::is_challenge;
use ussh_core::keys::{FidoDemand, PublicKey};
use ussh_core::verdict::verify;

use crate::fixtures;

/// A certificate's wire form, or its line: what is read is what is written again, and a verdict needs the CA.
pub fn certificate(data: &[u8]) {
    if let Ok(certificate) = Certificate::parse(data) {
        assert_eq!(certificate.blob(), data, "the wire form is kept");
        let line = certificate.to_openssh("a comment");
        assert_eq!(Certificate::from_openssh(&line).as_ref(), Ok(&certificate));
        assert!(!certificate.ca().type_name().contains("cert"), "a CA is a plain key");
        if let Ok(verified) = verify(&certificate, &fixtures::demand()) {
            assert!(fixtures::cas().contains(verified.certificate().ca()));
            assert!(verified.certificate().principals().iter().any(|name| name == b"alice"));
        }
    }
    if let Ok(key) = PublicKey::from_blob(data) {
        assert_eq!(key.blob(), data);
        assert_eq!(PublicKey::from_openssh(&key.to_openssh("")), Ok(key));
    }
    if let Ok(certificate) =
        std::str::from_utf8(data).map_err(drop).and_then(|l| Certificate::from_openssh(l).map_err(drop))
    {
        assert_eq!(Certificate::parse(certificate.blob()).as_ref(), Ok(&certificate));
    }
}

/// Something that calls itself a signature: nobody here has the private keys, so that none verifies. The first byte chooses the key.
pub fn signature(data: &[u8]) {
    // Asked of all bytes: what a challenge is must not depend on what else they may be.
    let _: bool = is_challenge(data);
    let Some((choice, signature)) = data.split_first() else { return };
    let keys = fixtures::keys();
    let Some(key) = keys.get(usize::from(*choice) % keys.len()) else { return };
    for demand in [FidoDemand::Presence, FidoDemand::Verification] {
        assert!(key.verify(b"a message that was never signed", signature, demand).is_err());
    }
}
