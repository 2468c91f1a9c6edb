//! Which way the bare form goes: stdin decides, stdout never does.
//!
//! | stdin | |
//! |---|---|
//! | terminal, `/dev/null`, closed | read |
//! | pipe, file, socket | write |

use crate::harness::{Command, Home, In, Out};

const TEXT: &str = "some text\n";

/// Bare `skypipe NAME` with this stdin writes, whatever its stdout is.
fn writes(input: impl Fn(&Home) -> In, output: impl Fn(&Home) -> Out) {
    let home = Home::new();
    let done = home.skypipe(["x"]).stdin(input(&home)).stdout(output(&home)).run().exits(0);
    done.gave("").quietly();
    home.skypipe(["read", "x"]).ok().gave(TEXT);
}

/// Bare `skypipe NAME` with this stdin reads, whatever its stdout is.
fn reads(input: impl Fn(&Home) -> In, output: impl Fn(&Home) -> Out) {
    let home = Home::new();
    home.skypipe(["write", "x", TEXT.trim_end()]).ok();
    let output = output(&home);
    let done = home.skypipe(["x"]).stdin(input(&home)).stdout(output.clone()).run();
    match output {
        Out::Closed => {
            // Nobody could get the bytes, so they are not taken.
            done.exits(141).quietly();
            home.skypipe(["read", "x"]).ok().gave(TEXT);
            return;
        }
        Out::File(path) => assert_eq!(std::fs::read_to_string(path).unwrap(), TEXT),
        Out::Terminal => assert_eq!(done.text().replace('\r', ""), TEXT),
        _ => assert_eq!(done.text(), TEXT),
    }
    done.exits(0).quietly();
    assert_eq!(home.stat("x").items, 0, "the item is taken");
}

fn terminal(_: &Home) -> In {
    In::Terminal
}
fn null(_: &Home) -> In {
    In::Null
}
fn closed(_: &Home) -> In {
    In::Closed
}
fn pipe(_: &Home) -> In {
    In::Pipe(TEXT.into())
}
fn socket(_: &Home) -> In {
    In::Socket(TEXT.into())
}
fn file(home: &Home) -> In {
    In::File(home.file("in", TEXT))
}

fn to_terminal(_: &Home) -> Out {
    Out::Terminal
}
fn to_pipe(_: &Home) -> Out {
    Out::Pipe
}
fn to_file(home: &Home) -> Out {
    Out::File(home.path("out"))
}
fn to_closed(_: &Home) -> Out {
    Out::Closed
}

macro_rules! cells {
    ($($test:ident: $input:ident $output:ident $direction:ident;)*) => {
        $(#[test] fn $test() { $direction($input, $output) })*
    };
}

cells! {
    stdin_terminal_stdout_terminal: terminal to_terminal reads;
    stdin_terminal_stdout_pipe: terminal to_pipe reads;
    stdin_terminal_stdout_file: terminal to_file reads;
    stdin_terminal_stdout_closed: terminal to_closed reads;
    stdin_null_stdout_terminal: null to_terminal reads;
    stdin_null_stdout_pipe: null to_pipe reads;
    stdin_null_stdout_file: null to_file reads;
    stdin_null_stdout_closed: null to_closed reads;
    stdin_closed_stdout_terminal: closed to_terminal reads;
    stdin_closed_stdout_pipe: closed to_pipe reads;
    stdin_closed_stdout_file: closed to_file reads;
    stdin_closed_stdout_closed: closed to_closed reads;
    stdin_pipe_stdout_terminal: pipe to_terminal writes;
    stdin_pipe_stdout_pipe: pipe to_pipe writes;
    stdin_pipe_stdout_file: pipe to_file writes;
    stdin_pipe_stdout_closed: pipe to_closed writes;
    stdin_file_stdout_terminal: file to_terminal writes;
    stdin_file_stdout_pipe: file to_pipe writes;
    stdin_file_stdout_file: file to_file writes;
    stdin_file_stdout_closed: file to_closed writes;
    stdin_socket_stdout_terminal: socket to_terminal writes;
    stdin_socket_stdout_pipe: socket to_pipe writes;
    stdin_socket_stdout_file: socket to_file writes;
    stdin_socket_stdout_closed: socket to_closed writes;
}

/// What cron and `ssh`, also `-n`, give a command as stdin: a pipe or socket that is at its end.
#[track_caller]
fn stores_nothing(home: &Home, command: Command) {
    command.run().exits(2).gave("").fails_with("E_USAGE").says("skypipe read x").says("skypipe write x");
    assert_eq!(home.stat("x").items, 0);
}

#[test]
fn an_empty_pipe_stores_nothing() {
    let home = Home::new();
    stores_nothing(&home, home.skypipe(["x"]).stdin(In::Pipe(vec![])));
}

#[test]
fn an_empty_socket_stores_nothing() {
    let home = Home::new();
    stores_nothing(&home, home.skypipe(["x"]).stdin(In::Socket(vec![])));
}

#[test]
fn an_empty_pipe_ends_no_reader() {
    let home = Home::new();
    let reader = home.live_reader("x");
    home.skypipe(["x"]).stdin(In::Pipe(vec![])).run().exits(2);
    home.skypipe(["write", "x", "later"]).ok();
    reader.wait().exits(0).gave("later\n");
}

#[test]
fn an_empty_file_is_an_empty_item() {
    let home = Home::new();
    home.skypipe(["x"]).stdin(In::File(home.file("empty", ""))).ok().quietly();
    assert_eq!(home.stat("x").ended, 1);
    home.skypipe(["read", "x"]).ok().gave("").quietly();
}

#[test]
fn write_takes_an_empty_pipe_as_an_empty_item() {
    let home = Home::new();
    home.skypipe(["write", "x"]).stdin(In::Pipe(vec![])).ok().quietly();
    assert_eq!(home.stat("x").ended, 1);
}

#[test]
fn read_never_touches_stdin() {
    let home = Home::new();
    home.store("x", "1\n");
    home.store("x", "2\n");
    home.store("x", "3\n");
    // If `read` took a byte of stdin, the loop would see less than three words.
    let script = "printf 'a\\nb\\nc\\n' | while read word; do echo $word; skypipe read x; done";
    home.sh(script).ok().gave("a\n1\nb\n2\nc\n3\n");
}

#[test]
fn write_with_text_never_touches_stdin() {
    let home = Home::new();
    let script = "printf 'a\\nb\\nc\\n' | while read word; do skypipe write x \"$word\" || exit 1; done";
    home.sh(script).ok().gave("");
    home.sh("skypipe read x; skypipe read x; skypipe read x").ok().gave("a\nb\nc\n");
}

#[test]
fn read_reads_whatever_stdin_is() {
    for input in [In::Pipe(b"not this\n".to_vec()), In::Socket(vec![]), In::Closed, In::Terminal, In::Null] {
        let home = Home::new();
        home.store("x", TEXT);
        home.skypipe(["read", "x"]).stdin(input).ok().gave(TEXT);
    }
}

#[test]
fn write_writes_whatever_stdin_is() {
    for input in [In::Null, In::Closed] {
        let home = Home::new();
        home.skypipe(["write", "x"]).stdin(input).ok().gave("");
        assert_eq!(home.stat("x").ended, 1);
    }
}

#[test]
fn each_text_is_a_record_with_a_newline() {
    let home = Home::new();
    home.skypipe(["write", "x", "one", "two words", ""]).ok().quietly();
    home.skypipe(["read", "x"]).ok().gave("one\ntwo words\n\n");
}

#[test]
fn text_ends_with_nul_or_nothing_where_asked() {
    let home = Home::new();
    home.skypipe(["write", "-0", "x", "one", "two"]).ok();
    home.skypipe(["read", "x"]).ok().gave("one\0two\0");
    home.skypipe(["write", "--item", "x", "one"]).ok();
    home.skypipe(["read", "x"]).ok().gave("one");
}

#[test]
fn options_stand_before_or_behind_the_name() {
    let home = Home::new();
    for arguments in [["-n", "1", "x"], ["x", "-n", "1"]] {
        home.store("x", "one\ntwo\n");
        home.skypipe(arguments).stdin(In::Terminal).ok().gave("one\n");
        home.skypipe(["x"]).stdin(In::Terminal).ok().gave("two\n");
    }
}

#[test]
fn no_name_is_the_default_pipe() {
    let home = Home::new();
    home.skypipe::<&str>([]).stdin(In::Pipe(TEXT.into())).ok();
    home.skypipe(["read", "default"]).ok().gave(TEXT);
}
