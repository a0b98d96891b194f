//! Getting a certificate: the system's `ssh` to the CA, with the guarded agent forwarded in place of the user's own.

mod command;
mod down;
mod error;
mod explained;
mod heard;
mod known_hosts;
mod order;
mod probe;
mod revoke;
mod signals;
mod skew;
mod ssh;

pub use command::{Missing, Prompting, login_arguments};
pub use error::LoginError;
pub use heard::{Cause, HostKeyTrouble};
pub use known_hosts::KnownHostsError;
pub use order::{Order, OrderError, REASON_VARIABLE};
pub use probe::probe;
pub use revoke::revoke_all;
pub use skew::Skew;

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use ussh_core::agent::Identity;
use ussh_core::certificate::Certificate;
use ussh_core::clock::{Clock, SystemClock, UnixTime};
use ussh_os::process;

use crate::certificates::{Judge, NotGood, readable_certificate};
use crate::config::{CaAddress, Config};
use crate::exec::find_ssh;
use crate::guard::{CaSide, Guard, PrivateDirectory};
use crate::keeper::{Keeper, OwnKey};
use down::Down;
use explained::explain;
use ssh::{Ended, run};

/// How much a certificate is worth waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// It was asked for: every CA is tried.
    Whole,
    /// ssh can go on without: a CA that did not answer a moment ago is left alone.
    Spared,
}

/// Logs in at the first CA that answers and proves itself; gives the certificate that has come.
/// # Errors
/// [`LoginError`]
pub fn log_in(
    config: &Config,
    keeper: &Keeper,
    judge: &Judge,
    order: &Order,
    effort: Effort,
) -> Result<Certificate, LoginError> {
    if config.cas.is_empty() {
        return Err(LoginError::NoCa);
    }
    keeper.make_room()?;
    let uid = process::real_uid();
    let known_hosts = known_hosts::check(&config.known_hosts, uid)?;
    let ways = Ways { config, keeper, judge, order, ssh: find_ssh()?, known_hosts, uid };
    let now = SystemClock.now();
    let mut down = Down::load(uid, now);
    let (left_alone, mut order): (Vec<_>, Vec<_>) = config.cas.iter().partition(|ca| down.since(ca).is_some());
    if effort == Effort::Whole {
        order.extend(&left_alone);
    }
    let mut failures = Vec::new();
    let count = order.len();
    for (position, ca) in order.into_iter().enumerate() {
        match ways.log_in_at(ca) {
            Err(LoginError::NoAnswer { ca, reason }) => {
                down.note(&ca, SystemClock.now());
                failures.push(LoginError::NoAnswer { ca, reason });
            }
            Err(error @ LoginError::Silent { .. }) => {
                down.note(ca, SystemClock.now());
                failures.push(error);
            }
            Err(error @ (LoginError::NotProven { .. } | LoginError::NoUsshca { .. })) => {
                if position + 1 < count {
                    eprintln!("ussh: {error}");
                }
                failures.push(error);
            }
            other => {
                down.forget(ca);
                return other;
            }
        }
    }
    Err(without_any(failures, left_alone.first().and_then(|ca| Some(((*ca).clone(), down.since(ca)?))), now))
}

/// Nobody proved to be a CA. One that is somebody else is worse than one that is down, and than one that is a host of ours.
fn without_any(failures: Vec<LoginError>, left_alone: Option<(CaAddress, UnixTime)>, now: UnixTime) -> LoginError {
    let several = failures.iter().map(|failure| {
        if let LoginError::NoAnswer { ca, reason } = failure { format!("{ca}: {reason}") } else { failure.to_string() }
    });
    let several = several.collect::<Vec<_>>().join(", ");
    let count = failures.len();
    let badness = |failure: &LoginError| {
        (matches!(failure, LoginError::NotProven { .. }), matches!(failure, LoginError::NoUsshca { .. }))
    };
    match failures.into_iter().max_by_key(badness) {
        Some(failure) if count == 1 || badness(&failure) > (false, false) => failure,
        Some(_) => LoginError::NoneAnswers(several),
        None => match left_alone {
            Some((ca, since)) => LoginError::LeftAlone { ca, ago: now.0.saturating_sub(since.0) },
            None => LoginError::NoCa,
        },
    }
}

/// What a login at any CA takes.
struct Ways<'a> {
    config: &'a Config,
    keeper: &'a Keeper,
    judge: &'a Judge,
    order: &'a Order,
    ssh: PathBuf,
    /// The real path of what was checked.
    known_hosts: String,
    uid: u32,
}

impl Ways<'_> {
    fn log_in_at(&self, ca: &CaAddress) -> Result<Certificate, LoginError> {
        let user = self.judge.user();
        eprintln!("ussh: logging in at {ca} as {}", user.as_str());
        let side = CaSide::new(self.keeper.clone(), self.judge.clone(), Box::new(SystemClock));
        let folder = PrivateDirectory::new(self.uid)
            .map_err(|error| io::Error::new(error.kind(), format!("no folder for its socket: {error}")))?;
        let guard = Guard::open(side, folder, self.uid)?;
        let prompting = Prompting::of_this_process();
        let mut arguments = login_arguments(self.config, ca, user, &self.known_hosts, &guard.socket(), prompting);
        let input = match self.keeper {
            Keeper::OwnKey(own) => {
                arguments.push("sign".to_owned());
                Some(own.key.to_openssh("client_key") + "\n")
            }
            Keeper::Agent(_) | Keeper::Files(_) => None,
        };
        arguments.extend(self.order.words());
        let keeps = match self.keeper {
            Keeper::Agent(_) => "agent",
            Keeper::Files(_) => "files",
            Keeper::OwnKey(_) => "certificate",
        };
        // What the CA says then fits (usshca-front, text.rs `Keeps`); one from before pays no heed.
        arguments.splice(..0, ["-o".to_owned(), format!("SetEnv=USSH={keeps}")]);
        let Ended { status, heard, side, printed } =
            run(&self.ssh, &arguments, input.as_deref(), prompting, guard, ca)?;
        if let Some(program) = heard.no_ca {
            return Err(LoginError::NoUsshca { ca: ca.clone(), program });
        }
        if std::env::var_os("USSH_DEBUG").is_some() {
            let (requests, refused) = side.counts();
            eprintln!("ussh: debug: the CA asked the guarded agent {requests} times, {refused} refused");
        }
        if let Keeper::OwnKey(own) = self.keeper
            && status.as_ref().is_ok_and(ExitStatus::success)
        {
            return self.take_printed(ca, own, &printed);
        }
        if let Some(certificate) = good_among(side.added(), self.keeper, self.judge)? {
            if let Some(reason) = side.last_not_added() {
                eprintln!("ussh: the CA {ca} also offered a key that was not taken: {reason}");
            }
            if let Some(skew) = side.skew() {
                eprintln!("ussh: {skew}");
            }
            return Ok(certificate);
        }
        if heard.was_given_up {
            return Err(LoginError::Silent { ca: ca.clone() });
        }
        // ssh's own exit status: a CA that let the user in has said the rest itself.
        if status.as_ref().is_ok_and(|status| status.code() == Some(255)) {
            match heard.cause() {
                Some(Cause::NoAnswer(reason)) => return Err(LoginError::NoAnswer { ca: ca.clone(), reason }),
                Some(Cause::NotProven(trouble)) => {
                    let known_hosts = self.config.known_hosts.clone();
                    return Err(LoginError::NotProven { ca: ca.clone(), trouble, known_hosts });
                }
                None => {}
            }
        }
        Err(explain(ca, self.keeper, user, prompting, status, &heard, &side))
    }
}

impl Ways<'_> {
    /// The certificate of the user's own key, as the CA has printed it.
    fn take_printed(&self, ca: &CaAddress, own: &OwnKey, printed: &[u8]) -> Result<Certificate, LoginError> {
        let now = SystemClock.now();
        let nothing = |reason: String, somebody_elses, skew| LoginError::NothingCame {
            ca: ca.clone(),
            reason: format!("; the one it gave was not taken: {reason}"),
            somebody_elses,
            skew,
        };
        let text = String::from_utf8_lossy(printed);
        let certificate = Certificate::from_openssh(text.trim()).map_err(|e| nothing(e.to_string(), false, None))?;
        if *certificate.public_key() != own.key {
            return Err(nothing("it is another key's".to_owned(), false, None));
        }
        let skew = Skew::of(&certificate, now);
        if let Err(reason) = self.judge.verify(&certificate, now) {
            let somebody_elses = matches!(reason, NotGood::SomebodyElses { .. });
            return Err(nothing(reason.to_string(), somebody_elses, skew));
        }
        if let Some(skew) = skew {
            eprintln!("ussh: {skew}");
        }
        own.files.put_certificate(&certificate, "client_key").map_err(|error| LoginError::NotKept {
            ca: ca.clone(),
            reason: error.to_string(),
            own_key: true,
        })?;
        Ok(certificate)
    }
}

/// Looks again: only what is really there now counts. What this login brought, or what another brought in its place meanwhile.
/// However short its life is: asking the same CA again would bring no better one.
fn good_among(added: &[Identity], keeper: &Keeper, judge: &Judge) -> Result<Option<Certificate>, LoginError> {
    let now = SystemClock.now();
    let came: Vec<_> = added.iter().filter_map(readable_certificate).collect();
    let is_as_new = |there: &Certificate| {
        came.iter().any(|came| came.same_lineage(there) && came.login_time() <= there.login_time())
    };
    let listed = keeper.list()?;
    let good = listed.iter().filter_map(readable_certificate);
    let good = good.filter(|there| is_as_new(there) && judge.verify(there, now).is_ok());
    Ok(good.max_by_key(|there| came.iter().any(|came| came.blob() == there.blob())))
}

#[cfg(test)]
mod tests;
