//! A master, its replicas and the sentinels that watch them: real servers of the test's own.

use std::path::PathBuf;
use std::process::Command;

use super::process::{Process, free_port, poll_for, poll_until};
use super::{Client, Redis};

/// What the sentinels call the master.
pub const NAME: &str = "prices";

/// Running servers and sentinels.
pub struct Watched {
    /// The first is the master when the test begins.
    pub servers: Vec<Redis>,
    pub sentinels: Vec<Sentinel>,
    pub options: Options,
}

/// A running sentinel.
pub struct Sentinel {
    pub port: u16,
    pub process: Process,
    password: String,
    _folder: tempfile::TempDir,
}

/// How they are started.
#[derive(Clone, Copy, Default)]
pub struct Options {
    /// The password of the servers.
    pub password: &'static str,
    /// What the sentinels ask for.
    pub sentinel_password: &'static str,
    /// More options of every server.
    pub server: &'static [&'static str],
}

const REPLICAS: usize = 2;
const SENTINELS: usize = 3;

// === impl Watched ===

impl Watched {
    pub fn start(options: Options) -> Self {
        let password = ["--requirepass", options.password, "--masterauth", options.password];
        let password: &[&str] = if options.password.is_empty() { &[] } else { &password };
        let server =
            [&["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"], password, options.server];
        let master = Redis::start_with(&server.concat());
        let at = master.port.to_string();
        let replica = || Redis::start_with(&[&server.concat()[..], &["--replicaof", "127.0.0.1", &at]].concat());
        let servers: Vec<_> = std::iter::once(master).chain((0..REPLICAS).map(|_| replica())).collect();
        poll_for("replicas that are in step", || {
            let info = servers[0].admin().ask("INFO replication");
            if info.matches("state=online").count() == REPLICAS { Ok(()) } else { Err(info) }
        });
        let sentinels = (0..SENTINELS).map(|_| Sentinel::start(servers[0].port, &options)).collect();
        let watched = Self { servers, sentinels, options };
        poll_for("sentinels that know each other", || {
            let known = watched.sentinels.iter().all(|sentinel| {
                let about = sentinel.client().ask(&format!("SENTINEL MASTER {NAME}"));
                let of = |name: &str| about.split("\r\n").skip_while(|line| *line != name).nth(2).map(str::to_owned);
                of("num-other-sentinels") == Some((SENTINELS - 1).to_string())
                    && of("num-slaves") == Some(REPLICAS.to_string())
            });
            if known { Ok(()) } else { Err("not yet".to_owned()) }
        });
        watched
    }

    /// The URL of these sentinels.
    pub fn url(&self) -> String {
        self.url_of(NAME)
    }

    /// The same with another name of the master.
    pub fn url_of(&self, name: &str) -> String {
        let login =
            if self.options.password.is_empty() { String::new() } else { format!(":{}@", self.options.password) };
        let places: Vec<_> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis-sentinel://{login}{}/{name}", places.join(","))
    }

    /// Which server the sentinels call the master.
    pub fn master_port(&self) -> u16 {
        let sentinel = self.sentinels.last().unwrap();
        let place = sentinel.client().ask(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {NAME}"));
        place.rsplit("\r\n").next().unwrap().parse().unwrap()
    }

    /// The server that is the master now.
    pub fn master(&self) -> &Redis {
        let port = self.master_port();
        self.servers.iter().find(|server| server.port == port).unwrap()
    }

    /// Waits until every sentinel names another master than this one.
    pub fn wait_for_another(&self, port: u16) {
        poll_until("another master", || self.master_port() != port);
    }
}

// === impl Sentinel ===

impl Sentinel {
    fn start(master: u16, options: &Options) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let mut lines = vec![
            format!("port {port}"),
            "bind 127.0.0.1".into(),
            format!("dir {}", folder.path().display()),
            format!("sentinel monitor {NAME} 127.0.0.1 {master} 2"),
            format!("sentinel down-after-milliseconds {NAME} 500"),
            format!("sentinel failover-timeout {NAME} 5000"),
            format!("sentinel parallel-syncs {NAME} 2"),
        ];
        if !options.password.is_empty() {
            lines.push(format!("sentinel auth-pass {NAME} {}", options.password));
        }
        if !options.sentinel_password.is_empty() {
            lines.push(format!("requirepass {}", options.sentinel_password));
        }
        let file: PathBuf = folder.path().join("sentinel.conf");
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        let mut process = Process::start(Command::new("redis-server").arg(&file).arg("--sentinel"));
        process.wait_for("sentinel that watches", |line| line.contains("+monitor master").then_some(()));
        Self { port, process, password: options.sentinel_password.to_owned(), _folder: folder }
    }

    pub fn client(&self) -> Client {
        let mut client = Client::connect(self.port);
        if !self.password.is_empty() {
            assert_eq!(client.ask(&format!("AUTH {}", self.password)), "+OK");
        }
        client
    }
}
