//! `--watch`: a look at the relay again and again, until something ends the command.

use std::io::IsTerminal as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use skypipe_core::{Code, Error};
use tokio::time::{Instant, sleep_until, timeout};

use crate::exit::{Exit, say};
use crate::signals::Watch;
use crate::stdout::{Stdout, WriteError};

/// A relay that does not answer a look within this time counts as away: its link may carry nothing and not be broken yet.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// To the upper left corner, and no line goes on in the next one.
const BEGIN: &str = "\x1b[H\x1b[?7l";
/// The rest of a line away.
const END_LINE: &str = "\x1b[K\n";
/// The rest of the screen away, and lines go on again.
const END: &str = "\x1b[J\x1b[?7h";
/// Where the terminal does not tell how high it is.
const ROWS_USUAL: usize = 24;

/// How looks are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// In place of the one before.
    InPlace,
    /// Below the one before.
    Lines,
    /// Below it, with an empty line between the two.
    Blocks,
}

impl Shown {
    /// As stdout can show it.
    pub(crate) fn new(json: bool) -> Self {
        match (json, std::io::stdout().is_terminal()) {
            (true, _) => Self::Lines,
            (false, true) => Self::InPlace,
            (false, false) => Self::Blocks,
        }
    }

    /// What is written for a look.
    fn frame(self, text: &str, is_first: bool, rows: usize) -> String {
        match self {
            Self::Lines => text.to_owned(),
            Self::Blocks if is_first => text.to_owned(),
            Self::Blocks => format!("\n{text}"),
            Self::InPlace => {
                // The last row stays free for the cursor: a newline there would scroll.
                let lines: Vec<&str> = text.lines().take(rows.saturating_sub(1)).collect();
                let body: String = lines.iter().map(|line| format!("{line}{END_LINE}")).collect();
                let clear = if is_first { "\x1b[2J" } else { "" };
                format!("{clear}{BEGIN}{body}{END}")
            }
        }
    }
}

/// Looks every so often and shows what `look` gives, until a signal comes or nobody reads stdout any more. The first look must succeed. After
/// that a relay that is away is asked again each time: people leave this running.
pub(crate) async fn repeat(
    every: Duration,
    shown: Shown,
    mut look: impl AsyncFnMut() -> Result<String, Error>,
) -> Result<Exit, Error> {
    let Some(mut stdout) = Stdout::look() else { return Ok(Exit::StdoutClosed) };
    let mut watch = Watch::new(None)?;
    let (mut trouble, mut is_first, mut next) = (None, true, Instant::now());
    loop {
        let looked = watch.idle(async {
            sleep_until(next).await;
            answer(&mut look).await
        });
        let text = match looked.await {
            Ok(Ok(text)) => Some(text),
            Ok(Err(error)) if is_first || !may_pass(&error) => return Err(error),
            Ok(Err(error)) => {
                tell_once(&mut trouble, &error);
                None
            }
            Err(stop) => return stop.exit("nothing was changed"),
        };
        next = Instant::now() + every;
        let Some(text) = text else { continue };
        // What was said on the screen meanwhile is cleared away.
        let anew = is_first || trouble.take().is_some() && shown == Shown::InPlace;
        let frame = shown.frame(&text, anew, rows());
        is_first = false;
        match watch.idle(stdout.write_shown(Bytes::from(frame))).await {
            Ok(Ok(())) => {}
            Ok(Err(WriteError::Closed)) => return Ok(Exit::StdoutClosed),
            Ok(Err(WriteError::Failed(e))) => {
                return Err(Error::new(Code::Internal, format!("stdout cannot be written: {e}")).because(e));
            }
            Err(stop) => return stop.exit("nothing was changed"),
        }
    }
}

/// One look, which takes so long at most.
async fn answer(look: &mut impl AsyncFnMut() -> Result<String, Error>) -> Result<String, Error> {
    let late = || Error::new(Code::Unreachable, format!("the relay did not answer within {ANSWER_WITHIN:?}"));
    timeout(ANSWER_WITHIN, look()).await.unwrap_or_else(|_| Err(late()))
}

/// Whether the next look may succeed where this one did not: a relay begins anew, and a default pipe is there only while something is in it.
pub(crate) fn may_pass(error: &Error) -> bool {
    error.is_disconnected() || matches!(error.code(), Code::Busy | Code::Timeout | Code::Locked | Code::Access)
}

/// Says why there is nothing to show; not again before there was something.
fn tell_once(trouble: &mut Option<Code>, error: &Error) {
    if trouble.replace(error.code()).is_none() {
        say(&format!("{error}; looking again until it can be seen"));
    }
}

/// The wall clock, in milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn rows() -> usize {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout());
    size.ok().map(|s| usize::from(s.ws_row)).filter(|&rows| rows > 1).unwrap_or(ROWS_USUAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_in_place_never_scrolls() {
        let frame = Shown::InPlace.frame("a\nb\nc\nd\n", true, 3);
        assert_eq!(frame, "\x1b[2J\x1b[H\x1b[?7la\x1b[K\nb\x1b[K\n\x1b[J\x1b[?7h");
        assert_eq!(Shown::InPlace.frame("a\n", false, 24), "\x1b[H\x1b[?7la\x1b[K\n\x1b[J\x1b[?7h");
    }

    #[test]
    fn blocks_are_told_apart_and_lines_are_as_they_are() {
        assert_eq!(Shown::Blocks.frame("a\n", true, 3), "a\n");
        assert_eq!(Shown::Blocks.frame("a\nb\nc\nd\n", false, 3), "\na\nb\nc\nd\n");
        assert_eq!(Shown::Lines.frame("{}\n", false, 3), "{}\n");
    }

    #[test]
    fn what_a_person_must_mend_ends_it() {
        assert!(may_pass(&Error::new(Code::Unreachable, "x")) && may_pass(&Error::new(Code::Access, "x")));
        assert!(!may_pass(&Error::new(Code::Pin, "x")) && !may_pass(&Error::new(Code::Protocol, "x")));
    }
}
