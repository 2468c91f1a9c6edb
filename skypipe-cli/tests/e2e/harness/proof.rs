//! The harness itself: its streams are what they say.

use super::{Data, Digest, Home, In, Out};

#[test]
fn stdin_is_what_it_says() {
    let home = Home::new();
    let kind = "stat -L -c %F /proc/self/fd/0 2>/dev/null || echo closed";
    let file = home.file("in", "x");
    for (input, said) in [
        (In::Pipe(vec![1]), "fifo"),
        (In::Open, "fifo"),
        (In::Data(Data::random(1, 10)), "fifo"),
        (In::File(file), "regular file"),
        (In::Socket(vec![1]), "socket"),
        (In::Terminal, "character special file"),
        (In::Null, "character special file"),
        (In::Closed, "closed"),
    ] {
        home.sh(kind).stdin(input).ok().gave(format!("{said}\n"));
    }
    home.sh("test -t 0").stdin(In::Terminal).ok();
    home.sh("test -t 0").stdin(In::Null).run().exits(1);
}

#[test]
fn stdout_is_what_it_says() {
    let home = Home::new();
    assert_eq!(home.sh("test -t 1 && echo terminal").stdout(Out::Terminal).ok().text(), "terminal\r\n");
    home.sh("echo gone 2>/dev/null").stdout(Out::Closed).run().exits(1);
    home.sh("echo kept").stdout(Out::File(home.path("out"))).ok().gave("");
    home.sh("cat out").ok().gave("kept\n");
}

#[test]
fn bytes_and_digests_agree() {
    let home = Home::new();
    let data = Data::random(7, 1_000_003);
    let out = home.sh("cat").stdin(In::Data(data.clone())).stdout(Out::Summed).ok();
    out.gave_digest(&data.digest());
    assert_eq!(Digest::of(&data.bytes()[..70_001]), data.prefix(70_001).digest());
    assert_eq!(data.digest(), data.prefix(data.len()).digest());
}

#[test]
fn an_unread_stdout_can_be_closed() {
    let home = Home::new();
    let mut command = home.sh("trap '' PIPE; while echo x; do :; done 2>/dev/null; exit 9").stdout(Out::Unread).start();
    assert!(command.is_running());
    command.stop_reading();
    command.wait().exits(9);
}
