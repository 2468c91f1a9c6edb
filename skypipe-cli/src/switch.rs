//! Making another relay this user's own, and what stays behind at the one used before.

use std::time::Duration;

use skypipe_core::host::{LOCAL_URL, LocalFolder};
use skypipe_core::{Broker as _, Caller, Error, LIST_PAGE_MAX, ListQuery, Owner, Pattern, PipeStat, RELAY_VARIABLE};
use tokio::time::timeout;

use crate::broker::Relay;
use crate::config::{self, Config};
use crate::exit::say;
use crate::shell::quoted;

/// The relay used before may be gone: whoever switches does not wait for it for long.
const LIST_WITHIN: Duration = Duration::from_secs(5);
/// Pipes that are named one by one; a longer list is for `skypipe ls`.
const PIPES_NAMED_MAX: usize = 20;

/// Makes the relay of these URLs this user's from now on; says so, and names the pipes that still hold data at the one used before with
/// the command that moves each. Moves nothing. Once more with the same URLs changes nothing.
///
/// # Errors
/// `E_CONFIG` when the config file cannot be read or written.
///
/// # Cancel safety
/// A dropped call may have switched.
pub(crate) async fn switch_to(urls: &[String]) -> Result<(), Error> {
    let before = Config::load()?.relay.unwrap_or_else(|| LOCAL_URL.to_owned());
    let now = urls.join(",");
    let path = config::set_relay(urls)?;
    if before == now {
        say("this relay is yours already; nothing changed");
        return Ok(());
    }
    say(&format!("this relay is yours from now on: {} says so", path.display()));
    if std::env::var_os(RELAY_VARIABLE).is_some_and(|v| !v.is_empty()) {
        say(&format!("{RELAY_VARIABLE} is set here and comes first: unset it to use this relay"));
    }
    if !is_same_relay(&before, &now) {
        tell_what_stays(&before, &now).await;
    }
    Ok(())
}

/// Whether both name the relay of the same key, by whatever addresses.
pub(crate) fn is_same_relay(one: &str, other: &str) -> bool {
    let key = |urls: &str| Some(urls.split(',').next()?.split_once("://")?.1.split_once('@')?.0.to_owned());
    key(one).is_some_and(|k| key(other) == Some(k))
}

async fn tell_what_stays(before: &str, now: &str) {
    say(&format!("the relay used before is {}", for_people(before)));
    match timeout(LIST_WITHIN, pipes_with_data(before)).await {
        Ok(Ok(pipes)) => lines(before, now, &pipes).iter().for_each(|line| say(line)),
        Ok(Err(error)) => say(&format!("what it may still hold could not be listed: {error}")),
        Err(_) => say("it did not answer; what it may still hold is not known"),
    }
}

fn for_people(url: &str) -> &str {
    if url == LOCAL_URL { "the local one of this machine" } else { url }
}

async fn pipes_with_data(url: &str) -> Result<Vec<PipeStat>, Error> {
    if url == LOCAL_URL && !LocalFolder::find()?.data().exists() {
        // Nothing was ever stored: no relay need be started to say so.
        return Ok(Vec::new());
    }
    let relay = Relay::at(url)?;
    let mut query = ListQuery { owner: Owner::SELF, pattern: Pattern::all(), after: None, limit: LIST_PAGE_MAX };
    let mut found = Vec::new();
    loop {
        let page = relay.broker.list(&Caller::in_process(), query.clone()).await?;
        query.after = page.pipes.last().map(|p| p.path.clone());
        found.extend(page.pipes.into_iter().filter(|p| p.items > 0));
        // One more than is named tells that there are more.
        if !page.more || query.after.is_none() || found.len() > PIPES_NAMED_MAX {
            return Ok(found);
        }
    }
}

fn lines(before: &str, now: &str, pipes: &[PipeStat]) -> Vec<String> {
    if pipes.is_empty() {
        return vec!["it holds nothing that waits to be read".into()];
    }
    let mut lines = vec!["these pipes still hold data there; nothing is moved unless you run:".into()];
    lines.extend(pipes.iter().take(PIPES_NAMED_MAX).map(|pipe| move_line(before, now, pipe)));
    if pipes.len() > PIPES_NAMED_MAX {
        lines.push(format!("and more: skypipe --relay {} ls", quoted(before)));
    }
    lines
}

/// The command that moves a pipe, item by item, so that each stays one.
fn move_line(before: &str, now: &str, pipe: &PipeStat) -> String {
    let (name, before, now) = (quoted(&pipe.path.display()), quoted(before), quoted(now));
    let one = format!("skypipe --relay {before} read --item {name} | skypipe --relay {now} write {name}");
    match pipe.items {
        1 => format!("  {one}"),
        items => format!("  for i in $(seq {items}); do {one}; done"),
    }
}

#[cfg(test)]
mod tests {
    use skypipe_core::{Mode, PipeName};

    use super::*;

    fn stat(name: &str, items: u64) -> PipeStat {
        let mut stat = PipeStat::empty(PipeName::new(name).unwrap().path(), Mode::Default);
        stat.items = items;
        stat
    }

    #[test]
    fn each_pipe_has_the_command_that_moves_it() {
        let lines = lines("local:", "wss://h", &[stat("a", 1), stat("it's", 3)]);
        assert_eq!(lines[1], "  skypipe --relay local: read --item a | skypipe --relay wss://h write a");
        assert!(lines[2].starts_with("  for i in $(seq 3); do ") && lines[2].contains("'it'\\''s'"), "{lines:?}");
    }

    #[test]
    fn a_long_list_is_cut() {
        let many: Vec<_> = (0..=PIPES_NAMED_MAX).map(|n| stat(&n.to_string(), 1)).collect();
        let lines = lines("local:", "wss://h", &many);
        assert_eq!(lines.len(), PIPES_NAMED_MAX + 2);
        assert!(lines.last().unwrap().contains("skypipe --relay local: ls"));
    }

    #[test]
    fn a_relay_is_known_by_its_key() {
        assert!(is_same_relay("quic://k@a:1,wss://k@a:1", "wss://k@b:2"));
        assert!(!is_same_relay("quic://k@a:1", "quic://l@a:1") && !is_same_relay("local:", "local:"));
    }
}
