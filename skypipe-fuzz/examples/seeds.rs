//! Writes the part of the corpus that real exchanges give: `cargo run -p skypipe-fuzz --example seeds`. The rest came from the fuzzer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "an example that cannot go on has failed")]

use std::fs;
use std::path::Path;

use bytes::{BufMut, Bytes};
use skypipe_core::delivery::{Closed, Fact, Held, Place, TapeMark};
use skypipe_core::proof::{ClientProof, RelayProof};
use skypipe_core::wire::{Admitted, Answer, Hello, Invited, Message, Outbox, Prove, Request, SoftwareVersion};
use skypipe_core::*;
use skypipe_keys::{AllowList, Entry, Ticket};

fn main() {
    frames();
    messages();
    handshake();
    batches();
    facts();
    texts();
}

fn put(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).expect("the folder can be made");
    fs::write(folder.join(name), bytes).expect("the file can be written");
}

fn bytes_of(message: impl Message) -> Vec<u8> {
    let mut outbox = Outbox::new();
    outbox.push(message.into_frame()).expect("it fits");
    outbox.to_vec()
}

/// Kind, flags, and the payload.
fn message_of(message: impl Message) -> Vec<u8> {
    let bytes = bytes_of(message);
    [&bytes[4..6], &bytes[8..]].concat()
}

fn pipe() -> PipeRef {
    PipeRef::from(&PipeName::new("logs/web").expect("a name"))
}

fn batch(end: bool) -> Batch {
    let mut builder = BatchBuilder::new(SessionId([7; 16]), Epoch(1), Seq(0));
    assert!(builder.push(b"one\n", true, true) && builder.push(b"tw", true, end));
    builder.build(end.then(|| ItemDigest::default().end(EndKind::Finished, 6)))
}

fn requests() -> Vec<Request> {
    let (session, epoch) = (SessionId([3; 16]), Epoch(2));
    let resume = Some(WriterResume { settled: Seq(4), stored: Seq(3) });
    let cursors = vec![ReaderCursor { writer: SessionId([7; 16]), next: Seq(5) }];
    let reader = |take, resume| ReaderAttach {
        session,
        epoch,
        mode: None,
        take,
        keep: true,
        no_wait: false,
        credit: 1 << 20,
        mid_record: true,
        resume,
        tape: Default::default(),
    };
    let pattern = Pattern::parse("logs/*/**").expect("a pattern");
    let rights = Rights { read: true, ..Rights::NONE };
    vec![
        Request::AttachWriter(
            pipe(),
            WriterAttach { session, epoch, mode: Some(Mode::Default), resume: None, settings: Default::default() },
        ),
        Request::AttachWriter(
            pipe(),
            WriterAttach { session, epoch, mode: None, resume, settings: Default::default() },
        ),
        Request::AttachReader(pipe(), reader(Take::Any, None)),
        Request::AttachReader(pipe(), reader(Take::Item, Some(cursors))),
        Request::List(ListQuery {
            owner: Owner(Some([9; 32])),
            pattern: pattern.clone(),
            after: Some(pipe().path),
            limit: 100,
        }),
        Request::Stat(pipe()),
        Request::Remove(pipe()),
        Request::Ping(Bytes::from_static(b"are you there")),
        Request::StepDown,
        Request::Invite(Invite {
            pipes: vec![pattern.clone()],
            rights,
            expires: std::time::Duration::from_secs(60),
            uses: 2,
        }),
        Request::Keys,
        Request::AddKey("ssh-ed25519 AAAA me".to_owned()),
        Request::RevokeKey("me".to_owned()),
        Request::AttachPatternReader(
            PatternRef { owner: Owner::SELF, pattern: pattern.clone(), within: vec![vec![pattern]] },
            reader(Take::Any, Some(Vec::new())),
        ),
    ]
}

fn frames() {
    let all: Vec<u8> = requests().into_iter().flat_map(bytes_of).collect();
    put("frames", "requests", &[&[1], &all[..]].concat());
    let hello = bytes_of(Hello::new(SoftwareVersion::CURRENT, Features::default()));
    put("frames", "hello", &[&[0], &hello[..]].concat());
    let up = bytes_of(WriterUp::Batch(batch(true)));
    put("frames", "batches", &[&[7], &up[..], &up[..20]].concat());
    put("frames", "a-stranger-claims-much", &[0, 0, 0, 8, 0, 1, 0, 0, 0, 7]);
    put("frames", "too-long", &[1, 0xff, 0xff, 0xff, 0x7f, 1, 0, 0, 0]);
}

fn messages() {
    for (at, request) in requests().into_iter().enumerate() {
        put("requests", &format!("request-{at:02}"), &message_of(request));
    }
    put("requests", "hello", &message_of(Hello::new(SoftwareVersion::CURRENT, Features::default())));
    let stat = PipeStat::empty(pipe().path, Mode::Default);
    let ack = Ack { settled: Seq(3), stored: Seq(2), delivered: Seq(1) };
    let invited = Invited { token: Bytes::from_static(b"token"), urls: vec!["quic://k@h:1".to_owned()] };
    let answers = [
        Answer::WriterWelcome(WriterWelcome {
            next: Seq(3),
            ack,
            credit: 1 << 21,
            readers: 1,
            mode: Default::default(),
        }),
        Answer::ReaderWelcome(Default::default()),
        Answer::Page(ListPage { pipes: vec![stat.clone(), stat.clone()], more: true }),
        Answer::Stat(stat),
        Answer::Done,
        Answer::Pong(Bytes::from_static(b"yes")),
        Answer::Invited(invited),
        Answer::Keys(vec!["ssh-ed25519 AAAA me".to_owned(), "another".to_owned()]),
        Answer::Count(7),
        Answer::Stat(figures()),
    ];
    for (at, answer) in answers.into_iter().enumerate() {
        put("answers", &format!("answer-{at}"), &message_of(answer));
    }
    put("answers", "refused", &[&[0x2f, 0, 64, 0, 4, 0], &b"gone"[..], &[9, 0, 0, 0, 0, 0, 0, 0]].concat());
    let (writer, cursor) = (SessionId([7; 16]), ReaderCursor { writer: SessionId([7; 16]), next: Seq(5) });
    let position = Position(Bytes::from_static(b"place"));
    let notices = [
        Notice::Middle { writer, from: Seq(5) },
        Notice::SecondWriter,
        Notice::WaitsForRoom { code: Code::Quota, text: "full".to_owned() },
        Notice::HasRoom,
        Notice::SessionLost,
        Notice::Other("a line".to_owned()),
    ];
    let mut attached = vec![
        message_of(WriterUp::Batch(batch(false))),
        message_of(WriterUp::Abort),
        message_of(WriterDown::Ack(ack)),
        message_of(WriterDown::Credit(1 << 20)),
        message_of(ReaderUp::Credit(1 << 20)),
        message_of(ReaderUp::Ack(cursor)),
        message_of(ReaderUp::Leave { part: true }),
        message_of(ReaderDown::Batch { from: Seq(1), position, batch: batch(true) }),
        message_of(ReaderDown::ItemEnd { writer, kind: EndKind::Interrupted, alone: true, next: Seq(9) }),
        message_of(ReaderDown::Gap { writer, from: Seq(2), to: Seq(4) }),
        message_of(ReaderDown::Taken { writer }),
        message_of(ReaderDown::Finished),
    ];
    attached.extend(notices.iter().map(|notice| message_of(ReaderDown::Notice(notice.clone()))));
    attached.extend(notices.iter().map(|notice| message_of(WriterDown::Notice(notice.clone()))));
    let welcome = ReaderWelcome { mode: Mode::Broadcast, position: Seq(4).into() };
    let lease = LeaseId { position: Seq(4).into(), attempt: 2 };
    attached.extend([
        message_of(ReaderUp::Of(PipeNo(1))),
        message_of(ReaderUp::Had(Had { pipe: pipe().path, at: Some(Mark::default()), leases: vec![lease] })),
        message_of(ReaderUp::HadAll),
        message_of(ReaderDown::Joins { no: PipeNo(1), pipe: pipe().path, welcome, is_new: true }),
        message_of(ReaderDown::AllJoined),
        message_of(ReaderDown::From(PipeNo(1))),
        message_of(ReaderDown::Gone(PipeNo(1))),
    ]);
    for (at, mut bytes) in attached.into_iter().enumerate() {
        // Checksums are made good after a change.
        bytes[1] |= 2;
        put("attached", &format!("message-{at:02}"), &bytes);
    }
}

/// A stat with all its numbered figures.
fn figures() -> PipeStat {
    let mut stat = PipeStat::empty(pipe().path, Mode::Queue);
    (stat.leased, stat.ready, stat.delayed, stat.released) = (1, 2, 3, 4);
    stat.lag = Lag { records: 5, bytes: None };
    stat.traffic.since = WallTime(1_700_000_000_000);
    stat.traffic.written = Amount { records: 6, bytes: 7 };
    let mut cursor = ReaderStat::new(None, Presence::Nobody);
    cursor.cursor = Some("nightly".to_owned());
    (stat.reader_list, stat.readers_more) = (vec![ReaderStat::new(Some(8), Presence::Away), cursor], 9);
    stat
}

fn handshake() {
    let (client, relay) = (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]));
    let hello = || Hello::new(SoftwareVersion::CURRENT, Features::default());
    let payload = |hello: &Hello| Bytes::copy_from_slice(&bytes_of(hello.clone())[8..]);
    let knows = Some(RelayIdentity::Pinned(relay.public()));
    let (proof, said) = ClientProof::begin(hello(), client.public(), [3; 32], knows, None);
    let (_, answer) = RelayProof::answer(payload(&said), &said, hello(), &relay, [4; 32], None).expect("a good hello");
    let (message, mut prove) =
        proof.relay_said(&payload(&answer), &answer, Bytes::from_static(b"ticket")).expect("a good relay");
    prove.signature = client.sign_now(&message);
    let named = Prove { relay: wire::ProvedIdentity::Name("relay.example".to_owned()), ..prove.clone() };
    let admitted = Admitted { namespace: Owner(Some([9; 32])), admin: true, time: WallTime(1_700_000_000_000) };
    let bytes = [&[0][..], &bytes_of(prove.clone())[8..]].concat();
    put("proof", "prove", &bytes);
    put("proof", "prove-name", &[&[0][..], &bytes_of(named)[8..]].concat());
    put("proof", "admitted", &[&[1][..], &bytes_of(admitted)[8..]].concat());
    put("proof", "client-hello", &[&[2][..], &payload(&said)].concat());
    put("proof", "relay-hello", &[&[3][..], &payload(&answer)].concat());
    put("proof", "prove-at-relay", &[&[4][..], &bytes_of(prove)[8..]].concat());
}

fn batches() {
    for (name, end) in [("open", false), ("end", true)] {
        put("batch", name, &[&[1], &batch(end).encoded()[..]].concat());
        put("batch", &format!("{name}-as-it-is"), &[&[0], &batch(end).encoded()[..]].concat());
    }
    // An extension that this version does not know.
    let mut more = batch(false).encoded().to_vec();
    more.splice(44..44, [9, 0, 3, 0, 1, 2, 3]);
    more[2] = 7;
    put("batch", "extension", &[&[1], &more[..]].concat());
}

fn facts() {
    let (session, epoch, item) = (SessionId([3; 16]), Epoch(1), ItemNo(0));
    let holder = Holder::Process(ProcessId { pid: 7, started: 8, boot: 9 });
    let key = Holder::Key(PublicKey([5; 32]));
    let live = Held::Live(vec![Place { item, from: Seq(2), wants_start: true }]);
    let facts = vec![
        Fact::Opened { pipe: pipe(), mode: Mode::Default },
        Fact::WriterJoined { session, epoch, item, holder },
        Fact::WriterJoined { session: SessionId([4; 16]), epoch, item: ItemNo(1), holder: key },
        Fact::ReaderJoined {
            session: SessionId([5; 16]),
            epoch,
            take: Take::Any,
            keep: true,
            no_wait: false,
            holder: Holder::Unknown,
            holds: live.clone(),
        },
        Fact::ReaderJoined {
            session: SessionId([6; 16]),
            epoch,
            take: Take::Item,
            keep: false,
            no_wait: true,
            holder: key,
            holds: Held::Alone(ItemNo(1)),
        },
        Fact::ReaderHolds { session: SessionId([5; 16]), holds: live },
        Fact::Took { reader: SessionId([5; 16]), item, from: Seq(0), to: Seq(3) },
        Fact::Took { reader: SessionId([0xff; 16]), item, from: Seq(3), to: Seq(5) },
        Fact::Ended { item, kind: EndKind::Finished, next: Seq(6) },
        Fact::Ended { item: ItemNo(1), kind: EndKind::Aborted, next: Seq(1) },
        Fact::ReaderLeft { session: SessionId([6; 16]) },
    ];
    let entries = |facts: &[Fact]| {
        let mut out = vec![1];
        for fact in facts {
            let bytes = fact.encode();
            out.put_u8(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
            out.put_slice(&bytes);
        }
        out
    };
    put("facts", "a-life", &entries(&facts));
    put("facts", "snapshot", &entries(&[Fact::Snapshot(facts[..3].to_vec())]));
    tape_facts(entries);
    put("facts", "removed", &entries(&[facts[0].clone(), Fact::Removed]));
    let closed = Closed { session, next: Seq(5), ended: true, delivered: true, at: WallTime(6) };
    put("facts", "closed", &entries(&[Fact::Closed(closed)]));
}

/// A queue's life and a broadcast's.
fn tape_facts(entries: impl Fn(&[Fact]) -> Vec<u8>) {
    let (writer, reader, epoch, item) = (SessionId([3; 16]), SessionId([5; 16]), Epoch(1), ItemNo(0));
    let (holder, take) = (Holder::Unknown, Take::Any);
    let joined =
        |holds| Fact::ReaderJoined { session: reader, epoch, take, keep: false, no_wait: false, holder, holds };
    let mark = TapeMark { place: Seq(4), bytes: 400, at: WallTime(1_000_100) };
    let begins = |mode| {
        vec![
            Fact::Opened { pipe: pipe(), mode },
            Fact::Settings(Settings { max_deliveries: Some(3), ..Settings::default() }),
            Fact::WriterJoined { session: writer, epoch, item, holder },
            Fact::Progress { next: Seq(7), writers: vec![(item, Seq(7))], mark: Some(mark) },
            Fact::Cut { below: Seq(1) },
        ]
    };
    let queue = vec![
        joined(Held::Waiting),
        Fact::Leased { reader, leases: vec![(Seq(1), 1), (Seq(2), 1), (Seq(3), 2)] },
        Fact::Waits { place: Seq(2), attempts: 1, due: WallTime(1_000_500) },
        Fact::Done { places: vec![Seq(1)..Seq(2), Seq(4)..Seq(6)] },
        Fact::Returned { session: reader, epoch: Epoch(2) },
        Fact::Ended { item, kind: EndKind::Finished, next: Seq(8) },
    ];
    let broadcast = vec![
        joined(Held::Live(vec![Place { item: delivery::limits::TAPE, from: Seq(2), wants_start: false }])),
        Fact::Cursor { name: "nightly".to_owned(), at: Seq(5) },
        Fact::ReaderLeft { session: reader },
        Fact::Ended { item, kind: EndKind::Aborted, next: Seq(7) },
    ];
    // The first byte says which mode, and what of the tape is on disk.
    for (name, mode, first, more) in [("queue", Mode::Queue, 2, queue), ("broadcast", Mode::Broadcast, 3, broadcast)] {
        let life = [begins(mode), more].concat();
        for (kind, facts) in [("life", life.clone()), ("snapshot", vec![Fact::Snapshot(life[..4].to_vec())])] {
            let mut bytes = entries(&facts);
            bytes[0] = first;
            put("tape_facts", &format!("{name}-{kind}"), &bytes);
        }
    }
}

fn texts() {
    let key = KeyPair::from_seed(&[7; 32]).public();
    let names = ["logs/web", "a b/ü", "jobs/dead", "logs/*/**", "e\u{301}", "..", "\u{1b}[31m", "a\u{202e}b", ""];
    for (at, name) in names.iter().enumerate() {
        put("names", &format!("name-{at}"), name.as_bytes());
    }
    put("names", "target", format!("@{key}/logs/web").as_bytes());
    put("names", "key", key.to_string().as_bytes());
    for (at, url) in ["quic://K@192.0.2.1:7473", "wss://K@[2001:db8::1]:7474", "ws://h:8080/a/b?c=d"].iter().enumerate()
    {
        put("names", &format!("url-{at}"), url.replace('K', &key.to_string()).as_bytes());
    }
    put("names", "path", pipe().path.encoded());
    let urls = vec![format!("quic://{key}@192.0.2.1:7473"), "wss://relay.example/pipes".to_owned()];
    let ticket = Ticket::new(urls, Bytes::from_static(b"the token")).expect("a ticket").to_string();
    put("tickets", "text", format!("\0{ticket}").as_bytes());
    put("tickets", "newer", b"\0sky2AAAA");
    put("tickets", "inside", b"\x01\x01\x02\x06unix:/\x03ws:the token");
    authorized_keys(key);
    let request = "GET /any/path HTTP/1.1\r\nHost: relay.example:7473\r\nConnection: keep-alive, Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
        Sec-WebSocket-Protocol: chat, skypipe.1\r\n";
    put("upgrade", "program", format!("\0{request}\r\n").as_bytes());
    put("upgrade", "page", format!("\x01{request}Origin: https://good.example\r\n\r\n").as_bytes());
    put("upgrade", "other-page", format!("\x01{request}Sec-Fetch-Site: cross-site\r\n\r\n").as_bytes());
    put("upgrade", "http-1-0", b"\0GET / HTTP/1.0\r\nHost: h\r\n\r\n");
    mux();
}

fn authorized_keys(key: PublicKey) {
    let mut list = AllowList::default();
    list.put(Entry { admin: true, ..Entry::new(key, "me@here") }).expect("a line");
    let other =
        Entry { write: false, expires: Some(WallTime(1_900_000_000_000)), ..Entry::new(PublicKey([1; 32]), "") };
    let _ = list.put(other);
    put("authorized_keys", "two", format!("# mine\n\n{list}").as_bytes());
    let line = skypipe_keys::public_line(key, "me");
    put("authorized_keys", "options", format!("owner=\"relay\",pipes=\"logs/**,@{key}/a b\",read {line}\n").as_bytes());
    put("authorized_keys", "unknown", format!("no-pty {line}\n").as_bytes());
}

/// A stream of the peer's is opened, written and ended, and read here.
fn mux() {
    let message = |kind: u8, stream: u32, payload: &[u8]| {
        let mut out = vec![u8::try_from(5 + payload.len()).unwrap_or(0), kind];
        out.put_u32_le(stream);
        out.put_slice(payload);
        out
    };
    let window = 65_536_u32.to_le_bytes();
    let parts = [
        message(1, 1, &[]),
        vec![0x81],
        message(2, 1, b"hello"),
        vec![0x85, 0x86, 0x8d],
        message(3, 1, &window),
        message(4, 1, &[]),
        vec![0x88, 0x8d, 0x80],
        message(6, 0, &[9, 0, 0, 0]),
        message(5, 1, &[]),
        vec![0x8a, 0x8b],
    ];
    put("mux", "a-stream", &[&[0], &parts.concat()[..]].concat());
    put("mux", "out-of-turn", &[&[0], &message(1, 3, &[])[..]].concat());
}
