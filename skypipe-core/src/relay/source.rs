//! Where links come from, and how many half-open ones each such place has.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::caller::Peer;

/// An IPv4 address, or the 64 bits of an IPv6 address that one customer has all the addresses of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Source([u8; 8]);

impl Source {
    /// Where this peer's links come from; none on this machine.
    pub(super) fn of(peer: &Peer) -> Option<Self> {
        let Peer::Network(address) = peer else { return None };
        let mut source = [0; 8];
        match address.parse::<SocketAddr>().ok()?.ip().to_canonical() {
            IpAddr::V4(ip) => source[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => source.copy_from_slice(&ip.octets()[..8]),
        }
        Some(Self(source))
    }

    /// As [`Source::of`], and none for this machine's own address: behind a proxy here all clients have it, and would pay for one another.
    pub(super) fn punishable(peer: &Peer) -> Option<Self> {
        let Peer::Network(address) = peer else { return None };
        let is_here = address.parse::<SocketAddr>().is_ok_and(|address| address.ip().to_canonical().is_loopback());
        if is_here { None } else { Self::of(peer) }
    }
}

/// How many each source has. There are no more entries than half-open links in all.
pub(super) struct Counts {
    counts: Arc<Mutex<HashMap<Source, usize>>>,
    max: usize,
}

impl Counts {
    pub(super) fn new(max: usize) -> Self {
        Self { counts: Arc::default(), max }
    }

    /// One more for this source, until it is dropped; none if it has as many as it may.
    pub(super) fn take(&self, source: Source) -> Option<Share> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Share { counts: self.counts.clone(), source })
    }
}

/// One of a source's.
pub(super) struct Share {
    counts: Arc<Mutex<HashMap<Source, usize>>>,
    source: Source,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::of(&Peer::Network(address.to_owned())).unwrap()
    }

    #[test]
    fn a_source_is_an_address_or_a_customers_prefix() {
        assert_eq!(source("192.0.2.1:5"), source("192.0.2.1:6"));
        assert_eq!(source("[::ffff:192.0.2.1]:5"), source("192.0.2.1:6"));
        assert_ne!(source("192.0.2.1:5"), source("192.0.2.2:5"));
        assert_eq!(source("[2001:db8:1:2::3]:5"), source("[2001:db8:1:2:ffff::]:5"));
        assert_ne!(source("[2001:db8:1:2::3]:5"), source("[2001:db8:1:3::3]:5"));
        assert!(Source::of(&Peer::InProcess).is_none());
        let punishable = |address: &str| Source::punishable(&Peer::Network(address.to_owned())).is_some();
        assert!(punishable("192.0.2.1:5") && !punishable("127.0.0.1:5") && !punishable("[::ffff:127.0.0.1]:5"));
    }

    #[test]
    fn each_source_has_its_share_and_gives_it_back() {
        let counts = Counts::new(2);
        let shares = [counts.take(source("192.0.2.1:1")), counts.take(source("192.0.2.1:2"))];
        assert!(shares.iter().all(Option::is_some) && counts.take(source("192.0.2.1:3")).is_none());
        assert!(counts.take(source("192.0.2.9:3")).is_some());
        drop(shares);
        assert!(counts.take(source("192.0.2.1:3")).is_some());
        assert!(counts.counts.lock().unwrap().is_empty());
    }
}
