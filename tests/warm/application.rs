//! An application that is asked for keys over HTTP: it writes each it is asked for, or does what a test wants instead.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::harness::Client;

/// What it does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// Writes it, and says yes.
    Writes,
    /// Says this.
    Says(&'static str),
    /// Nothing, with the connection open.
    Nothing,
}

/// A running application. It ends with its test.
pub struct Application {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    does: Does,
    redis: u16,
    /// The lines of the requests, with what came as their body.
    asked: Mutex<Vec<String>>,
    sockets: Mutex<Vec<TcpStream>>,
    ended: Mutex<bool>,
}

impl Application {
    /// One that writes into the Redis on a port.
    pub fn start(redis: u16, does: Does) -> Self {
        Self::start_over(redis, does, None)
    }

    /// The same over TLS, with a certificate and its key.
    pub fn start_tls(redis: u16, certificate: &Path, key: &Path) -> Self {
        let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(chain, key).unwrap();
        Self::start_over(redis, Does::Writes, Some(Arc::new(config)))
    }

    fn start_over(redis: u16, does: Does, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, sockets, ended) = (Mutex::default(), Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { does, redis, asked, sockets, ended });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if *serving.ended.lock().unwrap() {
                    return;
                }
                serving.sockets.lock().unwrap().push(socket.try_clone().unwrap());
                let (shared, tls) = (Arc::clone(&serving), tls.clone());
                std::thread::spawn(move || match tls {
                    None => shared.serve(socket),
                    Some(tls) => shared.serve(StreamOwned::new(ServerConnection::new(tls).unwrap(), socket)),
                });
            }
        });
        Self { port, shared }
    }

    /// What it was asked so far, in order of the requests' lines.
    pub fn asked(&self) -> Vec<String> {
        let mut asked = self.shared.asked.lock().unwrap().clone();
        asked.sort();
        asked
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        *self.shared.ended.lock().unwrap() = true;
        for socket in self.shared.sockets.lock().unwrap().drain(..) {
            // Gone already is just as well.
            drop(socket.shutdown(Shutdown::Both));
        }
        // So that the listener looks up.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Shared {
    /// One request. What goes wrong is the client's to tell.
    fn serve(&self, stream: impl Read + Write) {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        let mut length = 0;
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut header = String::new();
        while reader.read_line(&mut header).unwrap_or(0) > 2 {
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            header.clear();
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let body = String::from_utf8(body).unwrap();
        self.asked.lock().unwrap().push(format!("{} {body}", line.trim_end()).trim_end().to_owned());
        let path = line.split(' ').nth(1).unwrap();
        let status = match self.does {
            Does::Nothing => {
                // Until the other end goes, or the test.
                drop(reader.read_to_end(&mut Vec::new()));
                return;
            }
            Does::Says(status) => status,
            Does::Writes => {
                let key = if body.is_empty() { path.trim_start_matches("/warm/").replace("%3A", ":") } else { body };
                assert_eq!(Client::connect(self.redis).ask(&format!("SET {key} fresh EX 600")), "+OK");
                "204 No Content"
            }
        };
        // Who asked may have gone.
        drop(write!(reader.get_mut(), "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
        drop(reader.get_mut().flush());
    }
}
