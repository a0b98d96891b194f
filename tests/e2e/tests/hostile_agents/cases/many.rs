//! Agents that hold much: identities, comments, lies.

use super::Expected::{Accepted, Forged, NoCertificate, Refused, Unreachable};
use super::{Case, Spends, case};
use crate::agent::{FAILURE, SIGN_RESPONSE};
use crate::kit::{CA, Kit, OTHER_KEY, ROGUE_CA, SLOW_CA, USER_KEY};
use crate::script::{Agent, Asked, Identity, Over, message};
use crate::wire::{string, strings};

/// Longest listing, bytes, less what a count and a number take.
const ROOM: usize = 256 * 1024 - 5;

/// A good identity, and before it so many with newer certificates, which are challenged first, and for which another key signs.
pub fn behind_liars(kit: &Kit, count: u64) -> Vec<Identity> {
    let mut all: Vec<Identity> =
        (0..count).map(|number| newer(kit, number, |blob| Identity::of(blob, kit.key(OTHER_KEY)))).collect();
    all.push(Identity::good(kit));
    all
}

/// A certificate that is newer than the good one.
fn newer(kit: &Kit, number: u64, identity: impl Fn(Vec<u8>) -> Identity) -> Identity {
    let mut certificate = kit.certificate(USER_KEY);
    certificate.serial = 1000 + number;
    certificate.valid_after += 60;
    identity(kit.issue(&certificate))
}

/// A good certificate so long.
fn of_length(kit: &Kit, length: usize) -> Identity {
    let issue = |padding: usize| {
        let padded = kit.certificate(USER_KEY).extension(b"x@example.com", &vec![7; padding]);
        Identity::of(kit.issue(&padded), kit.key(USER_KEY))
    };
    issue(length - issue(0).blob.len())
}

/// As many identities as a listing has room for before the good one, made of their numbers.
fn full(kit: &Kit, most: u64, identity: impl Fn(u64) -> Identity) -> Vec<Identity> {
    let size = |identity: &Identity| 8 + identity.blob.len() + identity.comment.len();
    let good = Identity::good(kit);
    let mut room = ROOM - size(&good);
    let mut all = Vec::new();
    for number in 0..most {
        let one = identity(number);
        if size(&one) > room {
            break;
        }
        room -= size(&one);
        all.push(one);
    }
    all.push(good);
    all
}

pub fn cases() -> Vec<Case> {
    vec![
        case("2,048 identities, the last one good", Accepted, |kit| {
            let plain = Identity::of(kit.key(OTHER_KEY).blob(), kit.key(OTHER_KEY));
            let all = full(kit, 2047, |_| plain.clone());
            assert_eq!(all.len(), 2048);
            Agent::with(all)
        }),
        case("2,049 identities, the last one good", Unreachable("message too large"), |kit| {
            let plain = Identity::of(kit.key(OTHER_KEY).blob(), kit.key(OTHER_KEY));
            let all = full(kit, 2048, |_| plain.clone());
            assert_eq!(all.len(), 2049);
            Agent::with(all)
        }),
        case("2,048 identities of nothing", NoCertificate, |kit| {
            let nothing = Identity::of(Vec::new(), kit.key(OTHER_KEY)).comment("");
            Agent::with(vec![nothing; 2048])
        }),
        case("identities that call themselves certificates and are none, before the good one", Accepted, |kit| {
            let good = Identity::good(kit).blob;
            let odd = move |number: u64| {
                let cut = usize::try_from(number).unwrap() % good.len();
                let name: &[u8] = b"ssh-ed25519-cert-v01@openssh.com";
                match number % 4 {
                    0 => good[..cut].to_vec(),
                    1 => [&good[..], &vec![0; 1 + cut]].concat(),
                    2 => strings(&[name, &[255; 40]]),
                    _ => [string(name), vec![255; cut]].concat(),
                }
            };
            Agent::with(full(kit, 2047, |number| Identity::of(odd(number), kit.key(OTHER_KEY))))
        })
        .holding_much(),
        case("a certificate in a certificate's place for a key, before the good one", Accepted, |kit| {
            let mut nested = kit.certificate(USER_KEY);
            nested.key_fields = Identity::good(kit).blob;
            let mut authority = kit.certificate(USER_KEY);
            authority.ca = Some(Identity::good(kit).blob);
            let odd = [nested, authority].map(|certificate| Identity::of(kit.issue(&certificate), kit.key(OTHER_KEY)));
            Agent::with([&odd[..], &[Identity::good(kit)]].concat())
        }),
        case("certificates of a CA that nobody trusts, before the good one", Accepted, |kit| {
            Agent::with(full(kit, 2047, |number| {
                let mut certificate = kit.certificate(USER_KEY);
                certificate.serial = 1000 + number;
                Identity::of(certificate.sign(&kit.key(ROGUE_CA)), kit.key(USER_KEY))
            }))
        })
        .holding_much(),
        case("certificates that name the CA, and that another one signed, before the good one", Accepted, |kit| {
            let (ca, rogue) = (kit.key(CA), kit.key(ROGUE_CA));
            Agent::with(full(kit, 2047, |number| {
                let mut certificate = kit.certificate(USER_KEY);
                certificate.serial = 1000 + number;
                certificate.valid_after += 60;
                Identity::of(certificate.sign_with(&ca.blob(), |body| rogue.sign(body)), kit.key(USER_KEY))
            }))
        })
        .holding_much(),
        case(
            "certificates that name the CA, that another one signed, and nothing else",
            Forged("CA signature: bad signature (and *"),
            |kit| {
                let (ca, rogue) = (kit.key(CA), kit.key(ROGUE_CA));
                let forged = (0..20).map(|number| {
                    let mut certificate = kit.certificate(USER_KEY);
                    certificate.serial = number;
                    Identity::of(certificate.sign_with(&ca.blob(), |body| rogue.sign(body)), kit.key(USER_KEY))
                });
                Agent::with(forged.collect())
            },
        ),
        case("a certificate of a CA that nobody trusts", Refused("CA SHA256:*"), |kit| {
            let rogue = kit.certificate(USER_KEY).sign(&kit.key(ROGUE_CA));
            Agent::with(vec![Identity::of(rogue, kit.key(USER_KEY))])
        }),
        case("certificates that name a CA whose signatures are slow to verify, before the good one", Accepted, |kit| {
            let (ca, forged) = (kit.key(SLOW_CA), kit.key("ecdsa-521").sign(b"forged"));
            Agent::with(full(kit, 2047, |number| {
                let mut certificate = kit.certificate(USER_KEY);
                certificate.serial = 1000 + number;
                certificate.valid_after += 60;
                Identity::of(certificate.sign_with(&ca.blob(), |_| forged.clone()), kit.key(USER_KEY))
            }))
        })
        .holding_much(),
        case(
            "one certificate as often as there is room, and no signature",
            Refused("the agent refused to sign"),
            |kit| {
                let good = Identity::good(kit);
                Agent::with(full(kit, 2047, |_| good.clone())).at_signing(|talk, _| talk.answer(&[FAILURE]))
            },
        ),
        case("a good certificate of 240,000 bytes", Accepted, |kit| Agent::with(vec![of_length(kit, 240_000)]))
            .holding_much(),
        case(
            "a good certificate of 240,000 bytes, and a request for its signature that nobody reads",
            Refused("agent: no answer in time"),
            |kit| {
                Agent::with(vec![of_length(kit, 240_000)]).at_listing(|talk, ask| {
                    talk.answer(&ask.honest)?;
                    loop {
                        std::thread::park();
                    }
                })
            },
        )
        .until(Spends::Signatures(1))
        .holding_much(),
        case(
            "a good certificate that leaves no room for the request for its signature",
            Refused("agent: message too large"),
            |kit| Agent::with(vec![of_length(kit, ROOM - 8 - b"hostile".len())]),
        )
        .holding_much(),
        case("a comment of 250,000 control characters", Accepted, |kit| {
            Agent::with(vec![Identity::good(kit).comment("\u{1b}]0;x\u{7}\n\0".repeat(250_000 / 8))])
        }),
        case("garbage for a newer certificate, and a good signature for the older", Accepted, |kit| {
            let other = kit.key(OTHER_KEY);
            Agent::with(behind_liars(kit, 1)).at_signing(move |talk, ask| {
                let is_good = Asked::of(ask.request).blob == ask.agent.identities[1].blob;
                let garbage = message(SIGN_RESPONSE, &[&other.blob()]);
                talk.answer(if is_good { &ask.honest } else { &garbage })
            })
        }),
        case("seven liars before the good one", Accepted, |kit| Agent::with(behind_liars(kit, 7))),
        case("eight liars before the good one", Refused("challenge: bad signature (and 8 more tried)"), |kit| {
            Agent::with(behind_liars(kit, 8))
        }),
        case("as many liars as there is room for", Refused("challenge: bad signature (and *"), |kit| {
            Agent::with(full(kit, 2047, |number| newer(kit, number, |blob| Identity::of(blob, kit.key(OTHER_KEY)))))
        })
        .holding_much(),
        case("liars that close, before the good one", Accepted, |kit| {
            Agent::with(behind_liars(kit, 7)).at_signing(|talk, ask| {
                let is_good = Asked::of(ask.request).blob == ask.agent.identities[7].blob;
                if is_good { talk.answer(&ask.honest) } else { Err(Over) }
            })
        }),
    ]
}
