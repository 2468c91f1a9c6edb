//! Who is refused, or refuses, has sent nothing of what it was to send: each case on each way.

use skypipe_core::{ALPN, KeyPair};

use super::counted::{Counted, MUCH_BYTES};
use super::impostor::Impostor;
use super::sky::{Sky, join};
use crate::harness::{Data, Done, Home, In, until};

const WAYS: [&str; 3] = ["quic:127.0.0.1:0", "wss:127.0.0.1:0", "ws:127.0.0.1:0"];

/// Writes much to a pipe of the relay at `url`, of which nothing arrives.
#[track_caller]
fn sends_nothing(home: &Home, url: &str, pipe: &str) -> Done {
    let counted = Counted::before(url);
    let data = Data::random(7, MUCH_BYTES);
    let done = home.skypipe(["--relay", &counted.url, "write", pipe]).stdin(In::Data(data)).run().gave("");
    counted.carried_no_data();
    done
}

#[test]
fn a_key_that_nobody_knows() {
    for at in WAYS {
        let sky = Sky::listening(at);
        sends_nothing(&Home::new(), &sky.url(), "x").exits(3).fails_with("E_ACCESS");
        assert_eq!(sky.owner.stat("x").items, 0);
    }
}

#[test]
fn another_relay_than_the_pinned_one() {
    let other = KeyPair::from_seed(&[9; 32]).public().to_string();
    for at in WAYS {
        let sky = Sky::listening(at);
        let (home, url) = (sky.joined(&[]), sky.url());
        assert!(url.contains(&sky.key()));
        sends_nothing(&home, &url.replace(&sky.key(), &other), "x").exits(6).fails_with("E_PIN");
    }
}

#[test]
fn a_ticket_for_one_pattern_and_a_ticket_to_read() {
    for at in WAYS {
        let sky = Sky::listening(at);
        let logs = sky.joined(&["--pipe", "logs/**"]);
        sends_nothing(&logs, &sky.url(), "secret").exits(3).fails_with("E_ACCESS");
        let reader = sky.joined(&["--read", "--pipe", "x"]);
        sky.owner.store("x", "one\n");
        sends_nothing(&reader, &sky.url(), "x").exits(3).fails_with("E_ACCESS");
        assert_eq!(sky.owner.stat("x").items, 1);
        // The relay knows both keys: it is what they ask for.
        logs.store("logs/x", "mine\n");
        reader.skypipe(["read", "x"]).ok().gave("one\n");
    }
}

#[test]
fn tickets_that_have_expired_or_are_used_up() {
    for at in WAYS {
        let sky = Sky::listening(at);
        let (once, short) = (sky.invite(&[]), sky.invite(&["--expires", "1s", "--uses", "1000"]));
        join(&Home::new(), &once).ok();
        until("the ticket has expired", || {
            (join(&Home::new(), &short).run().exits_one_of(&[0, 3]).code == Some(3)).then_some(())
        });
        for line in [once, short] {
            let home = Home::new();
            let done = join(&home, &line).run().exits(3).gave("").says("E_ACCESS");
            assert!(!done.stderr.contains(line.trim()), "{}", done.stderr);
            sends_nothing(&home, &sky.url(), "x").exits(3).fails_with("E_ACCESS");
        }
    }
}

#[test]
fn an_impostor_with_another_key_hears_nothing() {
    let (key, other) = (KeyPair::from_seed(&[8; 32]), KeyPair::from_seed(&[9; 32]).public());
    for (scheme, impostor) in [("quic", Impostor::quic(&key, ALPN)), ("wss", Impostor::tls(&key, b"http/1.1"))] {
        let url = format!("{scheme}://{other}@{}", impostor.address);
        Home::new().skypipe(["--relay", &url, "write", "x", "secret"]).run().exits(6).gave("").fails_with("E_PIN");
        impostor.heard_nothing();
    }
}

#[test]
fn who_speaks_another_protocol_hears_nothing() {
    let key = KeyPair::from_seed(&[8; 32]);
    for (scheme, other) in [("quic", Impostor::quic(&key, b"skypipe/2")), ("wss", Impostor::tls(&key, b"h2"))] {
        let url = format!("{scheme}://{}@{}", key.public(), other.address);
        Home::new().skypipe(["--relay", &url, "write", "x", "secret"]).run().exits(7).gave("").fails_with("E_VERSION");
        other.heard_nothing();
    }
}

#[test]
fn who_speaks_tls_1_2_hears_nothing() {
    let old = Impostor::tls_1_2();
    for url in [
        format!("wss://{}@{}", KeyPair::from_seed(&[8; 32]).public(), old.address),
        format!("wss://localhost:{}/x", old.address.port()),
    ] {
        Home::new().skypipe(["--relay", &url, "write", "x", "secret"]).run().exits(7).gave("").fails_with("E_VERSION");
        old.heard_nothing();
    }
}

/// The counting itself: who has the key that is pinned hears at least who comes.
#[test]
fn who_is_trusted_hears_something() {
    let key = KeyPair::from_seed(&[8; 32]);
    for (scheme, trusted) in [("quic", Impostor::quic(&key, ALPN)), ("wss", Impostor::tls(&key, b"http/1.1"))] {
        let url = format!("{scheme}://{}@{}", key.public(), trusted.address);
        let home = Home::new();
        let _asking = home.skypipe(["--relay", &url, "write", "x", "secret"]).start();
        until("it is told something", || (trusted.bytes() > 0).then_some(()));
    }
}
