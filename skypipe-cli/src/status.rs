//! The one line on a terminal's stderr that is rewritten in place, and the lines that pass above it.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::escape;

/// To the line's start, and the line away.
const CLEAR: &str = "\r\x1b[K";
/// Where the terminal does not tell how wide it is.
const COLUMNS_USUAL: usize = 80;

/// Who may want the line. The later one in this list has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Bytes and rate.
    Progress,
    /// That there is no connection: nothing moves then.
    Away,
}

/// What each wants to show.
static WANTED: Mutex<Wanted> = Mutex::new(Wanted { texts: [None, None] });

struct Wanted {
    texts: [Option<String>; 2],
}

impl Wanted {
    fn shown(&self) -> Option<&str> {
        self.texts.iter().rev().find_map(Option::as_deref)
    }

    /// The bytes that make the terminal show it.
    fn redraw(&self, columns: usize) -> String {
        let text: String = self.shown().unwrap_or_default().chars().take(columns.saturating_sub(1)).collect();
        format!("{CLEAR}{text}")
    }
}

/// Shows `text` in place of what this slot showed; none is nothing. Only on a terminal.
pub(crate) fn set(slot: Slot, text: Option<&str>) {
    let mut wanted = wanted();
    let text = text.map(escape::line);
    if wanted.texts[slot as usize] == text || !std::io::stderr().is_terminal() {
        return;
    }
    wanted.texts[slot as usize] = text;
    write(&wanted.redraw(columns()));
}

/// A line that stays. Whoever closed stderr does not want it.
pub(crate) fn line(text: &str) {
    let wanted = wanted();
    let line = format!("skypipe: {}\n", escape::line(text));
    match wanted.shown() {
        None => write(&line),
        Some(_) => write(&format!("{CLEAR}{line}{}", wanted.redraw(columns()))),
    }
}

/// Leaves the terminal as it was.
pub(crate) fn end() {
    let mut wanted = wanted();
    if wanted.shown().is_some() {
        wanted.texts = [None, None];
        write(CLEAR);
    }
}

fn wanted() -> MutexGuard<'static, Wanted> {
    WANTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In one write, so that lines of several processes do not mix.
fn write(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr());
    size.ok().map(|s| usize::from(s.ws_col)).filter(|&columns| columns > 1).unwrap_or(COLUMNS_USUAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_goes_before_the_rate_and_fits_the_line() {
        let mut wanted = Wanted { texts: [Some("5 MiB".into()), None] };
        assert_eq!(wanted.redraw(80), "\r\x1b[K5 MiB");
        wanted.texts[Slot::Away as usize] = Some("not connected".into());
        assert_eq!(wanted.redraw(80), "\r\x1b[Knot connected");
        assert_eq!(wanted.redraw(4), "\r\x1b[Knot");
        wanted.texts = [None, None];
        assert_eq!(wanted.redraw(80), CLEAR);
    }
}
