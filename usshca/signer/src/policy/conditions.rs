//! Whom and when a rule is about.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::tz::TimeZone;
use jiff::{Timestamp, civil::Weekday};
use ussh_core::clock::UnixTime;

use super::Question;

/// All of it must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    pub subjects: Subjects,
    /// `None`: from everywhere.
    pub from: Option<Vec<IpNet>>,
    pub when: When,
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subjects {
    Everybody,
    /// Any of these users, or a member of any of these groups.
    Listed {
        users: Vec<String>,
        groups: Vec<String>,
    },
}

/// At which times of the week, in the policy's time zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// Minutes since midnight, from the first up to the second; over midnight if the second is the smaller one.
    pub hours: Option<(u16, u16)>,
    /// The days on which `hours` begin; empty: all.
    pub days: Vec<Weekday>,
}

/// The first condition of a rule that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// `users`, `groups`
    #[error("is about other users and groups")]
    Subject,
    /// `from`
    #[error("is about other networks (from)")]
    Source,
    /// `hours`, `days`
    #[error("is about other times (hours, days)")]
    Time,
}

impl Conditions {
    /// Why a rule does not match, or nothing.
    pub fn mismatch(&self, question: &Question<'_>, zone: &TimeZone) -> Option<Mismatch> {
        if !self.subjects.include(question.user, question.groups) {
            return Some(Mismatch::Subject);
        }
        if self.from.as_ref().is_some_and(|networks| !contains(networks, question.source)) {
            return Some(Mismatch::Source);
        }
        (!self.when.includes(question.time, zone)).then_some(Mismatch::Time)
    }

    /// Whether a request from this address may fulfil them.
    pub fn may_come_from(&self, source: IpAddr) -> bool {
        self.from.as_ref().is_none_or(|networks| contains(networks, source))
    }

    /// Whether whatever fulfils `other` fulfils these.
    pub fn cover(&self, other: &Conditions) -> bool {
        let from = match (&self.from, &other.from) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wide), Some(narrow)) => narrow.iter().all(|net| wide.iter().any(|w| w.contains(net))),
        };
        from && self.subjects.cover(&other.subjects) && (self.when == When::default() || self.when == other.when)
    }
}

impl Subjects {
    pub(super) fn include(&self, user: &str, groups: &[String]) -> bool {
        match self {
            Subjects::Everybody => true,
            Subjects::Listed { users, groups: listed } => {
                users.iter().any(|u| u == user) || listed.iter().any(|g| groups.contains(g))
            }
        }
    }

    fn cover(&self, other: &Subjects) -> bool {
        match (self, other) {
            (Subjects::Everybody, _) => true,
            (Subjects::Listed { .. }, Subjects::Everybody) => false,
            (Subjects::Listed { users, groups }, Subjects::Listed { users: other_users, groups: other_groups }) => {
                other_users.iter().all(|u| users.contains(u)) && other_groups.iter().all(|g| groups.contains(g))
            }
        }
    }
}

/// Whether one of the networks holds the address. An IPv4 address that came in on an IPv6 socket is an IPv4 address.
pub(super) fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|net| net.contains(&address))
}

impl When {
    fn includes(&self, time: UnixTime, zone: &TimeZone) -> bool {
        if self.hours.is_none() && self.days.is_empty() {
            return true;
        }
        // A time that no calendar has is none of the rule's.
        let seconds = i64::try_from(time.0).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let Some(local) = seconds.map(|timestamp| zone.to_datetime(timestamp)) else {
            return false;
        };
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let (today, yesterday) = (local.weekday(), local.weekday().previous());
        let on = |day: Weekday| self.days.is_empty() || self.days.contains(&day);
        match self.hours {
            None => on(today),
            Some((from, to)) if from < to => on(today) && (from..to).contains(&minute),
            Some((from, to)) => (on(today) && minute >= from) || (on(yesterday) && minute < to),
        }
    }
}
