//! The machine that it was measured on, and the peers' versions.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::peers;
use crate::programs::{find, version};
use crate::row::Setting;

/// Programs of peers, and how each is asked for its version.
const PEERS: [(&str, &str); 8] = [
    ("nats-server", "--version"),
    ("redis-server", "--version"),
    ("mosquitto", "-h"),
    ("socat", "-V"),
    ("ssh", "-V"),
    ("curl", "--version"),
    ("node", "--version"),
    ("rustc", "--version"),
];

/// A list in Markdown.
pub(crate) fn print(setting: &Setting) {
    println!("* CPU: {}, {} cores", cpu(), std::thread::available_parallelism().map_or(0, usize::from));
    println!("* memory: {}; kernel: {}", memory(), read("/proc/sys/kernel/osrelease"));
    println!("* disk: {}", disk(&setting.folder));
    println!("* load before: {}", read("/proc/loadavg"));
    for (name, argument) in PEERS {
        println!("* {name}: {}", version_of(find(name).as_deref(), argument));
    }
    println!("* piping-server: {}", version_of(peers::piping_server().as_deref(), "--version"));
    println!("* skypipe: {}", version_of(peers::skypipe::program().ok().as_deref(), "--version"));
    println!(
        "* runs: {}, in turns{}\n",
        setting.runs,
        if setting.quick { "; sizes of `--quick`, which say nothing" } else { "" }
    );
}

fn version_of(program: Option<&Path>, argument: &str) -> String {
    let Some(program) = program else { return "not installed".to_owned() };
    version(program, argument).unwrap_or_else(|| "says no version".to_owned())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn cpu() -> String {
    let text = read("/proc/cpuinfo");
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

fn memory() -> String {
    let text = read("/proc/meminfo");
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes: f64 = total.and_then(|kb| kb.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0);
    format!("{:.1} GiB", kilobytes / f64::from(1 << 20))
}

/// Device and file system of the folder that is written to.
fn disk(folder: &Path) -> String {
    let said = Command::new("df").args(["--output=source,fstype,avail", "-h"]).arg(folder).output();
    let text = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let line = text.lines().nth(1).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(", ");
    format!("{line} free")
}
