//! QUIC does what every transport must.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use skypipe_test::conformance::{Ends, relay_key};
use skypipe_transport_quic::{QuicListener, QuicTransport};

async fn ends(_: &Path) -> Ends {
    Ends::new(QuicListener::bind("127.0.0.1:0".parse().unwrap(), &relay_key()).unwrap(), QuicTransport::default())
}

skypipe_test::conformance!(quic: ends);
