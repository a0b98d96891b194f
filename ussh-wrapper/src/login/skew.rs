//! How far this machine's clock is from the CA's, as a fresh certificate tells: a certificate that is refused for its time says nothing by itself of which of the two is wrong.

use std::fmt;

use ussh_core::certificate::Certificate;
use ussh_core::clock::UnixTime;

use crate::status::duration;

/// Clocks that differ by less are as good as right, in seconds.
const TOLERANCE: u64 = 30;

/// The difference, in seconds, more than some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    /// This machine's clock is behind the CA's.
    Behind(u64),
    /// It is ahead.
    Ahead(u64),
}

impl Skew {
    /// How much, in seconds.
    pub fn seconds(&self) -> u64 {
        match self {
            Skew::Behind(seconds) | Skew::Ahead(seconds) => *seconds,
        }
    }
    /// By a certificate that the CA made at `now` of this machine's clock. The CA writes its own clock into the login time; a renewed certificate keeps an older one.
    pub fn of(certificate: &Certificate, now: UnixTime) -> Option<Self> {
        let (login, begin) = (certificate.login_time().0, certificate.valid_after().0);
        let at_least = login.max(begin);
        if at_least > now.0.saturating_add(TOLERANCE) {
            return Some(Skew::Behind(at_least - now.0));
        }
        // Without a login time it is the begin, which may lie far back.
        let is_fresh = login > begin;
        (is_fresh && login.saturating_add(TOLERANCE) < now.0).then(|| Skew::Ahead(now.0 - login))
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Skew::Behind(seconds) => write!(f, "this machine's clock is {} behind the CA's", duration(*seconds)),
            Skew::Ahead(seconds) => write!(f, "this machine's clock is {} ahead of the CA's", duration(*seconds)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use ussh_core::certificate::{CertificateKind, CertificateOption};
    use ussh_core::issue::CertificateTemplate;
    use ussh_core::keys::PrivateKey;

    use super::*;

    fn skew(begin: u64, login: Option<u64>, now: u64) -> Option<Skew> {
        let template = CertificateTemplate {
            public_key: PrivateKey::generate_ed25519().unwrap().public_key(),
            serial: 1,
            kind: CertificateKind::User,
            key_id: "alice".into(),
            principals: vec!["alice".into()],
            valid_after: UnixTime(begin),
            valid_before: UnixTime(begin + 3600),
            critical_options: vec![],
            extensions: login.map(|login| CertificateOption::login_time(UnixTime(login))).into_iter().collect(),
        };
        Skew::of(&template.sign(&PrivateKey::generate_ed25519().unwrap()).unwrap(), UnixTime(now))
    }

    #[test]
    fn the_difference_is_that_to_the_login_or_at_least_that_to_the_begin() {
        let at = 1_800_000_000;
        for (begin, login, now, wanted) in [
            (at - 60, Some(at), at, None),
            (at - 60, Some(at), at + 30, None),
            (at - 60, Some(at), at - 30, None),
            (at - 60, Some(at), at - 7200, Some(Skew::Behind(7200))),
            (at - 60, Some(at), at + 7200, Some(Skew::Ahead(7200))),
            (at - 60, Some(at - 4000), at, None),
            (at - 60, Some(at - 4000), at - 360, Some(Skew::Behind(300))),
            (at - 60, None, at + 7200, None),
            (at - 60, None, at - 360, Some(Skew::Behind(300))),
        ] {
            assert_eq!(skew(begin, login, now), wanted, "{begin} {login:?} {now}");
        }
        assert_eq!(Skew::Ahead(7200).to_string(), "this machine's clock is 2 h 0 min ahead of the CA's");
    }
}
