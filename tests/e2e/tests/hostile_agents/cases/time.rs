//! Agents that take their time.

use std::time::Duration;

use super::Expected::{Accepted, Refused, Unreachable};
use super::Spends::{Signatures, Talk};
use super::{Case, Place, case, many};
use crate::agent::FAILURE;
use crate::script::{Agent, Asked, Identity};

const NO_ANSWER: &str = "no answer in time";
const SIGNED_TOO_LATE: &str = "agent: no answer in time";

/// Between two bytes: too long for some hundred bytes in three seconds.
const CRAWL: Duration = Duration::from_millis(50);
/// Not too long.
const WALK: Duration = Duration::from_micros(200);

pub fn cases() -> Vec<Case> {
    vec![
        case("eight keys of which none ever signs", Refused("agent: no answer in time (and 8 more tried)"), |kit| {
            Agent::with(many::behind_liars(kit, 8)).at_signing(|talk, _| talk.hang())
        })
        .until(Signatures(8)),
        case("three keys that never sign before the good one", Accepted, |kit| {
            Agent::with(many::behind_liars(kit, 3)).at_signing(|talk, ask| {
                let is_good = Asked::of(ask.request).blob == ask.agent.identities[3].blob;
                if is_good { talk.answer(&ask.honest) } else { talk.hang() }
            })
        })
        .until(Signatures(3)),
        case("mute", Unreachable(NO_ANSWER), |kit| Agent::good(kit).at_once(|talk, _| talk.hang())).until(Talk),
        case("accepts nobody, and its queue is full", Unreachable("no connection in time"), Agent::good)
            .at(Place::FullQueue)
            .until(Talk),
        case("frozen before it was asked", Unreachable(NO_ANSWER), Agent::good).at(Place::Frozen).until(Talk),
        case("frozen in the middle of its listing", Unreachable(NO_ANSWER), |kit| {
            Agent::good(kit).at_listing(|talk, ask| {
                talk.answer_of(u32::try_from(ask.honest.len()).unwrap(), &ask.honest[..ask.honest.len() / 2])?;
                talk.freeze()
            })
        })
        .until(Talk),
        case("frozen after its listing", Refused(SIGNED_TOO_LATE), |kit| {
            Agent::good(kit).at_signing(|talk, _| talk.freeze())
        })
        .until(Signatures(1)),
        case("frozen in the middle of its signature", Refused(SIGNED_TOO_LATE), |kit| {
            Agent::good(kit).at_signing(|talk, ask| {
                talk.answer_of(u32::try_from(ask.honest.len()).unwrap(), &ask.honest[..ask.honest.len() - 1])?;
                talk.freeze()
            })
        })
        .until(Signatures(1)),
        case("lists byte by byte, in time", Accepted, |kit| {
            Agent::good(kit).at_listing(|talk, ask| talk.answer_slowly(&ask.honest, WALK))
        }),
        case("lists byte by byte, too slowly", Unreachable(NO_ANSWER), |kit| {
            Agent::good(kit).at_listing(|talk, ask| talk.answer_slowly(&ask.honest, CRAWL))
        })
        .until(Talk),
        case("signs byte by byte, in time", Accepted, |kit| {
            Agent::good(kit).at_signing(|talk, ask| talk.answer_slowly(&ask.honest, WALK))
        }),
        case("signs byte by byte, too slowly", Refused(SIGNED_TOO_LATE), |kit| {
            Agent::good(kit).at_signing(|talk, ask| talk.answer_slowly(&ask.honest, CRAWL))
        })
        .until(Signatures(1)),
        case("a listing of the greatest length that never ends", Unreachable(NO_ANSWER), |kit| {
            Agent::good(kit).at_listing(|talk, _| {
                talk.answer_of(256 * 1024, &[12])?;
                talk.answer_slowly(&[0; 64 * 1024], CRAWL)
            })
        })
        .until(Talk),
        case("says that it takes challenges in clear, and answers none", Refused(SIGNED_TOO_LATE), |kit| {
            Agent::with(vec![Identity::good(kit).comment("x challenge@ussh")]).at_challenge(|talk, _| talk.hang())
        })
        .until(Signatures(1)),
        case("knows no challenge in clear, and never signs either", Refused(SIGNED_TOO_LATE), |kit| {
            Agent::with(vec![Identity::good(kit).comment("x challenge@ussh")])
                .at_challenge(|talk, _| talk.answer(&[FAILURE]))
                .at_signing(|talk, _| talk.hang())
        })
        .until(Signatures(1)),
        case("signs well, a moment too late", Refused(SIGNED_TOO_LATE), |kit| {
            Agent::good(kit).at_signing(|talk, ask| {
                std::thread::sleep(Duration::from_secs(3));
                talk.answer(&ask.honest)
            })
        })
        .until(Signatures(1)),
    ]
}
