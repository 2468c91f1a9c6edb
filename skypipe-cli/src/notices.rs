//! What a session has to say, as lines on stderr.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use skypipe_core::{Code, EndKind, Event, Events, Notice, PipePath};

use crate::escape;
use crate::exit::say;
use crate::status::{self, Slot};

/// Away from a terminal a lost connection is worth a line only when it lasts.
const SAY_AWAY_AFTER: Duration = Duration::from_secs(60);
/// On a terminal the line counts seconds.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Whether a writer waits for room now, and for which: `E_NO_SPACE` or `E_QUOTA`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room(Arc<Mutex<Option<Code>>>);

impl Room {
    /// What the writer waits for, if it waits.
    pub(crate) fn waits_for(&self) -> Option<Code> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: &Event) {
        let waits = match event {
            Event::Notice(Notice::WaitsForRoom { code, .. }) => Some(*code),
            Event::Notice(Notice::HasRoom) => None,
            _ => return,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = waits;
    }
}

/// Says each event that people want to know.
pub(crate) fn events() -> Events {
    events_of_writer(Room::default())
}

/// The same, and keeps in `room` whether the writer waits for room.
pub(crate) fn events_of_writer(room: Room) -> Events {
    let away = std::io::stderr().is_terminal().then(AwayLine::default);
    let lines = Lines { said_away: AtomicBool::new(false) };
    Arc::new(move |event| {
        room.note(&event);
        match &away {
            Some(away) if away.takes(&event) => {}
            _ => lines.line(&event).iter().for_each(|line| say(line)),
        }
    })
}

/// On a terminal a lost connection is one line that counts, and goes when the connection is back.
#[derive(Default)]
struct AwayLine(Mutex<Option<tokio::task::JoinHandle<()>>>);

impl AwayLine {
    /// Whether the event was about the connection, and is shown.
    fn takes(&self, event: &Event) -> bool {
        match event {
            Event::NotConnected { away, reason } => self.put(Some(tokio::spawn(count(*away, reason.clone())))),
            Event::Connected { .. } => self.put(None),
            _ => return false,
        }
        true
    }

    fn put(&self, counting: Option<tokio::task::JoinHandle<()>>) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = std::mem::replace(&mut *shown, counting) {
            before.abort();
        }
        if shown.is_none() {
            status::set(Slot::Away, None);
        }
    }
}

impl Drop for AwayLine {
    /// The session is over, however that came.
    fn drop(&mut self) {
        self.put(None);
    }
}

/// Rewrites the line until it is stopped.
async fn count(away: Duration, reason: String) {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(COUNT_EVERY);
    loop {
        ticks.tick().await;
        status::set(Slot::Away, Some(&away_line(away + start.elapsed(), &reason)));
    }
}

fn away_line(away: Duration, reason: &str) -> String {
    format!("not connected for {} s, still trying: {reason}", away.as_secs())
}

/// A pipe in a line for people.
fn name(pipe: &PipePath) -> String {
    escape::line(&pipe.display())
}

/// Where nobody watches.
struct Lines {
    /// Whether a line said that the connection is lost: only then its return is told.
    said_away: AtomicBool,
}

impl Lines {
    fn line(&self, event: &Event) -> Option<String> {
        Some(match event {
            Event::Notice(notice) => return notice_line(notice),
            Event::ItemEnded { kind, alone, .. } => return end_line(*kind, *alone),
            Event::NotConnected { away, reason } => return self.away(*away, reason),
            Event::Connected { away } if self.said_away.swap(false, Ordering::Relaxed) => {
                format!("connected again after {} s", away.as_secs())
            }
            Event::NewItem { .. } => "the relay had given this writer up; it goes on with a new item".into(),
            Event::NewReader => "the relay had given this reader up; it goes on as a new one".into(),
            Event::Gap { from, to, .. } => {
                format!("{} records of one writer are gone, numbers {} to {}", to.0 - from.0, from.0, to.0 - 1)
            }
            Event::Missing { pipe, records: 1, .. } => {
                format!("1 record is gone that was owed to this reader of {} (E_GAP)", name(pipe))
            }
            Event::Missing { pipe, records, .. } => {
                format!("{records} records are gone that were owed to this reader of {} (E_GAP)", name(pipe))
            }
            Event::LeaseLost { .. } => {
                "a record was another reader's by the time it was done with (E_LEASE_LOST)".into()
            }
            _ => return None,
        })
    }

    fn away(&self, away: Duration, reason: &str) -> Option<String> {
        if away < SAY_AWAY_AFTER {
            return None;
        }
        // One line for each time away, whatever the session tells later.
        let said = self.said_away.swap(true, Ordering::Relaxed);
        (!said).then(|| away_line(away, reason))
    }
}

fn notice_line(notice: &Notice) -> Option<String> {
    Some(match notice {
        Notice::Middle { .. } => "this reads from the middle of an item".into(),
        Notice::SecondWriter => "more than one writer writes here now".into(),
        Notice::WaitsForRoom { text, .. } => format!("waiting for room: {text}"),
        Notice::HasRoom => "there is room again".into(),
        Notice::Other(text) => text.clone(),
        // The session tells the same as an event of its own.
        _ => return None,
    })
}

fn end_line(kind: EndKind, alone: bool) -> Option<String> {
    match (kind, alone) {
        (EndKind::Aborted, _) => Some("an item is incomplete: its writer vanished (E_INCOMPLETE)".into()),
        (EndKind::Interrupted, true) => {
            Some("the item is incomplete: its writer was interrupted (E_INCOMPLETE)".into())
        }
        (EndKind::Interrupted, false) => Some("a writer was interrupted; all it sent is here".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use skypipe_core::SessionId;

    use super::*;

    fn lines() -> Lines {
        Lines { said_away: AtomicBool::new(false) }
    }

    fn away(seconds: u64) -> Event {
        Event::NotConnected { away: Duration::from_secs(seconds), reason: "gone".into() }
    }

    #[test]
    fn a_lost_connection_is_one_line() {
        let elsewhere = lines();
        assert!(elsewhere.line(&away(2)).is_none());
        assert!(elsewhere.line(&Event::Connected { away: Duration::from_secs(3) }).is_none());
        assert!(elsewhere.line(&away(60)).is_some() && elsewhere.line(&away(61)).is_none());
        assert!(elsewhere.line(&Event::Connected { away: Duration::from_secs(61) }).is_some());
    }

    #[test]
    fn ends_that_are_whole_say_nothing() {
        let end = |kind, alone| lines().line(&Event::ItemEnded { writer: SessionId([0; 16]), kind, alone });
        assert!(end(EndKind::Finished, true).is_none());
        assert!(end(EndKind::Aborted, false).is_some_and(|l| l.contains("E_INCOMPLETE")));
        assert!(end(EndKind::Interrupted, true).is_some_and(|l| l.contains("E_INCOMPLETE")));
        assert!(end(EndKind::Interrupted, false).is_some_and(|l| !l.contains("E_INCOMPLETE")));
    }
}
