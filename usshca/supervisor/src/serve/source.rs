//! Where a connection comes from, as far as limits are concerned: one place shall not take what is there for all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How often a source is named in the log for being over its limit.
const SILENCE: Duration = Duration::from_secs(60);
/// Most sources that are remembered for that; more of them at a time are not logged one by one.
const MAX_REMEMBERED: usize = 1024;

/// An IPv4 address, or an IPv6 network of 64 bits: whoever has one address in such a network has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(IpAddr);

/// Which kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The IPv4 network of 24 bits, or the IPv6 network of 48 bits, that a source lies in: what one organisation has, as a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(IpAddr);

impl Source {
    /// Of a peer. An IPv4 address that came in on an IPv6 socket is an IPv4 address.
    pub fn of(peer: IpAddr) -> Self {
        match peer.to_canonical() {
            IpAddr::V6(address) => Source(IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))),
            v4 @ IpAddr::V4(_) => Source(v4),
        }
    }

    /// Of which family.
    pub fn family(self) -> Family {
        if self.0.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Where it lies.
    pub fn network(self) -> Network {
        match self.0 {
            IpAddr::V4(address) => Network(IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << 8)))),
            IpAddr::V6(address) => Network(IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80)))),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

/// Which sources were named in the log lately.
#[derive(Default)]
pub struct Named(HashMap<Source, Instant>);

impl Named {
    /// Whether this source is to be named now: once a minute.
    pub fn is_due(&mut self, source: Source, now: Instant) -> bool {
        if self.0.get(&source).is_some_and(|last| now.duration_since(*last) < SILENCE) {
            return false;
        }
        if self.0.len() >= MAX_REMEMBERED {
            self.0.retain(|_, last| now.duration_since(*last) < SILENCE);
        }
        if self.0.len() >= MAX_REMEMBERED {
            return false;
        }
        self.0.insert(source, now);
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn source(address: &str) -> Source {
        Source::of(address.parse().unwrap())
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network_of_64_bits() {
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
        assert_eq!(source("192.0.2.1").to_string(), "192.0.2.1");
    }

    #[test]
    fn a_network_is_24_bits_of_ipv4_or_48_of_ipv6() {
        assert_eq!(source("192.0.2.1").network(), source("192.0.2.255").network());
        assert_ne!(source("192.0.2.1").network(), source("192.0.3.1").network());
        assert_eq!(source("2001:db8:1:2::1").network(), source("2001:db8:1:ffff::1").network());
        assert_ne!(source("2001:db8:1:2::1").network(), source("2001:db8:2:2::1").network());
    }

    #[test]
    fn each_source_is_named_once_a_minute_and_not_more_than_so_many() {
        let (mut named, now) = (Named::default(), Instant::now());
        assert!(named.is_due(source("192.0.2.1"), now));
        assert!(!named.is_due(source("192.0.2.1"), now + SILENCE - Duration::from_millis(1)));
        assert!(named.is_due(source("192.0.2.2"), now));
        assert!(named.is_due(source("192.0.2.1"), now + SILENCE));
        let many = (0..5000).filter(|n: &u32| named.is_due(Source::of(IpAddr::V4((*n).into())), now + SILENCE)).count();
        assert!(many <= MAX_REMEMBERED && named.0.len() <= MAX_REMEMBERED, "{many}");
        assert!(named.is_due(source("192.0.2.9"), now + SILENCE * 3));
    }
}
