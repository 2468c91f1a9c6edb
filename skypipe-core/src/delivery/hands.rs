//! What a reader of many queues has in its hands, of all of them together.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::id::Seq;

/// How many records a reader of many pipes may have at a time: one bound over all its queues. Each of them alone would lease to it what it
/// may have, and most of that would lapse before it was looked at.
#[derive(Debug)]
pub struct Hands {
    held: AtomicU32,
    held_max: AtomicU32,
    /// Queues that found the hands full. They come first, in the order that the reader keeps: else a queue that is acknowledged would take the room
    /// that it has just made.
    hungry: AtomicU32,
    /// Whether the reader takes anything now.
    open: AtomicBool,
}

impl Hands {
    /// So many at a time, none of them before [`Hands::open`].
    pub fn new(held_max: u32) -> Self {
        let held_max = AtomicU32::new(held_max.max(1));
        Self { held: AtomicU32::new(0), held_max, hungry: AtomicU32::new(0), open: AtomicBool::new(false) }
    }

    /// So many at a time from now on.
    pub fn limit(&self, held_max: u32) {
        self.held_max.store(held_max, Ordering::Relaxed);
    }

    /// The reader takes records, or none for now.
    pub fn open(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }

    /// Whether one more may be handed out.
    pub fn has_room(&self) -> bool {
        self.open.load(Ordering::Relaxed) && self.held.load(Ordering::Relaxed) < self.held_max.load(Ordering::Relaxed)
    }

    fn take(&self, is_invited: bool) -> bool {
        let held_max = self.held_max.load(Ordering::Relaxed);
        let one_more = |held| (held < held_max).then_some(held + 1);
        self.open.load(Ordering::Relaxed)
            && (is_invited || self.hungry.load(Ordering::Relaxed) == 0)
            && self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// What a reader that returns has in its hands already may be more than it may take.
    fn hold(&self, count: u32) {
        self.held.fetch_add(count, Ordering::Relaxed);
    }

    fn let_go(&self, count: u32) {
        self.held.fetch_sub(count, Ordering::Relaxed);
    }

    fn hunger(&self) {
        self.hungry.fetch_add(1, Ordering::Relaxed);
    }

    fn eat(&self) {
        self.hungry.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The records of one queue in one reader's hands.
#[derive(Debug, Default)]
pub(super) struct InHands {
    places: BTreeSet<Seq>,
    /// Of a reader of many queues.
    shared: Option<Arc<Hands>>,
    /// There was something here when the hands were full.
    is_hungry: bool,
    /// It is this queue's turn, before others that wait.
    is_invited: bool,
}

impl InHands {
    /// From now on they count together with those of other queues.
    pub(super) fn share(&mut self, hands: Arc<Hands>) {
        self.eat();
        hands.hold(self.places.len() as u32);
        if let Some(before) = self.shared.replace(hands) {
            before.let_go(self.places.len() as u32);
        }
    }

    /// Whether the reader reads other queues too.
    pub(super) fn are_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Takes one into the hands, if they have room: of this queue for `held_max` in all, unless others count too.
    pub(super) fn take(&mut self, place: Seq, held_max: u32) -> bool {
        let is_invited = std::mem::take(&mut self.is_invited);
        let has_room = match &self.shared {
            Some(hands) => hands.take(is_invited),
            None => self.places.len() < held_max as usize,
        };
        if has_room && !self.places.insert(place) {
            self.shared.iter().for_each(|hands| hands.let_go(1));
        }
        has_room
    }

    /// There is something here, and the hands are full. Tells whether that is news.
    pub(super) fn hunger(&mut self) -> bool {
        let is_new = self.shared.is_some() && !std::mem::replace(&mut self.is_hungry, true);
        if is_new {
            self.shared.iter().for_each(|hands| hands.hunger());
        }
        is_new
    }

    pub(super) fn are_hungry(&self) -> bool {
        self.is_hungry
    }

    /// It is its turn: it may take one, also before others that wait.
    pub(super) fn invite(&mut self) {
        self.eat();
        self.is_invited = true;
    }

    /// Its turn is over, whether it took one or not.
    pub(super) fn turn_over(&mut self) {
        self.is_invited = false;
    }

    fn eat(&mut self) {
        if std::mem::take(&mut self.is_hungry) {
            self.shared.iter().for_each(|hands| hands.eat());
        }
    }

    /// Puts one there that was there before the relay began.
    pub(super) fn put(&mut self, place: Seq) {
        if self.places.insert(place) {
            self.shared.iter().for_each(|hands| hands.hold(1));
        }
    }

    pub(super) fn let_go(&mut self, place: Seq) {
        if self.places.remove(&place) {
            self.shared.iter().for_each(|hands| hands.let_go(1));
        }
    }

    /// Nothing of this queue is in the hands any more, and nothing is wanted.
    pub(super) fn let_go_of_all(&mut self) -> BTreeSet<Seq> {
        self.eat();
        self.shared.iter().for_each(|hands| hands.let_go(self.places.len() as u32));
        std::mem::take(&mut self.places)
    }

    pub(super) fn places(&self) -> &BTreeSet<Seq> {
        &self.places
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl Drop for InHands {
    fn drop(&mut self) {
        self.let_go_of_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_are_full_over_all_queues_together() {
        let hands = Arc::new(Hands::new(2));
        let [mut a, mut b] = [InHands::default(), InHands::default()];
        a.put(Seq(7));
        a.share(hands.clone());
        b.share(hands.clone());
        assert!(!b.take(Seq(0), 9), "closed");
        hands.open(true);
        assert!(b.take(Seq(0), 0) && !a.take(Seq(8), 9));
        a.let_go(Seq(7));
        assert!(hands.has_room() && a.take(Seq(8), 9) && !hands.has_room());
        drop(a);
        drop(b);
        assert!(hands.held.load(Ordering::Relaxed) == 0);
    }

    #[test]
    fn room_is_for_those_that_waited_for_it() {
        let hands = Arc::new(Hands::new(1));
        hands.open(true);
        let [mut a, mut b] = [InHands::default(), InHands::default()];
        a.share(hands.clone());
        b.share(hands.clone());
        assert!(a.take(Seq(0), 9) && !b.take(Seq(0), 9) && b.hunger() && !b.hunger());
        a.let_go(Seq(0));
        assert!(!a.take(Seq(1), 9) && a.hunger(), "b waits");
        b.invite();
        assert!(b.take(Seq(0), 9) && !b.are_hungry() && !b.take(Seq(1), 9));
        drop((a, b));
        assert!(hands.hungry.load(Ordering::Relaxed) == 0 && hands.has_room());
    }
}
