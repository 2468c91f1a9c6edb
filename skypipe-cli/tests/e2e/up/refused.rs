//! What is refused, and what an interruption leaves.

use std::net::UdpSocket;

use super::binary::newer;
use super::fake_ssh::Fake;
use crate::harness::Home;

#[test]
fn what_does_not_fit_changes_nothing() {
    let fake = Fake::new();
    // Runs there, and is not skypipe; and one that does not run at all.
    let script = fake.home.file("script", "#!/bin/sh\necho this is no skypipe\n");
    fake.up(&["--binary", script.to_str().unwrap()]).run().exits(2).says("cargo build --release");
    fake.up(&["--binary", "/bin/true"]).run().exits(2);
    fake.up(&["--binary", "/none"]).run().exits(2);
    fake.up(&["--public", "a b"]).run().exits(2);
    fake.up(&["--data", "relative"]).run().exits(2);
    assert!(!fake.there(".local/lib/skypipe/skypipe").exists());
    assert!(!fake.there(".local/share/skypipe-relay").exists());
    let config = fake.home.config_home().join("skypipe/config.toml");
    assert!(!config.exists(), "{}", std::fs::read_to_string(config).unwrap_or_default());
}

#[test]
fn a_port_that_is_taken_is_named_before_anything_is_changed() {
    let fake = Fake::new();
    let _other = UdpSocket::bind(("127.0.0.1", fake.port)).unwrap();
    fake.up(&[]).run().exits(7).says(&fake.port.to_string()).says("--port");
    assert!(fake.is_bare());
}

#[test]
fn cut_off_anywhere_it_is_finished_by_the_next() {
    let whole = Fake::new();
    whole.cut_at(0);
    whole.up(&[]).ok();
    let calls = whole.calls();
    assert!(calls >= 5, "{calls}");
    let fake = Fake::new();
    for call in 1..=calls {
        fake.cut_at(call);
        fake.up(&[]).run().exits(7);
        fake.cut_at(0);
        fake.up(&[]).ok();
        fake.home.store("x", "through\n");
        fake.home.skypipe(["read", "x"]).ok().gave("through\n");
        fake.skypipe(["down", "--delete-data"]).ok();
        assert!(!fake.there(".local/lib/skypipe").exists(), "after a cut at {call}");
        assert!(!fake.there(".local/share/skypipe-relay").exists(), "after a cut at {call}");
    }
}

#[test]
fn an_older_one_does_not_replace_a_newer() {
    let fake = Fake::new();
    let newer = newer(&fake.home.work());
    fake.up(&["--binary", newer.to_str().unwrap()]).ok();
    fake.up(&[]).run().exits(7).says("E_VERSION");
    fake.skypipe(["down", "--delete-data"]).ok();
}

#[test]
fn a_second_up_keeps_the_settings_of_the_first() {
    let fake = Fake::new();
    let urls = fake.up(&["--public", "localhost"]).ok().text();
    assert!(urls.contains(&format!("@localhost:{}", fake.port)), "{urls}");
    fake.skypipe(["up", "fake"]).ok().says("nothing to do").gave(&urls);
    fake.skypipe(["up", "fake", "--public", "127.0.0.1"]).ok().says("started again");
    fake.skypipe(["down", "--delete-data"]).ok();
}

#[test]
fn no_machine_is_one_line() {
    let home = Home::new();
    home.skypipe(["down"]).run().exits(2).fails_with("E_USAGE");
    home.skypipe(["up"]).run().exits(2).fails_with("E_USAGE");
    home.skypipe(["up", "--", "-oProxyCommand=x"]).run().exits(2).fails_with("E_USAGE");
    home.skypipe(["up", "nowhere"]).env("SKYPIPE_SSH", "sh -c 'exit 255'").run().exits(7).fails_with("E_UNREACHABLE");
}

#[test]
fn files_for_other_means_name_this_users_key() {
    let home = Home::new();
    let key = home.skypipe(["keys", "own"]).ok().text();
    let key = key.split_whitespace().nth(1).unwrap().to_owned();
    for (what, holds) in [("systemd", "DynamicUser=yes"), ("docker", "USER skypipe"), ("compose", "cap_drop: [ALL]")] {
        let text = home.skypipe(["up", "--print", what]).ok().quietly().text();
        assert!(text.contains(holds) && text.contains(&key), "{text}");
    }
}
