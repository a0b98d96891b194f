//! What the fronts of one round ask, until it stands in the inventory: one transaction for all of it, and one answer for each.
//!
//! A request goes through two turns: in the first its serial is reserved, and then it is signed; in the second the certificate is recorded, and then it leaves. What comes in
//! meanwhile shares the transactions.

use std::net::SocketAddr;

use usshca_ipc::front::Wish;

use super::Server;
use crate::ca::{Passed, SignedUser, UserRequest};
use crate::inventory::Outcome;
use crate::policy::Mode;

/// What waits for its next transaction.
#[derive(Debug, Default)]
pub struct Turn {
    asking: Vec<Asking>,
    /// Whom to tell, if anybody; the serial.
    outcomes: Vec<(Option<u64>, u64, Outcome)>,
    /// By connection.
    signed: Vec<(u64, SignedUser)>,
    /// The turn before wrote more than one thing.
    follows_several: bool,
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
        self.asking.push(asking);
    }

    /// An outcome.
    pub fn note(&mut self, connection: Option<u64>, serial: u64, outcome: Outcome) {
        self.outcomes.push((connection, serial, outcome));
    }

    /// Whether the turn before was of several, who may go on at once.
    pub fn follows_several(&self) -> bool {
        self.follows_several
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
        let count = asking.len() + outcomes.len() + signed.len();
        if count == 0 {
            return;
        }
        self.turn.follows_several = count > 1;
        let (issued_to, signed): (Vec<u64>, Vec<SignedUser>) = signed.into_iter().unzip();
        let (noted_to, outcomes): (Vec<Option<u64>>, Vec<(u64, Outcome)>) =
            outcomes.into_iter().map(|(to, serial, outcome)| (to, (serial, outcome))).unzip();
        let requests: Vec<_> = asking.iter().map(Asking::as_request).collect();
        let turned = self.ca.turn(signed, &outcomes, &requests);
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
}
