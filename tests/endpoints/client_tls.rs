//! TLS to the sidecar's own clients: certificates on both sides, their renewal, clients that do not come to the point.

use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::certificates::{Authority, Pair, put};
use super::{check_refused, check_traffic};
use crate::harness::process::{PATIENCE, poll_until};
use crate::harness::wire::Wire;
use crate::harness::{Client, Redis, Sidecar, encoded};

const HOST: &str = "127.0.0.1";

/// A sidecar that speaks TLS with its clients, and whom they trust.
struct Door {
    sidecar: Sidecar,
    /// Its port for TLS.
    port: u16,
    authority: PathBuf,
}

impl Door {
    fn open(redis: &Redis, authority: &Authority, pair: &Pair, flags: &[&str]) -> Self {
        let files = [
            "--listen-tls-certificate-file",
            pair.certificate.to_str().unwrap(),
            "--listen-tls-key-file",
            pair.key.to_str().unwrap(),
        ];
        let listen = ["--listen-tls", "127.0.0.1:0", "--files-poll-ms", "20"];
        let mut sidecar = Sidecar::serve(redis, &[&listen[..], &files, flags].concat());
        let port = |line: &str| {
            let place = line.strip_prefix("bellwether listens on 127.0.0.1:")?;
            place.strip_suffix(" with TLS")?.parse().ok()
        };
        let port = sidecar.process.wait_for("TLS", port);
        Self { sidecar, port, authority: authority.file.clone() }
    }

    /// A client that shows `pair`, before the first byte.
    fn stream(&self, pair: Option<&Pair>) -> Box<StreamOwned<ClientConnection, TcpStream>> {
        let mut authorities = RootCertStore::empty();
        authorities.add(CertificateDer::from_pem_file(&self.authority).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(authorities);
        let config = match pair {
            None => config.with_no_client_auth(),
            Some(Pair { certificate, key }) => {
                let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
            }
        };
        let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(HOST).unwrap()).unwrap();
        Box::new(StreamOwned::new(connection, TcpStream::connect((HOST, self.port)).unwrap()))
    }

    fn client(&self, pair: Option<&Pair>) -> Client {
        Client::over(Wire::Tls(self.stream(pair)))
    }

    /// The certificate that a client is shown now.
    fn shown(&self) -> Vec<u8> {
        let mut stream = self.stream(None);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        stream.conn.peer_certificates().unwrap().first().unwrap().to_vec()
    }
}

fn der(path: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}

#[test]
fn clients_come_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let redis = Redis::start();
    let door = Door::open(&redis, &authority, &authority.sign(HOST), &[]);
    check_traffic(|| door.client(None));
    assert_eq!(door.sidecar.client().ask("GET a"), "$1\r\n1", "the plain port beside it");
    let cli = Command::new("redis-cli")
        .args(["--tls", "--cacert", authority.file.to_str().unwrap(), "-p", &door.port.to_string(), "GET", "a"])
        .output()
        .unwrap();
    assert_eq!(cli.stdout, b"1\n", "{cli:?}");
    // Who says that nothing more comes still gets what is owed.
    let mut last = door.client(None);
    last.send(&encoded(&["GET", "a"]).repeat(3));
    assert_eq!(last.rest(), b"$1\r\n1\r\n$1\r\n1\r\n$1\r\n1\r\n");
    // The end is announced, so that nobody takes it for a cut.
    let mut stream = door.stream(None);
    std::io::Write::write_all(&mut stream, &encoded(&["QUIT"])).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"+OK\r\n");
}

#[test]
fn certificates_of_clients() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(folder.path(), "authority"), Authority::new(folder.path(), "other"));
    let server = authority.sign(HOST);
    let (known, stranger) = (authority.sign("known"), other.sign("stranger"));
    let redis = Redis::start();
    let ca = ["--listen-tls-client-ca-file", authority.file.to_str().unwrap()];
    let check = |flags: &[&str], anonymous: bool, stranger_enters: bool| {
        let door = Door::open(&redis, &authority, &server, flags);
        // A server says what it thinks of a certificate after the client has come in.
        let enters = |pair| {
            let mut client = door.client(pair);
            client.try_send(&encoded(&["PING"])) && client.try_reply().is_some()
        };
        assert!(enters(Some(&known)), "{flags:?}: known");
        assert_eq!(enters(None), anonymous, "{flags:?}: anonymous");
        assert_eq!(enters(Some(&stranger)), stranger_enters, "{flags:?}: stranger");
    };
    check(&[], true, true);
    check(&ca, false, false);
    check(&[&ca[..], &["--listen-tls-client-certificates", "optional"]].concat(), true, false);
}

#[test]
fn certificates_are_renewed_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let redis = Redis::start();
    let pair = authority.sign(HOST);
    let mut door = Door::open(&redis, &authority, &pair, &[]);
    let mut client = door.client(None);
    assert_eq!(client.ask("PING"), "+PONG");
    let first = der(&pair.certificate);
    assert!(door.shown() == first);
    // A certificate without its key is not taken up.
    let next = authority.sign_as("next", HOST, 4096);
    let next_key = std::fs::read_to_string(&next.key).unwrap();
    put(&pair.certificate, &std::fs::read_to_string(&next.certificate).unwrap());
    let told = format!("the key in {} does not belong to the certificate", pair.key.display());
    door.sidecar.process.wait_for("refusal", |line| {
        (line.contains("the listen_tls_… files cannot be taken up") && line.contains(&told)).then_some(())
    });
    assert!(door.shown() == first);
    put(&pair.key, &next_key);
    poll_until("the new certificate", || door.shown() == der(&next.certificate));
    door.sidecar.process.wait_for("word of it", |line| line.contains("took up the listen_tls_…").then_some(()));
    assert_eq!(client.ask("PING"), "+PONG", "who is in stays in");
    assert_eq!(door.client(None).ask("PING"), "+PONG");
}

#[test]
fn clients_that_do_not_come_to_the_point() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let redis = Redis::start();
    let pair = authority.sign(HOST);
    let listed = |door: &Door| door.sidecar.client().ask("CLIENT LIST").matches("id=").count();
    let door = Door::open(&redis, &authority, &pair, &["--listen-tls-handshake-ms-max", "300"]);
    let mut silent = Client::connect(door.port);
    assert_eq!(silent.try_reply(), None, "it is ended after its time");
    // One that speaks plain text is ended at once; whether it is told something it cannot read does not matter.
    let mut plain = Client::connect(door.port);
    plain.send(&encoded(&["PING"]));
    let heard = plain.rest();
    assert!(!heard.starts_with(b"+PONG"), "{heard:?}");
    poll_until("both to be gone", || listed(&door) == 1);
    // One that is still on the way in does not hold up the end.
    let mut door = Door::open(&redis, &authority, &pair, &["--listen-tls-handshake-ms-max", "60000"]);
    let _silent = Client::connect(door.port);
    poll_until("the silent client", || listed(&door) == 2);
    let begun = std::time::Instant::now();
    door.sidecar.process.signal("TERM");
    assert!(door.sidecar.process.wait().success());
    assert!(begun.elapsed() < PATIENCE / 2, "it waited for the silent client");
}

#[test]
fn a_client_over_tls_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let redis = Redis::start();
    let door = Door::open(&redis, &authority, &authority.sign(HOST), &["--clients-max", "2"]);
    let (mut killed, mut killer) = (door.client(None), door.sidecar.client());
    let id = killed.ask("CLIENT ID");
    // Each listener takes its clients by itself: only an answer shows that the room is taken.
    assert_eq!(killer.ask("PING"), "+PONG");
    let mut third = door.client(None);
    third.try_send(&encoded(&["PING"]));
    assert_eq!(third.try_reply(), None, "there is no room");
    assert_eq!(killer.ask(&format!("CLIENT KILL ID {}", &id[1..])), ":1");
    assert_eq!(killed.try_reply(), None);
}

#[test]
fn mistakes_in_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let (one, two) = (authority.sign("one"), authority.sign("two"));
    let check = |settings: &[(&str, &Path)], listen: &str, expect: &str| {
        let flag = |name: &str| format!("--listen-tls-{name}");
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let flags: Vec<_> = settings.iter().flat_map(|(name, value)| [flag(name), path(value)]).collect();
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        check_refused(&[&["--listen-tls", listen], &flags[..]].concat(), expect);
    };
    let at = "127.0.0.1:0";
    let (certificate, key) = (("certificate-file", &*one.certificate), ("key-file", &*one.key));
    check(&[], at, "listen_tls needs listen_tls_certificate_file and listen_tls_key_file");
    check(&[certificate], at, "listen_tls_key_file is not; they go together");
    check(&[certificate, key], "off", "listen_tls_certificate_file is set, and listen_tls is off; set the address");
    check(&[certificate, ("key-file", &two.key)], at, "two.key does not belong to the certificate in");
    check(&[certificate, key, ("client-ca-file", &one.key)], at, "listen_tls_client_ca_file: ");
    check(&[certificate, ("key-file", Path::new("/no/such.key"))], at, "cannot read /no/such.key: No such file");
}
