//! A relay whose data lie on a small disk, in a mount namespace of its own, that runs full and goes away.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::harness::{Data, Home, In, Running, until};

/// Room comes back to a writer so soon.
const RESUMES_WITHIN: Duration = Duration::from_secs(5);

/// A home whose relay sees a small disk where its data are. Nobody else does.
struct SmallDisk {
    home: Home,
    relay: Running,
}

impl SmallDisk {
    fn new() -> Self {
        Self::of(1, 5)
    }

    fn of(mib: u32, keep_free: u8) -> Self {
        let home = Home::new();
        let data = home.skypipe_home().join("data");
        fs::create_dir_all(&data).unwrap();
        fs::set_permissions(home.skypipe_home(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        // Without root, in a user namespace where this user is root.
        let unshare = if rustix::process::geteuid().is_root() { "unshare -m" } else { "unshare -rm" };
        let mount = format!(
            "mount -t tmpfs -o size={mib}m,mode=700 tmpfs '{}' && exec skypipe relay --keep-free {keep_free}",
            data.display()
        );
        let relay = home.sh(&format!("exec {unshare} sh -c \"{mount}\"")).start();
        until("the relay serves", || home.skypipe_home().join("relay.sock").exists().then_some(()));
        Self { home, relay }
    }

    /// The folder of the data as the relay sees it.
    fn data(&self) -> PathBuf {
        let pid = self.home.relay().as_raw_nonzero();
        let seen = self.home.skypipe_home().join("data");
        PathBuf::from(format!("/proc/{pid}/root{}", seen.display()))
    }

    /// Somebody else takes all room there is; removing the file gives it back.
    fn fill(&self) -> PathBuf {
        let ballast = self.data().join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        ballast
    }
}

fn lines(count: usize) -> Vec<u8> {
    (0..count).flat_map(|n| format!("line {n:06} {}\n", "x".repeat(86)).into_bytes()).collect()
}

#[test]
fn a_full_disk_is_told_and_the_writer_goes_on_by_itself() {
    let disk = SmallDisk::new();
    let home = &disk.home;
    home.store("x", "first\n");
    let ballast = disk.fill();
    let all = lines(2000);
    let writer = home.skypipe(["write", "x"]).stdin(In::Pipe(all.clone())).start();
    until("it says why it waits", || writer.errors().contains("disk is full").then_some(()));
    // Who would not wait is told so, with the count.
    let told = home.skypipe(["write", "y", "--no-wait"]).stdin(In::Pipe(lines(3000))).run();
    told.exits(8).fails_with("E_NO_SPACE");
    home.skypipe(["write", "y", "--timeout", "2s", "text"]).run().exits(8).says("(E_NO_SPACE)");
    assert_eq!(home.stat("x").items, 2);
    fs::remove_file(ballast).unwrap();
    let start = Instant::now();
    writer.wait().exits(0);
    assert!(start.elapsed() < RESUMES_WITHIN, "{:?}", start.elapsed());
    home.skypipe(["read", "x"]).ok().gave("first\n").quietly();
    home.skypipe(["read", "x"]).ok().gave(String::from_utf8(all).unwrap()).quietly();
}

#[test]
fn how_much_stays_free_can_be_said() {
    let disk = SmallDisk::of(32, 50);
    let written = disk.home.skypipe(["write", "x", "--no-wait"]).stdin(In::Data(Data::random(4, 24_000_000))).run();
    written.exits(8).fails_with("E_NO_SPACE");
    let relay = disk.home.skypipe(["relay", "--keep-free", "51"]).run();
    relay.exits(2).says("51 is not in");
}

#[test]
fn reading_goes_on_when_the_disk_is_full() {
    let disk = SmallDisk::new();
    let home = &disk.home;
    home.store("x", lines(2000));
    let ballast = disk.fill();
    let writer = home.skypipe(["write", "z"]).stdin(In::Pipe(lines(4000))).start();
    until("it waits", || writer.errors().contains("disk is full").then_some(()));
    // It gets all of it at once; that it took it is durable when there is room, and then it ends.
    let reader = home.skypipe(["read", "x"]).start();
    until("all of it was read", || (reader.received() == lines(2000).len() as u64).then_some(()));
    home.skypipe(["peek", "z"]).ok();
    fs::remove_file(ballast).unwrap();
    let start = Instant::now();
    reader.wait().exits(0).quietly();
    assert!(start.elapsed() < RESUMES_WITHIN, "{:?}", start.elapsed());
    writer.wait().exits(0);
}

#[test]
fn a_data_folder_that_is_deleted_makes_the_log_read_only_and_the_relay_stays() {
    let disk = SmallDisk::new();
    let home = &disk.home;
    home.store("x", "kept\n");
    for entry in fs::read_dir(disk.data()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let relay = home.relay();
    let lost = home.skypipe(["write", "y", "lost"]).run().exits(8).fails_with("E_STORAGE");
    lost.says("read-only").says("the file was removed");
    home.skypipe(["write", "y", "lost"]).run().exits(8).fails_with("E_STORAGE");
    // What is gone is not called an empty pipe, and nothing more is deleted.
    home.skypipe(["read", "x"]).run().exits(8).gave("").fails_with("E_STORAGE");
    home.skypipe(["rm", "x"]).run().exits(8).fails_with("E_STORAGE");
    home.skypipe(["ls"]).ok().says("");
    assert!(home.skypipe(["stat", "--json", "x"]).ok().text().contains("\"read_only\":true"));
    assert!(home.skypipe(["check", "--json"]).ok().text().contains("\"read_only\":true"));
    assert_eq!(home.relay(), relay, "the relay stays");
    assert!(disk.relay.errors().contains("read-only"), "its operator is told: {}", disk.relay.errors());
}
