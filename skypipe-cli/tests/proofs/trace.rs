//! What `strace -f -y -xx -ttt -T` wrote down, as calls that begin and end.
//!
//! Of two lines the earlier one happened first, as far as it matters: a thread stands still until the line about it is written. A
//! call that another one came between has two lines.

use std::collections::HashMap;

/// One call of the traced process.
#[derive(Debug, Default)]
pub struct Call {
    pub name: String,
    /// What stands between its parentheses.
    pub arguments: String,
    /// What it returned; none when it did not return.
    pub returned: Option<i64>,
    /// When it returned, in seconds since 1970.
    pub ended_at: f64,
    /// The line at which it begins, and that at which it ends.
    pub lines: (usize, usize),
}

/// The calls in the order in which they ended.
pub fn calls(trace: &str) -> Vec<Call> {
    let mut open: HashMap<&str, Call> = HashMap::new();
    let mut calls = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((thread, line)) = line.split_once(' ') else { continue };
        let Some((time, line)) = line.trim_start().split_once(' ') else { continue };
        let time: f64 = time.parse().unwrap_or_default();
        if let Some(line) = line.strip_prefix("<... ") {
            let Some(mut call) = open.remove(thread) else { continue };
            let Some((_, rest)) = line.split_once(" resumed>") else { continue };
            call.end(rest, number, time, false);
            calls.push(call);
        } else if let Some((name, rest)) = line.split_once('(') {
            let call = Call { name: name.to_owned(), lines: (number, number), ..Call::default() };
            if let Some(arguments) = rest.strip_suffix(" <unfinished ...>") {
                open.insert(thread, Call { arguments: arguments.to_owned(), ..call });
            } else {
                let mut call = call;
                call.end(rest, number, time, true);
                calls.push(call);
            }
        }
    }
    calls
}

impl Call {
    /// Adds the rest of its arguments, and what it returned. On a line of its own the time is that of its begin.
    fn end(&mut self, rest: &str, line: usize, time: f64, whole: bool) {
        let (arguments, result) = rest.rsplit_once(" = ").unwrap_or((rest, ""));
        self.arguments.push_str(arguments.trim_end().trim_end_matches(')'));
        // Behind the number of a new descriptor stands what it is for.
        self.returned = result.split([' ', '<']).next().and_then(|word| word.parse().ok());
        let took = result.rsplit_once('<').and_then(|(_, took)| took.trim_end_matches('>').parse::<f64>().ok());
        self.ended_at = if whole { time + took.unwrap_or_default() } else { time };
        self.lines.1 = line;
    }

    /// What its first argument, a descriptor, stands for: a path, or `socket:[NUMBER]`.
    pub fn target(&self) -> String {
        let Some((_, rest)) = self.arguments.split_once('<') else { return String::new() };
        let target = rest.split_once('>').map_or(rest, |(target, _)| target);
        String::from_utf8_lossy(&unescaped(target)).into_owned()
    }

    /// All bytes that it was given or gave, one buffer behind the other.
    pub fn bytes(&self) -> Vec<u8> {
        self.arguments.split('"').skip(1).step_by(2).flat_map(unescaped).collect()
    }

    /// Its last argument, a number.
    pub fn last_number(&self) -> Option<u64> {
        self.arguments.rsplit(", ").next()?.parse().ok()
    }
}

/// `\x41b` is `Ab`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let hex = (rest.len() >= 4 && rest.starts_with(b"\\x")).then(|| std::str::from_utf8(&rest[2..4]).ok());
        match hex.flatten().and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    bytes
}

#[test]
fn a_call_with_another_between_its_lines_is_one() {
    let trace = r#"7 1.5 pwritev(3<\x2f\x61>, [{iov_base="\x41\x42", iov_len=2}, {iov_base="\x43", iov_len=1}], 2, 9 <unfinished ...>
8 1.6 fdatasync(3<\x2f\x61>)     = 0 <0.25>
7 2.5 <... pwritev resumed>)  = 3 <1.0>
8 2.6 fdatasync(3<\x2f\x61>) = -1 EIO (Input/output error) (INJECTED) <0.1>
7 2.7 --- SIGCHLD {} ---
7 2.8 exit_group(0)      = ?"#;
    let calls = calls(trace);
    let ends: Vec<_> = calls.iter().map(|call| (call.name.as_str(), call.returned, call.lines)).collect();
    assert_eq!(ends[0], ("fdatasync", Some(0), (1, 1)));
    assert_eq!(ends[1], ("pwritev", Some(3), (0, 2)));
    assert_eq!((ends[2].1, ends[3].1), (Some(-1), None));
    assert_eq!((calls[1].target(), calls[1].bytes(), calls[1].last_number()), ("/a".into(), b"ABC".to_vec(), Some(9)));
    assert!((calls[0].ended_at - 1.85).abs() < 1e-9 && (calls[1].ended_at - 2.5).abs() < 1e-9);
}
