//! What QUIC may do here: every limit, window and timeout.

use std::sync::Arc;
use std::time::Duration;

use quinn::{EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use ring::hmac;
use skypipe_core::{ALPN, Code, Error, KeyPair, PublicKey, STREAMS_BEFORE_PROOF_MAX};
use skypipe_tls::{Trust, client_config, server_config_of_quic};

/// How long a client tries to reach a relay, from the look-up of its name to the end of the handshake.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long a handshake may take at the relay.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// How long the other side may be silent before the link counts as broken. Both sides say something more often than that.
pub const IDLE_LIMIT: Duration = Duration::from_secs(15);
/// How long nothing may come before something is sent that must be answered: two of these may be lost within [`IDLE_LIMIT`], and a
/// NAT that forgets after 30 s does not.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Unread bytes of one stream at a relay: twice the credit of a writer, which is all that a stream up carries in bulk.
const RELAY_STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Unread bytes of a whole link at a relay, once the client has proved who it is: eight writers' whole credit. A relay reads what it
/// gave credit for, so this is room for delay, not for storage.
pub(crate) const RELAY_LINK_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Unread bytes of a whole link at a relay before that: a proof fits in many times.
const STRANGER_WINDOW_BYTES: u32 = 64 * 1024;
/// Unread bytes of one stream at a client: twice the window of a reader.
const CLIENT_STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Unread bytes of a whole link at a client: sixteen readers' whole windows.
const CLIENT_LINK_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// Written bytes of one link that the other side has not acknowledged: what a path of 1 Gbit/s and 64 ms has on its way.
const SEND_WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// Streams that a client may have open at first. quinn sets memory aside for each that may be opened, 86 bytes, so a link that is
/// idle pays for few: one proves a key, the second attaches, and no client opens more before it is admitted.
pub(crate) const STREAMS_AT_FIRST: u32 = 4;
const _: () = assert!(STREAMS_AT_FIRST as usize <= STREAMS_BEFORE_PROOF_MAX);
/// Streams that a relay may open at a client. None does today.
const RELAY_STREAMS_MAX: u32 = STREAMS_AT_FIRST;

/// Connections whose first packet came and whose handshake was not begun yet: those that wait, and as many that were not looked at.
/// More are refused by quinn itself.
const INCOMING_MAX: usize = 2048;
/// Bytes that one of them may send meanwhile, and all of them together: the rest of a first flight.
const INCOMING_BUFFER_BYTES: u64 = 16 * 1024;
const INCOMING_BUFFERS_BYTES: u64 = 4 * 1024 * 1024;
/// How long the token is good for that a client sends to show that it gets what is sent to its address.
const RETRY_TOKEN_LIFE: Duration = Duration::from_secs(15);
/// Packets of connections that nobody knows are answered ("reset") at most this often, so that after a restart of a relay ten
/// thousand clients learn of it within their idle time.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// The times that tests shorten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) connect: Duration,
    pub(crate) handshake: Duration,
    pub(crate) idle: Duration,
    pub(crate) keep_alive: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { connect: CONNECT_LIMIT, handshake: HANDSHAKE_LIMIT, idle: IDLE_LIMIT, keep_alive: KEEP_ALIVE }
    }
}

/// QUIC of a client that trusts the relay with this key.
pub(crate) fn client(key: PublicKey, times: &Times) -> Result<quinn::ClientConfig, Error> {
    let tls = client_config(Trust::Pinned(key), &[ALPN])?;
    let crypto = QuicClientConfig::try_from(tls).map_err(unusable)?;
    let mut transport = common(times)?;
    transport
        .max_concurrent_bidi_streams(RELAY_STREAMS_MAX.into())
        .stream_receive_window(CLIENT_STREAM_WINDOW_BYTES.into())
        .receive_window(CLIENT_LINK_WINDOW_BYTES.into());
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// QUIC of the relay with this key. There is neither early data nor a token that outlives a connection attempt.
pub(crate) fn server(key: &KeyPair, times: &Times) -> Result<ServerConfig, Error> {
    let tls = server_config_of_quic(key, &[ALPN])?;
    let crypto = QuicServerConfig::try_from(tls).map_err(unusable)?;
    let mut transport = common(times)?;
    transport
        .max_concurrent_bidi_streams(STREAMS_AT_FIRST.into())
        .stream_receive_window(RELAY_STREAM_WINDOW_BYTES.into())
        .receive_window(STRANGER_WINDOW_BYTES.into());
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport))
        .migration(true)
        .retry_token_lifetime(RETRY_TOKEN_LIFE)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFERS_BYTES);
    config.validation_token.sent(0);
    Ok(config)
}

/// The relay's endpoint. Its secrets for connection numbers follow from the relay's key, so a relay that was started anew can tell
/// clients of the one before that their connection is gone; else they would wait [`IDLE_LIMIT`] in silence.
pub(crate) fn server_endpoint(key: &KeyPair) -> EndpointConfig {
    let root = hmac::Key::new(hmac::HMAC_SHA256, &key.seed()[..]);
    let reset = hmac::sign(&root, b"skypipe quic reset");
    let mut numbers = [0; 8];
    numbers.copy_from_slice(&hmac::sign(&root, b"skypipe quic connection numbers").as_ref()[..8]);
    let numbers = u64::from_le_bytes(numbers);
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset.as_ref())));
    config
        .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(numbers)))
        .min_reset_interval(RESET_INTERVAL);
    config
}

/// What both ends have in common. Segmentation offload and discovery of larger packets are on, as quinn has them.
fn common(times: &Times) -> Result<TransportConfig, Error> {
    let idle = IdleTimeout::try_from(times.idle).map_err(unusable)?;
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(times.keep_alive))
        .send_window(SEND_WINDOW_BYTES);
    Ok(config)
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Code::Internal, format!("QUIC cannot be set up: {error}")).because(error)
}
