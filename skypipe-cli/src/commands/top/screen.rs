//! The terminal that `top` draws on: taken whole, and given back as it was, however the command ends.

use std::io;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event as Input};
use skypipe_core::{Code, Error};
use tokio::sync::mpsc;

use super::state::{Event, Key, Top};
use super::view;

/// The screen, until it is dropped.
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal. Keys are read on a thread, which waits for the next one until the process ends: a read of a terminal cannot be called off.
    pub(super) fn take(events: mpsc::Sender<Event>) -> Result<Self, Error> {
        // With it comes a hook that gives the terminal back before a panic is told.
        let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore()).map_err(|e| failed(&e))?;
        let screen = Self { terminal };
        let keys = std::thread::Builder::new().name("keys".into());
        keys.spawn(move || read_keys(&events)).map_err(|e| failed(&e))?;
        Ok(screen)
    }

    /// Draws what there is to see now.
    pub(super) fn draw(&mut self, top: &Top) -> Result<(), Error> {
        self.terminal.draw(|frame| view::draw(frame, top)).map(drop).map_err(|e| failed(&e))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = ratatui::try_restore();
    }
}

fn read_keys(events: &mpsc::Sender<Event>) {
    loop {
        let event = match event::read() {
            Ok(Input::Key(pressed)) => Key::of(&pressed).map(Event::Key),
            Ok(Input::Resize(..)) => Some(Event::Resized),
            Ok(_) => None,
            Err(error) => Some(Event::Failed(failed(&error))),
        };
        let is_over = matches!(event, Some(Event::Failed(_)));
        if event.is_some_and(|event| events.blocking_send(event).is_err()) || is_over {
            return;
        }
    }
}

fn failed(error: &io::Error) -> Error {
    Error::new(Code::Internal, format!("the terminal cannot be used: {error}"))
}
