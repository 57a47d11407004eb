//! TLS to the server: authorities, client certificates, names, and what goes wrong.

use std::path::Path;
use std::time::Duration;

use super::certificates::{Authority, Pair, put};
use super::{check_refused, check_traffic};
use crate::harness::process::{free_port, poll_until};
use crate::harness::{Redis, Sidecar, encoded, run};

/// A server that speaks TLS, beside its plain port.
struct TlsRedis {
    redis: Redis,
    port: u16,
}

impl TlsRedis {
    fn start(authority: &Authority, pair: &Pair, options: &[&str]) -> Self {
        Self::start_at(free_port(), authority, pair, options)
    }

    fn start_at(port: u16, authority: &Authority, pair: &Pair, options: &[&str]) -> Self {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let files = [text(&pair.certificate), text(&pair.key), text(&authority.file)];
        let at = port.to_string();
        let tls = ["--tls-port", &at, "--tls-cert-file", &files[0], "--tls-key-file", &files[1]];
        let redis = Redis::start_with(&[&tls[..], &["--tls-ca-cert-file", &files[2]], options].concat());
        Self { redis, port }
    }

    fn url(&self) -> String {
        let password =
            if self.redis.password.is_empty() { String::new() } else { format!(":{}@", self.redis.password) };
        format!("rediss://{password}127.0.0.1:{}", self.port)
    }
}

/// What `bellwether retime`, which reaches the server as the sidecar does and then ends, says with `flags`.
fn check_error(url: &str, flags: &[&str], expect: &str) {
    let output = run(&[&["retime", "--upstream", url], flags].concat(), Path::new("."));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains(expect), "{url} {flags:?}\nexpected {expect}\ngot      {told}");
}

#[test]
fn the_server_is_reached_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let (server, client) = (authority.sign("127.0.0.1"), authority.sign("sidecar"));
    let ca = ["--upstream-tls-ca-file", authority.file.to_str().unwrap()];
    let own = [
        "--upstream-tls-certificate-file",
        client.certificate.to_str().unwrap(),
        "--upstream-tls-key-file",
        client.key.to_str().unwrap(),
    ];
    let check = |options: &[&str], flags: &[&str]| {
        let redis = TlsRedis::start(&authority, &server, options);
        let sidecar =
            Sidecar::start("serve", &[&["--upstream", &redis.url(), "--client-password", "none"], flags].concat());
        check_traffic(|| sidecar.client());
        let mut direct = redis.redis.admin();
        assert_eq!(direct.ask("GET a"), "$1\r\n1");
        // The walk over the keys takes the same way.
        assert_eq!(direct.ask("SET fyntrix:general:note 1"), "+OK");
        let output = run(&[&["retime", "--upstream", &redis.url()], flags].concat(), Path::new("."));
        assert!(output.status.success(), "{output:?}");
        assert_ne!(direct.ask("PTTL fyntrix:general:note"), ":-1");
    };
    check(&["--tls-auth-clients", "no"], &ca);
    check(&["--tls-auth-clients", "no", "--requirepass", "s3cret", "--tls-protocols", "TLSv1.2"], &ca);
    check(&["--tls-auth-clients", "yes"], &[&ca[..], &own].concat());
}

#[test]
fn a_server_that_stalls() {
    const VALUE_BYTES: usize = 50_000;
    const COMMANDS: usize = 250;
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let redis = TlsRedis::start(&authority, &authority.sign("127.0.0.1"), &["--tls-auth-clients", "no"]);
    let flags = ["--upstream", &redis.url(), "--upstream-tls-ca-file", authority.file.to_str().unwrap()];
    let sidecar = Sidecar::start("serve", &[&flags[..], &["--workers", "1"]].concat());
    let mut client = sidecar.client();
    assert_eq!(client.ask("PING"), "+PONG");
    // More than the sockets between them hold: the rest goes out when the server reads again, and nobody writes more.
    redis.redis.process.signal("STOP");
    let set = encoded(&["SET".as_bytes(), b"a", &[b'x'; VALUE_BYTES]]);
    client.send(&set.repeat(COMMANDS));
    assert!(client.is_silent(Duration::from_millis(300)), "a stopped server has answered");
    redis.redis.process.signal("CONT");
    for number in 0..COMMANDS {
        assert_eq!(client.reply(), b"+OK\r\n", "reply {number}");
    }
    assert_eq!(client.ask("STRLEN a"), format!(":{VALUE_BYTES}"));
}

#[test]
fn the_environment_of_the_application_with_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let redis = TlsRedis::start(&authority, &authority.sign("redis.internal"), &["--tls-auth-clients", "no"]);
    let port = redis.port.to_string();
    let variables = [
        ("REDIS_HOST", "127.0.0.1"),
        ("REDIS_PORT", port.as_str()),
        ("BELLWETHER_REDIS_TLS", "on"),
        ("BELLWETHER_UPSTREAM_TLS_CA_FILE", authority.file.to_str().unwrap()),
        ("BELLWETHER_UPSTREAM_TLS_SERVER_NAME", "redis.internal"),
    ];
    let sidecar = Sidecar::start_in("serve", &[], &variables);
    assert_eq!(sidecar.client().ask("SET a 1"), "+OK");
    assert_eq!(redis.redis.client().ask("GET a"), "$1\r\n1");
}

#[test]
fn servers_that_are_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(folder.path(), "authority"), Authority::new(folder.path(), "other"));
    let ca = ["--upstream-tls-ca-file", authority.file.to_str().unwrap()];
    let open = &["--tls-auth-clients", "no"][..];
    let check = |pair: &Pair, options: &[&str], flags: &[&str], expect: &str| {
        check_error(&TlsRedis::start(&authority, pair, options).url(), flags, expect);
    };
    let (good, elsewhere) = (authority.sign("127.0.0.1"), authority.sign("redis.internal"));
    let (theirs, old) = (other.sign_as("theirs", "127.0.0.1", 4096), authority.sign_as("old", "127.0.0.1", 2020));
    let unsigned = format!("no authority in {} has signed the server's certificate", authority.file.display());
    check(&theirs, open, &ca, &unsigned);
    check(&good, open, &[], "no authority that the system trusts has signed the server's certificate");
    check(&old, open, &ca, "the server's certificate: certificate expired");
    check(&elsewhere, open, &ca, "the server's certificate is not for 127.0.0.1; set upstream_tls_server_name");
    let named = [&ca[..], &["--upstream-tls-server-name", "redis.example"]].concat();
    check(&elsewhere, open, &named, "the server's certificate is not for redis.example");
    check(&good, &[], &ca, "if it asks for a certificate, name one with upstream_tls_certificate_file");
    check(&good, &["--tls-protocols", "TLSv1.2"], &ca, "name one with upstream_tls_certificate_file");
    let stranger = other.sign_as("stranger", "sidecar", 4096);
    let certificate = stranger.certificate.to_str().unwrap();
    let shown = ["--upstream-tls-certificate-file", certificate, "--upstream-tls-key-file"];
    let flags = [&ca[..], &shown, &[stranger.key.to_str().unwrap()]].concat();
    check(&good, &[], &flags, &format!("the server does not take the certificate {certificate}"));
    let plain = Redis::start();
    let url = format!("rediss://127.0.0.1:{}", plain.port);
    check_error(&url, &ca, "name its tls-port, or use redis://");
}

#[test]
fn files_that_are_not_what_they_should_be() {
    let check_mistake = |url: &str, flags: &[&str], expect: &str| {
        check_refused(&[&["--upstream", url], flags].concat(), expect);
    };
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let (one, two) = (authority.sign("one"), authority.sign("two"));
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    put(Path::new(&path("text.crt")), "hello\n");
    put(Path::new(&path("broken.crt")), "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n");
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    put(Path::new(&path("locked.key")), locked);
    let check = |settings: &[(&str, &str)], expect: &str| {
        let flag = |name: &str| format!("--upstream-tls-{name}");
        let flags: Vec<_> = settings.iter().flat_map(|(name, value)| [flag(name), path(value)]).collect();
        check_mistake("rediss://127.0.0.1:1", &flags.iter().map(String::as_str).collect::<Vec<_>>(), expect);
    };
    check(&[("ca-file", "none.crt")], &format!("upstream_tls_ca_file: cannot read {}: No such file", path("none.crt")));
    check(&[("ca-file", "text.crt")], "text.crt holds no certificate (BEGIN CERTIFICATE)");
    check(&[("ca-file", "broken.crt")], "broken.crt is not in PEM form: base64 decode error");
    check(&[("certificate-file", "one.crt")], "upstream_tls_key_file is not; they go together");
    check(&[("key-file", "one.key")], "upstream_tls_certificate_file is not; they go together");
    let pair = |certificate, key| [("certificate-file", certificate), ("key-file", key)];
    check(&pair("one.crt", "two.key"), &format!("two.key does not belong to the certificate in {}", path("one.crt")));
    check(&pair("one.crt", "one.crt"), "one.crt holds no private key (BEGIN PRIVATE KEY)");
    check(&pair("one.crt", "locked.key"), "locked.key is locked with a passphrase");
    let files = [one, two];
    assert!(files.iter().all(|pair| pair.certificate.exists() && pair.key.exists()));
    let plain = "the way to the server is not TLS; use rediss://";
    check_mistake("redis://127.0.0.1:1", &["--upstream-tls-ca-file", &path("one.crt")], plain);
    check_mistake("unix:///no/such", &["--upstream-tls-server-name", "x"], plain);
    check_mistake(
        "rediss://127.0.0.1:1",
        &["--upstream-tls-server-name", "a b"],
        "not a name that a certificate can be",
    );
}

#[test]
fn authorities_are_renewed_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = Authority::new(folder.path(), "first");
    let trusted = folder.path().join("trusted.pem");
    std::fs::copy(&first.file, &trusted).unwrap();
    let redis = TlsRedis::start(&first, &first.sign("127.0.0.1"), &["--tls-auth-clients", "no"]);
    let (port, url) = (redis.port, redis.url());
    let flags = ["--upstream", &url, "--upstream-tls-ca-file", trusted.to_str().unwrap(), "--files-poll-ms", "20"];
    // Before there is a server that is trusted, too.
    let other = Authority::new(folder.path(), "other");
    put(&trusted, &std::fs::read_to_string(&other.file).unwrap());
    let mut process = Sidecar::begin("serve", &flags, &[]);
    process.wait_for("refusal", |line| line.contains("waiting for the server").then_some(()));
    put(&trusted, &std::fs::read_to_string(&first.file).unwrap());
    process.wait_for("sidecar that listens", |line| line.contains("bellwether listens on").then_some(()));
    drop(process);
    let mut sidecar = Sidecar::start("serve", &flags);
    assert_eq!(sidecar.client().ask("SET a 1"), "+OK");
    drop(redis);
    // The server comes back with a certificate of another authority.
    let second = Authority::new(folder.path(), "second");
    let redis = TlsRedis::start_at(port, &second, &second.sign("127.0.0.1"), &["--tls-auth-clients", "no"]);
    sidecar.process.wait_for("refusal", |line| line.contains("has signed the server's certificate").then_some(()));
    put(&trusted, "nonsense");
    sidecar.process.wait_for("refused file", |line| {
        (line.contains("the upstream_tls_… files cannot be taken up") && line.contains("trusted.pem holds no"))
            .then_some(())
    });
    put(&trusted, &std::fs::read_to_string(&second.file).unwrap());
    poll_until("the server to be trusted", || sidecar.client().try_ask("SET b 2").as_deref() == Some("+OK"));
    assert_eq!(redis.redis.client().ask("GET b"), "$1\r\n2");
}
