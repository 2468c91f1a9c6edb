//! Where the parts of a relay lie on the other machine. `probe.sh` has the same paths.

use skypipe_core::Error;

use super::machine::{Init, Machine};
use super::settings::{self, Settings};

/// The folders and files of one relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Binary, settings, owner's key.
    pub(crate) lib: String,
    /// The file that tells the service manager, or the supervisor itself.
    pub(crate) service: String,
    /// What the relay stores, and its keys.
    pub(crate) data: String,
}

impl Place {
    /// The place of the relay on `machine`, set up with `settings`.
    ///
    /// # Errors
    /// `E_USAGE` for an account whose home folder has a name that a shell would act upon.
    pub(crate) fn of(machine: &Machine, settings: &Settings) -> Result<Self, Error> {
        if machine.init == Init::System {
            return Ok(Self::system());
        }
        let home = settings::folder(&machine.home)?;
        let lib = format!("{home}/.local/lib/skypipe");
        let service = match machine.init {
            Init::User => format!("{home}/.config/systemd/user/skypipe.service"),
            _ => format!("{lib}/supervise"),
        };
        let data = settings.data.clone().unwrap_or_else(|| format!("{home}/.local/share/skypipe-relay"));
        Ok(Self { lib, service, data })
    }

    /// The place of root's.
    pub(crate) fn system() -> Self {
        Self {
            lib: "/usr/local/lib/skypipe".to_owned(),
            service: "/etc/systemd/system/skypipe.service".to_owned(),
            // Where systemd keeps the state of services whose user exists only while they run.
            data: "/var/lib/private/skypipe".to_owned(),
        }
    }

    /// The binary.
    pub(crate) fn program(&self) -> String {
        format!("{}/skypipe", self.lib)
    }

    /// The line of the owner's key.
    pub(crate) fn owner(&self) -> String {
        format!("{}/owner.pub", self.lib)
    }
}
