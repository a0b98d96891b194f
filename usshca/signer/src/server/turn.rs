//! What the fronts of one round ask, until it stands in the inventory: one transaction for all of it, and one answer for each.
//!
//! A request goes through two turns: in the first its serial is reserved, and then it is signed; in the second the certificate is recorded, and then it leaves. What comes in
//! meanwhile shares the transactions.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use usshca_ipc::front::Wish;

use super::Server;
use crate::ca::{OutcomeOf, Passed, SignedUser, UserRequest};
use crate::policy::Mode;

/// How long a turn waits for the signatures of an agent, and for one more that was begun: the supervisor gives up a signer that has not answered for 20 s.
const SIGNING_TIME: Duration = Duration::from_secs(2);

/// What waits for its next transaction.
#[derive(Debug, Default)]
pub struct Turn {
    asking: Vec<Asking>,
    /// Whom to tell, if anybody.
    outcomes: Vec<(Option<u64>, OutcomeOf)>,
    /// By connection.
    signed: Vec<(u64, SignedUser)>,
    /// Who was answered by the turn before, if those were several, and has not said anything since: they may go on at once.
    awaited: BTreeSet<u64>,
}

/// A front's request.
#[derive(Debug)]
pub struct Asking {
    /// Whom to tell.
    pub connection: u64,
    /// For whom.
    pub passed: Passed,
    /// Wire form of the key.
    pub public_key: Vec<u8>,
    /// Who made it.
    pub mode: Mode,
    /// What the user would like.
    pub wish: Wish,
    /// The kernel's getpeername.
    pub peer: SocketAddr,
}

impl Turn {
    /// A request.
    pub fn ask(&mut self, asking: Asking) {
        self.forget(asking.connection);
        self.asking.push(asking);
    }

    /// An outcome.
    pub fn note(&mut self, connection: Option<u64>, outcome: OutcomeOf) {
        if let Some(connection) = connection {
            self.forget(connection);
        }
        self.outcomes.push((connection, outcome));
    }

    /// A connection that will say nothing more, or has said it.
    pub fn forget(&mut self, connection: u64) {
        self.awaited.remove(&connection);
    }

    /// Whether somebody may go on at once, and has not yet.
    pub fn awaits_somebody(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.asking.is_empty() && self.outcomes.is_empty() && self.signed.is_empty()
    }
}

impl Asking {
    fn as_request(&self) -> (&Passed, UserRequest<'_>) {
        let Asking { connection, passed, public_key, mode, wish, peer } = self;
        (passed, UserRequest { public_key, mode: *mode, wish, peer: *peer, connection: *connection })
    }
}

impl Server {
    /// Writes what there is, and tells whom it concerns.
    pub(super) fn take_turn(&mut self) {
        let Turn { asking, outcomes, signed, .. } = std::mem::take(&mut self.turn);
        let signed = self.signed_in_time(signed);
        let count = asking.len() + outcomes.len() + signed.len();
        if count == 0 {
            return;
        }
        let (issued_to, signed): (Vec<u64>, Vec<SignedUser>) = signed.into_iter().unzip();
        let (noted_to, outcomes): (Vec<Option<u64>>, Vec<OutcomeOf>) = outcomes.into_iter().unzip();
        let requests: Vec<_> = asking.iter().map(Asking::as_request).collect();
        let turned = self.ca.turn(signed, &outcomes, &requests);
        if count > 1 {
            self.turn.awaited = issued_to.iter().copied().chain(noted_to.iter().filter_map(|to| *to)).collect();
        }
        for (connection, issued) in issued_to.into_iter().zip(turned.issued) {
            self.answer_issue(connection, issued);
        }
        for (connection, noted) in noted_to.into_iter().zip(turned.noted) {
            self.answer_outcome(connection, noted);
        }
        for (asking, decided) in asking.into_iter().zip(turned.decided) {
            match decided {
                Ok(signed) => self.turn.signed.push((asking.connection, signed)),
                Err(refused) => self.answer_issue(asking.connection, Err(refused)),
            }
        }
    }

    /// The others wait for the next turn, before those who come now.
    fn signed_in_time(&mut self, signed: Vec<(u64, SignedUser)>) -> Vec<(u64, SignedUser)> {
        let (mut connections, signed): (Vec<u64>, Vec<SignedUser>) = signed.into_iter().unzip();
        let (signed, later) = self.ca.split_signed(signed, SIGNING_TIME);
        let waiting = connections.split_off(signed.len().min(connections.len()));
        self.turn.signed = waiting.into_iter().zip(later).collect();
        connections.into_iter().zip(signed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Outcome;

    fn delivered(serial: u64) -> OutcomeOf {
        OutcomeOf { serial, user: String::new(), outcome: Outcome::Delivered }
    }

    #[test]
    fn nobody_is_awaited_once_each_has_gone_on_or_is_gone() {
        let mut turn = Turn { awaited: [1, 2, 3].into(), ..Turn::default() };
        let passed = Passed {
            user: String::new(),
            groups: Vec::new(),
            proofs: crate::policy::Proofs { pam: true, publickey: false },
            key: None,
            login_time: ussh_core::clock::UnixTime(1),
        };
        let peer = SocketAddr::from(([192, 0, 2, 1], 22));
        let (public_key, mode, wish) = (Vec::new(), Mode::Inject, Wish::default());
        // Somebody else, and what nobody waits for.
        turn.note(Some(4), delivered(1));
        turn.note(None, delivered(2));
        let gone_on: [&dyn Fn(&mut Turn); 3] = [
            &|turn| turn.note(Some(1), delivered(3)),
            &|turn| {
                let (passed, public_key, wish) = (passed.clone(), public_key.clone(), wish.clone());
                turn.ask(Asking { connection: 2, passed, public_key, mode, wish, peer });
            },
            &|turn| turn.forget(3),
        ];
        for go_on in gone_on {
            assert!(turn.awaits_somebody());
            go_on(&mut turn);
        }
        assert!(!turn.awaits_somebody());
    }
}
