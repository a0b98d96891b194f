//! Agents that misbehave when they are to list.

use std::net::Shutdown;

use super::Expected::{Accepted, NoCertificate, Unreachable};
use super::{Case, case};
use crate::agent::{FAILURE, IDENTITIES_ANSWER, REQUEST_IDENTITIES, SIGN_RESPONSE};
use crate::script::{Agent, CHALLENGE, EXTENSION_RESPONSE, Over, SUCCESS, Talk, counting, message};

const MALFORMED: &str = "malformed answer";
const TOO_LARGE: &str = "message too large";
const REFUSED: &str = "the agent refused";
const CLOSED: &str = "connection: closed by the agent";

/// A good identity, and this instead of the listing of it.
fn lists(
    name: &'static str,
    why: &'static str,
    step: impl Fn(&mut Talk, &[u8]) -> Result<(), Over> + Copy + Send + Sync + 'static,
) -> Case {
    case(name, Unreachable(why), move |kit| Agent::good(kit).at_listing(move |talk, ask| step(talk, &ask.honest)))
}

pub fn cases() -> Vec<Case> {
    let mut all = vec![
        lists("a listing of no length", MALFORMED, |talk, _| talk.answer(&[])),
        lists("a listing of the length u32::MAX", TOO_LARGE, |talk, honest| talk.answer_of(u32::MAX, honest)),
        lists("a listing of the length u32::MAX that never ends", TOO_LARGE, |talk, _| {
            talk.answer_of(u32::MAX, &[IDENTITIES_ANSWER])?;
            talk.send_for_ever(&[0; 65536])
        }),
        lists("a listing of one byte more than 256 KiB", TOO_LARGE, |talk, honest| {
            talk.answer(&[honest, &vec![0; 256 * 1024 + 1 - honest.len()]].concat())
        }),
        lists("a listing of FAILURE", REFUSED, |talk, _| talk.answer(&[FAILURE])),
        lists("a listing of FAILURE with something behind it", REFUSED, |talk, honest| {
            talk.answer(&[&[FAILURE], honest].concat())
        }),
        lists("a listing of an old agent's failure", REFUSED, |talk, _| talk.answer(&[102])),
        lists("SUCCESS instead of a listing", MALFORMED, |talk, _| talk.answer(&[SUCCESS])),
        lists("a signature instead of a listing", MALFORMED, |talk, honest| {
            talk.answer(&message(SIGN_RESPONSE, &[honest]))
        }),
        lists("the answer to a challenge instead of a listing", MALFORMED, |talk, honest| {
            talk.answer(&message(EXTENSION_RESPONSE, &[CHALLENGE, honest]))
        }),
        lists("the request instead of a listing", MALFORMED, |talk, _| talk.answer(&[REQUEST_IDENTITIES])),
        lists("a listing of the number 255", MALFORMED, |talk, honest| talk.answer(&[&[255], &honest[1..]].concat())),
        lists("a listing without a count", MALFORMED, |talk, honest| talk.answer(&honest[..1])),
        lists("a listing with half a count", MALFORMED, |talk, honest| talk.answer(&honest[..3])),
        lists("a listing that ends in a blob's length", MALFORMED, |talk, honest| talk.answer(&honest[..7])),
        lists("a listing that ends in a blob", MALFORMED, |talk, honest| talk.answer(&honest[..100])),
        lists("a listing that ends before a comment", MALFORMED, |talk, honest| {
            // Length and text of `hostile`.
            talk.answer(&honest[..honest.len() - 11])
        }),
        lists("a listing that ends in a comment", MALFORMED, |talk, honest| talk.answer(&honest[..honest.len() - 1])),
        lists("a listing that counts one more than it holds", MALFORMED, |talk, honest| {
            talk.answer(&counting(2, honest))
        }),
        lists("a listing that counts 2,048 and holds one", MALFORMED, |talk, honest| {
            talk.answer(&counting(2048, honest))
        }),
        lists("a listing that counts 2,049", TOO_LARGE, |talk, honest| talk.answer(&counting(2049, honest))),
        lists("a listing that counts u32::MAX", TOO_LARGE, |talk, honest| talk.answer(&counting(u32::MAX, honest))),
        lists("a blob of the length u32::MAX", MALFORMED, |talk, honest| {
            talk.answer(&[&honest[..5], &[255; 4], &honest[9..]].concat())
        }),
        lists("closes when it is to list", CLOSED, |_, _| Err(Over)),
        lists("closes in a listing's length", CLOSED, |talk, honest| {
            talk.send(&u32::try_from(honest.len()).unwrap().to_be_bytes()[..3])?;
            Err(Over)
        }),
        lists("closes after a listing's length", CLOSED, |talk, honest| {
            talk.answer_of(u32::try_from(honest.len()).unwrap(), &[])?;
            Err(Over)
        }),
        lists("closes in a listing", CLOSED, |talk, honest| {
            talk.answer_of(u32::try_from(honest.len()).unwrap(), &honest[..honest.len() - 1])?;
            Err(Over)
        }),
        lists("zeros for ever", MALFORMED, |talk, _| talk.send_for_ever(&[0; 4096])),
    ];
    all.extend([
        case("closes at once", Unreachable("connection: *"), |kit| Agent::good(kit).at_once(|_, _| Err(Over))),
        case(
            "closes with the request unread",
            Unreachable("connection: Connection reset by peer (os error 104)"),
            |kit| Agent::good(kit).at_once(|talk, _| talk.reset()),
        ),
        case("shuts down its writing at once", Unreachable(CLOSED), |kit| {
            Agent::good(kit).at_once(|talk, _| talk.shut_down(Shutdown::Write))
        }),
        case("a listing that counts none and holds one", NoCertificate, |kit| {
            Agent::good(kit).at_listing(|talk, ask| talk.answer(&counting(0, &ask.honest)))
        }),
        // As ssh does (authfd.c ssh_fetch_identitylist).
        case("bytes behind the last identity", Accepted, |kit| {
            Agent::good(kit).at_listing(|talk, ask| talk.answer(&[&ask.honest[..], &[255; 1000]].concat()))
        }),
        case("a listing of 256 KiB, the last identity good", Accepted, |kit| {
            Agent::good(kit).at_listing(|talk, ask| {
                talk.answer(&[&ask.honest[..], &vec![255; 256 * 1024 - ask.honest.len()]].concat())
            })
        }),
    ]);
    all
}
