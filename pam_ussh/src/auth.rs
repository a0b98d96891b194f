//! `auth`: by an agent challenge in sudo, su, doas and the like, by sshd's own proof in sshd.

use std::cell::RefCell;

use ussh_core::agent::AgentError;
use ussh_core::certificate::Certificate;
use ussh_core::challenge::ChallengeContext;
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::decision::{Asking, DecisionError, Patience, Tried, decide};
use ussh_core::escape::{MAX_FIELD, escape_word};
use ussh_core::verdict::{CriticalOptions, Demand, Origin};
use ussh_os::account::Account;
use ussh_os::pam_module::{PamHandle, PamReturn};
use ussh_os::process;

use crate::answer::{self, Accepted, Denial, Phase, Proof, Subject};
use crate::attendant::{AtTheKey, Speaker};
use crate::caller::{Caller, NoAnswer, Reached};
use crate::glass::Use;
use crate::inject;
use crate::kept;
use crate::login::Bond;
use crate::options::{AuthOptions, Facility, FromLine};
use crate::place;
use crate::sshd;
use crate::trust::Trust;

/// The hook.
pub fn authenticate(handle: &PamHandle, silent: bool, arguments: Option<Vec<String>>) -> PamReturn {
    let arguments = inject::panic_if_told("auth", arguments);
    let mut subject = Subject::of(handle, Phase::Auth);
    let verdict = judge(handle, silent, &mut subject, arguments.as_deref());
    if let Ok(accepted) = &verdict {
        kept::keep(handle, &subject, accepted);
    }
    answer::conclude(handle, silent, &subject, verdict)
}

fn judge(
    handle: &PamHandle,
    silent: bool,
    subject: &mut Subject,
    arguments: Option<&[String]>,
) -> Result<Accepted, Denial> {
    let options =
        AuthOptions::parse(&subject.service, arguments).map_err(|error| Denial::Misconfigured(error.to_string()))?;
    place::demand_of(subject, Facility::Auth)?;
    if subject.service == sshd::SERVICE {
        let account = account_of(handle, subject)?;
        let trust = Trust::load(&options, &account)?;
        return sshd::judge(handle, subject, &options, &trust);
    }
    // A child connects while the account is looked up, and the agent lists while the files are read: neither is waited for in vain. What is wrong with the account, the line or its files
    // still comes before anything that is wrong with the caller or the agent.
    let name = name_of(handle, subject)?;
    let subject = &*subject;
    let witness = DebugLog { subject, on: options.debug };
    let debug = |text: &str| witness.text(text);
    let caller = Caller::find(&options, subject, &debug).map(Caller::connect_early).and_then(Caller::find_login);
    let account = account_by(&name)?;
    let caller = caller.map(Caller::list_early);
    let trust = Trust::load(&options, &account)?;
    ask(&caller?, &witness, subject, &options, &account, &trust, &Speaker::new(handle, silent, subject))
}

/// What is shown of a decision on the way: to the log, for `debug`, or to an administrator at a terminal.
pub trait Witness {
    /// One line of what is being done.
    fn text(&self, text: &str);
    /// An agent is about to be asked, with this demand.
    /// # Errors
    /// It was asked already, and gave no answer: it is not asked again.
    fn agent(&self, reached: &mut Reached<'_>, demand: &Demand<'_>) -> Result<(), AgentError>;
    /// These identities of it did not do.
    fn tried(&self, tried: &[Tried]);
}

struct DebugLog<'a> {
    subject: &'a Subject,
    on: bool,
}

impl Witness for DebugLog<'_> {
    fn text(&self, text: &str) {
        if self.on {
            answer::debug_text(self.subject, text);
        }
    }

    fn agent(&self, _: &mut Reached<'_>, _: &Demand<'_>) -> Result<(), AgentError> {
        Ok(())
    }

    fn tried(&self, tried: &[Tried]) {
        if self.on {
            answer::debug(self.subject, tried);
        }
    }
}

/// PAM_USER's account; from here on its canonical name counts, as in sshd.
/// # Errors
/// [`Denial`]
pub fn account_of(handle: &PamHandle, subject: &mut Subject) -> Result<Account, Denial> {
    account_by(&name_of(handle, subject)?)
}

fn name_of(handle: &PamHandle, subject: &mut Subject) -> Result<String, Denial> {
    let name = handle.user().filter(|name| !name.is_empty()).ok_or(Denial::UnknownUser)?;
    subject.user = Some(name.clone());
    Ok(name)
}

fn account_by(name: &str) -> Result<Account, Denial> {
    match Account::by_name(name) {
        Ok(Some(account)) => Ok(account),
        Ok(None) => Err(Denial::UnknownUser),
        Err(error) => Err(Denial::Unavailable(format!("account {}: {error}", escape_word(name.as_bytes(), MAX_FIELD)))),
    }
}

/// Asks the caller's agent.
/// # Errors
/// [`Denial`]
pub fn challenge(
    subject: &Subject,
    options: &AuthOptions,
    account: &Account,
    trust: &Trust<'_>,
    speaker: &Speaker<'_>,
) -> Result<Accepted, Denial> {
    challenge_before(&DebugLog { subject, on: options.debug }, subject, options, account, trust, speaker)
}

/// The same, with a witness.
/// # Errors
/// [`Denial`]
pub fn challenge_before(
    witness: &dyn Witness,
    subject: &Subject,
    options: &AuthOptions,
    account: &Account,
    trust: &Trust<'_>,
    speaker: &Speaker<'_>,
) -> Result<Accepted, Denial> {
    let debug = |text: &str| witness.text(text);
    ask(&Caller::find(options, subject, &debug)?, witness, subject, options, account, trust, speaker)
}

fn ask(
    caller: &Caller<'_>,
    witness: &dyn Witness,
    subject: &Subject,
    options: &AuthOptions,
    account: &Account,
    trust: &Trust<'_>,
    speaker: &Speaker<'_>,
) -> Result<Accepted, Denial> {
    caller.ask(|reached| {
        let now = SystemClock.now();
        let context = ChallengeContext {
            host: process::host_name(),
            service: subject.service.clone(),
            user: account.name.clone(),
            ruser: subject.ruser.clone().unwrap_or_default(),
            tty: subject.tty.clone().unwrap_or_default(),
            now,
        };
        // Nobody here would run a forced command.
        let origin = reached.origin;
        let demand = trust.demand(CriticalOptions::RefuseUnlessFrom(&origin), now).map_err(NoAnswer::Denied)?;
        witness.agent(reached, &demand).map_err(NoAnswer::Agent)?;
        let Reached { agent, left, whose, reconnect, login, .. } = reached;
        let others = RefCell::new(Vec::new());
        let wanted = |certificate: &Certificate| {
            let is_wanted = whose.includes(certificate);
            if !is_wanted && login.is_some() {
                others.borrow_mut().push(certificate.clone());
            }
            is_wanted
        };
        let asking = Asking {
            context: &context,
            wanted: &wanted,
            patience: Patience { total: *left, touch: options.touch_timeout, overall: None },
            clock: &SystemClock,
            person: &AtTheKey::new(speaker, options.cue.as_deref()),
            reconnect: Some(*reconnect),
        };
        match decide(agent, &demand, &asking) {
            Ok(accepted) => {
                let certificate =
                    trust.judge_again(accepted.certificate, &demand, &SystemClock).map_err(NoAnswer::Denied)?;
                let bond = match login {
                    Some(login) => login.bond(&certificate, origin.inode.get()),
                    None => Bond::unless_demanded(options),
                };
                let bond = bond.map_err(NoAnswer::Denied)?;
                let break_glass = trust
                    .is_break_glass(&certificate)
                    .then(|| Use { from: origin.address().map(|address| address.to_string()).unwrap_or_default() });
                Ok(Accepted { certificate, proof: Proof::Challenge(accepted.proof), bond, break_glass })
            }
            Err(DecisionError::Agent(AgentError::Interrupted)) => Err(NoAnswer::Denied(Denial::Interrupted)),
            Err(DecisionError::Agent(error)) => Err(NoAnswer::Agent(error)),
            Err(DecisionError::Random) => Err(NoAnswer::Denied(Denial::Unavailable("no random numbers".into()))),
            Err(DecisionError::NoneAccepted(tried)) => {
                witness.tried(&tried);
                let mut others = others.into_inner().into_iter();
                Err(NoAnswer::Denied(match (login, others.next()) {
                    (Some(login), Some(first)) if tried.is_empty() => {
                        Denial::of_other_lineage(first, others.count(), login)
                    }
                    _ => Denial::of_tried(tried),
                }))
            }
        }
    })
}
