//! What the admin server offers, as an OpenAPI description, and the answer to requests for anything else.

use hyper::{Response, StatusCode};

use super::{Body, response};

/// The description.
pub(super) const TEXT: &str = include_str!("openapi.json");

/// Paths that change something: they take POST.
pub(super) const CHANGES: [&str; 6] =
    ["/rollout/shadow", "/rollout/publish", "/rollout/promote", "/rollout/reject", "/rollout/rollback", "/bypass"];

/// The answer to a path that is not known, or that takes POST.
pub(super) fn unknown(path: &str) -> Response<Body> {
    if CHANGES.contains(&path) {
        return response(StatusCode::METHOD_NOT_ALLOWED, super::TEXT, "this changes something: POST it\n".into());
    }
    let known = "there are /healthz, /readyz, /metrics, /policies, /record, /rollout, /top and /openapi.json, which \
                 describes them and what can be changed\n";
    response(StatusCode::NOT_FOUND, super::TEXT, known.into())
}
