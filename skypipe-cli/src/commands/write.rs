//! `skypipe write NAME [TEXT]...`

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use skypipe_core::{Code, Error, Mode, Pipe as _, Target, Until, Writer, WriterOptions};
use tokio::time::{Instant, sleep_until};

use super::on_this_thread;
use crate::args::{SharedArgs, UntilArg, WriteArgs, WriteOnlyArgs};
use crate::broker::{Relay, to_write};
use crate::cutter::Cutter;
use crate::exit::{Exit, say};
use crate::notices::{self, Room};
use crate::progress::{Progress, stdin_bytes};
use crate::signals::{Stop, Watch};
use crate::stdin::{Chunk, StdinChunks};

/// A line whose end does not come is sent without it after so long: whoever watches sees the prompt that waits for an answer.
const OPEN_LINE_WAITS: Duration = Duration::from_millis(100);
/// So long it may take to say that an item is given up.
const ABORT_WITHIN: Duration = Duration::from_secs(2);

pub(crate) fn run(relay: Option<&str>, args: WriteArgs) -> Result<Exit, Error> {
    let pipe = to_write(&args.name)?;
    let relay = Relay::find(relay)?;
    let input = if args.texts.is_empty() { From::Stdin { only_with_data: false } } else { From::Texts(args.texts) };
    on_this_thread(write(relay, Job { pipe, input, shared: args.shared, only: args.only, room: Room::default() }))
}

/// What to write where.
pub(crate) struct Job {
    pub(crate) pipe: Target,
    pub(crate) input: From,
    pub(crate) shared: SharedArgs,
    pub(crate) only: WriteOnlyArgs,
    /// What the writer waits for when time runs out.
    pub(crate) room: Room,
}

impl Job {
    /// What a stop ends with: time that ran out for want of room is told as that.
    fn stopped(&self, stop: Stop, count: &str) -> Result<Exit, Error> {
        match self.room.waits_for() {
            Some(code) if stop == Stop::Timeout => {
                Err(Error::new(code, format!("time ran out while there was no room; {count}")))
            }
            _ => stop.exit(count),
        }
    }
}

/// Where the records come from.
pub(crate) enum From {
    /// The command line: one record each.
    Texts(Vec<OsString>),
    /// stdin, up to its end.
    Stdin {
        /// An input without a byte is nobody's item but a mistake.
        only_with_data: bool,
    },
}

pub(crate) async fn write(relay: Relay, job: Job) -> Result<Exit, Error> {
    let mut watch = Watch::new(job.shared.timeout)?;
    match job.input {
        From::Texts(ref texts) => write_texts(&relay, &job, texts, &mut watch).await,
        From::Stdin { only_with_data } => {
            let mut stdin = StdinChunks::new();
            let first = if only_with_data {
                match watch.idle(stdin.next()).await {
                    Ok(Some(first)) => Some(first.map_err(|e| unreadable(&e))?),
                    Ok(None) => return Err(nobody_wrote(&job.pipe)),
                    Err(stop) => return stop.exit("nothing was read"),
                }
            } else {
                None
            };
            write_stdin(&relay, &job, stdin, first, &mut watch).await
        }
    }
}

async fn write_texts(relay: &Relay, job: &Job, texts: &[OsString], watch: &mut Watch) -> Result<Exit, Error> {
    let mut writer = match watch.finish(attach(relay, job)).await {
        Ok(writer) => writer?,
        Err(stop) => return stop.exit("nothing was sent"),
    };
    if let Some(stop) = wait_for_reader(&mut writer, job, watch).await? {
        return no_reader(writer, stop).await;
    }
    for text in texts {
        let mut record = text.clone().into_vec();
        if !job.shared.item {
            record.push(delimiter(job));
        }
        match watch.finish(writer.send(&record)).await {
            Ok(sent) => sent?,
            Err(stop) => return job.stopped(stop, &count(&writer)),
        }
    }
    end(writer, job, watch).await
}

async fn write_stdin(
    relay: &Relay,
    job: &Job,
    stdin: StdinChunks,
    first: Option<Chunk>,
    watch: &mut Watch,
) -> Result<Exit, Error> {
    let attached = match first {
        // What was read is to be sent, also when a signal comes now.
        Some(_) => watch.finish(attach(relay, job)).await,
        None => watch.idle(attach(relay, job)).await,
    };
    let mut writer = match attached {
        Ok(writer) => writer?,
        Err(stop) => return stop.exit("nothing was sent"),
    };
    if let Some(stop) = wait_for_reader(&mut writer, job, watch).await? {
        return no_reader(writer, stop).await;
    }
    invite_typing(&job.pipe);
    let progress = Progress::new(job.shared.progress, stdin_bytes());
    let records = Records::new(job);
    let mut sending = Sending { writer, records, stdin, progress };
    let ended = sending.all(first, watch).await?;
    let Sending { writer, .. } = sending;
    match ended {
        None => end(writer, job, watch).await,
        Some(Stop::Timeout) => job.stopped(Stop::Timeout, &count(&writer)),
        Some(stop) => interrupt(writer, stop, watch).await,
    }
}

async fn attach(relay: &Relay, job: &Job) -> Result<Writer, Error> {
    let mut options = WriterOptions::default();
    options.no_wait = job.shared.no_wait;
    options.mode = job.shared.mode.mode().or(job.only.delay.map(|_| Mode::Queue));
    options.settings = job.shared.mode.settings();
    options.delay = job.only.delay;
    options.headers = job.only.headers()?;
    options.events = Some(notices::events_of_writer(job.room.clone()));
    relay.pipe(&job.pipe).writer_with(options).await
}

async fn wait_for_reader(writer: &mut Writer, job: &Job, watch: &mut Watch) -> Result<Option<Stop>, Error> {
    if !job.only.wait_reader {
        return Ok(None);
    }
    watch.idle(writer.has_reader()).await.map_or_else(|stop| Ok(Some(stop)), |there| there.map(|()| None))
}

/// The wait was in vain: the item is given up, and leaves nothing. A relay that does not listen finds out by itself.
async fn no_reader(writer: Writer, stop: Stop) -> Result<Exit, Error> {
    let _ = tokio::time::timeout(ABORT_WITHIN, writer.abort()).await;
    stop.exit("no reader came, nothing was sent")
}

/// Ends the item and waits for what `--until` says.
async fn end(writer: Writer, job: &Job, watch: &mut Watch) -> Result<Exit, Error> {
    let until = match job.only.until {
        Some(UntilArg::Delivered) => Until::Delivered,
        _ => Until::Stored,
    };
    let known = count(&writer);
    // All was read, and the end mark is on its way: readers may take for ever, a disk does not.
    let ended = match until {
        Until::Delivered => watch.idle(writer.end(until)).await,
        _ => watch.finish(writer.end(until)).await,
    };
    match ended {
        Ok(receipt) => receipt.map(|_| Exit::Done),
        Err(stop) => job.stopped(stop, &known),
    }
}

/// Ends the item as interrupted, with all that was read.
pub(super) async fn interrupt(writer: Writer, stop: Stop, watch: &mut Watch) -> Result<Exit, Error> {
    let left = watch.grace_left();
    if let Ok(Err(error)) = watch.finish(writer.interrupt(left)).await {
        say(&error.to_string());
    }
    stop.exit("interrupted")
}

/// Carries stdin to the writer.
pub(super) struct Sending {
    pub(super) writer: Writer,
    records: Records,
    stdin: StdinChunks,
    progress: Progress,
}

/// What to do next.
pub(super) enum Next {
    Chunk(Chunk),
    OpenLineIsDue,
    End,
}

impl Sending {
    /// Each line of stdin becomes a record.
    pub(super) fn lines(writer: Writer) -> Self {
        let (stdin, progress) = (StdinChunks::new(), Progress::new(false, None));
        Self { writer, records: Records::lines(b'\n'), stdin, progress }
    }

    /// All of stdin, or up to a stop: then what was read until then.
    async fn all(&mut self, first: Option<Chunk>, watch: &mut Watch) -> Result<Option<Stop>, Error> {
        let mut next = first.map(Next::Chunk);
        while watch.stopped().is_none() {
            let now = match next.take() {
                Some(now) => now,
                None => match watch.idle(self.next()).await {
                    Ok(now) => now?,
                    Err(_) => break,
                },
            };
            if self.take(now, watch).await? {
                return Ok(watch.stopped());
            }
        }
        self.what_was_read(next, watch).await?;
        Ok(watch.stopped())
    }

    /// Sends what came. True when it was the last.
    pub(super) async fn take(&mut self, next: Next, watch: &mut Watch) -> Result<bool, Error> {
        match next {
            Next::Chunk(chunk) => self.feed(chunk, watch).await?,
            Next::OpenLineIsDue => self.close_line(watch).await?,
            Next::End => {
                self.last(watch).await?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Cancel safe: nothing that was read is lost.
    pub(super) async fn next(&mut self) -> Result<Next, Error> {
        let due = self.records.open_until();
        tokio::select! {
            biased;
            error = self.writer.failed() => Err(error),
            chunk = self.stdin.next() => match chunk {
                None => Ok(Next::End),
                Some(Ok(chunk)) => Ok(Next::Chunk(chunk)),
                Some(Err(e)) => Err(unreadable(&e)),
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Ok(Next::OpenLineIsDue),
        }
    }

    async fn feed(&mut self, chunk: Chunk, watch: &mut Watch) -> Result<(), Error> {
        let sent = watch.finish(self.records.feed(&mut self.writer, chunk.bytes())).await;
        self.progress.add(chunk.bytes().len());
        self.stdin.give_back(chunk);
        // The session's task has this thread too: what is ready goes out before more is read.
        tokio::task::yield_now().await;
        sent.unwrap_or(Ok(()))
    }

    async fn close_line(&mut self, watch: &mut Watch) -> Result<(), Error> {
        watch.finish(self.records.close_line(&mut self.writer)).await.unwrap_or(Ok(()))
    }

    async fn last(&mut self, watch: &mut Watch) -> Result<(), Error> {
        watch.finish(self.records.last(&mut self.writer)).await.unwrap_or(Ok(()))
    }

    /// After a signal: what lies ready, and no more of stdin.
    pub(super) async fn what_was_read(&mut self, next: Option<Next>, watch: &mut Watch) -> Result<(), Error> {
        if watch.stopped() == Some(Stop::Timeout) {
            return Ok(());
        }
        if let Some(Next::Chunk(chunk)) = next {
            self.feed(chunk, watch).await?;
        }
        while let Ok(Some(Ok(chunk))) = watch.finish(self.stdin.next_read()).await {
            self.feed(chunk, watch).await?;
        }
        self.last(watch).await
    }
}

/// Makes records of bytes.
enum Records {
    /// One for each line.
    Lines { cutter: Cutter, open_until: Option<Instant> },
    /// All of it is one, in pieces.
    Item { begun: bool },
}

impl Records {
    fn new(job: &Job) -> Self {
        if job.shared.item {
            return Self::Item { begun: false };
        }
        Self::lines(delimiter(job))
    }

    fn lines(delimiter: u8) -> Self {
        Self::Lines { cutter: Cutter::new(delimiter), open_until: None }
    }

    /// When the line that has no end is sent without it.
    fn open_until(&self) -> Option<Instant> {
        match self {
            Self::Lines { open_until, .. } => *open_until,
            Self::Item { .. } => None,
        }
    }

    async fn feed(&mut self, writer: &mut Writer, bytes: &[u8]) -> Result<(), Error> {
        let (cutter, open_until) = match self {
            Self::Lines { cutter, open_until } => (cutter, open_until),
            Self::Item { begun } => {
                let first = !std::mem::replace(begun, true);
                return push(writer, bytes, first, false).await;
            }
        };
        let was_open = cutter.has_open();
        let mut cut = false;
        let mut rest = bytes;
        while !rest.is_empty() {
            if !cutter.has_open() {
                // Lines that are whole here need not be looked at one by one.
                let taken = writer.try_send_lines(rest, cutter.delimiter());
                cut |= taken > 0;
                rest = &rest[taken..];
            }
            let (record, used) = cutter.next(rest);
            if let Some(record) = record {
                cut = true;
                push(writer, record.bytes(), true, true).await?;
            }
            rest = &rest[used..];
        }
        if !cutter.has_open() {
            *open_until = None;
        } else if cut || !was_open {
            *open_until = Some(Instant::now() + OPEN_LINE_WAITS);
        }
        Ok(())
    }

    async fn close_line(&mut self, writer: &mut Writer) -> Result<(), Error> {
        if let Self::Lines { cutter, open_until } = self {
            *open_until = None;
            if let Some(record) = cutter.take_open() {
                push(writer, record.bytes(), true, true).await?;
            }
        }
        Ok(())
    }

    /// What makes the last record whole.
    async fn last(&mut self, writer: &mut Writer) -> Result<(), Error> {
        match self {
            Self::Lines { .. } => self.close_line(writer).await,
            Self::Item { begun } => push(writer, &[], !*begun, true).await,
        }
    }
}

async fn push(writer: &mut Writer, piece: &[u8], first: bool, last: bool) -> Result<(), Error> {
    while !writer.try_send_part(piece, first, last) {
        writer.ready().await?;
    }
    Ok(())
}

fn delimiter(job: &Job) -> u8 {
    if job.only.null { 0 } else { b'\n' }
}

fn count(writer: &Writer) -> String {
    let known = writer.progress();
    format!("{} of {} records are known to be stored", known.settled, known.records)
}

fn invite_typing(pipe: &Target) {
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        say(&format!("writing to {pipe}: each line is a record, Ctrl-D ends"));
    }
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::new(Code::Internal, format!("stdin cannot be read: {error}; the item stays incomplete"))
}

/// Under cron and `ssh` stdin is an empty pipe: whoever runs the bare form there meant to read, most likely.
fn nobody_wrote(pipe: &Target) -> Error {
    let text = format!("stdin ended before its first byte; use `skypipe read {pipe}` or `skypipe write {pipe}`");
    Error::new(Code::Usage, text)
}
