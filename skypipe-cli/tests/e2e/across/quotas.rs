//! What one key may have, and that others do not notice when it has it all.

use std::time::{Duration, Instant};

use super::sky::{Sky, own_line};
use crate::harness::{Home, In};

/// Many seconds at a rate of a quarter of a mebibyte.
const MUCH: usize = 4 << 20;
/// More than a quota of a mebibyte and what its writer may have under way beyond it.
const TOO_MUCH: usize = 12 << 20;

fn lines(bytes: usize) -> Vec<u8> {
    (0..bytes / 100).flat_map(|n| format!("line {n:06} {}\n", "x".repeat(87)).into_bytes()).collect()
}

/// A relay that anybody finds again at the same place.
struct World {
    sky: Sky,
    anna: Home,
    ben: Home,
}

impl World {
    /// Anna's key has these options, Ben's has none.
    fn new(options: &str) -> Self {
        let sky = Sky::new();
        let (anna, ben) = (Home::new(), sky.stranger_with_key());
        let mut world = Self { sky, anna, ben };
        world.limit_anna(options);
        let url = world.sky.url();
        world.anna.uses(&url);
        world.ben.uses(&url);
        world
    }

    fn limit_anna(&self, options: &str) {
        let line = format!("{options} {}", own_line(&self.anna).trim());
        self.sky.owner.skypipe(["keys", "add", &line]).ok().quietly();
    }

    /// Kills the relay and starts it at the same port.
    fn restart(mut self) -> Self {
        let port = self.sky.urls[0].rsplit(':').next().unwrap().trim_end_matches('/').to_owned();
        let Sky { owner, relay, .. } = self.sky;
        relay.kill();
        self.sky = Sky::of(owner, &format!("127.0.0.1:{port}"));
        self
    }

    /// What she writes without waiting is refused in one line, and nothing of it is there.
    #[track_caller]
    fn anna_is_refused(&self, says: &str) {
        let told =
            self.anna.skypipe(["write", "more", "--no-wait", "text"]).run().exits(9).gave("").fails_with("E_QUOTA");
        assert!(told.stderr.lines().count() == 1, "{}", told.stderr);
        told.says(says);
    }
}

#[test]
fn a_quota_of_bytes_holds_up_its_owner_alone_and_over_a_restart() {
    let world = World::new("quota=\"1M\"");
    world.anna.store("first", lines(600_000));
    let all = lines(TOO_MUCH);
    let writer = world.anna.skypipe(["write", "second"]).stdin(In::Pipe(all.clone())).start();
    writer.until_says("waiting for room: the owner's quota is used up");
    world.anna_is_refused("the owner's quota is used up");
    world.ben.skypipe(["write", "second", "--no-wait"]).stdin(In::Pipe(all.clone())).ok().quietly();
    // What was there is counted by the next relay.
    let mut world = world.restart();
    assert!(world.anna.skypipe(["read", "first"]).ok().text().len() == lines(600_000).len());
    world.anna_is_refused("the owner's quota is used up");
    let mut writer = writer;
    assert!(writer.is_running());
    // It goes on by itself when it is read.
    world.anna.skypipe(["read", "second"]).ok().gave(all);
    writer.wait().exits(0).gave("");
    world.anna.store("more", "text\n");
    world.sky.relay.is_running();
}

#[test]
fn a_wider_quota_reaches_a_writer_that_waits() {
    let world = World::new("quota=\"1M\"");
    let all = lines(TOO_MUCH);
    let writer = world.anna.skypipe(["write", "x"]).stdin(In::Pipe(all)).start();
    writer.until_says("the owner's quota is used up");
    world.limit_anna("quota=\"100M\"");
    writer.wait().exits(0);
}

#[test]
fn a_quota_of_pipes_is_told_at_once_and_over_a_restart() {
    let world = World::new("max-pipes=\"2\"");
    world.anna.store("first", "1\n");
    world.anna.store("second", "2\n");
    world.anna_is_refused("as many pipes as it may");
    world.ben.store("first", "1\n");
    world.ben.store("second", "2\n");
    world.ben.store("third", "3\n");
    let world = world.restart();
    world.anna_is_refused("as many pipes as it may");
    world.anna.store("second", "more\n");
    world.anna.skypipe(["rm", "first"]).ok();
    world.anna.store("more", "text\n");
}

#[test]
fn a_rate_makes_its_key_slower_and_nobody_else() {
    const RATE: usize = 256 << 10;
    let world = World::new("rate=\"256K\"");
    let all = lines(MUCH / 2);
    let start = Instant::now();
    let slow = world.anna.skypipe(["write", "slow"]).stdin(In::Pipe(all.clone())).start();
    let mut endless = world.anna.skypipe(["write", "endless"]).stdin(In::Pipe(lines(64 << 20))).start();
    world.ben.skypipe(["write", "quick"]).stdin(In::Pipe(lines(MUCH))).ok().quietly();
    assert!(endless.is_running(), "64 MiB take four minutes");
    endless.kill();
    slow.wait().exits(0);
    // A second is free, and a batch of each of the two is taken before it is counted.
    let at_least = (all.len() - RATE - 2 * (512 << 10)) as f64 / RATE as f64;
    assert!(start.elapsed() >= Duration::from_secs_f64(at_least), "{:?}", start.elapsed());
    world.anna.skypipe(["read", "slow"]).ok().gave(all);
}

#[test]
fn options_that_mean_nothing_are_told_with_their_line() {
    let sky = Sky::new();
    let home = Home::new();
    for (options, says) in
        [("quota=\"lots\"", "quota"), ("owner=\"relay\",max-pipes=\"3\"", "owner"), ("rate", "value")]
    {
        let line = format!("{options} {}", own_line(&home).trim());
        sky.owner.skypipe(["keys", "add", &line]).run().exits(2).fails_with("E_KEY").says(says);
    }
    let (owner, _) = sky.end();
    let list = owner.skypipe_home().join("authorized_keys");
    let good = std::fs::read_to_string(&list).unwrap();
    std::fs::write(&list, format!("{good}rate=\"x\" {}", own_line(&home))).unwrap();
    let line = format!("line {}: `rate`", good.lines().count() + 1);
    owner.skypipe(["relay", "--listen", "127.0.0.1:0"]).run().exits(2).fails_with("E_KEY").says(&line);
}
