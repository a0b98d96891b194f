//! The search for a forwarded agent among the caller's live sessions, when SSH_AUTH_SOCK leads nowhere.
//!
//! A socket counts only where an sshd process of a recorded connection of this uid listens itself, and only if all those connections are one person's: on a shared account
//! another person's agent must never answer. From what is found only certificates of that person are taken. With `bind_session` those of the caller's own login are all that there are.

use std::time::Duration;

use ussh_core::escape::{MAX_FIELD, escape_word};
use ussh_os::process_tree::ProcessId;
use ussh_os::sshd_connection::{Listener, listeners};

use crate::answer::Denial;
use crate::caller::{Caller, Failed, NoAnswer, Reached, Whose, shown};
use crate::login::Login;
use crate::records::OnePerson;

/// Most sockets that are tried (the user's own forwards are among them).
const MAX_SOCKETS: usize = 8;
/// Least time that a socket gets.
const LEAST_SHARE: Duration = Duration::from_millis(200);

/// How `debug` begins to say that whose agents these are could not be found out.
pub(crate) const BARRED: &str = "no search: records: ";

/// Puts the question to the agents of the caller's live sessions, newest first, while time is `left`; of this `login` alone, where the line asks for one. `first` is why there is a
/// search.
/// # Errors
/// [`Denial`]: `first`, unless an agent was found and said more.
pub(crate) fn search<T>(
    caller: &Caller<'_>,
    login: Option<&Login>,
    left: impl Fn() -> Duration,
    first: Denial,
    question: &mut impl FnMut(&mut Reached<'_>) -> Result<T, NoAnswer>,
) -> Result<T, Denial> {
    let person;
    let (whose, sockets) = if let Some(login) = login {
        let sockets = sockets(caller, &[login.monitor()]);
        (caller.debug)(&format!("searching this login: {} sockets", sockets.len()));
        (Whose::OfLogin(login), sockets)
    } else {
        person = match OnePerson::under(caller.uid, caller.spool) {
            Ok(person) => person,
            Err(why) => {
                (caller.debug)(&format!("no search: {why}"));
                return Err(first);
            }
        };
        let key_id = escape_word(&person.key_id, MAX_FIELD);
        let sockets = sockets(caller, &person.monitors);
        (caller.debug)(&format!(
            "searching {} live sessions of ID \"{key_id}\": {} sockets",
            person.monitors.len(),
            sockets.len()
        ));
        (Whose::Of(&person.key_id), sockets)
    };

    let mut denial = first;
    for (position, socket) in sockets.iter().enumerate() {
        // The newest is nearly always the one: half of the time is its own.
        let share = if position + 1 == sockets.len() { left() } else { left() / 2 };
        if share < LEAST_SHARE {
            (caller.debug)("search ended: no time left");
            break;
        }
        (caller.debug)(&format!("asking the agent at {}, of {}", shown(&socket.path), socket.holder));
        let asked = caller.ask_at(&socket.path, (whose, login), share, |peer| socket.is_at(peer), question);
        match asked {
            Ok(answer) => return Ok(answer),
            Err(Failed { denial: more, .. }) => denial = telling(denial, more, caller.debug)?,
        }
    }
    Err(denial)
}

/// Of the newest sessions first. The one that was asked already is left out.
fn sockets(caller: &Caller<'_>, monitors: &[ProcessId]) -> Vec<Listener> {
    let all = monitors.iter().flat_map(|monitor| listeners(*monitor, caller.uid));
    all.filter(|listener| caller.socket.as_ref() != Some(&listener.path)).take(MAX_SOCKETS).collect()
}

/// Of two denials the one that says more. An error: that ends the search, since it is no agent's.
fn telling(one: Denial, other: Denial, debug: &dyn Fn(&str)) -> Result<Denial, Denial> {
    match (&one, &other) {
        (_, Denial::AgentUnreachable(_) | Denial::Unbound(_)) => {
            debug(&format!("passed over: {}", other.reason().trim_start_matches("agent: ")));
            Ok(one)
        }
        (Denial::Refused { .. }, Denial::Refused { .. } | Denial::NoCertificate) => Ok(one),
        (_, Denial::Refused { .. } | Denial::NoCertificate) => Ok(other),
        _ => Err(other),
    }
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
