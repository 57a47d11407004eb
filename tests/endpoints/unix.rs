//! Unix sockets, on both sides.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use super::{check_refused, check_traffic};
use crate::harness::{Client, Redis, Sidecar, run};

#[test]
fn clients_come_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sidecar.sock");
    let redis = Redis::start();
    let flags = ["--listen-unix", path.to_str().unwrap(), "--listen-unix-mode", "660"];
    let mut sidecar = Sidecar::serve(&redis, &flags);
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "{mode:o}");
    check_traffic(|| Client::connect_unix(&path));
    // Both ways lead to the same server, and both are among the clients.
    assert_eq!(sidecar.client().ask("GET a"), "$1\r\n1");
    let mut client = Client::connect_unix(&path);
    let listed = client.ask("CLIENT LIST");
    assert!(listed.contains(&format!("addr={0}:0 laddr={0}:0", path.display())), "{listed}");
    let mut cli = Command::new("redis-cli");
    let output = cli.arg("-s").arg(&path).args(["GET", "a"]).output().unwrap();
    assert_eq!(output.stdout, b"1\n", "{output:?}");
    sidecar.process.signal("TERM");
    assert!(sidecar.process.wait().success());
    assert!(!path.exists(), "the socket is left behind");
}

#[test]
fn a_unix_socket_instead_of_a_port() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sidecar.sock");
    let flags = ["--listen", "off", "--listen-unix", path.to_str().unwrap()];
    let mut process = Sidecar::begin("dev", &flags, &[]);
    let listens = format!("bellwether listens on {}", path.display());
    process.wait_for("sidecar that listens", |line| (line == listens).then_some(()));
    assert_eq!(Client::connect_unix(&path).ask("SET a 1"), "+OK");
    let typed = format!("redis-cli -s {} SET", path.display());
    process.wait_for("hint", |line| line.contains(&typed).then_some(()));
    assert!(!process.lines().iter().any(|line| line.contains("listens on 127.0.0.1:")), "it listens on a port");
}

#[test]
fn sockets_that_are_there_already() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sidecar.sock");
    let redis = Redis::start();
    let upstream = format!("redis://127.0.0.1:{}", redis.port);
    let flags = ["--upstream", &upstream, "--listen", "off", "--listen-unix", path.to_str().unwrap()];
    let start = || {
        let mut process = Sidecar::begin("serve", &flags, &[]);
        process.wait_for("sidecar that listens", |line| line.contains("bellwether listens on").then_some(()));
        process
    };
    let mut killed = start();
    check_refused(&flags, "sidecar.sock (listen_unix): another process listens there; stop it, or choose another path");
    assert_eq!(Client::connect_unix(&path).ask("PING"), "+PONG", "the first one serves on");
    killed.signal("KILL");
    killed.wait();
    assert!(path.exists(), "a killed process cannot clean up");
    let mut second = start();
    assert_eq!(Client::connect_unix(&path).ask("PING"), "+PONG");
    // What another process has put there meanwhile is its own.
    std::fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    second.signal("TERM");
    second.wait();
    assert!(path.exists(), "another's socket was removed");
}

#[test]
fn what_cannot_be_listened_on() {
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::start();
    let upstream = format!("redis://127.0.0.1:{}", redis.port);
    let check = |flags: &[&str], expect: &str| {
        check_refused(&[&["--upstream", &upstream, "--listen", "off"], flags].concat(), expect);
    };
    check(&[], "there is nothing to listen on: set listen, listen_tls or listen_unix");
    let file = folder.path().join("a-file");
    std::fs::write(&file, "precious").unwrap();
    check(&["--listen-unix", file.to_str().unwrap()], "a file is there that is not a socket; move it away");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    let nowhere = folder.path().join("no/such/folder.sock");
    check(&["--listen-unix", nowhere.to_str().unwrap()], "folder.sock (listen_unix): No such file or directory");
    check(&["--listen-unix", "x", "--listen-unix-mode", "0770"], "is not an octal mode of three digits, such as 770");
    check(&["--listen-unix", "x", "--listen-unix-mode", "789"], "is not an octal mode of three digits, such as 770");
}

#[test]
fn the_server_is_reached_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("redis.sock");
    let redis = Redis::start_with(&["--unixsocket", path.to_str().unwrap(), "--requirepass", "p@ss"]);
    let upstream = format!("unix://:p%40ss@{}?db=3", path.display());
    let sidecar = Sidecar::start("serve", &["--upstream", &upstream, "--client-password", "none"]);
    check_traffic(|| sidecar.client());
    let mut direct = redis.admin();
    assert_eq!((direct.ask("SELECT 3").as_str(), direct.ask("GET a").as_str()), ("+OK", "$1\r\n1"));
    // The lanes, and nothing else: the control connection is closed.
    let lanes = direct.ask("CLIENT LIST");
    assert!(lanes.contains(&format!("addr={}:0", path.display())), "{lanes}");
    // The walk over the keys takes the same way.
    assert_eq!(direct.ask("SET fyntrix:general:note 1"), "+OK");
    let output = run(&["retime", "--upstream", &upstream], Path::new("."));
    let told = String::from_utf8(output.stdout).unwrap();
    let server = format!("of database 3 at unix://{}", path.display());
    assert!(output.status.success() && told.contains(&server), "{told}");
    assert!(direct.ask("PTTL fyntrix:general:note").starts_with(':'));
    assert_ne!(direct.ask("PTTL fyntrix:general:note"), ":-1");
}

#[test]
fn a_server_whose_socket_is_not_there() {
    let mut process = Sidecar::begin("serve", &["--upstream", "unix:///no/such.sock"], &[]);
    let told = |line: &str| line.contains("waiting for the server").then(|| line.to_owned());
    let line = process.wait_for("word of it", told);
    assert!(line.contains("unix:///no/such.sock") && line.contains("No such file or directory"), "{line}");
}
