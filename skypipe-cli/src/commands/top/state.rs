//! What `top` knows and shows: an event in, what is to be done out. No terminal, no relay, no clock.

use std::cmp::Ordering;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use skypipe_core::{Error, Owner, PipePath, PipeStat};

use crate::escape;
use crate::pipe_line::{PipeLine, ReaderLine};
use crate::rates::{LastLooks, Rates};

/// Longest filter: names are not longer.
const FILTER_CHARS_MAX: usize = 240;
/// Rows that a page key goes.
const PAGE_ROWS: usize = 10;

/// Something happened.
#[derive(Debug)]
pub(super) enum Event {
    /// A look at the relay.
    Looked(Look),
    /// The relay could not be asked; it is tried again.
    Away(Error),
    /// That cannot pass.
    Failed(Error),
    /// A key was pressed.
    Key(Key),
    /// The screen has another size.
    Resized,
}

/// What the relay said.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Pipes.
    pub(super) pipes: Vec<PipeStat>,
    /// There are more.
    pub(super) more: bool,
    /// The pipe that is open, with its readers; none if it is gone.
    pub(super) open: Option<PipeStat>,
}

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A character.
    Char(char),
    /// Down the list, or up: so many rows.
    Move(isize),
    /// To one end of the list.
    First,
    /// To the other.
    Last,
    /// Enter.
    Enter,
    /// One character back.
    Backspace,
    /// Out of what is open, or out of it all.
    Escape,
    /// Ctrl-C.
    Interrupt,
}

impl Key {
    /// What this key means, if anything.
    pub(super) fn of(pressed: &KeyEvent) -> Option<Self> {
        if pressed.kind == KeyEventKind::Release {
            return None;
        }
        let with_control = pressed.modifiers.contains(KeyModifiers::CONTROL);
        let page = PAGE_ROWS as isize;
        Some(match pressed.code {
            KeyCode::Char('c' | 'd') if with_control => Self::Interrupt,
            KeyCode::Char(_) if with_control || pressed.modifiers.contains(KeyModifiers::ALT) => return None,
            KeyCode::Char(c) => Self::Char(c),
            KeyCode::Down => Self::Move(1),
            KeyCode::Up => Self::Move(-1),
            KeyCode::PageDown => Self::Move(page),
            KeyCode::PageUp => Self::Move(-page),
            KeyCode::Home => Self::First,
            KeyCode::End => Self::Last,
            KeyCode::Enter => Self::Enter,
            KeyCode::Backspace => Self::Backspace,
            KeyCode::Esc => Self::Escape,
            _ => return None,
        })
    }
}

/// What the driver does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Draw.
    Draw,
    /// End.
    Leave,
}

/// Which pipes come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Those through which most records go; of the others those in which most waits.
    #[default]
    Rate,
    /// Those in which most waits.
    Waiting,
    /// Those with the reader that is furthest behind.
    Lag,
    /// By their names.
    Name,
}

impl Order {
    /// What it is called.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Waiting => "waiting",
            Self::Lag => "lag",
            Self::Name => "name",
        }
    }

    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let rate = |row: &Row| row.rates.map_or(0.0, |rates| rates.records());
        let waiting = |row: &Row| (row.line.items, row.line.bytes);
        let first = match self {
            Self::Rate => rate(b).total_cmp(&rate(a)).then_with(|| waiting(b).cmp(&waiting(a))),
            Self::Waiting => waiting(b).cmp(&waiting(a)),
            Self::Lag => (b.line.lag, b.line.leased).cmp(&(a.line.lag, a.line.leased)),
            Self::Name => Ordering::Equal,
        };
        first.then_with(|| a.path.cmp(&b.path))
    }
}

/// A pipe on the screen.
#[derive(Debug)]
pub(super) struct Row {
    /// Which one.
    pub(super) path: PipePath,
    /// Its figures, the name made harmless.
    pub(super) line: PipeLine,
    /// How fast it is; not known after the first look.
    pub(super) rates: Option<Rates>,
}

/// What is typed and shown below the list.
#[derive(Debug, Default)]
pub(super) enum Below {
    /// The keys there are.
    #[default]
    Keys,
    /// The filter is being typed.
    Filter,
}

/// The readers of one pipe.
#[derive(Debug)]
pub(super) struct Opened {
    path: PipePath,
    /// None before the first look at it, and of a pipe that is gone.
    pub(super) pipe: Option<PipeLine>,
    /// What it is called, made harmless.
    pub(super) name: String,
    /// The relay said that it is gone.
    pub(super) is_gone: bool,
}

/// All that `top` knows.
pub(super) struct Top {
    owner: Owner,
    looks: LastLooks,
    /// All pipes, in order.
    rows: Vec<Row>,
    /// Which of them match the filter.
    matching: Vec<usize>,
    /// There are more than were looked at.
    pub(super) more: bool,
    pub(super) order: Order,
    pub(super) filter: String,
    pub(super) below: Below,
    /// The pipe on which the cursor stands: it stays there when the order changes. None is the first one.
    chosen: Option<PipePath>,
    pub(super) opened: Option<Opened>,
    /// Why there was no look lately.
    pub(super) away: Option<String>,
}

impl Top {
    /// Nothing was seen yet of the pipes of `owner`.
    pub(super) fn new(owner: Owner) -> Self {
        Self {
            owner,
            looks: LastLooks::default(),
            rows: Vec::new(),
            matching: Vec::new(),
            more: false,
            order: Order::default(),
            filter: String::new(),
            below: Below::default(),
            chosen: None,
            opened: None,
            away: None,
        }
    }

    /// Takes in what happened.
    ///
    /// # Errors
    /// What ends it all.
    pub(super) fn happens(&mut self, event: Event) -> Result<Then, Error> {
        match event {
            Event::Looked(look) => self.looked(look),
            Event::Away(error) => self.away = Some(escape::line(&error.to_string())),
            Event::Failed(error) => return Err(error),
            Event::Key(key) => return Ok(self.pressed(key)),
            Event::Resized => {}
        }
        Ok(Then::Draw)
    }

    /// The rows that match the filter, in order.
    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = &Row> {
        self.matching.iter().map(|at| &self.rows[*at])
    }

    /// How many pipes there are in all.
    pub(super) fn count(&self) -> usize {
        self.rows.len()
    }

    /// All rates together; none before the second look.
    pub(super) fn total(&self) -> Option<Rates> {
        self.rows.iter().filter_map(|row| row.rates).reduce(|a, b| Rates {
            records_in: a.records_in + b.records_in,
            bytes_in: a.bytes_in + b.bytes_in,
            records_out: a.records_out + b.records_out,
            bytes_out: a.bytes_out + b.bytes_out,
        })
    }

    /// The row on which the cursor stands.
    pub(super) fn cursor(&self) -> Option<usize> {
        let chosen = self.chosen.as_ref();
        let at = self.rows().position(|row| Some(&row.path) == chosen);
        at.or((!self.matching.is_empty()).then_some(0))
    }

    /// The pipe whose readers are to be looked at.
    pub(super) fn open(&self) -> Option<&PipePath> {
        self.opened.as_ref().map(|opened| &opened.path)
    }

    /// The readers of the pipe that is open.
    pub(super) fn readers(&self) -> &[ReaderLine] {
        let pipe = self.opened.as_ref().and_then(|opened| opened.pipe.as_ref());
        pipe.and_then(|pipe| pipe.reader_list.as_deref()).unwrap_or_default()
    }

    fn looked(&mut self, look: Look) {
        self.away = None;
        self.more = look.more;
        self.looks.begin();
        self.rows.clear();
        for stat in look.pipes {
            let mut line = PipeLine::new(&self.owner, &stat);
            line.name = escape::line(&line.name);
            let rates = self.looks.look(&stat);
            self.rows.push(Row { path: stat.path, line, rates });
        }
        if let Some(opened) = &mut self.opened {
            match look.open {
                Some(stat) if stat.path == opened.path => {
                    (opened.pipe, opened.is_gone) = (Some(PipeLine::with_readers(&self.owner, &stat)), false);
                }
                // This look began before the pipe was opened.
                Some(_) => {}
                None => opened.is_gone = opened.pipe.take().is_some() || opened.is_gone,
            }
        }
        self.arrange();
    }

    /// Sorts and filters anew.
    fn arrange(&mut self) {
        let order = self.order;
        self.rows.sort_by(|a, b| order.compare(a, b));
        let filter = self.filter.to_lowercase();
        let matches = |row: &Row| filter.is_empty() || row.line.name.to_lowercase().contains(&filter);
        self.matching = (0..self.rows.len()).filter(|at| matches(&self.rows[*at])).collect();
    }

    fn pressed(&mut self, key: Key) -> Then {
        if key == Key::Interrupt {
            return Then::Leave;
        }
        match self.below {
            Below::Filter => self.type_filter(key),
            Below::Keys => return self.command(key),
        }
        Then::Draw
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Char(c) if self.filter.chars().count() < FILTER_CHARS_MAX => self.filter.push(c),
            Key::Backspace => drop(self.filter.pop()),
            Key::Enter => self.below = Below::Keys,
            Key::Escape => {
                self.filter.clear();
                self.below = Below::Keys;
            }
            Key::Move(_) | Key::First | Key::Last => self.go(key),
            Key::Char(_) | Key::Interrupt => {}
        }
        self.arrange();
    }

    fn command(&mut self, key: Key) -> Then {
        match key {
            Key::Char('q') => return Then::Leave,
            Key::Escape if self.opened.is_some() => self.opened = None,
            Key::Escape if !self.filter.is_empty() => self.filter.clear(),
            Key::Escape => return Then::Leave,
            Key::Char('r') => self.order = Order::Rate,
            Key::Char('w') => self.order = Order::Waiting,
            Key::Char('l') => self.order = Order::Lag,
            Key::Char('n') => self.order = Order::Name,
            Key::Char('/') => self.below = Below::Filter,
            Key::Char('j') => self.go(Key::Move(1)),
            Key::Char('k') => self.go(Key::Move(-1)),
            Key::Enter => self.open_chosen(),
            key => self.go(key),
        }
        self.arrange();
        Then::Draw
    }

    fn go(&mut self, key: Key) {
        let (Some(at), Some(last)) = (self.cursor(), self.matching.len().checked_sub(1)) else { return };
        let to = match key {
            Key::Move(rows) => at.saturating_add_signed(rows).min(last),
            Key::First => 0,
            Key::Last => last,
            _ => return,
        };
        let chosen = self.rows().nth(to).map(|row| row.path.clone());
        self.chosen = chosen;
    }

    /// Opens the pipe at the cursor, or closes it when it is open.
    fn open_chosen(&mut self) {
        let Some(row) = self.cursor().and_then(|at| self.rows().nth(at)) else { return };
        let (path, name) = (row.path.clone(), row.line.name.clone());
        let is_open = self.open() == Some(&path);
        self.chosen = Some(path.clone());
        self.opened = (!is_open).then_some(Opened { path, pipe: None, name, is_gone: false });
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use skypipe_core::{Amount, Code, Lag, Mode, PipeName, Presence, ReaderStat, Traffic, WallTime};

    use super::*;

    /// A pipe that `records` went into by second `at`.
    pub(in super::super) fn pipe(name: &str, at: u64, records: u64) -> PipeStat {
        let mut stat = PipeStat::empty(PipeName::new(name).unwrap().path(), Mode::Queue);
        let written = Amount { records, bytes: records * 100 };
        stat.traffic =
            Traffic { since: WallTime(1), counted: Duration::from_secs(at), written, read: Amount::default() };
        stat
    }

    pub(in super::super) fn looked(pipes: Vec<PipeStat>) -> Event {
        Event::Looked(Look { pipes, ..Look::default() })
    }

    /// Three pipes after two looks: `fast` has a rate, much waits in `full`, `late` has a reader behind.
    pub(in super::super) fn three() -> Top {
        let mut top = Top::new(Owner::SELF);
        for at in [1, 2] {
            let fast = pipe("fast", at, at * 50);
            let mut full = pipe("full", at, 9);
            (full.items, full.bytes) = (1000, 5);
            let mut late = pipe("late", at, 9);
            (late.lag, late.mode) = (Lag { records: 70, bytes: Some(7000) }, Mode::Broadcast);
            top.happens(looked(vec![fast, full, late])).unwrap();
        }
        top
    }

    fn names(top: &Top) -> Vec<&str> {
        top.rows().map(|row| row.line.name.as_str()).collect()
    }

    pub(in super::super) fn press(top: &mut Top, keys: &str) -> Then {
        let mut then = Then::Draw;
        for c in keys.chars() {
            let key = match c {
                '\n' => Key::Enter,
                '\u{1b}' => Key::Escape,
                '\u{8}' => Key::Backspace,
                c => Key::Char(c),
            };
            then = top.happens(Event::Key(key)).unwrap();
        }
        then
    }

    #[test]
    fn what_matters_comes_first() {
        let mut top = three();
        assert_eq!(names(&top), ["fast", "full", "late"]);
        assert_eq!(top.total().unwrap().records_in, 50.0);
        for (key, first) in [("w", "full"), ("l", "late"), ("n", "fast"), ("r", "fast")] {
            press(&mut top, key);
            assert_eq!(names(&top)[0], first, "{key}");
        }
    }

    #[test]
    fn the_cursor_stays_with_its_pipe() {
        let mut top = three();
        press(&mut top, "j");
        assert_eq!(top.cursor(), Some(1));
        press(&mut top, "w");
        assert_eq!((top.cursor(), names(&top)[0]), (Some(0), "full"));
        top.happens(Event::Key(Key::Last)).unwrap();
        assert_eq!(top.cursor(), Some(2));
        top.happens(Event::Key(Key::Move(PAGE_ROWS as isize))).unwrap();
        assert_eq!(top.cursor(), Some(2), "there is no further");
        top.happens(looked(vec![pipe("other", 3, 1)])).unwrap();
        assert_eq!(top.cursor(), Some(0), "its pipe is gone");
        top.happens(looked(Vec::new())).unwrap();
        assert_eq!(top.cursor(), None);
        press(&mut top, "jk\n");
        assert!(top.open().is_none(), "there is nothing to open");
    }

    #[test]
    fn a_filter_is_typed_and_taken_back() {
        let mut top = three();
        press(&mut top, "/LAq\u{8}");
        assert_eq!(
            (names(&top), top.filter.as_str()),
            (vec!["late"], "LA"),
            "letters are no commands while it is typed"
        );
        press(&mut top, "\n");
        assert_eq!(press(&mut top, "\u{1b}"), Then::Draw, "the first Esc takes the filter away");
        assert_eq!(names(&top).len(), 3);
        press(&mut top, "/zzz");
        assert_eq!((names(&top).len(), top.cursor()), (0, None));
        assert_eq!(press(&mut top, "\u{1b}"), Then::Draw);
        assert_eq!(press(&mut top, "\u{1b}"), Then::Leave);
    }

    #[test]
    fn keys_leave() {
        assert_eq!(press(&mut three(), "q"), Then::Leave);
        let mut typing = three();
        press(&mut typing, "/");
        assert_eq!(press(&mut typing, "q"), Then::Draw);
        assert_eq!(typing.happens(Event::Key(Key::Interrupt)).unwrap(), Then::Leave);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(Key::of(&control_c), Some(Key::Interrupt));
        assert_eq!(Key::of(&KeyEvent::new(KeyCode::Char('w'), KeyModifiers::ALT)), None);
    }

    #[test]
    fn a_pipe_is_opened_looked_at_and_closed() {
        let mut top = three();
        press(&mut top, "\n");
        assert_eq!(top.open(), Some(&pipe("fast", 1, 1).path));
        top.happens(looked(vec![pipe("fast", 3, 150)])).unwrap();
        assert!(!top.opened.as_ref().unwrap().is_gone, "the look began before it was opened");
        let mut open = pipe("fast", 3, 150);
        open.reader_list = vec![ReaderStat::new(Some(1), Presence::Away)];
        let look = Look { pipes: vec![pipe("fast", 4, 200)], more: false, open: Some(open) };
        top.happens(Event::Looked(look)).unwrap();
        assert_eq!(top.readers().len(), 1);
        top.happens(looked(Vec::new())).unwrap();
        assert!(top.opened.as_ref().unwrap().is_gone && top.readers().is_empty());
        assert_eq!(press(&mut top, "\u{1b}"), Then::Draw, "the first Esc closes it");
        assert!(top.open().is_none());
    }

    #[test]
    fn a_relay_that_is_away_is_said_until_it_is_back() {
        let mut top = three();
        top.happens(Event::Away(Error::new(Code::Unreachable, "no\u{1b}[2J relay"))).unwrap();
        assert!(top.away.as_ref().is_some_and(|text| !text.contains('\u{1b}')));
        assert_eq!(names(&top).len(), 3, "what was seen last stays");
        top.happens(looked(vec![pipe("fast", 1, 1)])).unwrap();
        assert!(top.away.is_none() && top.total().is_none(), "a relay that began anew has no rates yet");
        assert!(top.happens(Event::Failed(Error::new(Code::Pin, "x"))).is_err());
    }
}
