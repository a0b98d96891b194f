//! Fronts: what one connection's asks for, and what it is answered. A worker's statement lets it ask for one certificate: see `workers`.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use ussh_core::agent::injected_comment;
use ussh_core::escape::{MAX_FIELD, escape};
use ussh_core::keys::PublicKey;
use ussh_os::seqpacket::SeqPacket;
use usshca_ipc::channel::{Channel, ChannelError};
use usshca_ipc::front::{
    Delivery, Ending, FromSigner, MAX_FAILED_PROOFS, MAX_REASON, MAX_TYPED, MAX_WISHED, MAX_WISHES, ToSigner, Wish,
};
use usshca_ipc::worker::PamRefusal;

use super::hosts::HostState;
use super::proofs::Asked;
use super::refused_logins::{Reason, Refusal, Tried};
use super::turn::Asking;
use super::workers::{Announced, Trust};
use super::{Flow, Heard, Server, hear};
use crate::ca::{IssuedUser, OutcomeOf, Passed};
use crate::inventory::{InventoryError, Outcome};
use crate::log;
use crate::policy::{MAX_NAME, Mode, Proofs};
use crate::refused::Refused;

/// How long a statement is good for an issue.
pub(super) const STATEMENT_LIFE: Duration = Duration::from_secs(60);
/// Most bytes of a feed in one answer.
const FEED_CHUNK: usize = 64 * 1024;
/// So many feeds may be asked for on one connection: a front begins anew when another version comes in between.
const MAX_FEEDS: usize = 16;

/// A front gives up a second before its time to log in is over, so that it can still say so; seconds of the announcement are cut off.
const SLACK: Duration = Duration::from_secs(3);

/// Why nobody knows whether a certificate was delivered.
const LOST: &str = "the connection ended before the delivery was confirmed";

/// One connection's front. Untrusted.
pub struct Front {
    channel: Channel<FromSigner, ToSigner>,
    /// The supervisor's getpeername.
    pub(super) peer: SocketAddr,
    /// The last attempt that the supervisor announced.
    pub(super) last_attempt: u32,
    /// By attempt.
    pub(super) statements: BTreeMap<u32, Kept>,
    /// Serials issued here whose outcome is not known, and for whom.
    pub(super) open: BTreeMap<u64, String>,
    /// Where its host is, if it has one.
    pub(super) host: HostState,
    /// How often it asked about a key.
    pub(super) knows: u32,
    /// How often somebody was refused here for what was not proved; each time is a line of the log.
    pub(super) failed_proofs: u32,
    /// How many parts of the feed it asked for.
    feed_parts: u32,
    /// It came for what is for everybody, as the supervisor was told.
    served: bool,
    /// What a key was asked last and has not answered.
    pub(super) asked: Option<Asked>,
    /// What is left of the last answer in parts.
    pub(super) rest: VecDeque<FromSigner>,
    /// An administrator's question was answered here.
    pub(super) administers: bool,
    /// Somebody has proved enough, as the supervisor was told.
    pub(super) logged_in: bool,
    /// The last key that it asked about, and whether that is registered.
    pub(super) offered: Option<Offered>,
    /// What was refused here stands in the inventory.
    pub(super) refused: bool,
    /// Somebody was let in, and what came of it stands in the inventory or was an answer.
    pub(super) settled: bool,
    /// What PAM said of an account to somebody who came with nothing: it counts only if nothing comes after it.
    pub(super) at_first: Option<(String, PamRefusal)>,
}

/// A key that somebody offered, as their front says.
pub(super) struct Offered {
    pub(super) user: String,
    pub(super) fingerprint: String,
    pub(super) registered: bool,
    /// It was registered for this user, and revoked.
    pub(super) revoked: bool,
}

/// A statement that waits for its one issue.
pub(super) struct Kept {
    pub(super) passed: Passed,
    /// When the statement came, or a key proved itself for it last.
    pub(super) since: Instant,
    /// When the statement came.
    pub(super) stated: Instant,
    /// As its front says, a key of the user's has signed the SSH session.
    pub(super) by_key: bool,
    /// The user's own key, which proved that its owner wants it certified.
    pub(super) possessed: Option<PublicKey>,
}

impl Kept {
    /// Whether it may still be used: for `life` since it came or a key proved itself for it, and by whatever keys for `longest` since it came at most.
    pub(super) fn is_fresh(&self, life: Duration, longest: Duration) -> bool {
        self.since.elapsed() <= life && self.stated.elapsed() <= longest
    }
}

impl Front {
    /// No front of ours comes so far: it ends with the first refusal, or tries the keys of an agent.
    pub(super) fn has_failed_enough(&self) -> bool {
        self.failed_proofs >= MAX_FAILED_PROOFS
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.socket().as_fd()
    }
}

impl Server {
    pub(super) fn add_front(&mut self, connection: u64, peer: SocketAddr, socket: SeqPacket) {
        if self.fronts.contains_key(&connection) {
            log::warning(&format!("connection {connection} announced twice: the second one is not taken"));
            return;
        }
        let front = Front {
            channel: Channel::new(socket),
            peer,
            last_attempt: 0,
            statements: BTreeMap::new(),
            open: BTreeMap::new(),
            host: HostState::default(),
            knows: 0,
            failed_proofs: 0,
            feed_parts: 0,
            served: false,
            asked: None,
            rest: VecDeque::new(),
            administers: false,
            logged_in: false,
            offered: None,
            refused: false,
            settled: false,
            at_first: None,
        };
        self.fronts.insert(connection, front);
    }

    pub(super) fn on_front(&mut self, connection: u64) -> Flow {
        let Some(front) = self.fronts.get(&connection) else {
            return Flow::Continue;
        };
        match hear(&front.channel) {
            Heard::Message(ToSigner::Issue { attempt, public_key, wish }, _) => {
                self.issue(connection, attempt, &public_key, Mode::Inject, &wish);
            }
            Heard::Message(ToSigner::Outcome { serial, delivery }, _) => self.outcome(connection, serial, delivery),
            Heard::Message(ToSigner::Host(ask), _) => self.on_host(connection, ask),
            Heard::Message(ToSigner::Feed { offset }, _) => self.feed(connection, offset),
            Heard::Message(ToSigner::Certify { attempt, public_key, wish }, _) => {
                self.issue(connection, attempt, &public_key, Mode::ClientKey, &wish);
            }
            Heard::Message(ToSigner::Ways, _) => self.ways(connection),
            Heard::Message(ToSigner::Knows { user, key }, _) => self.knows(connection, &user, &key),
            Heard::Message(ToSigner::Demands { attempt, by_key }, _) => self.demands(connection, attempt, by_key),
            Heard::Message(ToSigner::Challenge { attempt, purpose, key }, _) => {
                self.challenge(connection, attempt, purpose, &key);
            }
            Heard::Message(ToSigner::Prove { signature }, _) => self.prove(connection, &signature),
            Heard::Message(ToSigner::Mine { attempt, verb }, _) => self.mine(connection, attempt, verb),
            Heard::Message(ToSigner::More, _) => self.more(connection),
            Heard::Message(ToSigner::Admin { attempt, request }, _) => self.administer(connection, attempt, *request),
            Heard::Message(ToSigner::Ends { attempt, how, typed }, _) => self.ends(connection, attempt, how, &typed),
            Heard::Message(ToSigner::Impossible { user }, _) => self.impossible(connection, &user),
            Heard::Nothing => {}
            Heard::Gone(ChannelError::Closed) => self.lose_front(connection),
            Heard::Gone(e) => {
                log::warning(&format!("connection {connection}: front: {e}: closed"));
                self.lose_front(connection);
            }
        }
        Flow::Continue
    }

    fn issue(&mut self, connection: u64, attempt: u32, public_key: &[u8], mode: Mode, wish: &Wish) {
        let Some(front) = self.fronts.get_mut(&connection) else {
            return;
        };
        // Taken, whatever comes of it: one statement, one issue.
        let Some(kept) = front.statements.remove(&attempt) else {
            self.misbehaved(connection, &format!("asks for a certificate in attempt {attempt}, which has not passed"));
            return;
        };
        if !kept.is_fresh(self.statement_life, self.statement_life + self.challenge_life) {
            let tried = if mode == Mode::ClientKey { Tried::ClientKey } else { Tried::tried_by(kept.passed.proofs) };
            return self.too_late(connection, &kept.passed, tried);
        }
        if mode == Mode::ClientKey && kept.possessed.as_ref().is_none_or(|key| key.blob() != public_key) {
            return self.misbehaved(connection, "asks for a certificate for a key that did not prove itself");
        }
        if wish.reason.len() > MAX_REASON
            || wish.principals.len() > MAX_WISHES
            || wish.principals.iter().any(|name| name.len() > MAX_WISHED)
        {
            return self.misbehaved(connection, "asks for more than a front of ours lets through");
        }
        // Whatever comes of it is a row.
        front.refused = true;
        front.settled = true;
        let peer = front.peer;
        self.turn.ask(Asking {
            connection,
            passed: kept.passed,
            public_key: public_key.to_vec(),
            mode,
            wish: wish.clone(),
            peer,
        });
    }

    /// How a login ends that asks for no certificate.
    fn ends(&mut self, connection: u64, attempt: u32, how: Ending, typed: &[u8]) {
        if typed.len() > MAX_TYPED {
            return self.misbehaved(connection, "tells of more of a command than a front of ours does");
        }
        let kept = self.fronts.get_mut(&connection).and_then(|front| front.statements.remove(&attempt));
        let Some(Kept { passed, .. }) = kept else {
            return self.misbehaved(connection, &format!("ends attempt {attempt}, which named nobody"));
        };
        if how == Ending::Help {
            self.settle(connection);
        } else {
            let offered = self.fronts.get(&connection).and_then(|front| front.offered.as_ref());
            let offered = offered.filter(|offered| offered.registered && !passed.proofs.pam);
            let (tried, key) = offered
                .map_or((Tried::tried_by(passed.proofs), String::new()), |o| (Tried::Publickey, o.fingerprint.clone()));
            let typed = if how.is_of_a_command() { typed } else { b"" };
            self.refuse_passed_who_typed(connection, &passed, tried, &key, Reason::Ends(how), typed);
        }
        self.tell(connection, &FromSigner::Noted);
    }

    /// Whoever was let in here had an answer.
    pub(super) fn settle(&mut self, connection: u64) {
        if let Some(front) = self.fronts.get_mut(&connection) {
            front.settled = true;
        }
    }

    /// Once a connection: whatever else it tries is the same try.
    fn impossible(&mut self, connection: u64, user: &str) {
        if user.len() > MAX_NAME {
            return self.misbehaved(connection, "tells of a name that is longer than any");
        }
        let Some(front) = self.fronts.get_mut(&connection) else {
            return;
        };
        if !std::mem::replace(&mut front.refused, true) {
            let (peer, reason) = (front.peer.ip(), Reason::ImpossibleName);
            self.refuse_login(
                connection,
                peer,
                &Refusal { user, proved: "none", tried: Tried::Nothing, key: "", reason, typed: b"" },
            );
        }
        self.tell(connection, &FromSigner::Noted);
    }

    /// What the turn made of a request: it stands in the inventory.
    pub(super) fn answer_issue(&mut self, connection: u64, issued: Result<IssuedUser, Refused>) {
        let issued = match issued {
            Ok(issued) => issued,
            Err(refused) => return self.tell(connection, &FromSigner::Refused { message: refused.for_user() }),
        };
        let serial = issued.certificate.serial();
        let Some(front) = self.fronts.get_mut(&connection) else {
            let outcome = Outcome::Undelivered(LOST.to_owned());
            return self.turn.note(None, OutcomeOf { serial, user: issued.user, outcome });
        };
        front.open.insert(serial, issued.user.clone());
        let reply = FromSigner::Issued {
            certificate: issued.certificate.blob().to_vec(),
            lifetime_seconds: issued.lifetime_seconds,
            confirm: issued.confirm,
            comment: injected_comment(&issued.user, serial),
            rule: issued.rule,
        };
        self.tell(connection, &reply);
    }

    pub(super) fn too_late(&mut self, connection: u64, passed: &Passed, tried: Tried) {
        self.refuse_passed(connection, passed, tried, "", Reason::TooLate);
        let message = "It took too long since you logged in. Log in again.".to_owned();
        self.tell(connection, &FromSigner::Refused { message });
    }

    /// Somebody whom a worker named, and who does not get what they came for.
    pub(super) fn refuse_passed(&mut self, connection: u64, passed: &Passed, tried: Tried, key: &str, reason: Reason) {
        self.refuse_passed_who_typed(connection, passed, tried, key, reason, b"");
    }

    fn refuse_passed_who_typed(
        &mut self,
        connection: u64,
        passed: &Passed,
        tried: Tried,
        key: &str,
        reason: Reason,
        typed: &[u8],
    ) {
        let Some(front) = self.fronts.get_mut(&connection) else {
            return;
        };
        front.refused = true;
        front.settled = true;
        front.failed_proofs = front.failed_proofs.saturating_add(1);
        let (peer, proved) = (front.peer.ip(), passed.authenticated());
        let refusal = Refusal { user: &passed.user, proved: &proved, tried, key, reason, typed };
        self.refuse_login(connection, peer, &refusal);
    }

    fn outcome(&mut self, connection: u64, serial: u64, delivery: Delivery) {
        let Some(front) = self.fronts.get_mut(&connection) else {
            return;
        };
        let Some(user) = front.open.remove(&serial) else {
            self.misbehaved(connection, &format!("tells of serial {serial}, which is not open here"));
            return;
        };
        let outcome = match delivery {
            Delivery::Delivered => Outcome::Delivered,
            Delivery::Refused(why) if why.is_empty() => Outcome::Undelivered("no reason given".to_owned()),
            Delivery::Refused(why) => Outcome::Undelivered(escape(why.as_bytes(), MAX_FIELD)),
        };
        self.turn.note(Some(connection), OutcomeOf { serial, user, outcome });
    }

    /// What the turn made of an outcome; `None`: nobody waits for the answer.
    pub(super) fn answer_outcome(&mut self, connection: Option<u64>, noted: Result<(), InventoryError>) {
        let reply = match noted {
            Ok(()) => FromSigner::Noted,
            Err(_) => FromSigner::Refused { message: "The CA could not note the delivery.".to_owned() },
        };
        if let Some(connection) = connection {
            self.tell(connection, &reply);
        }
    }

    /// The feed is for everybody: no login is asked for.
    fn feed(&mut self, connection: u64, offset: u64) {
        self.settle(connection);
        let Some(front) = self.fronts.get_mut(&connection) else {
            return;
        };
        front.feed_parts = front.feed_parts.saturating_add(1);
        let parts = usize::try_from(front.feed_parts).unwrap_or(usize::MAX);
        let reply = match self.ca.feed_for_readers() {
            Ok((_, feed)) if parts > MAX_FEEDS.saturating_mul(feed.len() / FEED_CHUNK + 1) => {
                return self.misbehaved(connection, "asks for the feed more often than a front of ours does");
            }
            Err(_) if parts > MAX_FEEDS => {
                return self
                    .misbehaved(connection, "asks for a feed that there is not more often than a front of ours does");
            }
            Ok((version, feed)) => {
                let rest = usize::try_from(offset).ok().and_then(|offset| feed.get(offset..)).unwrap_or_default();
                let chunk = rest.get(..FEED_CHUNK).unwrap_or(rest).to_vec();
                let is_last = rest.len() == chunk.len();
                let total = u64::try_from(feed.len()).unwrap_or(u64::MAX);
                if is_last {
                    self.served(connection);
                }
                FromSigner::Feed { version, total, chunk }
            }
            Err(e) => {
                log::warning(&format!("connection {connection}: no feed: {e}"));
                FromSigner::Refused { message: e.for_reader().to_owned() }
            }
        };
        self.tell(connection, &reply);
    }

    /// The supervisor hears once of what came for what is for everybody.
    pub(super) fn served(&mut self, connection: u64) {
        if let Some(front) = self.fronts.get_mut(&connection)
            && !std::mem::replace(&mut front.served, true)
        {
            self.tell_served(connection);
        }
    }

    pub(super) fn tell(&mut self, connection: u64, reply: &FromSigner) {
        let Some(front) = self.fronts.get(&connection) else {
            return;
        };
        if let Err(e) = front.channel.send(reply) {
            log::warning(&format!("connection {connection}: front: {e}: closed"));
            self.lose_front(connection);
        }
    }

    /// What no front of ours does: it gets no second try.
    pub(super) fn misbehaved(&mut self, connection: u64, what: &str) {
        log::warning(&format!("connection {connection}: front {what}: refused and closed"));
        // That is the reason, and no user's.
        self.settle(connection);
        self.tell(connection, &FromSigner::Refused { message: "The CA refuses this request.".to_owned() });
        self.lose_front(connection);
    }

    fn lose_front(&mut self, connection: u64) {
        self.end_front(connection, LOST);
    }

    /// Forgets a front, its workers and statements; what was issued and not confirmed is noted as such.
    pub(super) fn end_front(&mut self, connection: u64, why: &str) {
        self.turn.forget(connection);
        let is_let_in = self.is_let_in_by_key(connection);
        let Some(mut front) = self.fronts.remove(&connection) else {
            return;
        };
        self.refuse_the_rest(connection, &front, is_let_in);
        for (serial, user) in std::mem::take(&mut front.open) {
            self.turn.note(None, OutcomeOf { serial, user, outcome: Outcome::Undelivered(why.to_owned()) });
        }
    }

    /// Whether the registered key that was offered has signed, and is all that the rule demands: its user was let in, and then asked for nothing that takes a proof (`help`, say).
    fn is_let_in_by_key(&self, connection: u64) -> bool {
        let Some(front) = self.fronts.get(&connection) else {
            return false;
        };
        // Offered alone, it may be anybody's who has read it.
        let signed = front.statements.iter().next_back().filter(|(_, kept)| kept.by_key);
        let demanded = signed.and_then(|(attempt, _)| self.demanded(connection, *attempt));
        let by_key = Proofs { pam: false, publickey: true };
        front.offered.as_ref().is_some_and(|offered| offered.registered)
            && demanded.is_some_and(|(ways, _)| ways.iter().any(|way| by_key.satisfy(*way)))
    }

    /// What had not been decided when a connection ended, and those who came with nothing that opens.
    fn refuse_the_rest(&mut self, connection: u64, front: &Front, is_let_in: bool) {
        let peer = front.peer.ip();
        let mut refused = front.refused;
        let mut later = self.workers.split_off(&(connection, 0));
        self.workers.append(&mut later.split_off(&(connection.saturating_add(1), 0)));
        for worker in later.into_values() {
            refused = true;
            let Announced { user, patience, trust, .. } = &worker.announced;
            let in_time = worker.since.elapsed() + SLACK < Duration::from_secs(*patience);
            let reason = if in_time { Reason::Left } else { Reason::TimedOut };
            let tried = if *trust == Trust::Authenticates { Tried::Pam } else { Tried::Nothing };
            self.refuse_login(connection, peer, &Refusal { user, proved: "none", tried, key: "", reason, typed: b"" });
        }
        let named = front.statements.values().next_back().map(|kept| &kept.passed);
        if front.logged_in
            && !front.settled
            && let Some(passed) = named
        {
            let (proved, tried, reason) =
                (passed.authenticated(), Tried::tried_by(passed.proofs), Reason::NothingAsked);
            let refusal = Refusal { user: &passed.user, proved: &proved, tried, key: "", reason, typed: b"" };
            return self.refuse_login(connection, peer, &refusal);
        }
        if refused || front.logged_in || is_let_in {
            return;
        }
        if let Some((user, why)) = &front.at_first {
            let (tried, reason) = (Tried::Nothing, Reason::Pam(*why));
            return self.refuse_login(
                connection,
                peer,
                &Refusal { user, proved: "none", tried, key: "", reason, typed: b"" },
            );
        }
        match (&front.offered, named) {
            (Some(Offered { user, fingerprint, registered: false, revoked }), _) => {
                let reason = if *revoked { Reason::KeyRevoked } else { Reason::NotRegistered };
                let tried = Tried::Publickey;
                self.refuse_login(
                    connection,
                    peer,
                    &Refusal { user, proved: "none", tried, key: fingerprint, reason, typed: b"" },
                );
            }
            (offered, Some(passed)) => {
                let (tried, key) = offered
                    .as_ref()
                    .map_or((Tried::Nothing, ""), |offered| (Tried::Publickey, offered.fingerprint.as_str()));
                let (user, proved) = (passed.user.as_str(), passed.authenticated());
                let reason = Reason::NothingProved;
                self.refuse_login(connection, peer, &Refusal { user, proved: &proved, tried, key, reason, typed: b"" });
            }
            // With a registered key one may ask for help, and for what is everybody's: that takes no proof to us.
            (_, None) => {}
        }
    }
}
