//! The admin server: health, readiness, metrics, which policies are in force, and which keys are busy. HTTP/1.1, for
//! operators and probes.

mod metrics;
mod openapi;
mod record;
mod rollout;
mod top;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::Context;
use http_body_util::Either;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::metrics::Metrics;
use crate::near::Versions;
use crate::policy::PolicySet;
use crate::record::Records;
use crate::reload::{Refusal, Reloader};
use crate::rollout::Rollout;
use crate::session::Clients;
use crate::upstream::{Route, Target, UpstreamState};
use crate::worker::Order;

/// What the admin server tells about.
pub struct Status {
    /// The policies' clock.
    clock: Clock,
    metrics: Arc<Metrics>,
    target: Target,
    upstream: Arc<UpstreamState>,
    versions: Arc<Versions>,
    current: watch::Receiver<Arc<PolicySet>>,
    last_refusal: Arc<Mutex<Option<Refusal>>>,
    rollout: Arc<Rollout>,
    /// What requests that change something must carry.
    token: Option<Secret>,
    body_bytes_max: usize,
    records: Arc<Records>,
    /// Set once clients are accepted.
    clients: OnceLock<Arc<Clients>>,
    /// Ways to ask the workers, set with the clients.
    orders: OnceLock<Vec<mpsc::UnboundedSender<Order>>>,
    /// Values are being read into the near cache, and clients are better served elsewhere until then.
    warming: AtomicBool,
    draining: AtomicBool,
}

// === impl Status ===

impl Status {
    /// The state of a process that does not listen yet.
    pub fn new(
        clock: Clock,
        metrics: Arc<Metrics>,
        route: &Route,
        current: watch::Receiver<Arc<PolicySet>>,
        reloader: &Reloader,
        config: &Config,
    ) -> Arc<Self> {
        let (clients, orders) = (OnceLock::new(), OnceLock::new());
        let (warming, draining) = (AtomicBool::new(false), AtomicBool::new(false));
        let (upstream, versions) = (Arc::clone(&route.state), Arc::clone(&route.versions));
        let target = route.target.clone();
        Arc::new(Self {
            clock,
            metrics,
            target,
            upstream,
            versions,
            current,
            last_refusal: reloader.last_refusal(),
            rollout: reloader.rollout(),
            records: reloader.records(),
            token: config.admin_token.clone(),
            body_bytes_max: config.admin_body_bytes_max,
            clients,
            orders,
            warming,
            draining,
        })
    }

    /// Clients are accepted now, and served by the workers that take these orders.
    pub fn listening(&self, clients: Arc<Clients>, orders: Vec<mpsc::UnboundedSender<Order>>) {
        // There is one listener, which begins once.
        drop(self.orders.set(orders));
        drop(self.clients.set(clients));
    }

    /// Who listens to decisions.
    pub fn records(&self) -> Arc<Records> {
        Arc::clone(&self.records)
    }

    /// Values are being read into the near cache, or are there now.
    pub fn warming(&self, warming: bool) {
        self.warming.store(warming, Ordering::Relaxed);
    }

    /// Clients are no longer accepted.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Why commands cannot be served now.
    fn unready(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Relaxed) {
            Some("draining")
        } else if self.clients.get().is_none() {
            Some("waiting for the server")
        } else if self.upstream.connections() == 0 {
            Some("the server is lost")
        } else if self.warming.load(Ordering::Relaxed) {
            Some("warming the near cache")
        } else {
            None
        }
    }

    /// What the policy folder holds, where it was refused.
    fn last_refusal(&self) -> Option<Refusal> {
        self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which server it is, where that may change, and what is not as it should be although commands are served.
    fn ready(&self) -> String {
        let mut text = match &self.target {
            Target::Sentinel(sentinels) => format!("ready\nupstream {sentinels}\n"),
            _ => "ready\n".to_owned(),
        };
        self.remarks().iter().for_each(|remark| text += &format!("{remark}\n"));
        text
    }

    /// What is not as it should be although commands are served, a line each. A policy that is left alone is no reason
    /// not to be ready: everything else is served, and a rule with a fallback is too.
    fn remarks(&self) -> Vec<String> {
        let set = Arc::clone(&self.current.borrow());
        let failing = set.failing().map(|policy| {
            let (name, generation) = (&policy.name, set.generation);
            format!(
                "policy {name} of generation {generation} fails and is left alone; the fallbacks of its rules apply"
            )
        });
        self.rollout.remarks().into_iter().chain(failing).collect()
    }

    fn policies(&self) -> serde_json::Value {
        let set = Arc::clone(&self.current.borrow());
        let policies = set.policies.iter().map(|policy| {
            json!({
                "name": policy.name,
                "digest": format!("sha256:{}", policy.facts.digest),
                "version": policy.description.version,
                "summary": policy.description.summary,
                "bytes": policy.facts.bytes,
                "cases_passed": policy.passed.0,
                "traps": policy.condition.traps(),
                "breaker_open_workers": policy.condition.open(),
                "breaker_opened": policy.condition.opened(),
            })
        });
        let refusal = self.last_refusal();
        json!({
            "generation": set.generation,
            "bypass": set.is_bypass,
            "rules": set.rules.rules().len(),
            "policies": policies.collect::<Vec<_>>(),
            "last_refused": refusal.map(|refusal| json!({
                "at_ms": refusal.at,
                "generation": refusal.generation,
                "policy": refusal.policy,
                "stage": refusal.stage.label(),
                "reason": refusal.reason,
            })),
        })
    }

    /// The answer to a request that came from this machine, or from elsewhere.
    async fn answer(&self, request: Request<Incoming>, is_near: bool) -> Response<Body> {
        if request.method() == Method::POST {
            return rollout::change(self, request, is_near).await;
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET, HEAD and POST are allowed\n".into());
        }
        match request.uri().path() {
            "/healthz" => response(StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" => match self.unready() {
                None => response(StatusCode::OK, TEXT, self.ready()),
                Some(reason) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
            },
            "/metrics" => match metrics::text(self) {
                Ok(text) => response(StatusCode::OK, metrics::TYPE, text),
                Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "metrics could not be written\n".into()),
            },
            "/top" => match top::Asked::read(request.uri().query().unwrap_or_default()) {
                Ok(asked) => response(StatusCode::OK, JSON, format!("{:#}\n", top::page(self, asked).await)),
                Err(error) => response(StatusCode::BAD_REQUEST, TEXT, error),
            },
            "/record" => match record::Asked::read(request.uri().query().unwrap_or_default()) {
                Ok(asked) => record::page(self, asked, request.method() == Method::HEAD),
                Err(error) => response(StatusCode::BAD_REQUEST, TEXT, error),
            },
            "/policies" => response(StatusCode::OK, JSON, format!("{:#}\n", self.policies())),
            "/rollout" => response(StatusCode::OK, JSON, format!("{:#}\n", rollout::page(self))),
            "/openapi.json" => response(StatusCode::OK, JSON, openapi::TEXT.into()),
            path => openapi::unknown(path),
        }
    }
}

/// A page that is there, or decisions as they are made.
type Body = Either<Full<Bytes>, record::Stream>;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Starts the admin server: the address it listens on.
///
/// # Errors
/// The address cannot be listened on.
pub async fn start(address: SocketAddr, status: Arc<Status>) -> anyhow::Result<SocketAddr> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} (admin_listen)"))?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let Ok((socket, peer)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let status = Arc::clone(&status);
            let is_near = peer.ip().to_canonical().is_loopback();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let status = Arc::clone(&status);
                    async move { Ok::<_, Infallible>(status.answer(request, is_near).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(std::time::Duration::from_secs(10))
                    .serve_connection(TokioIo::new(socket), service);
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "an admin connection ended early");
                }
            });
        }
    });
    Ok(address)
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
