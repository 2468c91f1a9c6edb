//! The writing end of a contender with a client of its own.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Post;
use crate::Failure;
use crate::contender::Sender;
use crate::control::Report;
use crate::record::Records;
use crate::task::{Pace, Task};

/// Connects as many senders as the task wants of one process, and sends when told to.
pub(crate) async fn write<S: Sender>(
    post: Post<'_>,
    connect: impl AsyncFn() -> Result<S, Failure>,
) -> Result<Report, Failure> {
    let Post { task, control, .. } = post;
    let mut senders = Vec::new();
    for writer in writers(task) {
        senders.push((writer, connect().await?));
    }
    control.ready().await?;
    control.go().await?;
    let begin = crate::now();
    futures::future::try_join_all(senders.into_iter().map(|(writer, sender)| send(task, writer, sender))).await?;
    Ok(Report::written(begin))
}

fn writers(task: &Task) -> std::ops::Range<u16> {
    if task.pace == Pace::Outstanding { 0..task.writers } else { task.writer..task.writer + 1 }
}

async fn send<S: Sender>(task: &Task, writer: u16, mut sender: S) -> Result<(), Failure> {
    let mut records = Records::of(task, writer);
    match task.pace {
        Pace::Full | Pace::Awaited | Pace::Idle => {
            for _ in 0..task.records {
                sender.send(records.next()).await?;
            }
            sender.flush().await?;
        }
        Pace::Outstanding => {
            for _ in 0..task.records {
                sender.send(records.next()).await?;
                sender.settle().await?;
            }
        }
        Pace::Every(micros) => {
            let mut ticks = interval(Duration::from_micros(micros));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for _ in 0..task.records {
                ticks.tick().await;
                sender.send(records.next_at(crate::now())).await?;
                sender.flush().await?;
            }
        }
    }
    sender.end().await
}
