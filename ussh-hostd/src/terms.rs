//! What a newer certificate must still allow before it prolongs a session: the right by which the session was opened.
//!
//! Untrusted input: the names and options inside certificates. The account and the client's address come from the record, which root wrote.

use std::net::IpAddr;
use std::sync::Arc;

use ussh_core::certificate::{Certificate, CertificateOption};
use ussh_core::clock::UnixTime;
use ussh_core::record::SessionRecord;
use ussh_core::verdict::{Refusal, source_address_allows};

const FORCE_COMMAND: &[u8] = b"force-command";
const SOURCE_ADDRESS: &[u8] = b"source-address";

/// Why a newer certificate does not carry the session on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LesserRight {
    /// The account's name, or one of the names of the login, is missing.
    #[error("it lacks a principal by which the session was opened")]
    Principals,
    /// Another command, one more or one less.
    #[error("its force-command is not that of the login")]
    ForceCommand,
    /// It would not let the client in from where it is.
    #[error("{0}")]
    SourceAddress(Refusal),
    /// The session would be asked for no other one, and never end.
    #[error("it never runs out, which would leave the session without an end")]
    NoEnd,
}

/// The right by which one session was opened.
///
/// A certificate of the same lineage prolongs the session only if
/// * it names the account, if the login's certificate did; if that did not (sshd went by a list of authorized principals, which nobody here knows), it names
///   every principal that the login's certificate named. Where sshd goes by a list although the certificate names the account, the list is not asked again;
/// * its force-command is the login's to the byte, or both have none: what runs in the session was started by the rule of the login;
/// * its source-address is the login's to the byte, or includes the address from which the session came, or there is none. A client that the record
///   knows by name only (`UseDNS`) matches no network;
/// * it runs out: a session that has an end keeps one.
///
/// verify-required is not compared: the proof by the newer certificate's own key is held to it.
#[derive(Clone, Debug)]
pub struct LoginTerms {
    login: Arc<Certificate>,
    account: String,
    origin: Option<IpAddr>,
}

impl LoginTerms {
    /// Of the session of `record`, which was opened by `login`.
    pub fn new(login: impl Into<Arc<Certificate>>, record: &SessionRecord) -> Self {
        LoginTerms { login: login.into(), account: record.user.clone(), origin: record.rhost.parse().ok() }
    }

    /// Whether `newer` still allows the session. Signature, time and revocation are the verdict's business, the lineage the caller's.
    /// # Errors
    /// [`LesserRight`], the first that is missing.
    pub fn allow(&self, newer: &Certificate) -> Result<(), LesserRight> {
        if !self.principals_suffice(newer) {
            return Err(LesserRight::Principals);
        }
        if option(newer, FORCE_COMMAND) != option(&self.login, FORCE_COMMAND) {
            return Err(LesserRight::ForceCommand);
        }
        if newer.valid_before() == UnixTime::FOREVER {
            return Err(LesserRight::NoEnd);
        }
        if option(newer, SOURCE_ADDRESS) == option(&self.login, SOURCE_ADDRESS) {
            return Ok(());
        }
        source_address_allows(newer, self.origin).map_err(LesserRight::SourceAddress)
    }

    fn principals_suffice(&self, newer: &Certificate) -> bool {
        let names = |certificate: &Certificate, name: &[u8]| certificate.principals().iter().any(|p| p == name);
        let account = self.account.as_bytes();
        if !account.is_empty() && names(&self.login, account) {
            return names(newer, account);
        }
        self.login.principals().iter().all(|principal| names(newer, principal))
    }
}

/// All options of that name: the verdict refuses a second one.
fn option<'c>(certificate: &'c Certificate, name: &[u8]) -> Vec<&'c CertificateOption> {
    certificate.critical_options().iter().filter(|o| o.name == name).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::test_support::{Ca, record_of, this_process};

    /// A session of `account` from 192.0.2.1, opened by a certificate with these principals and options.
    fn terms(ca: &Ca, account: &str, principals: &[&str], options: &[(&str, &str)]) -> LoginTerms {
        let (login, _) = ca.issue_with("alice", 1, 60, principals, options);
        let record = SessionRecord { user: account.into(), ..record_of(this_process(), Some(&login)) };
        LoginTerms::new(login, &record)
    }

    fn newer(ca: &Ca, principals: &[&str], options: &[(&str, &str)]) -> Certificate {
        ca.issue_with("alice", 2, 600, principals, options).0
    }

    #[test]
    fn session_that_has_an_end_keeps_one() {
        let ca = Ca::new();
        let terms = terms(&ca, "alice", &["alice"], &[]);
        let until = |end| ca.issue_until(end, "alice", 2, &["alice"], &[]).0;
        assert_eq!(terms.allow(&until(UnixTime::FOREVER)), Err(LesserRight::NoEnd));
        assert_eq!(terms.allow(&until(UnixTime(u64::MAX - 1))), Ok(()), "how long is the CA's policy to say");
    }

    #[test]
    fn session_of_an_account_goes_on_only_while_the_account_is_named() {
        let ca = Ca::new();
        let terms = terms(&ca, "root", &["alice", "root"], &[]);
        assert_eq!(terms.allow(&newer(&ca, &["root"], &[])), Ok(()));
        assert_eq!(terms.allow(&newer(&ca, &["alice", "bob", "root"], &[])), Ok(()));
        for lesser in [["alice"].as_slice(), &["Root"], &["roots"], &["bob", "alice"]] {
            assert_eq!(terms.allow(&newer(&ca, lesser, &[])), Err(LesserRight::Principals), "{lesser:?}");
        }
    }

    #[test]
    fn session_by_a_list_goes_on_only_with_every_principal_of_its_login() {
        let ca = Ca::new();
        let terms = terms(&ca, "root", &["alice", "admins"], &[]);
        assert_eq!(terms.allow(&newer(&ca, &["admins", "alice", "more"], &[])), Ok(()));
        for lesser in [["alice"].as_slice(), &["admins"], &["root"], &["alice", "root"]] {
            assert_eq!(terms.allow(&newer(&ca, lesser, &[])), Err(LesserRight::Principals), "{lesser:?}");
        }
    }

    #[test]
    fn force_command_must_be_that_of_the_login() {
        let ca = Ca::new();
        let (command, other) = (("force-command", "/bin/true"), ("force-command", "/bin/false"));
        let free = terms(&ca, "alice", &["alice"], &[]);
        assert_eq!(free.allow(&newer(&ca, &["alice"], &[command])), Err(LesserRight::ForceCommand));
        let bound = terms(&ca, "alice", &["alice"], &[command]);
        assert_eq!(bound.allow(&newer(&ca, &["alice"], &[command])), Ok(()));
        assert_eq!(bound.allow(&newer(&ca, &["alice"], &[other])), Err(LesserRight::ForceCommand));
        assert_eq!(bound.allow(&newer(&ca, &["alice"], &[])), Err(LesserRight::ForceCommand));
    }

    #[test]
    fn source_address_must_be_that_of_the_login_or_include_the_client() {
        let ca = Ca::new();
        let command = ("force-command", "/bin/true");
        for bound in [[].as_slice(), &[command]] {
            let with = |networks| [bound, &[("source-address", networks)]].concat();
            let terms = terms(&ca, "alice", &["alice"], bound);
            assert_eq!(terms.allow(&newer(&ca, &["alice"], &with("10.0.0.0/8,192.0.2.0/24"))), Ok(()));
            for elsewhere in ["203.0.113.9/32", "192.0.2.2", "2001:db8::/32", "192.0.2.1/24", ""] {
                let refused = terms.allow(&newer(&ca, &["alice"], &with(elsewhere)));
                assert!(matches!(refused, Err(LesserRight::SourceAddress(_))), "{elsewhere}: {refused:?}");
            }
        }
    }

    #[test]
    fn client_known_by_name_only_is_in_no_network_but_that_of_its_login() {
        let ca = Ca::new();
        let (here, wide) = (("source-address", "192.0.2.0/24"), ("source-address", "0.0.0.0/0"));
        let (login, _) = ca.issue_with("alice", 1, 60, &["alice"], &[here]);
        let record = SessionRecord { rhost: "client.example.com".into(), ..record_of(this_process(), Some(&login)) };
        let terms = LoginTerms::new(login, &record);
        assert_eq!(terms.allow(&newer(&ca, &["alice"], &[here])), Ok(()));
        assert_eq!(terms.allow(&newer(&ca, &["alice"], &[])), Ok(()));
        let refused = terms.allow(&newer(&ca, &["alice"], &[wide]));
        assert_eq!(refused, Err(LesserRight::SourceAddress(Refusal::NoOrigin("no address is known".into()))));
    }
}
