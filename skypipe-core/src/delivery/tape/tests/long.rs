//! Records in parts: where each party is when something happens within one.

use std::time::Duration;

use super::world::{World, body};
use crate::batch::{BatchBuilder, EndKind, ItemDigest};
use crate::broker::{LeaseId, Mark, Mode, OnTape, ReaderAttach, ReaderDown, ReaderUp, Retain, Settings, Start, Take};
use crate::delivery::limits::LEASE;
use crate::error::Code;
use crate::id::{Epoch, Position, Seq, SessionId};

/// Credit for one part at a time.
const ONE_PART: u64 = 1;

fn attach(session: SessionId, epoch: u32, on_tape: OnTape) -> ReaderAttach {
    ReaderAttach {
        session,
        epoch: Epoch(epoch),
        mode: None,
        take: Take::Any,
        keep: false,
        no_wait: false,
        credit: ONE_PART,
        mid_record: false,
        resume: (epoch > 1).then(Vec::new),
        tape: OnTape { start: Start::Beginning, prefetch: 4, ..on_tape },
    }
}

/// A pipe with a record of three parts, and a reader that has none of them yet.
fn world(mode: Mode) -> (World, SessionId, SessionId) {
    let mut world = World::new(mode);
    let writer = world.writer();
    world.sync();
    let reader = world.name();
    world.attach(&attach(reader, 1, OnTape::default())).unwrap();
    world.begin_long(writer, "one two three", None);
    world.write_rest(writer);
    world.sync();
    (world, writer, reader)
}

fn up(world: &mut World, reader: SessionId, epoch: u32, message: ReaderUp) {
    world.pipe.reader_up(reader, Epoch(epoch), message, world.now).unwrap();
    world.effects();
}

/// The next part of a broadcast: its text, and where the reader is then.
fn part(world: &mut World, reader: SessionId, epoch: u32) -> Option<(String, Mark)> {
    match world.next_part(reader, Epoch(epoch))? {
        ReaderDown::Batch { position, batch, .. } => Some((body(&batch), Mark { position, records: batch.count() })),
        other => panic!("{other:?}"),
    }
}

fn leased(world: &mut World, reader: SessionId, epoch: u32) -> Option<(String, LeaseId)> {
    match world.next_part(reader, Epoch(epoch))? {
        ReaderDown::Leased { lease, batch, .. } => Some((body(&batch), lease)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reader_of_a_broadcast_goes_on_at_the_next_part() {
    let (mut world, _, reader) = world(Mode::Broadcast);
    let (text, has) = part(&mut world, reader, 1).unwrap();
    assert_eq!((text.as_str(), part(&mut world, reader, 1)), ("one ", None), "no credit is left");
    up(&mut world, reader, 1, ReaderUp::AckTo(has.clone()));
    assert_eq!(world.pipe.reader_stats()[0].lag.records, 1, "a part is not acknowledged alone");
    world.crash();
    let resume_at = Some(has);
    world.attach(&attach(reader, 2, OnTape { resume_at, ..OnTape::default() })).unwrap();
    world.sync();
    let (text, _) = part(&mut world, reader, 2).unwrap();
    assert_eq!(text, "two ");
    up(&mut world, reader, 2, ReaderUp::Credit(1000));
    let (text, has) = part(&mut world, reader, 2).unwrap();
    assert_eq!(text, "three");
    up(&mut world, reader, 2, ReaderUp::AckTo(has));
    assert_eq!(world.pipe.reader_stats()[0].lag.records, 0);
}

#[test]
fn a_position_within_a_record_is_that_of_the_record() {
    let (mut world, _, reader) = world(Mode::Broadcast);
    let (_, has) = part(&mut world, reader, 1).unwrap();
    let late = world.name();
    let mut from = attach(late, 1, OnTape::default());
    from.tape.start = Start::At(has);
    world.attach(&from).unwrap();
    world.sync();
    assert_eq!(part(&mut world, late, 1).unwrap().0, "one ");
    // Such as nobody gave out.
    for forged in [[0xff; 16], [0; 16]] {
        from.session = world.name();
        from.tape.start = Start::At(Mark { position: Position(forged.to_vec().into()), records: 9 });
        let _ = world.attach(&from).map_err(|error| assert_eq!(error.code(), Code::Usage));
    }
}

#[test]
fn what_is_let_go_of_within_a_record_is_missing_as_one() {
    let (mut world, writer, reader) = world(Mode::Broadcast);
    part(&mut world, reader, 1).unwrap();
    let retain = Retain { records: Some(1), ..Retain::default() };
    world.set(Settings { retain, ..Settings::default() });
    world.write(writer, &["next".to_owned()], None);
    world.sync();
    up(&mut world, reader, 1, ReaderUp::Credit(1000));
    let missing = world.next_part(reader, Epoch(1));
    assert!(matches!(missing, Some(ReaderDown::Missing { records: 1, .. })), "{missing:?}");
    assert_eq!(part(&mut world, reader, 1).unwrap().0, "next");
}

#[test]
fn a_damaged_part_is_a_missing_record() {
    for mode in [Mode::Queue, Mode::Broadcast] {
        let (mut world, _, reader) = world(mode);
        world.next_part(reader, Epoch(1)).unwrap();
        let item = world.pipe.long(Seq(0)).unwrap().item;
        let missing = world.pipe.missing(reader, Epoch(1), item, Seq(1), Seq(2));
        assert!(matches!(missing, Some(ReaderDown::Missing { records: 1, .. })), "{missing:?}");
        world.effects();
        world.sync();
        up(&mut world, reader, 1, ReaderUp::Credit(1000));
        assert_eq!(world.next_part(reader, Epoch(1)), None);
    }
}

#[test]
fn a_queue_sends_it_again_from_its_beginning_over_a_new_link() {
    let (mut world, _, reader) = world(Mode::Queue);
    let (text, lease) = leased(&mut world, reader, 1).unwrap();
    assert_eq!(text, "one ");
    world.crash();
    // It does not name what it has not got whole.
    world.attach(&attach(reader, 2, OnTape::default())).unwrap();
    world.sync();
    assert_eq!(leased(&mut world, reader, 2).unwrap(), ("one ".to_owned(), lease.clone()));
    up(&mut world, reader, 2, ReaderUp::Credit(1000));
    assert_eq!(leased(&mut world, reader, 2).unwrap(), ("two ".to_owned(), lease.clone()));
    assert_eq!(leased(&mut world, reader, 2).unwrap(), ("three".to_owned(), lease.clone()));
    let done = ReaderUp::Settle { lease, verdict: crate::broker::Verdict::Done };
    up(&mut world, reader, 2, done);
    world.sync();
    assert_eq!(world.pipe.counts().items, 0);
}

#[test]
fn its_time_begins_anew_with_each_part_and_who_waits_in_vain_is_told() {
    let (mut world, _, reader) = world(Mode::Queue);
    let (_, lease) = leased(&mut world, reader, 1).unwrap();
    world.pass(LEASE / 2);
    up(&mut world, reader, 1, ReaderUp::Credit(60));
    leased(&mut world, reader, 1).unwrap();
    world.pass(LEASE / 2 + Duration::from_secs(1));
    assert_eq!(world.pipe.counts().leased, 1, "a part came half a time ago");
    world.pass(LEASE);
    let told = world.next_part(reader, Epoch(1));
    assert_eq!(told, Some(ReaderDown::Settled { lease: lease.clone(), error: Some(Code::LeaseLost) }));
    up(&mut world, reader, 1, ReaderUp::Credit(1000));
    world.sync();
    let (text, again) = leased(&mut world, reader, 1).unwrap();
    assert_eq!((text.as_str(), again.attempt), ("one ", lease.attempt + 1));
}

#[test]
fn who_is_done_with_it_sooner_gets_no_more_of_it() {
    let (mut world, writer, reader) = world(Mode::Queue);
    let (_, lease) = leased(&mut world, reader, 1).unwrap();
    up(&mut world, reader, 1, ReaderUp::Settle { lease, verdict: crate::broker::Verdict::Done });
    world.write(writer, &["next".to_owned()], None);
    up(&mut world, reader, 1, ReaderUp::Credit(1000));
    world.sync();
    assert!(matches!(world.next_part(reader, Epoch(1)), Some(ReaderDown::Settled { error: None, .. })));
    assert_eq!(leased(&mut world, reader, 1).unwrap().0, "next");
}

#[test]
fn a_writer_that_is_given_up_within_it_is_told_so_and_leaves_nothing() {
    let (mut world, writer, _) = world(Mode::Queue);
    world.begin_long(writer, "four five", None);
    world.sync();
    assert_eq!(world.stored(writer), Seq(4), "a part is kept for its writer");
    world.pipe.lost(writer, world.now);
    world.effects();
    world.sync();
    assert_eq!(world.closed_at(writer), Some(Seq(3)), "the record is not there");
    assert_eq!((world.pipe.counts().items, world.pipe.open_items().len()), (1, 0));
    world.crash();
    assert_eq!((world.pipe.counts().items, world.pipe.open_items().len()), (1, 0));
}

#[test]
fn parts_that_do_not_follow_are_refused() {
    let refused = |pieces: &[(bool, bool)], begun: bool, end: bool| {
        let mut world = World::new(Mode::Broadcast);
        let writer = world.writer();
        world.sync();
        if begun {
            world.begin_long(writer, "one two", None);
        }
        let mut builder = BatchBuilder::new(writer, Epoch(1), Seq(u64::from(begun)));
        pieces.iter().for_each(|(first, last)| assert!(builder.push(b"x", *first, *last)));
        let batch = builder.build(end.then(|| ItemDigest::default().end(EndKind::Finished, 0)));
        world.pipe.batch(writer, Epoch(1), batch, world.now).map(drop).map_err(|error| error.code())
    };
    let wrong = Err(Code::Protocol);
    assert_eq!(refused(&[(false, true)], false, false), wrong, "an end without a beginning");
    assert_eq!(refused(&[(true, true)], true, false), wrong, "a record between the parts of another");
    assert_eq!(refused(&[(true, false)], true, false), wrong, "a beginning between them");
    assert_eq!(refused(&[(true, true), (true, false)], false, false), wrong, "a record and a part");
    assert_eq!(refused(&[(false, true), (true, true)], true, false), wrong, "a part and a record");
    assert_eq!(refused(&[], true, true), wrong, "an end within a record");
    assert_eq!(refused(&[(false, true)], true, true), Ok(()));
    assert_eq!(refused(&[(true, false), (false, true)], false, false), Ok(()), "two parts at once");
}

#[test]
fn a_stand_in_comes_from_no_writer() {
    let mut world = World::new(Mode::Broadcast);
    let writer = world.writer();
    world.sync();
    let mut builder = BatchBuilder::new(writer, Epoch(1), Seq(0)).beside();
    assert!(builder.push(b"", true, true));
    let refused = world.pipe.batch(writer, Epoch(1), builder.build(None), world.now);
    assert_eq!(refused.map(drop).unwrap_err().code(), Code::Protocol);
}

/// The power goes behind each entry in turn, twice, with facts of others between.
#[test]
fn it_is_there_once_wherever_the_power_goes() {
    for mode in [Mode::Queue, Mode::Broadcast] {
        for entries in 0..8 {
            let mut world = World::new(mode);
            let (writer, other) = (world.writer(), world.writer());
            world.sync();
            world.begin_long(writer, "one two three", None);
            world.write_rest(writer);
            world.sync_some(entries);
            world.crash();
            // The log hears how far writers are, and of this one no more than it was.
            world.pipe.flush();
            world.effects();
            world.come_back(other);
            world.write(other, &["other".to_owned()], None);
            world.sync();
            world.crash();
            world.come_back(writer);
            world.sync();
            assert_eq!(world.pipe.counts().items, 2, "{mode:?}: the power went behind {entries} entries");
        }
    }
}
