//! Being the host: lock, log, socket, until something asks to stop.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::folder::LocalFolder;
use super::lock::{Holder, HostLock, HostState};
use crate::env::Env;
use crate::error::{Code, Error};
use crate::gatekeeper::Gatekeeper;
use crate::local_broker::{LocalBroker, LocalBrokerOptions};
use crate::local_socket::LocalSocketListener;
use crate::memory::{MEMORY_BYTES_MAX, MEMORY_BYTES_MIN, Memory};
use crate::relay::Relay;
use crate::transport::Listener;
use crate::wire::SoftwareVersion;

/// A detached host that nobody is attached to goes after this: it costs a little memory, and starting one costs milliseconds.
pub const IDLE_AFTER: Duration = Duration::from_secs(600);
/// Longest a stopping host waits for its clients; what they have not seen acknowledged they send to the next one.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// Done when a host is to stop.
pub type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Told the URLs of a host that accepts.
pub type Ready = Box<dyn FnOnce(&[String]) + Send>;

/// How to host.
#[derive(Default)]
pub struct HostOptions {
    /// More listeners beside the folder's socket.
    pub listeners: Vec<Box<dyn Listener>>,
    /// Who may come in over those that reach other machines; without it, nobody may.
    pub gatekeeper: Option<Arc<dyn Gatekeeper>>,
    /// URLs for who is invited; see [`Relay::with_public_urls`].
    pub public_urls: Vec<String>,
    /// Leave out the folder's own socket; the listeners above are all there is.
    pub without_socket: bool,
    /// Bytes of memory to take in all, at least [`MEMORY_BYTES_MIN`]; none is [`MEMORY_BYTES_MAX`].
    pub memory: Option<u64>,
    /// Stop when nobody was attached for so long.
    pub idle: Option<Duration>,
    /// Stop when this is done, such as upon a signal.
    pub stop: Option<Stop>,
    /// The version to call itself; none is this very one.
    pub software: Option<SoftwareVersion>,
    /// Called once with the URLs, as soon as the relay accepts.
    pub ready: Option<Ready>,
    /// How its broker runs.
    pub broker: LocalBrokerOptions,
    /// Told what its operator should know: what was found wrong with its data, and that its disk failed. A line each.
    pub alert: Option<Alert>,
}

/// Told one line for the operator.
pub type Alert = Box<dyn Fn(&str) + Send + Sync>;

/// Hosts the relay of `folder` until it is asked to stop: by [`HostOptions::stop`], by a newer client, or by having been
/// idle. Then it drains for at most [`DRAIN_WITHIN`], frees the lock; the socket is gone by then.
///
/// # Errors
/// `E_LOCKED` when another process hosts it, `E_STORAGE` and `E_FORMAT` when the log cannot be opened, `E_SOCKET_PATH` when the
/// socket cannot be made.
///
/// # Cancel safety
/// A dropped call stops hosting without draining; clients go on at the next host.
pub async fn serve(folder: &LocalFolder, options: HostOptions) -> Result<(), Error> {
    let Some(lock) = HostLock::take(folder)? else { return Err(locked(folder)) };
    serve_locked(folder, lock, options).await
}

/// [`serve`] with the lock already taken.
pub(super) async fn serve_locked(folder: &LocalFolder, lock: HostLock, options: HostOptions) -> Result<(), Error> {
    let memory = Memory::of_process(options.memory.unwrap_or(MEMORY_BYTES_MAX).max(MEMORY_BYTES_MIN));
    let broker = open_broker(folder.data(), LocalBrokerOptions { memory: memory.clone(), ..options.broker }).await?;
    let version = options.software.unwrap_or(SoftwareVersion::CURRENT);
    let lock = lock.of_version(version);
    let mut relay =
        Relay::new(broker.clone()).with_memory(memory).with_version(version).with_public_urls(options.public_urls);
    if let Some(gatekeeper) = options.gatekeeper {
        relay = relay.with_gatekeeper(gatekeeper);
    }
    let mut urls = Vec::new();
    if !options.without_socket {
        let listener = LocalSocketListener::bind(folder.socket())?;
        urls.push(listener.url());
        relay = relay.listen(Box::new(listener));
    }
    for listener in options.listeners {
        urls.push(listener.url());
        relay = relay.listen(listener);
    }
    lock.say(HostState::Serving)?;
    if let Some(ready) = options.ready {
        ready(&urls);
    }
    let alerting = async {
        alert_of(&broker, options.alert).await;
        std::future::pending().await
    };
    let ended = tokio::select! {
        ended = run(&relay, options.stop, options.idle) => ended,
        () = alerting => Ok(()),
    };
    let said = lock.say(HostState::Stopping);
    let end = tokio::time::Instant::now() + DRAIN_WITHIN;
    relay.drain(DRAIN_WITHIN).await;
    // The next host opens the same log: this one must be closed before the lock is free, whoever still holds a part of it.
    broker.close(end.saturating_duration_since(tokio::time::Instant::now())).await;
    ended.and(said)
}

/// Says what was found when the log was opened, and when it fails.
async fn alert_of(broker: &LocalBroker, alert: Option<Alert>) {
    let Some(alert) = alert else { return };
    broker.found().iter().for_each(|line| alert(line));
    alert(&broker.failed().await.to_string());
}

/// Serves until one of the reasons to stop is there.
async fn run(relay: &Relay, stop: Option<Stop>, idle: Option<Duration>) -> Result<(), Error> {
    let stopped = async {
        match stop {
            Some(stop) => stop.await,
            None => std::future::pending().await,
        }
    };
    let idled = async {
        match idle {
            Some(idle) => relay.idle_for(idle).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = relay.serve() => ended,
        () = stopped => Ok(()),
        () = idled => Ok(()),
        () = relay.step_down_asked() => Ok(()),
    }
}

async fn open_broker(data: PathBuf, options: LocalBrokerOptions) -> Result<Arc<LocalBroker>, Error> {
    let opened = tokio::task::spawn_blocking(move || {
        make_private(&data)?;
        LocalBroker::open(&data, Env::system(), options)
    });
    opened.await.map_err(|e| Error::new(Code::Internal, "opening the log did not end").because(e))?
}

fn make_private(data: &std::path::Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|e| Error::new(Code::Storage, format!("{} cannot be made: {e}", data.display())).because(e))
}

fn locked(folder: &LocalFolder) -> Error {
    let who = Holder::of(folder).map_or(String::new(), |h| format!(", process {},", h.pid));
    Error::new(Code::Locked, format!("another relay{who} has the folder {}", folder.path().display()))
}
