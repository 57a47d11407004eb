//! A real redis-server of the test's own, on a port of its own, with nothing in it.

use std::process::Command;

use super::Client;
use super::process::{Process, free_port};

/// A running redis-server.
pub struct Redis {
    pub port: u16,
    pub process: Process,
    _folder: tempfile::TempDir,
}

impl Redis {
    /// Starts one.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with more of its own options, such as `["--requirepass", "x"]`.
    pub fn start_with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .args(options);
        let mut process = Process::start(&mut command);
        process.wait_for("Redis that is ready", |line| line.contains("Ready to accept connections").then_some(()));
        Self { port, process, _folder: folder }
    }

    /// A client of the server itself.
    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }
}
