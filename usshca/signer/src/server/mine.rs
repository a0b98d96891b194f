//! What people ask about themselves. Answered to whoever proved to be the user: by PAM, or by all that the user's rule demands.

use usshca_ipc::admin::{Entry, Revoke};
use usshca_ipc::channel::encode;
use usshca_ipc::front::{FromSigner, Verb};

use super::Server;
use super::refused_logins::{Reason, Tried};
use crate::inventory::{InventoryError, Revocation};
use crate::log;

/// Most rows that are told.
const MAX_ROWS: u32 = 500;
/// Most bytes of a part of an answer, about: well below a packet.
const MAX_PART: usize = 64 * 1024;

impl Server {
    pub(super) fn mine(&mut self, connection: u64, attempt: u32, verb: Verb) {
        let (life, challenge_life) = (self.statement_life, self.challenge_life);
        let Some((ways, _)) = self.demanded(connection, attempt) else {
            return self.misbehaved(connection, &format!("asks for what is attempt {attempt}'s, which named nobody"));
        };
        let Some(front) = self.fronts.get_mut(&connection) else {
            return;
        };
        front.rest.clear();
        if front.has_failed_enough() {
            return self.misbehaved(connection, "asks more often than a front of ours does what it gets no answer to");
        }
        let Some(kept) = front.statements.get(&attempt) else {
            return;
        };
        if !kept.is_fresh(life, life + challenge_life) {
            let passed = kept.passed.clone();
            return self.too_late(connection, &passed, Tried::tried_by(passed.proofs));
        }
        let proofs = kept.passed.proofs;
        // Whoever lost the key that the rule demands besides must be able to revoke all the same.
        if !proofs.pam && !ways.iter().any(|way| proofs.satisfy(*way)) {
            let passed = kept.passed.clone();
            self.refuse_passed(connection, &passed, Tried::tried_by(passed.proofs), "", Reason::NothingProved);
            let message = "The CA does not know yet that it is you: your registered key must prove it, by a forwarded agent. Try: ssh -A".to_owned();
            return self.tell(connection, &FromSigner::Refused { message });
        }
        let (user, authenticated) = (kept.passed.user.clone(), kept.passed.authenticated());
        front.settled = true;
        let answer = match verb {
            Verb::WhoAmI => Ok(vec![FromSigner::You { user, authenticated }]),
            Verb::List => self.ca.inventory().of_user(&user, MAX_ROWS).map(parts_of_rows),
            Verb::Revoke => self.revoke_all_of(user),
            Verb::Krl => match self.ca.krl() {
                Ok(krl) => Ok(parts_of_krl(&krl)),
                Err(e) => {
                    log::warning(&format!("connection {connection}: no KRL: {e}"));
                    Ok(vec![FromSigner::Refused { message: "The CA has no KRL at the moment.".to_owned() }])
                }
            },
        };
        let parts = answer.unwrap_or_else(|e| {
            log::warning(&format!("connection {connection}: {verb:?}: {e}"));
            vec![FromSigner::Refused { message: "The CA cannot do that at the moment. Try again later.".to_owned() }]
        });
        if let Some(front) = self.fronts.get_mut(&connection) {
            front.rest.extend(parts);
        }
        self.more(connection);
    }

    /// The next part of what was asked.
    pub(super) fn more(&mut self, connection: u64) {
        match self.fronts.get_mut(&connection).map(|front| front.rest.pop_front()) {
            Some(Some(part)) => self.tell(connection, &part),
            Some(None) => self.misbehaved(connection, "asks for more where there is none"),
            None => {}
        }
    }

    fn revoke_all_of(&mut self, user: String) -> Result<Vec<FromSigner>, InventoryError> {
        let by = format!("user {user}");
        let now = self.ca.now();
        // An act is about what is only just over as well, and about what was revoked before.
        let good = self.ca.inventory().count_good(&user, now)?;
        let certificates = match self.ca.revoke(Revoke::User(user), &by, "revoke-mine")? {
            Revocation::Done { .. } => u64::from(good),
            Revocation::Already | Revocation::Unknown => 0,
        };
        Ok(vec![FromSigner::RevokedYours { certificates }])
    }
}

fn parts_of_rows(rows: Vec<Entry>) -> Vec<FromSigner> {
    let mut parts: Vec<Vec<Entry>> = vec![Vec::new()];
    let mut size = 0;
    for row in rows {
        let bytes = encode(&row).map_or(MAX_PART, |bytes| bytes.len());
        if size + bytes > MAX_PART && size > 0 {
            parts.push(Vec::new());
            size = 0;
        }
        size += bytes;
        if let Some(last) = parts.last_mut() {
            last.push(row);
        }
    }
    let count = parts.len();
    parts.into_iter().zip(1..).map(|(rows, number)| FromSigner::Yours { rows, more: number < count }).collect()
}

fn parts_of_krl(krl: &[u8]) -> Vec<FromSigner> {
    let count = krl.len().div_ceil(MAX_PART);
    let chunks = krl.chunks(MAX_PART).zip(1..);
    chunks.map(|(chunk, number)| FromSigner::Krl { chunk: chunk.to_vec(), more: number < count }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::wildcard_enum_match_arm,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )]
    use super::*;

    fn entry(row: u64) -> Entry {
        Entry {
            row,
            serial: row,
            kind: "user".into(),
            key_id: "alice".into(),
            principals: vec!["x".repeat(256); 64],
            fingerprint: String::new(),
            valid_after: 0,
            valid_before: 0,
            asked: 0,
            from: String::new(),
            authenticated: String::new(),
            rule: String::new(),
            outcome: String::new(),
            revoked: None,
            reason: String::new(),
            count: 1,
            last: 1,
        }
    }

    #[test]
    fn rows_come_in_parts_that_fit_a_packet_and_none_is_lost() {
        let parts = parts_of_rows((0..40).map(entry).collect());
        assert!(parts.len() > 1);
        let mut seen = Vec::new();
        for (part, number) in parts.iter().zip(1..) {
            assert!(encode(part).unwrap().len() <= MAX_PART + 64, "{}", encode(part).unwrap().len());
            match part {
                FromSigner::Yours { rows, more } => {
                    assert_eq!(*more, number < parts.len());
                    seen.extend(rows.iter().map(|row| row.row));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, (0..40).collect::<Vec<_>>());
        assert_eq!(parts_of_rows(vec![]), [FromSigner::Yours { rows: vec![], more: false }]);
    }

    #[test]
    fn a_krl_comes_in_parts_and_whole() {
        let krl: Vec<u8> = (0..MAX_PART * 2 + 1).map(|i| i.to_le_bytes()[0]).collect();
        let parts = parts_of_krl(&krl);
        assert_eq!(parts.len(), 3);
        let mut seen = Vec::new();
        for (part, number) in parts.into_iter().zip(1..) {
            match part {
                FromSigner::Krl { chunk, more } => {
                    assert_eq!(more, number < 3);
                    seen.extend(chunk);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, krl);
    }
}
