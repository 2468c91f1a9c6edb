//! The user's local relay: there when needed, exactly one, nobody else's.

use std::os::unix::fs::PermissionsExt;

use crate::harness::{Home, In, Out, Signal, is_alive, until};

#[test]
fn ten_first_commands_at_once_start_one_relay() {
    let home = Home::new();
    let writers: Vec<_> =
        (0..10).map(|n| home.skypipe(["write", "x", &format!("from {n}")]).stdin(In::Null).start()).collect();
    writers.into_iter().for_each(|w| drop(w.wait().exits(0).quietly()));
    until("one relay is left", || (home.processes() == [home.relay()]).then_some(()));
    let mut lines: Vec<String> = (0..10).map(|_| home.skypipe(["read", "x"]).ok().text()).collect();
    lines.sort();
    assert_eq!(lines, (0..10).map(|n| format!("from {n}\n")).collect::<Vec<_>>());
}

#[test]
fn a_command_in_dollar_parentheses_returns_though_it_started_the_relay() {
    let home = Home::new();
    home.sh("out=$(skypipe write x hi 2>&1); echo \"<$out>\"").ok().gave("<>\n");
    assert!(is_alive(home.relay()));
}

#[test]
fn the_relay_holds_nothing_of_the_command_that_started_it() {
    let home = Home::new();
    home.sh("exec 3>held 4<. ; skypipe write x hi").ok();
    let pid = home.relay().as_raw_nonzero();
    let held: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.starts_with(home.work()))
        .collect();
    assert!(held.is_empty(), "{held:?}");
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), std::path::Path::new("/"));
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_owned();
    assert_eq!(session, pid.to_string(), "a session of its own");
}

#[test]
fn a_signal_to_the_group_of_a_command_does_not_reach_the_relay() {
    let home = Home::new();
    home.sh("skypipe write x hi; trap '' INT; kill -INT 0 2>/dev/null; true").run();
    assert!(is_alive(home.relay()));
    home.skypipe(["read", "x"]).ok().gave("hi\n");
}

#[test]
fn stale_files_of_a_crash_stop_nothing() {
    let home = Home::new();
    home.store("x", "kept\n");
    let old = home.kill_relay();
    let (socket, lock) = (home.skypipe_home().join("relay.sock"), home.skypipe_home().join("relay.lock"));
    assert!(socket.exists() && lock.exists(), "a crash leaves both");
    home.skypipe(["read", "x"]).ok().gave("kept\n").quietly();
    assert_ne!(home.relay(), old);
}

#[test]
fn a_lock_that_names_a_living_stranger_stops_nothing() {
    let home = Home::new();
    home.store("x", "kept\n");
    home.kill_relay();
    // The lock is the truth, not what is written in it: this test's own number stands for a reused one.
    std::fs::write(home.skypipe_home().join("relay.lock"), format!("{} 0.1.0\n", std::process::id())).unwrap();
    home.skypipe(["read", "x"]).ok().gave("kept\n").quietly();
}

#[test]
fn a_relay_that_does_not_answer_is_named_and_left_alone() {
    let home = Home::new();
    home.store("x", "kept\n");
    let relay = home.relay();
    crate::harness::stop(relay);
    let done = home.skypipe(["read", "x"]).run();
    crate::harness::send(relay, Signal::CONT);
    done.exits(7).gave("").says(&relay.as_raw_nonzero().to_string());
    home.skypipe(["read", "x"]).ok().gave("kept\n");
}

#[test]
fn its_files_are_the_users_alone() {
    let home = Home::new();
    home.store("x", "secret\n");
    let mode = |name: &str| std::fs::metadata(home.skypipe_home().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    assert_eq!(mode("relay.sock"), 0o600);
    assert_eq!(mode("relay.lock") & 0o077, 0);
    assert_eq!(mode("data") & 0o077, 0);
}

#[test]
fn another_users_process_cannot_connect() {
    if !rustix::process::geteuid().is_root() {
        // Who has a machine to themselves may pass without; where changes land it must have been tried.
        assert!(std::env::var_os("CI").is_none(), "only root can become another user");
        println!("skipped: only root can become another user");
        return;
    }
    let home = Home::new();
    home.store("x", "secret\n");
    // Even where the modes let everybody in, the relay asks the kernel who is there.
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(home.whole(), 0o755);
    open(&home.skypipe_home(), 0o755);
    open(&home.skypipe_home().join("relay.sock"), 0o777);
    let socket = home.skypipe_home().join("relay.sock");
    let script = "alarm 3; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; connect(S, sockaddr_un($ARGV[0])) or die $!; \
                  $n = sysread(S, $b, 1); exit(defined $n && $n == 0 ? 0 : 1)";
    let perl = |user: &str| {
        home.sh(&format!(
            "exec setpriv --reuid={user} --regid={user} --clear-groups perl -MSocket -e \"$SCRIPT\" \"$SOCKET\""
        ))
        .env("SCRIPT", script)
        .env("SOCKET", &socket)
        .run()
    };
    // At once for a stranger; the owner's connection is kept and waits for a first word.
    perl("65534").exits(0);
    assert_ne!(perl("0").code, Some(0));
    home.skypipe(["read", "x"]).ok().gave("secret\n");
}

#[test]
fn a_symlink_in_place_of_the_folder_is_refused() {
    let home = Home::new();
    let elsewhere = home.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, home.skypipe_home()).unwrap();
    let done = home.skypipe(["write", "x", "hi"]).run();
    assert_ne!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.starts_with("skypipe: ") && done.stderr.lines().count() == 1, "{}", done.stderr);
    assert_eq!(std::fs::read_dir(elsewhere).unwrap().count(), 0);
}

#[test]
fn a_relay_of_ones_own_prints_its_url_and_serves_it() {
    let home = Home::new();
    let socket = home.path("own.sock");
    let url = format!("unix:{}", socket.display());
    let relay = home.skypipe(["relay", "--listen", &url, "--data", "own-data"]).start();
    relay.until_gave(&format!("{url}\n"));
    home.skypipe(["--relay", &url, "write", "x", "hi"]).ok().quietly();
    home.skypipe(["read", "x"]).env("SKYPIPE_RELAY", &url).ok().gave("hi\n");
    assert!(home.relay_now().is_none(), "the local relay was never asked for");
    relay.send(Signal::TERM);
    relay.wait().exits_one_of(&[0, 143]);
    assert!(!socket.exists());
}

#[test]
fn a_relay_that_is_set_and_away_is_exit_7() {
    let home = Home::new();
    let url = format!("unix:{}", home.path("nobody.sock").display());
    let start = std::time::Instant::now();
    home.skypipe(["write", "x", "hi"]).env("SKYPIPE_RELAY", &url).run().exits(7).fails_with("E_UNREACHABLE");
    assert!(start.elapsed() < std::time::Duration::from_secs(30));
    assert!(home.relay_now().is_none(), "the next one is never tried");
}

#[test]
fn no_home_variable_is_needed() {
    let home = Home::new();
    let script = "env -u HOME skypipe write x hi && env -u HOME skypipe read x";
    home.sh(script).stdout(Out::Pipe).ok().gave("hi\n");
}
