//! Every frame's bytes, frozen. A test that fails here means that old and new programs no longer understand each other:
//! change the protocol's version, not the bytes.

use bytes::Bytes;
use proptest::prelude::*;

use super::message::{error_frame, refused_frame};
use super::*;
use crate::batch::{Batch, BatchBuilder, EndKind, EndMark};
use crate::broker::{
    Ack, Features, Had, LeaseId, ListPage, ListQuery, Mark, Mode, Notice, ReaderAttach, ReaderCursor, ReaderDown,
    ReaderUp, ReaderWelcome, Take, WriterAttach, WriterDown, WriterResume, WriterUp, WriterWelcome,
};
use crate::error::{Code, Error};
use crate::id::{Epoch, PipeNo, Position, Seq, SessionId};
use crate::name::{Owner, Pattern, PatternRef, PipeName, PipeRef};
use crate::stat::PipeStat;

fn hex(frame: Frame) -> String {
    let mut outbox = Outbox::new();
    outbox.push(frame).unwrap();
    let mut text = String::new();
    outbox.to_vec().iter().for_each(|b| text += &format!("{b:02x}"));
    text
}

/// The frame as it comes out of a stream of bytes.
fn over_bytes(frame: Frame) -> Frame {
    let mut outbox = Outbox::new();
    outbox.push(frame).unwrap();
    let (mut decoder, bytes) = (Decoder::new(), outbox.to_vec());
    decoder.trust();
    let mut input = &bytes[..];
    loop {
        if let Some(frame) = decoder.frame().unwrap() {
            assert!(input.is_empty() && !decoder.is_torn());
            return frame;
        }
        decoder.feed(&mut input).unwrap();
    }
}

/// The message has these bytes, and comes back from them.
fn frozen<M: Message + Clone + PartialEq + std::fmt::Debug>(message: M, expected: &str) {
    let expected: String = expected.split_whitespace().collect();
    assert_eq!(hex(message.clone().into_frame()), expected, "{message:?}");
    comes_back(message);
}

fn comes_back<M: Message + Clone + PartialEq + std::fmt::Debug>(message: M) {
    assert_eq!(M::from_frame(message.clone().into_frame()).unwrap(), Some(message.clone()));
    assert_eq!(M::from_frame(over_bytes(message.clone().into_frame())).unwrap(), Some(message));
}

const WRITER: SessionId = SessionId([0x11; 16]);
const READER: SessionId = SessionId([0x22; 16]);

fn pipe() -> PipeRef {
    PipeRef::from(&PipeName::new("a/bc").unwrap())
}

fn batch() -> Batch {
    let mut builder = BatchBuilder::new(WRITER, Epoch(1), Seq(5));
    assert!(builder.push(b"hi\n", true, true));
    builder.build(Some(EndMark { kind: EndKind::Finished, bytes: 3, digest: 0 }))
}

fn ack() -> Ack {
    Ack { settled: Seq(3), stored: Seq(2), delivered: Seq(1) }
}

#[test]
fn proof() {
    let relay = super::ProvedIdentity::Key(crate::identity::PublicKey([1; 32]));
    let signature = crate::identity::Signature([2; 64]);
    let prove = super::Prove { relay, bound: true, signature, ticket: Bytes::from_static(b"t") };
    let (key, signature) = ("01".repeat(32), "02".repeat(64));
    frozen(prove.clone(), &format!("67000000 02 00 0000 00 2000 {key} 01 {signature} 0100 74"));
    let named = super::Prove {
        relay: super::ProvedIdentity::Name("a".to_owned()),
        bound: false,
        ticket: Bytes::new(),
        ..prove
    };
    frozen(named, &format!("47000000 02 00 0000 01 0100 61 00 {signature} 0000"));
    let admitted = super::Admitted { namespace: Owner(Some([3; 32])), admin: true, time: crate::time::WallTime(5) };
    frozen(admitted, &format!("2a000000 03 00 0000 01 {} 01 0500000000000000", "03".repeat(32)));
}

#[test]
fn hello() {
    let features = Features { stored: true, delivered: true, ..Features::default() };
    let mut hello = Hello::new(SoftwareVersion::new(1, 2, 3), features);
    frozen(hello.clone(), "16000000 01 00 0000 736b7970 0100 0100 0100 0200 0300 0c00000000000000");
    hello.extensions.push((9, Bytes::from_static(b"x")));
    frozen(hello, "1b000000 01 00 0000 736b7970 0100 0100 0100 0200 0300 0c00000000000000 0900 0100 78");
}

#[test]
fn requests() {
    let attach =
        WriterAttach { session: WRITER, epoch: Epoch(1), mode: None, resume: None, settings: Default::default() };
    let session = "11111111111111111111111111111111";
    frozen(
        Request::AttachWriter(pipe(), attach.clone()),
        &format!("1e000000 10 00 0000 00 0500 0161026263 {session} 01000000 ff 00"),
    );
    let resume = Some(WriterResume { settled: Seq(7), stored: Seq(6) });
    let owned = PipeRef { owner: Owner(Some([0x33; 32])), ..pipe() };
    frozen(
        Request::AttachWriter(owned, WriterAttach { mode: Some(Mode::Default), resume, ..attach }),
        &format!(
            "4e000000 10 00 0000 01 {} 0500 0161026263 {session} 01000000 00 01 0700000000000000 0600000000000000",
            "33".repeat(32)
        ),
    );
    let resume = Some(vec![ReaderCursor { writer: WRITER, next: Seq(4) }]);
    let attach = ReaderAttach {
        session: READER,
        epoch: Epoch(2),
        mode: None,
        take: Take::Item,
        keep: true,
        no_wait: false,
        credit: 9,
        mid_record: true,
        resume,
        tape: Default::default(),
    };
    frozen(
        Request::AttachReader(pipe(), attach),
        &format!(
            "43000000 11 00 0000 00 0500 0161026263 {} 02000000 ff 01 0d 0900000000000000 01000000 {session} 0400000000000000",
            "22".repeat(16)
        ),
    );
    frozen(
        Request::List(ListQuery {
            owner: Owner::SELF,
            pattern: Pattern::parse("a/*/**").unwrap(),
            after: Some(pipe().path),
            limit: 10,
        }),
        "14000000 12 00 0000 00 0300 00 0100 61 01 02 0500 0161026263 0a000000",
    );
    frozen(
        Request::List(ListQuery { owner: Owner::SELF, pattern: Pattern::all(), after: None, limit: 10 }),
        "0a000000 12 00 0000 00 0100 02 0000 0a000000",
    );
    frozen(Request::Stat(pipe()), "08000000 13 00 0000 00 0500 0161026263");
    frozen(Request::Remove(pipe()), "08000000 14 00 0000 00 0500 0161026263");
    frozen(Request::Ping(Bytes::from_static(b"?")), "03000000 15 00 0000 0100 3f");
    frozen(Request::StepDown, "00000000 16 00 0000");
    let rights = crate::caller::Rights { read: true, ..crate::caller::Rights::NONE };
    let expires = std::time::Duration::from_secs(3600);
    frozen(
        Request::Invite(crate::gatekeeper::Invite { pipes: vec![Pattern::all()], rights, expires, uses: 2 }),
        "12000000 17 00 0000 01 100e000000000000 02000000 0100 0100 02",
    );
    frozen(Request::Keys, "00000000 18 00 0000");
    frozen(Request::AddKey("k".to_owned()), "03000000 19 00 0000 0100 6b");
    frozen(Request::RevokeKey("k".to_owned()), "03000000 1a 00 0000 0100 6b");
}

#[test]
fn answers() {
    frozen(
        Answer::WriterWelcome(WriterWelcome {
            next: Seq(4),
            ack: ack(),
            credit: 8,
            readers: 2,
            mode: Default::default(),
        }),
        "2c000000 20 00 0000 0400000000000000 0300000000000000 0200000000000000 0100000000000000 0800000000000000 02000000",
    );
    frozen(Answer::ReaderWelcome(Default::default()), "00000000 21 00 0000");
    let stat = PipeStat {
        items: 1,
        ended: 2,
        bytes: 3,
        writers: 4,
        readers: 5,
        read_only: true,
        ..PipeStat::empty(pipe().path, Mode::Default)
    };
    let fields = "2900 0500 0161026263 00 0100000000000000 0200000000000000 0300000000000000 04000000 05000000 02";
    frozen(
        Answer::Page(ListPage { pipes: vec![stat.clone()], more: true }),
        &format!("30000000 22 00 0000 01 01000000 {fields}"),
    );
    frozen(Answer::Stat(stat), &format!("2b000000 23 00 0000 {fields}"));
    frozen(
        Answer::Invited(super::Invited { token: Bytes::from_static(b"t"), urls: vec!["u".to_owned()] }),
        "08000000 26 00 0000 0100 74 0100 0100 75",
    );
    frozen(Answer::Keys(vec!["k".to_owned()]), "05000000 27 00 0000 0100 0100 6b");
    frozen(Answer::Count(3), "04000000 28 00 0000 03000000");
    frozen(Answer::Done, "00000000 24 00 0000");
    frozen(Answer::Pong(Bytes::from_static(b"?")), "03000000 25 00 0000 0100 3f");
}

#[test]
fn writers() {
    let encoded = {
        let mut text = String::new();
        batch().encoded().iter().for_each(|b| text += &format!("{b:02x}"));
        text
    };
    frozen(WriterUp::Batch(batch()), &format!("43000000 30 00 0000 {encoded}"));
    frozen(WriterUp::Abort, "00000000 31 00 0000");
    frozen(WriterDown::Ack(ack()), "18000000 40 00 0000 0300000000000000 0200000000000000 0100000000000000");
    frozen(WriterDown::HasReader, "00000000 43 01 0000");
    frozen(WriterDown::Credit(256), "08000000 41 00 0000 0001000000000000");
    let waits = Notice::WaitsForRoom { code: Code::NoSpace, text: "disk".into() };
    frozen(WriterDown::Notice(waits), "09000000 42 01 0000 02 0400 6469736b 5100");
    frozen(WriterDown::Notice(Notice::SecondWriter), "03000000 42 01 0000 01 0000");
    frozen(WriterDown::Notice(Notice::HasRoom), "03000000 42 01 0000 03 0000");
    frozen(
        ReaderDown::Batch { from: Seq(5), position: Position(Bytes::from_static(b"p")), batch: batch() },
        &format!("4e000000 60 00 0000 0500000000000000 0100 70 {encoded}"),
    );
}

#[test]
fn readers() {
    let session = "11111111111111111111111111111111";
    frozen(ReaderUp::Credit(1), "08000000 50 00 0000 0100000000000000");
    frozen(
        ReaderUp::Ack(ReaderCursor { writer: WRITER, next: Seq(2) }),
        &format!("18000000 51 00 0000 {session} 0200000000000000"),
    );
    frozen(ReaderUp::Prefetch(3), "04000000 55 00 0000 03000000");
    frozen(ReaderUp::Leave { part: true }, "01000000 52 00 0000 01");
    frozen(
        ReaderDown::ItemEnd { writer: WRITER, kind: EndKind::Aborted, alone: true, next: Seq(3) },
        &format!("1a000000 61 00 0000 {session} 02 0300000000000000 01"),
    );
    frozen(ReaderDown::Taken { writer: WRITER }, &format!("10000000 65 00 0000 {session}"));
    frozen(
        ReaderDown::Gap { writer: WRITER, from: Seq(1), to: Seq(4) },
        &format!("20000000 62 00 0000 {session} 0100000000000000 0400000000000000"),
    );
    frozen(
        ReaderDown::Notice(Notice::Middle { writer: WRITER, from: Seq(8) }),
        &format!("1b000000 63 01 0000 00 0000 {session} 0800000000000000"),
    );
    frozen(ReaderDown::Notice(Notice::SessionLost), "03000000 63 01 0000 04 0000");
    frozen(ReaderDown::Notice(Notice::Other("new".into())), "06000000 63 01 0000 ff 0300 6e6577");
    frozen(ReaderDown::Finished, "00000000 64 00 0000");
}

#[test]
fn readers_of_patterns() {
    let session = "22222222222222222222222222222222";
    let attach = ReaderAttach {
        session: READER,
        epoch: Epoch(1),
        mode: None,
        take: Take::Any,
        keep: false,
        no_wait: false,
        credit: 9,
        mid_record: false,
        resume: None,
        tape: Default::default(),
    };
    let wanted = PatternRef { owner: Owner::SELF, pattern: Pattern::parse("a/**").unwrap(), within: Vec::new() };
    let tail = format!("{session} 01000000 ff 00 00 0900000000000000");
    frozen(
        Request::AttachPatternReader(wanted.clone(), attach.clone()),
        &format!("28000000 1b 00 0000 00 0200 00 0100 61 02 00 {tail}"),
    );
    let within = vec![vec![Pattern::parse("*").unwrap()], Vec::new()];
    frozen(
        Request::AttachPatternReader(PatternRef { within, ..wanted }, attach),
        &format!("2f000000 1b 00 0000 00 0200 00 0100 61 02 02 0100 0100 01 0000 {tail}"),
    );
    let position = |at: &'static [u8]| Position(Bytes::from_static(at));
    let lease = LeaseId { position: position(b"l"), attempt: 3 };
    frozen(ReaderUp::Of(PipeNo(7)), "04000000 56 00 0000 07000000");
    frozen(
        ReaderUp::Had(Had { pipe: pipe().path, at: None, leases: vec![lease] }),
        "13000000 57 00 0000 0500 0161026263 00 01000000 0100 6c 03000000",
    );
    let at = Some(Mark { position: position(b"p"), records: 2 });
    frozen(
        ReaderUp::Had(Had { pipe: pipe().path, at, leases: Vec::new() }),
        "13000000 57 00 0000 0500 0161026263 01 0100 70 02000000 00000000",
    );
    frozen(ReaderUp::HadAll, "00000000 58 00 0000");
    let welcome = ReaderWelcome { mode: Mode::Broadcast, position: position(b"p") };
    frozen(
        ReaderDown::Joins { no: PipeNo(7), pipe: pipe().path, welcome, is_new: true },
        "10000000 69 00 0000 07000000 0500 0161026263 01 02 0100 70",
    );
    frozen(ReaderDown::AllJoined, "00000000 6a 00 0000");
    frozen(ReaderDown::From(PipeNo(7)), "04000000 6b 00 0000 07000000");
    frozen(ReaderDown::Gone(PipeNo(7)), "04000000 6c 00 0000 07000000");
}

#[test]
fn errors() {
    let error = Error::new(Code::Busy, "try later");
    assert_eq!(hex(refused_frame(&error)), "0d0000002f0000005a000900747279206c61746572");
    assert_eq!(hex(error_frame(&error)), "0d0000007f0000005a000900747279206c61746572");
    let back = Answer::from_frame(over_bytes(refused_frame(&error))).unwrap_err();
    assert_eq!((back.code(), back.text()), (Code::Busy, "try later"));
    for back in [
        Hello::from_frame(error_frame(&error)).err(),
        Request::from_frame(error_frame(&error)).err(),
        WriterUp::from_frame(error_frame(&error)).err(),
        WriterDown::from_frame(error_frame(&error)).err(),
        ReaderUp::from_frame(error_frame(&error)).err(),
        ReaderDown::from_frame(error_frame(&error)).err(),
    ] {
        assert_eq!(back.unwrap().code(), Code::Busy);
    }
    let long = Error::new(Code::Internal, "ü".repeat(5000));
    let back = Answer::from_frame(refused_frame(&long)).unwrap_err();
    assert_eq!(back.text(), "ü".repeat(512));
}

#[test]
fn unknown_kinds_are_passed_over_only_where_marked() {
    assert_eq!(WriterUp::from_frame(over_bytes(Frame::skippable(0xee, vec![1]))).unwrap(), None);
    let error = WriterUp::from_frame(over_bytes(Frame::new(0xee, vec![1]))).unwrap_err();
    assert_eq!(error.code(), Code::Protocol);
    let newer = Frame::skippable(constants::kind::READER_NOTICE, &b"\x63\x03\x00new"[..]);
    assert_eq!(ReaderDown::from_frame(newer).unwrap(), Some(ReaderDown::Notice(Notice::Other("new".into()))));
}

proptest! {
    #[test]
    fn any_message_comes_back(number: u64, small: u32, flag: bool, id: [u8; 16], text in "\\PC{0,50}", segments in "[a-z]{1,20}(/[a-z*]{1,20}){0,3}") {
        let cursor = ReaderCursor { writer: SessionId(id), next: Seq(number) };
        let ack = Ack { settled: Seq(number), stored: Seq(small.into()), delivered: Seq(0) };
        comes_back(WriterDown::Ack(ack));
        comes_back(WriterDown::Notice(Notice::WaitsForRoom { code: Code::Quota, text: text.clone() }));
        comes_back(ReaderUp::Ack(cursor));
        comes_back(ReaderUp::Leave { part: flag });
        comes_back(ReaderUp::Of(PipeNo(small)));
        comes_back(ReaderDown::From(PipeNo(small)));
        comes_back(ReaderDown::Gap { writer: SessionId(id), from: Seq(number), to: Seq(small.into()) });
        comes_back(ReaderDown::Notice(Notice::Other(text.clone())));
        comes_back(Answer::WriterWelcome(WriterWelcome { next: Seq(number), ack, credit: number, readers: small, mode: Default::default() }));
        comes_back(Request::Ping(text.into_bytes().into()));
        if let Ok(name) = PipeName::new(&segments) {
            let resume = flag.then(|| vec![cursor; small as usize % 100]);
            let pipe = PipeRef { owner: Owner(flag.then_some([7; 32])), ..PipeRef::from(&name) };
            let (session, epoch, mode, take) = (SessionId(id), Epoch(small), Some(Mode::Broadcast), Take::Peek);
            let leases = vec![LeaseId { position: Seq(number).into(), attempt: small }; small as usize % 9];
            comes_back(ReaderUp::Had(Had { pipe: name.path(), at: flag.then(Mark::default), leases }));
            let welcome = ReaderWelcome { mode: Mode::Queue, position: Seq(number).into() };
            comes_back(ReaderDown::Joins { no: PipeNo(small), pipe: name.path(), welcome, is_new: flag });
            comes_back(Request::AttachReader(pipe, ReaderAttach { session, epoch, mode, take, keep: flag, no_wait: !flag, credit: number, mid_record: flag, resume, tape: Default::default() }));
            comes_back(Request::List(ListQuery { owner: Owner::SELF, pattern: Pattern::all(), after: flag.then(|| name.path()), limit: small }));
        }
    }

    #[test]
    fn no_payload_makes_a_message_panic(kind in 0u8..0x80, skippable: bool, payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let frame = Frame { kind, skippable, payload: payload.into(), batch: None };
        let _ = Hello::from_frame(frame.clone());
        let _ = Request::from_frame(frame.clone());
        let _ = Answer::from_frame(frame.clone());
        let _ = WriterUp::from_frame(frame.clone());
        let _ = WriterDown::from_frame(frame.clone());
        let _ = ReaderUp::from_frame(frame.clone());
        let _ = ReaderDown::from_frame(frame);
    }
}
