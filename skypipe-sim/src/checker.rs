//! Holds a history against what a default pipe promises: `docs/design.md`.
//!
//! Each rule is one function over the events, in the order in which they happened, and finds every place where it is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use skypipe_core::{Code, EndKind, Seq, SessionId};

use crate::history::{Event, ItemId, ReadKind, ReaderId, RecordId, numbers};

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub rule: &'static str,
    /// Where.
    pub text: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

type Rule = fn(&[Event], &mut Vec<String>);

/// The rules, by the sentence of the promise.
const RULES: &[(&str, Rule)] = &[
    ("every record that comes out was sent, byte for byte", records_are_exact),
    ("every record once, in order, and a hole is told", in_order),
    ("the end of an item is exact", ends_are_exact),
    ("a reader that is done has all from where it joined", done_is_all),
    ("what is settled is not lost", settled_is_kept),
    ("delivered is acknowledged by a reader", delivered_is_acknowledged),
    ("what is delivered does not come again", delivered_is_gone),
    ("an item taken alone goes to one reader", alone_is_alone),
    ("nothing fails that can go on", nothing_fails),
];

/// Every promise that the history breaks.
pub fn check(history: &[Event]) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (name, rule) in RULES {
        let mut texts = Vec::new();
        rule(history, &mut texts);
        broken.extend(texts.into_iter().map(|text| Broken { rule: name, text }));
    }
    broken
}

fn records_are_exact(history: &[Event], broken: &mut Vec<String>) {
    let mut sent = BTreeSet::new();
    for event in history {
        match event {
            Event::Sends(record, _) => drop(sent.insert(*record)),
            Event::Got(reader, _, seq, None, len) => {
                broken.push(format!("{reader:?} got {len} bytes as {seq:?} that nobody sent"));
            }
            Event::Got(reader, _, _, Some(record), _) if !sent.contains(record) => {
                broken.push(format!("{reader:?} got {record:?} before it was sent"));
            }
            _ => {}
        }
    }
}

/// Where a reader is in one session.
#[derive(Default)]
struct Place {
    next: u64,
    /// Holes up to these numbers were told; they may be told ahead of the records before them.
    told: BTreeSet<u64>,
    /// Any hole may come: the reader was given up and knows that.
    may_skip: bool,
    /// What it has, from before it was given up as well.
    had: BTreeSet<u64>,
}

impl Place {
    /// Whether it has all from where it is up to this number, from before it was given up.
    fn has_up_to(&self, seq: u64) -> bool {
        (self.next..seq).all(|number| self.had.contains(&number))
    }

    fn go_on_behind(&mut self, seq: u64, len: usize) {
        let next = seq + numbers(len);
        self.had.extend(seq..next);
        (self.next, self.may_skip) = (next, false);
    }
}

/// What the writers that were given up go on with.
#[derive(Default)]
struct Renewals {
    sessions: BTreeMap<ItemId, SessionId>,
    settled: BTreeMap<ItemId, u64>,
    /// How many records were known to be settled when the newest session of an item began.
    settled_then: BTreeMap<ItemId, u64>,
}

impl Renewals {
    fn hear(&mut self, event: &Event) {
        match *event {
            Event::Settled(item, count) => {
                let most = self.settled.entry(item).or_default();
                *most = count.max(*most);
            }
            Event::Session(item, session) if self.sessions.insert(item, session).is_some() => {
                self.settled_then.insert(item, self.settled.get(&item).copied().unwrap_or_default());
            }
            _ => {}
        }
    }

    /// Whether the item was given up before the writer knew of this record that it will not be lost: then it comes with the next item too.
    fn may_come_again(&self, record: RecordId) -> bool {
        self.settled_then.get(&record.item).is_some_and(|settled| u64::from(record.n) >= *settled)
    }

    /// Whether the record may be split between an item that was given up and the one its writer went on with.
    fn may_be_split(&self, record: RecordId) -> bool {
        self.settled_then.get(&record.item).is_some_and(|settled| u64::from(record.n) == *settled)
    }
}

fn in_order(history: &[Event], broken: &mut Vec<String>) {
    let mut places: BTreeMap<(ReaderId, SessionId), Place> = BTreeMap::new();
    let mut seen: BTreeMap<(ReaderId, RecordId), SessionId> = BTreeMap::new();
    let mut renewed: BTreeSet<ReaderId> = BTreeSet::new();
    let mut renewals = Renewals::default();
    for event in history {
        renewals.hear(event);
        match *event {
            Event::Middle(reader, session, from) => {
                places.entry((reader, session)).or_default().told.insert(from.0);
            }
            Event::Gap(reader, session, from, to) => {
                if !renewed.contains(&reader) {
                    broken.push(format!("{reader:?} is told that {from:?}..{to:?} of {session:?} are gone"));
                }
                places.entry((reader, session)).or_default().told.insert(to.0);
            }
            Event::NewReader(reader) => {
                renewed.insert(reader);
                // It may be given what another reader left of an item, also in front of what it had of that before.
                let had = places.iter_mut().filter(|((r, _), _)| *r == reader);
                had.for_each(|(_, place)| (place.next, place.may_skip) = (0, true));
            }
            Event::Got(reader, session, seq, Some(record), len) => {
                let place = places.entry((reader, session)).or_default();
                let before = seen.insert((reader, record), session);
                if before.is_some_and(|before| before == session || !renewals.may_come_again(record)) {
                    broken.push(format!("{reader:?} got {record:?} twice"));
                } else if seq.0 < place.next {
                    broken.push(format!("{reader:?} got {record:?} ({seq:?}) out of order"));
                } else if !place.has_up_to(seq.0) && !place.told.contains(&seq.0) && !place.may_skip {
                    broken.push(format!("{reader:?} got {record:?} ({seq:?}) after {}, and was not told", place.next));
                }
                place.go_on_behind(seq.0, len);
            }
            // What others had of an item may end within a record: who goes on there is told that it starts in the middle.
            Event::Tail(reader, session, seq, record, len) => {
                let place = places.entry((reader, session)).or_default();
                let is_split = seq.0 == 0 && renewals.may_be_split(record);
                if !is_split && (seq.0 < place.next || !place.told.contains(&seq.0)) {
                    broken.push(format!(
                        "{reader:?} got the rest of {record:?} ({seq:?}) after {}, and was not told",
                        place.next
                    ));
                }
                place.go_on_behind(seq.0, len);
            }
            _ => {}
        }
    }
}

fn ends_are_exact(history: &[Event], broken: &mut Vec<String>) {
    let mut item_of: BTreeMap<SessionId, ItemId> = BTreeMap::new();
    let mut last_session: BTreeMap<ItemId, SessionId> = BTreeMap::new();
    let mut sent: BTreeMap<ItemId, u32> = BTreeMap::new();
    let mut ends: BTreeMap<ItemId, EndKind> = BTreeMap::new();
    let mut ended: BTreeSet<ItemId> = BTreeSet::new();
    let mut got: BTreeMap<(ReaderId, SessionId), (Seq, u32)> = BTreeMap::new();
    let mut told: BTreeMap<(ReaderId, SessionId), Seq> = BTreeMap::new();
    for event in history {
        match *event {
            Event::Sends(record, _) => drop(sent.insert(record.item, record.n)),
            Event::Session(item, session) => {
                item_of.insert(session, item);
                last_session.insert(item, session);
            }
            Event::Ends(item, kind) => drop(ends.insert(item, kind)),
            Event::Ended(item) => drop(ended.insert(item)),
            Event::Got(reader, session, seq, Some(record), _) | Event::Tail(reader, session, seq, record, _) => {
                item_of.entry(session).or_insert(record.item);
                got.insert((reader, session), (seq, record.n));
            }
            Event::Middle(reader, session, to) | Event::Gap(reader, session, _, to) => {
                let most = told.entry((reader, session)).or_default();
                *most = to.max(*most);
            }
            Event::ItemEnd(reader, session, kind, _) => {
                let Some(item) = item_of.get(&session) else {
                    // Its writer died before it knew that it was attached.
                    if kind != EndKind::Aborted {
                        broken.push(format!("{reader:?} saw the end of {session:?}, which nobody wrote"));
                    }
                    continue;
                };
                let last = got.get(&(reader, session)).copied();
                let told = told.get(&(reader, session));
                let whole =
                    last.is_none_or(|(seq, last)| Some(&last) == sent.get(item) || told.is_some_and(|to| *to > seq));
                if kind == EndKind::Aborted {
                    let is_last = last_session.get(item) == Some(&session);
                    if is_last && ended.contains(item) {
                        broken.push(format!("{reader:?} saw {item:?} aborted after its end was settled"));
                    }
                } else if ends.get(item) != Some(&kind) {
                    broken.push(format!("{reader:?} saw {item:?} {kind:?}, which its writer did not say"));
                } else if !whole {
                    broken.push(format!("{reader:?} saw the end of {item:?} after {last:?} of {:?}", sent.get(item)));
                }
            }
            _ => {}
        }
    }
}

fn done_is_all(history: &[Event], broken: &mut Vec<String>) {
    let mut open: BTreeSet<(ReaderId, SessionId)> = BTreeSet::new();
    let mut leaves: BTreeSet<ReaderId> = BTreeSet::new();
    for event in history {
        match *event {
            Event::Got(reader, session, ..) | Event::Tail(reader, session, ..) => drop(open.insert((reader, session))),
            Event::ItemEnd(reader, session, ..) => drop(open.remove(&(reader, session))),
            Event::Leaves(reader, _) => drop(leaves.insert(reader)),
            Event::Finished(reader, whole) if whole && !leaves.contains(&reader) => {
                let torn = open.iter().filter(|(r, _)| *r == reader);
                broken.extend(torn.map(|(_, session)| format!("{reader:?} was done in the middle of {session:?}")));
            }
            _ => {}
        }
    }
}

/// Who has acknowledged what for good.
#[derive(Default)]
struct Acknowledged {
    kinds: BTreeMap<ReaderId, ReadKind>,
    /// Handed over, by reader, with the session; and what of it was acknowledged.
    handed: BTreeMap<ReaderId, Vec<(SessionId, RecordId)>>,
    pending: BTreeMap<ReaderId, Vec<(SessionId, RecordId)>>,
    taken: BTreeSet<RecordId>,
}

impl Acknowledged {
    /// What an event says. What a reader acknowledged that takes an item alone counts when it has the item to its end, or leaves
    /// with a part.
    fn hear(&mut self, event: &Event) {
        match *event {
            Event::Reads(reader, kind) => drop(self.kinds.insert(reader, kind)),
            Event::Got(reader, session, _, Some(record), _) => {
                self.handed.entry(reader).or_default().push((session, record));
            }
            Event::Acks(reader) => {
                let handed = self.handed.remove(&reader).unwrap_or_default();
                match self.kinds.get(&reader).is_some_and(|kind| kind.is_alone()) {
                    true => self.pending.entry(reader).or_default().extend(handed),
                    false => self.taken.extend(handed.into_iter().map(|(_, record)| record)),
                }
            }
            Event::ItemEnd(reader, session, ..) => {
                let pending = self.pending.entry(reader).or_default();
                let of_item = pending.extract_if(.., |(of, _)| *of == session);
                self.taken.extend(of_item.map(|(_, record)| record));
            }
            Event::Left(reader) | Event::Finished(reader, _) => {
                let pending = self.pending.remove(&reader).unwrap_or_default();
                self.taken.extend(pending.into_iter().map(|(_, record)| record));
            }
            _ => {}
        }
    }
}

fn settled_is_kept(history: &[Event], broken: &mut Vec<String>) {
    let mut acknowledged = Acknowledged::default();
    let mut settled: BTreeMap<ItemId, u64> = BTreeMap::new();
    let mut drains = false;
    let mut renewals = Renewals::default();
    for event in history {
        acknowledged.hear(event);
        renewals.hear(event);
        match *event {
            Event::Settled(item, count) => {
                let most = settled.entry(item).or_default();
                *most = count.max(*most);
            }
            Event::Drains => drains = true,
            // Whatever it is, it was not lost.
            Event::Got(_, _, _, Some(record), _) if drains => drop(acknowledged.taken.insert(record)),
            // Its start went with the item that was given up; only whole records are handed over.
            Event::Tail(_, _, Seq(0), record, _) if renewals.may_be_split(record) => {
                acknowledged.taken.insert(record);
            }
            _ => {}
        }
    }
    if !drains {
        return;
    }
    for (item, count) in settled {
        let lost = (0..count as u32).map(|n| RecordId { item, n }).filter(|r| !acknowledged.taken.contains(r));
        broken.extend(lost.map(|record| format!("{record:?} is lost; {count} of the item were settled")));
    }
}

fn delivered_is_acknowledged(history: &[Event], broken: &mut Vec<String>) {
    let mut handed: BTreeMap<ReaderId, Vec<RecordId>> = BTreeMap::new();
    let mut acked: BTreeSet<RecordId> = BTreeSet::new();
    for event in history {
        match *event {
            Event::Got(reader, _, _, Some(record), _) => handed.entry(reader).or_default().push(record),
            Event::Acks(reader) => acked.extend(handed.remove(&reader).unwrap_or_default()),
            // A number, not the first so many: a writer that went on with a new item may know nothing of those before.
            Event::Delivered(item, count) => {
                let known = acked.range(RecordId { item, n: 0 }..=RecordId { item, n: u32::MAX }).count() as u64;
                if count > known {
                    broken.push(format!(
                        "{count} records of {item:?} are said to be delivered, {known} were acknowledged"
                    ));
                }
            }
            _ => {}
        }
    }
}

fn delivered_is_gone(history: &[Event], broken: &mut Vec<String>) {
    // A relay that starts again gives what was delivered and not logged as taken to the next reader, if the one who had it never comes
    // back: only what was acknowledged and delivered in the same life is gone.
    let mut life = 0;
    let mut handed: BTreeMap<ReaderId, Vec<RecordId>> = BTreeMap::new();
    let mut acked: BTreeSet<RecordId> = BTreeSet::new();
    let mut gone: BTreeMap<RecordId, usize> = BTreeMap::new();
    let mut came: BTreeMap<ReaderId, (u32, usize)> = BTreeMap::new();
    let mut renewals = Renewals::default();
    for (at, event) in history.iter().enumerate() {
        renewals.hear(event);
        match *event {
            Event::RelayStarts => {
                life += 1;
                handed.clear();
                acked.clear();
                gone.clear();
            }
            Event::Acks(reader) => acked.extend(handed.remove(&reader).unwrap_or_default()),
            // Of one that went on with a new item the number does not tell which records.
            Event::Delivered(item, count) if !renewals.settled_then.contains_key(&item) => {
                let delivered = (0..count as u32).map(|n| RecordId { item, n }).filter(|r| acked.contains(r));
                for record in delivered {
                    gone.entry(record).or_insert(at);
                }
            }
            Event::Reads(reader, _) => drop(came.insert(reader, (life, at))),
            Event::Got(reader, _, _, Some(record), _) => {
                let before = gone.get(&record).zip(came.get(&reader));
                if before.is_some_and(|(gone, (in_life, came))| *in_life == life && gone < came) {
                    broken.push(format!("{reader:?} got {record:?}, delivered before it came"));
                }
                handed.entry(reader).or_default().push(record);
            }
            _ => {}
        }
    }
}

fn alone_is_alone(history: &[Event], broken: &mut Vec<String>) {
    // One that was given up hands over what it has in its hands, and hears of it when it is back. What it had not acknowledged went to
    // the next.
    let given_up: BTreeSet<ReaderId> = history
        .iter()
        .filter_map(|event| match event {
            Event::NewReader(reader) | Event::ReadFailed(reader, Code::SessionExpired) => Some(*reader),
            _ => None,
        })
        .collect();
    let mut ended: BTreeMap<SessionId, ReaderId> = BTreeMap::new();
    let mut owned: BTreeMap<SessionId, ReaderId> = BTreeMap::new();
    for event in history {
        match *event {
            Event::ItemEnd(reader, session, _, true) => drop(ended.insert(session, reader)),
            Event::Finished(reader, _) => {
                owned.extend(ended.iter().filter(|(_, r)| **r == reader).map(|(session, r)| (*session, *r)));
            }
            Event::Got(reader, session, _, Some(record), _) | Event::Tail(reader, session, _, record, _) => {
                let is_owner = |owner: &&ReaderId| **owner == reader || given_up.contains(&reader);
                if let Some(owner) = owned.get(&session).filter(|owner| !is_owner(owner)) {
                    broken.push(format!("{reader:?} got {record:?}, which {owner:?} took alone"));
                }
            }
            _ => {}
        }
    }
}

fn nothing_fails(history: &[Event], broken: &mut Vec<String>) {
    // What an application may see although nothing is wrong with the relay: it was away for too long, or there is nothing to take.
    let may_be = |code| {
        matches!(
            code,
            Code::Unknown | Code::Unreachable | Code::Empty | Code::SessionExpired | Code::Busy | Code::GoingAway
        )
    };
    for event in history {
        match event {
            Event::WriteFailed(_, code) | Event::ReadFailed(_, code) if may_be(*code) => {}
            Event::WriteFailed(item, code) => broken.push(format!("{item:?} failed: {code:?}")),
            Event::ReadFailed(reader, code) => broken.push(format!("{reader:?} failed: {code:?}")),
            Event::Fault(text) => broken.push(text.clone()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
