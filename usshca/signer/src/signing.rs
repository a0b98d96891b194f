//! The signatures of a turn. They take the processor as long as all the rest of it: a second thread begins them while the answers of the turn go out and the next requests come in.
//! What it has not begun when they are needed is signed by whoever needs it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use ussh_core::certificate::Certificate;
use ussh_core::issue::{CertificateTemplate, IssueError};

use crate::ca_key::CaKey;

/// From so many certificates on the second thread is worth waking.
const SHARED_FROM: usize = 4;

/// The second thread, once it was needed.
#[derive(Debug, Default)]
pub struct Signing {
    helper: Option<Helper>,
}

/// It ends when this is dropped.
#[derive(Debug)]
struct Helper {
    rounds: Option<Sender<Arc<Round>>>,
    thread: Option<JoinHandle<()>>,
}

/// All that is signed at once.
#[derive(Debug)]
struct Round {
    key: Arc<CaKey>,
    orders: Vec<Order>,
    /// The first order that nobody has taken.
    next: AtomicUsize,
}

/// One certificate to be.
#[derive(Debug)]
struct Order {
    template: CertificateTemplate,
    /// Set once it is signed or refused; to `None` by a thread that broke down over it.
    done: OnceLock<Option<Result<Certificate, IssueError>>>,
}

/// A certificate that is being signed.
#[derive(Debug)]
pub struct Ordered {
    round: Arc<Round>,
    index: usize,
}

impl Signing {
    /// Has them signed, one for each, in order. Their serials are on disk.
    pub fn begin(&mut self, key: &Arc<CaKey>, templates: Vec<CertificateTemplate>) -> impl Iterator<Item = Ordered> {
        let orders: Vec<Order> =
            templates.into_iter().map(|template| Order { template, done: OnceLock::new() }).collect();
        let count = orders.len();
        let round = Arc::new(Round { key: Arc::clone(key), orders, next: AtomicUsize::new(0) });
        // An agent is asked by one at a time: the second thread would keep the first from it.
        if count >= SHARED_FROM && key.is_file() {
            self.share(&round);
        }
        (0..count).map(move |index| Ordered { round: Arc::clone(&round), index })
    }

    /// Where there is no second thread, or it has broken down and cannot be replaced, all is signed by whoever needs it.
    fn share(&mut self, round: &Arc<Round>) {
        if self.helper.as_ref().is_none_or(|helper| !helper.takes(round)) {
            self.helper = Helper::start().filter(|helper| helper.takes(round));
        }
    }
}

impl Helper {
    fn start() -> Option<Self> {
        let (rounds, come) = channel::<Arc<Round>>();
        let work = move || come.into_iter().for_each(|round| round.work());
        let thread = Builder::new().name("signing".to_owned()).spawn(work).ok()?;
        Some(Helper { rounds: Some(rounds), thread: Some(thread) })
    }

    fn takes(&self, round: &Arc<Round>) -> bool {
        self.rounds.as_ref().is_some_and(|rounds| rounds.send(Arc::clone(round)).is_ok())
    }
}

impl Drop for Helper {
    /// It holds the key: the key's memory is wiped when the last who holds it is gone, and that is not to be a thread which the end of the process cuts off.
    fn drop(&mut self) {
        drop(self.rounds.take());
        // If it broke down it has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Round {
    /// Signs what nobody has taken.
    fn work(&self) {
        while self.sign_one() {}
    }

    /// Whether there was one that nobody had taken.
    fn sign_one(&self) -> bool {
        let Some(order) = self.orders.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
            return false;
        };
        let taken = Taken(order);
        // Set by nobody else: it was taken once.
        let _ = taken.0.done.set(Some(self.sign(order)));
        true
    }

    fn sign(&self, order: &Order) -> Result<Certificate, IssueError> {
        order.template.clone().sign(&*self.key)
    }
}

/// An order that a thread has taken, and leaves done.
struct Taken<'a>(&'a Order);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // Nothing is set yet only if signing has panicked: nobody is to wait for it for ever.
        let _ = self.0.done.set(None);
    }
}

impl Ordered {
    /// Whether it is signed (or refused) by then; of its round what is before it is signed first. What is begun by then is waited for.
    pub fn is_done_by(&self, deadline: Instant) -> bool {
        let Some(order) = self.round.orders.get(self.index) else {
            return true;
        };
        while order.done.get().is_none() && Instant::now() < deadline {
            if !self.round.sign_one() {
                // Another thread is at it.
                order.done.wait();
            }
        }
        order.done.get().is_some()
    }

    /// The certificate, or what kept it from being signed; if that is not known yet, what is left of its round is signed first.
    pub fn certificate(&self) -> Result<Certificate, IssueError> {
        let Some(order) = self.round.orders.get(self.index) else {
            return Err(IssueError::Template("was not signed"));
        };
        if order.done.get().is_none() {
            self.round.work();
        }
        // Over what the second thread has broken down is tried here.
        order.done.wait().clone().unwrap_or_else(|| self.round.sign(order))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use ussh_core::certificate::CertificateKind;
    use ussh_core::clock::UnixTime;
    use ussh_core::keys::PrivateKey;

    use super::*;

    fn ca() -> Arc<CaKey> {
        Arc::new(PrivateKey::generate_ed25519().unwrap().try_into().unwrap())
    }

    /// Serial 0 is signed for nobody.
    fn templates(serials: std::ops::Range<u64>) -> Vec<CertificateTemplate> {
        let public_key = PrivateKey::generate_ed25519().unwrap().public_key();
        let of = |serial| CertificateTemplate {
            public_key: public_key.clone(),
            serial,
            kind: CertificateKind::User,
            key_id: "carol".to_owned(),
            principals: vec!["carol".to_owned()],
            valid_after: UnixTime(1),
            valid_before: UnixTime(2),
            critical_options: Vec::new(),
            extensions: Vec::new(),
        };
        serials.map(of).collect()
    }

    /// In the order in which they were asked for; 0: refused, for the reason that serial 0 is.
    fn serials(ordered: impl IntoIterator<Item = Ordered>) -> Vec<u64> {
        let serial = |ordered: Ordered| match ordered.certificate() {
            Ok(certificate) => certificate.serial(),
            Err(IssueError::Template("serial 0 cannot be revoked")) => 0,
            Err(e) => panic!("{e}"),
        };
        ordered.into_iter().map(serial).collect()
    }

    #[test]
    fn each_gets_its_own_certificate_whoever_signs_it() {
        let (mut signing, ca) = (Signing::default(), ca());
        for count in [0, 1, 3, 4, 5, 40] {
            for _ in 0..8 {
                let ordered = signing.begin(&ca, templates(0..count));
                assert_eq!(serials(ordered), (0..count).collect::<Vec<_>>());
            }
        }
        assert!(signing.helper.is_some());
    }

    #[test]
    fn the_second_thread_signs_while_nobody_waits() {
        let mut signing = Signing::default();
        let ordered: Vec<Ordered> = signing.begin(&ca(), templates(1..9)).collect();
        assert!(signing.helper.is_some());
        for Ordered { round, index } in &ordered {
            assert!(matches!(round.orders[*index].done.wait(), Some(Ok(_))));
        }
    }

    #[test]
    fn a_thread_that_broke_down_is_replaced_and_what_it_left_is_signed() {
        let (mut signing, ca) = (Signing::default(), ca());
        let (rounds, come) = channel();
        let breaks_down = std::thread::spawn(move || {
            let round: Arc<Round> = come.recv().unwrap();
            let taken = Taken(&round.orders[round.next.fetch_add(1, Ordering::Relaxed)]);
            panic!("at order {}", taken.0.template.serial);
        });
        signing.helper = Some(Helper { rounds: Some(rounds), thread: Some(breaks_down) });
        let ordered: Vec<Ordered> = signing.begin(&ca, templates(1..9)).collect();
        assert_eq!(*ordered[0].round.orders[0].done.wait(), None);
        assert_eq!(serials(ordered), (1..9).collect::<Vec<_>>());
        let again = signing.begin(&ca, templates(1..9)).collect::<Vec<_>>();
        assert_eq!(serials(again), (1..9).collect::<Vec<_>>());
        assert!(signing.helper.as_ref().unwrap().thread.is_some());
    }

    #[test]
    fn when_it_is_dropped_nobody_holds_the_key_any_more() {
        let (mut signing, ca) = (Signing::default(), ca());
        drop(signing.begin(&ca, templates(1..9)));
        drop(signing);
        assert_eq!(Arc::strong_count(&ca), 1);
    }
}
