//! One HTTP request for one key, on a connection of its own: whether whoever answers says yes. Redirects are not
//! followed, since a key is to be asked for where the settings say.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::config::warm::WarmUrl;
use crate::tls::{Client, ClientFiles, ClientSettings};

/// How a URL is reached.
#[derive(Clone, Debug)]
pub(super) struct Http {
    url: WarmUrl,
    tls: Option<Client>,
    time_max: Duration,
}

/// Bytes of an answer that are read, so that who writes it is not cut off. It is not looked at.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

// === impl Http ===

impl Http {
    /// The way to a URL. `time_max`: how long a request may take, from connecting to the answer's end.
    ///
    /// # Errors
    /// It is https, and the host is no name, or the system has no authorities.
    pub(super) fn new(url: &WarmUrl, time_max: Duration) -> anyhow::Result<Self> {
        let files = ClientFiles { authorities: url.ca_file.clone(), identity: None, settings: ClientSettings::Url };
        let tls = if url.tls { Some(Client::new(files, &url.host).context("https")?) } else { None };
        Ok(Self { url: url.clone(), tls, time_max })
    }

    /// Asks for a key.
    ///
    /// # Errors
    /// There is no answer in time, or it is not one of success.
    pub(super) async fn ask(&self, key: &[u8]) -> anyhow::Result<()> {
        let asked = tokio::time::timeout(self.time_max, self.connect_and_ask(key)).await;
        asked.with_context(|| format!("no answer within request_ms_max ({} ms)", self.time_max.as_millis()))?
    }

    async fn connect_and_ask(&self, key: &[u8]) -> anyhow::Result<()> {
        let WarmUrl { host, port, .. } = &self.url;
        let stream = TcpStream::connect((host.as_str(), *port)).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => self.exchange(stream, key).await,
            Some(tls) => self.exchange(tls.connect(stream).await.context("TLS")?, key).await,
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        key: &[u8],
    ) -> anyhow::Result<()> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driving = tokio::spawn(connection);
        let answered = self.send(&mut sender, key).await;
        // What is not read by now is not wanted.
        driving.abort();
        answered
    }

    async fn send(&self, sender: &mut http1::SendRequest<Full<Bytes>>, key: &[u8]) -> anyhow::Result<()> {
        let (method, body) = if self.url.post { (Method::POST, key.to_vec()) } else { (Method::GET, Vec::new()) };
        let request = Request::builder()
            .method(method)
            .uri(self.url.path_of(key))
            .header(HOST, &self.url.authority)
            .header(USER_AGENT, concat!("bellwether/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close");
        let request = if self.url.post { request.header(CONTENT_TYPE, "application/octet-stream") } else { request };
        let response = sender.send_request(request.body(Full::new(body.into()))?).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame?.data_ref().map_or(0, Bytes::len);
            ensure!(read <= ANSWER_BYTES_MAX, "the answer has more than {ANSWER_BYTES_MAX} bytes");
        }
        if !status.is_success() {
            bail!("the answer is {status}");
        }
        Ok(())
    }
}
