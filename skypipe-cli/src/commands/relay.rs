//! `skypipe relay`

use std::ffi::OsStr;
use std::future::pending;
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;

use skypipe_core::host::{HostOptions, IDLE_AFTER, LocalFolder, SOCKET_PATH_BYTES_MAX, relay_threads, serve};
use skypipe_core::{Code, Env, Error, Gatekeeper as _, KeyPair, LocalBrokerOptions, PublicKey};
use skypipe_keys::{Entry, KeyFolder};

use super::keys::own_comment;
use super::print;
use crate::args::RelayArgs;
use crate::broker::identity;
use crate::exit::{Exit, say};
use crate::listen::{Listen, Public};
use crate::listeners::Open;
use crate::many_files::allow_many_files;
use crate::ready;
use crate::relief::relieve;
use crate::signals::{Hangups, Watch};

pub(crate) fn run(args: RelayArgs) -> Result<Exit, Error> {
    if args.detached {
        leave_the_terminal();
    }
    allow_many_files();
    let folder = match &args.data {
        Some(data) => LocalFolder::at(std::path::absolute(data).unwrap_or_else(|_| data.clone()))?,
        None => LocalFolder::find()?,
    };
    if args.data.is_some() && !args.network_disk && folder.is_on_network() {
        return Err(on_network(&folder));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(relay_threads()).enable_all().build();
    let runtime = runtime.map_err(|e| Error::new(Code::Internal, "no runtime").because(e))?;
    let is_detached = args.detached;
    // A task like all others: what it accepts goes on where it is, and wakes no other thread.
    let hosting = runtime.block_on(async { tokio::spawn(host(folder, args)).await });
    match hosting.unwrap_or_else(|gone| std::panic::resume_unwind(gone.into_panic())) {
        // Another command was faster: there is a relay, and that is all that was wanted.
        Err(error) if is_detached && error.code() == Code::Locked => Ok(Exit::Done),
        other => other,
    }
}

async fn host(folder: LocalFolder, args: RelayArgs) -> Result<Exit, Error> {
    let is_network = args.listen.iter().any(Listen::is_network);
    let key = is_network.then(|| KeyFolder::relay_key_in(folder.path(), &Env::system())).transpose()?;
    let open = listen(&args, key.as_ref()).await?;
    // Who is the owner is written down once: only by a relay that has its ports.
    let keys = is_network.then(|| keys(&folder, &args)).transpose()?;
    let watch = watch(keys.clone())?;
    let public_urls = keys.as_ref().map_or_else(Vec::new, |keys| open.urls(keys.relay_key().public(), &args.public));
    let (urls, file, is_detached) = (public_urls.clone(), args.urls.clone(), args.detached);
    let options = HostOptions {
        listeners: open.listeners,
        gatekeeper: keys.map(|keys| keys as _),
        public_urls,
        without_socket: args.data.is_some() && !args.listen.is_empty() && !has_room_for_socket(&args, &folder),
        memory: args.memory,
        idle: args.idle.or(is_detached.then_some(IDLE_AFTER)),
        ready: Some(Box::new(move |all| {
            ready::tell(file.as_deref(), &urls);
            announce(all, urls, is_detached);
        })),
        stop: Some(Box::pin(stopped(watch))),
        broker: broker_options(&args),
        alert: Some(Box::new(say)),
        ..HostOptions::default()
    };
    if args.data.is_none() && !args.listen.is_empty() {
        relieve(&folder).await?;
    }
    serve(&folder, options).await.map_err(explain)?;
    if is_detached {
        say(&format!("relay {} ended", std::process::id()));
    }
    Ok(Exit::Done)
}

/// Opens every place, or none.
async fn listen(args: &RelayArgs, key: Option<&KeyPair>) -> Result<Open, Error> {
    let mut open = Open::default();
    for place in &args.listen {
        open.add(place, key, &args.origin).await?;
    }
    if open.is_plain_afar() {
        say("ws: has no TLS: whoever is on the way reads along, unless a proxy before it adds TLS");
    }
    Ok(open)
}

/// The keys that the relay admits; its first start makes the list.
fn keys(folder: &LocalFolder, args: &RelayArgs) -> Result<Arc<KeyFolder>, Error> {
    let names = args.public.iter().filter_map(Public::proxy_name).map(str::to_owned);
    let names: Vec<String> = args.name.iter().cloned().chain(names).collect();
    let list = folder.path().join("authorized_keys");
    let owner = match &args.owner {
        Some(named) => Some(named_owner(named)?),
        // One's own key is asked for once: it may be one that an agent holds.
        None if list.exists() => None,
        None => Some((identity()?.key(), own_comment())),
    };
    let keys = KeyFolder::open(folder.path(), owner.clone(), names, Env::system())?;
    keys.on_fault(|error| say(&format!("the keys stay as they were: {error}")));
    if owner.is_some_and(|(key, _)| !admits(&keys, key)) {
        say("--owner counts at the first start, and this relay has its keys: `skypipe keys add` adds one");
    }
    Ok(Arc::new(keys))
}

/// Whether the list has this key.
fn admits(keys: &KeyFolder, key: PublicKey) -> bool {
    let list = std::fs::read_to_string(keys.authorized_keys()).unwrap_or_default();
    list.lines().filter_map(|line| Entry::parse(line).ok()).any(|entry| entry.key == key)
}

/// Whose relay it is: a public key, or a file with one.
fn named_owner(named: &OsStr) -> Result<(PublicKey, String), Error> {
    let text = match named.to_str() {
        Some(text) if !Path::new(named).exists() => text.to_owned(),
        _ => std::fs::read_to_string(named).map_err(|e| {
            Error::new(Code::Key, format!("--owner: {} cannot be read: {e}", Path::new(named).display()))
        })?,
    };
    let comment = text.split_whitespace().nth(2).unwrap_or("owner").to_owned();
    Ok((skypipe_keys::parse_public(text.trim())?, comment))
}

/// A relay of its own that listens elsewhere has its folder's socket as well, for who administers it, if the socket fits
/// there. Who names a socket of its own means that one.
fn has_room_for_socket(args: &RelayArgs, folder: &LocalFolder) -> bool {
    args.listen.iter().all(Listen::is_network) && folder.socket().as_os_str().len() <= SOCKET_PATH_BYTES_MAX
}

/// A relay with keys takes SIGHUP as "look at them again", unless a terminal sends it that hangs up.
fn watch(keys: Option<Arc<KeyFolder>>) -> Result<Watch, Error> {
    let Some(keys) = keys.filter(|_| !std::io::stderr().is_terminal()) else { return Watch::new(None) };
    let mut hangups = Hangups::new()?;
    tokio::spawn(async move {
        while hangups.next().await {
            match keys.reload() {
                Ok(()) => say("the keys are read again"),
                Err(error) => say(&format!("the keys stay as they were: {error}")),
            }
        }
    });
    Watch::without_hangup()
}

fn broker_options(args: &RelayArgs) -> LocalBrokerOptions {
    let mut options = LocalBrokerOptions::default();
    options.log.segment_bytes = args.segment_bytes.unwrap_or(options.log.segment_bytes);
    options.log.free_percent = args.keep_free;
    options
}

/// Done at the first signal, upon which the relay lets its clients go. The second one does not wait for that: what was
/// acknowledged is on disk, and clients go on at the next relay.
async fn stopped(mut watch: Watch) {
    let _ = watch.idle(pending::<()>()).await;
    tokio::spawn(async move {
        if let Err(stop) = watch.idle(pending::<()>()).await {
            say("stopped at once");
            std::process::exit(i32::from(stop.number()));
        }
    });
}

/// A detached relay's stdout is nowhere, its stderr is the log.
fn announce(all: &[String], public: Vec<String>, is_detached: bool) {
    if is_detached {
        say(&format!("relay {} of version {} serves", std::process::id(), env!("CARGO_PKG_VERSION")));
        return;
    }
    // How it is reached from elsewhere is told in its public form.
    let here = all.iter().filter(|url| url.starts_with("unix:")).cloned();
    let lines: String = here.chain(public).map(|url| format!("{url}\n")).collect();
    // Whoever started it and does not read where it listens knows already.
    let _ = print(&lines);
}

/// The kernel's lock there is another one on each machine, or none.
fn on_network(folder: &LocalFolder) -> Error {
    let text = format!(
        "{} lies on a network file system, where two relays would not see each other; use a disk of this machine, or --network-disk if no other machine uses the folder",
        folder.path().display()
    );
    Error::new(Code::SocketPath, text)
}

fn explain(error: Error) -> Error {
    if error.code() != Code::Locked {
        return error;
    }
    Error::new(Code::Locked, format!("{}; end that one first, what is attached goes on at the next", error.text()))
}

/// Signals of the terminal are for the command that started this.
fn leave_the_terminal() {
    // It fails only for the leader of a process group, which is in nobody's way.
    let _ = rustix::process::setsid();
}
