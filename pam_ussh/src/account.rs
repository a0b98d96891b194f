//! `account`, opt-in by a line of its own: sudo skips `auth` while its ticket is fresh, and asks `account` each time. Here the proof is made again then, so that the end of a
//! certificate or its revocation counts at once; where `auth` has just made one in the same handle, only the certificate is judged again.
//!
//! PAM asks `account` for root's own sudo and su, for cron and for package scripts too: none of them has an agent, and real uid 0 passes.

use std::path::Path;

use ussh_core::clock::{Clock, SystemClock};
use ussh_core::record::SPOOL;
use ussh_core::verdict::CriticalOptions;
use ussh_os::account::{Account, group_id};
use ussh_os::pam_module::{PamHandle, PamReturn};
use ussh_os::process;

use crate::answer::{self, Accepted, Denial, Phase, Subject};
use crate::attendant::Speaker;
use crate::auth;
use crate::inject;
use crate::kept;
use crate::login::Login;
use crate::options::{AccountOptions, Facility, FromLine};
use crate::place;
use crate::trust::Trust;

/// Somebody whom no certificate is asked of. Made in this module only.
#[derive(Debug)]
#[must_use]
pub struct Exempt(Reason);

#[derive(Debug)]
enum Reason {
    Root,
    Group(String),
}

impl Exempt {
    /// For the log.
    pub fn reason(&self) -> &str {
        match &self.0 {
            Reason::Root => "real uid 0 is not asked",
            Reason::Group(text) => text,
        }
    }

    /// Root at work: what else runs as real uid 0 is a daemon that acts for somebody, and one that says for whom from afar (PAM_RHOST) must not pass for root. sudo may set that
    /// item to its own host (sudoers(5), pam_rhost).
    fn as_root(subject: &Subject, real_uid: u32) -> Option<Self> {
        let is_here =
            subject.rhost.as_deref().is_none_or(str::is_empty) || matches!(subject.service.as_str(), "sudo" | "sudo-i");
        (real_uid == 0 && is_here).then_some(Exempt(Reason::Root))
    }

    /// PAM_USER is a member of the group that the line exempts.
    fn as_member(account: &Account, group: &str) -> Result<Option<Self>, Denial> {
        let unavailable = |error: std::io::Error| Denial::Unavailable(format!("groups of {}: {error}", account.name));
        let unknown = || Denial::Misconfigured(format!("account_exempt_group={group} does not exist"));
        let exempt = group_id(group).map_err(unavailable)?.ok_or_else(unknown)?;
        let is_member = account.group_ids().map_err(unavailable)?.contains(&exempt);
        Ok(is_member.then(|| Exempt(Reason::Group(format!("member of group {group}")))))
    }
}

/// What may pass.
#[derive(Debug)]
enum Passing {
    Proved(Box<Accepted>),
    Exempt(Exempt),
}

/// The hook.
pub fn check(handle: &PamHandle, silent: bool, arguments: Option<Vec<String>>) -> PamReturn {
    let arguments = inject::panic_if_told("account", arguments);
    let mut subject = Subject::of(handle, Phase::Account);
    match judge(handle, silent, &mut subject, arguments.as_deref()) {
        Ok(Passing::Exempt(exempt)) => answer::exempt(&subject, &exempt),
        Ok(Passing::Proved(accepted)) => answer::conclude(handle, silent, &subject, Ok(*accepted)),
        Err(denial) => answer::conclude(handle, silent, &subject, Err(denial)),
    }
}

/// A line that is not understood whole lets nobody pass, not even root: that shows at the first try, and not when some file is missing one day.
fn judge(
    handle: &PamHandle,
    silent: bool,
    subject: &mut Subject,
    arguments: Option<&[String]>,
) -> Result<Passing, Denial> {
    place::demand_of(subject, Facility::Account)?;
    let options =
        AccountOptions::parse(&subject.service, arguments).map_err(|error| Denial::Misconfigured(error.to_string()))?;
    if let Some(exempt) = Exempt::as_root(subject, process::real_uid()) {
        subject.user = handle.user();
        return Ok(Passing::Exempt(exempt));
    }
    let account = auth::account_of(handle, subject)?;
    if let Some(group) = &options.exempt_group
        && let Some(exempt) = Exempt::as_member(&account, group)?
    {
        return Ok(Passing::Exempt(exempt));
    }
    let trust = Trust::load(&options.auth, &account)?;
    let is_bound = options.auth.bind_session;
    let login = is_bound.then(|| Login::of_this_process(process::real_uid(), Path::new(SPOOL))).transpose()?;
    if let Some(kept) = kept::find(handle, subject) {
        // Not good by this line, or not any more: perhaps the agent has another one.
        let demand = trust.demand(CriticalOptions::Refuse { origin: None }, SystemClock.now())?;
        if let Some(accepted) = kept.judge(&demand, &options.auth, login.as_ref()) {
            return Ok(Passing::Proved(Box::new(accepted)));
        }
    }
    let speaker = Speaker::new(handle, silent, subject);
    auth::challenge(subject, &options.auth, &account, &trust, &speaker)
        .map(|accepted| Passing::Proved(Box::new(accepted)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn subject(service: &str, rhost: Option<&str>) -> Subject {
        Subject {
            phase: Phase::Account,
            service: service.into(),
            user: None,
            ruser: None,
            rhost: rhost.map(str::to_owned),
            tty: None,
        }
    }

    #[test]
    fn root_at_work_is_exempt_and_nobody_else_by_uid() {
        for (service, rhost) in [("sudo", None), ("su", None), ("cron", Some("")), ("sudo", Some("web1"))] {
            assert!(Exempt::as_root(&subject(service, rhost), 0).is_some(), "{service} {rhost:?}");
            assert!(Exempt::as_root(&subject(service, rhost), 1000).is_none(), "{service} {rhost:?}");
        }
        for service in ["su", "vsftpd", "sshd-2", ""] {
            assert!(Exempt::as_root(&subject(service, Some("192.0.2.1")), 0).is_none(), "{service}");
        }
    }
}
