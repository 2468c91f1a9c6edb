//! Text from elsewhere on a terminal: records, names, and what a relay says. Nothing of it moves the cursor, retitles a window, fills the clipboard
//! or turns a line around.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use skypipe_core::wire::constants::{HEADER_BYTES, kind};
use skypipe_core::wire::{Answer, Hello, Message, Outbox, SoftwareVersion};
use skypipe_core::{Code, Features, ListPage, Mode, PipePath, PipeStat};

use crate::harness::{Home, Out};

/// What terminals act upon, and what looks like it.
const SEQUENCES: [&[u8]; 20] = [
    b"\x1b[2J",
    b"\x1b[31m",
    b"\x1b]0;title\x07",
    b"\x1b]52;c;cm0gLXJmIH4=\x07",
    b"\x1b]8;;http://evil.example\x1b\\",
    b"\x1bP$q\x1b\\",
    b"\x1b[6n",
    b"\x1bc",
    b"\r",
    b"\x08\x08\x08",
    b"\x07",
    b"\x0b\x0c",
    b"\x7f",
    b"\x00",
    // C1: as characters, and as bytes.
    b"\xc2\x9b2J",
    b"\xc2\x9d0;title\xc2\x9c",
    b"\x9b2J",
    b"\x85\x90\x9d",
    // Bidirectional controls.
    b"\xe2\x80\xaegnp.exe",
    b"\xe2\x81\xa6\xd8\x9c\xe2\x81\xa9",
];

/// 200 of them: each alone, in pairs, torn, and among letters.
fn payloads() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = SEQUENCES.iter().map(|s| s.to_vec()).collect();
    for (at, first) in SEQUENCES.iter().enumerate() {
        for step in 1..=9 {
            let second = SEQUENCES[(at + step) % SEQUENCES.len()];
            all.push(match step % 3 {
                0 => [first, second].concat(),
                1 => [b"caf\xc3\xa9 ", *first, b" \xf0\x9f\x90\xa7 ", second].concat(),
                _ => [&first[..first.len().div_ceil(2)], second, b"tail"].concat(),
            });
        }
    }
    all
}

/// What a terminal got. It puts a CR before each newline by itself.
#[track_caller]
fn is_harmless(shown: &[u8], what: &str) {
    let text = std::str::from_utf8(shown).unwrap_or_else(|e| panic!("{what}: {e}: {shown:?}")).replace("\r\n", "\n");
    let acts = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let found: Vec<char> = text.chars().filter(|c| acts(*c)).collect();
    assert!(found.is_empty(), "{what}: {found:?} in {text:?}");
}

#[test]
fn there_are_200() {
    let all = payloads();
    assert_eq!(all.len(), 200);
    assert!(all.iter().all(|p| p.iter().any(|b| *b < 0x20 || *b >= 0x7f)), "each has something to act upon");
}

#[test]
fn records_are_written_out() {
    let home = Home::new();
    let lines: Vec<Vec<u8>> = payloads().into_iter().map(|p| [&p[..], b"\n"].concat()).collect();
    home.store("x", lines.concat());
    let peeked = home.skypipe(["peek", "x"]).stdout(Out::Terminal).ok();
    is_harmless(&peeked.stdout, "peek");
    let done = home.skypipe(["read", "x"]).stdout(Out::Terminal).ok();
    is_harmless(&done.stdout, "read");
    assert_eq!(done.text().lines().count(), lines.len(), "a record stays a line");
    home.store("x", lines.concat());
    home.skypipe(["read", "x"]).ok().gave(lines.concat());
}

#[test]
fn what_was_typed_is_written_out() {
    let home = Home::new();
    // Each starts a process: every tenth will do, and every sequence alone.
    for payload in payloads().iter().take(20).chain(payloads().iter().skip(20).step_by(10)) {
        let Ok(text) = std::str::from_utf8(payload) else { continue };
        if text.contains('\0') {
            continue;
        }
        for arguments in [vec!["stat", text], vec!["--relay", text, "ls"], vec!["join", text], vec![text, "x", "y"]] {
            let done = home.skypipe(arguments.clone()).stderr_at_terminal().run();
            is_harmless(done.stderr.as_bytes(), &format!("{arguments:?}"));
        }
    }
}

#[test]
fn what_a_relay_says_is_written_out() {
    let home = Home::new();
    let relay = Relay::start(&home);
    for payload in payloads() {
        relay.refuses_with(&payload);
    }
    for _ in payloads() {
        let done = home.skypipe(["--relay", &relay.url, "stat", "x"]).stderr_at_terminal().run().exits(3);
        is_harmless(done.stderr.as_bytes(), "a refusal");
        assert!(done.stderr.contains("E_ACCESS"), "{}", done.stderr);
    }
}

#[test]
fn names_that_a_relay_lists_are_written_out() {
    let home = Home::new();
    let relay = Relay::start(&home);
    for arguments in [&["ls"][..], &["ls", "--json"], &["stat", "x"], &["stat", "--json", "x"]] {
        relay.has_pipes_named(payloads(), arguments[0] == "stat");
        let arguments = [&["--relay", &relay.url][..], arguments].concat();
        let done = home.skypipe(arguments.clone()).stdout(Out::Terminal).ok();
        is_harmless(&done.stdout, &format!("{arguments:?}"));
    }
}

/// A relay that answers each request with what it was told, one after the other.
struct Relay {
    url: String,
    answers: std::sync::mpsc::Sender<Vec<u8>>,
}

impl Relay {
    fn start(home: &Home) -> Self {
        let path = home.path("hostile.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (answers, next) = std::sync::mpsc::channel::<Vec<u8>>();
        // It ends with the test: nobody gives it answers then.
        thread::spawn(move || {
            for (stream, answer) in listener.incoming().zip(next) {
                let _ = serve(stream.unwrap(), &answer);
            }
        });
        Self { url: format!("unix:{}", path.display()), answers }
    }

    fn refuses_with(&self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let mut payload = (Code::Access as u16).to_le_bytes().to_vec();
        payload.extend_from_slice(&(text.len() as u16).to_le_bytes());
        payload.extend_from_slice(text.as_bytes());
        let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
        frame.extend_from_slice(&[kind::REFUSED, 0, 0, 0]);
        frame.extend_from_slice(&payload);
        self.answers.send(frame).unwrap();
    }

    fn has_pipes_named(&self, names: Vec<Vec<u8>>, is_stat: bool) {
        let stat = |name: &Vec<u8>| PipeStat::empty(PipePath::from_segments([&name[..]]), Mode::Default);
        let answer = match is_stat {
            true => Answer::Stat(PipeStat::empty(
                PipePath::from_segments(names.iter().take(20).map(|n| &n[..])),
                Mode::Default,
            )),
            false => Answer::Page(ListPage { pipes: names.iter().map(stat).collect(), more: false }),
        };
        self.answers.send(bytes_of(answer)).unwrap();
    }
}

fn serve(mut stream: UnixStream, answer: &[u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // Hello and request come in one flight; what is in them does not matter.
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header)?;
    stream.write_all(&bytes_of(Hello::new(SoftwareVersion::CURRENT, Features::default())))?;
    stream.write_all(answer)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).map(drop)
}

fn bytes_of(message: impl Message) -> Vec<u8> {
    let mut outbox = Outbox::new();
    outbox.push(message.into_frame()).unwrap();
    outbox.to_vec()
}
