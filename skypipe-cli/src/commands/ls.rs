//! `skypipe ls [PATTERN]`

use skypipe_core::{Broker as _, Caller, Error, LIST_PAGE_MAX, ListQuery, Owner, PipeStat, TargetPattern};

use super::stat::PipeLine;
use super::{on_this_thread, print};
use crate::args::LsArgs;
use crate::broker::{Relay, utf8};
use crate::exit::Exit;

pub(crate) fn run(relay: Option<&str>, args: LsArgs) -> Result<Exit, Error> {
    let wanted = match &args.pattern {
        Some(text) => utf8(text)?.parse()?,
        None => TargetPattern::all(),
    };
    let relay = Relay::find(relay)?;
    on_this_thread(list(relay, wanted, args.json.json))
}

/// Page by page, so that a hundred thousand pipes need no more memory than a thousand.
async fn list(relay: Relay, wanted: TargetPattern, json: bool) -> Result<Exit, Error> {
    let mut query = ListQuery { owner: wanted.owner, pattern: wanted.pattern, after: None, limit: LIST_PAGE_MAX };
    let mut heading = !json;
    loop {
        let page = relay.broker.list(&Caller::in_process(), query.clone()).await?;
        query.after = page.pipes.last().map(|p| p.path.clone());
        if print(&lines(&wanted.owner, &page.pipes, json, heading))? == Exit::StdoutClosed {
            return Ok(Exit::StdoutClosed);
        }
        if !page.more || query.after.is_none() {
            return Ok(Exit::Done);
        }
        heading = false;
    }
}

fn lines(owner: &Owner, pipes: &[PipeStat], json: bool, heading: bool) -> String {
    let mut text = String::new();
    if heading && !pipes.is_empty() {
        text.push_str(&row("MODE", "ITEMS", "ENDED", "BYTES", "WRITERS", "READERS", "NAME"));
    }
    for pipe in pipes {
        let line = PipeLine::new(owner, pipe);
        text.push_str(&if json { line.json() } else { table_row(&line) });
    }
    text
}

fn table_row(line: &PipeLine) -> String {
    row(
        line.mode,
        &line.items.to_string(),
        &line.ended.to_string(),
        &line.bytes.to_string(),
        &line.writers.to_string(),
        &line.readers.to_string(),
        &crate::escape::line(&line.name),
    )
}

/// The name comes last: it is the one column without a usual width.
fn row(mode: &str, items: &str, ended: &str, bytes: &str, writers: &str, readers: &str, name: &str) -> String {
    format!("{mode:<9} {items:>6} {ended:>6} {bytes:>12} {writers:>7} {readers:>7}  {name}\n")
}

#[cfg(test)]
mod tests {
    use skypipe_core::{Mode, PipeName};

    use super::*;

    #[test]
    fn one_line_for_each_pipe() {
        let stat = PipeStat::empty(PipeName::new("a/b").unwrap().path(), Mode::Default);
        let table = lines(&Owner::SELF, &[stat.clone(), stat.clone()], false, true);
        assert_eq!(table.lines().count(), 3);
        assert!(table.ends_with("  a/b\n"), "{table}");
        let json = lines(&Owner::SELF, &[stat], true, false);
        assert_eq!(
            json,
            "{\"name\":\"a/b\",\"mode\":\"default\",\"items\":0,\"ended\":0,\"bytes\":0,\"writers\":0,\"readers\":0,\"leased\":0,\"damaged\":false,\"read_only\":false}\n"
        );
        assert_eq!(lines(&Owner::SELF, &[], false, true), "");
    }
}
