//! A network between one relay and its clients: late, held up, cut, and gone.
//!
//! It carries bytes, as sockets do. A direction that is *held* delivers nothing until it is let go; a *cut* link is reset at both
//! ends, with what was under way lost.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use skypipe_core::{Code, Error, Link, LinkStream, Listener, Peer, ProcessId, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::dice::Dice;
use crate::trace::Trace;

/// Bytes under way in one direction of a stream: what a socket's buffers take.
const UNDER_WAY_MAX: usize = 256 * 1024;
/// Links and streams that wait to be accepted.
const BACKLOG_MAX: usize = 4096;
/// A client that hears nothing of the relay's machine stops waiting for it.
const CONNECT: Duration = Duration::from_secs(5);

/// A client's machine, or a process on the relay's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host(pub u32);

/// How a client reaches the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Over a network: a broken link says nothing about the client.
    Network,
    /// Over the local socket: a broken link is a dead process.
    Socket,
}

/// One of the two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    Up,
    /// To the client.
    Down,
}

/// The network.
#[derive(Clone)]
pub struct Net {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    dice: Dice,
    trace: Arc<Trace>,
    hosts: BTreeMap<Host, HostState>,
    links: BTreeMap<u64, LinkEntry>,
    next_link: u64,
    listener: Option<mpsc::Sender<SimLink>>,
    /// Links that were asked for, and those that the relay took.
    tries: Vec<(Instant, Host)>,
    taken: Vec<(Instant, Host)>,
    /// Addresses that all hosts share; none: each has its own.
    sources: Option<u32>,
}

struct HostState {
    via: Via,
    /// Of one way, in milliseconds.
    latency: u64,
    held: [bool; 2],
    /// Counts the processes that run there, one after the other.
    process: u32,
    gone: bool,
}

struct LinkEntry {
    host: Host,
    shared: Arc<LinkShared>,
}

/// What both ends of a link share.
struct LinkShared {
    number: u64,
    state: Mutex<LinkState>,
}

#[derive(Default)]
struct LinkState {
    streams: Vec<Arc<Conn>>,
    broken: bool,
    accepting: Option<Waker>,
    /// Not accepted yet, with when they get there.
    coming: VecDeque<SimStream>,
    /// The relay took its first stream.
    taken: bool,
    /// One end is dropped: no more streams.
    closed: bool,
}

impl Net {
    /// A network without hosts.
    pub fn new(dice: Dice, trace: Arc<Trace>) -> Self {
        let shared = Shared {
            dice,
            trace,
            hosts: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 0,
            listener: None,
            tries: Vec::new(),
            taken: Vec::new(),
            sources: None,
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Adds a client's machine, so many milliseconds away.
    pub fn add(&self, host: Host, via: Via, latency: u64) {
        let state = HostState { via, latency, held: [false; 2], process: 0, gone: false };
        self.lock().hosts.insert(host, state);
    }

    /// All hosts stand behind so many addresses.
    pub fn set_sources(&self, sources: u32) {
        self.lock().sources = Some(sources);
    }

    /// How a client there reaches the relay.
    pub fn transport(&self, host: Host) -> Arc<dyn Transport> {
        Arc::new(SimTransport { net: self.clone(), host })
    }

    /// The relay listens from now on.
    pub fn listen(&self) -> Box<dyn Listener> {
        let (links, coming) = mpsc::channel(BACKLOG_MAX);
        self.lock().listener = Some(links);
        Box::new(SimListener { coming: tokio::sync::Mutex::new(coming) })
    }

    /// The relay's machine is dead: all links are reset, nobody listens.
    pub fn relay_dies(&self) {
        let mut shared = self.lock();
        shared.trace.say("net", "the relay is gone");
        shared.listener = None;
        let links: Vec<u64> = shared.links.keys().copied().collect();
        let broken: Vec<_> = links.into_iter().filter_map(|link| shared.links.remove(&link)).collect();
        drop(shared);
        broken.iter().for_each(|link| link.shared.reset());
    }

    /// Resets the links of this host.
    pub fn cut(&self, host: Host) {
        let mut shared = self.lock();
        let links: Vec<u64> = shared.links.iter().filter(|(_, link)| link.host == host).map(|(n, _)| *n).collect();
        shared.trace.say("net", format_args!("cuts {} links of {host:?}", links.len()));
        let broken: Vec<_> = links.into_iter().filter_map(|link| shared.links.remove(&link)).collect();
        drop(shared);
        broken.iter().for_each(|link| link.shared.reset());
    }

    /// The process at this host is dead: its links are reset. Another one may start there.
    pub fn client_dies(&self, host: Host) {
        self.cut(host);
        if let Some(state) = self.lock().hosts.get_mut(&host) {
            state.process += 1;
        }
    }

    /// Nothing goes this way any more, or everything that waited and all that comes.
    pub fn hold(&self, host: Host, way: Way, held: bool) {
        let mut shared = self.lock();
        shared.trace.say("net", format_args!("{host:?} {way:?} {}", if held { "held" } else { "let go" }));
        if let Some(state) = shared.hosts.get_mut(&host) {
            state.held[way as usize] = held;
        }
        let links: Vec<_> = shared.links.values().filter(|l| l.host == host).map(|l| l.shared.clone()).collect();
        drop(shared);
        links.iter().for_each(|link| link.hold(way, held));
    }

    /// Another distance, in milliseconds.
    pub fn set_latency(&self, host: Host, latency: u64) {
        if let Some(state) = self.lock().hosts.get_mut(&host) {
            state.latency = latency;
        }
    }

    /// The process that runs at this host now.
    pub fn process(&self, host: Host) -> ProcessId {
        let process = self.lock().hosts.get(&host).map_or(0, |state| state.process);
        ProcessId { pid: host.0, started: u64::from(process), boot: 1 }
    }

    /// Whether that process runs still.
    pub fn is_alive(&self, process: ProcessId) -> bool {
        self.process(Host(process.pid)) == process
    }

    /// When links were asked for, and by whom.
    pub fn tries(&self) -> Vec<(Instant, Host)> {
        self.lock().tries.clone()
    }

    /// When the relay began to deal with a link, and whose; one that it drops at once is none.
    pub fn taken(&self) -> Vec<(Instant, Host)> {
        self.lock().taken.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long one way of this host takes now.
    fn latency(&self, host: Host) -> Duration {
        let mut shared = self.lock();
        let latency = shared.hosts.get(&host).map_or(0, |state| state.latency);
        Duration::from_micros(latency * 1000 + shared.dice.below(latency * 500 + 1))
    }
}

struct SimTransport {
    net: Net,
    host: Host,
}

#[async_trait]
impl Transport for SimTransport {
    async fn connect(&self, _: &str) -> Result<Box<dyn Link>, Error> {
        let nobody = || Error::new(Code::Unreachable, "nobody listens");
        let trip = self.net.latency(self.host);
        self.net.lock().tries.push((Instant::now(), self.host));
        tokio::time::sleep(trip * 2).await;
        let held = self.net.lock().hosts.get(&self.host).is_none_or(|host| host.held != [false; 2]);
        if held {
            tokio::time::sleep(CONNECT).await;
            return Err(Error::new(Code::Unreachable, "nothing comes back"));
        }
        let mut shared = self.net.lock();
        let listener = shared.listener.clone().ok_or_else(nobody)?;
        let (near, far) = shared.link(&self.net, self.host).ok_or_else(nobody)?;
        drop(shared);
        listener.try_send(far).map_err(|_| nobody())?;
        Ok(Box::new(near))
    }
}

impl Shared {
    fn link(&mut self, net: &Net, host: Host) -> Option<(SimLink, SimLink)> {
        let state = self.hosts.get(&host).filter(|state| !state.gone)?;
        self.links.retain(|_, link| Arc::strong_count(&link.shared) > 1);
        self.next_link += 1;
        let number = self.next_link;
        self.trace.say("net", format_args!("link {number} of {host:?}"));
        let source = self.sources.map_or(host.0, |sources| host.0 % sources);
        let peer = match state.via {
            Via::Network => Peer::Network(format!("10.{}.{}.{}:1", source >> 16, (source >> 8) & 255, source & 255)),
            Via::Socket => Peer::Process(ProcessId { pid: host.0, started: u64::from(state.process), boot: 1 }),
        };
        let shared = Arc::new(LinkShared { number, state: Mutex::default() });
        self.links.insert(number, LinkEntry { host, shared: shared.clone() });
        let end = |is_client| SimLink { net: net.clone(), host, peer: peer.clone(), shared: shared.clone(), is_client };
        Some((end(true), end(false)))
    }
}

struct SimListener {
    coming: tokio::sync::Mutex<mpsc::Receiver<SimLink>>,
}

#[async_trait]
impl Listener for SimListener {
    async fn accept(&self) -> Result<Box<dyn Link>, Error> {
        match self.coming.lock().await.recv().await {
            Some(link) => Ok(Box::new(link)),
            None => Err(Error::new(Code::Disconnected, "the machine is dead")),
        }
    }

    fn url(&self) -> String {
        "sim:".to_owned()
    }
}

/// One end of a link.
struct SimLink {
    net: Net,
    host: Host,
    peer: Peer,
    shared: Arc<LinkShared>,
    is_client: bool,
}

#[async_trait]
impl Link for SimLink {
    async fn open(&self) -> Result<LinkStream, Error> {
        let (near, far) = SimStream::pair(&self.net, self.host, &self.shared);
        let held = self.net.lock().hosts.get(&self.host).map_or([false; 2], |host| host.held);
        let mut state = self.shared.lock();
        if state.broken || state.closed {
            return Err(Error::new(Code::Disconnected, "the link broke"));
        }
        near.conn.hold(held);
        // Those whose ends are both dropped.
        state.streams.retain(|conn| Arc::strong_count(conn) > 1);
        state.streams.push(near.conn.clone());
        state.coming.push_back(far);
        let accepting = state.accepting.take();
        drop(state);
        accepting.into_iter().for_each(Waker::wake);
        Ok(LinkStream::bytes(near))
    }

    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        std::future::poll_fn(|cx| {
            let mut state = self.shared.lock();
            if state.broken {
                return Poll::Ready(Err(Error::new(Code::Disconnected, "the link broke")));
            }
            match state.coming.pop_front() {
                Some(stream) => {
                    if !std::mem::replace(&mut state.taken, true) {
                        self.net.lock().taken.push((Instant::now(), self.host));
                    }
                    Poll::Ready(Ok(Some(LinkStream::bytes(stream))))
                }
                None if state.closed => Poll::Ready(Ok(None)),
                None => {
                    state.accepting = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn peer(&self) -> Peer {
        self.peer.clone()
    }

    fn path(&self) -> String {
        "simulated".to_owned()
    }
}

impl Drop for SimLink {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        // What the relay has not accepted ends; what it has goes on.
        let refused = if self.is_client { VecDeque::new() } else { std::mem::take(&mut state.coming) };
        let accepting = state.accepting.take();
        drop(state);
        drop(refused);
        accepting.into_iter().for_each(Waker::wake);
    }
}

impl LinkShared {
    fn lock(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self) {
        let mut state = self.lock();
        state.broken = true;
        let streams = std::mem::take(&mut state.streams);
        state.coming.clear();
        let accepting = state.accepting.take();
        drop(state);
        accepting.into_iter().for_each(Waker::wake);
        streams.iter().for_each(|conn| conn.reset());
    }

    fn hold(&self, way: Way, held: bool) {
        let streams = self.lock().streams.clone();
        for conn in streams {
            let mut both = conn.held();
            both[way as usize] = held;
            conn.hold(both);
        }
    }
}

/// What the two ends of a stream share. The way up is the first.
struct Conn {
    state: Mutex<ConnState>,
}

#[derive(Default)]
struct ConnState {
    ways: [OneWay; 2],
    broken: bool,
}

#[derive(Default)]
struct OneWay {
    /// Bytes, and when they get there.
    under_way: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    held: bool,
    /// Nothing more is sent; the end gets there then.
    ended: Option<Instant>,
    /// Nobody reads any more.
    unread: bool,
    last: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Conn {
    fn lock(&self) -> MutexGuard<'_, ConnState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> [bool; 2] {
        let state = self.lock();
        [state.ways[0].held, state.ways[1].held]
    }

    fn hold(&self, held: [bool; 2]) {
        let mut state = self.lock();
        for (way, held) in state.ways.iter_mut().zip(held) {
            way.held = held;
        }
        state.wake();
    }

    fn reset(&self) {
        let mut state = self.lock();
        state.broken = true;
        state.wake();
    }
}

impl ConnState {
    fn wake(&mut self) {
        let wakers = self.ways.iter_mut().flat_map(|way| [way.reader.take(), way.writer.take()]);
        wakers.flatten().for_each(Waker::wake);
    }
}

/// One end of a stream.
struct SimStream {
    net: Net,
    host: Host,
    /// Kept, so that the network knows the link for as long as one of its streams goes on.
    link: Arc<LinkShared>,
    conn: Arc<Conn>,
    /// The way that this end writes.
    writes: Way,
    timer: Option<Pin<Box<Sleep>>>,
}

impl SimStream {
    fn pair(net: &Net, host: Host, link: &Arc<LinkShared>) -> (Self, Self) {
        let conn = Arc::new(Conn { state: Mutex::default() });
        let end = |writes| Self { net: net.clone(), host, link: link.clone(), conn: conn.clone(), writes, timer: None };
        (end(Way::Up), end(Way::Down))
    }

    fn send(&self, way: &mut OneWay, bytes: Bytes) {
        // Nothing overtakes.
        let at = (Instant::now() + self.net.latency(self.host)).max(way.last.unwrap_or_else(Instant::now));
        way.last = Some(at);
        way.bytes += bytes.len();
        way.under_way.push_back((at, bytes));
    }
}

impl AsyncRead for SimStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let mut state = this.conn.lock();
            if state.broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let way = &mut state.ways[1 - this.writes as usize];
            way.reader = Some(cx.waker().clone());
            if way.held {
                return Poll::Pending;
            }
            let next = match way.under_way.front() {
                Some((at, _)) => *at,
                None => match way.ended {
                    Some(at) => at,
                    None => return Poll::Pending,
                },
            };
            if next <= Instant::now() {
                let Some((_, bytes)) = way.under_way.front_mut() else { return Poll::Ready(Ok(())) };
                let taken = bytes.split_to(bytes.len().min(buffer.remaining()));
                if !bytes.has_remaining() {
                    way.under_way.pop_front();
                }
                buffer.put_slice(&taken);
                way.bytes -= taken.len();
                let writer = way.writer.take();
                drop(state);
                writer.into_iter().for_each(Waker::wake);
                let (link, sum) = (this.link.number, crc32c::crc32c(&taken));
                let from = if this.writes == Way::Up { "down" } else { "up" };
                let trace = this.net.lock().trace.clone();
                trace.say("net", format_args!("link {link} {from} {}: {sum:08x}", taken.len()));
                return Poll::Ready(Ok(()));
            }
            drop(state);
            let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            if timer.deadline() != next {
                timer.as_mut().reset(next);
            }
            ready!(timer.as_mut().poll(cx));
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.conn.lock();
        if state.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let way = &mut state.ways[self.writes as usize];
        if way.unread || way.ended.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = bytes.len().min(UNDER_WAY_MAX.saturating_sub(way.bytes));
        if taken == 0 && !bytes.is_empty() {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.send(way, Bytes::copy_from_slice(&bytes[..taken]));
        let reader = way.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.conn.lock();
        let way = &mut state.ways[self.writes as usize];
        if way.ended.is_none() {
            way.ended = Some(Instant::now().max(way.last.unwrap_or_else(Instant::now)) + self.net.latency(self.host));
        }
        state.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut state = self.conn.lock();
        let ends = Instant::now() + self.net.latency(self.host);
        let way = &mut state.ways[self.writes as usize];
        way.ended = Some(way.ended.unwrap_or(ends).max(way.last.unwrap_or(ends)));
        state.ways[1 - self.writes as usize].unread = true;
        state.wake();
    }
}
