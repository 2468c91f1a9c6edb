//! `skypipe man`

use skypipe_core::{Code, Error};

use super::print;
use crate::args::command;
use crate::exit::Exit;

pub(crate) fn run() -> Result<Exit, Error> {
    let mut page = Vec::new();
    let mut command = command();
    command.build();
    let made = clap_mangen::Man::new(command.clone()).render(&mut page).and_then(|()| {
        // One page for all: each verb follows with its own options.
        command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help").try_for_each(|verb| {
            let man = clap_mangen::Man::new(verb.clone());
            man.render_synopsis_section(&mut page)?;
            man.render_description_section(&mut page)?;
            man.render_options_section(&mut page)?;
            if verb.has_subcommands() { man.render_subcommands_section(&mut page) } else { Ok(()) }
        })
    });
    made.map_err(|e| Error::new(Code::Internal, format!("the page cannot be made: {e}")))?;
    print(&String::from_utf8_lossy(&page))
}
