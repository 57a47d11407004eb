//! The Redis side: everything that knows where the server is and how it is spoken to. Knows nothing of policies.

mod cluster;
mod commands;
mod control;
pub mod embedded;
mod expect;
mod holes;
mod keys;
mod keys_asked;
mod lane;
mod lanes;
mod near_lane;
mod outbox;
mod sentinel;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;

pub use cluster::{Cluster, ClusterRoute};
pub use commands::reported;
pub use control::{Control, ServerFacts};
pub use embedded::glob::matches as matches_pattern;
pub use expect::{Expect, Kept};
pub use holes::{Hole, Missed};
pub use keys::{End, Found, Keys, Look, Page, is_refusal};
pub use lane::{Lane, Listening};
pub use lanes::Lanes;
pub use near_lane::PING_EVERY;
pub use outbox::{Fate, Outbox};
pub use sentinel::{Login, SentinelStart, Sentinels};
pub use stream::Target;

use crate::near::Versions;
use crate::resp::{Protocol, write};

/// How lanes reach the server. Each worker has its own copy.
#[derive(Clone, Debug)]
pub struct Route {
    /// Where the server is.
    pub target: Target,
    /// The user to authenticate as; none: the default user.
    pub user: Option<String>,
    /// The password; none: no authentication.
    pub password: Option<String>,
    /// How long a connection attempt may take.
    pub connect_timeout: Duration,
    /// How long to wait between attempts.
    pub back_off: BackOff,
    /// What sessions with a command in flight see when a lane is lost.
    pub loss: Loss,
    /// Bytes that may wait to be written to one lane before sessions are held up.
    pub lane_bytes_max: usize,
    /// Pinned lanes kept for the next session, by protocol and database.
    pub idle_lanes_max: usize,
    /// Whether lanes are connected, for readiness and metrics.
    pub state: Arc<UpstreamState>,
    /// The versions of keys, which every write counts up.
    pub versions: Arc<Versions>,
}

/// What sessions with a command in flight see when a lane is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Their connection is closed, as a server that dies closes it; clients connect again and retry.
    Close,
    /// An error that says what is known.
    Error,
}

/// Growing waits between attempts, with a part taken at random so that workers and sidecars do not knock together.
#[derive(Clone, Debug)]
pub struct BackOff {
    /// The first wait.
    pub first: Duration,
    /// No wait is longer.
    pub max: Duration,
    /// Changes the random part from lane to lane.
    pub seed: u64,
}

/// How the connections to the server are.
#[derive(Debug, Default)]
pub struct UpstreamState {
    connected: AtomicUsize,
    losses: AtomicUsize,
    /// The same without those that were closed here.
    ended_by_server: AtomicUsize,
    /// Connections that were found dead.
    dead: AtomicUsize,
}

// === impl Route ===

impl Route {
    /// Writes the commands that open a connection: what is to be done with the reply of each.
    fn opening(&self, out: &mut BytesMut, protocol: Protocol, db: u32, near: bool) -> Vec<Expect> {
        let user = self.user.as_deref().unwrap_or("default");
        let mut commands: Vec<Vec<&str>> = Vec::new();
        let db = db.to_string();
        match &self.password {
            None => {}
            Some(password) if self.user.is_none() => commands.push(vec!["AUTH", password]),
            Some(password) => commands.push(vec!["AUTH", user, password]),
        }
        if protocol == Protocol::Resp3 {
            commands.push(vec!["HELLO", "3"]);
        }
        if db != "0" {
            commands.push(vec!["SELECT", &db]);
        }
        let mut expects = vec![Expect::Opening; commands.len()];
        // For people who look at the server's CLIENT LIST; a server that does not know it is no worse.
        commands.push(vec!["CLIENT", "SETNAME", "bellwether"]);
        expects.push(Expect::Swallow);
        if near {
            commands.push(vec!["CLIENT", "TRACKING", "ON", "OPTIN"]);
            expects.push(Expect::Tracking);
        }
        for command in commands {
            write::array(out, command.len());
            command.iter().for_each(|arg| write::bulk(out, arg.as_bytes()));
        }
        expects
    }
}

// === impl BackOff ===

impl BackOff {
    /// The wait after that many failed attempts: doubled each time, a half to the whole of it.
    pub fn after(&self, attempt: u32) -> Duration {
        let whole = self.first.saturating_mul(1_u32.checked_shl(attempt.min(16)).unwrap_or(u32::MAX)).min(self.max);
        let random = (self.seed ^ u64::from(attempt)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
        whole / 2 + whole.mul_f64(random as f64 / 131_072.0)
    }
}

// === impl UpstreamState ===

impl UpstreamState {
    fn connected(&self) {
        self.connected.fetch_add(1, Ordering::Relaxed);
    }

    fn disconnected(&self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
        self.losses.fetch_add(1, Ordering::Relaxed);
    }

    fn found_dead(&self) {
        self.dead.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a connection was found dead.
    fn deaths(&self) -> usize {
        self.dead.load(Ordering::Relaxed)
    }

    fn ended_by_server(&self) {
        self.ended_by_server.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a connection has ended or failed that was not closed here: after a change the server may be another.
    pub fn interruptions(&self) -> usize {
        self.ended_by_server.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    /// Connections that ended, since the start.
    pub fn losses(&self) -> usize {
        self.losses.load(Ordering::Relaxed)
    }
}
