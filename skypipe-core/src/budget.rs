//! One bound on the memory that peers can fill.
//!
//! Whatever a peer can make a relay hold (frames on their way in, batches until the last reader and the log have let go of them, batches
//! read from the log, sessions, pipes) is a [`Reservation`] out of one [`Budget`] for as long as it is there. What nobody uses costs nothing, so
//! ten thousand idle sessions may be allowed what one busy session uses. When more than half is used, windows shrink
//! ([`Budget::is_pressed`]); when all is used, what is new waits in line ([`Budget::poll_take`]) or is refused ([`Budget::take`]).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;

/// How much memory peers may fill. Cheap to clone: every clone is the same budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes_max: u64,
    /// Changed only under the lock, so that nobody takes what the first in line was woken for.
    used: AtomicU64,
    /// More than half was used, and not yet less than 3/8 again.
    pressed: AtomicBool,
    line: Mutex<Line>,
    /// What this is a part of.
    whole: Option<Budget>,
}

/// Who waits, the first one first.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<(u64, Waker)>,
    next_place: u64,
    /// Who wants to hear when pressure comes or goes.
    watching: Vec<Waker>,
}

impl Budget {
    /// A budget of exactly so many bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self::within(bytes_max, None)
    }

    /// So many bytes of this one at most, for one party of many: what is reserved there is reserved here too.
    #[must_use]
    pub fn part(&self, bytes_max: u64) -> Self {
        Self::within(bytes_max, Some(self.clone()))
    }

    fn within(bytes_max: u64, whole: Option<Self>) -> Self {
        let (used, pressed) = (AtomicU64::new(0), AtomicBool::new(false));
        Self(Arc::new(Shared { bytes_max, used, pressed, line: Mutex::default(), whole }))
    }

    /// Bytes that there are in all.
    pub fn bytes_max(&self) -> u64 {
        self.0.bytes_max
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Whether windows are to be small, here or in what this is a part of.
    pub fn is_pressed(&self) -> bool {
        self.0.pressed.load(Ordering::Relaxed) || self.0.whole.as_ref().is_some_and(Self::is_pressed)
    }

    /// So many bytes, if they are there and nobody waits for them.
    pub fn take(&self, bytes: u64) -> Option<Reservation> {
        let of_whole = match &self.0.whole {
            Some(whole) => Some(Box::new(whole.take(bytes)?)),
            None => None,
        };
        let line = self.0.line();
        let fits = line.waiting.is_empty() && self.0.fits(bytes);
        fits.then(|| self.0.grant(line, bytes, of_whole))
    }

    /// So many bytes, when they are there and it is the turn of this `place`. More than there is in all is granted when nothing else is in use.
    /// Who has waited for its part waits for the whole then, and holds its part meanwhile, which is nobody else's.
    pub fn poll_take(&self, bytes: u64, place: &mut Place, cx: &Context<'_>) -> Poll<Reservation> {
        let Some(whole) = &self.0.whole else { return self.poll_own(bytes, place, cx) };
        let mut own = match place.own.take() {
            Some(own) => own,
            None => ready!(self.poll_own(bytes, place, cx)),
        };
        let in_whole = place.whole.get_or_insert_default();
        match whole.poll_take(bytes, in_whole, cx) {
            Poll::Ready(of_whole) => {
                own.of_whole = Some(Box::new(of_whole));
                place.whole = None;
                Poll::Ready(own)
            }
            Poll::Pending => {
                place.own = Some(own);
                Poll::Pending
            }
        }
    }

    /// As [`Budget::poll_take`], waiting for this part alone: the whole is told, and not asked.
    pub fn poll_take_own(&self, bytes: u64, place: &mut Place, cx: &Context<'_>) -> Poll<Reservation> {
        let mut own = ready!(self.poll_own(bytes, place, cx));
        own.of_whole = self.0.whole.as_ref().map(|whole| Box::new(whole.hold(bytes)));
        Poll::Ready(own)
    }

    fn poll_own(&self, bytes: u64, place: &mut Place, cx: &Context<'_>) -> Poll<Reservation> {
        let mut line = self.0.line();
        let is_first = line.waiting.front().is_none_or(|(first, _)| place.is(*first));
        if is_first && (self.0.fits(bytes) || self.used() == 0) {
            // Nobody waits any more.
            place.budget = None;
            if place.number.take().is_some() {
                line.waiting.pop_front();
            }
            // There may be room for the next one as well.
            let next = line.waiting.front().map(|(_, waker)| waker.clone());
            let grant = self.0.grant(line, bytes, None);
            next.into_iter().for_each(Waker::wake);
            return Poll::Ready(grant);
        }
        line.wait(place, cx.waker());
        drop(line);
        place.budget.get_or_insert_with(|| self.clone());
        Poll::Pending
    }

    /// So many bytes, which are in memory already.
    pub fn hold(&self, bytes: u64) -> Reservation {
        let of_whole = self.0.whole.as_ref().map(|whole| Box::new(whole.hold(bytes)));
        self.0.grant(self.0.line(), bytes, of_whole)
    }

    /// Ready when pressure is not `as_known` any more.
    pub fn poll_pressure(&self, as_known: bool, cx: &Context<'_>) -> Poll<bool> {
        let mut line = self.0.line();
        let now = self.is_pressed();
        if now != as_known {
            return Poll::Ready(now);
        }
        if !line.watching.iter().any(|waker| waker.will_wake(cx.waker())) {
            line.watching.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, bytes: u64) -> bool {
        self.used.load(Ordering::Relaxed).saturating_add(bytes) <= self.bytes_max
    }

    fn grant(
        self: &Arc<Self>,
        line: MutexGuard<'_, Line>,
        bytes: u64,
        of_whole: Option<Box<Reservation>>,
    ) -> Reservation {
        let used = self.used.load(Ordering::Relaxed).saturating_add(bytes);
        self.set(line, used);
        Reservation { budget: self.clone(), bytes, of_whole }
    }

    fn give_back(&self, bytes: u64) {
        let line = self.line();
        let first = line.waiting.front().map(|(_, waker)| waker.clone());
        let used = self.used.load(Ordering::Relaxed).saturating_sub(bytes);
        self.set(line, used);
        first.into_iter().for_each(Waker::wake);
    }

    /// Wakers are woken when the lock is free.
    fn set(&self, mut line: MutexGuard<'_, Line>, used: u64) {
        self.used.store(used, Ordering::Relaxed);
        let was_pressed = self.pressed.load(Ordering::Relaxed);
        // Between the two marks it stays as it is, so that windows do not flutter.
        let pressed = if was_pressed { used > self.bytes_max / 8 * 3 } else { used > self.bytes_max / 2 };
        if pressed == was_pressed {
            return;
        }
        self.pressed.store(pressed, Ordering::Relaxed);
        let watching = std::mem::take(&mut line.watching);
        drop(line);
        watching.into_iter().for_each(Waker::wake);
    }
}

impl Line {
    fn wait(&mut self, place: &mut Place, waker: &Waker) {
        let number = *place.number.get_or_insert_with(|| {
            self.next_place += 1;
            self.next_place
        });
        match self.waiting.iter_mut().find(|(other, _)| *other == number) {
            Some((_, known)) => known.clone_from(waker),
            None => self.waiting.push_back((number, waker.clone())),
        }
    }
}

/// A place in the line for a [`Budget`], left when it is dropped.
#[derive(Debug, Default)]
pub struct Place {
    number: Option<u64>,
    budget: Option<Budget>,
    /// What was taken of the part already, and the place in the line for the whole.
    own: Option<Reservation>,
    whole: Option<Box<Self>>,
}

impl Place {
    fn is(&self, number: u64) -> bool {
        self.number == Some(number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (Some(number), Some(budget)) = (self.number, &self.budget) else { return };
        let mut line = budget.0.line();
        line.waiting.retain(|(other, _)| *other != number);
        let first = line.waiting.front().map(|(_, waker)| waker.clone());
        drop(line);
        first.into_iter().for_each(Waker::wake);
    }
}

/// A part of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Shared>,
    bytes: u64,
    /// The same bytes of what the budget is a part of.
    of_whole: Option<Box<Self>>,
}

impl Reservation {
    /// The same memory, whose grant is given back with its last clone and slice.
    pub fn own(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Owned { bytes, _grant: self })
    }

    /// So many bytes from now on; more are taken whether they are there or not.
    pub fn resize(&mut self, bytes: u64) {
        self.of_whole.iter_mut().for_each(|whole| whole.resize(bytes));
        if bytes < self.bytes {
            self.budget.give_back(self.bytes - bytes);
        } else if bytes > self.bytes {
            let line = self.budget.line();
            let used = self.budget.used.load(Ordering::Relaxed).saturating_add(bytes - self.bytes);
            self.budget.set(line, used);
        }
        self.bytes = bytes;
    }

    /// Takes so many bytes, or all, off this grant into one of their own.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let of_whole = self.of_whole.as_mut().map(|whole| Box::new(whole.split(bytes)));
        Self { budget: self.budget.clone(), bytes, of_whole }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give_back(self.bytes);
        }
    }
}

struct Owned {
    bytes: Bytes,
    _grant: Reservation,
}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn woken() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (count.clone(), Waker::from(count))
    }

    #[test]
    fn a_grant_comes_back_with_the_last_slice_of_its_bytes() {
        let budget = Budget::new(100);
        let bytes = budget.take(60).unwrap().own(Bytes::from(vec![1; 60]));
        let slice = bytes.slice(10..20);
        drop(bytes);
        assert!(budget.used() == 60 && budget.take(60).is_none());
        drop(slice);
        assert!(budget.used() == 0 && budget.take(60).is_some());
    }

    #[test]
    fn who_waits_is_served_in_turn_and_nobody_passes() {
        let budget = Budget::new(100);
        let (all, (first_woken, first_waker), (second_woken, second_waker)) = (budget.take(100), woken(), woken());
        let (mut first, mut second) = (Place::default(), Place::default());
        assert!(budget.poll_take(80, &mut first, &Context::from_waker(&first_waker)).is_pending());
        assert!(budget.poll_take(10, &mut second, &Context::from_waker(&second_waker)).is_pending());
        drop(all);
        assert!(first_woken.0.load(Ordering::Relaxed) == 1 && second_woken.0.load(Ordering::Relaxed) == 0);
        assert!(budget.take(10).is_none(), "the first in line was woken for it");
        assert!(budget.poll_take(10, &mut second, &Context::from_waker(&second_waker)).is_pending());
        let taken = budget.poll_take(80, &mut first, &Context::from_waker(&first_waker));
        assert!(taken.is_ready() && second_woken.0.load(Ordering::Relaxed) == 1);
        assert!(budget.poll_take(10, &mut second, &Context::from_waker(&second_waker)).is_ready());
    }

    #[test]
    fn who_leaves_the_line_holds_up_nobody() {
        let budget = Budget::new(100);
        let (used, (_, waker), (second_woken, second_waker)) = (budget.take(50), woken(), woken());
        let (mut first, mut second) = (Place::default(), Place::default());
        assert!(budget.poll_take(80, &mut first, &Context::from_waker(&waker)).is_pending());
        assert!(budget.poll_take(10, &mut second, &Context::from_waker(&second_waker)).is_pending());
        drop(first);
        assert_eq!(second_woken.0.load(Ordering::Relaxed), 1);
        assert!(budget.poll_take(10, &mut second, &Context::from_waker(&second_waker)).is_ready());
        drop(used);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn more_than_there_is_goes_alone() {
        let budget = Budget::new(100);
        let (_, waker) = woken();
        let cx = Context::from_waker(&waker);
        let used = budget.take(1);
        let mut place = Place::default();
        assert!(budget.poll_take(500, &mut place, &cx).is_pending());
        drop(used);
        assert!(budget.poll_take(500, &mut place, &cx).is_ready());
    }

    #[test]
    fn who_fills_its_part_leaves_the_rest_to_others() {
        let whole = Budget::new(100);
        let (greedy, modest) = (whole.part(60), whole.part(60));
        let (_, waker) = woken();
        let cx = Context::from_waker(&waker);
        let held = greedy.take(60);
        assert!(held.is_some() && greedy.take(1).is_none() && whole.used() == 60);
        let mut place = Place::default();
        assert!(greedy.poll_take(1, &mut place, &cx).is_pending());
        let other = modest.take(40);
        assert!(other.is_some() && whole.used() == 100, "who waits for its own part holds up nobody");
        drop(held);
        let Poll::Ready(mut taken) = greedy.poll_take(10, &mut place, &cx) else { panic!("there is room") };
        let part = taken.split(4);
        assert_eq!((greedy.used(), whole.used()), (10, 50));
        drop((taken, part, other));
        assert_eq!((greedy.used(), whole.used()), (0, 0));
    }

    #[test]
    fn a_part_that_waits_for_itself_alone_goes_beyond_the_whole() {
        let whole = Budget::new(100);
        let part = whole.part(60);
        let (count, waker) = woken();
        let cx = Context::from_waker(&waker);
        let _others = whole.take(100);
        let mut place = Place::default();
        let Poll::Ready(held) = part.poll_take_own(60, &mut place, &cx) else { panic!("its part is free") };
        assert_eq!(whole.used(), 160);
        assert!(part.poll_take_own(60, &mut place, &cx).is_pending());
        drop(held);
        assert!(count.0.load(Ordering::Relaxed) == 1 && part.poll_take_own(60, &mut place, &cx).is_ready());
    }

    #[test]
    fn a_part_waits_for_the_whole_too() {
        let whole = Budget::new(100);
        let part = whole.part(60);
        let (count, waker) = woken();
        let cx = Context::from_waker(&waker);
        let others = whole.take(90);
        let mut place = Place::default();
        assert!(part.poll_take(20, &mut place, &cx).is_pending());
        assert!(part.poll_take(20, &mut place, &cx).is_pending() && part.used() == 20 && whole.used() == 90);
        drop(others);
        assert!(count.0.load(Ordering::Relaxed) > 0 && part.poll_take(20, &mut place, &cx).is_ready());
        assert!(part.poll_take(20, &mut place, &cx).is_ready());
        drop(place);
        assert_eq!((part.used(), whole.used()), (0, 0));
    }

    #[test]
    fn pressure_is_told_when_it_comes_and_when_it_goes() {
        let budget = Budget::new(80);
        let (count, waker) = woken();
        let cx = Context::from_waker(&waker);
        assert!(budget.poll_pressure(false, &cx).is_pending());
        let mut grant = budget.hold(40);
        assert!(!budget.is_pressed());
        grant.resize(41);
        assert!(budget.is_pressed() && count.0.load(Ordering::Relaxed) == 1);
        assert_eq!(budget.poll_pressure(false, &cx), Poll::Ready(true));
        assert!(budget.poll_pressure(true, &cx).is_pending());
        grant.resize(31);
        assert!(budget.is_pressed(), "it does not flutter");
        grant.resize(30);
        assert!(!budget.is_pressed() && count.0.load(Ordering::Relaxed) == 2);
    }

    proptest! {
        #[test]
        fn what_is_used_is_what_is_held(steps in prop::collection::vec((0u8..4, 0u64..60), 0..200)) {
            let budget = Budget::new(100);
            let mut grants: Vec<Reservation> = Vec::new();
            for (what, bytes) in steps {
                match (what, grants.last_mut()) {
                    (0, _) => {
                        let before = budget.used();
                        let taken = budget.take(bytes);
                        prop_assert_eq!(taken.is_some(), before + bytes <= 100);
                        grants.extend(taken);
                    }
                    (1, Some(last)) => last.resize(bytes),
                    (2, Some(last)) => { let part = last.split(bytes); grants.push(part); }
                    _ => drop(grants.pop()),
                }
                prop_assert_eq!(budget.used(), grants.iter().map(|grant| grant.bytes).sum::<u64>());
            }
        }
    }
}
