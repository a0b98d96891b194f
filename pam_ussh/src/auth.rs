//! `auth`: by an agent challenge in sudo, su, doas and the like, by sshd's own proof in sshd. `account` is not offered yet, and refuses.

use ussh_core::challenge::ChallengeContext;
use ussh_core::clock::{Clock, SystemClock};
use ussh_core::decision::{DecisionError, Patience, decide_among};
use ussh_core::verdict::CriticalOptions;
use ussh_os::account::Account;
use ussh_os::pam_module::{PamHandle, PamReturn};
use ussh_os::process;

use crate::answer::{self, Accepted, Denial, Proof, Subject};
use crate::caller::{Caller, NoAnswer, Reached};
use crate::options::AuthOptions;
use crate::sshd;
use crate::trust::Trust;

/// The hook.
pub fn authenticate(handle: &PamHandle, silent: bool, arguments: Option<Vec<String>>) -> PamReturn {
    let mut subject = Subject::of(handle);
    let verdict = judge(handle, &mut subject, arguments.as_deref());
    answer::conclude(handle, silent, &subject, verdict)
}

/// The hook of `account`: never a success. In sshd no certificate can be seen there, and a console has no agent; elsewhere it would have to know what `auth` has proved.
pub fn account(handle: &PamHandle, silent: bool, _arguments: Option<Vec<String>>) -> PamReturn {
    let subject = Subject::of(handle);
    let text = match subject.service.as_str() {
        sshd::SERVICE => {
            "pam_ussh in account of sshd: the certificate cannot be seen there; its place is auth (behind publickey) and session"
        }
        LOGIN => {
            "pam_ussh in account of login: a console has no agent; its place is auth of sudo and su, auth and session of sshd"
        }
        _ => "pam_ussh in account: opt-in account checks are not available in this version",
    };
    answer::conclude(handle, silent, &subject, Err(Denial::Misconfigured(text.into())))
}

/// The service of a console.
const LOGIN: &str = "login";

fn judge(handle: &PamHandle, subject: &mut Subject, arguments: Option<&[String]>) -> Result<Accepted, Denial> {
    let options =
        AuthOptions::parse(&subject.service, arguments).map_err(|error| Denial::Misconfigured(error.to_string()))?;
    match subject.service.as_str() {
        "" => return Err(Denial::Misconfigured("PAM names no service".into())),
        LOGIN => {
            return Err(Denial::Misconfigured(
                "pam_ussh in login: a console has no agent, and the rescue door must stay open".into(),
            ));
        }
        _ => {}
    }
    let account = account_of(handle, subject)?;
    let trust = Trust::load(&options, &account)?;
    if subject.service == sshd::SERVICE {
        return sshd::judge(handle, subject, &options, &trust);
    }
    challenge(subject, &options, &account, &trust)
}

/// PAM_USER's account; from here on its canonical name counts, as in sshd.
fn account_of(handle: &PamHandle, subject: &mut Subject) -> Result<Account, Denial> {
    let name = handle.user().filter(|name| !name.is_empty()).ok_or(Denial::UnknownUser)?;
    subject.user = Some(name.clone());
    match Account::by_name(&name) {
        Ok(Some(account)) => Ok(account),
        Ok(None) => Err(Denial::UnknownUser),
        Err(error) => Err(Denial::Unavailable(format!("account {name}: {error}"))),
    }
}

fn challenge(
    subject: &Subject,
    options: &AuthOptions,
    account: &Account,
    trust: &Trust<'_>,
) -> Result<Accepted, Denial> {
    let debug = |text: &str| {
        if options.debug {
            answer::debug_text(subject, text);
        }
    };
    let caller = Caller::find(options, subject, &debug)?;
    caller.ask(|reached| {
        let Reached { agent, left, origin, whose } = reached;
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
        let demand = trust.demand(CriticalOptions::RefuseUnlessFrom(origin), now).map_err(NoAnswer::Denied)?;
        let patience = Patience { total: *left, touch: options.touch_timeout };
        match decide_among(agent, &|certificate| whose.includes(certificate), &demand, &context, patience, &SystemClock)
        {
            Ok(accepted) => Ok(Accepted { certificate: accepted.certificate, proof: Proof::Challenge(accepted.proof) }),
            Err(DecisionError::Agent(error)) => Err(NoAnswer::Agent(error)),
            Err(DecisionError::Random) => Err(NoAnswer::Denied(Denial::Unavailable("no random numbers".into()))),
            Err(DecisionError::NoneAccepted(tried)) => {
                if options.debug {
                    answer::debug(subject, &tried);
                }
                Err(NoAnswer::Denied(Denial::of_tried(tried)))
            }
        }
    })
}
