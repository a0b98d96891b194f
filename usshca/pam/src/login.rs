//! The order of a login: authenticate (unless it is a lookup), account management (with a password change where it is due), the account's groups, the statement to the signer.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ussh_core::escape::{MAX_FIELD, escape_word};
use ussh_os::account::Account;
use ussh_os::pam_application::{NEW_AUTHTOK_REQD, PamApplication, PamError};
use usshca_ipc::channel::{Channel, ChannelError};
use usshca_ipc::worker::{FromWorker, PamRefusal, Spoken, Statement, StatementReply, ToWorker, WorkerSetup};

use crate::Worker;
use crate::conversation::ByFront;

/// How long the signer may take over a statement.
const SIGNER_PATIENCE: Duration = Duration::from_secs(10);

const AUTHENTICATION: &str = "authentication";
const PASSWORD_CHANGE: &str = "password change";
const ACCOUNT: &str = "account";

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// PAM said yes, and the signer knows.
    Passed,
    /// PAM said no.
    Refused,
    /// Whoever was asked had gone.
    Left,
    /// It could not be found out.
    Unavailable,
}

/// Why the login did not pass.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// A PAM function said no, or broke down.
    #[error("{step}: {source}")]
    Pam { step: &'static str, source: PamError },
    /// The CA's own service leaves something to `other`: the supervisor has said what.
    #[error("the CA's PAM service is out of order")]
    NotAsked,
    /// NSS.
    #[error("account lookup: {0}")]
    Nss(#[from] std::io::Error),
    /// PAM let in somebody whom NSS does not know.
    #[error("PAM accepted an account that does not exist")]
    NoAccount,
    /// The signer did not answer.
    #[error("signer: {0}")]
    Signer(#[from] ChannelError),
    /// The signer did not take the statement.
    #[error("the signer did not take the statement")]
    Rejected,
}

/// Runs the attempt to its end.
pub fn run(worker: Worker) -> Outcome {
    let Worker { front, signer, setup } = worker;
    let front = Rc::new(front);
    let left = Rc::new(Cell::new(false));
    let mut pam = match open(&setup, Rc::clone(&front), Rc::clone(&left)) {
        Ok(pam) => pam,
        Err(failure) => {
            report(&signer, &failure, false);
            return fail(&front, &setup, &failure, None);
        }
    };
    match pass(&mut pam, &signer, setup.lookup) {
        Ok(user) => {
            // PAM's modules may have made another name of it.
            let detail = if user == setup.user { String::new() } else { format!(" as {user}") };
            log(&setup, "Accepted", &detail);
            // Whether it arrives or not: the statement is made. pam_end comes after this, so that a module that breaks down in it keeps nobody out.
            let _ = front.send(&FromWorker::Passed { user });
            Outcome::Passed
        }
        Err(failure) => {
            report(&signer, &failure, left.get());
            let delay = pam.fail_delay();
            // pam_end now: once it has been told, the front may ask for the next attempt.
            drop(pam);
            let outcome = fail(&front, &setup, &failure, delay);
            if outcome == Outcome::Refused && left.get() { Outcome::Left } else { outcome }
        }
    }
}

fn open(
    setup: &WorkerSetup,
    front: Rc<Channel<FromWorker, ToWorker>>,
    left: Rc<Cell<bool>>,
) -> Result<PamApplication<ByFront>, Failure> {
    if !setup.may_ask_pam {
        return Err(Failure::NotAsked);
    }
    let (service, user, conversation) = (&setup.service, &setup.user, ByFront::new(front, left));
    let started = match &setup.pam_folder {
        Some(folder) => PamApplication::start_in(folder, service, user, conversation),
        None => PamApplication::start(service, user, conversation),
    };
    let mut pam = step("pam_start", started)?;
    step("PAM_RHOST", pam.set_rhost(&setup.rhost))?;
    // As sshd: some modules (pam_access, pam_time) want one.
    step("PAM_TTY", pam.set_tty("ssh"))?;
    Ok(pam)
}

/// All that must be true, in order; gives the canonical account name.
fn pass(
    pam: &mut PamApplication<ByFront>,
    signer: &Channel<Spoken, StatementReply>,
    lookup: bool,
) -> Result<String, Failure> {
    if !lookup {
        step(AUTHENTICATION, pam.authenticate())?;
    }
    match pam.acct_mgmt() {
        // Whoever did not give the old password sets no new one.
        Err(e) if e.code == NEW_AUTHTOK_REQD && !lookup => {
            step(PASSWORD_CHANGE, pam.change_expired_password())?;
            step(ACCOUNT, pam.acct_mgmt())?;
        }
        other => step(ACCOUNT, other)?,
    }
    // Modules may have changed it (pam_ldap, case folding, an alias): what counts is whom PAM let in.
    let name = step("PAM_USER", pam.user())?;
    let account = Account::by_name(&name)?.ok_or(Failure::NoAccount)?;
    let groups = account.group_names()?;
    signer.send(&Spoken::Passed(Statement { user: account.name.clone(), uid: account.uid, groups }))?;
    match signer.receive(Some(SIGNER_PATIENCE))?.message {
        StatementReply::Kept => Ok(account.name),
        StatementReply::Rejected => Err(Failure::Rejected),
    }
}

fn step<T>(step: &'static str, result: Result<T, PamError>) -> Result<T, Failure> {
    result.map_err(|source| Failure::Pam { step, source })
}

/// Keeps the delay that modules asked for, then tells the front. All refusals look alike to it: unknown user, wrong password, locked account.
fn fail(
    front: &Channel<FromWorker, ToWorker>,
    setup: &WorkerSetup,
    failure: &Failure,
    delay: Option<Duration>,
) -> Outcome {
    let outcome = outcome(failure);
    log(setup, "Failed", &format!(": {failure}"));
    if let Some(delay) = delay {
        keep_delay(front, delay);
    }
    // A front that is gone need not be told.
    let _ = front.send(&FromWorker::Failed { unavailable: outcome == Outcome::Unavailable });
    outcome
}

/// Tells the signer of a refusal, which is to stand in the inventory before the user hears of it. One that does not hear it records that the worker ended without a word.
fn report(signer: &Channel<Spoken, StatementReply>, failure: &Failure, left: bool) {
    if let Some(refusal) = refusal(failure, left) {
        let _ = signer.send(&Spoken::Refused(refusal));
    }
}

/// `None`: the signer's own doing, and it has its word already.
fn refusal(failure: &Failure, left: bool) -> Option<PamRefusal> {
    Some(match failure {
        Failure::Signer(_) | Failure::Rejected => return None,
        Failure::NotAsked | Failure::Nss(_) => PamRefusal::Unavailable,
        Failure::NoAccount => PamRefusal::NoAccount,
        Failure::Pam { source, .. } if is_breakdown(source.code) => PamRefusal::Unavailable,
        Failure::Pam { .. } if left => PamRefusal::Left,
        Failure::Pam { step, source } => match (*step, source.code) {
            (_, USER_UNKNOWN) => PamRefusal::UnknownUser,
            (_, MAXTRIES) => PamRefusal::TooManyTries,
            (_, ACCT_EXPIRED) => PamRefusal::AccountExpired,
            (PASSWORD_CHANGE, _) => PamRefusal::PasswordNotChanged,
            (ACCOUNT, NEW_AUTHTOK_REQD | AUTHTOK_EXPIRED) => PamRefusal::PasswordExpired,
            (ACCOUNT, _) => PamRefusal::Account,
            _ => PamRefusal::Authentication,
        },
    })
}

/// PAM_USER_UNKNOWN, PAM_MAXTRIES, PAM_ACCT_EXPIRED, PAM_AUTHTOK_EXPIRED (_pam_types.h).
const USER_UNKNOWN: i32 = 10;
const MAXTRIES: i32 = 11;
const ACCT_EXPIRED: i32 = 13;
const AUTHTOK_EXPIRED: i32 = 27;

/// Until the time is up, or the user has gone. What the front says meanwhile does not shorten it.
fn keep_delay(front: &Channel<FromWorker, ToWorker>, delay: Duration) {
    let end = Instant::now() + delay;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match front.receive(Some(left)) {
            Err(ChannelError::Io(_) | ChannelError::Closed) => return,
            Ok(_) | Err(ChannelError::Malformed) if left.is_zero() => return,
            Ok(_) | Err(ChannelError::Malformed) => {}
        }
    }
}

fn outcome(failure: &Failure) -> Outcome {
    match failure {
        Failure::Pam { source, .. } if !is_breakdown(source.code) => Outcome::Refused,
        Failure::Pam { .. }
        | Failure::NotAsked
        | Failure::Nss(_)
        | Failure::NoAccount
        | Failure::Signer(_)
        | Failure::Rejected => Outcome::Unavailable,
    }
}

/// Codes that say "could not check" rather than "no" (_pam_types.h): PAM_OPEN_ERR, PAM_SYMBOL_ERR, PAM_SERVICE_ERR, PAM_BUF_ERR, PAM_AUTHINFO_UNAVAIL, PAM_ABORT,
/// PAM_MODULE_UNKNOWN. All others are refusals. So is PAM_SYSTEM_ERR: it is how pam_exec passes on the "no" of its program (pam_exec.c, `call_exec`).
fn is_breakdown(code: i32) -> bool {
    matches!(code, 1..=3 | 5 | 9 | 26 | 28)
}

fn log(setup: &WorkerSetup, what: &str, detail: &str) {
    // One word, so that no name tells a story of its own.
    let user = escape_word(setup.user.as_bytes(), MAX_FIELD);
    let what = match setup.lookup {
        true => format!("{what} lookup"),
        false => format!("{what} keyboard-interactive/pam"),
    };
    let line = format!("{what} for {user} from {}{detail}\n", setup.rhost);
    // In one write, so that the supervisor is woken once; eprintln! would do it in seven, and panic if the supervisor is gone.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use ussh_os::seqpacket::SeqPacket;

    use super::*;

    #[test]
    fn talking_does_not_shorten_the_delay_and_going_away_ends_it() {
        let (a, b) = SeqPacket::pair().unwrap();
        let (worker, front) = (Channel::<FromWorker, ToWorker>::new(a), Channel::<ToWorker, FromWorker>::new(b));
        for _ in 0..10 {
            front.send(&ToWorker { answers: vec![] }).unwrap();
        }
        let start = Instant::now();
        keep_delay(&worker, Duration::from_millis(50));
        assert!(start.elapsed() >= Duration::from_millis(50));
        drop(front);
        let start = Instant::now();
        keep_delay(&worker, Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    fn pam(code: i32) -> Outcome {
        outcome(&Failure::Pam { step: "authentication", source: PamError { code, text: String::new() } })
    }

    #[test]
    fn unknown_user_and_wrong_password_look_alike() {
        let (auth_err, user_unknown, perm_denied, maxtries, acct_expired, system_err) = (7, 10, 6, 11, 13, 4);
        for code in [auth_err, user_unknown, perm_denied, maxtries, acct_expired, system_err] {
            assert_eq!(pam(code), Outcome::Refused, "{code}");
        }
    }

    #[test]
    fn a_pam_that_broke_down_is_not_a_wrong_password() {
        for code in [1, 2, 3, 5, 9, 26, 28] {
            assert_eq!(pam(code), Outcome::Unavailable, "{code}");
        }
    }

    #[test]
    fn an_account_that_nss_does_not_know_never_passes() {
        assert_eq!(outcome(&Failure::NoAccount), Outcome::Unavailable);
        assert_eq!(outcome(&Failure::Rejected), Outcome::Unavailable);
    }

    #[test]
    fn what_pam_said_has_a_word_of_its_own() {
        let word = |step, code| refusal(&Failure::Pam { step, source: PamError { code, text: String::new() } }, false);
        for (step, code, expected) in [
            (AUTHENTICATION, 7, PamRefusal::Authentication),
            (AUTHENTICATION, 6, PamRefusal::Authentication),
            (AUTHENTICATION, 10, PamRefusal::UnknownUser),
            (AUTHENTICATION, 11, PamRefusal::TooManyTries),
            (ACCOUNT, 7, PamRefusal::Account),
            (ACCOUNT, 13, PamRefusal::AccountExpired),
            (ACCOUNT, 12, PamRefusal::PasswordExpired),
            (ACCOUNT, 27, PamRefusal::PasswordExpired),
            (PASSWORD_CHANGE, 20, PamRefusal::PasswordNotChanged),
            (AUTHENTICATION, 28, PamRefusal::Unavailable),
            (ACCOUNT, 9, PamRefusal::Unavailable),
        ] {
            assert_eq!(word(step, code), Some(expected), "{step} {code}");
        }
        let left = Failure::Pam { step: AUTHENTICATION, source: PamError { code: 19, text: String::new() } };
        assert_eq!(refusal(&left, true), Some(PamRefusal::Left));
        assert_eq!(refusal(&Failure::NoAccount, false), Some(PamRefusal::NoAccount));
        assert_eq!(refusal(&Failure::Rejected, false), None);
    }
}
