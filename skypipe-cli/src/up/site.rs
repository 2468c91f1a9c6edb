//! A machine at the other end of ssh, and what is done there.

use skypipe_core::{Code, Error};

use super::answer::Answer;
use super::machine::Machine;
use super::place::Place;
use super::plan::{self, Plan};
use super::program::Program;
use super::script;
use super::ssh::Ssh;
use super::version::Version;

/// How every network URL of a relay begins.
const SCHEMES: [&str; 2] = ["quic://", "wss://"];

/// One machine.
pub(crate) struct Site {
    ssh: Ssh,
}

/// A relay that accepts.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its URLs, with its key.
    pub(crate) urls: Vec<String>,
    /// Whether the account's services end when nobody is logged in, and the machine would not change that.
    pub(crate) ends_at_logout: bool,
}

impl Site {
    /// As [`Ssh::new`].
    pub(crate) fn new(host: &str, options: &[String]) -> Result<Self, Error> {
        Ok(Self { ssh: Ssh::new(host, options)? })
    }

    /// The machine, as it was named.
    pub(crate) fn host(&self) -> &str {
        self.ssh.host()
    }

    /// The name or address that ssh connects to.
    pub(crate) fn address(&self) -> Option<String> {
        self.ssh.address()
    }

    /// Looks; touches nothing.
    ///
    /// # Errors
    /// As [`Ssh::run`] and [`Machine::of_answer`].
    pub(crate) fn look(&self, port: Option<u16>) -> Result<Machine, Error> {
        Machine::of_answer(&self.ssh.run(&script::probe(port))?)
    }

    /// Copies the binary, tries it there, and gives it its name. Until the last moment nothing is changed; what was there
    /// goes on running.
    ///
    /// # Errors
    /// `E_USAGE` when it does not run there, `E_VERSION` when it is older than what is there.
    pub(crate) fn copy(&self, program: &Program, machine: &Machine, place: &Place) -> Result<(), Error> {
        self.ssh.run(&script::prepare(place))?;
        let upload = script::upload_path(place, u64::from(std::process::id()));
        self.ssh.copy(&program.file, &upload)?;
        let answer = self.ssh.run(&script::check_upload(place, &upload, &program.sum))?;
        if let Err(error) = fits(&answer, machine) {
            // It was in nobody's way; what counts is why it is not used.
            let _ = self.ssh.run(&script::discard(place, &upload));
            return Err(error);
        }
        self.ssh.run(&script::install(place, &upload)).map(drop)
    }

    /// Starts the service, or starts it again, and waits until it accepts.
    ///
    /// # Errors
    /// What the service manager or the relay's own log says.
    pub(crate) fn serve(&self, plan: &Plan, machine: &Machine, owner: &str) -> Result<Started, Error> {
        let answer = self.ssh.run(&script::serve(plan, machine.init, owner))?;
        let lines: Vec<String> = answer.all("url").map(str::to_owned).collect();
        Ok(Started { urls: network_urls(&lines), ends_at_logout: answer.get("nolinger").is_some() })
    }

    /// Stops and removes service and binary; data stay.
    ///
    /// # Errors
    /// What cannot be stopped or removed.
    pub(crate) fn remove(&self, machine: &Machine, place: &Place) -> Result<(), Error> {
        self.ssh.run(&script::remove(place, machine.init)).map(drop)
    }

    /// Deletes what was stored, and the relay's keys.
    ///
    /// # Errors
    /// A folder that is no relay's, or cannot be deleted.
    pub(crate) fn delete_data(&self, place: &Place) -> Result<(), Error> {
        self.ssh.run(&script::delete_data(place)).map(drop)
    }
}

/// The URLs among what a relay says of itself.
pub(crate) fn network_urls(lines: &[String]) -> Vec<String> {
    let is_network = |line: &&String| SCHEMES.iter().any(|s| line.starts_with(s)) && !line.contains([',', ' ']);
    lines.iter().filter(is_network).cloned().collect()
}

/// Whether what arrived runs there, and is not older than what it replaces.
fn fits(answer: &Answer, machine: &Machine) -> Result<(), Error> {
    if let Some(said) = answer.get("unfit") {
        let line = format!("the binary does not run there ({said}); {}", plan::advice(machine));
        return Err(Error::new(Code::Usage, line));
    }
    let Some(version) = answer.get("version").and_then(Version::of_answer) else {
        return Err(Error::new(Code::Usage, "the binary is not skypipe: it does not tell its version"));
    };
    plan::check_newer(machine.installed.as_ref().and_then(|i| i.version.as_ref()), Some(&version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_network_urls_are_a_way_to_it() {
        let lines = ["# skypipe 0.1.0", "unix:/x", "quic://k@h:1", "wss://k@h:1", "wss://k@h:1,unix:/x", ""];
        assert_eq!(network_urls(&lines.map(str::to_owned)), ["quic://k@h:1", "wss://k@h:1"]);
    }

    #[test]
    fn what_does_not_run_there_is_explained() {
        let machine = Machine { os: "linux".into(), arch: "x86_64".into(), ..Machine::default() };
        let answer = |line: &str| Answer::parse(&format!("@sky {line}\n@sky end ok\n")).unwrap();
        let error = fits(&answer("unfit GLIBC_2.39 not found"), &machine).unwrap_err();
        assert!(error.text().contains("GLIBC_2.39") && error.text().contains("x86_64-unknown-linux-musl"), "{error}");
        assert_eq!(fits(&answer("version bash 5"), &machine).unwrap_err().code(), Code::Usage);
        assert!(fits(&answer("version skypipe 0.1.0"), &machine).is_ok());
    }
}
