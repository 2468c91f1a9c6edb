//! README's main examples, between two clients behind different NATs and a relay on the open internet.

use std::time::{Duration, Instant};

use skypipe_test::net::Families;

use crate::harness::{Data, In, Out};
use crate::world::{Way, World};

/// How much longer a command may take where UDP is dropped.
const FALL_BACK_WITHIN: Duration = Duration::from_millis(300);

#[test]
fn over_quic() {
    main_examples(&World::new(Way::Quic));
}

#[test]
fn over_websocket() {
    main_examples(&World::new(Way::Wss));
}

#[test]
fn over_ipv6_alone() {
    for way in [Way::Quic, Way::Wss] {
        let world = World::with(Families::Ipv6Only, way);
        assert!(world.path().contains("2001:db8:c::10"), "{}", world.path());
        main_examples(&world);
    }
}

#[test]
fn with_both_ways_it_is_quic() {
    let world = World::new(Way::Any);
    assert!(world.path().contains(Way::Quic.word()), "{}", world.path());
}

#[test]
fn with_udp_dropped_it_is_websocket_and_soon() {
    let world = World::new(Way::Any);
    world.net.drop_udp(true);
    assert!(world.path().contains(Way::Wss.word()), "{}", world.path());
    let with_both = quickest_ls(&world, Way::Any);
    let with_tcp_alone = quickest_ls(&world, Way::Wss);
    println!("ls with UDP dropped: {with_both:?}, over WebSocket alone: {with_tcp_alone:?}");
    assert!(with_both < with_tcp_alone + FALL_BACK_WITHIN, "{with_both:?}, without UDP {with_tcp_alone:?}");
    main_examples(&world);
}

/// The shortest of a few, since other tests run as well.
fn quickest_ls(world: &World, way: Way) -> Duration {
    let url = world.relay.url(way);
    let times = (0..5).map(|_| {
        let start = Instant::now();
        world.a.skypipe(["--relay", &url, "ls"]).ok();
        start.elapsed()
    });
    times.min().unwrap()
}

fn main_examples(world: &World) {
    stored_until_somebody_reads(world);
    a_reader_waits_and_compresses(world);
    many_writers_and_one_that_keeps_reading(world);
    a_trigger(world);
    the_same_for_everybody(world);
}

/// `cat file_a | skypipe files`, and tomorrow `skypipe files > new_file_a`.
fn stored_until_somebody_reads(world: &World) {
    let files = [Data::random(1, 3_000_000), Data::random(2, 100)];
    for (number, data) in files.iter().enumerate() {
        world.a.file(&format!("file_{number}"), data.bytes());
        world.a.sh(&format!("cat file_{number} | skypipe files")).ok();
    }
    for data in &files {
        world.b.sh("skypipe files > new_file").ok();
        world.b.sh("cat new_file").stdout(Out::Summed).ok().gave_digest(&data.digest());
    }
}

/// `skypipe | gzip -9 -c > out.gz` waits for `cat file | skypipe`.
fn a_reader_waits_and_compresses(world: &World) {
    let reader = world.b.sh("skypipe | gzip -9 -c > out.gz").start();
    world.b.until_stat("default", |s| s.readers == 1);
    let data = Data::random(3, 1_000_003);
    world.a.file("file", data.bytes());
    world.a.sh("cat file | skypipe").ok();
    reader.wait().exits(0);
    world.b.sh("gzip -d -c out.gz").stdout(Out::Summed).ok().gave_digest(&data.digest());
}

/// `tail -f app.log | skypipe logs` on many machines, `skypipe -k logs` on one.
fn many_writers_and_one_that_keeps_reading(world: &World) {
    let mut reader = world.b.skypipe(["-k", "logs"]).start();
    world.b.until_stat("logs", |s| s.readers == 1);
    let mut writers = [&world.a, &world.b, &world.relay.home].map(|home| home.open_writer("logs"));
    for round in 0..3 {
        for (number, writer) in writers.iter_mut().enumerate() {
            let line = format!("line {round} of {number}\n");
            writer.feed(&line);
            reader.until_gave(&line);
        }
    }
    for mut writer in writers {
        writer.end_input();
        writer.wait().exits(0);
    }
    assert!(reader.is_running(), "it keeps reading: {}", reader.errors());
    reader.send(crate::harness::Signal::TERM);
    reader.wait().exits(143);
}

/// `skypipe go && echo "this is triggered"`, and elsewhere `echo | skypipe go`.
fn a_trigger(world: &World) {
    let waiting = world.a.sh("skypipe read go && echo this is triggered").start();
    world.a.until_stat("go", |s| s.readers == 1);
    world.b.sh("echo | skypipe go").ok();
    waiting.wait().exits(0).gave("\nthis is triggered\n");
}

/// Each reader that waits gets a copy.
fn the_same_for_everybody(world: &World) {
    let data = Data::random(4, 2_000_000);
    let homes = [&world.a, &world.b, &world.a, &world.b];
    let readers = homes.map(|home| home.skypipe(["read", "fan"]).stdout(Out::Summed).start());
    world.a.until_stat("fan", |s| s.readers == 4);
    world.b.skypipe(["fan"]).stdin(In::Data(data.clone())).ok();
    for reader in readers {
        reader.wait().exits(0).gave_digest(&data.digest());
    }
}
