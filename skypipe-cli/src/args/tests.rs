//! What clap makes of a line.

use super::*;

fn parsed(line: &str) -> Result<Cli, Refusal> {
    parse_from(line.split_whitespace().map(OsString::from))
}

fn code(line: &str) -> Code {
    match parsed(line) {
        Err(Refusal::Wrong(error)) => error.code(),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn clap_finds_no_fault_with_the_definition() {
    with_later(Cli::command()).debug_assert();
}

#[test]
fn options_stand_before_or_behind_the_name() {
    for line in ["skypipe -k logs", "skypipe logs -k", "skypipe logs --relay unix:/x -k"] {
        let cli = parsed(line).unwrap();
        assert!(cli.bare.read.keep && cli.bare.name.as_deref() == Some("logs".as_ref()), "{line}");
    }
    assert!(parsed("skypipe").unwrap().bare.name.is_none());
}

#[test]
fn a_name_alone_is_what_clap_makes_of_it() {
    let mut command = with_later(Cli::command());
    command.build();
    let words = command.get_subcommands().flat_map(|verb| verb.get_name_and_visible_aliases());
    let words: Vec<&str> =
        words.chain(["p", "logs/a", "@k/x", "", "wri", "héé", "a b", "-", "-k", "--", "--relay", "-x"]).collect();
    for word in words {
        let line = || ["skypipe", word].map(OsString::from);
        let (short, whole) = (parse_from(line()), parse_with_clap(line().into()));
        assert_eq!(format!("{short:?}"), format!("{whole:?}"), "{word}");
    }
    assert!(is_name_alone("p".as_ref()) && !is_name_alone("help".as_ref()) && !is_name_alone("jobs".as_ref()));
}

#[test]
fn the_relay_is_named_anywhere() {
    for line in ["skypipe --relay unix:/x ls", "skypipe ls --relay unix:/x"] {
        let cli = parsed(line).unwrap();
        assert!(cli.relay.as_deref() == Some("unix:/x") && matches!(cli.verb, Some(Verb::Ls(_))), "{line}");
    }
}

#[test]
fn later_words_make_no_pipe() {
    for word in LATER {
        assert_eq!(code(&format!("skypipe {word}")), Code::Unsupported, "{word}");
    }
    assert!(parsed("skypipe read jobs").is_ok() && parsed("skypipe write top x").is_ok());
}

#[test]
fn later_options_are_told_from_misspellings() {
    assert_eq!(code("skypipe relay --ssh 0.0.0.0:22"), Code::Unsupported);
    assert_eq!(code("skypipe read x --quue"), Code::Usage);
}

#[test]
fn what_belongs_to_another_mode_is_usage() {
    for line in [
        "read x -q -b",
        "read x -q --from start",
        "read x -b --exec y",
        "read x --exec y --as me",
        "read x -q --keep",
        "read x -b --item",
        "read x -j 3",
        "read x --exec y --json",
        "write x -q --retain 5d",
        "write x -b --max-deliveries 3",
        "read x --from tomorrow",
    ] {
        assert_eq!(code(&format!("skypipe {line}")), Code::Usage, "{line}");
    }
    for line in [
        "-q x",
        "x --queue",
        "read x -b",
        "write x --retain 5d",
        "read x --from -5",
        "read x --as me",
        "read x --exec y -j 3",
    ] {
        assert!(parsed(&format!("skypipe {line}")).is_ok(), "{line}");
    }
}

#[test]
fn wrong_lines_are_usage() {
    for line in [
        "read",
        "write",
        "rm",
        "a b",
        "-k read x",
        "read x -n 0",
        "read x --timeout soon",
        "--relay",
        "x --until now",
        "relay --listen example.org:7473",
        "relay --owner x",
        "relay --detached --listen 127.0.0.1:0",
        "invite --uses 0",
        "invite --expires never",
        "keys drop x",
        "keys --json revoke",
    ] {
        assert_eq!(code(&format!("skypipe {line}")), Code::Usage, "{line}");
    }
}

#[test]
fn an_error_is_one_line() {
    let Err(Refusal::Wrong(error)) = parsed("skypipe read x --cuont 3") else { panic!("accepted") };
    assert!(!error.text().contains('\n') && error.text().contains("--cuont"), "{error}");
}

#[test]
fn durations_may_go_without_a_unit() {
    assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
    assert_eq!(duration("0.25"), Ok(Duration::from_millis(250)));
    assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
    assert!(duration("-1").is_err() && duration("soon").is_err() && duration("1e400").is_err());
}
