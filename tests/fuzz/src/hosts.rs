//! What hosts and the CA say to each other.

use ussh_core::enroll::{Claims, Exchange, HostToken, MAX_KEYS, MAX_NAMES, NONCE_LEN, Verb, hello, read_proof};
use ussh_core::keys::PrivateKey;

/// Of the seeds (generate.sh).
const NONCE: [u8; NONCE_LEN] = *b"the nonce of all hosts' seeds 32";

/// A token, a proof, or an answer: whatever is taken is what was proved, and a host takes nothing that its CA has not signed.
pub fn hosts(data: &[u8]) {
    if let Some(token) = std::str::from_utf8(data).ok().and_then(HostToken::parse) {
        let again = HostToken::parse(&token.to_text()).expect("its own text");
        assert_eq!(again.key().unwrap().public_key(), token.key().unwrap().public_key());
    }
    if let Some(proof) = read_proof(data) {
        for verb in Verb::ALL {
            let claims = Claims { verb, nonce: &NONCE, names: &proof.names };
            if let Ok(proven) = claims.verify(&proof) {
                assert!((1..=MAX_KEYS).contains(&proven.keys().len()) && proven.names().len() <= MAX_NAMES);
                assert_eq!(proven.token().is_some(), verb == Verb::Enroll);
                // Nothing of it holds for another nonce.
                assert!(Claims { nonce: &[0; NONCE_LEN], ..claims }.verify(&proof).is_err());
            }
        }
    }
    let key = || PrivateKey::ed25519_from_seed(&[7; 32]).unwrap();
    let mut renewal = Exchange::renew(key().public_key(), Vec::new(), vec![key()]);
    let _ = renewal.prove(data);
    renewal.prove(hello(Verb::Renew, &NONCE).as_bytes()).unwrap();
    // Nobody has signed for this CA.
    assert!(renewal.granted(data, ussh_core::clock::UnixTime(0)).is_err());
    let _ = renewal.reported(data);
    let _ = renewal.received_krl(data);
}
