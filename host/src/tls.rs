//! Encryption on both sides: the way to the server and the door for clients, each from the files that the settings name
//! and read again when they change. Does not know what travels over it.

mod explain;
mod pem;

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The file of the certificate, and of those between it and its authority.
    pub certificate: PathBuf,
    /// The file of its private key.
    pub key: PathBuf,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The file of the authorities that may have signed the server's certificate. None: the system's.
    pub authorities: Option<PathBuf>,
    /// What we show a server that asks.
    pub identity: Option<Identity>,
    /// Which settings say so, for words about what is wrong.
    pub settings: ClientSettings,
}

/// The settings of a way to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientSettings {
    /// Those of the Redis server.
    Upstream,
    /// Those of a `[[warm]]` rule's URL.
    Url,
}

/// How clients are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// What we show clients.
    pub identity: Identity,
    /// The file of the authorities that may have signed the certificates of clients. None: clients show none.
    pub authorities: Option<PathBuf>,
    /// Whether a client may come without a certificate all the same.
    pub anonymous: bool,
}

/// The way to a server.
#[derive(Clone)]
pub struct Client(Arc<ClientParts>);

struct ClientParts {
    files: ClientFiles,
    name: ServerName<'static>,
    current: Arc<Mutex<Arc<ClientConfig>>>,
}

/// The door for clients.
#[derive(Clone)]
pub struct Server(Arc<ServerParts>);

struct ServerParts {
    files: ServerFiles,
    current: Mutex<Arc<ServerConfig>>,
}

/// What one client is let in with.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

/// An encrypted stream over TCP, of either side.
#[derive(Debug)]
pub struct Stream {
    tls: tokio_rustls::TlsStream<TcpStream>,
    /// Says in words what may go wrong after the handshake; with TLS 1.3 a server refuses a certificate only then.
    client: Option<Client>,
}

// === impl Identity ===

impl Identity {
    /// The files of two settings, `PREFIX_certificate_file` and `PREFIX_key_file`. None: neither is set.
    ///
    /// # Errors
    /// Only one is set.
    pub fn of(prefix: &str, certificate: Option<&PathBuf>, key: Option<&PathBuf>) -> anyhow::Result<Option<Self>> {
        match (certificate, key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(Self { certificate: certificate.clone(), key: key.clone() })),
            (None, _) => bail!("{prefix}_key_file is set, and {prefix}_certificate_file is not; they go together"),
            (_, None) => bail!("{prefix}_certificate_file is set, and {prefix}_key_file is not; they go together"),
        }
    }
}

// === impl ClientFiles ===

impl ClientFiles {
    fn load(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let authorities = match &self.authorities {
            Some(path) => pem::authorities(path).context(self.settings.authorities())?,
            None => pem::system_authorities(self.settings.authorities())?,
        };
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(authorities);
        let config = match &self.identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.load().context("upstream_tls_certificate_file, upstream_tls_key_file")?;
                config.with_client_auth_cert(chain, key).map_err(|error| identity.mismatch(error))?
            }
        };
        Ok(Arc::new(config))
    }
}

// === impl ClientSettings ===

impl ClientSettings {
    fn authorities(self) -> &'static str {
        match self {
            Self::Upstream => "upstream_tls_ca_file",
            Self::Url => "url_ca_file",
        }
    }

    /// What to do about a name that the certificate is not for.
    fn other_name(self) -> &'static str {
        match self {
            Self::Upstream => "set upstream_tls_server_name to one of its subject alternative names",
            Self::Url => "name one of its subject alternative names in url",
        }
    }

    /// What to do about a server that asks who we are.
    fn identity(self) -> &'static str {
        match self {
            Self::Upstream => {
                "if it asks for a certificate, name one with upstream_tls_certificate_file and upstream_tls_key_file"
            }
            Self::Url => "it must not ask for a certificate, since there is none for url",
        }
    }
}

// === impl ServerFiles ===

impl ServerFiles {
    fn load(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let config = match &self.authorities {
            None => config.with_no_client_auth(),
            Some(path) => {
                let authorities = pem::authorities(path).context("listen_tls_client_ca_file")?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider());
                let verifier = if self.anonymous { verifier.allow_unauthenticated() } else { verifier };
                config.with_client_cert_verifier(verifier.build().context("listen_tls_client_ca_file")?)
            }
        };
        let (chain, key) = self.identity.load().context("listen_tls_certificate_file, listen_tls_key_file")?;
        Ok(Arc::new(config.with_single_cert(chain, key).map_err(|error| self.identity.mismatch(error))?))
    }
}

// === impl Client ===

impl Client {
    /// Reads the files. `name` is whom the server's certificate must be for.
    ///
    /// # Errors
    /// One of them is not what it should be; the message names it and the setting.
    pub fn new(files: ClientFiles, name: &str) -> anyhow::Result<Self> {
        let name = server_name(name, files.settings)?;
        let current = Arc::new(Mutex::new(files.load()?));
        Ok(Self(Arc::new(ClientParts { files, name, current })))
    }

    /// The same way to a server whose certificate must be for another name.
    ///
    /// # Errors
    /// No certificate can be for it.
    pub fn named(&self, name: &str) -> anyhow::Result<Self> {
        let (files, current) = (self.0.files.clone(), Arc::clone(&self.0.current));
        let name = server_name(name, files.settings)?;
        Ok(Self(Arc::new(ClientParts { files, name, current })))
    }

    /// The files.
    pub fn paths(&self) -> Vec<PathBuf> {
        let files = &self.0.files;
        let identity = files.identity.iter().flat_map(Identity::paths);
        files.authorities.iter().chain(identity).cloned().collect()
    }

    /// Reads the files again, for connections from now on.
    ///
    /// # Errors
    /// As [`Client::new`]; then everything is as it was.
    pub fn read_again(&self) -> anyhow::Result<()> {
        let loaded = self.0.files.load()?;
        *self.0.current.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// Encrypts a connection to the server.
    ///
    /// # Errors
    /// The two do not agree; the message says why, and what to do.
    pub async fn connect(&self, socket: TcpStream) -> io::Result<Stream> {
        let config = Arc::clone(&self.0.current.lock().unwrap_or_else(PoisonError::into_inner));
        let connected = TlsConnector::from(config).connect(self.0.name.clone(), socket).await;
        let tls = connected.map_err(|error| self.explained(error))?;
        Ok(Stream { tls: tls.into(), client: Some(self.clone()) })
    }

    fn explained(&self, error: io::Error) -> io::Error {
        explain::server(error, &self.0.files, &self.0.name)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Client").field(&self.0.files).field(&self.0.name).finish()
    }
}

fn server_name(name: &str, settings: ClientSettings) -> anyhow::Result<ServerName<'static>> {
    match ServerName::try_from(name.to_owned()) {
        Ok(server) => Ok(server),
        Err(_) => bail!("{name:?} is not a name that a certificate can be for; {}", settings.other_name()),
    }
}

// === impl Server ===

impl Server {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them is not what it should be; the message names it and the setting.
    pub fn new(files: ServerFiles) -> anyhow::Result<Self> {
        let current = Mutex::new(files.load()?);
        Ok(Self(Arc::new(ServerParts { files, current })))
    }

    /// The files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.files.identity.paths().chain(&self.0.files.authorities).cloned().collect()
    }

    /// Reads the files again, for clients from now on.
    ///
    /// # Errors
    /// As [`Server::new`]; then everything is as it was.
    pub fn read_again(&self) -> anyhow::Result<()> {
        let loaded = self.0.files.load()?;
        *self.0.current.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// What the next client is let in with.
    pub fn acceptor(&self) -> Acceptor {
        let config = Arc::clone(&self.0.current.lock().unwrap_or_else(PoisonError::into_inner));
        Acceptor(config.into())
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Server").field(&self.0.files).finish()
    }
}

// === impl Acceptor ===

impl Acceptor {
    /// Encrypts a client's connection.
    ///
    /// # Errors
    /// The two do not agree.
    pub async fn accept(&self, socket: TcpStream) -> io::Result<Stream> {
        Ok(Stream { tls: self.0.accept(socket).await?.into(), client: None })
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

// === impl Stream ===

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { tls, client } = self.get_mut();
        // Whoever writes to a plain socket need not flush it. What a full socket left behind goes out here, where its
        // owner comes by whenever there is something to do.
        if tls.get_ref().1.wants_write()
            && let Poll::Ready(Err(error)) = Pin::new(&mut *tls).poll_flush(cx)
        {
            return Poll::Ready(Err(error));
        }
        match Pin::new(tls).poll_read(cx, buf) {
            // Many close without the formality. Commands and replies have their lengths, so that none is cut unseen.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(match client {
                Some(client) => client.explained(error),
                None => error,
            })),
            other => other,
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tls).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_shutdown(cx)
    }
}

/// How registries are reached: over TLS, by the authorities in a file or else the system's.
///
/// # Errors
/// The file is not what it should be, or the system has no authorities.
pub fn registry_config(authorities: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let authorities = match authorities {
        Some(path) => pem::authorities(path).context("policy_registry_ca_file")?,
        None => pem::system_authorities("policy_registry_ca_file")?,
    };
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(authorities).with_no_client_auth()))
}

/// The cryptography, named here so that no other crate's choice can change it.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
