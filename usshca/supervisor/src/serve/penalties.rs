//! Penalties by source, as those of OpenSSH 9.8 (PerSourcePenalties; srclimit.c, srclimit_penalise): whoever makes logins fail is not let in for a while, longer each time.
//!
//! Each offence adds to the time that a source still has to serve; time takes it away again. Below [`Terms::min`] nothing happens, so that a mistyped password costs nobody
//! anything; beyond [`Terms::max`] nothing is added.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::serve::source::{Family, Source};

/// What a connection did that ended without a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offence {
    /// It never tried to log in.
    NeverTried,
    /// All that it tried was refused; once for each try.
    AuthenticationFailed,
    /// It had not logged in when its time was up.
    GraceExceeded,
    /// Its front broke down, or said what no front of ours says.
    Crashed,
}

impl Offence {
    /// For logs and labels.
    pub fn name(self) -> &'static str {
        match self {
            Offence::NeverTried => "never_authenticated",
            Offence::AuthenticationFailed => "auth_failure",
            Offence::GraceExceeded => "grace_exceeded",
            Offence::Crashed => "crash",
        }
    }
}

/// How hard it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// For [`Offence::NeverTried`].
    pub never_tried: Duration,
    /// For [`Offence::AuthenticationFailed`].
    pub authentication_failed: Duration,
    /// For [`Offence::GraceExceeded`].
    pub grace_exceeded: Duration,
    /// For [`Offence::Crashed`].
    pub crashed: Duration,
    /// A source is refused once it has at least so much to serve; from then on, until it has served all of it.
    pub min: Duration,
    /// Most that there is to serve.
    pub max: Duration,
    /// Most sources that are kept, of IPv4 and of IPv6 each.
    pub max_sources: usize,
}

impl Terms {
    fn of(&self, offence: Offence) -> Duration {
        match offence {
            Offence::NeverTried => self.never_tried,
            Offence::AuthenticationFailed => self.authentication_failed,
            Offence::GraceExceeded => self.grace_exceeded,
            Offence::Crashed => self.crashed,
        }
    }
}

/// One source's.
#[derive(Clone, Copy, Debug)]
struct Penalty {
    until: Instant,
    /// It has reached [`Terms::min`].
    active: bool,
}

/// Those of one family. Sources of the other one cannot push them out: whoever has an IPv6 network of 48 bits has 65,536 sources.
#[derive(Debug, Default)]
struct Table {
    by_source: HashMap<Source, Penalty>,
    by_end: BTreeSet<(Instant, Source)>,
}

/// All that is to be served.
#[derive(Debug)]
pub struct Penalties {
    terms: Terms,
    v4: Table,
    v6: Table,
}

impl Penalties {
    /// None yet.
    pub fn new(terms: Terms) -> Self {
        Penalties { terms, v4: Table::default(), v6: Table::default() }
    }

    /// Adds to what the source has to serve, `times` over. Gives for how long it is refused from now on if that began just now.
    pub fn penalise(&mut self, source: Source, offence: Offence, times: u32, now: Instant) -> Option<Duration> {
        let (terms, more) = (self.terms, self.terms.of(offence).saturating_mul(times));
        if more.is_zero() {
            return None;
        }
        let table = self.table(source);
        table.expire(now);
        let before = table.take(source);
        // What was served is gone, and so is that it was active.
        let (left, was_active) =
            before.map_or((Duration::ZERO, false), |p| (p.until.saturating_duration_since(now), p.active));
        let left = left.saturating_add(more).min(terms.max);
        let active = was_active || left >= terms.min;
        table.put(source, Penalty { until: now + left, active });
        while table.by_source.len() > terms.max_sources {
            table.drop_shortest();
        }
        (active && !was_active && table.by_source.contains_key(&source)).then_some(left)
    }

    /// How long the source is still refused.
    pub fn left(&mut self, source: Source, now: Instant) -> Option<Duration> {
        let table = self.table(source);
        table.expire(now);
        table.by_source.get(&source).filter(|p| p.active).map(|p| p.until.saturating_duration_since(now))
    }

    /// How many sources have something to serve, refused ones or not.
    pub fn len(&mut self, now: Instant) -> usize {
        self.v4.expire(now);
        self.v6.expire(now);
        self.v4.by_source.len() + self.v6.by_source.len()
    }

    fn table(&mut self, source: Source) -> &mut Table {
        match source.family() {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

impl Table {
    fn take(&mut self, source: Source) -> Option<Penalty> {
        let penalty = self.by_source.remove(&source)?;
        self.by_end.remove(&(penalty.until, source));
        Some(penalty)
    }

    fn put(&mut self, source: Source, penalty: Penalty) {
        self.by_end.insert((penalty.until, source));
        self.by_source.insert(source, penalty);
    }

    fn expire(&mut self, now: Instant) {
        while self.by_end.first().is_some_and(|(until, _)| *until <= now) {
            self.drop_shortest();
        }
    }

    /// Whoever fills the table with small penalties loses those, and never the large one of somebody else (or his own).
    fn drop_shortest(&mut self) {
        if let Some((_, source)) = self.by_end.pop_first() {
            self.by_source.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use std::net::IpAddr;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TERMS: Terms = Terms {
        never_tried: SECOND,
        authentication_failed: Duration::from_secs(5),
        grace_exceeded: Duration::from_secs(10),
        crashed: Duration::from_secs(90),
        min: Duration::from_secs(15),
        max: Duration::from_secs(600),
        max_sources: 100,
    };

    fn source(address: &str) -> Source {
        Source::of(address.parse().unwrap())
    }

    fn new() -> (Penalties, Source, Instant) {
        (Penalties::new(TERMS), source("192.0.2.1"), Instant::now())
    }

    #[test]
    fn a_few_mistakes_cost_nothing_and_more_of_them_do() {
        let (mut penalties, source, now) = new();
        for _ in 0..2 {
            assert_eq!(penalties.penalise(source, Offence::AuthenticationFailed, 1, now), None);
            assert_eq!(penalties.left(source, now), None);
        }
        assert_eq!(penalties.penalise(source, Offence::AuthenticationFailed, 1, now), Some(SECOND * 15));
        assert_eq!(penalties.left(source, now), Some(SECOND * 15));
        assert_eq!(penalties.left(super::tests::source("192.0.2.2"), now), None);
    }

    #[test]
    fn a_lone_guesser_is_stopped_after_twelve_passwords_by_the_defaults_and_an_office_with_its_typos_is_not() {
        let terms = crate::config::PenaltyConfig::default().terms();
        let (mut penalties, guesser) = (Penalties::new(terms), source("192.0.2.1"));
        // Three wrong passwords in 7 seconds, one connection after another.
        let mut now = Instant::now();
        let mut passwords = 0;
        while penalties.left(guesser, now).is_none() {
            now += SECOND * 7;
            passwords += 3;
            assert!(passwords <= 12, "never stopped");
            penalties.penalise(guesser, Offence::AuthenticationFailed, 3, now);
        }
        assert_eq!(passwords, 12);
        assert!(penalties.left(guesser, now).unwrap() >= SECOND * 30);
        // Two people at once who know their passwords no more, every half a minute of a working day: 120 such logins an hour.
        let office = source("192.0.2.2");
        for _ in 0..960 {
            for _ in 0..2 {
                penalties.penalise(office, Offence::AuthenticationFailed, 3, now);
                assert_eq!(penalties.left(office, now), None);
            }
            now += SECOND * 30;
        }
    }

    #[test]
    fn what_is_to_be_served_grows_to_a_limit_and_is_served_in_time() {
        let (mut penalties, source, now) = new();
        assert_eq!(penalties.penalise(source, Offence::Crashed, 1, now), Some(SECOND * 90));
        assert_eq!(penalties.penalise(source, Offence::Crashed, 1, now), None, "said once");
        assert_eq!(penalties.left(source, now + SECOND * 10), Some(SECOND * 170));
        for _ in 0..100 {
            penalties.penalise(source, Offence::Crashed, 1, now);
        }
        assert_eq!(penalties.left(source, now), Some(SECOND * 600));
        // Refused to the end once it is refused, also below the least.
        assert_eq!(penalties.left(source, now + SECOND * 599), Some(SECOND));
        assert_eq!(penalties.left(source, now + SECOND * 600), None);
        assert_eq!(penalties.len(now + SECOND * 600), 0);
    }

    #[test]
    fn mistakes_that_are_far_apart_never_add_up() {
        let (mut penalties, source, mut now) = new();
        for _ in 0..100 {
            assert_eq!(penalties.penalise(source, Offence::AuthenticationFailed, 1, now), None);
            now += SECOND * 6;
        }
    }

    #[test]
    fn whoever_has_many_addresses_pushes_no_larger_penalty_out_and_the_table_stays_small() {
        let (mut penalties, source, now) = new();
        penalties.penalise(source, Offence::Crashed, 1, now);
        for n in 0..10_000_u32 {
            penalties.penalise(Source::of(IpAddr::V4((n + 1).into())), Offence::GraceExceeded, 1, now);
        }
        assert_eq!(penalties.len(now), TERMS.max_sources);
        assert_eq!(penalties.left(source, now), Some(SECOND * 90));
        // Nor does one family fill the other's table.
        let v6 = super::tests::source("2001:db8::1");
        penalties.penalise(v6, Offence::NeverTried, 1, now);
        assert_eq!(penalties.len(now), TERMS.max_sources + 1);
        assert_eq!((penalties.v4.by_source.len(), penalties.v4.by_end.len()), (TERMS.max_sources, TERMS.max_sources));
    }

    #[test]
    fn all_of_an_ipv6_network_of_64_bits_pays_together() {
        let (mut penalties, _, now) = new();
        for n in 1..=3 {
            penalties.penalise(source(&format!("2001:db8:1:2::{n}")), Offence::AuthenticationFailed, 1, now);
        }
        assert!(penalties.left(source("2001:db8:1:2:ffff::9"), now).is_some());
        assert!(penalties.left(source("2001:db8:1:3::1"), now).is_none());
    }

    #[test]
    fn an_offence_that_costs_nothing_is_not_remembered() {
        let (_, source, now) = new();
        let mut penalties = Penalties::new(Terms { crashed: Duration::ZERO, ..TERMS });
        assert_eq!(penalties.penalise(source, Offence::Crashed, 1, now), None);
        assert_eq!(penalties.len(now), 0);
    }
}
