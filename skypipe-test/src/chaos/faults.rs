//! Which faults are on: plain values, and what they make of the next bytes.

use std::time::Duration;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the relay.
    Up,
    /// From the relay to the client.
    Down,
}

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The first connection that comes so far; the next ones are free.
    Once,
    /// Every connection that comes so far.
    Always,
}

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    /// Closed, as by a process that ends: what was carried arrives, then the end.
    Close,
    /// Reset, as by a machine that forgot the connection.
    Reset,
}

/// All faults of a proxy.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    up: WayFaults,
    down: WayFaults,
    /// How often connections were ended by hand, and how the last time. A connection ends when the count grows.
    pub(super) blows: (u64, Option<Blow>),
    /// How often the NAT gave new ports.
    pub(super) rebinds: u64,
}

/// The faults of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WayFaults {
    /// Cut behind so many bytes of a connection, or datagrams of a client.
    pub(super) cut_at: Option<(u64, Times)>,
    /// Nothing comes through.
    pub(super) black_hole: bool,
    /// No more than so many bytes a second.
    pub(super) rate: Option<u64>,
    /// So much later.
    pub(super) latency: Duration,
    /// The lowest bit of this byte of a connection, counted from 0, arrives wrong. Of datagrams: of the first byte of this datagram.
    pub(super) flip_at: Option<u64>,
    /// The part of datagrams that is lost.
    pub(super) loss: f64,
    /// The part of datagrams that comes twice.
    pub(super) doubling: f64,
    /// The part of datagrams that comes behind later ones.
    pub(super) reordering: f64,
}

impl Faults {
    pub(super) fn of(&self, way: Way) -> &WayFaults {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    pub(super) fn of_mut(&mut self, way: Way) -> &mut WayFaults {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}

/// A rate is kept by writing this part of a second at once: fine enough for a trickle, coarse enough for timers.
const STEPS_A_SECOND: u64 = 20;

/// What may happen to the next bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, until the faults change.
    Wait,
    /// So many of them pass, and then nothing for a while.
    Pass(usize, Duration),
}

impl WayFaults {
    /// Whether a connection that carried so many bytes is over.
    pub(super) fn cuts(&self, carried: u64) -> bool {
        self.cut_at.is_some_and(|(at, _)| carried >= at)
    }

    /// What happens to the next `waiting` bytes of a connection that carried so many.
    pub(super) fn step(&self, carried: u64, waiting: usize) -> Step {
        if self.black_hole {
            return Step::Wait;
        }
        let until_cut = self.cut_at.map_or(u64::MAX, |(at, _)| at.saturating_sub(carried));
        let at_once = self.rate.map_or(u64::MAX, |rate| (rate / STEPS_A_SECOND).max(1));
        let count = until_cut.min(at_once).min(waiting as u64);
        let pause = self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) * count as u32 / rate.max(1) as u32);
        Step::Pass(count as usize, pause)
    }

    /// Spoils `bytes`, which follow so many that were carried.
    pub(super) fn spoil(&self, carried: u64, bytes: &mut [u8]) {
        let index = self.flip_at.and_then(|at| at.checked_sub(carried)).and_then(|i| usize::try_from(i).ok());
        if let Some(byte) = index.and_then(|i| bytes.get_mut(i)) {
            *byte ^= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_up_to_the_cut_and_no_faster_than_allowed() {
        let free = WayFaults::default();
        assert_eq!(free.step(0, 100), Step::Pass(100, Duration::ZERO));
        let cut = WayFaults { cut_at: Some((30, Times::Always)), ..free };
        assert_eq!(cut.step(10, 100), Step::Pass(20, Duration::ZERO));
        assert!(!cut.cuts(29) && cut.cuts(30));
        let slow = WayFaults { rate: Some(1), ..free };
        assert_eq!(slow.step(0, 100), Step::Pass(1, Duration::from_secs(1)));
        let hole = WayFaults { black_hole: true, ..cut };
        assert_eq!(hole.step(0, 100), Step::Wait);
    }

    #[test]
    fn one_bit_of_one_byte_is_spoiled() {
        let faults = WayFaults { flip_at: Some(5), ..WayFaults::default() };
        let mut bytes = [0; 4];
        faults.spoil(0, &mut bytes);
        faults.spoil(6, &mut bytes);
        assert_eq!(bytes, [0; 4]);
        faults.spoil(4, &mut bytes);
        assert_eq!(bytes, [0, 1, 0, 0]);
    }
}
