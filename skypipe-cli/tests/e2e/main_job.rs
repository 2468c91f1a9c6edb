//! The main job: every example of the first skypipe, typed as a person types it.

use crate::harness::{Data, Digest, Home, In, Out, Pid, Running, Signal, send, until};

/// A text of numbered lines of different lengths.
fn lines(host: &str, count: usize) -> String {
    (0..count).map(|n| format!("{host} {n:06} {}\n", "x".repeat(n % 97))).collect()
}

#[test]
fn gzip_waits_for_a_file() {
    let home = Home::new();
    let text = lines("file", 20_000);
    home.file("words", &text);
    let gzip = home.sh("skypipe | gzip -9 -c > out.gz").stdin(In::Terminal).start();
    home.until_stat("default", |s| s.readers == 1);
    home.sh("cat words | skypipe").ok().quietly();
    gzip.wait().exits(0);
    home.sh("gzip -dc out.gz").ok().gave(text);
}

#[test]
fn a_file_waits_for_gzip() {
    let home = Home::new();
    let text = lines("file", 20_000);
    home.file("words", &text);
    home.sh("cat words | skypipe").ok().quietly();
    home.sh("skypipe | gzip -9 -c > out.gz").stdin(In::Terminal).ok();
    home.sh("gzip -dc out.gz").ok().gave(text);
}

#[test]
fn two_files_come_out_in_the_order_they_went_in() {
    let home = Home::new();
    home.file("file_a", Data::random(1, 3_000_001).bytes());
    home.file("file_b", Data::random(2, 70_000).bytes());
    home.sh("cat file_a | skypipe files && cat file_b | skypipe files").ok().quietly();
    home.sh("skypipe files > new_file_a && skypipe files > new_file_b").stdin(In::Terminal).ok().quietly();
    home.sh("cmp file_a new_file_a && cmp file_b new_file_b").ok();
    assert_eq!(home.stat("files").items, 0);
}

#[test]
fn a_trigger_fired_before_anybody_waits() {
    let home = Home::new();
    home.sh("echo | skypipe go").ok().quietly();
    home.sh("skypipe go > /dev/null && echo triggered").stdin(In::Terminal).ok().gave("triggered\n");
}

#[test]
fn a_trigger_fired_after_somebody_waits() {
    let home = Home::new();
    let mut waits = home.sh("skypipe go > /dev/null && echo triggered").stdin(In::Terminal).start();
    home.until_stat("go", |s| s.readers == 1);
    assert!(waits.is_running());
    home.sh("echo | skypipe go").ok().quietly();
    waits.wait().exits(0).gave("triggered\n");
}

#[test]
fn four_live_readers_get_the_same() {
    let home = Home::new();
    let data = Data::random(4, 20_000_000);
    let readers: Vec<_> = (0..4).map(|_| home.skypipe(["read", "fan"]).stdout(Out::Summed).start()).collect();
    home.until_stat("fan", |s| s.readers == 4);
    home.skypipe(["write", "fan"]).stdin(In::Data(data.clone())).ok().quietly();
    for reader in readers {
        reader.wait().exits(0).gave_digest(&data.digest());
    }
}

/// `tail -f hostN.log | skypipe logs`, ended by ending its `tail`, as a rotation or a shutdown does.
struct Host {
    name: String,
    pipe: Running,
}

impl Host {
    /// Starts with `first` lines already in its log; `tail` sends them all.
    fn start(home: &Home, name: &str, first: usize) -> Self {
        home.file(&format!("{name}.log"), lines(name, first));
        let pipe = home
            .sh(&format!(
                "sh -c 'echo $$ > {name}.pid.new; mv {name}.pid.new {name}.pid; exec tail -n +1 -f {name}.log' | skypipe logs"
            ))
            .start();
        Self { name: name.into(), pipe }
    }

    /// Appends lines `from` up to `to`.
    fn log(&self, home: &Home, from: usize, to: usize) {
        let all = lines(&self.name, to);
        let new = &all[lines(&self.name, from).len()..];
        home.sh(&format!("cat >> {}.log", self.name)).stdin(In::Pipe(new.into())).ok();
    }

    fn end(self, home: &Home) {
        let pid = until("tail runs", || std::fs::read_to_string(home.path(&format!("{}.pid", self.name))).ok());
        send(Pid::from_raw(pid.trim().parse().unwrap()).unwrap(), Signal::TERM);
        self.pipe.wait().exits(0);
    }
}

/// Each host's lines are all there, whole and in order, and nothing else is.
#[track_caller]
fn nothing_is_lost_or_torn(got: &[u8], hosts: &[&str], count: usize) {
    let text = std::str::from_utf8(got).unwrap();
    for host in hosts {
        let of_host: String = text.split_inclusive('\n').filter(|l| l.starts_with(&format!("{host} "))).collect();
        assert_eq!(of_host, lines(host, count), "the lines of {host}");
    }
    assert_eq!(text.lines().count(), hosts.len() * count);
}

const HOSTS: [&str; 3] = ["alpha", "beta", "gamma"];

/// Bytes of `count` lines of each host.
fn bytes_of(count: usize) -> u64 {
    HOSTS.iter().map(|h| lines(h, count).len() as u64).sum()
}

#[test]
fn three_hosts_log_before_anybody_reads() {
    let home = Home::new();
    let hosts = HOSTS.map(|name| Host::start(&home, name, 500));
    home.until_stat("logs", |s| s.writers == 3 && s.bytes >= bytes_of(500));
    let reader = home.sh("skypipe logs").stdin(In::Terminal).start();
    reader.until_received(bytes_of(500));
    hosts.iter().for_each(|h| h.log(&home, 500, 700));
    reader.until_received(bytes_of(700));
    hosts.into_iter().for_each(|h| h.end(&home));
    let done = reader.wait().exits(0);
    nothing_is_lost_or_torn(&done.stdout, &HOSTS, 700);
}

#[test]
fn three_hosts_log_after_the_reader_came() {
    let home = Home::new();
    let reader = home.sh("skypipe logs").stdin(In::Terminal).start();
    home.until_stat("logs", |s| s.readers == 1);
    let hosts = HOSTS.map(|name| Host::start(&home, name, 50));
    // All three are there before the first one ends: the reader ends with the last one that is.
    reader.until_received(bytes_of(50));
    hosts.iter().for_each(|h| h.log(&home, 50, 700));
    reader.until_received(bytes_of(700));
    hosts.into_iter().for_each(|h| h.end(&home));
    let done = reader.wait().exits(0);
    nothing_is_lost_or_torn(&done.stdout, &HOSTS, 700);
}

#[test]
fn aggregation_goes_on_with_keep() {
    let home = Home::new();
    let reader = home.sh("exec skypipe -k logs").stdin(In::Terminal).start();
    for (round, name) in HOSTS.into_iter().enumerate() {
        let host = Host::start(&home, name, 100);
        reader.until_received(HOSTS[..=round].iter().map(|h| lines(h, 100).len() as u64).sum());
        host.end(&home);
    }
    reader.send(Signal::INT);
    let done = reader.wait().exits(130);
    nothing_is_lost_or_torn(&done.stdout, &HOSTS, 100);
}

#[test]
fn a_script_reads_line_by_line() {
    let home = Home::new();
    let script = "printf 'one\\ntwo\\nthree\\n' | while read word; do skypipe write words \"$word\"; done";
    home.sh(script).ok().quietly();
    home.sh("for n in 1 2 3; do skypipe read words; done").ok().gave("one\ntwo\nthree\n");
}

#[test]
fn a_large_file_streams_through_unchanged() {
    let home = Home::new();
    let data = Data::random(7, 64_000_000);
    home.skypipe(["write", "big"]).stdin(In::Data(data.clone())).ok().quietly();
    home.skypipe(["read", "big"]).stdout(Out::File(home.path("out"))).ok().quietly();
    assert_eq!(Digest::of_file(&home.path("out")), data.digest());
}
