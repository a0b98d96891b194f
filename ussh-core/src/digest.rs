//! Hashes, by the library that checks the signatures: it asks the processor once what it can do, which in a virtual machine traps each time it is asked.

use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512, digest};

/// SHA-256.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    hash(&SHA256, data)
}

/// Two small letters or digits a byte.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-512.
pub(crate) fn sha512(data: &[u8]) -> [u8; 64] {
    hash(&SHA512, data)
}

/// SHA-1, for revocation lists that name keys by it: finding one only refuses.
pub(crate) fn sha1(data: &[u8]) -> [u8; 20] {
    hash(&SHA1_FOR_LEGACY_USE_ONLY, data)
}

/// `N` is the algorithm's length.
fn hash<const N: usize>(algorithm: &'static Algorithm, data: &[u8]) -> [u8; N] {
    let mut hash = [0; N];
    for (to, from) in hash.iter_mut().zip(digest(algorithm, data).as_ref()) {
        *to = *from;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4's examples for "abc".
    #[test]
    fn hashes_are_those_of_fips_180_4() {
        let hex = hexadecimal;
        assert_eq!(hex(&sha1(b"abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hex(&sha256(b"abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(
            hex(&sha512(b"abc")),
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
    }
}
