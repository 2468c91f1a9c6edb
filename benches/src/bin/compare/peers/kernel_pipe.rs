//! Nothing at all between a generator and a checker: one pipe of the kernel, as large as a shell makes it.

use crate::Failure;
use crate::contender::{Contender, Ends};
use crate::ground::{Ground, Server};

pub(crate) struct KernelPipe;

impl Contender for KernelPipe {
    fn name(&self) -> String {
        "one kernel pipe".to_owned()
    }

    fn acknowledgement(&self) -> &'static str {
        "none"
    }

    fn serve(&self, _: &Ground) -> Result<Server, Failure> {
        Ok(Server::default())
    }

    fn ends(&self) -> Ends {
        Ends::Pipe
    }
}
