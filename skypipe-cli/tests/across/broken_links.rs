//! Links that break again and again, in the middle of much data: the same bytes arrive, once, and both sides end well.

use std::sync::OnceLock;
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use skypipe_test::chaos::{Proxy, Way as Direction};
use skypipe_test::proof::{self, Proof};

use crate::harness::{Data, In, Out, PATIENCE, Running, until_within};
use crate::world::{Relay, Way};

const MIB: u64 = 1 << 20;

#[test]
fn proof_breaks_over_quic() {
    breaks(Way::Quic, "breaks over QUIC");
}

#[test]
fn proof_cuts_over_wss() {
    breaks(Way::Wss, "cuts over wss");
}

#[test]
fn proof_cuts_over_ws() {
    breaks(Way::Ws, "cuts over ws");
}

/// A path that is silent for longer than a link bears: the session goes on over another one.
#[test]
fn silence_for_longer_than_a_link_bears() {
    for way in [Way::Quic, Way::Wss] {
        let relay = Relay::on_loopback();
        let link = Link::new(&relay.url(way));
        let mut writer = relay.home.skypipe(["--relay", &link.url, "write", "x"]).stdin(In::Open).start();
        let reader = relay.home.live_reader("x");
        writer.feed("before\n");
        reader.until_gave("before\n");
        let before = link.proxy.connections();
        link.silent(true);
        writer.feed("behind\n");
        // It tries anew when it has found out.
        until_within(PATIENCE, "another link", || (link.proxy.connections() > before).then_some(()));
        link.silent(false);
        reader.until_gave("behind\n");
        writer.end_input();
        writer.wait().exits(0);
        reader.wait().exits(0).gave("before\nbehind\n");
    }
}

/// A way to a relay through a proxy.
struct Link {
    proxy: Proxy,
    url: String,
    is_udp: bool,
}

impl Link {
    fn new(url: &str) -> Self {
        let host = url.split("//").nth(1).unwrap().split('/').next().unwrap();
        let address: std::net::SocketAddr = host.rsplit('@').next().unwrap().parse().unwrap();
        let is_udp = url.starts_with("quic:");
        let proxy = runtime().block_on(async {
            if is_udp { Proxy::udp(address).await.unwrap() } else { Proxy::tcp(address).await.unwrap() }
        });
        let url = url.replacen(&address.to_string(), &proxy.address().to_string(), 1);
        Self { proxy, url, is_udp }
    }

    fn silent(&self, on: bool) {
        self.proxy.black_hole(Direction::Up, on);
        self.proxy.black_hole(Direction::Down, on);
    }

    /// Breaks it in one of the ways in which links break.
    fn break_now(&self, random: &mut Xoshiro256PlusPlus) {
        let which = random.next_u32() % 4;
        if !self.is_udp {
            return if which < 2 { self.proxy.cut_now() } else { self.proxy.reset_now() };
        }
        for way in [Direction::Up, Direction::Down] {
            let [loss, doubling, reordering] = if which == 0 { [0.05, 0.05, 0.05] } else { [0.0; 3] };
            self.proxy.loss(way, loss);
            self.proxy.doubling(way, doubling);
            self.proxy.reordering(way, reordering);
        }
        if which == 1 {
            self.silent(true);
            std::thread::sleep(Duration::from_millis(u64::from(random.next_u32() % 50)));
            self.silent(false);
        } else {
            self.proxy.rebind();
        }
    }
}

/// What goes through between one break and the next: 1 GiB in 512 of them.
const BYTES_PER_BREAK: u64 = 2 * MIB;

/// P2a: one writer, one reader, each through a proxy of its own, of which one or the other breaks whenever another part has arrived.
fn breaks(way: Way, what: &'static str) {
    let breaks = proof::cases(20, 500, 100_000);
    let proof = Proof::begin("P2a", what);
    let bytes = breaks * BYTES_PER_BREAK;
    let relay = Relay::on_loopback();
    let links = [Link::new(&relay.url(way)), Link::new(&relay.url(way))];
    let data = Data::random(bytes + breaks, bytes);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(proof::seed() + breaks);
    let reader = relay.home.skypipe(["--relay", &links[0].url, "read", "big"]).stdout(Out::Summed).start();
    relay.home.until_stat("big", |s| s.readers == 1);
    let writer = relay.home.skypipe(["--relay", &links[1].url, "write", "big"]).stdin(In::Data(data.clone())).start();
    let part = bytes / (breaks + 1);
    for number in 1..=breaks {
        // Anywhere in this part.
        reader.until_received(part * number - random.next_u64() % part);
        links[random.next_u64() as usize % 2].break_now(&mut random);
    }
    patiently(writer).exits(0);
    patiently(reader).exits(0).gave_digest(&data.digest());
    let connections: Vec<u64> = links.iter().map(|link| link.proxy.connections()).collect();
    println!("{way:?}: {breaks} breaks, connections of reader and writer {connections:?}");
    proof.end(breaks, &[] as &[String]);
}

/// Waits as long as gigabytes take: the deadline starts again with every byte that comes.
#[track_caller]
fn patiently(mut running: Running) -> crate::harness::Done {
    let mut last = (0, std::time::Instant::now());
    while running.is_running() {
        let now = running.progress();
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
        assert!(last.1.elapsed() < PATIENCE, "no byte moved any more; stderr: {}", running.errors());
        std::thread::sleep(Duration::from_millis(10));
    }
    running.wait()
}

/// On which all proxies run.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
}
