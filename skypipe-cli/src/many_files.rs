//! How many files this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A link is a file, and a thousand are soon there: as many as the system lets this user have.
pub(crate) fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, the process has the files it has.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
