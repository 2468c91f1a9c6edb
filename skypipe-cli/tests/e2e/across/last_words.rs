//! A command that ends says so, over every way: whoever waits for it need not wait until the relay misses it.

use std::time::{Duration, Instant};

use super::sky::Sky;
use crate::harness::{Home, In, Running, Signal};

/// Half of the time after which a relay gives up whoever it misses.
const AT_ONCE: Duration = Duration::from_secs(30);

/// A relay, a home that joined it, and its URLs.
fn world() -> (Sky, Home, Vec<String>) {
    let sky = Sky::new();
    let (home, urls) = (sky.joined(&[]), sky.urls.clone());
    assert_eq!(urls.len(), 2, "{urls:?}");
    (sky, home, urls)
}

/// A writer over this URL whose first line has arrived at a live reader.
fn live_pair(home: &Home, url: &str, options: &[&str]) -> (Running, Running) {
    let reader = home.live_reader("x");
    let write = home.skypipe(["--relay", url, "write", "x"]).args(options.iter().copied());
    let mut writer = write.stdin(In::Open).start();
    writer.feed("one\n");
    reader.until_gave("one\n");
    (reader, writer)
}

#[test]
fn a_writer_whose_time_is_up_ends_its_item_at_once() {
    let (_sky, home, urls) = world();
    for url in urls {
        let (reader, writer) = live_pair(&home, &url, &["--timeout", "3s"]);
        writer.wait().exits(124);
        let ended = Instant::now();
        reader.wait().exits(4).gave("one\n");
        assert!(ended.elapsed() < AT_ONCE, "{url}: {:?}", ended.elapsed());
    }
}

#[test]
fn an_interrupted_writer_ends_its_item_at_once() {
    let (_sky, home, urls) = world();
    for url in urls {
        let (reader, writer) = live_pair(&home, &url, &[]);
        writer.send(Signal::INT);
        writer.wait().exits(130);
        let ended = Instant::now();
        reader.wait().gave("one\n").says("interrupted");
        assert!(ended.elapsed() < AT_ONCE, "{url}: {:?}", ended.elapsed());
    }
}

#[test]
fn an_interrupted_reader_leaves_at_once() {
    let (_sky, home, urls) = world();
    for url in urls {
        let reader = home.skypipe(["--relay", &url, "read", "-k", "x"]).start();
        home.store("x", "one\n");
        reader.until_gave("one\n");
        reader.send(Signal::INT);
        reader.wait().exits(130);
        let ended = Instant::now();
        home.until_stat("x", |s| s.readers == 0);
        assert!(ended.elapsed() < AT_ONCE, "{url}: {:?}", ended.elapsed());
    }
}
