//! Hosts, by way of a front: one nonce a connection, and one proof over it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use ussh_core::enroll::{Claims, NONCE_LEN, Proof, Proven, Verb};
use ussh_core::keys::PublicKey;
use usshca_ipc::front::FromSigner;
use usshca_ipc::host::{HostAnswer, HostAsk};

use super::Server;
use crate::ca::HostGrant;
use crate::log;
use crate::refused::Refused;

/// How long a nonce is good.
const NONCE_LIFE: Duration = Duration::from_secs(60);
/// Refusals within [`GUESS_SPAN`] before whoever they are counted for is not listened to any more.
const MAX_REFUSALS: u32 = 20;
/// How long refusals count.
const GUESS_SPAN: Duration = Duration::from_secs(600);
/// Most that are counted; with more, the one whose first refusal is longest ago is forgotten.
const MAX_COUNTED: usize = 4096;
/// Bytes of a KRL in one message: a multiple of 3, so that its base64 is in pieces too.
const KRL_PIECE: usize = 96 * 1024;

/// Where a connection's host is.
#[derive(Default)]
pub enum HostState {
    /// It said nothing.
    #[default]
    Nothing,
    /// It has its nonce.
    Challenged { verb: Verb, nonce: [u8; NONCE_LEN], since: Instant },
    /// It had its one try.
    Done,
}

/// Whom refusals are counted for. Not an address alone: behind one many hosts and people may be, and whoever sends rubbish from there must keep none of them out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whom {
    /// A key that a host has, by its fingerprint; or the key of a token that can be used. Both were proved.
    Known(String),
    /// All at this address who proved nothing that the CA knows.
    Strangers(IpAddr),
}

/// Refusals. They limit what somebody can fill log and inventory with: a key or a token is not guessed.
#[derive(Default)]
pub struct Refusals(BTreeMap<Whom, (Instant, u32)>);

impl Refusals {
    fn is_over(&self, whom: &Whom, now: Instant) -> bool {
        let recent = self.0.get(whom).filter(|(first, _)| now.duration_since(*first) < GUESS_SPAN);
        recent.is_some_and(|(_, count)| *count >= MAX_REFUSALS)
    }

    fn count(&mut self, whom: Whom, now: Instant) {
        self.0.retain(|_, (first, _)| now.duration_since(*first) < GUESS_SPAN);
        if self.0.len() >= MAX_COUNTED
            && let Some(oldest) = self.0.iter().min_by_key(|(_, (first, _))| *first).map(|(whom, _)| whom.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.entry(whom).or_insert((now, 0)).1 += 1;
    }
}

/// Of IPv6 the /64: whoever has one address of it has them all.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Server {
    pub(super) fn on_host(&mut self, connection: u64, ask: HostAsk) {
        match ask {
            HostAsk::Hello { verb } => self.challenge_host(connection, verb),
            HostAsk::Prove(proof) => self.prove_host(connection, &proof),
        }
    }

    fn challenge_host(&mut self, connection: u64, verb: Verb) {
        let Some(front) = self.fronts.get_mut(&connection) else {
            return;
        };
        if !matches!(front.host, HostState::Nothing) {
            return self.misbehaved(connection, "asks for a second nonce for a host");
        }
        front.host = HostState::Done;
        let mut nonce = [0; NONCE_LEN];
        if getrandom::fill(&mut nonce).is_err() {
            log::warning("no random numbers for a nonce");
            let message = "The CA has no random numbers at the moment. Try again later.";
            return self.refuse_host(connection, message.to_owned());
        }
        if let Some(front) = self.fronts.get_mut(&connection) {
            front.host = HostState::Challenged { verb, nonce, since: Instant::now() };
        }
        self.tell(connection, &FromSigner::Host(HostAnswer::Nonce { nonce }));
    }

    fn prove_host(&mut self, connection: u64, proof: &Proof) {
        let Some(front) = self.fronts.get_mut(&connection) else {
            return;
        };
        // Taken, whatever comes of it: one nonce, one try.
        let HostState::Challenged { verb, nonce, since } = std::mem::replace(&mut front.host, HostState::Done) else {
            return self.misbehaved(connection, "brings a host's proof for which there is no nonce");
        };
        let peer = front.peer;
        if since.elapsed() > NONCE_LIFE {
            return self.refuse_host(connection, "It took too long. Try again.".to_owned());
        }
        let claims = Claims { verb, nonce: &nonce, names: &proof.names };
        let proven = match claims.verify(proof) {
            Ok(proven) => proven,
            Err(e) => {
                // A supervisor that hears of it lets no user at this address pay for it.
                self.served(connection);
                let (whom, now) = (Whom::Strangers(network(peer.ip())), Instant::now());
                if !self.refusals.is_over(&whom, now) {
                    log::warning(&format!("Refusing {} to a host from {}: {e}", verb.name(), peer.ip()));
                }
                self.refusals.count(whom, now);
                return self.refuse_host(connection, format!("The CA does not take this proof: {e}."));
            }
        };
        let whom = self.whom(&proven, peer.ip());
        if self.refusals.is_over(&whom, Instant::now()) {
            self.served(connection);
            let message = match whom {
                Whom::Known(_) => "Too much was refused to this host. Wait ten minutes.",
                Whom::Strangers(_) => {
                    "Too many hosts that the CA does not know were refused at your address. Wait ten minutes."
                }
            };
            return self.refuse_host(connection, message.to_owned());
        }
        match self.answer_host(verb, &proven, &nonce, peer) {
            Ok(answers) => {
                self.tell_logged_in(connection);
                for answer in &answers {
                    self.remember_host(connection, answer);
                }
                // A list of many pieces would not fit into the socket: the front asks for each of the others.
                if let Some(front) = self.fronts.get_mut(&connection) {
                    front.rest = answers.into_iter().map(FromSigner::Host).collect();
                }
                self.more(connection);
            }
            Err(refused) => {
                self.served(connection);
                self.refusals.count(whom, Instant::now());
                self.refuse_host(connection, refused.for_host());
            }
        }
    }

    /// An inventory that cannot be read knows nobody.
    fn whom(&self, proven: &Proven, source: IpAddr) -> Whom {
        let token = proven.token().filter(|token| self.ca.knows_host_token(token)).map(str::to_owned);
        let key = || proven.keys().first().map(PublicKey::fingerprint).filter(|key| self.ca.knows_host_key(key));
        token.or_else(key).map_or_else(|| Whom::Strangers(network(source)), Whom::Known)
    }

    fn answer_host(
        &mut self,
        verb: Verb,
        proven: &Proven,
        nonce: &[u8; NONCE_LEN],
        peer: SocketAddr,
    ) -> Result<Vec<HostAnswer>, Refused> {
        let granted = |HostGrant { grant, serials }| vec![HostAnswer::Granted { grant: Box::new(grant), serials }];
        match verb {
            Verb::Enroll => self.ca.enroll(proven, nonce, peer).map(granted),
            Verb::Renew => self.ca.renew(proven, nonce, peer).map(granted),
            Verb::Report => {
                let (host, valid_before) = self.ca.report(proven, peer)?;
                Ok(vec![HostAnswer::Reported { host, valid_before }])
            }
            Verb::BreakGlass => {
                let (host, valid_before) = self.ca.record_break_glass(proven, peer)?;
                Ok(vec![HostAnswer::Reported { host, valid_before }])
            }
            Verb::Krl => {
                let krl = self.ca.krl_for_host(proven, peer)?;
                let count = krl.len().div_ceil(KRL_PIECE);
                let pieces = krl.chunks(KRL_PIECE).zip(1..);
                Ok(pieces.map(|(piece, n)| HostAnswer::Krl { chunk: piece.to_vec(), more: n < count }).collect())
            }
        }
    }

    /// Certificates whose outcome this front is to tell.
    fn remember_host(&mut self, connection: u64, answer: &HostAnswer) {
        if let HostAnswer::Granted { serials, .. } = answer
            && let Some(front) = self.fronts.get_mut(&connection)
        {
            front.open.extend(serials.iter().map(|serial| (*serial, String::new())));
        }
    }

    fn refuse_host(&mut self, connection: u64, message: String) {
        self.tell(connection, &FromSigner::Host(HostAnswer::Refused { message }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_at_an_address_that_were_refused_too_often_are_not_listened_to_for_a_while_and_known_keys_are() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        let at = |address: IpAddr| Whom::Strangers(network(address));
        let v4 = at(IpAddr::from([192, 0, 2, 1]));
        let v6 = |last| at(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]));
        let known = Whom::Known("SHA256:x".to_owned());
        for n in 0..MAX_REFUSALS {
            assert!(!refusals.is_over(&v4, start) && !refusals.is_over(&v6(0), start));
            refusals.count(v4.clone(), start);
            refusals.count(v6(u16::try_from(n).unwrap_or(0)), start);
        }
        assert!(refusals.is_over(&v4, start) && refusals.is_over(&v6(9), start));
        assert!(refusals.is_over(&at(IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201])), start));
        assert!(!refusals.is_over(&at(IpAddr::from([192, 0, 2, 2])), start) && !refusals.is_over(&known, start));
        assert!(!refusals.is_over(&v4, start + GUESS_SPAN));
        refusals.count(v4.clone(), start + GUESS_SPAN);
        assert!(!refusals.is_over(&v4, start + GUESS_SPAN));
    }

    #[test]
    fn sources_that_are_counted_are_bounded() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        let at = |n: usize| Whom::Strangers(IpAddr::from(u32::try_from(n).unwrap_or(0).to_be_bytes()));
        for n in 0..=MAX_COUNTED {
            refusals.count(at(n), start + Duration::from_millis(n as u64));
        }
        assert_eq!(refusals.0.len(), MAX_COUNTED);
        assert!(!refusals.0.contains_key(&at(0)));
    }
}
