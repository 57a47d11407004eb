//! Generations of policies as JSON, and the requests that change them: who may, what was sent, what became of it.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, ORIGIN};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::{Body, JSON, Status, TEXT, response};
use crate::policy::Expiry;
use crate::record::Verdict as Means;
use crate::rollout::{Candidate, Denied, Done, FolderIs, Gate, Generation, Order, Shadow, Side, State, tar};

/// Why a request is not carried out.
type Refused = (StatusCode, String);

/// The longest time for which a candidate is compared.
const SPAN_MAX: Duration = Duration::from_secs(7 * 86_400);

/// The page.
pub(super) fn page(status: &Status) -> Value {
    let bypass = status.rollout.published.bypass();
    let kept = status.rollout.keep().is_some();
    let remarks = status.remarks();
    let refusal = status.last_refusal();
    let mut board = status.rollout.board();
    let active = board.active;
    let digest = board.find(active).map(|generation| generation.digest.clone()).unwrap_or_default();
    let shadow = board.shadow.as_ref().map(|shadow| comparison(shadow));
    let history: Vec<_> = board.generations.iter().map(generation).collect();
    let why = match &board.folder {
        FolderIs::Refused => refusal.map(|refusal| refusal.reason),
        FolderIs::SetAside => Some(
            "an operator put another generation in force, or what it holds was not let through; it is left alone until \
             it changes"
                .to_owned(),
        ),
        FolderIs::InForce | FolderIs::Shadowing | FolderIs::None => None,
    };
    json!({
        "generation": active,
        "digest": shown(&digest),
        "bypass": bypass,
        "folder": { "is": board.folder.label(), "why": why },
        "last_good": {
            "kept": kept && board.unkept.is_none(),
            "why_not": board.unkept.clone().or_else(|| (!kept).then(|| "state_dir is not set".to_owned())),
            "serving": board.last_good.is_some(),
            "why": board.last_good,
        },
        "shadow": shadow,
        "remarks": remarks,
        "generations": history,
    })
}

/// Carries out a request that changes something.
pub(super) async fn change(status: &Status, request: Request<Incoming>, is_near: bool) -> Response<Body> {
    let answer = match allowed(status, &request, is_near) {
        Ok(()) => carry_out(status, request).await,
        Err(refused) => Err(refused),
    };
    match answer {
        Ok(done) => {
            let page = json!({ "generation": done.generation, "said": done.said });
            response(StatusCode::OK, JSON, format!("{page:#}\n"))
        }
        Err((code, why)) => response(code, TEXT, format!("{why}\n")),
    }
}

/// Whether the one who asks may change anything.
fn allowed(status: &Status, request: &Request<Incoming>, is_near: bool) -> Result<(), Refused> {
    // A page in a browser on this machine reaches what its user reaches; it cannot leave this header out.
    if request.headers().contains_key(ORIGIN) {
        return Err((StatusCode::FORBIDDEN, "requests of web pages change nothing".to_owned()));
    }
    let Some(token) = &status.token else {
        let far = "without admin_token, changes are taken from this machine alone; set it on both sides";
        return if is_near { Ok(()) } else { Err((StatusCode::FORBIDDEN, far.to_owned())) };
    };
    let given = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
    let given = given.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
    if bool::from(given.ct_eq(token.reveal().as_bytes())) {
        return Ok(());
    }
    Err((StatusCode::UNAUTHORIZED, "the token is missing or wrong (admin_token)".to_owned()))
}

async fn carry_out(status: &Status, request: Request<Incoming>) -> Result<Done, Refused> {
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    let order = match path.as_str() {
        "/rollout/shadow" => {
            let mut options = Options::read(&query, &["seconds", "max-differing-percent", "over"])?;
            let gate = options.gate()?;
            Order::Shadow(candidate(status, &mut options, request).await?, gate)
        }
        "/rollout/publish" => {
            let mut options = Options::read(&query, &["over"])?;
            Order::Publish(candidate(status, &mut options, request).await?)
        }
        "/rollout/promote" => Options::read(&query, &[]).map(|_| Order::Promote)?,
        "/rollout/reject" => Options::read(&query, &[]).map(|_| Order::Reject)?,
        "/rollout/rollback" => Order::Rollback(Options::read(&query, &["to"])?.number("to")?),
        "/bypass" => return bypass(status, Options::read(&query, &["is"])?).await,
        "/healthz" | "/readyz" | "/metrics" | "/policies" | "/record" | "/rollout" | "/top" | "/openapi.json" => {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "this is only told: GET and HEAD are allowed".to_owned()));
        }
        _ => return Err((StatusCode::NOT_FOUND, "there is no such path; /openapi.json lists them".to_owned())),
    };
    match status.rollout.order(order).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Denied::Conflict(why))) => Err((StatusCode::CONFLICT, why)),
        Ok(Err(Denied::Refused { generation, said })) => {
            Err((StatusCode::UNPROCESSABLE_ENTITY, format!("generation {generation} was refused: {said}")))
        }
        Err(_) => Err((StatusCode::SERVICE_UNAVAILABLE, "the sidecar stops, and takes no orders".to_owned())),
    }
}

async fn bypass(status: &Status, mut options: Options) -> Result<Done, Refused> {
    let is = match options.take("is").as_deref() {
        Some("on") => true,
        Some("off") => false,
        _ => return Err((StatusCode::BAD_REQUEST, "there is ?is=on and ?is=off".to_owned())),
    };
    let rollout = std::sync::Arc::clone(&status.rollout);
    // Keeping it for a restart waits for the disk, on which nothing else here should wait.
    let changed = tokio::task::spawn_blocking(move || rollout.set_bypass(is)).await;
    let generation = status.rollout.board().active;
    let word = if is { "on" } else { "off" };
    match changed {
        Ok(Ok(true)) => Ok(Done { generation, said: format!("bypass is {word}") }),
        Ok(Ok(false)) => Ok(Done { generation, said: format!("bypass was {word} already") }),
        Ok(Err(error)) => {
            let why = format!("bypass is {word}, but a restart would not know: {error:#}");
            Err((StatusCode::INTERNAL_SERVER_ERROR, why))
        }
        Err(_) => Err((StatusCode::INTERNAL_SERVER_ERROR, "bypass could not be changed".to_owned())),
    }
}

/// The policies that were sent.
async fn candidate(status: &Status, options: &mut Options, request: Request<Incoming>) -> Result<Candidate, Refused> {
    let over = match options.take("over").as_deref() {
        None | Some("active") => true,
        Some("standard") => false,
        Some(_) => return Err((StatusCode::BAD_REQUEST, "there is over=active and over=standard".to_owned())),
    };
    let max = status.body_bytes_max;
    let body = Limited::new(request.into_body(), max).collect().await.map_err(|_| {
        (StatusCode::PAYLOAD_TOO_LARGE, format!("more than {max} bytes (admin_body_bytes_max), or cut off"))
    })?;
    let files = tar::read(&body.to_bytes()).map_err(|error| (StatusCode::BAD_REQUEST, format!("{error:#}")))?;
    if over && files.is_empty() {
        let why = "there is no policy's file in it: NAME.wasm, NAME.toml, NAME.cases.toml";
        return Err((StatusCode::BAD_REQUEST, why.to_owned()));
    }
    Ok(Candidate { files, over })
}

fn generation(of: &Generation) -> Value {
    let states = of.states.iter().map(|(state, at)| json!({ "state": state.label(), "at_ms": at }));
    let policies = of.policies.iter().map(|(name, digest)| json!({ "name": name, "digest": shown(digest) }));
    json!({
        "generation": of.number,
        "digest": shown(&of.digest),
        "from": of.came.label(),
        "state": of.state().label(),
        "states": states.collect::<Vec<_>>(),
        "reason": of.reason,
        "rejected_at": of.rejected.as_ref().map(|(stage, _)| *stage),
        "policy": of.rejected.as_ref().and_then(|(_, policy)| policy.clone()),
        "policies": policies.collect::<Vec<_>>(),
        "can_be_gone_back_to": of.state() == State::Retired && of.is_kept(),
    })
}

/// A comparison of a candidate with what decides.
fn comparison(of: &Shadow) -> Value {
    let found = of.found();
    let left = if found.ended.is_some() { Duration::ZERO } else { of.gate.left(found.elapsed) };
    let rules = found
        .rules
        .iter()
        .map(|(rule, (compared, differing))| json!({ "rule": rule, "compared": compared, "differing": differing }));
    let sample = found.sample.iter().map(|key| {
        let (active, candidate) = (answer(&key.active), answer(&key.candidate));
        json!({ "key": key.key, "times": key.times, "now_ms": key.now, "active": active, "candidate": candidate })
    });
    json!({
        "generation": of.generation,
        "beside": of.beside,
        "ended": found.ended.is_some(),
        "said": found.ended,
        "seconds": of.gate.span.as_secs_f64(),
        "left_ms": u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        "max_differing_percent": of.gate.differing_max.map(|share| share * 100.0),
        "one_of": found.one_of,
        "compared": found.compared,
        "differing": found.differing,
        "dropped": found.dropped,
        "rules": rules.collect::<Vec<_>>(),
        "remarks": of.remarks,
        "sample": sample.collect::<Vec<_>>(),
        "unlisted": found.unlisted,
    })
}

/// What one of two sides says about a key.
fn answer(side: &Side) -> Value {
    let mut answer = json!({ "rule": side.rule, "why": side.why });
    let (name, value) = match side.verdict {
        Means::NoPolicy => ("no_policy", true.into()),
        Means::Failed => ("failed", true.into()),
        Means::Decided(expiry, spread_ms) => {
            answer["spread_ms"] = spread_ms.into();
            match expiry {
                Expiry::After(ms) => ("after_ms", ms.into()),
                Expiry::At(at) => ("at_ms", at.into()),
                Expiry::Keep => ("keep", true.into()),
                Expiry::Never => ("never", Value::Bool(true)),
            }
        }
    };
    answer[name] = value;
    answer
}

fn shown(digest: &str) -> Option<String> {
    (!digest.is_empty()).then(|| format!("sha256:{digest}"))
}

/// What stands behind the question mark.
struct Options(Vec<(String, String)>);

// === impl Options ===

impl Options {
    fn read(query: &str, known: &[&str]) -> Result<Self, Refused> {
        let mut options = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some((name, value)) if known.contains(&name) => options.push((name.to_owned(), value.to_owned())),
                _ => {
                    let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
                    return Err((StatusCode::BAD_REQUEST, format!("this takes {known}, and not {option:?}")));
                }
            }
        }
        Ok(Self(options))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(place).1)
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, Refused> {
        let read = |text: String| {
            text.parse().map_err(|_| (StatusCode::BAD_REQUEST, format!("{name} is a number, and not {text:?}")))
        };
        self.take(name).map(read).transpose()
    }

    fn gate(&mut self) -> Result<Gate, Refused> {
        let bad = |why: &str| (StatusCode::BAD_REQUEST, why.to_owned());
        let seconds: f64 = self.number("seconds")?.ok_or_else(|| bad("seconds=N says for how long"))?;
        let span = Duration::try_from_secs_f64(seconds).ok().filter(|span| !span.is_zero() && *span <= SPAN_MAX);
        let span = span.ok_or_else(|| bad("seconds is more than 0, and at most a week"))?;
        let percent: Option<f64> = self.number("max-differing-percent")?;
        if percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            return Err(bad("max-differing-percent is from 0 to 100"));
        }
        Ok(Gate { span, differing_max: percent.map(|percent| percent / 100.0) })
    }
}
