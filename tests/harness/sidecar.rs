//! The real binary, on ports that it picks itself.

use std::path::Path;
use std::process::{Command, Output};

use super::process::Process;
use super::{Client, Redis};

/// A running sidecar.
pub struct Sidecar {
    pub port: u16,
    pub admin_port: u16,
    pub process: Process,
}

impl Sidecar {
    /// In front of a Redis, with more flags.
    pub fn serve(redis: &Redis, flags: &[&str]) -> Self {
        let upstream = format!("redis://127.0.0.1:{}", redis.port);
        Self::start("serve", &[&["--upstream", &upstream], flags].concat())
    }

    /// On the embedded store, without a policy folder unless a flag names one.
    pub fn dev(flags: &[&str]) -> Self {
        Self::start("dev", &[&["--policy-folder", ""], flags].concat())
    }

    /// Any verb that serves, once it listens.
    pub fn start(verb: &str, flags: &[&str]) -> Self {
        let mut command = bellwether();
        command.arg(verb).args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).args(flags);
        let mut process = Process::start(&mut command);
        let port = |line: &str, before: &str| line.split_once(before)?.1.split_whitespace().next()?.parse().ok();
        let port_of = process.wait_for("sidecar that listens", |line| port(line, "bellwether listens on 127.0.0.1:"));
        let admin_port = process.wait_for("admin server", |line| port(line, "admin server listens address=127.0.0.1:"));
        Self { port: port_of, admin_port, process }
    }

    /// A client of the sidecar.
    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// The page `/policies`.
    pub fn policies(&self) -> serde_json::Value {
        let (status, body) = self.admin("/policies");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The value of a sample of `/metrics`, such as `bellwether_commands_total{kind="read"}`. 0 where there is none.
    pub fn metric(&self, sample: &str) -> f64 {
        let (_, body) = self.admin("/metrics");
        let value = body.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The status and body of a page of the admin server.
    pub fn admin(&self, path: &str) -> (u16, String) {
        use std::io::{Read, Write};
        let mut socket = std::net::TcpStream::connect(("127.0.0.1", self.admin_port)).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: sidecar\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

/// Runs a verb that ends: what it printed.
pub fn run(args: &[&str], folder: &Path) -> Output {
    bellwether().args(args).current_dir(folder).output().unwrap()
}

/// The binary, with nothing of the outer environment that it would read.
fn bellwether() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    command.env_remove("REDIS_HOST").env_remove("REDIS_PORT").env_remove("REDIS_DB").env_remove("REDIS_PASSWORD");
    command
}
