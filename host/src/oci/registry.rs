//! One repository of a registry, by the OCI distribution specification 1.1: manifests and blobs are read and written.
//! Every byte that is read is checked against the digest it was asked for by.

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, LOCATION, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode, Uri};
use serde::Deserialize;

use super::artifact::{Built, MANIFEST_TYPE};
use super::challenge::{Challenge, encoded};
use super::credentials::Credentials;
use super::http::{Answer, Http, Question};
use crate::config::{Digest, Reference};

/// A repository.
pub(super) struct Registry {
    http: Http,
    /// What people call it.
    host: String,
    repository: String,
    credentials: Credentials,
    /// Whether it is written to.
    writes: bool,
    /// What is sent along, once the registry has asked.
    authorization: Option<String>,
}

/// One request to a repository.
struct Ask<'a> {
    method: Method,
    uri: Uri,
    header: Option<(HeaderName, &'a str)>,
    body: Bytes,
    bytes_max: u64,
}

/// The answer of a token service. One of the two is there.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// The errors that a registry tells.
#[derive(Deserialize)]
struct Errors {
    errors: Vec<Error>,
}

#[derive(Deserialize)]
struct Error {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Bytes of a manifest: what the specification asks registries to take at least.
const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Bytes of an answer that says only how it went.
const WORDS_BYTES_MAX: u64 = 1024 * 1024;
/// Registries send readers to where their blobs are; some of these send them on.
const REDIRECTIONS_MAX: usize = 5;
/// Characters of a registry's own words that are shown.
const WORDS_CHARS_MAX: usize = 300;

// === impl Registry ===

impl Registry {
    pub(super) fn new(http: Http, reference: &Reference, credentials: Credentials, writes: bool) -> Self {
        let (host, repository) = (reference.host.clone(), reference.repository.clone());
        Self { http, host, repository, credentials, writes, authorization: None }
    }

    /// The manifest of a tag or digest. None: there is none.
    pub(super) async fn manifest(&mut self, name: &str) -> anyhow::Result<Option<Bytes>> {
        let uri = self.uri(&format!("manifests/{name}"))?;
        let header = Some((ACCEPT, MANIFEST_TYPE));
        let answer = self.ask(Ask { header, ..Ask::get(uri, MANIFEST_BYTES_MAX) }).await?;
        match answer.status {
            StatusCode::OK => Ok(Some(answer.body)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => bail!("{}", self.refusal(&answer, "does not give the manifest")),
        }
    }

    /// A blob, whole and as its digest says.
    pub(super) async fn blob(&mut self, digest: &Digest, size: u64) -> anyhow::Result<Bytes> {
        let mut uri = self.uri(&format!("blobs/{digest}"))?;
        for _ in 0..REDIRECTIONS_MAX {
            let answer = self.ask(Ask::get(uri.clone(), size.max(WORDS_BYTES_MAX))).await?;
            match answer.status {
                StatusCode::OK => {
                    let length = answer.body.len() as u64;
                    ensure!(length == size, "it has {length} bytes, and the manifest says {size}");
                    let found = Digest::of(&answer.body);
                    ensure!(found == *digest, "its bytes have the digest {found}, and the manifest says {digest}");
                    return Ok(answer.body);
                }
                status if status.is_redirection() => uri = self.location(&answer, &uri)?,
                _ => bail!("{}", self.refusal(&answer, "does not give it")),
            }
        }
        bail!("{} sends its readers on more than {REDIRECTIONS_MAX} times", self.host)
    }

    /// Writes an artifact under a tag, its blobs first.
    pub(super) async fn put(&mut self, built: &Built, tag: &str) -> anyhow::Result<()> {
        for blob in &built.blobs {
            let digest = Digest::of(blob);
            self.put_blob(&digest, blob).await.with_context(|| format!("writing the blob {digest}"))?;
        }
        let uri = self.uri(&format!("manifests/{tag}"))?;
        let header = Some((CONTENT_TYPE, MANIFEST_TYPE));
        let method = Method::PUT;
        let body = built.manifest.clone();
        let answer = self.ask(Ask { method, uri, header, body, bytes_max: WORDS_BYTES_MAX }).await?;
        ensure!(answer.status == StatusCode::CREATED, "{}", self.refusal(&answer, "does not take the manifest"));
        Ok(())
    }

    async fn put_blob(&mut self, digest: &Digest, content: &Bytes) -> anyhow::Result<()> {
        let there = Ask { method: Method::HEAD, ..Ask::get(self.uri(&format!("blobs/{digest}"))?, WORDS_BYTES_MAX) };
        if self.ask(there).await?.status == StatusCode::OK {
            return Ok(());
        }
        let begin = self.uri("blobs/uploads/")?;
        let answer = self.ask(Ask { method: Method::POST, ..Ask::get(begin.clone(), WORDS_BYTES_MAX) }).await?;
        ensure!(answer.status == StatusCode::ACCEPTED, "{}", self.refusal(&answer, "does not take blobs"));
        let location = self.location(&answer, &begin)?.to_string();
        let more = if location.contains('?') { '&' } else { '?' };
        let uri: Uri = format!("{location}{more}digest={}", encoded(digest.as_str())).parse()?;
        let header = Some((CONTENT_TYPE, "application/octet-stream"));
        let (method, body) = (Method::PUT, content.clone());
        let answer = self.ask(Ask { method, uri, header, body, bytes_max: WORDS_BYTES_MAX }).await?;
        ensure!(answer.status == StatusCode::CREATED, "{}", self.refusal(&answer, "does not take the blob"));
        Ok(())
    }

    /// Asks, and once more with what the registry wants to know of us. Only the registry itself is told who we are, not
    /// those that it sends us on to.
    async fn ask(&mut self, ask: Ask<'_>) -> anyhow::Result<Answer> {
        let is_own = ask.uri.authority().map(|of| of.as_str()) == Some(self.api_host());
        let answer = self.http.ask(ask.question(self.authorization.as_deref().filter(|_| is_own))).await?;
        if answer.status != StatusCode::UNAUTHORIZED || !is_own {
            return Ok(answer);
        }
        let challenge = Challenge::read(answer.header(WWW_AUTHENTICATE).unwrap_or_default());
        self.authorization = Some(self.authorize(challenge).await?);
        let answer = self.http.ask(ask.question(self.authorization.as_deref())).await?;
        ensure!(answer.status != StatusCode::UNAUTHORIZED, "{}", self.refusal(&answer, "still asks who we are"));
        Ok(answer)
    }

    async fn authorize(&self, challenge: Challenge) -> anyhow::Result<String> {
        let basic = match &self.credentials {
            Credentials::Known { user, password } => {
                Ok(format!("Basic {}", BASE64.encode(format!("{user}:{}", password.reveal()))))
            }
            Credentials::Unknown(why) => Err(why),
        };
        let (realm, service) = match (challenge, &basic) {
            (Challenge::Basic, Ok(basic)) => return Ok(basic.clone()),
            (Challenge::Basic, Err(why)) => bail!("{} asks for a user and a password; {why}", self.host),
            (Challenge::Bearer { realm, service }, _) => (realm, service),
            (Challenge::Other, _) => bail!("{} asks who we are in a way that is not known here", self.host),
        };
        let rights = if self.writes { "pull,push" } else { "pull" };
        let scope = format!("repository:{}:{rights}", self.repository);
        let uri: Uri = Challenge::token_url(&realm, service.as_deref(), &scope)
            .parse()
            .with_context(|| format!("{} names {realm:?} as the place of its tokens", self.host))?;
        // Where tokens are public, nobody needs a password.
        let header = basic.as_ref().ok().map(|basic| (AUTHORIZATION, basic.as_str()));
        let ask = Ask { header, ..Ask::get(uri, WORDS_BYTES_MAX) };
        let answer = self.http.ask(ask.question(None)).await.with_context(|| format!("a token of {realm}"))?;
        if answer.status != StatusCode::OK {
            let hint = basic.err().map_or(String::new(), |why| format!("; {why}"));
            bail!("{realm} gives no token for {}: {}{hint}", self.host, words(&answer));
        }
        let token: Token = serde_json::from_slice(&answer.body).with_context(|| format!("the token of {realm}"))?;
        let token = token.token.or(token.access_token).with_context(|| format!("{realm} answers without a token"))?;
        Ok(format!("Bearer {token}"))
    }

    /// Where the registry's own pages are. Docker Hub's name is not its address.
    fn api_host(&self) -> &str {
        if self.host == "docker.io" { "registry-1.docker.io" } else { &self.host }
    }

    fn uri(&self, path: &str) -> anyhow::Result<Uri> {
        let host = self.api_host();
        let text = format!("{}://{host}/v2/{}/{path}", self.http.scheme(host), self.repository);
        text.parse().with_context(|| format!("{text} is no URL"))
    }

    /// Where the registry sends us on to.
    fn location(&self, answer: &Answer, from: &Uri) -> anyhow::Result<Uri> {
        let to =
            answer.header(LOCATION).with_context(|| format!("{} sends us on, and does not say where", self.host))?;
        let whole = match (to.starts_with('/'), from.scheme_str(), from.authority()) {
            (true, Some(scheme), Some(authority)) => format!("{scheme}://{authority}{to}"),
            _ => to.to_owned(),
        };
        whole.parse().with_context(|| format!("{} sends us on to {to:?}, which is no URL", self.host))
    }

    fn refusal(&self, answer: &Answer, what: &str) -> String {
        let hint = match (answer.status, &self.credentials) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Credentials::Known { user, .. }) => {
                format!("; it was asked as the user {user:?}")
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Credentials::Unknown(why)) => format!("; {why}"),
            _ => String::new(),
        };
        format!("{} {what}: {}{hint}", self.host, words(answer))
    }
}

// === impl Ask ===

impl Ask<'_> {
    fn get(uri: Uri, bytes_max: u64) -> Self {
        Self { method: Method::GET, uri, header: None, body: Bytes::new(), bytes_max }
    }

    fn question(&self, authorization: Option<&str>) -> Question {
        let header = self.header.iter().map(|(name, value)| (name.clone(), (*value).to_owned()));
        let authorization = authorization.map(|value| (AUTHORIZATION, value.to_owned()));
        Question {
            method: self.method.clone(),
            uri: self.uri.clone(),
            headers: header.chain(authorization).collect(),
            body: self.body.clone(),
            bytes_max: self.bytes_max,
        }
    }
}

/// What a registry says of a refusal, in one line.
fn words(answer: &Answer) -> String {
    let told = serde_json::from_slice::<Errors>(&answer.body).map(|told| {
        let each = told.errors.iter().map(|error| format!("{} {}", error.code, error.message));
        each.collect::<Vec<_>>().join("; ")
    });
    // It goes to terminals.
    let plain = |of: char| if of.is_control() { ' ' } else { of };
    let told: String = told.unwrap_or_default().chars().take(WORDS_CHARS_MAX).map(plain).collect();
    format!("{} {told}", answer.status).trim_end().to_owned()
}
