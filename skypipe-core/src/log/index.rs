//! What stands where, in memory: at most one span for each item in each segment, however many batches it has there.
//!
//! There may be a million pipes with one item each, so what one of them takes here is counted in bytes: 128 with its place on a page.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::ops::Range;

use super::by_pipe::ByPipe;
use super::contents::ItemSpan;
use super::few::Few;
use super::format::{FLAG_START, Header, Kind};
use crate::id::{ItemNo, PipeId, Seq};

/// What the facts of a pipe are taken to need when they are restated, until it was done once: in bytes.
const SNAPSHOT_GUESS_BYTES: u64 = 512;

/// Where everything stands, and what of it is still wanted.
#[derive(Default)]
pub(super) struct Index {
    pipes: ByPipe<Box<PipeIndex>>,
    segments: BTreeMap<u64, SegmentIndex>,
    /// Places from which a reader is likely to go on.
    hints: HashMap<(PipeId, ItemNo, Seq), (u64, u64)>,
    /// Bytes of all segments, of all batches still wanted, and of facts as if they were restated now.
    bytes: u64,
    live: u64,
    facts: u64,
}

/// Most hints that are kept: one for each of so many readers that read from disk at the same time.
const HINTS_MAX: usize = 4096;

#[derive(Default)]
struct SegmentIndex {
    bytes: u64,
    /// Bytes of batches that are wanted: a share by numbers, so not exact.
    live: u64,
    /// Numbers that are read from here: of each of several items there may be nearly as many as a number can say.
    wanted: u128,
    /// Pipes whose oldest needed fact stands here.
    fact_pipes: u64,
    damaged: bool,
}

#[derive(Default)]
struct PipeIndex {
    items: Few<ItemNo, ItemIndex>,
    facts: Option<Facts>,
    live: u64,
    /// Entries that are appended and not yet on disk.
    pending: u32,
    /// Whether one of them is a fact, so that the next one is not the first.
    begun: bool,
    /// Whether `items` has some that were forgotten while entries were pending.
    forgotten: bool,
    gone: bool,
}

/// The facts of one pipe that are still needed.
#[derive(Clone, Copy)]
struct Facts {
    oldest: u64,
    bytes: u64,
    /// Of the one that restates those before it. Of a number that is never 0, so that there being none takes no room.
    first_bytes: NonZeroU32,
}

impl Facts {
    fn restated(&self) -> u64 {
        self.bytes.min(u64::from(self.first_bytes.get()).max(SNAPSHOT_GUESS_BYTES))
    }
}

#[derive(Default)]
struct ItemIndex {
    spans: Few<Seq, Span>,
    below: Seq,
}

/// Consecutive numbers of one item within one segment. Entries of others may stand between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) next: Seq,
    pub(super) segment: u64,
    /// Where its first entry stands, or something before it.
    pub(super) start: u64,
    /// Where its last entry ends.
    pub(super) end: u64,
    /// Bytes of those of its batches that are wanted.
    pub(super) bytes: u64,
}

/// What is known of a number.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Located {
    /// It is in this span, which is read from `start` on.
    Here(Span),
    /// It is not there, but this one is.
    Gap(Seq),
    /// Neither it nor anything behind it is there.
    End,
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

impl Index {
    /// Counts an appended entry that is not yet on disk. True if it is a fact and the pipe's first.
    pub(super) fn appended(&mut self, pipe: PipeId, fact: bool) -> bool {
        let pipe = self.pipes.get_or_insert_with(pipe, Box::default);
        pipe.pending += 1;
        let first = fact && !pipe.begun && pipe.facts.is_none();
        pipe.begun |= fact;
        first
    }

    /// An appended entry is on disk now.
    pub(super) fn committed(&mut self, place: Place, header: &Header) {
        self.place(place, header);
        let Some(pipe) = self.pipes.get_mut(header.pipe) else { return };
        pipe.pending = pipe.pending.saturating_sub(1);
        if pipe.pending > 0 {
            return;
        }
        if std::mem::take(&mut pipe.forgotten) {
            pipe.items.retain(|_, item| item.below < Seq(u64::MAX));
        }
        if pipe.gone {
            self.pipes.remove(header.pipe);
        }
    }

    /// An entry stands here.
    pub(super) fn place(&mut self, place: Place, header: &Header) {
        self.grow(place.segment, place.offset + header.span());
        match header.kind {
            Kind::Fact => self.place_fact(place, header),
            Kind::Batch => self.place_batch(place, header, header.first..header.next()),
            Kind::Segment | Kind::Closed | Kind::Contents => {}
        }
    }

    /// Segment `segment` reaches up to `end`.
    pub(super) fn grow(&mut self, segment: u64, end: u64) {
        let entry = self.segments.entry(segment).or_default();
        // What a damaged segment says of itself may be anything.
        self.bytes = self.bytes.saturating_add(end.saturating_sub(entry.bytes));
        entry.bytes = entry.bytes.max(end);
    }

    /// A batch was copied from `old` to `new`.
    pub(super) fn moved(&mut self, old: Place, new: Place, header: &Header) {
        self.grow(new.segment, new.offset + header.span());
        for part in self.take_out(old, header) {
            self.place_batch(new, header, part);
        }
    }

    /// Whether some number of the batch at this place is wanted and would be read from here.
    pub(super) fn is_live(&self, place: Place, header: &Header) -> bool {
        let spans = self.pipes.get(header.pipe).and_then(|p| p.items.get(header.item)).map(|i| &i.spans);
        spans.is_some_and(|spans| overlapping(spans, header, place).next().is_some())
    }

    fn place_fact(&mut self, place: Place, header: &Header) {
        let pipe = self.pipes.get_or_insert_with(header.pipe, Box::default);
        if pipe.gone {
            return;
        }
        let old = pipe.facts;
        let bytes = header.span();
        let new = match old {
            Some(old) if header.flags & FLAG_START == 0 => Facts { bytes: old.bytes + bytes, ..old },
            _ => Facts { oldest: place.segment, bytes, first_bytes: first_bytes(bytes) },
        };
        pipe.facts = Some(new);
        self.count_facts(old, Some(new));
    }

    fn count_facts(&mut self, old: Option<Facts>, new: Option<Facts>) {
        if let Some(old) = old {
            self.facts = self.facts.saturating_sub(old.restated());
            if let Some(segment) = self.segments.get_mut(&old.oldest) {
                segment.fact_pipes = segment.fact_pipes.saturating_sub(1);
            }
        }
        if let Some(new) = new {
            self.facts += new.restated();
            self.segments.entry(new.oldest).or_default().fact_pipes += 1;
        }
    }

    /// Adds `numbers` of the batch at `place`, as far as they are wanted and not there already.
    fn place_batch(&mut self, place: Place, header: &Header, numbers: Range<Seq>) {
        let pipe = self.pipes.get_or_insert_with(header.pipe, Box::default);
        if pipe.gone {
            return;
        }
        let Some(item) = pipe.items.get_or_default(header.item) else { return };
        let Some(numbers) = item.missing_of(numbers) else { return };
        let (bytes, count) = (header.span(), count_of(&numbers));
        item.add(place, bytes, numbers);
        pipe.live += bytes;
        self.live += bytes;
        let segment = self.segments.entry(place.segment).or_default();
        segment.live += bytes;
        segment.wanted += count;
    }

    /// Adds a span out of a table of contents, as far as its numbers are not there already.
    pub(super) fn place_span(&mut self, ItemSpan { pipe, item, first, span }: ItemSpan) {
        let pipe = self.pipes.get_or_insert_with(pipe, Box::default);
        let Some(item) = pipe.items.get_or_default(item) else { return };
        let mut rest = first..span.next;
        while let Some(part) = item.missing_of(rest.clone()) {
            let before = share(span.bytes, first, part.start, span.next);
            let bytes = share(span.bytes, first, part.end, span.next) - before;
            item.spans.insert(part.start, Span { next: part.end, bytes, ..span });
            pipe.live += bytes;
            self.live += bytes;
            let segment = self.segments.entry(span.segment).or_default();
            segment.live += bytes;
            segment.wanted += count_of(&part);
            rest.start = part.end;
        }
    }

    /// All spans in a segment.
    pub(super) fn spans_in(&self, segment: u64) -> Vec<ItemSpan> {
        let mut spans = Vec::new();
        for (pipe, p) in self.pipes.iter() {
            for (item, i) in p.items.iter() {
                let here = i.spans.iter().filter(|(_, s)| s.segment == segment);
                spans.extend(here.map(|(first, &span)| ItemSpan { pipe, item, first, span }));
            }
        }
        spans
    }

    /// Takes the numbers of the batch at `old` out of the spans that read them from there, and returns them.
    fn take_out(&mut self, old: Place, header: &Header) -> Vec<Range<Seq>> {
        let Some(pipe) = self.pipes.get_mut(header.pipe) else { return Vec::new() };
        let Some(item) = pipe.items.get_mut(header.item) else { return Vec::new() };
        let hit: Vec<(Seq, Span)> = overlapping(&item.spans, header, old).collect();
        let mut parts = Vec::new();
        for (first, span) in hit {
            let part = first.max(header.first)..span.next.min(header.next());
            let left_bytes = share(span.bytes, first, part.start, span.next);
            let right_bytes = match part.end < span.next {
                true => (span.bytes - left_bytes).saturating_sub(header.span()),
                false => 0,
            };
            item.spans.remove(first);
            if first < part.start {
                item.spans.insert(first, Span { next: part.start, bytes: left_bytes, ..span });
            }
            if part.end < span.next {
                let start = old.offset + header.span();
                item.spans.insert(part.end, Span { start, bytes: right_bytes, ..span });
            }
            let taken = span.bytes - left_bytes - right_bytes;
            pipe.live -= taken;
            self.live -= taken;
            if let Some(segment) = self.segments.get_mut(&old.segment) {
                segment.live -= taken;
                segment.wanted -= count_of(&part);
            }
            parts.push(part);
        }
        parts
    }

    /// Batches wholly below `below` are not wanted any more.
    pub(super) fn forget(&mut self, pipe_id: PipeId, item_no: ItemNo, below: Seq) {
        let Some(pipe) = self.pipes.get_mut(pipe_id) else { return };
        let Some(item) = pipe.items.get_mut(item_no) else {
            if pipe.pending > 0 {
                pipe.forgotten = true;
                pipe.items.insert(item_no, ItemIndex { below, ..ItemIndex::default() });
            }
            return;
        };
        item.below = item.below.max(below);
        while let Some((first, &span)) = item.spans.first().filter(|(first, _)| *first < below) {
            item.spans.remove(first);
            let dead = share(span.bytes, first, below.min(span.next), span.next);
            if below < span.next {
                item.spans.insert(below, Span { bytes: span.bytes - dead, ..span });
            }
            pipe.live -= dead;
            self.live -= dead;
            if let Some(segment) = self.segments.get_mut(&span.segment) {
                segment.live -= dead;
                segment.wanted -= count_of(&(first..below.min(span.next)));
            }
        }
        if below == Seq(u64::MAX) {
            if pipe.pending == 0 {
                pipe.items.remove(item_no);
            }
            pipe.forgotten = true;
        }
    }

    /// Nothing of this pipe is wanted any more.
    pub(super) fn forget_pipe(&mut self, id: PipeId) {
        for item in self.items(id) {
            self.forget(id, item, Seq(u64::MAX));
        }
        let Some(pipe) = self.pipes.get_mut(id) else { return };
        let facts = pipe.facts.take();
        pipe.gone = true;
        if pipe.pending == 0 {
            self.pipes.remove(id);
        }
        self.count_facts(facts, None);
    }

    /// Where `from` is, or what comes instead.
    pub(super) fn locate(&mut self, pipe: PipeId, item: ItemNo, from: Seq) -> Located {
        let Some(spans) = self.pipes.get(pipe).and_then(|p| p.items.get(item)).map(|i| &i.spans) else {
            return Located::End;
        };
        if let Some((_, &span)) = spans.range(..=from).next_back().filter(|(_, s)| from < s.next) {
            let start = match self.hints.remove(&(pipe, item, from)) {
                Some((segment, at)) if segment == span.segment && (span.start..=span.end).contains(&at) => at,
                _ => span.start,
            };
            return Located::Here(Span { start, ..span });
        }
        match spans.range(from..).next() {
            Some((first, _)) => Located::Gap(first),
            None => Located::End,
        }
    }

    /// A reader that goes on at `next` finds it in `segment` at `offset`.
    pub(super) fn hint(&mut self, pipe: PipeId, item: ItemNo, next: Seq, segment: u64, offset: u64) {
        if self.hints.len() >= HINTS_MAX {
            self.hints.clear();
        }
        self.hints.insert((pipe, item, next), (segment, offset));
    }

    /// The numbers of an item that are on disk.
    pub(super) fn extent(&self, pipe: PipeId, item: ItemNo) -> Vec<Range<Seq>> {
        let mut ranges: Vec<Range<Seq>> = Vec::new();
        let spans = self.pipes.get(pipe).and_then(|p| p.items.get(item)).map(|i| &i.spans);
        for (first, span) in spans.into_iter().flat_map(Few::iter) {
            match ranges.last_mut() {
                Some(last) if last.end == first => last.end = span.next,
                _ => ranges.push(first..span.next),
            }
        }
        ranges
    }

    /// The pipes of which something is on disk, in order.
    pub(super) fn pipes(&self) -> Vec<PipeId> {
        self.pipes.iter().filter(|(_, p)| !p.gone).map(|(id, _)| id).collect()
    }

    /// The last pipe of which something is or was on disk.
    pub(super) fn last_pipe(&self) -> Option<PipeId> {
        self.pipes.last()
    }

    /// Whether a fact of this pipe is needed.
    pub(super) fn has_facts(&self, pipe: PipeId) -> bool {
        self.pipes.get(pipe).is_some_and(|p| p.facts.is_some())
    }

    /// The bytes of a pipe, if of each of these items, in order, all below its number is there, and nothing of any other.
    pub(super) fn bytes_of_all(&self, pipe: PipeId, items: impl Iterator<Item = (ItemNo, Seq)>) -> Option<u64> {
        let pipe = self.pipes.get(pipe)?;
        let extents = pipe.items.iter().filter(|(_, item)| !item.spans.is_empty()).map(|(no, item)| (no, item.whole()));
        extents.eq(items.map(|(no, end)| (no, Some(end)))).then_some(pipe.live)
    }

    /// The items of which something is on disk, in order.
    pub(super) fn items(&self, pipe: PipeId) -> Vec<ItemNo> {
        let items = self.pipes.get(pipe).map(|p| &p.items);
        items.into_iter().flat_map(Few::iter).filter(|(_, i)| !i.spans.is_empty()).map(|(no, _)| no).collect()
    }

    /// Bytes on disk that are wanted, of a pipe or of one item of it.
    pub(super) fn live(&self, pipe: PipeId, item: Option<ItemNo>) -> u64 {
        let Some(pipe) = self.pipes.get(pipe) else { return 0 };
        match item {
            None => pipe.live,
            Some(item) => pipe.items.get(item).map_or(0, ItemIndex::live),
        }
    }

    /// Bytes of all segments together.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Something in this segment cannot be read. Of one that is gone meanwhile there is nothing to remember.
    pub(super) fn damaged(&mut self, segment: u64) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.damaged = true;
        }
    }

    /// The segments that hold something of this pipe, or of one item of it, are not to be removed.
    pub(super) fn keep_aside(&mut self, pipe: PipeId, item: Option<ItemNo>) {
        let items = self.pipes.get(pipe).into_iter().flat_map(|pipe| pipe.items.iter());
        let spans = items.filter(|(no, _)| item.is_none_or(|item| *no == item)).flat_map(|(_, i)| i.spans.values());
        let segments: Vec<u64> = spans.map(|span| span.segment).collect();
        segments.into_iter().for_each(|segment| self.damaged(segment));
    }

    /// Whether something in this segment cannot be read.
    pub(super) fn is_damaged(&self, segment: u64) -> bool {
        self.segments.get(&segment).is_some_and(|s| s.damaged)
    }

    /// The oldest segment, if nothing in it is wanted.
    pub(super) fn dead(&self, head: u64) -> Option<u64> {
        let (&number, segment) = self.segments.first_key_value()?;
        (number != head && segment.wanted == 0 && segment.fact_pipes == 0).then_some(number)
    }

    /// The oldest segment, if it is worth moving what is wanted out of it: when it holds little of that, or the log as a whole
    /// holds more that is not wanted than that is.
    pub(super) fn worth_moving(&self, head: u64, spare: u64) -> Option<u64> {
        let (&number, segment) = self.segments.first_key_value()?;
        if number == head {
            return None;
        }
        let wanted = segment.live + segment.fact_pipes * SNAPSHOT_GUESS_BYTES;
        let all_wanted = self.live + self.facts;
        let mostly_dead = wanted <= segment.bytes / 8;
        let much_dead = self.bytes.saturating_sub(all_wanted) > all_wanted + spare;
        (mostly_dead || much_dead).then_some(number)
    }

    /// The pipes whose oldest needed fact stands in this segment.
    pub(super) fn fact_pipes(&self, segment: u64) -> Vec<PipeId> {
        let needs = |p: &PipeIndex| p.facts.is_some_and(|f| f.oldest == segment);
        self.pipes.iter().filter(|(_, p)| needs(p)).map(|(id, _)| id).collect()
    }

    /// Whether no fact in this segment is needed.
    pub(super) fn facts_done(&self, segment: u64) -> bool {
        self.segments.get(&segment).is_none_or(|s| s.fact_pipes == 0)
    }

    /// The segment is gone. What was still wanted of it could not be read.
    pub(super) fn drop_segment(&mut self, number: u64) {
        let Some(segment) = self.segments.remove(&number) else { return };
        self.bytes = self.bytes.saturating_sub(segment.bytes);
        self.live = self.live.saturating_sub(segment.live);
        if segment.wanted == 0 {
            return;
        }
        for pipe in self.pipes.values_mut() {
            for item in pipe.items.values_mut() {
                let lost: u64 = item.spans.values().filter(|s| s.segment == number).map(|s| s.bytes).sum();
                item.spans.retain(|_, s| s.segment != number);
                pipe.live -= lost;
            }
        }
    }
}

impl ItemIndex {
    /// Bytes on disk that are wanted.
    fn live(&self) -> u64 {
        self.spans.values().map(|span| span.bytes).sum()
    }

    /// The number behind its last, if none is missing below.
    fn whole(&self) -> Option<Seq> {
        self.spans.iter().try_fold(Seq(0), |end, (first, span)| (first == end).then_some(span.next))
    }

    /// The part of `numbers` that is wanted and not there yet. Where only a middle is there, what stands behind it is left out.
    fn missing_of(&self, numbers: Range<Seq>) -> Option<Range<Seq>> {
        let mut start = numbers.start.max(self.below);
        let mut end = numbers.end;
        while let Some((_, span)) = self.spans.range(..=start).next_back().filter(|(_, s)| start < s.next) {
            start = span.next;
        }
        if let Some((first, _)) = self.spans.range(start..).next() {
            end = end.min(first);
        }
        (start < end).then_some(start..end)
    }

    fn add(&mut self, place: Place, bytes: u64, numbers: Range<Seq>) {
        let end = place.offset + bytes;
        let before = self.spans.range_mut(..numbers.start).next_back().map(|(_, span)| span);
        let goes_on = |s: &&mut Span| s.next == numbers.start && s.segment == place.segment && s.end <= place.offset;
        if let Some(last) = before.filter(goes_on) {
            *last = Span { next: numbers.end, end, bytes: last.bytes + bytes, ..*last };
            return;
        }
        let span = Span { next: numbers.end, segment: place.segment, start: place.offset, end, bytes };
        self.spans.insert(numbers.start, span);
    }
}

/// The spans that read a number of the batch at `place` from there.
fn overlapping<'a>(
    spans: &'a Few<Seq, Span>,
    header: &Header,
    place: Place,
) -> impl Iterator<Item = (Seq, Span)> + use<'a> {
    let (first, next) = (header.first, header.next());
    let before = spans.range(..first).next_back();
    before.into_iter().chain(spans.range(first..next)).map(|(f, &s)| (f, s)).filter(move |(_, s)| {
        first < s.next && s.segment == place.segment && s.start <= place.offset && place.offset < s.end
    })
}

/// The bytes of a fact with its header: never 0, and never more than an entry may have.
fn first_bytes(bytes: u64) -> NonZeroU32 {
    u32::try_from(bytes).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX)
}

fn count_of(numbers: &Range<Seq>) -> u128 {
    u128::from(numbers.end.0 - numbers.start.0)
}

/// The share of `bytes` that the numbers from `first` to `cut` have of those up to `next`.
fn share(bytes: u64, first: Seq, cut: Seq, next: Seq) -> u64 {
    let part = u128::from(cut.0.saturating_sub(first.0));
    let all = u128::from(next.0.saturating_sub(first.0)).max(1);
    u64::try_from(u128::from(bytes) * part / all).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first: u64, count: u32) -> Header {
        Header {
            kind: Kind::Batch,
            length: 52,
            count,
            pipe: PipeId(1),
            item: ItemNo(2),
            first: Seq(first),
            ..Header::closed()
        }
    }

    fn at(segment: u64, offset: u64) -> Place {
        Place { segment, offset }
    }

    fn span(index: &mut Index, from: u64) -> Span {
        match index.locate(PipeId(1), ItemNo(2), Seq(from)) {
            Located::Here(span) => span,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn numbers_in_one_segment_are_one_span() {
        let mut index = Index::default();
        index.place(at(1, 48), &batch(0, 10));
        index.place(at(1, 500), &batch(10, 10));
        index.place(at(2, 48), &batch(20, 10));
        index.place(at(2, 900), &batch(5, 10));
        assert_eq!(index.extent(PipeId(1), ItemNo(2)), [Seq(0)..Seq(30)]);
        assert_eq!(span(&mut index, 15), Span { next: Seq(20), segment: 1, start: 48, end: 604, bytes: 208 });
        assert_eq!(index.live(PipeId(1), None), 312, "a duplicate is not counted");
        assert_eq!(index.locate(PipeId(1), ItemNo(2), Seq(30)), Located::End);
    }

    #[test]
    fn forgetting_counts_exactly_in_the_end() {
        let mut index = Index::default();
        index.place(at(1, 48), &batch(0, 10));
        index.place(at(1, 500), &batch(20, 10));
        index.forget(PipeId(1), ItemNo(2), Seq(3));
        assert_eq!(index.extent(PipeId(1), ItemNo(2)), [Seq(3)..Seq(10), Seq(20)..Seq(30)]);
        assert_eq!(index.locate(PipeId(1), ItemNo(2), Seq(12)), Located::Gap(Seq(20)));
        assert_eq!(index.dead(9), None);
        index.forget(PipeId(1), ItemNo(2), Seq(u64::MAX));
        assert_eq!(index.dead(9), Some(1));
        assert_eq!((index.live, index.live(PipeId(1), None), index.items(PipeId(1)).len()), (0, 0, 0));
    }

    #[test]
    fn moving_keeps_every_number() {
        let mut index = Index::default();
        for n in 0..4 {
            index.place(at(1, 48 + n * 104), &batch(n * 10, 10));
        }
        index.place(at(2, 48), &batch(40, 10));
        index.forget(PipeId(1), ItemNo(2), Seq(15));
        for n in 1..4 {
            let old = at(1, 48 + n * 104);
            assert!(index.is_live(old, &batch(n * 10, 10)), "{n}");
            index.moved(old, at(3, 48 + n * 104), &batch(n * 10, 10));
        }
        assert!(!index.is_live(at(1, 48), &batch(0, 10)));
        assert_eq!(index.extent(PipeId(1), ItemNo(2)), [Seq(15)..Seq(50)]);
        assert_eq!(span(&mut index, 15).segment, 3);
        assert_eq!(span(&mut index, 41).segment, 2);
        assert_eq!(index.dead(9), Some(1));
    }

    #[test]
    fn a_segment_is_dead_when_no_number_is_read_from_it_whatever_the_bytes_seem() {
        let mut index = Index::default();
        let long = |first| Header { length: 10_000, ..batch(first, 10) };
        index.place(at(1, 48), &batch(0, 100));
        index.place(at(1, 152), &long(100));
        index.place(at(1, 10_300), &long(110));
        // Most numbers, few bytes.
        index.forget(PipeId(1), ItemNo(2), Seq(100));
        index.moved(at(1, 152), at(2, 48), &long(100));
        assert_eq!(index.dead(9), None);
        assert_eq!(span(&mut index, 110).segment, 1);
        index.moved(at(1, 10_300), at(2, 10_300), &long(110));
        assert_eq!(index.dead(9), Some(1));
    }

    #[test]
    fn what_is_forgotten_before_it_is_on_disk_stays_forgotten() {
        let mut index = Index::default();
        for _ in 0..2 {
            index.appended(PipeId(1), false);
        }
        index.forget(PipeId(1), ItemNo(2), Seq(u64::MAX));
        index.committed(at(1, 48), &batch(0, 10));
        assert_eq!(index.live(PipeId(1), None), 0);
        index.forget_pipe(PipeId(1));
        index.committed(at(1, 152), &batch(10, 10));
        assert!(index.pipes.is_empty() && index.live == 0);
    }

    #[test]
    fn facts_hold_their_segment_until_restated() {
        let mut index = Index::default();
        let fact = |flags| Header { kind: Kind::Fact, flags, ..batch(0, 0) };
        index.place(at(1, 48), &fact(FLAG_START));
        index.place(at(2, 48), &fact(0));
        assert_eq!((index.dead(9), index.fact_pipes(1)), (None, vec![PipeId(1)]));
        index.place(at(3, 48), &fact(FLAG_START));
        assert_eq!((index.dead(9), index.facts_done(2)), (Some(1), true));
        index.forget_pipe(PipeId(1));
        assert_eq!(index.facts, 0);
    }
}
