//! WebSocket does what every transport must, with TLS and without.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use skypipe_test::conformance::{Ends, relay_key};
use skypipe_transport_ws::{WsListener, WsOptions, WsTransport};

async fn bare(_: &Path) -> Ends {
    ends(WsOptions::default()).await
}

async fn over_tls(_: &Path) -> Ends {
    ends(WsOptions::default().with_key(&relay_key())).await
}

async fn ends(options: WsOptions) -> Ends {
    Ends::new(WsListener::bind("127.0.0.1:0".parse().unwrap(), options).await.unwrap(), WsTransport)
}

skypipe_test::conformance!(ws: bare);
skypipe_test::conformance!(wss: over_tls);
