//! What a login that brought nothing was: by what ssh and the CA have said, how ssh ended, and what the guarded agent was asked for.

use std::io;
use std::process::ExitStatus;

use ussh_core::escape::escape;

use super::heard::Heard;
use super::{LoginError, Prompting};
use crate::certificates::NotGood;
use crate::config::{CaAddress, CaUser};
use crate::guard::{CaSide, NotAdded};
use crate::keeper::Keeper;
use crate::user_agent::UserAgent;

pub(super) fn explain(
    ca: &CaAddress,
    keeper: &Keeper,
    user: &CaUser,
    prompting: Prompting,
    status: io::Result<ExitStatus>,
    heard: &Heard,
    side: &CaSide,
) -> LoginError {
    let ca = ca.clone();
    match (status, side.last_not_added()) {
        (_, Some(NotAdded::Agent(reason))) => LoginError::AgentRefused {
            ca,
            path: keeper.place().display().to_string(),
            program: keeper.agent().and_then(UserAgent::program).unwrap_or_else(|| "unknown".to_owned()),
            reason: reason.to_string(),
        },
        (_, Some(reason @ (NotAdded::Files(_) | NotAdded::KeyKind))) => {
            LoginError::NotKept { ca, reason: reason.to_string(), own_key: false }
        }
        (_, Some(reason)) => {
            let somebody_elses = matches!(reason, NotAdded::NotGood(NotGood::SomebodyElses { .. }));
            let clock = side.skew().map(|skew| format!("; {skew}")).unwrap_or_default();
            let reason = format!("; the one it offered was not taken: {reason}{clock}");
            LoginError::NothingCame { ca, reason, somebody_elses, skew: side.skew() }
        }
        // 255 is ssh's own, anything else comes from the session at the CA.
        (Ok(status), None) if status.code().is_some_and(|code| !matches!(code, 0 | 255)) => {
            // As the CA says it (usshca's signer, `refused`).
            let wants_reason = heard.said.contains("wants a reason");
            LoginError::NotGiven { ca, user: user.as_str().to_owned(), wants_reason }
        }
        (Ok(status), None) if !status.success() => ended(&ca, user, prompting, status, heard),
        (_, None) => LoginError::NothingCame { ca, reason: String::new(), somebody_elses: false, skew: None },
    }
}

/// How ssh has failed in a session, or before one, that was none of [`super::Cause`]s.
pub(super) fn ended(
    ca: &CaAddress,
    user: &CaUser,
    prompting: Prompting,
    status: ExitStatus,
    heard: &Heard,
) -> LoginError {
    let lines = || heard.said.lines().map(str::trim).filter(|line| !line.is_empty());
    // In a session it would be the CA's own word.
    let was_asked = heard.was_asked || matches!(prompting, Prompting::Impossible(_));
    let denied = status.code() == Some(255)
        && was_asked
        && !heard.is_in
        && lines().any(|line| line.contains(": Permission denied ("));
    let said = match (status.code(), lines().next_back()) {
        (Some(255), Some(line)) => escape(line.as_bytes(), MAX_SAID),
        (Some(255), None) => "ssh has ended without a word".to_owned(),
        _ => status.to_string(),
    };
    LoginError::Failed { ca: ca.clone(), user: user.as_str().to_owned(), denied, said, prompting }
}

/// Most of a line of ssh's that is repeated, bytes.
const MAX_SAID: usize = 200;
