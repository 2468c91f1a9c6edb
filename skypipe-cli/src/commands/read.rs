//! `skypipe read NAME`

use std::time::Duration;

use bytes::Bytes;
use skypipe_core::{Chunk, Code, Error, Mode, Outcome, Reader, ReaderOptions, Seq, Settings, Start, Take};

use super::exec::{self, Runs};
use super::on_this_thread;
use super::show::Show;
use crate::args::{ReadArgs, ReadOnlyArgs, SharedArgs};
use crate::broker::{Relay, Source, to_read_many};
use crate::exit::Exit;
use crate::notices;
use crate::progress::Progress;
use crate::signals::{Stop, Watch};
use crate::stdout::{Stdout, WriteError};

/// A reader that stops tells the relay, so that its item goes back at once; a relay that does not answer finds out by itself.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Records of a queue that are on their way to stdout at a time: each handing out waits for the relay's disk, and stdout takes them at once.
const PRINTED_AT_ONCE: u32 = 256;

pub(crate) fn run(relay: Option<&str>, args: ReadArgs) -> Result<Exit, Error> {
    let source = to_read_many(&args.name)?;
    let relay = Relay::find(relay)?;
    on_this_thread(read(relay, Job { source, shared: args.shared, only: args.only }))
}

/// What to read.
pub(crate) struct Job {
    pub(crate) source: Source,
    pub(crate) shared: SharedArgs,
    pub(crate) only: ReadOnlyArgs,
}

impl Job {
    /// What has no meaning for many pipes.
    fn check(&self) -> Result<(), Error> {
        let mode = self.shared.mode;
        let wrong = match &self.source {
            Source::Pipe(_) => return Ok(()),
            _ if self.shared.item || self.only.keep => {
                "--item and --keep are for default pipes, which are read one by one"
            }
            _ if mode.settings() != Settings::default() => {
                "--retain and --max-deliveries are for one pipe, not for all that match"
            }
            _ if matches!(self.only.from, Some(Start::At(_))) => {
                "a position is one of a single pipe, not of all that match"
            }
            _ => return Ok(()),
        };
        Err(Error::new(Code::Usage, wrong))
    }
}

pub(crate) async fn read(relay: Relay, job: Job) -> Result<Exit, Error> {
    job.check()?;
    // Whoever cannot write takes nothing.
    let Some(mut stdout) = Stdout::look() else { return Ok(Exit::StdoutClosed) };
    let mut watch = Watch::new(job.shared.timeout)?;
    let mut reader = match watch.idle(attach(&relay, &job)).await {
        Ok(reader) => reader?,
        Err(stop) => return stop.exit("nothing was read"),
    };
    if let Some(command) = &job.only.exec {
        let (jobs, count) = (job.only.jobs.unwrap_or(1) as usize, job.only.count);
        return exec::run(reader, &Runs { command, source: &job.source, jobs, count }, &mut watch).await;
    }
    let progress = Progress::new(job.shared.progress, None);
    let show = Show::new(&job.source, job.only.json, job.only.tag);
    let end = copy(&mut reader, &mut stdout, &show, job.only.count, &mut watch, &progress).await;
    drop(progress);
    let finished = stdout.finish().await;
    match end {
        End::Finished => finished.map_or_else(write_failed, |()| Ok(exit(reader.outcome()))),
        End::Counted => left_with_part(reader, &mut watch).await,
        End::Failed(error) => Err(error),
        End::Stopped(stop) => {
            let known = leave(reader).await;
            stop.exit(&format!("{} records were read", known.records))
        }
        End::CannotWrite(error) => {
            leave(reader).await;
            write_failed(error)
        }
    }
}

async fn attach(relay: &Relay, job: &Job) -> Result<Reader, Error> {
    let mut options = ReaderOptions::default();
    options.take = if job.shared.item { Take::Item } else { Take::Any };
    options.keep = job.only.keep;
    options.no_wait = job.shared.no_wait;
    options.mode = mode(job);
    options.settings = job.shared.mode.settings();
    options.start = job.only.from.clone().unwrap_or_default();
    options.cursor.clone_from(&job.only.cursor);
    options.filter = job.only.filter();
    // No more than what is begun at once, or wanted in all: the rest is for other readers.
    let jobs = job.only.exec.as_ref().map(|_| job.only.jobs.unwrap_or(1));
    let wanted = job.only.count.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    options.prefetch = jobs.unwrap_or(PRINTED_AT_ONCE).min(wanted.unwrap_or(u32::MAX));
    options.events = Some(notices::events());
    relay.reader(&job.source, options).await
}

/// The mode that the options ask for.
fn mode(job: &Job) -> Option<Mode> {
    let of_queue = job.only.exec.as_ref().map(|_| Mode::Queue);
    let of_broadcast = (job.only.from.is_some() || job.only.cursor.is_some()).then_some(Mode::Broadcast);
    job.shared.mode.mode().or(of_queue).or(of_broadcast)
}

/// Why reading ended.
enum End {
    /// The broker says that this is all.
    Finished,
    /// `-n` has what it wants.
    Counted,
    /// The session ended with an error.
    Failed(Error),
    /// A signal, or time.
    Stopped(Stop),
    /// stdout takes no more.
    CannotWrite(WriteError),
}

/// Writes records out until something ends it. Asking for more acknowledges what was written.
async fn copy(
    reader: &mut Reader,
    stdout: &mut Stdout,
    show: &Show<'_>,
    count: Option<u64>,
    watch: &mut Watch,
    progress: &Progress,
) -> End {
    let mut left = count;
    loop {
        let chunk = match watch.idle(reader.next_chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return End::Finished,
            Ok(Err(error)) => return End::Failed(error),
            Err(stop) => return End::Stopped(stop),
        };
        let part = Part::of(&chunk, left);
        let length = part.bytes.len();
        match watch.idle(stdout.write(show.part(&chunk, part.next, part.bytes))).await {
            Ok(Ok(())) => progress.add(length),
            Ok(Err(error)) => return End::CannotWrite(error),
            Err(stop) => return End::Stopped(stop),
        }
        left = left.map(|l| l - part.records);
        if left == Some(0) {
            reader.ack_part(&chunk, part.next);
            return End::Counted;
        }
    }
}

/// As much of a chunk as is wanted.
struct Part {
    bytes: Bytes,
    records: u64,
    /// The number behind its last record.
    next: Seq,
}

impl Part {
    fn of(chunk: &Chunk, wanted: Option<u64>) -> Self {
        let bytes = chunk.bodies();
        let Some(wanted) = wanted else { return Self { bytes, records: 0, next: chunk.next() } };
        let (mut length, mut records, mut next) = (0, 0, chunk.from.max(chunk.batch.first()));
        for piece in chunk.records() {
            if records == wanted {
                break;
            }
            length += piece.body.len();
            records += u64::from(piece.last);
            next = piece.seq.plus(1);
        }
        Self { bytes: bytes.slice(..length), records, next }
    }
}

async fn left_with_part(reader: Reader, watch: &mut Watch) -> Result<Exit, Error> {
    match watch.finish(reader.leave(true)).await {
        Ok(left) => left.map(|_| Exit::Done),
        Err(stop) => stop.exit("the relay did not say whether it was taken"),
    }
}

async fn leave(reader: Reader) -> Outcome {
    let known = reader.outcome();
    let left = tokio::time::timeout(LEAVE_WITHIN, reader.leave(false)).await;
    left.ok().and_then(Result::ok).unwrap_or(known)
}

fn exit(outcome: Outcome) -> Exit {
    match outcome {
        Outcome { gap: true, .. } => Exit::Gap,
        Outcome { incomplete: true, .. } => Exit::Incomplete,
        _ => Exit::Done,
    }
}

/// What stdout's failure makes of the command.
pub(crate) fn write_failed(error: WriteError) -> Result<Exit, Error> {
    match error {
        WriteError::Closed => Ok(Exit::StdoutClosed),
        WriteError::Failed(e) => Err(Error::new(Code::Internal, format!("stdout cannot be written: {e}")).because(e)),
    }
}

#[cfg(test)]
mod tests {
    use skypipe_core::{BatchBuilder, Epoch, SessionId};

    use super::*;

    fn chunk(records: &[(&[u8], bool, bool)], from: u64) -> Chunk {
        let mut builder = BatchBuilder::new(SessionId([1; 16]), Epoch(1), Seq(10));
        assert!(records.iter().all(|&(body, first, last)| builder.push(body, first, last)));
        Chunk {
            pipe: Default::default(),
            writer: SessionId([1; 16]),
            from: Seq(from),
            batch: builder.build(None),
            position: Default::default(),
            lease: None,
            lease_time: Duration::ZERO,
            is_on_tape: false,
        }
    }

    #[test]
    fn a_part_ends_behind_the_wanted_record() {
        let records: &[(&[u8], bool, bool)] =
            &[(b"a\n", true, true), (b"lo", true, false), (b"ng\n", false, true), (b"b\n", true, true)];
        let part = |from, wanted| {
            let part = Part::of(&chunk(records, from), wanted);
            (part.bytes, part.records, part.next)
        };
        assert_eq!(part(10, Some(2)), ("a\nlong\n".into(), 2, Seq(13)));
        assert_eq!(part(11, Some(1)), ("long\n".into(), 1, Seq(13)));
        assert_eq!(part(10, Some(9)), ("a\nlong\nb\n".into(), 3, Seq(14)));
        assert_eq!(part(11, None), ("long\nb\n".into(), 0, Seq(14)));
    }

    #[test]
    fn a_gap_weighs_more_than_an_incomplete_item() {
        let mut outcome = Outcome::default();
        assert_eq!(exit(outcome), Exit::Done);
        outcome.incomplete = true;
        assert_eq!(exit(outcome), Exit::Incomplete);
        outcome.gap = true;
        assert_eq!(exit(outcome), Exit::Gap);
    }
}
