//! The processes: a redis-server with its files, which may be killed and comes back with them, and the sidecar. Each
//! ends with the program. It must not know what is sent to them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::wire::{Connection, Reply};

/// A process whose output goes to a file.
pub struct Process {
    child: Child,
    name: &'static str,
}

/// A redis-server that syncs its file with every write.
pub struct Server {
    pub port: u16,
    pub process: Process,
    folder: PathBuf,
}

/// The sidecar in front of a link.
pub struct Sidecar {
    pub port: u16,
    pub admin_port: u16,
    pub process: Process,
    pub policies: PathBuf,
}

/// How long a process may take to be there.
const START_MAX: Duration = Duration::from_secs(60);

// === impl Process ===

impl Process {
    fn start(name: &'static str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        Ok(Self { child: child.with_context(|| format!("{name} cannot be started"))?, name })
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status()?;
        if !sent.success() {
            bail!("kill -s {name} to {} failed", self.name);
        }
        Ok(())
    }

    /// Kills it, and waits for its end.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The memory it holds.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Files and sockets it has open.
    pub fn files(&self) -> anyhow::Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// Seconds that it has had a processor. A tick is a hundredth of a second on every Linux that this runs on.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().context("no stat")?.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).context("no ticks");
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already is just as well.
        drop((self.child.kill(), self.child.wait()));
    }
}

// === impl Server ===

impl Server {
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let port = free_port()?;
        let server = Self { port, process: Self::process(port, folder)?, folder: folder.to_owned() };
        server.wait()?;
        Ok(server)
    }

    fn process(port: u16, folder: &Path) -> anyhow::Result<Process> {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"]).arg(folder);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-min-size", "32mb"]);
        Process::start("redis-server", &mut command, &folder.join("server.log"))
    }

    /// Starts it again after it was killed, with its files.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.process = Self::process(self.port, &self.folder)?;
        Ok(())
    }

    /// Waits until it answers and has read its files.
    pub fn wait(&self) -> anyhow::Result<()> {
        poll("the server", START_MAX, || {
            let mut direct = Connection::open(self.port, false).ok()?;
            direct.say("PING").ok().filter(|reply| reply.is("PONG")).map(|_| ())
        })
    }

    /// Says something to the server itself.
    pub fn say(&self, line: &str) -> anyhow::Result<Reply> {
        let lost = |lost| anyhow::anyhow!("the server's own connection was lost: {lost:?}");
        Connection::open(self.port, false).map_err(lost)?.say(line).map_err(lost)
    }
}

// === impl Sidecar ===

impl Sidecar {
    /// Starts the binary in front of a port.
    pub fn start(binary: &Path, folder: &Path, upstream: u16, on_loss: &str) -> anyhow::Result<Self> {
        let (port, admin_port) = (free_port()?, free_port()?);
        let policies = folder.join("policies");
        std::fs::create_dir(&policies)?;
        std::fs::write(policies.join("namespaces.toml"), include_str!("../policies/namespaces.toml"))?;
        std::fs::write(policies.join("ttl.toml"), crate::faults::lifetimes(0))?;
        let mut command = Command::new(binary);
        command.arg("serve").args(["--workers", "2", "--near-bytes-max", "8388608", "--on-upstream-lost", on_loss]);
        command.args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen", &format!("127.0.0.1:{admin_port}")]);
        command.args(["--upstream", &format!("redis://127.0.0.1:{upstream}"), "--policy-folder"]).arg(&policies);
        for name in ["REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PASSWORD"] {
            command.env_remove(name);
        }
        let process = Process::start("bellwether", &mut command, &folder.join("sidecar.log"))?;
        let sidecar = Self { port, admin_port, process, policies };
        poll("the sidecar", START_MAX, || Connection::open(port, false).ok()?.say("PING").ok().map(|_| ()))?;
        Ok(sidecar)
    }

    /// The value of a sample of `/metrics`. 0 where there is none.
    pub fn metric(&self, sample: &str) -> anyhow::Result<f64> {
        let samples = self.metrics()?;
        Ok(samples.into_iter().find(|(name, _)| name == sample).map_or(0.0, |(_, value)| value))
    }

    /// All samples of `/metrics`.
    pub fn metrics(&self) -> anyhow::Result<Vec<(String, f64)>> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.admin_port))?;
        write!(socket, "GET /metrics HTTP/1.1\r\nHost: sidecar\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        socket.read_to_string(&mut page)?;
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(page.lines().filter_map(sample).collect())
    }
}

/// Looks until there is what was expected.
pub fn poll<T>(what: &str, time: Duration, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let end = Instant::now() + time;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() > end {
            bail!("waited {time:?} for {what}");
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
