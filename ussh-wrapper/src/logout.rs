//! `--logout`, `--logout --everywhere` and `--revoke`: all of ours goes, from files and agents, whatever stands in the way of a part of it, and whatever the configuration says by now or cannot say.

use std::process::ExitCode;

use ussh_core::agent::Identity;
use ussh_core::certificate::{Certificate, CertificateKind};
use ussh_core::clock::{Clock, SystemClock, UnixTime};

use crate::certificates::{self, Judge, readable_certificate};
use crate::config::{CaUser, Config, KeepIn, Sources};
use crate::failure::{Failure, NotRevoked};
use crate::files::Files;
use crate::guard::Home;
use crate::keeper::{Keeper, is_copy};
use crate::login::revoke_all;
use crate::run::print;
use crate::user_agent::{AgentProblem, UserAgent};

/// Removes what is here.
/// # Errors
/// [`Failure`]: something is left here; or the configuration is wrong.
pub fn logout() -> Result<ExitCode, Failure> {
    let known = Known::load(&Sources::of_this_process());
    let removed = known.remove_all();
    if removed.count > 0 || removed.failures.is_empty() {
        print(&removed.to_text())?;
    }
    let wrong = known.ca.err().or(known.judge_wrong);
    if wrong.is_some() {
        eprintln!("ussh: what a CA has put here itself was looked for, and no more: the configuration is wrong");
    }
    all_told(removed.failures, wrong)
}

/// Here first: that needs nobody else. What cannot be removed here is no reason to leave copies of it good.
/// # Errors
/// [`Failure`]: nothing was revoked; or as for [`logout`].
pub fn logout_everywhere() -> Result<ExitCode, Failure> {
    let known = Known::load(&Sources::of_this_process());
    let mut removed = known.remove_all();
    // Where nobody is, nothing of ours is.
    removed.failures.retain(|failure| !failure.is_no_agent());
    let revoked = known.ca.and_then(|(config, user)| {
        config.locks.passed_over().iter().for_each(|passed_over| eprintln!("ussh: {passed_over}"));
        Ok(revoke_all(&config, &user, known.uid)?)
    });
    if let Err(source) = revoked {
        let not_revoked =
            NotRevoked { source, removed: removed.count, until: removed.until, is_left: !removed.failures.is_empty() };
        return all_told(removed.failures, Some(Failure::NotRevoked(Box::new(not_revoked))));
    }
    print(&removed.to_text())?;
    all_told(removed.failures, known.judge_wrong)
}

/// The last of them decides on the exit status.
fn all_told(mut failures: Vec<Failure>, last: Option<Failure>) -> Result<ExitCode, Failure> {
    failures.extend(last);
    let Some(last) = failures.pop() else { return Ok(ExitCode::SUCCESS) };
    failures.iter().for_each(Failure::tell);
    Err(last)
}

/// As much as the configuration says.
struct Known {
    /// The CA, and who the user is there.
    ca: Result<(Config, CaUser), Failure>,
    /// Without one, what a CA has put there is known by its mark ([`Identity::was_injected`]).
    judge: Option<Judge>,
    /// Why there is none, if that is not `ca`'s.
    judge_wrong: Option<Failure>,
    uid: u32,
}

/// What has really gone, and what stood in the way of the rest.
#[derive(Default)]
struct Removed {
    count: usize,
    /// When the last of it ends.
    until: Option<UnixTime>,
    failures: Vec<Failure>,
}

impl Removed {
    fn note(&mut self, certificate: Option<&Certificate>) {
        self.count += 1;
        self.until = self.until.max(certificate.map(Certificate::valid_before));
    }
    fn to_text(&self) -> String {
        format!("{} certificate{} removed\n", self.count, if self.count == 1 { "" } else { "s" })
    }
}

impl Known {
    fn load(sources: &Sources) -> Self {
        let uid = sources.uid;
        let ca = Config::load(sources).map_err(Failure::from).and_then(|config| {
            let user = config.user_at_ca(uid)?;
            Ok((config, user))
        });
        let judge = ca.as_ref().ok().map(|(config, user)| Judge::load(config, user.clone(), uid));
        let (judge, judge_wrong) = match judge {
            Some(Ok(judge)) => (Some(judge), None),
            Some(Err(wrong)) => (None, Some(wrong.into())),
            None => (None, None),
        };
        Known { ca, judge, judge_wrong, uid }
    }
    fn keep_in(&self) -> Option<KeepIn> {
        self.ca.as_ref().ok().map(|(config, _)| config.keep_in)
    }
    fn has_own_key(&self) -> bool {
        self.ca.as_ref().is_ok_and(|(config, _)| config.client_key.is_some())
    }

    fn remove_all(&self) -> Removed {
        let mut removed = Removed::default();
        let home = Home::open(self.uid).ok();
        let dismiss = |keeper: &Keeper| {
            // What it stood for is gone; the next `ussh HOST` starts it anew.
            if let Some(home) = &home {
                home.dismiss(keeper);
            }
        };
        if let Ok(files) = Files::of_user(self.uid) {
            for files in [files.for_own_key(), files.clone()] {
                let gone = files.remove();
                gone.certificates.iter().for_each(|certificate| removed.note(certificate.as_ref()));
                removed.failures.extend(gone.failure.map(Failure::from));
            }
            dismiss(&Keeper::Files(files));
        }
        let named = UserAgent::from_environment();
        let others = UserAgent::others_than(named.as_ref().ok());
        let named = named.and_then(|agent| {
            let done = self.remove_from_agent(&agent, true, &mut removed);
            dismiss(&agent.into());
            done
        });
        for other in others {
            // It may end at any time.
            match self.remove_from_agent(&other, false, &mut removed) {
                Err(problem) if !problem.is_no_agent() => removed.failures.push(problem.into()),
                Ok(()) | Err(_) => {}
            }
            dismiss(&other.into());
        }
        let in_files = self.keep_in() == Some(KeepIn::Files);
        match named {
            Err(problem) if problem.is_no_agent() && (removed.count > 0 || in_files) => {}
            // Nothing of ours was put there; `keep_in` names no agent.
            Err(AgentProblem::WrongUser { .. }) if in_files => {}
            Err(problem) => removed.failures.push(problem.into()),
            Ok(()) => {}
        }
        removed
    }

    /// `is_named`: it is the one that `ussh` works with, and not one that it has started, or found, another time.
    fn remove_from_agent(&self, agent: &UserAgent, is_named: bool, removed: &mut Removed) -> Result<(), AgentProblem> {
        let mut connection = agent.connect()?;
        let listed = connection.list().map_err(|error| agent.broken(error))?;
        // What the user added, of a key of the user's own, is the user's to remove where the agent is not what `ussh` keeps them in.
        let all = is_named && self.keep_in() == Some(KeepIn::Agent) && !self.has_own_key();
        if is_named && self.keep_in() != Some(KeepIn::Files) {
            removed.failures.extend(agent.check_unlocked(&listed).err().map(Failure::from));
        }
        let mut result = Ok(());
        for identity in &listed {
            let certificate = self.ours(identity).filter(|certificate| all || identity.was_injected(certificate));
            if certificate.is_none() && !is_copy(identity) {
                continue;
            }
            match connection.remove(&identity.blob) {
                Ok(()) if certificate.is_some() => removed.note(certificate.as_ref()),
                Ok(()) => {}
                Err(error) => result = result.and(Err(agent.broken(error))),
            }
        }
        result
    }
    fn ours(&self, identity: &Identity) -> Option<Certificate> {
        match &self.judge {
            Some(judge) => {
                let held = certificates::of_listed(std::slice::from_ref(identity), judge, SystemClock.now());
                held.into_iter().next().map(|held| held.certificate)
            }
            None => readable_certificate(identity).filter(|certificate| {
                certificate.kind() == CertificateKind::User && identity.was_injected(certificate)
            }),
        }
    }
}
