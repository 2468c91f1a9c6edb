//! What this program does as a process of a run: write, read, generate, check.

mod check;
mod generate;
mod read;
mod write;

pub(crate) use read::read;
pub(crate) use write::write;

use crate::Failure;
use crate::contender::Contender;
use crate::control::Control;
use crate::task::Task;

/// What a role is given.
pub(crate) struct Post<'a> {
    pub(crate) task: &'a Task,
    /// Where the server is.
    pub(crate) at: &'a str,
    pub(crate) control: &'a mut Control,
}

/// Plays the role of these words: its name, the socket of control, the task, and for an end of a contender its name and place.
pub(crate) async fn play(words: &[String]) -> Result<(), Failure> {
    let [role, socket, task, rest @ ..] = words else { return Err("not a role".into()) };
    let task: Task = serde_json::from_str(task)?;
    let mut control = Control::join(socket).await?;
    let (contender, at) = match rest {
        [name, at] => (Some(crate::peers::named(name)?), at.as_str()),
        _ => (None, ""),
    };
    let post = Post { task: &task, at, control: &mut control };
    let outcome = match (role.as_str(), contender) {
        ("write", Some(contender)) => Contender::write(contender, post).await,
        ("read", Some(contender)) => Contender::read(contender, post).await,
        ("generate", None) => generate::generate(post).await,
        ("check", None) => check::check(post).await,
        _ => Err(format!("no role: {role}").into()),
    };
    control.done(outcome).await
}
