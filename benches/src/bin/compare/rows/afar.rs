//! What goes over a network, here over loopback: large records and small ones.

use super::{KIB, bytes_per_second, length, records_per_second};
use crate::contender::Contender;
use crate::peers::{Bare, Nats, Skypipe, SkypipeCommands, Ssh};
use crate::row::{Row, Setting};
use crate::task::Task;

const WHOLE: u64 = 1 << 30;
const QUICK: u64 = 16 << 20;
const RECORD_BYTES: usize = 256 * KIB;
const SMALL_BYTES: usize = 128;
const SMALL_RECORDS: u64 = 4_000_000;
const SMALL_QUICK: u64 = 100_000;

const WS: [&dyn Contender; 3] = [&Skypipe::Ws, &Bare::Ws, &Bare::Tcp];
const WSS: [&dyn Contender; 3] = [&Skypipe::Wss, &Bare::Wss, &Bare::Tls];
const QUIC: [&dyn Contender; 4] = [&Skypipe::Quic, &Bare::Quinn, &SkypipeCommands(Skypipe::Quic), &Ssh];
const SMALL_WS: [&dyn Contender; 3] = [&Skypipe::Ws, &Bare::Ws, &Nats];
const SMALL_QUIC: [&dyn Contender; 3] = [&Skypipe::Quic, &Bare::Quinn, &Nats];

pub(super) fn rows(setting: &Setting) -> Vec<Row> {
    vec![
        bulk(setting, "ws", &WS),
        bulk(setting, "wss", &WSS),
        bulk(setting, "quic", &QUIC),
        messages(setting, "messages-ws", "ws", &SMALL_WS),
        messages(setting, "messages-quic", "quic", &SMALL_QUIC),
    ]
}

fn bulk(setting: &Setting, medium: &'static str, who: &[&'static dyn Contender]) -> Row {
    let task = Task::live(RECORD_BYTES, setting.size(WHOLE, QUICK) / RECORD_BYTES as u64);
    Row {
        family: medium,
        name: format!("bulk, {}, {medium}", length(RECORD_BYTES)),
        entries: who.iter().map(|&who| bytes_per_second(who, task.clone())).collect(),
    }
}

fn messages(setting: &Setting, family: &'static str, medium: &str, who: &[&'static dyn Contender]) -> Row {
    let task = Task::live(SMALL_BYTES, setting.size(SMALL_RECORDS, SMALL_QUICK));
    Row {
        family,
        name: format!("messages 1 to 1, {}, {medium}", length(SMALL_BYTES)),
        entries: who.iter().map(|&who| records_per_second(who, task.clone(), 1)).collect(),
    }
}
