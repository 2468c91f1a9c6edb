//! Who a process is, told apart from every later one with the same number.

use std::fs::File;
use std::io::Read as _;
use std::sync::OnceLock;

use crate::caller::ProcessId;

/// Longer than what the kernel says of a process in one line, so that it is read in one go and not in six.
const STAT_BYTES: usize = 1024;

/// The process with this number as it runs now; what cannot be known is 0.
pub fn process_id(pid: u32) -> ProcessId {
    ProcessId { pid, started: started(pid).unwrap_or(0), boot: boot().unwrap_or(0) }
}

/// Whether this very process still runs. Where that cannot be known it counts as running, and only time tells.
pub fn is_alive(process: ProcessId) -> bool {
    if process.started == 0 || process.boot == 0 {
        return true;
    }
    process_id(process.pid) == process
}

/// Field 22 of `/proc/PID/stat`. The name in field 2 may hold blanks and brackets, so counting starts behind its last bracket.
fn started(pid: u32) -> Option<u64> {
    let mut stat = String::with_capacity(STAT_BYTES);
    File::open(format!("/proc/{pid}/stat")).ok()?.read_to_string(&mut stat).ok()?;
    let mut behind_name = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    // A process that is dead and not yet waited for still has an entry.
    let state = behind_name.next()?;
    if matches!(state, "Z" | "X") { None } else { behind_name.nth(18)?.parse().ok() }
}

/// The kernel's boot id, a random UUID, folded to 64 bits. It is asked for once: no process lives longer.
fn boot() -> Option<u64> {
    static BOOT: OnceLock<Option<u64>> = OnceLock::new();
    *BOOT.get_or_init(read_boot)
}

fn read_boot() -> Option<u64> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16).ok()?;
    Some((number >> 64) as u64 ^ number as u64)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let own = process_id(std::process::id());
        assert!(own.started > 0 && own.boot != 0);
        assert_eq!(own, process_id(own.pid));
        assert_eq!(process_id(0).started, 0);
        assert!(is_alive(own) && !is_alive(ProcessId { started: own.started + 1, ..own }));
    }
}
