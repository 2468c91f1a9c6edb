//! `skypipe keys`, and whose pipes are whose.

use std::time::{Duration, Instant};

use super::sky::{Sky, own_line};
use crate::harness::{Home, In};

/// The 52 letters of a home's key.
fn key_of(sky: &Sky, home: &Home) -> String {
    let line = own_line(home);
    let blob = line.split(' ').nth(1).unwrap().to_owned();
    let listed = sky.owner.skypipe(["keys", "ls"]).ok().text();
    let at = listed.lines().position(|l| l.contains(&blob)).unwrap_or_else(|| panic!("{blob} is not in {listed}"));
    let json = sky.owner.skypipe(["keys", "ls", "--json"]).ok().text();
    let entry: serde_json::Value = serde_json::from_str(json.lines().nth(at).unwrap()).unwrap();
    entry["key"].as_str().unwrap().to_owned()
}

#[test]
fn the_owner_is_the_first_key_and_who_joins_is_added() {
    let sky = Sky::new();
    let first = sky.owner.skypipe(["keys"]).ok().text();
    assert!(first.lines().count() == 1 && first.contains("admin") && first.contains("owner=\"relay\""), "{first}");
    let other = sky.joined(&[]);
    let blob = own_line(&other).split(' ').nth(1).unwrap().to_owned();
    let listed = sky.owner.skypipe(["keys", "ls"]).ok().text();
    assert!(listed.lines().count() == 2 && listed.contains(&blob), "{listed}");
    // The owner may do all of this from afar as well, who joined may not.
    sky.skypipe(&sky.owner, ["keys", "ls"]).ok().gave(&listed);
    other.skypipe(["keys", "ls"]).run().exits(3).gave("").fails_with("E_ACCESS");
}

#[test]
fn keys_alone_shows_ones_own_too() {
    let sky = Sky::new();
    let own = own_line(&sky.owner);
    sky.skypipe(&sky.owner, ["keys"]).ok().says(own.trim());
}

#[test]
fn a_key_is_added_as_a_line_a_file_or_from_stdin() {
    let sky = Sky::new();
    let homes = [Home::new(), Home::new(), Home::new()];
    let lines: Vec<String> = homes.iter().map(own_line).collect();
    sky.owner.skypipe(["keys", "add", lines[0].trim()]).ok().quietly();
    sky.owner.file("key.pub", &lines[1]);
    sky.owner.skypipe(["keys", "add", "key.pub"]).ok().quietly();
    sky.owner.skypipe(["keys", "add", "-"]).stdin(In::Pipe(lines[2].clone().into_bytes())).ok().quietly();
    for home in &homes {
        sky.skypipe(home, ["write", "x", "mine"]).ok().quietly();
    }
    for bad in ["nonsense", "ssh-rsa AAAA me", "no-such-option ssh-ed25519 AAAA"] {
        sky.owner.skypipe(["keys", "add", bad]).run().exits(2).fails_with("E_KEY");
    }
    let private = sky.owner.config_home().join("skypipe/id_ed25519");
    let done = sky.owner.skypipe(["keys", "add", private.to_str().unwrap()]).run().exits(2).fails_with("E_KEY");
    assert!(done.stderr.contains("private"), "{}", done.stderr);
}

#[test]
fn a_revoked_keys_live_sessions_end_within_a_second() {
    let sky = Sky::new();
    let other = sky.joined(&[]);
    let reader = other.live_reader("live");
    let writer = other.open_writer("live");
    let key = key_of(&sky, &other);
    sky.owner.skypipe(["keys", "revoke", &key]).ok().quietly();
    let start = Instant::now();
    let (reader, writer) = (reader.wait(), writer.wait());
    let took = start.elapsed();
    reader.exits(3).says("E_ACCESS");
    writer.exits(3).says("E_ACCESS");
    assert!(took < Duration::from_secs(1), "{took:?}");
    other.skypipe(["ls"]).run().exits(3).gave("").fails_with("E_ACCESS");
    sky.owner.skypipe(["keys", "revoke", "nobody"]).run().exits(3).fails_with("E_ACCESS");
}

#[test]
fn a_revoked_key_does_not_come_back_with_its_ticket() {
    let sky = Sky::new();
    let line = sky.invite(&["--uses", "5"]);
    let other = Home::new();
    super::sky::join(&other, &line).ok();
    sky.owner.skypipe(["keys", "revoke", &key_of(&sky, &other)]).ok();
    super::sky::join(&other, &line).run().exits(3);
}

#[test]
fn the_last_administrator_stays() {
    let sky = Sky::new();
    let key = key_of(&sky, &sky.owner);
    sky.owner.skypipe(["keys", "revoke", &key]).run().exits(2).fails_with("E_USAGE");
}

#[test]
fn two_users_same_name_two_pipes_and_the_owners_name_reaches_across() {
    let sky = Sky::new();
    let (anna, ben) = (sky.stranger_with_key(), sky.stranger_with_key());
    sky.skypipe(&anna, ["write", "x", "anna's"]).ok();
    sky.skypipe(&ben, ["write", "x", "ben's"]).ok();
    let annas = format!("@{}/x", key_of(&sky, &anna));
    let bens = format!("@{}/x", key_of(&sky, &ben));
    // Each has its own; the other's is out of reach, and looks as if it were not there.
    for arguments in [["read", &bens], ["stat", &bens], ["rm", &bens], ["peek", &bens]] {
        sky.skypipe(&anna, arguments).run().exits(3).gave("").fails_with("E_ACCESS");
    }
    sky.skypipe(&anna, ["write", &bens, "x"]).run().exits(3).fails_with("E_ACCESS");
    // One's own key as an owner is oneself.
    sky.skypipe(&anna, ["stat", &annas]).ok().says("").quietly();
    // Ben is given the right to read what is Anna's.
    let grant = format!("pipes=\"**,{annas}\",read {}", own_line(&ben).trim());
    sky.owner.skypipe(["keys", "add", &grant]).ok();
    sky.skypipe(&ben, ["read", &annas]).ok().gave("anna's\n");
    sky.skypipe(&ben, ["write", &annas, "no"]).run().exits(3).fails_with("E_ACCESS");
    sky.skypipe(&ben, ["read", "x"]).ok().gave("ben's\n");
}

#[test]
fn an_owner_that_is_none_is_a_bad_name() {
    let home = Home::new();
    for name in ["@bob/x", "@", "@/x", "@x"] {
        for verb in ["read", "stat", "rm", "peek", "ls"] {
            home.skypipe([verb, name]).run().exits(2).gave("").fails_with("E_NAME");
        }
        home.skypipe(["write", name, "x"]).run().exits(2).fails_with("E_NAME");
    }
    assert!(home.relay_now().is_none());
}
