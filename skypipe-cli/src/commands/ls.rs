//! `skypipe ls [PATTERN] [--watch]`

use skypipe_core::{Broker as _, Caller, Error, LIST_PAGE_MAX, ListQuery, PipeStat, TargetPattern};

use super::{on_this_thread, print};
use crate::args::LsArgs;
use crate::broker::{Relay, utf8};
use crate::exit::Exit;
use crate::looks::{self, Shown};
use crate::pipe_line::PipeLine;
use crate::rates::{self, LastLooks};

/// Most pipes that `--watch` shows: a block is held as a whole, so that it comes at once.
const WATCHED_MAX: usize = 10_000;

pub(crate) fn run(relay: Option<&str>, args: LsArgs) -> Result<Exit, Error> {
    let wanted = match &args.pattern {
        Some(text) => utf8(text)?.parse()?,
        None => TargetPattern::all(),
    };
    let relay = Relay::find(relay)?;
    on_this_thread(async move {
        match args.watch.every() {
            Some(every) => watch(relay, wanted, args.json.json, every).await,
            None => list(relay, wanted, args.json.json).await,
        }
    })
}

/// Page by page, so that a hundred thousand pipes need no more memory than a thousand.
async fn list(relay: Relay, wanted: TargetPattern, json: bool) -> Result<Exit, Error> {
    let mut pages = Pages::new(&relay, &wanted);
    let mut heading = !json;
    while let Some(pipes) = pages.next().await? {
        let lines: Vec<PipeLine> = pipes.iter().map(|pipe| PipeLine::new(&wanted.owner, pipe)).collect();
        if print(&text(&lines, json, heading, false))? == Exit::StdoutClosed {
            return Ok(Exit::StdoutClosed);
        }
        heading = false;
    }
    Ok(Exit::Done)
}

async fn watch(relay: Relay, wanted: TargetPattern, json: bool, every: std::time::Duration) -> Result<Exit, Error> {
    let mut looks = LastLooks::default();
    looks::repeat(every, Shown::new(json), async || {
        looks.begin();
        let (mut pages, mut lines) = (Pages::new(&relay, &wanted), Vec::new());
        while let Some(pipes) = pages.next().await? {
            for pipe in pipes.iter().take(WATCHED_MAX - lines.len()) {
                let mut line = PipeLine::new(&wanted.owner, pipe);
                (line.rates, line.at_ms) = (looks.look(pipe), Some(looks::wall_ms()));
                lines.push(line);
            }
            if lines.len() >= WATCHED_MAX {
                break;
            }
        }
        Ok(text(&lines, json, !json, true))
    })
    .await
}

/// Pipes, a page at a time.
pub(super) struct Pages<'a> {
    relay: &'a Relay,
    query: ListQuery,
    over: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(relay: &'a Relay, wanted: &TargetPattern) -> Self {
        let (owner, pattern) = (wanted.owner, wanted.pattern.clone());
        Self { relay, query: ListQuery { owner, pattern, after: None, limit: LIST_PAGE_MAX }, over: false }
    }

    /// Whether there may be pages behind those that were taken.
    pub(super) fn has_more(&self) -> bool {
        !self.over
    }

    /// The next page; none behind the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<PipeStat>>, Error> {
        if self.over {
            return Ok(None);
        }
        let page = self.relay.broker.list(&Caller::in_process(), self.query.clone()).await?;
        self.query.after = page.pipes.last().map(|p| p.path.clone());
        self.over = !page.more || self.query.after.is_none();
        Ok(Some(page.pipes))
    }
}

fn text(lines: &[PipeLine], json: bool, heading: bool, rates: bool) -> String {
    let mut text = String::new();
    if heading && !lines.is_empty() {
        let rates = rates.then_some(["IN/S", "OUT/S"]);
        text += &row(["MODE", "ITEMS", "ENDED", "BYTES", "WRITERS", "READERS", "LEASED", "LAG"], rates, "NAME");
    }
    for line in lines {
        text += &if json { line.json() } else { table_row(line, rates) };
    }
    text
}

fn table_row(line: &PipeLine, rates: bool) -> String {
    let figures = [line.items, line.ended, line.bytes, line.writers.into(), line.readers.into(), line.leased, line.lag];
    let figures = figures.map(|figure| figure.to_string());
    let [items, ended, bytes, writers, readers, leased, lag] = figures.each_ref().map(String::as_str);
    let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), rates::shown);
    let both = [rate(line.rates.map(|r| r.records_in)), rate(line.rates.map(|r| r.records_out))];
    let both = rates.then(|| both.each_ref().map(String::as_str));
    row([line.mode, items, ended, bytes, writers, readers, leased, lag], both, &crate::escape::line(&line.name))
}

/// The name comes last: it is the one column without a usual width.
fn row(columns: [&str; 8], rates: Option<[&str; 2]>, name: &str) -> String {
    let [mode, items, ended, bytes, writers, readers, leased, lag] = columns;
    let rates = rates.map_or(String::new(), |[input, output]| format!(" {input:>7} {output:>7}"));
    format!(
        "{mode:<9} {items:>6} {ended:>6} {bytes:>12} {writers:>7} {readers:>7} {leased:>6} {lag:>7}{rates}  {name}\n"
    )
}

#[cfg(test)]
mod tests {
    use skypipe_core::{Mode, Owner, PipeName};

    use super::*;

    #[test]
    fn one_line_for_each_pipe() {
        let stat = PipeStat::empty(PipeName::new("a/b").unwrap().path(), Mode::Default);
        let line = || PipeLine::new(&Owner::SELF, &stat);
        let table = text(&[line(), line()], false, true, false);
        assert_eq!(table.lines().count(), 3);
        assert!(table.ends_with("  a/b\n") && !table.contains("IN/S"), "{table}");
        let watched = text(&[line()], false, true, true);
        assert!(watched.contains("IN/S") && watched.ends_with("      -       -  a/b\n"), "{watched}");
        assert_eq!(
            text(&[line()], true, false, false),
            "{\"name\":\"a/b\",\"mode\":\"default\",\"items\":0,\"ended\":0,\"bytes\":0,\"writers\":0,\"readers\":0,\"leased\":0,\
             \"ready\":0,\"delayed\":0,\"released\":0,\"damaged\":false,\"read_only\":false,\"lag\":0,\"lag_bytes\":null,\
             \"counted_since_ms\":0,\"counted_ms\":0,\"records_in\":0,\"bytes_in\":0,\"records_out\":0,\"bytes_out\":0}\n"
        );
        assert_eq!(text(&[], false, true, false), "");
    }
}
