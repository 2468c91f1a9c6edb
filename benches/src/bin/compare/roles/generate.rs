//! Writes the records of a task to stdout.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use super::Post;
use crate::Failure;
use crate::control::Report;
use crate::record::Records;

pub(super) async fn generate(post: Post<'_>) -> Result<Report, Failure> {
    let Post { task, control, .. } = post;
    // Without the buffer for lines that stdout has.
    let mut stdout = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let mut records = Records::of(task, task.writer);
    control.ready().await?;
    control.go().await?;
    let begin = crate::now();
    for _ in 0..task.records {
        stdout.write_all(records.next())?;
    }
    Ok(Report::written(begin))
}
