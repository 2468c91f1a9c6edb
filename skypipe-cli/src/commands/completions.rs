//! `skypipe completions SHELL`

use skypipe_core::Error;

use super::print;
use crate::args::{CompletionsArgs, command};
use crate::exit::Exit;

pub(crate) fn run(args: CompletionsArgs) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "skypipe", &mut script);
    print(&String::from_utf8_lossy(&script))
}
