//! Agents that say, or give, what nobody asked for.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::Expected::{Accepted, Refused};
use super::{Case, case};
use crate::agent::SIGN_RESPONSE;
use crate::broker::send_with;
use crate::kit::USER_KEY;
use crate::script::{Agent, message};
use crate::wire::string;

/// Most descriptors beside one message (net/scm.h SCM_MAX_FD).
const MOST_DESCRIPTORS: usize = 253;

/// As many as may go along at once.
fn descriptors() -> Vec<OwnedFd> {
    let one = OwnedFd::from(UnixStream::pair().unwrap().0);
    (0..MOST_DESCRIPTORS).map(|_| one.try_clone().unwrap()).collect()
}

pub fn cases() -> Vec<Case> {
    vec![
        case("sends descriptors with all that it says", Accepted, |kit| {
            Agent::good(kit)
                .at_listing(|talk, ask| send_with(talk.stream(), &string(&ask.honest), &descriptors()))
                .at_signing(|talk, ask| send_with(talk.stream(), &string(&ask.honest), &descriptors()))
        }),
        case("sends its own end of the connection before it answers", Accepted, |kit| {
            Agent::good(kit).at_listing(|talk, ask| {
                let answer = string(&ask.honest);
                send_with(talk.stream(), &answer[..1], &[talk.stream()])?;
                talk.send(&answer[1..])
            })
        }),
        case("lists and signs before it is asked", Refused("challenge: bad signature"), |kit| {
            let signature = message(SIGN_RESPONSE, &[&kit.key(USER_KEY).sign(b"before")]);
            Agent::good(kit).at_once(move |talk, ask| {
                talk.send(&[string(&ask.agent.listing()), string(&signature)].concat())?;
                talk.hang()
            })
        }),
        case("a listing after a listing, for ever", Refused("agent: malformed answer"), |kit| {
            Agent::good(kit).at_listing(|talk, ask| talk.send_for_ever(&string(&ask.honest)))
        }),
        case("zeros for ever behind its listing", Refused("agent: malformed answer"), |kit| {
            Agent::good(kit).at_listing(|talk, ask| {
                talk.send(&[string(&ask.honest), vec![0; 4096]].concat())?;
                talk.send_for_ever(&[0; 65536])
            })
        }),
        case("a good signature, and zeros for ever behind it", Accepted, |kit| {
            Agent::good(kit).at_signing(|talk, ask| {
                talk.answer(&ask.honest)?;
                talk.send_for_ever(&[0; 65536])
            })
        }),
    ]
}
