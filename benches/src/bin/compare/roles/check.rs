//! Checks the records of a task as they come from stdin.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use super::Post;
use crate::Failure;
use crate::control::Report;
use crate::record::Arrivals;

const READ_BYTES: usize = 1 << 20;

pub(super) async fn check(post: Post<'_>) -> Result<Report, Failure> {
    let Post { task, control, .. } = post;
    let mut stdin = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let (mut arrivals, mut space) = (Arrivals::of(task), vec![0; READ_BYTES]);
    control.ready().await?;
    let mut end = 0;
    while let length @ 1.. = stdin.read(&mut space)? {
        arrivals.take(&space[..length]);
        if end == 0 && arrivals.is_complete() {
            end = crate::now();
        }
    }
    Ok(Report::read(arrivals, end))
}
