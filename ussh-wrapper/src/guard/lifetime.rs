//! No key stays in the agent longer than its certificate is valid: the lifetime constraint of an add, put in or lowered.

use ussh_core::agent::Constraints;
use zeroize::Zeroizing;

/// SSH_AGENTC_ADD_IDENTITY (draft-ietf-sshm-ssh-agent §6.1).
const ADD_IDENTITY: u8 = 17;
/// SSH_AGENTC_ADD_ID_CONSTRAINED.
const ADD_ID_CONSTRAINED: u8 = 25;
/// SSH_AGENT_CONSTRAIN_LIFETIME, followed by a uint32 in seconds.
const CONSTRAIN_LIFETIME: u8 = 1;
/// SSH_AGENT_CONSTRAIN_CONFIRM.
const CONSTRAIN_CONFIRM: u8 = 2;

/// The add request `payload`, whose constraints are `constraints`, with a lifetime of at most `limit` seconds. Unchanged if it has one.
/// `None`: the payload does not end in those constraints.
pub fn at_most(limit: u32, constraints: &Constraints, payload: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if constraints.lifetime_seconds.is_some_and(|seconds| seconds <= limit) {
        return Some(Zeroizing::new(payload.to_vec()));
    }
    let (kind, rest) = payload.split_first()?;
    let key = match *kind {
        ADD_IDENTITY if *constraints == Constraints::default() => rest,
        ADD_ID_CONSTRAINED => written(constraints).iter().find_map(|end| rest.strip_suffix(end.as_slice()))?,
        _ => return None,
    };
    // Room for all of it: a vector that grows leaves copies of the private key behind.
    let mut limited = Zeroizing::new(Vec::with_capacity(key.len() + 8));
    limited.push(ADD_ID_CONSTRAINED);
    limited.extend_from_slice(key);
    if constraints.confirm {
        limited.push(CONSTRAIN_CONFIRM);
    }
    limited.extend_from_slice(&lifetime(limit));
    Some(limited)
}

/// The ways in which these constraints can stand at the end of a request (each at most once: more is malformed).
fn written(constraints: &Constraints) -> [Vec<u8>; 2] {
    let lifetime = constraints.lifetime_seconds.map(lifetime);
    let lifetime = lifetime.as_ref().map_or(&[][..], |bytes| &bytes[..]);
    let confirm: &[u8] = if constraints.confirm { &[CONSTRAIN_CONFIRM] } else { &[] };
    [[lifetime, confirm].concat(), [confirm, lifetime].concat()]
}

fn lifetime(seconds: u32) -> [u8; 5] {
    let [a, b, c, d] = seconds.to_be_bytes();
    [CONSTRAIN_LIFETIME, a, b, c, d]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn constraints(lifetime_seconds: Option<u32>, confirm: bool) -> Constraints {
        Constraints { lifetime_seconds, confirm }
    }

    #[test]
    fn a_lifetime_within_the_limit_leaves_the_request_unchanged() {
        let payload = [25, 9, 9, 1, 0, 0, 0, 60];
        for limit in [60, 61, u32::MAX] {
            assert_eq!(at_most(limit, &constraints(Some(60), false), &payload).unwrap()[..], payload);
        }
    }

    #[test]
    fn a_longer_lifetime_is_lowered() {
        for (payload, confirm, wanted) in [
            (&[25, 9, 9, 1, 0, 0, 0, 61][..], false, &[25, 9, 9, 1, 0, 0, 0, 60][..]),
            (&[25, 9, 9, 1, 0, 0, 0, 61, 2], true, &[25, 9, 9, 2, 1, 0, 0, 0, 60]),
            (&[25, 9, 9, 2, 1, 0, 0, 0, 61], true, &[25, 9, 9, 2, 1, 0, 0, 0, 60]),
        ] {
            assert_eq!(at_most(60, &constraints(Some(61), confirm), payload).unwrap()[..], *wanted);
        }
    }

    #[test]
    fn a_missing_lifetime_is_put_in() {
        for (payload, confirm, wanted) in [
            (&[17, 9, 9][..], false, &[25, 9, 9, 1, 0, 0, 0, 60][..]),
            (&[25, 9, 9], false, &[25, 9, 9, 1, 0, 0, 0, 60]),
            (&[25, 9, 9, 2], true, &[25, 9, 9, 2, 1, 0, 0, 0, 60]),
        ] {
            assert_eq!(at_most(60, &constraints(None, confirm), payload).unwrap()[..], *wanted);
        }
    }

    #[test]
    fn a_request_that_does_not_end_in_its_constraints_is_not_rewritten() {
        assert!(at_most(60, &constraints(Some(61), false), &[25, 9, 9, 1, 0, 0, 0, 62]).is_none());
        assert!(at_most(60, &constraints(None, true), &[25, 9, 9]).is_none());
        assert!(at_most(60, &constraints(None, true), &[17, 9, 2]).is_none());
        assert!(at_most(60, &constraints(None, false), &[13, 9]).is_none());
        assert!(at_most(60, &constraints(None, false), &[]).is_none());
    }
}
