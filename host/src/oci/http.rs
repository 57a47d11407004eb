//! One HTTP request at a time: connect, ask, read an answer of bounded size. Knows nothing of registries. Answers come
//! whole, since what is asked for is checked before any of it is used.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, USER_AGENT};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::config::is_loopback;
use crate::tls::registry_config;

/// The way to registries.
pub(super) struct Http {
    /// The authorities of registries. None: the system's.
    authorities: Option<PathBuf>,
    /// Read when it is first needed: not every machine has authorities, nor every registry TLS.
    config: OnceLock<Arc<ClientConfig>>,
}

/// What is asked.
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Bytes,
    /// Bytes of the answer at most.
    pub(super) bytes_max: u64,
}

/// What was answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

const HTTPS_PORT: u16 = 443;
const HTTP_PORT: u16 = 80;

// === impl Http ===

impl Http {
    pub(super) fn new(authorities: Option<PathBuf>) -> Self {
        Self { authorities, config: OnceLock::new() }
    }

    /// The scheme in which a host is spoken to. Without TLS only where nobody stands between.
    pub(super) fn scheme(&self, host: &str) -> &'static str {
        if is_loopback(host) && self.authorities.is_none() { "http" } else { "https" }
    }

    /// Asks, and reads the answer. A redirection is an answer like any other.
    pub(super) async fn ask(&self, question: Question) -> anyhow::Result<Answer> {
        let uri = &question.uri;
        let host = uri.host().context("a URL without a host")?.to_owned();
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback(&host) => false,
            Some("http") => bail!("{host} would be spoken to without TLS, which is for the loopback interface only"),
            _ => bail!("{uri} is no URL of http"),
        };
        let port = uri.port_u16().unwrap_or(if is_tls { HTTPS_PORT } else { HTTP_PORT });
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let connected = TcpStream::connect((name.as_str(), port)).await;
        let socket = connected.with_context(|| format!("cannot connect to {host}:{port}"))?;
        if !is_tls {
            return exchange(socket, question).await;
        }
        let server = ServerName::try_from(name).with_context(|| format!("no certificate can be for {host}"))?;
        let stream = TlsConnector::from(self.config()?).connect(server, socket).await.with_context(|| {
            format!(
                "{host}:{port} and the sidecar do not agree on TLS; policy_registry_ca_file names the authorities of \
                 registries that have their own"
            )
        })?;
        exchange(stream, question).await
    }

    fn config(&self) -> anyhow::Result<Arc<ClientConfig>> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        let config = registry_config(self.authorities.as_deref())?;
        Ok(Arc::clone(self.config.get_or_init(|| config)))
    }
}

/// One question and its answer on a connection of their own.
async fn exchange<S>(stream: S, question: Question) -> anyhow::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let authority = question.uri.authority().context("a URL without a host")?.clone();
    let path = question.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(question.method).uri(path);
    request = request.header(HOST, authority.as_str()).header(CONNECTION, "close");
    request = request.header(USER_AGENT, concat!("bellwether/", env!("CARGO_PKG_VERSION")));
    for (name, value) in question.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(question.body)).context("cannot ask")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(connection);
    let answered = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let bytes_max = question.bytes_max;
        let told = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let too_long = || format!("the answer has more than {bytes_max} bytes");
        // The answer to HEAD has a length, and nothing in it.
        ensure!(hyper::body::Body::is_end_stream(&body) || told.is_none_or(|told| told <= bytes_max), too_long());
        let body = Limited::new(body, usize::try_from(bytes_max)?).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => anyhow::Error::msg(too_long()),
            false => anyhow::Error::from_boxed(error).context("the answer broke off"),
        })?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    };
    let answer = answered.await.with_context(|| format!("asking {authority}"));
    driven.abort();
    answer
}

// === impl Answer ===

impl Answer {
    /// A header's text.
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
