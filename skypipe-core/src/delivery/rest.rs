//! A default pipe at rest: all of it is on disk, nobody is attached, nothing is under way.
//!
//! There may be a million of them, and a pipe that works takes kilobytes. Of one at rest only the [`Rest`] is kept, some 40 bytes for each item: what
//! its facts in the log say. When somebody comes it is made ready from that as it would be from the log.

use std::borrow::Borrow;

use crate::batch::EndKind;
use crate::broker::Mode;
use crate::caller::{Holder, ProcessId};
use crate::id::{Epoch, ItemNo, Seq, SessionId};
use crate::identity::PublicKey;
use crate::name::PipeRef;
use crate::time::Time;

use super::default::{Counts, DefaultPipe, EVERYBODY, Extent};
use super::fact::Fact;
use super::item::{Item, Link};

/// Most items of a pipe that rests: to lay down and to take up each costs as much as the next look at a pipe may.
pub const REST_ITEMS_MAX: usize = 16;

/// What is kept of a pipe at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rest(Box<[u8]>);

/// An ended item of which nobody has anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RestingItem {
    session: SessionId,
    epoch: Epoch,
    item: ItemNo,
    holder: Holder,
    kind: EndKind,
    next: Seq,
}

impl DefaultPipe {
    /// The pipe as it rests; `None` while it does not.
    pub fn rest(&self) -> Option<Rest> {
        let is_still = self.opened && !self.gone && self.readers.is_empty() && self.pending.is_empty();
        let is_well = self.full.is_none() && self.read_only.is_none() && !self.damaged;
        // Most that do not rest are told by their writer, with a look.
        let is_written = self.items.values().any(|item| item.link == Link::Attached);
        if !is_still || !is_well || is_written || self.items.len() > REST_ITEMS_MAX {
            return None;
        }
        let items: Option<Vec<RestingItem>> =
            self.items.iter().map(|(no, item)| item.resting(*no, self.durable)).collect();
        Some(Rest::of(self.next_item, &items?))
    }

    /// A pipe that rested, as it would be made ready from the log.
    pub fn awake(pipe: PipeRef, rest: &Rest, now: Time, extent: impl Fn(ItemNo) -> Extent) -> Self {
        let mut awake = Self::new(pipe.clone());
        rest.facts(pipe).into_iter().for_each(|fact| awake.replay(fact));
        awake.recovered(now, extent);
        awake
    }
}

impl Item {
    fn resting(&self, item: ItemNo, durable: u64) -> Option<RestingItem> {
        let end = self.end.filter(|end| end.append.is_some_and(|append| append <= durable))?;
        let is_whole = self.acked.is_empty() && self.holes.is_empty() && self.had_by.is_empty() && self.taker.is_none();
        let is_still = self.window.is_empty() && !self.over;
        let (session, epoch, holder) = (self.session, self.epoch, self.holder);
        (is_whole && is_still).then_some(RestingItem { session, epoch, item, holder, kind: end.kind, next: end.next })
    }
}

impl Rest {
    /// The pipe that these facts tell of, all there are in the log; `None` when they tell of more than rests.
    pub fn of_facts(facts: impl IntoIterator<Item: Borrow<Fact>>) -> Option<(PipeRef, Self)> {
        let mut sum = Sum::default();
        facts.into_iter().try_for_each(|fact| sum.add(fact.borrow()))?;
        let items: Option<Vec<RestingItem>> = sum.items.into_iter().map(Unended::ended).collect();
        let items = items.filter(|items| !items.is_empty() && items.len() <= REST_ITEMS_MAX)?;
        Some((sum.pipe?, Self::of(sum.next_item, &items)))
    }

    /// Facts that tell the same.
    pub fn facts(&self, pipe: PipeRef) -> Vec<Fact> {
        let given_out = ItemNo(self.next_item().0.saturating_sub(1));
        let mut facts = vec![Fact::Opened { pipe, mode: Mode::Default }];
        facts.extend(self.items().flat_map(RestingItem::facts));
        facts.push(Fact::Took { reader: EVERYBODY, item: given_out, from: Seq(0), to: Seq(0) });
        facts
    }

    /// The items that the log must have, with the number behind the last batch of each.
    pub fn batches(&self) -> impl Iterator<Item = (ItemNo, Seq)> + '_ {
        self.items().map(|item| (item.item, item.batches_end())).filter(|(_, end)| *end > Seq(0))
    }

    /// Numbers for people. All of its items have ended.
    pub fn counts(&self) -> Counts {
        let items = self.items().count() as u64;
        Counts { items, ended: items, ..Counts::default() }
    }

    /// Whether this session wrote one of its items.
    pub fn knows(&self, session: SessionId) -> bool {
        self.items().any(|item| item.session == session)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    fn of(next_item: ItemNo, items: &[RestingItem]) -> Self {
        let mut out = Vec::with_capacity(ITEM_BYTES_USUAL * items.len());
        put_number(&mut out, next_item.0);
        items.iter().for_each(|item| item.put(&mut out));
        Self(out.into())
    }

    fn next_item(&self) -> ItemNo {
        ItemNo(take_number(&mut &self.0[..]).unwrap_or_default())
    }

    fn items(&self) -> impl Iterator<Item = RestingItem> + '_ {
        let mut rest = &self.0[..];
        let _ = take_number(&mut rest);
        std::iter::from_fn(move || RestingItem::take(&mut rest))
    }
}

/// Most items of processes take no more, with the number in front of them.
const ITEM_BYTES_USUAL: usize = 48;

/// Who wrote an item, in the lower half of the byte whose upper half tells how it ended.
const HOLDER_UNKNOWN: u8 = 0;
const HOLDER_PROCESS: u8 = 1;
const HOLDER_KEY: u8 = 2;

impl RestingItem {
    fn facts(self) -> [Fact; 2] {
        let Self { session, epoch, item, holder, kind, next } = self;
        [Fact::WriterJoined { session, epoch, item, holder }, Fact::Ended { item, kind, next }]
    }

    /// The number behind its last batch: who aborts sends no end mark.
    fn batches_end(&self) -> Seq {
        if self.kind == EndKind::Aborted { Seq(self.next.0.saturating_sub(1)) } else { self.next }
    }

    fn put(&self, out: &mut Vec<u8>) {
        let kind = (self.kind as u8) << 4;
        match self.holder {
            Holder::Process(ProcessId { pid, started, boot }) => {
                out.push(kind | HOLDER_PROCESS);
                out.extend_from_slice(&boot.to_le_bytes());
                put_number(out, u64::from(pid));
                put_number(out, started);
            }
            Holder::Key(key) => {
                out.push(kind | HOLDER_KEY);
                out.extend_from_slice(&key.0);
            }
            Holder::Unknown => out.push(kind | HOLDER_UNKNOWN),
        }
        out.extend_from_slice(&self.session.0);
        put_number(out, u64::from(self.epoch.0));
        put_number(out, self.item.0);
        put_number(out, self.next.0);
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        let (&what, left) = rest.split_first()?;
        *rest = left;
        let kind = EndKind::from_number(what >> 4)?;
        let holder = match what & 0xf {
            HOLDER_PROCESS => {
                let boot = u64::from_le_bytes(take_array(rest)?);
                let pid = u32::try_from(take_number(rest)?).ok()?;
                Holder::Process(ProcessId { pid, started: take_number(rest)?, boot })
            }
            HOLDER_KEY => Holder::Key(PublicKey(take_array(rest)?)),
            _ => Holder::Unknown,
        };
        let session = SessionId(take_array(rest)?);
        let epoch = Epoch(u32::try_from(take_number(rest)?).ok()?);
        let (item, next) = (ItemNo(take_number(rest)?), Seq(take_number(rest)?));
        Some(Self { session, epoch, item, holder, kind, next })
    }
}

/// What facts add up to.
#[derive(Default)]
struct Sum {
    pipe: Option<PipeRef>,
    items: Vec<Unended>,
    next_item: ItemNo,
}

/// An item whose end may be told later.
struct Unended {
    session: SessionId,
    epoch: Epoch,
    item: ItemNo,
    holder: Holder,
    end: Option<(EndKind, Seq)>,
}

impl Unended {
    fn ended(self) -> Option<RestingItem> {
        let Self { session, epoch, item, holder, end } = self;
        end.map(|(kind, next)| RestingItem { session, epoch, item, holder, kind, next })
    }
}

impl Sum {
    /// Adds a fact; `None` if it tells of something that does not rest.
    fn add(&mut self, fact: &Fact) -> Option<()> {
        match fact {
            Fact::Opened { pipe, mode: Mode::Default } => self.pipe = Some(pipe.clone()),
            Fact::WriterJoined { session, epoch, item, holder } => {
                let is_known = self.items.iter().any(|known| known.session == *session || known.item == *item);
                if is_known || self.items.len() >= REST_ITEMS_MAX {
                    return None;
                }
                let (session, epoch, item, holder) = (*session, *epoch, *item, *holder);
                self.items.push(Unended { session, epoch, item, holder, end: None });
                self.next_item = ItemNo(item.0.saturating_add(1));
            }
            Fact::Ended { item, kind, next } => {
                let known = self.items.iter_mut().find(|known| known.item == *item)?;
                known.end = Some((*kind, (*next).max(Seq(1))));
            }
            // Only says which numbers were given out.
            Fact::Took { reader: EVERYBODY, item, from: Seq(0), to: Seq(0) } => {
                self.next_item = self.next_item.max(ItemNo(item.0.saturating_add(1)));
            }
            Fact::Snapshot(facts) => {
                *self = Self::default();
                facts.iter().try_for_each(|fact| self.add(fact))?;
            }
            _ => return None,
        }
        Some(())
    }
}

/// Seven bits a byte, the lowest first; the last byte has its highest bit clear.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, left) = rest.split_first()?;
        *rest = left;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*array)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::name::PipeName;

    fn pipe() -> PipeRef {
        PipeRef::from(&PipeName::new("a/b").unwrap())
    }

    fn holders() -> impl Strategy<Value = Holder> {
        let process = |(pid, started, boot)| Holder::Process(ProcessId { pid, started, boot });
        prop_oneof![
            Just(Holder::Unknown),
            (1_u32.., any::<u64>(), any::<u64>()).prop_map(process),
            any::<[u8; 32]>().prop_map(|key| Holder::Key(PublicKey(key))),
        ]
    }

    fn ends() -> impl Strategy<Value = (EndKind, Seq)> {
        let kinds = prop_oneof![Just(EndKind::Finished), Just(EndKind::Interrupted), Just(EndKind::Aborted)];
        (kinds, (1..u64::MAX / 2).prop_map(Seq))
    }

    /// The facts of items that ended, as a relay writes them.
    fn facts(items: &[(u64, u32, Holder, (EndKind, Seq))]) -> Vec<Fact> {
        let mut facts = vec![Fact::Opened { pipe: pipe(), mode: Mode::Default }];
        let mut no = 0;
        for (n, (step, epoch, holder, _)) in items.iter().enumerate() {
            no += step;
            let session = SessionId([n as u8; 16]);
            facts.push(Fact::WriterJoined { session, epoch: Epoch(*epoch), item: ItemNo(no), holder: *holder });
        }
        let mut no = 0;
        for (step, _, _, (kind, next)) in items {
            no += step;
            facts.push(Fact::Ended { item: ItemNo(no), kind: *kind, next: *next });
        }
        facts
    }

    proptest! {
        /// What is told from the facts alone is what a pipe made from them lays down, and what comes of that is the same pipe.
        #[test]
        fn a_pipe_at_rest_is_what_its_facts_say(
            items in proptest::collection::vec((1_u64..1000, any::<u32>(), holders(), ends()), 1..REST_ITEMS_MAX),
        ) {
            let facts = facts(&items);
            let (name, rest) = Rest::of_facts(&facts).unwrap();
            prop_assert_eq!(Rest::of_facts(rest.facts(pipe())), Some((pipe(), rest.clone())));
            let extent = |no: ItemNo| {
                let end = rest.batches().find(|(item, _)| *item == no);
                end.map(|(_, end)| Seq(0)..end).into_iter().collect::<Extent>()
            };
            let mut made = DefaultPipe::new(pipe());
            facts.into_iter().for_each(|fact| made.replay(fact));
            made.recovered(Time(5), extent);
            prop_assert_eq!(made.rest(), Some(rest.clone()));
            prop_assert_eq!((rest.counts(), rest.knows(SessionId([0; 16])), name), (made.counts(), true, pipe()));

            let awake = DefaultPipe::awake(pipe(), &rest, Time(5), extent);
            prop_assert_eq!(format!("{awake:?}"), format!("{made:?}"));
            let snapshot = awake.snapshot();
            prop_assert_eq!(Rest::of_facts(&[snapshot]), Some((pipe(), rest)));
        }

        #[test]
        fn numbers_survive(number: u64, behind: u8) {
            let mut out = Vec::new();
            put_number(&mut out, number);
            out.push(behind);
            let mut rest = &out[..];
            prop_assert_eq!(take_number(&mut rest), Some(number));
            prop_assert_eq!(rest, &[behind][..]);
        }
    }

    #[test]
    fn what_is_open_or_read_does_not_rest() {
        let ended = (EndKind::Finished, Seq(3));
        let whole = facts(&[(1, 1, Holder::Unknown, ended), (1, 1, Holder::Unknown, ended)]);
        assert!(Rest::of_facts(&whole).is_some());
        assert!(Rest::of_facts(&whole[..whole.len() - 1]).is_none(), "an item without an end");
        let took = |item, to| Fact::Took { reader: EVERYBODY, item: ItemNo(item), from: Seq(0), to: Seq(to) };
        assert!(Rest::of_facts([&whole[..], &[took(1, 1)]].concat()).is_none());
        let (_, rest) = Rest::of_facts([&whole[..], &[took(7, 0)]].concat()).unwrap();
        assert_eq!(Rest::of_facts(rest.facts(pipe())), Some((pipe(), rest.clone())));
        assert_eq!(DefaultPipe::awake(pipe(), &rest, Time(0), |_| vec![Seq(0)..Seq(3)]).next_item, ItemNo(8));
    }
}
