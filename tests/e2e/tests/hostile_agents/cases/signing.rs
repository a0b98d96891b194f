//! Agents that misbehave when they are to sign, or are told a challenge in clear.

use std::net::Shutdown;

use super::Expected::{Accepted, Refused};
use super::{Case, case};
use crate::agent::{FAILURE, REQUEST_IDENTITIES, SIGN_RESPONSE};
use crate::kit::USER_KEY;
use crate::script::{Agent, Ask, CHALLENGE, EXTENSION_RESPONSE, Identity, Over, SUCCESS, Talk, message, sshsig};

const MALFORMED: &str = "agent: malformed answer";
const TOO_LARGE: &str = "agent: message too large";
const REFUSED: &str = "the agent refused to sign";
const CLOSED: &str = "agent: connection: closed by the agent";
const BAD: &str = "challenge: bad signature";

/// A good identity, and this instead of its signature.
fn signs(
    name: &'static str,
    why: &'static str,
    step: impl Fn(&mut Talk, &[u8]) -> Result<(), Over> + Copy + Send + Sync + 'static,
) -> Case {
    case(name, Refused(why), move |kit| Agent::good(kit).at_signing(move |talk, ask| step(talk, &ask.honest)))
}

/// A good identity that takes challenges in clear, and this instead of its answer.
fn answers(
    name: &'static str,
    why: &'static str,
    step: impl Fn(&mut Talk, &Ask<'_>) -> Result<(), Over> + Copy + Send + Sync + 'static,
) -> Case {
    case(name, Refused(why), move |kit| {
        Agent::with(vec![Identity::good(kit).comment("x challenge@ussh")]).at_challenge(step)
    })
}

/// Answers a challenge with the signature of this, by the right key.
fn with_signature_of(talk: &mut Talk, ask: &Ask<'_>, data: &[u8]) -> Result<(), Over> {
    let signature = ask.agent.identities[0].key.sign(data);
    talk.answer(&message(EXTENSION_RESPONSE, &[CHALLENGE, &signature]))
}

pub fn cases() -> Vec<Case> {
    let mut all = vec![
        signs("a signature of no length", MALFORMED, |talk, _| talk.answer(&[])),
        signs("a signature of the length u32::MAX", TOO_LARGE, |talk, honest| talk.answer_of(u32::MAX, honest)),
        signs("a signature of one byte more than 256 KiB", TOO_LARGE, |talk, honest| {
            talk.answer(&[honest, &vec![0; 256 * 1024 + 1 - honest.len()]].concat())
        }),
        signs("FAILURE for a signature", REFUSED, |talk, _| talk.answer(&[FAILURE])),
        signs("an extension's failure for a signature", REFUSED, |talk, _| talk.answer(&[28])),
        signs("SUCCESS for a signature", MALFORMED, |talk, _| talk.answer(&[SUCCESS])),
        signs("a number that nobody knows for a signature", MALFORMED, |talk, honest| {
            talk.answer(&[&[200], &honest[1..]].concat())
        }),
        signs("the answer to a challenge for a signature", MALFORMED, |talk, honest| {
            talk.answer(&[&message(EXTENSION_RESPONSE, &[CHALLENGE])[..], &honest[1..]].concat())
        }),
        signs("nothing but the number of a signature", MALFORMED, |talk, honest| talk.answer(&honest[..1])),
        signs("a signature that is cut", MALFORMED, |talk, honest| talk.answer(&honest[..honest.len() - 1])),
        signs("a byte behind a signature's string", MALFORMED, |talk, honest| talk.answer(&[honest, &[0]].concat())),
        signs("closes when it is to sign", CLOSED, |_, _| Err(Over)),
        signs("closes in a signature's length", CLOSED, |talk, _| {
            talk.send(&[0, 0])?;
            Err(Over)
        }),
        signs("closes after a signature's length", CLOSED, |talk, honest| {
            talk.answer_of(u32::try_from(honest.len()).unwrap(), &[])?;
            Err(Over)
        }),
        signs("closes in a signature", CLOSED, |talk, honest| {
            talk.answer_of(u32::try_from(honest.len()).unwrap(), &honest[..honest.len() - 1])?;
            Err(Over)
        }),
        signs("shuts down its writing when it is to sign", CLOSED, |talk, _| {
            talk.shut_down(Shutdown::Write)?;
            talk.hang()
        }),
        case("closes after its listing", Refused("agent: connection: *"), |kit| {
            Agent::good(kit).at_listing(|talk, ask| {
                talk.answer(&ask.honest)?;
                Err(Over)
            })
        }),
        case(
            "closes with the request for a signature unread",
            Refused("agent: connection: Connection reset by peer (os error 104)"),
            |kit| {
                Agent::good(kit).at_listing(|talk, ask| {
                    talk.answer(&ask.honest)?;
                    talk.reset()
                })
            },
        ),
        case(
            "shuts down its reading with its listing",
            Refused("agent: connection: Broken pipe (os error 32)"),
            |kit| {
                Agent::good(kit).at_listing(|talk, ask| {
                    talk.shut_down(Shutdown::Read)?;
                    talk.answer(&ask.honest)?;
                    std::thread::park();
                    Err(Over)
                })
            },
        ),
        case("a listing for a signature", Refused(MALFORMED), |kit| {
            Agent::good(kit).at_signing(|talk, ask| talk.answer(&ask.agent.listing()))
        }),
    ];
    all.extend([
        case("takes challenges in clear, and is honest", Accepted, |kit| {
            let refuses = |talk: &mut Talk, _: &Ask<'_>| talk.answer(&[FAILURE]);
            Agent::with(vec![Identity::good(kit).comment("x challenge@ussh")]).at_signing(refuses)
        }),
        case("says that it takes challenges in clear, and does not know them", Accepted, |kit| {
            Agent::with(vec![Identity::good(kit).comment("x challenge@ussh")])
                .at_challenge(|talk, _| talk.answer(&[FAILURE]))
        }),
        answers("to a challenge: its own refusal", REFUSED, |talk, _| talk.answer(&[28])),
        answers("to a challenge: SUCCESS", MALFORMED, |talk, _| talk.answer(&[SUCCESS])),
        answers("to a challenge: a listing", MALFORMED, |talk, ask| talk.answer(&ask.agent.listing())),
        answers("to a challenge: a request", MALFORMED, |talk, _| talk.answer(&[REQUEST_IDENTITIES])),
        answers("to a challenge: a good signature in the answer to another question", MALFORMED, |talk, ask| {
            let signature = ask.agent.identities[0].key.sign(&sshsig(&ask.data()));
            talk.answer(&message(SIGN_RESPONSE, &[&signature]))
        }),
        answers("to a challenge: a good signature under another extension's name", MALFORMED, |talk, ask| {
            let signature = ask.agent.identities[0].key.sign(&sshsig(&ask.data()));
            talk.answer(&message(EXTENSION_RESPONSE, &[b"session-bind@openssh.com", &signature]))
        }),
        answers("to a challenge: a byte behind a good signature", MALFORMED, |talk, ask| {
            talk.answer(&[&ask.honest[..], &[0]].concat())
        }),
        answers("to a challenge: success with nothing", BAD, |talk, _| {
            talk.answer(&message(EXTENSION_RESPONSE, &[CHALLENGE, b""]))
        }),
        answers("to a challenge: success with garbage", BAD, |talk, _| {
            talk.answer(&message(EXTENSION_RESPONSE, &[CHALLENGE, &[0x5a; 1000]]))
        }),
        answers("to a challenge: a signature over the message itself", BAD, |talk, ask| {
            with_signature_of(talk, ask, &ask.data())
        }),
        answers("to a challenge: a signature over an SSHSIG of the SSHSIG", BAD, |talk, ask| {
            with_signature_of(talk, ask, &sshsig(&sshsig(&ask.data())))
        }),
        answers("to a challenge: a signature over a message with another nonce", BAD, |talk, ask| {
            // Version and length of the nonce come before it.
            let mut message = ask.data();
            message[5] ^= 1;
            with_signature_of(talk, ask, &sshsig(&message))
        }),
        answers("to a challenge: a signature over a message of another time", BAD, |talk, ask| {
            let mut message = ask.data();
            let last = message.len() - 1;
            message[last] ^= 1;
            with_signature_of(talk, ask, &sshsig(&message))
        }),
        case("a signature over an SSHSIG of what was to be signed", Refused(BAD), |kit| {
            let key = kit.key(USER_KEY);
            Agent::good(kit)
                .at_signing(move |talk, ask| talk.answer(&message(SIGN_RESPONSE, &[&key.sign(&sshsig(&ask.data()))])))
        }),
    ]);
    all
}
