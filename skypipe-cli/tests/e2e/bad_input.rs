//! Bad input: one clear line on stderr, the documented exit code, nothing lost.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use skypipe_core::Code;

use crate::harness::{Home, In};

/// Each test that the table in `docs/promises.md` names exists.
#[test]
fn the_page_names_tests_that_exist() {
    let page = include_str!("../../../docs/promises.md");
    let table = page.split("| bad input | answer | tests |").nth(1).unwrap().split("\n## ").next().unwrap();
    let named: Vec<(&str, &str)> = table.split('`').filter_map(|word| word.split_once(".rs::")).collect();
    assert!(named.len() > 50, "only {} tests are named", named.len());
    let mut sources = Vec::new();
    rust_files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")), &mut sources);
    for (file, test) in named {
        let (ending, head) = (format!("{file}.rs"), format!("fn {test}("));
        let mut here = sources.iter().filter(|path| path.to_str().is_some_and(|path| path.ends_with(&ending)));
        assert!(here.any(|path| fs::read_to_string(path).unwrap().contains(&head)), "{ending} has no test {test}");
    }
}

/// A code that no test speaks of may mean anything.
#[test]
fn every_code_is_in_a_test() {
    let mut sources = Vec::new();
    rust_files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")), &mut sources);
    let tests: String = sources.iter().map(|path| tests_of(path)).collect();
    for &code in Code::ALL {
        // Leases come with queues. A gap is an exit code: its reader has a line, and goes on.
        if matches!(code, Code::LeaseLost | Code::Gap) {
            continue;
        }
        let (variant, name) = (format!("Code::{code:?}"), code.name());
        let is_whole = |(at, _): (usize, &str)| !tests[at + variant.len()..].starts_with(char::is_alphanumeric);
        assert!(tests.contains(name) || tests.match_indices(&variant).any(is_whole), "no test speaks of {name}");
    }
}

/// The part of a file that is tests.
fn tests_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    if path.to_str().is_some_and(|path| path.contains("test")) {
        return text;
    }
    text.split_once("#[cfg(test)]").map(|(_, tests)| tests.to_owned()).unwrap_or_default()
}

/// The Rust files of the crates below `folder`.
fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap_or_default());
        if path.is_dir() && !name.starts_with('.') && !name.starts_with("target") {
            rust_files(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// The command fails before it asks any relay, and takes or stores nothing.
#[track_caller]
fn refused(arguments: &[&str], code: &str) {
    let home = Home::new();
    home.skypipe(arguments.iter().copied())
        .stdin(In::Pipe(b"data\n".to_vec()))
        .run()
        .exits(2)
        .gave("")
        .fails_with(code);
    assert!(home.relay_now().is_none(), "asked before any use of the network");
}

#[test]
fn empty_names() {
    refused(&[""], "E_NAME");
    refused(&["write", ""], "E_NAME");
    refused(&["read", ""], "E_NAME");
    refused(&["stat", ""], "E_NAME");
    refused(&["rm", ""], "E_NAME");
}

#[test]
fn missing_names() {
    refused(&["write"], "E_USAGE");
    refused(&["read"], "E_USAGE");
    refused(&["rm"], "E_USAGE");
}

#[test]
fn names_that_cannot_be() {
    for name in [&"x".repeat(241), "a\u{1b}[2Jb", "a\nb", ".", "..", "a/../b", "a//b", "/a", "a/", "@bob/x", "@", "a*"]
    {
        refused(&["write", name], "E_NAME");
        refused(&["read", name], "E_NAME");
    }
    refused(&["write", "jobs/dead"], "E_NAME");
}

#[test]
fn a_name_is_shown_escaped() {
    let home = Home::new();
    let done = home.skypipe(["read", "a\u{1b}]52;c;AAAA\u{7}b"]).run().exits(2).fails_with("E_NAME");
    assert!(!done.stderr.trim_end().contains(|c: char| c.is_control()), "{:?}", done.stderr);
}

#[test]
fn names_that_are_not_utf_8() {
    let home = Home::new();
    let name = OsString::from_vec(b"caf\xe9".to_vec());
    for verb in ["read", "write"] {
        home.skypipe([verb.into(), name.clone()]).run().exits(2).gave("").fails_with("E_NAME");
    }
    home.skypipe([name]).run().exits(2).gave("").fails_with("E_NAME");
}

#[test]
fn two_spellings_are_one_pipe() {
    let home = Home::new();
    home.store("cafe\u{301}", "one\n");
    home.skypipe(["read", "caf\u{e9}"]).ok().gave("one\n");
}

#[test]
fn a_name_that_looks_like_another_is_told() {
    let home = Home::new();
    for (name, shown) in [("logs\u{202e}bew", "logs\\u{202e}bew"), ("lo\u{200b}gs", "lo\\u{200b}gs")] {
        home.skypipe(["write", name, "one"]).ok().says("do not show").says(shown);
        home.skypipe(["read", name]).ok().gave("one\n").says(shown);
    }
    home.skypipe(["write", "lögs \u{1f427}", "one"]).ok().quietly();
}

#[test]
fn the_longest_name_works() {
    let home = Home::new();
    let name = "é".repeat(120);
    home.store(&name, "one\n");
    home.skypipe(["read", &name]).ok().gave("one\n");
}

#[test]
fn words_of_later_versions_are_reserved() {
    for word in ["run", "jobs", "fifo"] {
        let home = Home::new();
        let done = home.skypipe([word]).stdin(In::Pipe(b"data\n".to_vec())).run();
        done.exits(2).gave("").fails_with("E_UNSUPPORTED");
        home.store(word, "one\n");
        home.skypipe(["read", word]).ok().gave("one\n");
    }
}

#[test]
fn a_pipe_named_like_a_command() {
    let home = Home::new();
    for word in ["read", "write", "ls", "bench", "help"] {
        home.store(word, "one\n");
        home.skypipe(["read", word]).ok().gave("one\n");
    }
}

#[test]
fn options_of_another_mode() {
    refused(&["write", "x", "-q", "-b"], "E_USAGE");
    refused(&["write", "x", "-q", "--retain", "7d"], "E_USAGE");
    refused(&["write", "x", "--retain", "a while"], "E_USAGE");
    refused(&["read", "x", "-q", "--from", "start"], "E_USAGE");
    refused(&["read", "x", "-b", "--exec", "cat"], "E_USAGE");
    refused(&["read", "x", "--from", "tomorrow"], "E_USAGE");
}

#[test]
fn unknown_options() {
    refused(&["write", "x", "--frobnicate"], "E_USAGE");
    refused(&["--frobnicate"], "E_USAGE");
    refused(&["read", "x", "-n", "many"], "E_USAGE");
    refused(&["read", "x", "--timeout", "soon"], "E_USAGE");
    refused(&["write", "x", "--until", "later"], "E_USAGE");
    refused(&["read", "x", "y"], "E_USAGE");
}

#[test]
fn relays_that_cannot_be() {
    refused(&["--relay", "gopher://example.org", "write", "x"], "E_SCHEME");
    refused(&["--relay", "quic://KEY@example.org:7473", "write", "x"], "E_USAGE");
    refused(&["--relay", "nonsense", "write", "x"], "E_USAGE");
}

/// A configuration that cannot be used names its line and, where there is one, its key.
#[track_caller]
fn bad_config(text: &str, says: &[&str]) {
    let home = Home::new();
    let folder = home.config_home().join("skypipe");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), text).unwrap();
    let done = home.skypipe(["write", "x", "hi"]).run().exits(2).gave("").fails_with("E_CONFIG");
    for word in says {
        assert!(done.stderr.contains(word), "no {word} in {}", done.stderr);
    }
    assert!(done.stderr.contains("config.toml"));
}

#[test]
fn unusable_configurations() {
    bad_config("# fine\nrelay = 5\n", &["line 2", "relay"]);
    bad_config("\n\nrelais = \"unix:/x\"\n", &["line 3", "relais"]);
    bad_config("relay = \"unix:/x\n", &["line 1"]);
}

#[test]
fn a_configuration_that_is_no_file() {
    let home = Home::new();
    std::fs::create_dir_all(home.config_home().join("skypipe/config.toml")).unwrap();
    home.skypipe(["write", "x", "hi"]).run().exits(2).fails_with("E_CONFIG").says("config.toml");
}

#[test]
fn the_configuration_names_a_relay() {
    let home = Home::new();
    let url = format!("unix:{}", home.path("own.sock").display());
    std::fs::create_dir_all(home.config_home().join("skypipe")).unwrap();
    std::fs::write(home.config_home().join("skypipe/config.toml"), format!("relay = \"{url}\"\n")).unwrap();
    let relay = home.skypipe(["relay", "--listen", &url, "--data", "own-data"]).start();
    relay.until_gave(&url);
    home.skypipe(["write", "x", "hi"]).ok();
    assert!(home.relay_now().is_none());
    home.skypipe(["read", "x"]).ok().gave("hi\n");
}

#[test]
fn a_bad_command_loses_nothing_that_is_stored() {
    let home = Home::new();
    home.store("x", "kept\n");
    home.skypipe(["read", "x", "--frobnicate"]).run().exits(2);
    home.skypipe(["read", "x", "-n", "many"]).run().exits(2);
    home.skypipe(["read", "x"]).ok().gave("kept\n");
}

#[test]
fn a_stdin_that_cannot_be_read_is_no_item() {
    let home = Home::new();
    // Reading a folder fails.
    let done = home.sh("skypipe write x < .").run().exits(1);
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    let stat = home.stat("x");
    if stat.items > 0 {
        home.skypipe(["read", "x"]).run().exits(4).gave("");
    }
}

#[test]
fn no_such_pipe() {
    let home = Home::new();
    for (verb, code) in [("stat", "E_ACCESS"), ("rm", "E_ACCESS"), ("peek", "E_EMPTY")] {
        home.skypipe([verb, "nothing"]).run().exits(3).gave("").fails_with(code);
    }
}

#[test]
fn a_terminal_gets_no_control_characters() {
    let home = Home::new();
    home.store("x", "clear\u{1b}[2J \u{1b}]0;title\u{7} \u{202e}bidi\r\n");
    let done = home.skypipe(["read", "x"]).stdout(crate::harness::Out::Terminal).ok();
    let text = done.text().replace("\r\n", "\n");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n') && !text.contains('\u{202e}'), "{text:?}");
    assert!(text.contains("clear") && text.contains("bidi"), "{text:?}");
}
