//! Two ssh legs and a FIFO at an sshd with keys of its own: what people do without a relay.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Failure;
use crate::contender::{Contender, Ends, Side};
use crate::ground::{Ground, Server, free_port};
use crate::process::{Process, command};
use crate::programs;

/// The fastest cipher that OpenSSH has on processors with AES.
const CIPHER: &str = "aes128-gcm@openssh.com";

pub(crate) struct Ssh;

impl Contender for Ssh {
    fn name(&self) -> String {
        "two ssh legs and a FIFO".to_owned()
    }

    fn programs(&self) -> &'static [&'static str] {
        &["ssh", "sshd", "ssh-keygen", "mkfifo"]
    }

    fn acknowledgement(&self) -> &'static str {
        "none"
    }

    fn serve(&self, ground: &Ground) -> Result<Server, Failure> {
        let (host_key, own_key, port) = (ground.data().join("host"), ground.data().join("own"), free_port()?);
        make_key(&host_key)?;
        make_key(&own_key)?;
        programs::run(Command::new("mkfifo").arg(ground.data().join("fifo")))?;
        let settings = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}.pub\nPidFile none\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\nPermitRootLogin yes\nLogLevel ERROR\n",
            host_key.display(),
            own_key.display()
        );
        let settings = ground.file("sshd_config", &settings)?;
        // sshd starts itself anew for each connection, so it wants its whole path.
        let mut server = command(programs::find("sshd").ok_or("no sshd")?);
        server.args(["-D", "-e", "-f"]).arg(settings).stderr(Stdio::null());
        Server::at_port(Process::start("sshd", &mut server)?, port)
    }

    fn ends(&self) -> Ends {
        Ends::Commands
    }

    fn command(&self, side: Side, server: &Server, ground: &Ground) -> Result<Command, Failure> {
        let (host, port) = server.at.split_once(':').ok_or("no port")?;
        let fifo = ground.data().join("fifo");
        let mut ssh = command("ssh");
        ssh.args(["-F", "none", "-p", port, "-c", CIPHER, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]);
        ssh.args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        ssh.args(["-o", "LogLevel=ERROR", "-i"]).arg(ground.data().join("own")).arg(host);
        match side {
            Side::Write => ssh.arg(format!("cat > '{}'", fifo.display())),
            Side::Read => ssh.arg(format!("cat '{}'", fifo.display())).stdin(Stdio::null()),
        };
        Ok(ssh)
    }
}

fn make_key(path: &Path) -> Result<(), Failure> {
    programs::run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path))
}
