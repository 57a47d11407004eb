//! A real redis-server of the test's own, on a port of its own, with nothing in it.

use std::process::Command;

use super::Client;
use super::process::{Process, free_port};

/// The server that is installed.
const PROGRAM: &str = "redis-server";

/// A running redis-server.
pub struct Redis {
    pub port: u16,
    pub process: Process,
    /// The password of its default user; none: empty.
    pub password: String,
    _folder: tempfile::TempDir,
}

impl Redis {
    /// Starts one.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with more of its own options, such as `["--requirepass", "x"]`.
    pub fn start_with(options: &[&str]) -> Self {
        Self::start_at(free_port(), options)
    }

    /// Starts one on a port, where another may have been before.
    pub fn start_at(port: u16, options: &[&str]) -> Self {
        Self::start_program(PROGRAM, port, options)
    }

    /// The servers to test with: the one that is installed, and those that `TEST_SERVERS` names, separated by colons.
    pub fn programs() -> Vec<String> {
        let more = std::env::var("TEST_SERVERS").unwrap_or_default();
        let more = more.split(':').filter(|program| !program.is_empty()).map(str::to_owned);
        [PROGRAM.to_owned()].into_iter().chain(more).collect()
    }

    /// Starts one of [`Redis::programs`].
    pub fn start_program(program: &str, port: u16, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .args(options);
        let mut process = Process::start(&mut command);
        process.wait_for("Redis that is ready", |line| line.contains("Ready to accept connections").then_some(()));
        let password = options.iter().skip_while(|option| **option != "--requirepass").nth(1);
        Self { port, process, password: password.copied().unwrap_or_default().to_owned(), _folder: folder }
    }

    /// A client of the server itself, as it connects.
    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// A client of the server itself that may do everything.
    pub fn admin(&self) -> Client {
        let mut client = self.client();
        if !self.password.is_empty() {
            assert_eq!(client.ask(&format!("AUTH {}", self.password)), "+OK");
        }
        client
    }
}
