//! Whose handshake a relay begins: limits for who is not known yet.

use std::collections::HashMap;
use std::net::IpAddr;

/// Handshakes at once. Each costs a few kilobytes and a signature, and is over within 5 s.
pub(crate) const HALF_OPEN_MAX: usize = 256;
/// Handshakes at once of one source: an IPv4 address, or the /64 of an IPv6 address, which is one household.
pub(crate) const HALF_OPEN_PER_SOURCE_MAX: usize = 16;
/// From so many on, a newcomer must first show that it gets what is sent to its address (QUIC's Retry), which costs it a round trip
/// and a flood from invented addresses everything.
pub(crate) const RETRY_FROM: usize = 64;

/// What to do with a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Begin the handshake.
    Admit,
    /// Have it prove its address first. Nothing is kept of it.
    Retry,
    /// Let it wait until another handshake is over.
    Wait,
}

/// Where packets come from, as far as one party can have many addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source(u64, bool);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(u32::from(v4)), false),
            IpAddr::V6(v6) => Self((u128::from(v6) >> 64) as u64, true),
        }
    }
}

/// Counts the handshakes.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: usize,
    by_source: HashMap<Source, usize>,
}

impl Gate {
    /// What to do with a newcomer from `source`; `proven` when it has shown that it is there. Sources that have not are never held
    /// against each other: anybody can write anybody's address.
    pub(crate) fn judge(&self, source: Source, proven: bool) -> Verdict {
        let of_source = self.by_source.get(&source).copied().unwrap_or(0);
        match proven {
            false if self.open >= RETRY_FROM || of_source >= HALF_OPEN_PER_SOURCE_MAX => Verdict::Retry,
            true if self.open >= HALF_OPEN_MAX || of_source >= HALF_OPEN_PER_SOURCE_MAX => Verdict::Wait,
            _ => Verdict::Admit,
        }
    }

    /// A handshake begins.
    pub(crate) fn begins(&mut self, source: Source) {
        self.open += 1;
        *self.by_source.entry(source).or_default() += 1;
    }

    /// It is over, however it went.
    pub(crate) fn ends(&mut self, source: Source) {
        self.open = self.open.saturating_sub(1);
        if let Some(count) = self.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_household_is_one_source() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }

    #[test]
    fn a_flood_must_prove_its_addresses_and_then_wait() {
        let mut gate = Gate::default();
        let nth = |n: usize| source(&format!("10.0.{}.{}", n / 256, n % 256));
        for n in 0..RETRY_FROM {
            assert_eq!(gate.judge(nth(n), false), Verdict::Admit);
            gate.begins(nth(n));
        }
        assert_eq!((gate.judge(nth(999), false), gate.judge(nth(999), true)), (Verdict::Retry, Verdict::Admit));
        (RETRY_FROM..HALF_OPEN_MAX).for_each(|n| gate.begins(nth(n)));
        assert_eq!(gate.judge(nth(999), true), Verdict::Wait);
        (0..HALF_OPEN_MAX).for_each(|n| gate.ends(nth(n)));
        assert!(gate.open == 0 && gate.by_source.is_empty());
    }

    #[test]
    fn one_source_does_not_crowd_out_the_others() {
        let mut gate = Gate::default();
        (0..HALF_OPEN_PER_SOURCE_MAX).for_each(|_| gate.begins(source("192.0.2.1")));
        assert_eq!(gate.judge(source("192.0.2.1"), false), Verdict::Retry);
        assert_eq!(gate.judge(source("192.0.2.1"), true), Verdict::Wait);
        assert_eq!(gate.judge(source("192.0.2.2"), false), Verdict::Admit);
        gate.ends(source("192.0.2.1"));
        assert_eq!(gate.judge(source("192.0.2.1"), true), Verdict::Admit);
    }
}
