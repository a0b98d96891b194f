//! What the line names, read: CA keys, principals, the revocation list, the group. Every file must be one that root alone can change.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use ussh_core::ca_file::TrustedCas;
use ussh_core::certificate::CertificateKind;
use ussh_core::clock::{Clock, SystemClock, UnixTime};
use ussh_core::escape::{MAX_FIELD, escape_word};
use ussh_core::principals::PrincipalList;
use ussh_core::revoked::{NotFresh, RevokedKeys};
use ussh_core::trusted_file::{FileState, TrustedFileError, read_trusted, read_trusted_state};
use ussh_core::verdict::{CriticalOptions, Demand, PrincipalDemand, VerifiedCertificate};
use ussh_os::account::{Account, group_id};

use crate::answer::Denial;
use crate::options::{AuthOptions, Principals};

/// Longest CA or principals file, in bytes.
const MAX_TEXT: usize = 1024 * 1024;
/// Longest revocation list, in bytes: some millions of serials.
const MAX_REVOKED: usize = 64 * 1024 * 1024;

/// All that a certificate for one account is measured by.
#[derive(Debug)]
pub struct Trust<'a> {
    account: &'a Account,
    options: &'a AuthOptions,
    cas: TrustedCas,
    principals: Option<PrincipalList>,
    revoked: Option<RevokedFile>,
}

impl<'a> Trust<'a> {
    /// Checks the group, reads the files.
    /// # Errors
    /// [`Denial`]
    pub fn load(options: &'a AuthOptions, account: &'a Account) -> Result<Self, Denial> {
        if let Some(group) = &options.group {
            demand_member(account, group)?;
        }
        let cas = read_cas(&options.ca_file)?;
        let principals = match &options.principals {
            Principals::None => None,
            Principals::List(list) => Some(list.clone()),
            Principals::File(pattern) => {
                let no_name = || Denial::NoPrincipals("no file can be named after the user".into());
                let path = pattern.expand(&account.name, account.uid).ok_or_else(no_name)?;
                Some(read_principals(&path)?)
            }
        };
        let revoked =
            options.revoked_keys.as_deref().map(|path| read_revoked(path, options.krl_max_age)).transpose()?;
        Ok(Trust { account, options, cas, principals, revoked })
    }

    /// As a demand on a user certificate.
    /// # Errors
    /// [`Denial::Misconfigured`] if names are not demanded in any way: options never allow that.
    pub fn demand<'b>(&'b self, critical_options: CriticalOptions<'b>, now: UnixTime) -> Result<Demand<'b>, Denial> {
        let principals = match (self.options.require_user_principal, &self.principals) {
            (true, list) => PrincipalDemand::User(&self.account.name, list.as_ref()),
            (false, Some(list)) => PrincipalDemand::ListOnly(list),
            (false, None) => return Err(Denial::Misconfigured("no principals are demanded".into())),
        };
        Ok(Demand {
            cas: &self.cas,
            kind: CertificateKind::User,
            now,
            principals,
            critical_options,
            revoked: self.revoked.as_ref().map(|file| &file.list),
            max_validity: self.options.max_validity,
            max_age: self.options.max_age,
        })
    }
}

impl Trust<'_> {
    /// Whether everybody must hear of it.
    pub fn is_break_glass(&self, certificate: &VerifiedCertificate) -> bool {
        self.cas.is_break_glass(certificate.certificate().ca())
    }

    /// By the revocation list as it is now, if it is another than the one that was read: a signature may have taken a minute, and the person who revokes does not know.
    /// # Errors
    /// [`Denial`]
    pub fn judge_again(
        &self,
        certificate: VerifiedCertificate,
        demand: &Demand<'_>,
        clock: &dyn Clock,
    ) -> Result<VerifiedCertificate, Denial> {
        let Some(path) = self.options.revoked_keys.as_deref() else { return Ok(certificate) };
        if self.revoked.as_ref().is_some_and(|read| FileState::at(path) == Some(read.state)) {
            return Ok(certificate);
        }
        let revoked = read_revoked(path, self.options.krl_max_age)?.list;
        let shown = certificate.certificate().clone();
        let demand = Demand { revoked: Some(&revoked), now: clock.now(), ..*demand };
        certificate.verify_again(&demand).map_err(|refusal| Denial::Refused {
            certificate: Some(Box::new(shown)),
            is_signed: true,
            reason: refusal.to_string(),
            is_unsigned_challenge: false,
            others: 0,
        })
    }
}

/// The revocation list, and which file it was read from.
#[derive(Debug)]
pub struct RevokedFile {
    list: RevokedKeys,
    state: FileState,
}

fn demand_member(account: &Account, group: &str) -> Result<(), Denial> {
    let unavailable = |error: std::io::Error| Denial::Unavailable(format!("groups of {}: {error}", account.name));
    let wanted = group_id(group).map_err(unavailable)?.ok_or_else(|| Denial::UnknownGroup(group.into()))?;
    if account.group_ids().map_err(unavailable)?.contains(&wanted) {
        return Ok(());
    }
    Err(Denial::NotInGroup(group.into()))
}

/// Like sshd we read no further than the first line of junk: a `cert-authority` or another option before the key is junk here.
fn no_ca_key(path: &Path, cas: &TrustedCas) -> String {
    match cas.junk_at() {
        None => format!("{} holds no CA key", path.display()),
        Some(line) => format!(
            "{} holds no CA key: line {line} is none (write the key alone, `TYPE BASE64 COMMENT`), and reading stops there",
            path.display()
        ),
    }
}

fn read(path: &Path, max: usize) -> Result<Vec<u8>, Denial> {
    read_trusted(path, max).map_err(|error| Denial::Misconfigured(error.to_string()))
}

/// CA keys, at least one.
/// # Errors
/// [`Denial::Misconfigured`]
pub fn read_cas(path: &Path) -> Result<TrustedCas, Denial> {
    let cas = TrustedCas::parse(&read(path, MAX_TEXT)?);
    if cas.keys().is_empty() {
        return Err(Denial::Misconfigured(no_ca_key(path, &cas)));
    }
    Ok(cas)
}

/// No file means no principals for this user, as in sshd; anything else that keeps it from being read is the administrator's business.
/// # Errors
/// [`Denial`]
pub fn read_principals(path: &Path) -> Result<PrincipalList, Denial> {
    match read_trusted(path, MAX_TEXT) {
        Ok(text) => Ok(PrincipalList::parse_file(&text).of_file(path)),
        Err(TrustedFileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            let path = escape_word(path.as_os_str().as_bytes(), MAX_FIELD);
            Err(Denial::NoPrincipals(format!("{path} is not there")))
        }
        Err(error) => Err(Denial::Misconfigured(error.to_string())),
    }
}

/// The age counts when the list is read: what may become stale while somebody touches a key was fresh when it was asked.
/// # Errors
/// [`Denial`]
pub fn read_revoked(path: &Path, max_age: Option<Duration>) -> Result<RevokedFile, Denial> {
    let (data, state) =
        read_trusted_state(path, MAX_REVOKED).map_err(|error| Denial::Misconfigured(error.to_string()))?;
    let list =
        RevokedKeys::parse(&data).map_err(|error| Denial::Misconfigured(format!("{}: {error}", path.display())))?;
    let now = SystemClock.now();
    match max_age.map_or_else(|| list.check_clock(now), |max_age| list.check_age(now, max_age)) {
        Ok(()) => Ok(RevokedFile { list, state }),
        Err(error @ NotFresh::PlainList) => {
            Err(Denial::Misconfigured(format!("krl_max_age= with {}: {error}", path.display())))
        }
        Err(error @ (NotFresh::Stale { .. } | NotFresh::FromTheFuture { .. })) => {
            Err(Denial::Unavailable(format!("{}: {error}", path.display())))
        }
    }
}
