//! A private RabbitMQ, with the configuration and the definitions that are shipped.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::process::{PeerError, find, free_ports};

/// A user with all rights, the management API's included.
const USER: &str = "private";
const PASSWORD: &str = "private";
/// The user that is shipped, with rights on keyrotate's names alone; the definitions let nobody in under that name.
const SHIPPED_USER: &str = "keyrotate";
/// Of the password: salt and SHA-256.
const PASSWORD_HASH: &str = "AQIDBL4y/ao4IWUXMHJZ9ejmyfBDBeTdIHZICF4sUEBzmd0h";
const NO_PASSWORD: &str = r#""password_hash": """#;
/// The user with all rights, for the lists of the definitions.
const USER_ENTRY: &str = r#"{"name":"private","password_hash": "",
    "hashing_algorithm":"rabbit_password_hashing_sha256","tags":"administrator","limits":{}},"#;
const PERMISSION_ENTRY: &str = r#"{"user":"private","vhost":"/","configure":".*","write":".*","read":".*"},"#;

const DEFINITIONS: &str = include_str!("../../deploy/rabbitmq/definitions.json");
const CONFIGURATION: &str = include_str!("../../deploy/rabbitmq/rabbitmq.conf");
/// What depends on the machine is replaced in it.
const REPLACED: [&str; 3] = ["load_definitions", "disk_free_limit", "management.tcp"];

/// Where Debian puts what can be called without rights; its programs in `PATH` want root.
const FOLDERS: [&str; 2] = ["/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin"];
const PROGRAM: &str = "rabbitmq-server";
/// A start lasts five seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// A port that is free may be somebody else's a moment later: then others are tried.
const TRIES: u32 = 3;
/// Reads until this process closes its end or is gone itself, then kills the process groups that are named in the folder
/// and removes it. So nothing stays when this process is killed, or keeps the handle in a `static`.
const GUARDIAN: &str = r#"cat >/dev/null; for group in $(cat "$0/groups"); do kill -9 "-$group"; done; rm -rf "$0""#;

/// A RabbitMQ on free ports of this machine. Killed with its handle or with this process, its folder removed.
#[derive(Debug)]
pub struct PrivateRabbitMq {
    folder: PathBuf,
    ports: Ports,
    guardian: Child,
    names: Child,
    server: Option<Child>,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    amqp: u16,
    management: u16,
    distribution: u16,
    /// Of Erlang's name server.
    names: u16,
}

impl PrivateRabbitMq {
    /// Starts one.
    ///
    /// # Errors
    /// When `rabbitmq-server` is missing or does not start.
    pub async fn start() -> Result<Self, PeerError> {
        for _ in 1..TRIES {
            match Self::start_on(Ports::free()?).await {
                Err(PeerError::Silent { log, .. }) if port_was_taken(&log) => {}
                other => return other,
            }
        }
        Self::start_on(Ports::free()?).await
    }

    async fn start_on(ports: Ports) -> Result<Self, PeerError> {
        program(PROGRAM)?;
        let folder = tempfile::Builder::new().prefix("keyrotate-rabbitmq-").tempdir();
        let folder = folder.map_err(PeerError::io("make a folder for RabbitMQ"))?.keep();
        fs::write(folder.join("groups"), "").map_err(PeerError::io("write into RabbitMQ's folder"))?;
        let guardian = guardian(&folder).spawn().map_err(PeerError::io("start a guardian for RabbitMQ"))?;
        // In the foreground, and before the broker would start one that stays.
        let mut names = at_home("epmd", &folder, &ports);
        let names = names.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let names = names.map_err(PeerError::io("start epmd"))?;
        let mut broker = Self { folder, ports, guardian, names, server: None };
        broker.write("definitions.json", &definitions())?;
        broker.write("rabbitmq.conf", &configuration(&broker.folder, &ports))?;
        broker.write("plugins", "[rabbitmq_management].")?;
        broker.restart().await?;
        Ok(broker)
    }

    /// Starts it again, on the same ports and folder, where it is not running.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> Result<(), PeerError> {
        self.ports_are_free().await?;
        let said = fs::File::options().create(true).append(true).open(self.folder.join("said"));
        let said = said.map_err(PeerError::io("write into RabbitMQ's folder"))?;
        let twice = said.try_clone().map_err(PeerError::io("write into RabbitMQ's folder"))?;
        let mut server = at_home(program(PROGRAM)?, &self.folder, &self.ports);
        let server = server.process_group(0).stdout(said).stderr(twice).spawn();
        self.server = Some(server.map_err(PeerError::io("start rabbitmq-server"))?);
        self.note_groups()?;
        let until = Instant::now() + PATIENCE;
        while !self.listens(self.ports.amqp).await || !self.listens(self.ports.management).await {
            if Instant::now() > until || self.has_ended() {
                return Err(self.silent());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Waits until nobody listens on its ports: of one that was killed the last process may for a moment.
    async fn ports_are_free(&self) -> Result<(), PeerError> {
        let until = Instant::now() + PATIENCE;
        while self.listens(self.ports.amqp).await || self.listens(self.ports.management).await {
            if Instant::now() > until {
                return Err(self.silent());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn silent(&self) -> PeerError {
        let log = fs::read_to_string(self.folder.join("said")).unwrap_or_default();
        PeerError::Silent { program: PROGRAM, log }
    }

    /// Kills it, as `kill -9` does.
    ///
    /// # Errors
    /// When it can't be killed.
    pub fn kill(&mut self) -> Result<(), PeerError> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let group = format!("-{}", server.id());
        let killed = Command::new("kill").args(["-9", "--", &group]).status();
        killed.and_then(|_| server.wait()).map_err(PeerError::io("kill rabbitmq-server"))?;
        self.note_groups()
    }

    /// Where its AMQP is, with all rights. `/` is its usual virtual host.
    #[must_use]
    pub fn url(&self, vhost: &str) -> String {
        self.url_of(USER, PASSWORD, vhost)
    }

    /// Where its AMQP is, for the user that is shipped.
    #[must_use]
    pub fn shipped_url(&self, vhost: &str) -> String {
        self.url_of(SHIPPED_USER, PASSWORD, vhost)
    }

    fn url_of(&self, user: &str, password: &str, vhost: &str) -> String {
        format!("amqp://{user}:{password}@127.0.0.1:{}/{}", self.ports.amqp, vhost.replace('/', "%2f"))
    }

    /// Where its management API is, with all rights.
    #[must_use]
    pub fn management_url(&self) -> String {
        format!("http://{USER}:{PASSWORD}@127.0.0.1:{}", self.ports.management)
    }

    /// Its AMQP port on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// The process group of the broker, where it runs.
    #[must_use]
    pub fn process_group(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Its folder. Each of its processes names it in its environment or command line.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs `rabbitmqctl` and returns what it said.
    ///
    /// # Errors
    /// When it fails.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String, PeerError> {
        let mut command = tokio::process::Command::from(at_home(program("rabbitmqctl")?, &self.folder, &self.ports));
        let output = command.args(arguments).kill_on_drop(true).output().await;
        let output = output.map_err(PeerError::io("run rabbitmqctl"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = [output.stdout, output.stderr].concat();
        let said = std::io::Error::other(String::from_utf8_lossy(&said).into_owned());
        Err(PeerError::io(format!("run rabbitmqctl {arguments:?}"))(said))
    }

    async fn listens(&self, port: u16) -> bool {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()
    }

    fn has_ended(&mut self) -> bool {
        self.server.as_mut().is_none_or(|server| !matches!(server.try_wait(), Ok(None)))
    }

    /// For the guardian: the broker first, for it would start another name server.
    fn note_groups(&self) -> Result<(), PeerError> {
        let groups = self.server.iter().chain([&self.names]).map(|child| child.id().to_string());
        self.write("groups", &groups.collect::<Vec<_>>().join("\n"))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), PeerError> {
        fs::write(self.folder.join(name), text).map_err(PeerError::io("write into RabbitMQ's folder"))
    }
}

impl Drop for PrivateRabbitMq {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        for child in [&mut self.guardian, &mut self.names].into_iter().chain(&mut self.server) {
            let _ = child.wait();
        }
    }
}

impl Ports {
    fn free() -> Result<Self, PeerError> {
        let [amqp, management, distribution, names] = free_ports()?;
        Ok(Self { amqp, management, distribution, names })
    }
}

fn program(name: &str) -> Result<PathBuf, PeerError> {
    let missing = || PeerError::Missing { program: PROGRAM, package: PROGRAM };
    find(name, &FOLDERS).filter(|program| FOLDERS.iter().any(|folder| program.starts_with(folder))).ok_or_else(missing)
}

fn guardian(folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", GUARDIAN]).arg(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0);
    command
}

fn at_home(program: impl AsRef<std::ffi::OsStr>, folder: &Path, ports: &Ports) -> Command {
    let mut command = Command::new(program);
    // Where it lays its dumps down when it breaks.
    command.current_dir(folder);
    command
        .env("HOME", folder)
        .env("ERL_EPMD_PORT", ports.names.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_CONF_ENV_FILE", folder.join("none"))
        .env("RABBITMQ_NODENAME", format!("keyrotate{}@localhost", ports.amqp))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", ports.amqp.to_string())
        .env("RABBITMQ_DIST_PORT", ports.distribution.to_string())
        .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
        .env("RABBITMQ_LOG_BASE", folder.join("log"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
        .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", folder.join("generated"))
        .stdin(Stdio::null());
    command
}

/// Those that are shipped, with users that get in.
fn definitions() -> String {
    let users = format!("\"users\": [{USER_ENTRY}");
    let permissions = format!("\"permissions\": [{PERMISSION_ENTRY}");
    let given = DEFINITIONS.replacen("\"users\": [", &users, 1).replacen("\"permissions\": [", &permissions, 1);
    given.replace(NO_PASSWORD, &format!("\"password_hash\": \"{PASSWORD_HASH}\""))
}

fn configuration(folder: &Path, ports: &Ports) -> String {
    let kept = CONFIGURATION.lines().filter(|line| !REPLACED.iter().any(|key| line.starts_with(key)));
    let kept: Vec<&str> = kept.collect();
    let (definitions, management) = (folder.join("definitions.json"), ports.management);
    format!(
        "{}\nload_definitions = {}\ndisk_free_limit.absolute = 50MB\nmanagement.tcp.ip = 127.0.0.1\n\
         management.tcp.port = {management}\ncollect_statistics_interval = 500\n",
        kept.join("\n"),
        definitions.display()
    )
}

/// Whether it ended since another process took one of its ports.
fn port_was_taken(log: &str) -> bool {
    ["eaddrinuse", "dist_port_already_used"].iter().any(|said| log.contains(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RabbitMQ 3.10 says it.
    #[test]
    fn a_port_that_somebody_took_is_seen_in_the_log() {
        assert!(port_was_taken("{could_not_start_listener,\"127.0.0.1\",37631,eaddrinuse}"));
        assert!(port_was_taken(
            "{failed_to_start_child,prelaunch,{dist_port_already_used,24673,\"up\",\"localhost\"}}"
        ));
        assert!(!port_was_taken("{error,{rabbitmq_management,{missing_dependencies,[]}}}"));
    }
}
