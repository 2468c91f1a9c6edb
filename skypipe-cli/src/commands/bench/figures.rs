//! Rates and times, and what is told of them.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use skypipe_core::{Code, Error};

/// Parts of a measurement that each have a rate: enough to see whether it is steady, few enough that each is long.
pub(super) const SLICES: usize = 10;
/// Longest time that is told apart from longer ones.
const TIME_MAX: Duration = Duration::from_secs(3600);
/// Digits that count: 0.1 % of a time is less than what chance adds to it.
const DIGITS: u8 = 3;

/// When is measured: a tenth of the time goes before, in which things warm up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    begin: Instant,
    time: Duration,
}

impl Window {
    /// From now on.
    pub(super) fn open(time: Duration) -> Self {
        Self { begin: Instant::now() + time / SLICES as u32, time }
    }

    /// When it is over.
    pub(super) fn end(self) -> Instant {
        self.begin + self.time
    }

    /// How long.
    pub(super) fn time(self) -> Duration {
        self.time
    }

    /// Whether something that happened at `now` counts.
    pub(super) fn holds(self, now: Instant) -> bool {
        now >= self.begin && now < self.end()
    }

    /// Which part of it `now` is in.
    fn slice(self, now: Instant) -> Option<usize> {
        let since = now.checked_duration_since(self.begin)?;
        let slice = since.as_secs_f64() / self.time.as_secs_f64() * SLICES as f64;
        (slice < SLICES as f64).then_some(slice as usize)
    }
}

/// How much happened in each part of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slices {
    window: Window,
    amounts: [u64; SLICES],
}

impl Slices {
    pub(super) fn new(window: Window) -> Self {
        Self { window, amounts: [0; SLICES] }
    }

    /// So much happened now.
    pub(super) fn add(&mut self, amount: u64) {
        if let Some(slice) = self.window.slice(Instant::now()) {
            self.amounts[slice] += amount;
        }
    }

    /// What happened here and there together.
    pub(super) fn join(&mut self, other: &Self) {
        self.amounts.iter_mut().zip(other.amounts).for_each(|(amount, more)| *amount += more);
    }

    /// So much a second in each part.
    pub(super) fn rate(&self) -> Rate {
        let seconds = self.window.time().as_secs_f64() / SLICES as f64;
        Rate { slices: self.amounts.map(|amount| amount as f64 / seconds) }
    }
}

/// So much a second, in each part of the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    pub(super) slices: [f64; SLICES],
}

impl Rate {
    pub(super) fn median(&self) -> f64 {
        let mut sorted = self.slices;
        sorted.sort_by(f64::total_cmp);
        (sorted[(SLICES - 1) / 2] + sorted[SLICES / 2]) / 2.0
    }

    pub(super) fn min(&self) -> f64 {
        self.slices.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(super) fn max(&self) -> f64 {
        self.slices.iter().copied().fold(0.0, f64::max)
    }
}

/// How long something took, each time it was done: in bounded memory, however often.
#[derive(Clone, Debug)]
pub(super) struct Times(Histogram<u64>);

impl Times {
    /// # Errors
    /// None that can come: the bounds are good ones.
    pub(super) fn new() -> Result<Self, Error> {
        let bad = |e| Error::new(Code::Internal, "no room to count times in").because(e);
        Histogram::new_with_bounds(1, nanoseconds(TIME_MAX), DIGITS).map(Self).map_err(bad)
    }

    /// It took so long.
    pub(super) fn add(&mut self, time: Duration) {
        self.0.saturating_record(nanoseconds(time));
    }

    /// How often.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// So much of it took at most so long, in microseconds: 0.5 for half of it.
    pub(super) fn quantile(&self, part: f64) -> f64 {
        microseconds(self.0.value_at_quantile(part))
    }

    pub(super) fn min(&self) -> f64 {
        microseconds(self.0.min())
    }

    pub(super) fn max(&self) -> f64 {
        microseconds(self.0.max())
    }

    /// How often it took from `from` up to but not including `to`, in microseconds.
    pub(super) fn between(&self, from: f64, to: f64) -> u64 {
        let of = |value: u64| microseconds(value);
        self.0
            .iter_recorded()
            .filter(|v| (from..to).contains(&of(v.value_iterated_to())))
            .map(|v| v.count_at_value())
            .sum()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends_of_a_rate() {
        let rate = Rate { slices: [9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0, 100.0] };
        assert_eq!((rate.median(), rate.min(), rate.max()), (5.5, 1.0, 100.0));
        assert_eq!(Rate { slices: [0.0; SLICES] }.median(), 0.0);
    }

    #[test]
    fn what_comes_before_and_after_the_window_does_not_count() {
        let window = Window::open(Duration::from_secs(10));
        let at = |seconds: f64| window.slice(window.begin + Duration::from_secs_f64(seconds));
        assert_eq!(window.slice(window.begin.checked_sub(Duration::from_millis(1)).unwrap()), None);
        assert_eq!([at(0.0), at(0.99), at(1.0), at(9.99), at(10.0)], [Some(0), Some(0), Some(1), Some(9), None]);
        assert!(window.holds(window.begin) && !window.holds(window.end()));
    }

    #[test]
    fn a_rate_is_an_amount_in_a_time_and_two_readers_add_up() {
        let mut window = Window::open(Duration::from_secs(20));
        window.begin = Instant::now();
        let (mut slices, mut other) = (Slices::new(window), Slices::new(window));
        slices.add(100);
        slices.add(20);
        other.add(4);
        slices.join(&other);
        assert_eq!(slices.rate().slices[0], 62.0);
        assert_eq!(slices.rate().max(), 62.0);
    }

    #[test]
    fn of_a_thousand_times_the_known_ones_come_back() {
        let mut times = Times::new().unwrap();
        (1..=1000).for_each(|micros| times.add(Duration::from_micros(micros)));
        let near = |value: f64, expected: f64| (value - expected).abs() <= expected / 500.0;
        assert!(near(times.quantile(0.5), 500.0) && near(times.quantile(0.99), 990.0), "{times:?}");
        assert!(near(times.quantile(0.999), 999.0) && near(times.max(), 1000.0) && near(times.min(), 1.0));
        assert!(times.between(0.0, 2000.0) == 1000 && (95..=105).contains(&times.between(100.0, 200.0)));
        times.add(Duration::from_secs(100_000));
        assert!(times.count() == 1001 && near(times.max(), 3.6e9), "longer than an hour counts as an hour");
    }

    #[test]
    fn nothing_measured_is_nothing() {
        let times = Times::new().unwrap();
        assert_eq!((times.count(), times.quantile(0.99), times.max(), times.min()), (0, 0.0, 0.0, 0.0));
    }
}
