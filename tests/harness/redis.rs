//! A real redis-server of the test's own, on a port of its own, with nothing in it.

use std::path::Path;
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
    folder: tempfile::TempDir,
    program: String,
    options: Vec<String>,
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
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let mut process = begin(program, port, folder.path(), &options);
        wait_until_ready(&mut process);
        let password = options.iter().skip_while(|option| *option != "--requirepass").nth(1);
        let password = password.cloned().unwrap_or_default();
        Self { port, process, password, folder, program: program.to_owned(), options }
    }

    /// Kills it and starts it again, on its port and with its files.
    pub fn restart(&mut self) {
        self.begin_again(&[]);
        wait_until_ready(&mut self.process);
    }

    /// The same with more options, without waiting until it is ready.
    pub fn begin_again(&mut self, options: &[&str]) {
        self.process.signal("KILL");
        self.process.wait();
        let all: Vec<_> = self.options.iter().cloned().chain(options.iter().map(|&option| option.to_owned())).collect();
        self.process = begin(&self.program, self.port, self.folder.path(), &all);
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

fn begin(program: &str, port: u16, folder: &Path, options: &[String]) -> Process {
    let mut command = Command::new(program);
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"])
        .arg(folder)
        .args(options);
    Process::start(&mut command)
}

fn wait_until_ready(process: &mut Process) {
    process.wait_for("Redis that is ready", |line| line.contains("Ready to accept connections").then_some(()));
}
