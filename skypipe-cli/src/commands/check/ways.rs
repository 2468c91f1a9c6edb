//! Each way to a relay on another machine, tried by itself.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use serde::Serialize;
use skypipe_core::{Error, Pong, RACE_SEPARATOR};
use skypipe_tls::RelayUrl;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::broker::{Relay, is_network};

/// How long a host may take to accept or refuse a connection: three tries of TCP.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// How one way went.
pub(super) struct Way {
    /// The URL.
    pub(super) url: String,
    /// Whether it works.
    pub(super) outcome: Result<Pong, Error>,
    /// What is found at its host, where it does not.
    pub(super) host: Option<(RelayUrl, Host)>,
}

/// What is found at a host and port by the simplest means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// The name means no address.
    NoName,
    /// TCP connects.
    Open,
    /// The host says that nobody listens.
    Refused,
    /// Nothing comes back.
    Silent,
}

/// A way as programs see it. The names of the fields are a promise.
#[derive(Serialize)]
pub(super) struct WayLine {
    url: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<&Way> for WayLine {
    fn from(way: &Way) -> Self {
        let (pong, error) = (way.outcome.as_ref().ok(), way.outcome.as_ref().err());
        Self {
            url: way.url.clone(),
            ok: pong.is_some(),
            path: pong.map(|p| p.path.clone()),
            round_trip_us: pong.map(|p| u64::try_from(p.round_trip.as_micros()).unwrap_or(u64::MAX)),
            code: error.map(|e| e.code().name()),
            error: error.map(|e| e.text().to_owned()),
        }
    }
}

/// Tries all ways at once; there is none to a relay of this machine.
pub(super) async fn try_each(relay: &Relay) -> Vec<Way> {
    let urls = relay.broker.url().split(RACE_SEPARATOR).map(str::trim);
    join_all(urls.filter(|url| is_network(url)).map(try_one)).await
}

async fn try_one(url: &str) -> Way {
    let outcome = match Relay::at(url) {
        Ok(relay) => relay.broker.ping(Bytes::new()).await,
        Err(error) => Err(error),
    };
    let host = match (&outcome, url.parse::<RelayUrl>()) {
        (Err(_), Ok(parsed)) => {
            let host = look(&parsed).await;
            Some((parsed, host))
        }
        _ => None,
    };
    Way { url: url.to_owned(), outcome, host }
}

async fn look(url: &RelayUrl) -> Host {
    let Ok(addresses) = skypipe_tls::resolve(&url.host, url.port).await else { return Host::NoName };
    match timeout(ANSWER_WITHIN, TcpStream::connect(&addresses[..])).await {
        Ok(Ok(_)) => Host::Open,
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Host::Refused,
        _ => Host::Silent,
    }
}
