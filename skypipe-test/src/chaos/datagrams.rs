//! What becomes of each datagram of one direction of one client: plain computing, from a seed.

use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use tokio::time::Instant;

use super::delayed::Delayed;
use super::faults::WayFaults;

/// How much later one comes that comes behind others: longer than those behind it take to follow on a loopback.
const BEHIND_OTHERS: Duration = Duration::from_millis(5);

/// One direction of one client.
pub(super) struct Datagrams {
    random: Xoshiro256PlusPlus,
    /// How many came in.
    pub(super) seen: u64,
    /// Nothing passes any more.
    pub(super) is_cut: bool,
    pub(super) delayed: Delayed,
}

impl Datagrams {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Xoshiro256PlusPlus::seed_from_u64(seed), seen: 0, is_cut: false, delayed: Delayed::default() }
    }

    /// A datagram came in.
    pub(super) fn came(&mut self, mut datagram: Vec<u8>, now: Instant, faults: &WayFaults) {
        let number = self.seen;
        self.seen += 1;
        // Drawn always, so that switching one fault does not move the others.
        let (lost, twice, late) = (self.draw(), self.draw(), self.draw());
        if faults.black_hole || self.is_cut || lost < faults.loss {
            return;
        }
        if faults.flip_at == Some(number)
            && let Some(byte) = datagram.first_mut()
        {
            *byte ^= 1;
        }
        let late = if late < faults.reordering { BEHIND_OTHERS } else { Duration::ZERO };
        let due = now + faults.latency + late;
        if twice < faults.doubling {
            self.delayed.push(due, datagram.clone());
        }
        self.delayed.push(due, datagram);
    }

    /// A number from 0 up to 1.
    fn draw(&mut self) -> f64 {
        f64::from(self.random.next_u32()) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What arrives of 1000 datagrams that hold their number, and how.
    fn arrive(seed: u64, faults: WayFaults) -> Vec<u16> {
        let (mut datagrams, start) = (Datagrams::new(seed), Instant::now());
        let mut arrived = Vec::new();
        for number in 0..1000_u16 {
            let now = start + Duration::from_micros(u64::from(number));
            datagrams.came(number.to_be_bytes().to_vec(), now, &faults);
            arrived.extend(std::iter::from_fn(|| datagrams.delayed.pop(now)));
        }
        let end = start + Duration::from_secs(10);
        arrived.extend(std::iter::from_fn(|| datagrams.delayed.pop(end)));
        arrived.into_iter().map(|d| u16::from_be_bytes([d[0], d[1]])).collect()
    }

    fn whole() -> Vec<u16> {
        (0..1000).collect()
    }

    #[test]
    fn without_faults_all_arrive_in_order() {
        assert_eq!(arrive(1, WayFaults::default()), whole());
        assert_eq!(arrive(1, WayFaults { latency: Duration::from_secs(1), ..WayFaults::default() }), whole());
    }

    #[test]
    fn a_tenth_is_lost_doubled_or_late_and_the_seed_says_which() {
        let lossy = WayFaults { loss: 0.1, ..WayFaults::default() };
        let arrived = arrive(7, lossy);
        assert!((850..950).contains(&arrived.len()), "{}", arrived.len());
        assert_eq!(arrived, arrive(7, lossy));
        assert_ne!(arrived, arrive(8, lossy));

        let doubled = arrive(7, WayFaults { doubling: 0.1, ..WayFaults::default() });
        assert!((1050..1150).contains(&doubled.len()), "{}", doubled.len());

        let mut late = arrive(7, WayFaults { reordering: 0.1, ..WayFaults::default() });
        assert_ne!(late, whole());
        late.sort_unstable();
        assert_eq!(late, whole());
    }

    #[test]
    fn a_hole_takes_all_and_a_bit_flips() {
        assert_eq!(arrive(1, WayFaults { black_hole: true, ..WayFaults::default() }), Vec::<u16>::new());
        let flipped = WayFaults { flip_at: Some(2), ..WayFaults::default() };
        assert_eq!(arrive(1, flipped)[..4], [0, 1, 256 + 2, 3]);
    }
}
