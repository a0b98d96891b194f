//! Agents that are somebody else, or become it.

use super::Expected::{Accepted, Refused, Unreachable};
use super::{Case, Place, case, many};
use crate::agent::{FAILURE, SIGN_RESPONSE};
use crate::broker::hand_over;
use crate::kit::{OTHER_KEY, ROGUE_CA, USER_KEY};
use crate::script::{Agent, Identity, Over, message};
use crate::user::Served;

pub fn cases() -> Vec<Case> {
    vec![
        case("another user's, with a good identity", Unreachable("the agent belongs to uid *"), Agent::good)
            .at(Place::Anothers),
        // What counts is who listens, and who holds the key: agents that are forwarded are nothing else.
        case("hands the connection to another user's process, which is honest", Accepted, |kit| {
            let user = kit.user.clone();
            Agent::good(kit).at_once(move |talk, _| hand_over(talk, &user))
        }),
        case("hands the connection to another user's process, and ends", Accepted, |kit| {
            let user = kit.user.clone();
            Agent::good(kit).at_once(move |talk, _| {
                let _over = hand_over(talk, &user);
                std::process::exit(0)
            })
        }),
        case(
            "leaves its place to another process between two connections",
            Refused("agent: connection: another process listens there now (and 1 more tried)"),
            |kit| {
                let user = kit.user.clone();
                Agent::with(many::behind_liars(kit, 1)).at_signing(move |_, _| {
                    // It goes with the host.
                    std::mem::forget(Served::start_honest(&user));
                    Err(Over)
                })
            },
        ),
        case(
            "lists another certificate on its second connection, and signs for that",
            Refused("challenge: bad signature (and 1 more tried)"),
            |kit| {
                let rogue = kit.certificate(USER_KEY).sign(&kit.key(ROGUE_CA));
                let swapped = Agent::with(vec![Identity::of(rogue, kit.key(OTHER_KEY))]).listing();
                let other = kit.key(OTHER_KEY);
                Agent::with(many::behind_liars(kit, 1))
                    .at_listing(move |talk, ask| talk.answer(if ask.connection == 0 { &ask.honest } else { &swapped }))
                    .at_signing(move |talk, ask| {
                        if ask.connection == 0 {
                            return Err(Over);
                        }
                        let signature = other.sign(&ask.data());
                        talk.answer(&message(SIGN_RESPONSE, &[&signature]))
                    })
            },
        ),
        case("lists nothing on its second connection, and signs for what it listed before", Accepted, |kit| {
            Agent::with(many::behind_liars(kit, 1))
                .at_listing(|talk, ask| {
                    let nothing = Agent::with(Vec::new()).listing();
                    talk.answer(if ask.connection == 0 { &ask.honest } else { &nothing })
                })
                .at_signing(|talk, ask| if ask.connection == 0 { Err(Over) } else { talk.answer(&ask.honest) })
        }),
        case("refuses its second listing", Refused("the agent refused to sign (and 1 more tried)"), |kit| {
            Agent::with(many::behind_liars(kit, 1))
                .at_listing(|talk, ask| talk.answer(if ask.connection == 0 { &ask.honest } else { &[FAILURE] }))
                .at_signing(|_, _| Err(Over))
        }),
    ]
}
