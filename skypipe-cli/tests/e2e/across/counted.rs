//! A way to a relay on which the bytes are counted.

use std::net::SocketAddr;
use std::sync::OnceLock;

use skypipe_test::chaos::{Proxy, Way};

/// More than a client says until it is let in or refused, and far less than [`MUCH_BYTES`].
const HANDSHAKE_BYTES_MAX: u64 = 16 * 1024;
/// What is written to see whether any of it goes out.
pub const MUCH_BYTES: u64 = 1 << 20;

/// A proxy before a relay.
pub struct Counted {
    pub url: String,
    proxy: Proxy,
}

impl Counted {
    /// Before the relay at `url`, which is one of `quic`, `wss` or `ws` with an address in it.
    pub fn before(url: &str) -> Self {
        let host = url.split("//").nth(1).unwrap().split('/').next().unwrap();
        let address: SocketAddr = host.rsplit('@').next().unwrap().parse().unwrap();
        let proxy = runtime().block_on(async {
            if url.starts_with("quic:") { Proxy::udp(address).await } else { Proxy::tcp(address).await }.unwrap()
        });
        Self { url: url.replacen(&address.to_string(), &proxy.address().to_string(), 1), proxy }
    }

    /// Somebody came and has said no more than who comes and what is asked for.
    #[track_caller]
    pub fn carried_no_data(&self) {
        let carried = self.proxy.carried(Way::Up);
        assert!(carried > 0 && carried < HANDSHAKE_BYTES_MAX, "{carried} bytes went to {}", self.url);
    }
}

/// On which proxies and impostors run.
pub fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
}
