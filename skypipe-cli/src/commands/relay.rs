//! `skypipe relay`

use std::time::Duration;

use skypipe_core::host::{HostOptions, IDLE_AFTER, LocalFolder, serve};
use skypipe_core::local_socket::LocalSocketListener;
use skypipe_core::{Code, Error, Listener};

use super::print;
use crate::args::RelayArgs;
use crate::exit::{Exit, say};
use crate::signals::Watch;

/// Threads of a relay: enough that one pipe's disk does not hold up another's socket, few enough for a small machine.
const WORKERS: usize = 2;

pub(crate) fn run(args: RelayArgs) -> Result<Exit, Error> {
    if args.detached {
        leave_the_terminal();
    }
    let folder = match &args.data {
        Some(data) => LocalFolder::at(std::path::absolute(data).unwrap_or_else(|_| data.clone()))?,
        None => LocalFolder::find()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.map_err(|e| Error::new(Code::Internal, "no runtime").because(e))?;
    let is_detached = args.detached;
    match runtime.block_on(host(folder, args)) {
        // Another command was faster: there is a relay, and that is all that was wanted.
        Err(error) if is_detached && error.code() == Code::Locked => Ok(Exit::Done),
        other => other,
    }
}

async fn host(folder: LocalFolder, args: RelayArgs) -> Result<Exit, Error> {
    let mut watch = Watch::new(None)?;
    let mut options = HostOptions::default();
    for url in &args.listen {
        options.listeners.push(listener(&format!("{url:?}"))?);
    }
    options.without_socket = args.data.is_some() && !args.listen.is_empty();
    options.idle = idle(&args);
    let is_detached = args.detached;
    options.ready = Some(Box::new(move |urls| announce(urls, is_detached)));
    options.stop = Some(Box::pin(async move {
        let _ = watch.idle(std::future::pending::<()>()).await;
    }));
    serve(&folder, options).await?;
    if is_detached {
        say(&format!("relay {} ended", std::process::id()));
    }
    Ok(Exit::Done)
}

fn listener(url: &str) -> Result<Box<dyn Listener>, Error> {
    let path = url.strip_prefix("unix:").unwrap_or(url);
    let path = std::path::absolute(path).map_err(|e| Error::new(Code::SocketPath, format!("{url}: {e}")).because(e))?;
    Ok(Box::new(LocalSocketListener::bind(path)?))
}

fn idle(args: &RelayArgs) -> Option<Duration> {
    args.idle.or(args.detached.then_some(IDLE_AFTER))
}

/// A detached relay's stdout is nowhere, its stderr is the log.
fn announce(urls: &[String], is_detached: bool) {
    if is_detached {
        say(&format!("relay {} of version {} serves", std::process::id(), env!("CARGO_PKG_VERSION")));
        return;
    }
    let lines: String = urls.iter().map(|u| format!("{u}\n")).collect();
    // Whoever started it and does not read where it listens knows already.
    let _ = print(&lines);
}

/// Signals of the terminal are for the command that started this.
fn leave_the_terminal() {
    // It fails only for the leader of a process group, which is in nobody's way.
    let _ = rustix::process::setsid();
}
