//! P1e: no acknowledgement leaves the relay before the sync that covers it, by what the kernel was asked for and in which order.
//!
//! ```text
//!   recvfrom(socket)   whose session this socket is             docs/wire.md
//!   pwritev(segment)   which numbers of which session           docs/log.md
//!   fdatasync(segment) … = 0   those are on disk now, once fsync(folder) covered the segment's name
//!   writev(socket)     an acknowledgement: are they?
//! ```

use std::collections::HashMap;

use skypipe_core::{Pipe as _, Until};
use skypipe_test::proof::{self, Proof};

use crate::harness::{Home, In};
use crate::trace::{Call, calls};
use crate::traced::{Relay, pipe};
use crate::workload::clients;

/// Writers at a time, each of which waits for every single record: the more, the more acknowledgements follow one sync.
const WRITERS: u64 = 50;
/// One in so many acknowledgements is that of a whole command, `skypipe write`, of which its exit is looked at.
const COMMANDS_ONE_IN: u64 = 250;
/// All that the oracle looks at.
const CALLS: &str = "openat,pwritev,fdatasync,fsync,recvfrom,writev,sendto,sendmsg,write";

#[test]
fn proof_no_acknowledgement_before_its_sync() {
    let wanted = proof::cases(200, 10_000, 1_000_000);
    let proof = Proof::begin("P1e", "order of acknowledgement and sync");
    let home = Home::new();
    let mut relay = Relay::under_strace(&home, CALLS, &["-xx", "-ttt", "-T", "-s", "1000000"].map(str::to_owned));
    assert!(relay.serves(), "{}", relay.errors());
    let written = clients(async {
        let rounds = wanted.div_ceil(WRITERS);
        let writers = (0..WRITERS).map(|number| write(&home, number, rounds));
        futures::future::try_join_all(writers).await
    });
    written.expect("it ends").unwrap();
    let ends: Vec<(String, f64)> = (0..wanted.div_ceil(COMMANDS_ONE_IN)).map(|number| command(&home, number)).collect();
    let (_, trace) = relay.stop(&home);

    let mut oracle = Oracle::default();
    oracle.go_through(&calls(&trace));
    for (name, exited_at) in &ends {
        match oracle.ended.get(&oracle.session_of(name)) {
            Some(durable_at) if durable_at <= exited_at => {}
            found => oracle
                .early
                .push(format!("`skypipe write {name}` exited at {exited_at}, its end is synced at {found:?}")),
        }
    }
    println!("{} syncs for {} acknowledgements and {} commands", oracle.syncs, oracle.acknowledged, ends.len());
    assert!(oracle.acknowledged >= wanted, "{} acknowledgements", oracle.acknowledged);
    proof.end(oracle.acknowledged + ends.len() as u64, &oracle.early);
}

async fn write(home: &Home, number: u64, rounds: u64) -> Result<(), skypipe_core::Error> {
    let mut writer = pipe(home, &format!("writer{number}")).writer().await?;
    for round in 0..rounds {
        writer.send(format!("record {round} of {number}\n").as_bytes()).await?;
        writer.settled().await?;
    }
    writer.end(Until::Stored).await.map(drop)
}

/// One command: the name of its pipe, and when it exited with 0.
fn command(home: &Home, number: u64) -> (String, f64) {
    let (name, file) = (format!("command{number}"), home.path("exit"));
    let strace = ["strace", "-ttt", "-qq", "-e", "trace=exit_group", "-o", file.to_str().unwrap()].map(str::to_owned);
    home.skypipe(["write", &name]).stdin(In::Pipe(b"one\n".to_vec())).within(&strace).ok();
    let exit = std::fs::read_to_string(file).unwrap();
    let line = exit.lines().find(|line| line.contains("exit_group(0)")).expect("it exits");
    (name, line.split_whitespace().next().unwrap().parse().unwrap())
}

type Session = [u8; 16];

/// Follows the calls of a relay.
#[derive(Default)]
struct Oracle {
    files: HashMap<String, File>,
    sockets: HashMap<String, Socket>,
    /// The number behind the last one of each session that is on disk, and that behind its end mark.
    durable: HashMap<Session, u64>,
    end_marks: HashMap<Session, u64>,
    /// When the end of an item was on disk.
    ended: HashMap<Session, f64>,
    items: HashMap<(u64, u64), Session>,
    names: HashMap<String, u64>,
    acknowledged: u64,
    syncs: u64,
    /// What left too early.
    early: Vec<String>,
}

/// A segment.
#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    parsed: usize,
    entries: Vec<Entry>,
    /// How many of its entries count.
    durable: usize,
    /// How many are synced; they count once the name is.
    synced: usize,
    has_name: bool,
}

/// What an entry of the log says, as far as it matters here.
#[derive(Clone)]
struct Entry {
    kind: u8,
    pipe: u64,
    first: u64,
    count: u64,
    payload: Vec<u8>,
}

#[derive(Default)]
struct Socket {
    up: Vec<u8>,
    down: Vec<u8>,
    session: Option<Session>,
}

impl Oracle {
    fn go_through(&mut self, calls: &[Call]) {
        let mut moments: Vec<(usize, bool, usize)> = Vec::new();
        for (index, call) in calls.iter().enumerate() {
            moments.extend([(call.lines.0, false, index), (call.lines.1, true, index)]);
        }
        moments.sort_unstable();
        let mut covered: HashMap<usize, Vec<(String, usize)>> = HashMap::new();
        for (_, is_end, index) in moments {
            let call = &calls[index];
            match (call.name.as_str(), is_end) {
                ("pwritev", true) => self.written(call),
                ("openat", true) if call.arguments.contains("O_CREAT") => self.created(call),
                ("fdatasync" | "fsync", false) => drop(covered.insert(index, self.covered_by(call))),
                ("fdatasync" | "fsync", true) if call.returned == Some(0) => {
                    self.syncs += u64::from(call.name == "fdatasync");
                    let covers = covered.remove(&index).unwrap_or_default();
                    covers.into_iter().for_each(|(path, upto)| self.synced(&path, upto, call));
                }
                ("recvfrom", true) => self.received(call),
                ("writev" | "sendto" | "sendmsg" | "write", false) => self.sent(call),
                _ => {}
            }
        }
    }

    fn created(&mut self, call: &Call) {
        let path = String::from_utf8_lossy(&call.bytes()).into_owned();
        if path.ends_with(".segment") && call.returned.is_some_and(|number| number >= 0) {
            self.files.insert(path, File::default());
        }
    }

    fn written(&mut self, call: &Call) {
        let (Some(count), Some(offset)) = (call.returned.filter(|n| *n > 0), call.last_number()) else { return };
        let Some(file) = self.files.get_mut(&call.target()) else { return };
        let (bytes, offset, end) = (call.bytes(), offset as usize, offset as usize + count as usize);
        file.bytes.resize(file.bytes.len().max(end), 0);
        file.bytes[offset..end].copy_from_slice(&bytes[..count as usize]);
        // Not behind what was just written: there stand zeros.
        while let Some((entry, next)) = Entry::parse(&file.bytes[..end], file.parsed) {
            file.entries.push(entry);
            file.parsed = next;
        }
    }

    /// What a sync that begins now covers: of a segment its entries so far, of the folder the names of all segments.
    fn covered_by(&self, call: &Call) -> Vec<(String, usize)> {
        let target = call.target();
        match self.files.get(&target) {
            Some(file) => vec![(target, file.entries.len())],
            None => {
                let in_it = |path: &&String| path.rsplit_once('/').is_some_and(|(folder, _)| folder == target);
                self.files.keys().filter(in_it).map(|path| (path.clone(), 0)).collect()
            }
        }
    }

    fn synced(&mut self, path: &str, upto: usize, call: &Call) {
        let Some(file) = self.files.get_mut(path) else { return };
        file.has_name |= call.name == "fsync";
        file.synced = file.synced.max(upto);
        if !file.has_name {
            return;
        }
        let entries = file.entries[file.durable..file.synced.max(file.durable)].to_vec();
        file.durable = file.synced.max(file.durable);
        entries.into_iter().for_each(|entry| self.is_durable(&entry, call.ended_at));
    }

    fn is_durable(&mut self, entry: &Entry, at: f64) {
        match (entry.kind, entry.payload.first()) {
            (FACT, Some(1)) => {
                let path = &entry.payload[4 + usize::from(entry.payload[2])..];
                let name = path.get(3..).unwrap_or_default();
                self.names.insert(String::from_utf8_lossy(name).into_owned(), entry.pipe);
            }
            (FACT, Some(2 | 11)) => {
                let session: Session = entry.payload[1..17].try_into().unwrap();
                self.items.insert((entry.pipe, number(&entry.payload, 21)), session);
            }
            (FACT, Some(3)) => {
                if let Some(session) = self.items.get(&(entry.pipe, number(&entry.payload, 1))) {
                    self.ended.entry(*session).or_insert(at);
                }
            }
            (BATCH, _) => {
                let session: Session = entry.payload[16..32].try_into().unwrap();
                let (durable, next) = (self.durable.entry(session).or_default(), entry.first + entry.count);
                if entry.first <= *durable {
                    *durable = next.max(*durable);
                }
                if entry.payload[1] & 1 != 0 {
                    self.end_marks.insert(session, next);
                }
            }
            _ => {}
        }
    }

    fn received(&mut self, call: &Call) {
        let Some(count) = call.returned.filter(|count| *count > 0) else { return };
        let socket = self.sockets.entry(call.target()).or_default();
        for (kind, payload) in frames(&mut socket.up, &call.bytes()[..count as usize]) {
            if kind == ATTACH_WRITER {
                let path = 3 + usize::from(u16::from_le_bytes([payload[1], payload[2]]));
                socket.session = payload[path..path + 16].try_into().ok();
            }
        }
    }

    fn sent(&mut self, call: &Call) {
        let Some(count) = call.returned.filter(|count| *count > 0) else { return };
        let Some(socket) = self.sockets.get_mut(&call.target()) else { return };
        let frames = frames(&mut socket.down, &call.bytes()[..count as usize]);
        let Some(session) = socket.session else { return };
        for (kind, payload) in frames {
            match kind {
                ACK => self.acknowledged(session, &payload),
                WRITER_WELCOME => self.look(session, &payload[8..]),
                _ => {}
            }
        }
    }

    fn acknowledged(&mut self, session: Session, ack: &[u8]) {
        self.acknowledged += 1;
        self.look(session, ack);
    }

    /// Whether what an acknowledgement says is so.
    fn look(&mut self, session: Session, ack: &[u8]) {
        let (settled, stored) = (number(ack, 0), number(ack, 8));
        let durable = self.durable.get(&session).copied().unwrap_or_default();
        let end_is_early =
            self.end_marks.get(&session).is_some_and(|end| stored >= *end) && !self.ended.contains_key(&session);
        if settled.max(stored) > durable || end_is_early {
            self.early.push(format!(
                "settled {settled}, stored {stored}, but on disk {durable}, end too early: {end_is_early}"
            ));
        }
    }

    /// The session that wrote into the pipe of this name.
    fn session_of(&self, name: &str) -> Session {
        let pipe = self.names.get(name).unwrap_or_else(|| panic!("no pipe {name}"));
        *self.items.iter().find(|((of, _), _)| of == pipe).expect("it has an item").1
    }
}

impl Entry {
    /// The entry behind `from` and where the next one may begin, if all of it is there.
    fn parse(bytes: &[u8], from: usize) -> Option<(Self, usize)> {
        let at = from.next_multiple_of(8);
        let header = bytes.get(at..at + HEADER_BYTES)?;
        if header.iter().all(|byte| *byte == 0) {
            return None;
        }
        assert_eq!(&header[6..8], b"SL", "an entry at {at}");
        let length = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
        let count = u64::from(u32::from_le_bytes(header[20..24].try_into().unwrap()));
        let end = at + HEADER_BYTES + length;
        let payload = bytes.get(at + HEADER_BYTES..end)?.to_vec();
        let [pipe, first] = [24, 40].map(|at| number(header, at));
        Some((Self { kind: header[4], pipe, first, count, payload }, end))
    }
}

const HEADER_BYTES: usize = 48;
const FACT: u8 = 2;
const BATCH: u8 = 3;
const ATTACH_WRITER: u8 = 0x10;
const WRITER_WELCOME: u8 = 0x20;
const ACK: u8 = 0x40;

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The frames that these bytes bring to their end; what is begun waits for the next ones.
fn frames(begun: &mut Vec<u8>, bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    begun.extend_from_slice(bytes);
    let mut frames = Vec::new();
    while let Some(header) = begun.get(..8) {
        let (kind, end) = (header[4], 8 + u32::from_le_bytes(header[..4].try_into().unwrap()) as usize);
        if begun.len() < end {
            break;
        }
        frames.push((kind, begun[8..end].to_vec()));
        begun.drain(..end);
    }
    frames
}
