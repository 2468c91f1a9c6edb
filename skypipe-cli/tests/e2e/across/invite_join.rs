//! `skypipe invite` on one machine, `skypipe join` on another.

use super::sky::{Sky, join};
use crate::harness::{Data, Home, In, Out, until};

/// A pipe each way between the owner and who joined.
#[track_caller]
fn pipes_cross(sky: &Sky, other: &Home) {
    let data = Data::random(3, 3_000_000);
    sky.owner.skypipe(["write", "out"]).stdin(In::Data(data.clone())).ok().quietly();
    other.skypipe(["read", "out"]).stdout(Out::Summed).ok().quietly().gave_digest(&data.digest());
    other.skypipe(["write", "back"]).stdin(In::Data(data.clone())).ok().quietly();
    sky.owner.skypipe(["read", "back"]).stdout(Out::Summed).ok().quietly().gave_digest(&data.digest());
    // Live as well: the reader is there first.
    let reader = other.live_reader("live");
    sky.owner.store("live", "now\n");
    reader.wait().exits(0).gave("now\n");
}

#[test]
fn three_lines_from_nothing_to_a_pipe() {
    let sky = Sky::new();
    pipes_cross(&sky, &sky.joined(&[]));
}

#[test]
fn over_each_path_alone() {
    for (at, path) in [("quic:127.0.0.1:0", "QUIC"), ("wss:127.0.0.1:0", "WebSocket"), ("ws:127.0.0.1:0", "WebSocket")]
    {
        let sky = Sky::listening(at);
        let other = sky.joined(&[]);
        let checked = other.skypipe(["check", "--json"]).ok().json();
        assert!(checked["path"].as_str().unwrap().starts_with(path), "{checked}");
        pipes_cross(&sky, &other);
    }
}

#[test]
fn over_ipv6() {
    let sky = Sky::listening("[::1]:0");
    assert!(sky.urls[0].contains("@[::1]:"), "{:?}", sky.urls);
    pipes_cross(&sky, &sky.joined(&[]));
}

#[test]
fn quic_is_taken_before_websocket() {
    let sky = Sky::new();
    assert!(sky.urls[0].starts_with("quic://") && sky.urls[1].starts_with("wss://"), "{:?}", sky.urls);
    let checked = sky.joined(&[]).skypipe(["check", "--json"]).ok().json();
    assert!(checked["path"].as_str().unwrap().starts_with("QUIC"), "{checked}");
}

#[test]
fn a_ticket_works_from_each_place_it_may_come_from() {
    let sky = Sky::new();
    let line = sky.invite(&["--uses", "5"]);
    let ticket = line.trim().rsplit(' ').next().unwrap();
    let home = Home::new();
    let file = home.file("ticket", &line);
    home.skypipe(["join", "--ticket-file", "ticket"]).ok().gave("");
    Home::new().skypipe(["join"]).env("SKYPIPE_TICKET_FILE", file).ok();
    join(&Home::new(), ticket).ok();
    // In the command line it works too, and is warned of.
    Home::new().skypipe(["join", ticket]).ok().says("can be seen by everybody");
    Home::new().sh(&format!("{} 2>/dev/null", line.trim())).ok();
}

#[test]
fn joining_again_changes_nothing_and_uses_nothing_up() {
    let sky = Sky::new();
    let line = sky.invite(&["--uses", "2"]);
    let home = Home::new();
    join(&home, &line).ok();
    let config = std::fs::read_to_string(home.config_home().join("skypipe/config.toml")).unwrap();
    join(&home, &line).ok().says("nothing changed");
    assert_eq!(std::fs::read_to_string(home.config_home().join("skypipe/config.toml")).unwrap(), config);
    join(&Home::new(), &line).ok();
    join(&Home::new(), &line).run().exits(3);
}

#[test]
fn comments_in_the_config_file_survive() {
    let sky = Sky::new();
    let home = Home::new();
    let path = home.config_home().join("skypipe/config.toml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "# mine\n\nrelay = \"unix:/nowhere.sock\" # old\n").unwrap();
    join(&home, &sky.invite(&[])).ok().says("unix:/nowhere.sock");
    let config = std::fs::read_to_string(&path).unwrap();
    assert!(config.starts_with("# mine\n") && config.contains("# old") && !config.contains("nowhere"), "{config}");
}

#[test]
fn what_stays_behind_is_named_with_the_command_that_moves_it() {
    let sky = Sky::new();
    let home = Home::new();
    home.store("papers", "one\n");
    home.store("papers", "two\n");
    home.store("it's", "three\n");
    let said = join(&home, &sky.invite(&[])).ok().stderr;
    let moves: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("skypipe:   "))
        .filter(|line| line.contains("| skypipe"))
        .collect();
    assert_eq!(moves.len(), 2, "{said}");
    // Nothing was moved; each command moves its pipe, item by item.
    home.skypipe(["read", "--no-wait", "papers"]).run().exits(3);
    for line in moves {
        home.sh(line).ok();
    }
    home.skypipe(["read", "papers"]).ok().gave("one\n");
    home.skypipe(["read", "papers"]).ok().gave("two\n");
    sky.owner.skypipe(["read", "it's"]).ok().gave("three\n");
    home.skypipe(["--relay", "local:", "read", "--no-wait", "papers"]).run().exits(3);
}

#[test]
fn who_used_nothing_before_starts_no_relay() {
    let sky = Sky::new();
    let home = sky.joined(&[]);
    home.store("x", "one\n");
    assert!(home.relay_now().is_none());
}

#[test]
fn tickets_that_are_none_are_told_before_anybody_is_asked() {
    for text in ["", "nonsense", "sky1", "sky1AAAA", "skypipe join sky1!!!", "sky1a sky1b"] {
        let home = Home::new();
        let done = join(&home, text).run().exits(2).gave("").fails_with("E_TICKET");
        assert!(!done.stderr.contains("AAAA"), "{}", done.stderr);
        assert!(!home.config_home().join("skypipe/config.toml").exists());
    }
    let home = Home::new();
    home.skypipe(["join", "--ticket-file", "none"]).run().exits(2).fails_with("E_TICKET");
}

#[test]
fn a_damaged_ticket_is_none() {
    let sky = Sky::new();
    let line = sky.invite(&[]);
    let mut damaged = line.trim().to_owned();
    let last = damaged.pop().unwrap();
    damaged.push(if last == 'A' { 'B' } else { 'A' });
    join(&Home::new(), &damaged).run().exits(2).fails_with("E_TICKET");
    join(&Home::new(), &line[..line.len() - 20]).run().exits(2).fails_with("E_TICKET");
}

#[test]
fn expired_and_used_up_tickets_are_exit_3() {
    let sky = Sky::new();
    let expired = sky.invite(&["--expires", "1s", "--uses", "1000"]);
    until("the ticket has expired", || {
        let done = join(&Home::new(), &expired).run().exits_one_of(&[0, 3]);
        (done.code == Some(3)).then(|| done.says("E_ACCESS"))
    });
    let home = Home::new();
    join(&home, &expired).run().exits(3).says("E_ACCESS");
    assert!(!home.config_home().join("skypipe/config.toml").exists(), "nothing was switched");
    let once = sky.invite(&[]);
    join(&home, &once).ok();
    join(&Home::new(), &once).run().exits(3).says("E_ACCESS");
}

#[test]
fn another_relay_at_the_address_is_exit_6_and_none_is_exit_7() {
    let sky = Sky::new();
    let line = sky.invite(&["--uses", "9"]);
    let port = sky.urls[0].rsplit(':').next().unwrap().to_owned();
    let (owner, _) = sky.end();
    join(&Home::new(), &line).run().exits(7).says("E_UNREACHABLE");
    let other = Sky::listening(&format!("127.0.0.1:{port}"));
    join(&Home::new(), &line).run().exits(6).says("E_PIN");
    drop((owner, other));
}

#[test]
fn a_ticket_for_one_pattern_opens_no_other_pipe() {
    let sky = Sky::new();
    let other = sky.joined(&["--pipe", "logs/**"]);
    sky.owner.store("logs/web", "seen\n");
    sky.owner.store("secret", "not seen\n");
    other.skypipe(["read", "logs/web"]).ok().gave("seen\n");
    other.store("logs/new", "mine too\n");
    for arguments in [
        &["read", "secret"][..],
        &["stat", "secret"],
        &["rm", "secret"],
        &["peek", "secret"],
        &["write", "secret", "x"],
    ] {
        other.skypipe(arguments.iter().copied()).run().exits(3).gave("").fails_with("E_ACCESS");
    }
    let listed = other.skypipe(["ls"]).ok().text();
    assert!(listed.contains("logs/new") && !listed.contains("secret"), "{listed}");
    assert_eq!(sky.owner.stat("secret").items, 1);
    sky.owner.skypipe(["read", "secret"]).ok().gave("not seen\n");
}

#[test]
fn a_ticket_to_read_writes_nothing_and_one_to_write_reads_nothing() {
    let sky = Sky::new();
    sky.owner.store("x", "one\n");
    let reader = sky.joined(&["--read", "--pipe", "x"]);
    reader.skypipe(["write", "x", "two"]).run().exits(3).fails_with("E_ACCESS");
    reader.skypipe(["peek", "x"]).ok().gave("one\n");
    let writer = sky.joined(&["--write", "--pipe", "x"]);
    writer.skypipe(["read", "--no-wait", "x"]).run().exits(3).gave("").fails_with("E_ACCESS");
    writer.skypipe(["write", "x", "two"]).ok();
    assert_eq!(sky.owner.stat("x").items, 2, "the first was not taken, the second is there");
}

#[test]
fn a_relay_of_this_machine_alone_has_no_tickets() {
    let home = Home::new();
    home.skypipe(["invite"]).run().exits(2).gave("").fails_with("E_UNSUPPORTED").says("--listen");
    home.skypipe(["keys", "ls"]).run().exits(2).gave("").fails_with("E_UNSUPPORTED");
    assert!(!home.config_home().join("skypipe").exists(), "no key is made for pipes of this machine");
}

#[test]
fn who_joined_may_not_invite_unless_it_is_an_administrator() {
    let sky = Sky::new();
    sky.joined(&[]).skypipe(["invite"]).run().exits(3).gave("").fails_with("E_ACCESS");
}

#[test]
fn invite_in_json() {
    let sky = Sky::new();
    let made = sky.owner.skypipe(["invite", "--json", "--uses", "3", "--address", "example.org"]).ok().quietly().json();
    assert!(made["ticket"].as_str().unwrap().starts_with("sky1") && made["uses"] == 3, "{made}");
    assert!(made["expires"].as_str().unwrap().ends_with('Z'), "{made}");
    let urls: Vec<&str> = made["urls"].as_array().unwrap().iter().map(|url| url.as_str().unwrap()).collect();
    let key = sky.key();
    assert!(urls[0].starts_with(&format!("quic://{key}@example.org:")) && urls.len() == 2, "{urls:?}");
}
