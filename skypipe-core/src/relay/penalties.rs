//! What it costs a source when its links prove nothing: growing times in which no further one is looked at, as OpenSSH has them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::source::Source;
use crate::time::Time;

/// Sources that are remembered; the one whose time is over first makes way. 64 bytes each, so a flood from many addresses costs no more
/// than 4 MB.
const SOURCES_MAX: usize = 65_536;
/// Penalties below this in sum are only counted: who mistypes a key or two is not shut out.
const COUNTS_FROM: Duration = Duration::from_secs(15);
/// The longest that a source is shut out, however much it did.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// What a link did before it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offence {
    /// It proved no key in time, or left without a word.
    Silence,
    /// It proved a key that is not known, or gave a ticket that is not good.
    Refused,
    /// It broke the rules of the protocol.
    Nonsense,
}

impl Offence {
    /// A client that is not let in says so to its user and ends, so it comes seldom; a guesser or a scanner comes often.
    const fn penalty(self) -> Duration {
        match self {
            Self::Silence => Duration::from_secs(2),
            Self::Refused => Duration::from_secs(5),
            Self::Nonsense => Duration::from_secs(10),
        }
    }
}

/// Until when each source pays.
#[derive(Debug, Default)]
pub(super) struct Penalties {
    until: HashMap<Source, Time>,
    in_order: BTreeSet<(Time, Source)>,
}

impl Penalties {
    /// Whether a link of this source is closed unseen.
    pub(super) fn shut_out(&self, source: Source, now: Time) -> bool {
        self.until.get(&source).is_some_and(|until| until.since(now) > COUNTS_FROM)
    }

    /// A link of this source did that. Each penalty adds to what is left of those before.
    pub(super) fn punish(&mut self, source: Source, offence: Offence, now: Time) {
        self.forget_past(now);
        let before = self.until.get(&source).copied();
        let until = before.unwrap_or(now).max(now).plus(offence.penalty()).min(now.plus(LONGEST));
        if let Some(before) = before {
            self.in_order.remove(&(before, source));
        } else if self.until.len() >= SOURCES_MAX
            && let Some((_, first)) = self.in_order.pop_first()
        {
            self.until.remove(&first);
        }
        self.until.insert(source, until);
        self.in_order.insert((until, source));
    }

    fn forget_past(&mut self, now: Time) {
        while let Some((until, source)) = self.in_order.first().copied().filter(|(until, _)| *until <= now) {
            self.in_order.remove(&(until, source));
            self.until.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Peer;

    fn source(number: u32) -> Source {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + number);
        Source::of(&Peer::Network(format!("{address}:1"))).unwrap()
    }

    fn at(seconds: u64) -> Time {
        Time::default().plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_few_are_forgiven_and_many_grow() {
        let mut penalties = Penalties::default();
        for _ in 0..3 {
            penalties.punish(source(1), Offence::Refused, at(0));
        }
        assert!(!penalties.shut_out(source(1), at(0)), "15 s are not over 15 s");
        penalties.punish(source(1), Offence::Refused, at(0));
        assert!(penalties.shut_out(source(1), at(4)) && !penalties.shut_out(source(1), at(5)));
        assert!(!penalties.shut_out(source(2), at(0)), "others pay nothing");
    }

    #[test]
    fn nobody_is_shut_out_for_longer_than_the_longest() {
        let mut penalties = Penalties::default();
        for _ in 0..10_000 {
            penalties.punish(source(1), Offence::Nonsense, at(0));
        }
        assert!(penalties.shut_out(source(1), at(584)) && !penalties.shut_out(source(1), at(585)));
        penalties.punish(source(2), Offence::Silence, at(601));
        assert_eq!(penalties.until.len(), 1, "what is over is forgotten");
    }

    #[test]
    fn a_flood_of_sources_fills_no_memory() {
        let mut penalties = Penalties::default();
        for number in 0..2 * SOURCES_MAX as u32 {
            penalties.punish(source(number), Offence::Nonsense, at(0));
        }
        assert!(penalties.until.len() == SOURCES_MAX && penalties.in_order.len() == SOURCES_MAX);
    }
}
