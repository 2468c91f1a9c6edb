//! `skypipe down [USER@HOST]`

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use skypipe_core::{Broker as _, Caller, Code, Error, LIST_PAGE_MAX, ListQuery, Owner, Pattern};
use tokio::time::timeout;

use super::on_this_thread;
use crate::args::DownArgs;
use crate::broker::Relay;
use crate::config::{self, Config};
use crate::exit::{Exit, say};
use crate::progress::size;
use crate::switch::is_same_relay;
use crate::up::{self, Machine, Place, Site};

/// The relay is asked what it holds for no longer than this: it may be broken, which is why it goes.
const LIST_WITHIN: Duration = Duration::from_secs(5);

/// What a relay holds.
struct Held {
    pipes: usize,
    bytes: u64,
}

pub(crate) fn run(args: &DownArgs) -> Result<Exit, Error> {
    let config = Config::load()?;
    let host = args.host.clone().or_else(|| config.up.clone()).ok_or_else(which)?;
    let site = Site::new(&host, &args.ssh.option)?;
    let machine = site.look(None)?;
    let place = Place::of(&machine, &machine.settings)?;
    let delete = machine.data_bytes.is_some() && may_delete(args, &machine, &host)?;
    let was_there = machine.installed.is_some() || machine.service_sum.is_some() || machine.is_active;
    site.remove(&machine, &place)?;
    say(&if was_there {
        format!("{host}: the relay is stopped and removed")
    } else {
        format!("{host}: no relay is there")
    });
    if delete {
        site.delete_data(&place)?;
        say(&format!("{host}: what it stored is deleted, and its keys"));
    } else if machine.data_bytes.is_some() {
        say(&format!("{host}: what it stored stays in {}; `skypipe up {host}` serves it again", place.data));
    }
    forget(&config, &host, &machine)?;
    Ok(Exit::Done)
}

fn which() -> Error {
    Error::new(Code::Usage, "which machine? `skypipe down [USER@]HOST`; no `skypipe up` is remembered here")
}

/// Whether what is stored goes as well. Without a word from somebody it stays.
fn may_delete(args: &DownArgs, machine: &Machine, host: &str) -> Result<bool, Error> {
    let on_disk = size(machine.data_bytes.unwrap_or(0) as f64);
    match held(machine) {
        Some(held) => {
            let plural = if held.pipes == 1 { "" } else { "s" };
            say(&format!(
                "{host} holds {} pipe{plural} with {}; {on_disk} of its disk",
                held.pipes,
                size(held.bytes as f64)
            ));
        }
        None => say(&format!("{host} holds {on_disk} on its disk; in how many pipes is not known")),
    }
    if args.delete_data {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    ask("delete what is stored there, for good? [y/N] ")
}

/// Asks on the terminal; everything but a plain yes is a no.
fn ask(question: &str) -> Result<bool, Error> {
    let failed =
        |e: std::io::Error| Error::new(Code::Internal, format!("the terminal cannot be asked: {e}")).because(e);
    let mut stderr = std::io::stderr().lock();
    stderr.write_all(format!("skypipe: {question}").as_bytes()).and_then(|()| stderr.flush()).map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// What the relay says that it holds; none when it does not answer.
fn held(machine: &Machine) -> Option<Held> {
    let urls = up::network_urls(&machine.urls).join(",");
    let relay = Relay::at(&urls).ok().filter(|_| !urls.is_empty())?;
    let mut found = None;
    let listed = async {
        found = timeout(LIST_WITHIN, list(&relay)).await.ok().and_then(Result::ok);
        Ok(Exit::Done)
    };
    on_this_thread(listed).ok()?;
    found
}

async fn list(relay: &Relay) -> Result<Held, Error> {
    let mut held = Held { pipes: 0, bytes: 0 };
    let mut query = ListQuery { owner: Owner::SELF, pattern: Pattern::all(), after: None, limit: LIST_PAGE_MAX };
    loop {
        let page = relay.broker.list(&Caller::in_process(), query.clone()).await?;
        query.after = page.pipes.last().map(|p| p.path.clone());
        for pipe in page.pipes.iter().filter(|p| p.items > 0) {
            held.pipes += 1;
            held.bytes += pipe.bytes;
        }
        if !page.more || query.after.is_none() {
            return Ok(held);
        }
    }
}

/// The config names a relay that is gone: back to none.
fn forget(config: &Config, host: &str, machine: &Machine) -> Result<(), Error> {
    let was_remembered = config.up.as_deref() == Some(host);
    let urls = up::network_urls(&machine.urls).join(",");
    let relay = config.relay.as_deref().unwrap_or_default();
    // One that did not run names no URL; then what is remembered counts.
    let is_this = if urls.is_empty() { was_remembered } else { is_same_relay(relay, &urls) };
    if !relay.is_empty() && is_this {
        let path = config::set_relay(&[])?;
        say(&format!("your relay is the local one again: {} says so", path.display()));
    }
    if was_remembered {
        config::set_up(None)?;
    }
    Ok(())
}
