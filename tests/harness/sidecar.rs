//! The real binary, on ports that it picks itself.

use std::path::Path;
use std::process::{Command, Output};

use super::process::Process;
use super::{Client, Cluster, Redis};

/// A running sidecar.
pub struct Sidecar {
    pub port: u16,
    pub admin_port: u16,
    pub process: Process,
}

impl Sidecar {
    /// In front of a Redis, with more flags.
    pub fn serve(redis: &Redis, flags: &[&str]) -> Self {
        let password = if redis.password.is_empty() { String::new() } else { format!(":{}@", redis.password) };
        let upstream = format!("redis://{password}127.0.0.1:{}", redis.port);
        Self::start("serve", &[&["--upstream", &upstream], flags].concat())
    }

    /// In front of a cluster, with more flags.
    pub fn serve_cluster(cluster: &Cluster, flags: &[&str]) -> Self {
        Self::start("serve", &[&["--upstream", &cluster.url()], flags].concat())
    }

    /// On the embedded store, without a policy folder unless a flag names one.
    pub fn dev(flags: &[&str]) -> Self {
        Self::start("dev", &[&["--policy-folder", ""], flags].concat())
    }

    /// Any verb that serves, once it listens.
    pub fn start(verb: &str, flags: &[&str]) -> Self {
        Self::start_in(verb, flags, &[])
    }

    /// The same in an environment.
    pub fn start_in(verb: &str, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::listening(Self::begin(verb, flags, variables))
    }

    /// In front of a Redis, started by a shell that has done something before.
    pub fn serve_after(shell: &str, redis: &Redis) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{shell}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_bellwether"), "serve"]);
        command.args(["--admin-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--upstream"]);
        Self::listening(Process::start(command.arg(format!("redis://127.0.0.1:{}", redis.port))))
    }

    fn listening(mut process: Process) -> Self {
        let port = |line: &str, before: &str| line.split_once(before)?.1.split_whitespace().next()?.parse().ok();
        let port_of = process.wait_for("sidecar that listens", |line| port(line, "bellwether listens on 127.0.0.1:"));
        // As text, or as JSON.
        let admin_port = process.wait_for("admin server", |line| {
            let line = line.split_once("admin server listens")?.1.replace('"', " ");
            port(&line, "127.0.0.1:")
        });
        Self { port: port_of, admin_port, process }
    }

    /// Any verb that serves, without waiting until it does.
    pub fn begin(verb: &str, flags: &[&str], variables: &[(&str, &str)]) -> Process {
        let mut command = bellwether();
        command.arg(verb).args(["--admin-listen", "127.0.0.1:0"]).args(flags);
        if !flags.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Process::start(command.envs(variables.iter().copied()))
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
        self.admin_request("GET", path)
    }

    /// The status and body of the answer to any request without a body.
    pub fn admin_request(&self, method: &str, path: &str) -> (u16, String) {
        use std::io::{Read, Write};
        let mut socket = std::net::TcpStream::connect(("127.0.0.1", self.admin_port)).unwrap();
        write!(socket, "{method} {path} HTTP/1.1\r\nHost: sidecar\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

/// Runs a verb that ends: what it printed.
pub fn run(args: &[&str], folder: &Path) -> Output {
    run_with(&[], args, folder)
}

/// Runs a verb that ends, with an environment: what it printed.
pub fn run_with(variables: &[(&str, &str)], args: &[&str], folder: &Path) -> Output {
    bellwether().args(args).envs(variables.iter().copied()).current_dir(folder).output().unwrap()
}

/// The binary, with nothing of the outer environment that it would read.
fn bellwether() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    command.env_remove("REDIS_HOST").env_remove("REDIS_PORT").env_remove("REDIS_DB").env_remove("REDIS_PASSWORD");
    // All tests share it: the standard policies are compiled once.
    command.env("BELLWETHER_COMPILED_FOLDER", concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled"));
    command
}
