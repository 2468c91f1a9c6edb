//! What `top` looks like.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::state::{Below, Row as Pipe, Top};
use crate::progress::size;
use crate::rates::shown;

/// The list, its heading included, has at least so many rows when a pipe is open.
const LIST_ROWS_MIN: u16 = 4;
const KEYS: &str = "r rate  w waiting  l lag  n name  / filter  Enter readers  q quit";

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, top: &Top) {
    let area = frame.area();
    let opened_rows = match &top.opened {
        Some(_) => (top.readers().len() as u16).saturating_add(3).min(area.height.saturating_sub(LIST_ROWS_MIN + 2)),
        None => 0,
    };
    let parts = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(LIST_ROWS_MIN),
        Constraint::Length(opened_rows),
        Constraint::Length(1),
    ]);
    let [head, list, opened, foot] = parts.areas(area);
    frame.render_widget(Paragraph::new(head_line(top)).style(Modifier::BOLD), head);
    draw_list(frame, list, top);
    if top.opened.is_some() {
        draw_readers(frame, opened, top);
    }
    frame.render_widget(Paragraph::new(foot_line(top)).style(Modifier::DIM), foot);
}

fn head_line(top: &Top) -> String {
    if let Some(away) = &top.away {
        return format!("not connected: {away}");
    }
    let more = if top.more { "the first " } else { "" };
    let pipes = format!("{more}{} pipes, by {}", top.count(), top.order.word());
    match top.total() {
        Some(rates) => format!(
            "{pipes}   in {}/s {}/s   out {}/s {}/s",
            shown(rates.records_in),
            size(rates.bytes_in),
            shown(rates.records_out),
            size(rates.bytes_out)
        ),
        None => pipes,
    }
}

fn foot_line(top: &Top) -> String {
    match top.below {
        Below::Filter => format!("filter: {}_   Enter keeps it, Esc drops it", top.filter),
        Below::Keys if top.filter.is_empty() => KEYS.to_owned(),
        Below::Keys => format!("only names with {:?}; Esc shows all   {KEYS}", top.filter),
    }
}

/// A column of the list.
struct Column {
    heading: &'static str,
    width: u16,
    /// Where there is no room for all columns, those with high numbers go first.
    rank: u8,
    text: fn(&Pipe) -> String,
}

/// The columns behind the name, from left to right.
const COLUMNS: [Column; 9] = [
    Column { heading: "MODE", width: 9, rank: 5, text: |pipe| pipe.line.mode.to_owned() },
    Column { heading: "WAITING", width: 9, rank: 0, text: |pipe| pipe.line.items.to_string() },
    Column { heading: "LEASED", width: 6, rank: 4, text: |pipe| pipe.line.leased.to_string() },
    Column { heading: "LAG", width: 9, rank: 1, text: |pipe| pipe.line.lag.to_string() },
    Column { heading: "WRITERS", width: 7, rank: 7, text: |pipe| pipe.line.writers.to_string() },
    Column { heading: "READERS", width: 7, rank: 6, text: |pipe| pipe.line.readers.to_string() },
    Column { heading: "IN/S", width: 6, rank: 2, text: |pipe| rate(pipe.rates.map(|rates| rates.records_in)) },
    Column { heading: "OUT/S", width: 6, rank: 3, text: |pipe| rate(pipe.rates.map(|rates| rates.records_out)) },
    Column { heading: "BYTES", width: 10, rank: 8, text: |pipe| size(pipe.line.bytes as f64) },
];
/// The name has at least so many columns of the screen, before the others have any.
const NAME_WIDTH_MIN: u16 = 24;

fn rate(rate: Option<f64>) -> String {
    rate.map_or("-".to_owned(), shown)
}

/// The columns there is room for.
fn columns(width: u16) -> Vec<&'static Column> {
    let taken = |rank: u8| COLUMNS.iter().filter(|c| c.rank <= rank).map(|c| c.width + 1).sum::<u16>();
    COLUMNS.iter().filter(|column| NAME_WIDTH_MIN + taken(column.rank) <= width).collect()
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, top: &Top) {
    let columns = columns(area.width);
    let widths = columns.iter().map(|column| Constraint::Length(column.width));
    let widths = std::iter::once(Constraint::Fill(1)).chain(widths);
    let rows = top.rows().map(|pipe| {
        let trouble = if pipe.line.read_only || pipe.line.damaged { " !" } else { "" };
        let name = Cell::from(format!("{}{trouble}", pipe.line.name));
        Row::new(std::iter::once(name).chain(columns.iter().map(|column| right((column.text)(pipe)))))
    });
    let headings = std::iter::once(Cell::from("NAME")).chain(columns.iter().map(|column| right(column.heading)));
    let table = Table::new(rows, widths)
        .header(Row::new(headings).style(Modifier::UNDERLINED))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(top.cursor());
    frame.render_stateful_widget(table, area, &mut state);
}

fn draw_readers(frame: &mut Frame<'_>, area: Rect, top: &Top) {
    let Some(opened) = &top.opened else { return };
    let [title, list] = Layout::vertical([Constraint::Length(2), Constraint::Min(0)]).areas(area);
    let what = match &opened.pipe {
        Some(pipe) if pipe.mode == "queue" => format!(
            "{}: {} ready, {} in hands, {} wait for their time, {} released by lost readers",
            opened.name, pipe.ready, pipe.leased, pipe.delayed, pipe.released
        ),
        Some(pipe) => format!("{}: {} readers, {} writers", opened.name, pipe.readers, pipe.writers),
        None if opened.is_gone => format!("{}: gone", opened.name),
        None => format!("{}: …", opened.name),
    };
    let title_text = Text::from(vec![Line::default(), Line::from(what)]);
    frame.render_widget(Paragraph::new(title_text).style(Modifier::BOLD), title);
    let Some(pipe) = &opened.pipe else { return };
    let mut lines: Vec<Line<'_>> = Vec::new();
    let room = usize::from(list.height);
    let untold = pipe.readers_more.unwrap_or(0);
    let shown = if top.readers().len() + usize::from(untold > 0) > room { room.saturating_sub(1) } else { room };
    for reader in top.readers().iter().take(shown) {
        let (name, state) = (reader.shown_name(), reader.shown_state(pipe.mode));
        let presence = if reader.presence == "attached" { "" } else { reader.presence };
        lines.push(Line::from(format!("  {name:<24} {state:<32} {presence}")));
    }
    let hidden = top.readers().len().saturating_sub(shown) as u64 + u64::from(untold);
    if hidden > 0 {
        lines.push(Line::from(format!("  and {hidden} more")));
    }
    frame.render_widget(Paragraph::new(lines), list);
}

fn right<'a>(text: impl Into<Text<'a>>) -> Cell<'a> {
    Cell::from(text.into().alignment(Alignment::Right))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use skypipe_core::{Code, Error, Lag, Owner, PipePath, Presence, ReaderStat};

    use super::super::state::tests::{looked, pipe, press, three};
    use super::super::state::{Event, Look};
    use super::*;

    /// The screen as lines, blanks at their ends away.
    fn screen(top: &Top, columns: u16, rows: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, top)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..rows).map(line).collect()
    }

    #[test]
    fn it_shows_the_pipes_in_order_with_their_figures() {
        let shown = screen(&three(), 110, 7);
        assert_eq!(shown[0], "3 pipes, by rate   in 50/s 4.9 KiB/s   out 0/s 0 B/s");
        assert!(shown[1].starts_with("NAME") && shown[1].ends_with("BYTES"), "{shown:#?}");
        let words = |at: usize| shown[at].split_whitespace().collect::<Vec<_>>();
        assert_eq!(words(2), ["fast", "queue", "0", "0", "0", "0", "0", "50", "0", "0", "B"]);
        assert_eq!(words(3), ["full", "queue", "1000", "0", "0", "0", "0", "0", "0", "5", "B"]);
        assert_eq!(words(4), ["late", "broadcast", "0", "0", "70", "0", "0", "0", "0", "0", "B"]);
        assert_eq!(shown[6], KEYS);
    }

    #[test]
    fn it_shows_who_reads_a_pipe_that_is_open() {
        let mut top = three();
        press(&mut top, "w\n");
        let mut open = pipe("full", 2, 9);
        (open.ready, open.leased, open.released) = (900, 100, 3);
        let mut worker = ReaderStat::new(Some(0xc0ffee), Presence::Attached);
        worker.holds = 100;
        (open.reader_list, open.readers_more) = (vec![worker, ReaderStat::new(Some(1), Presence::Away)], 5);
        top.happens(Event::Looked(Look { pipes: vec![pipe("full", 3, 9)], more: true, open: Some(open) })).unwrap();
        let shown = screen(&top, 100, 16);
        let all = shown.join("\n");
        assert!(shown[0].starts_with("the first 1 pipes, by waiting"), "{all}");
        for part in [
            "full: 900 ready, 100 in hands, 0 wait for their time, 3 released by lost readers",
            "  00c0ffee                 100 in its hands",
            "  00000001                 0 in its hands                   away",
        ] {
            assert!(all.contains(part), "{part:?} is not in\n{all}");
        }
        assert!(all.contains("  and 5 more"), "{all}");
        assert!(
            screen(&top, 100, 10).join("\n").contains("  and 6 more"),
            "those for whom there is no room are counted too"
        );
    }

    #[test]
    fn the_cursor_is_seen_however_long_the_list_is() {
        let mut top = three();
        top.happens(looked((0..200).map(|n| pipe(&format!("p{n:03}"), 9, 9)).collect())).unwrap();
        top.happens(Event::Key(super::super::state::Key::Last)).unwrap();
        assert!(screen(&top, 90, 10).iter().any(|line| line.starts_with("p199")));
    }

    #[test]
    fn what_is_from_elsewhere_is_written_out() {
        let mut top = Top::new(Owner::SELF);
        let mut bad = pipe("x", 1, 1);
        bad.path = PipePath::from_segments([&b"\x1b[2J\xe2\x80\xaegnp"[..]]);
        let mut cursor = ReaderStat::new(None, Presence::Nobody);
        (cursor.cursor, cursor.lag) = (Some("a\u{1b}b".into()), Lag { records: 1, bytes: Some(2) });
        let mut open = bad.clone();
        (open.mode, open.reader_list) = (skypipe_core::Mode::Broadcast, vec![cursor]);
        top.happens(looked(vec![bad.clone()])).unwrap();
        press(&mut top, "\n");
        top.happens(Event::Looked(Look { pipes: vec![bad], more: false, open: Some(open) })).unwrap();
        let all = screen(&top, 120, 12).join("\n");
        assert!(all.contains("\\u{1b}[2J\\u{202e}gnp") && all.contains("--as a\\u{1b}b"), "{all}");
        assert!(!all.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'));
        top.happens(Event::Away(Error::new(Code::Unreachable, "gone\u{7}"))).unwrap();
        let head = &screen(&top, 120, 12)[0];
        assert!(head.starts_with("not connected: ") && head.contains("gone\\u{7}"), "{head}");
    }

    #[test]
    fn a_narrow_screen_shows_what_matters_most() {
        let heading = |width| screen(&three(), width, 5).swap_remove(1);
        assert_eq!(heading(40).split_whitespace().collect::<Vec<_>>(), ["NAME", "WAITING"]);
        let usual = heading(80);
        assert_eq!(usual.split_whitespace().count(), 7, "{usual}");
        assert!(usual.starts_with("NAME") && usual.contains("MODE") && usual.ends_with("OUT/S"), "{usual}");
        assert!(heading(110).ends_with("BYTES"));
    }

    #[test]
    fn no_screen_is_too_small() {
        let mut top = three();
        press(&mut top, "\n/fa");
        for (columns, rows) in [(1, 1), (5, 2), (20, 4), (300, 3)] {
            screen(&top, columns, rows);
        }
    }
}
