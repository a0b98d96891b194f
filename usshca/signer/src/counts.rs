//! What this process has done, for the supervisor's metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use ussh_core::clock::UnixTime;
use usshca_ipc::signer::Counts;

use crate::inventory::Kind;

static ISSUED_USER: AtomicU64 = AtomicU64::new(0);
static ISSUED_HOST: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);
static LAST_ISSUED: AtomicU64 = AtomicU64::new(0);

/// A certificate was issued.
pub fn issued(kind: Kind, now: UnixTime) {
    let counter = match kind {
        Kind::User => &ISSUED_USER,
        Kind::Host => &ISSUED_HOST,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    LAST_ISSUED.store(now.0, Ordering::Relaxed);
}

/// A request was refused.
pub fn refused() {
    REFUSED.fetch_add(1, Ordering::Relaxed);
}

/// All of it.
pub fn all() -> Counts {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Counts {
        issued_user: of(&ISSUED_USER),
        issued_host: of(&ISSUED_HOST),
        refused: of(&REFUSED),
        last_issued: of(&LAST_ISSUED),
    }
}
