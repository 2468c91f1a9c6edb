//! A relay under `strace`, which kills it at a call, makes a call fail or slow, and writes down what it does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skypipe_core::local_socket::LocalSocketTransport;
use skypipe_core::{BrokerPipe, Caller, PipeName, RemoteBroker};

use crate::harness::{Done, Home, PATIENCE, Running, Signal, until};

/// Segments as small as this come and go by the dozen in what a proof writes.
pub const SEGMENT_BYTES: u64 = 24 * 1024;

/// A relay in a home of its own that no client starts again: the proof does.
pub struct Relay {
    running: Running,
    trace: Option<PathBuf>,
}

impl Relay {
    /// Starts one as it is.
    pub fn start(home: &Home) -> Self {
        let segment_bytes = SEGMENT_BYTES.to_string();
        let running = home.skypipe(["relay", "--segment-bytes", &segment_bytes]).start();
        Self { running, trace: None }
    }

    /// Starts one under `strace` with these options; `trace` are the calls that are looked at, which is where their cost is.
    pub fn under_strace(home: &Home, trace: &str, options: &[String]) -> Self {
        Self::limited(home, trace, options, "")
    }

    /// The same, behind a line for the shell that limits what it may have.
    pub fn limited(home: &Home, trace: &str, options: &[String], limits: &str) -> Self {
        let file = home.path("trace");
        let mut prefix = ["strace", "-f", "-qq", "-y", "-o"].map(str::to_owned).to_vec();
        // With it, calls that are not looked at cost nothing; but signals come through at the first call only.
        if !options.iter().any(|option| option.contains("signal=")) {
            prefix.insert(1, "--seccomp-bpf".to_owned());
        }
        prefix.extend([file.display().to_string(), "-e".to_owned(), format!("trace={trace}")]);
        prefix.extend_from_slice(options);
        if !limits.is_empty() {
            prefix.extend(["sh", "-c", &format!("{limits}; exec \"$0\" \"$@\"")].map(str::to_owned));
        }
        let segment_bytes = SEGMENT_BYTES.to_string();
        let running = home.skypipe(["relay", "--segment-bytes", &segment_bytes]).within(&prefix).start();
        Self { running, trace: Some(file) }
    }

    /// Waits until it accepts; false when it ended before.
    pub fn serves(&mut self) -> bool {
        let start = Instant::now();
        while !self.running.output().contains("unix:") {
            if !self.running.is_running() {
                return false;
            }
            assert!(start.elapsed() < PATIENCE, "it never served: {}", self.running.errors());
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    pub fn is_running(&mut self) -> bool {
        self.running.is_running()
    }

    /// What it said on stderr so far.
    pub fn errors(&self) -> String {
        self.running.errors()
    }

    /// Ends it in order, if it still runs, and gives what it left and what `strace` wrote down.
    pub fn stop(mut self, home: &Home) -> (Done, String) {
        if self.is_running() {
            // The process that the lock names, not `strace` before it.
            let relay = until("the relay has a number or is gone", || match self.is_running() {
                true => home.relay_now().map(Some),
                false => Some(None),
            });
            relay.into_iter().for_each(|relay| crate::harness::send(relay, Signal::TERM));
        }
        let done = self.running.wait();
        let trace = self.trace.map(|file| std::fs::read(file).unwrap_or_default()).unwrap_or_default();
        (done, String::from_utf8_lossy(&trace).into_owned())
    }
}

/// A pipe of the relay of `home`, for clients in this process.
pub fn pipe(home: &Home, name: &str) -> BrokerPipe {
    let url = format!("unix:{}", home.skypipe_home().join("relay.sock").display());
    let broker = Arc::new(RemoteBroker::new(Arc::new(LocalSocketTransport), &url));
    BrokerPipe::new(broker, Caller::in_process(), PipeName::new(name).unwrap())
}

/// One option of `strace`: `-e inject=CALL:WHAT`.
pub fn inject(call: &str, what: &str) -> [String; 2] {
    ["-e".to_owned(), format!("inject={call}:{what}")]
}
