//! What all workers have seen of keys and rules, put together, as JSON. Keys are shown: who may read this page may read
//! them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Status;
use crate::metrics::RuleCounters;
use crate::policy::PolicySet;
use crate::proxy::shown;
use crate::top::{Told, ToldKey};
use crate::worker::Order;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    limit: usize,
    by: By,
}

/// What keys are ordered by.
#[derive(Clone, Copy, Debug)]
enum By {
    Reads,
    Writes,
    Bytes,
}

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 1000;

// === impl Asked ===

impl Asked {
    /// Reads `limit=N&by=reads|writes|bytes`.
    pub(super) fn read(query: &str) -> Result<Self, String> {
        let mut asked = Self { limit: LIMIT_DEFAULT, by: By::Reads };
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("limit", limit)) => match limit.parse() {
                    Ok(limit @ 1..=LIMIT_MAX) => asked.limit = limit,
                    _ => return Err(format!("limit is a number from 1 to {LIMIT_MAX}, and not {limit:?}\n")),
                },
                Some(("by", "reads")) => asked.by = By::Reads,
                Some(("by", "writes")) => asked.by = By::Writes,
                Some(("by", "bytes")) => asked.by = By::Bytes,
                _ => return Err(format!("there is limit=N and by=reads|writes|bytes, and not {option:?}\n")),
            }
        }
        Ok(asked)
    }

    fn of(self, key: &ToldKey) -> f64 {
        match self.by {
            By::Reads => key.reads_per_second,
            By::Writes => key.writes_per_second,
            By::Bytes => key.bytes as f64,
        }
    }
}

/// The page.
pub(super) async fn page(status: &Status, asked: Asked) -> Value {
    let set = Arc::clone(&status.current.borrow());
    let mut told = Vec::new();
    for worker in status.orders.get().into_iter().flatten() {
        let (tell, answer) = oneshot::channel();
        // One that has stopped tells nothing.
        if worker.send(Order::Top(set.generation, tell)).is_ok()
            && let Ok(answer) = answer.await
        {
            told.push(answer);
        }
    }
    let commands: f64 = told.iter().map(|(told, _)| told.commands_per_second).sum();
    json!({
        "commands_per_second": rounded(commands),
        "clients": status.clients.get().map_or(0, |clients| clients.count()),
        "near": { "bytes": status.versions.bytes(), "values": status.versions.values() },
        "upstream": {
            "server": status.target.to_string(),
            "connections": status.upstream.connections(),
            "state": status.unready().unwrap_or("ready"),
        },
        "rules": rules(status, &set, &told),
        "keys": keys(&set, told, asked),
    })
}

fn keys(set: &PolicySet, told: Vec<(Told, Vec<bool>)>, asked: Asked) -> Vec<Value> {
    let mut keys = HashMap::<(u32, Vec<u8>), (ToldKey, bool)>::new();
    for (key, near) in told.into_iter().flat_map(|(told, near)| told.keys.into_iter().zip(near)) {
        let (known, is_near) = keys.entry((key.db, key.key.clone())).or_insert_with(|| {
            (ToldKey { reads_per_second: 0.0, writes_per_second: 0.0, bytes: 0, ..key.clone() }, false)
        });
        known.reads_per_second += key.reads_per_second;
        known.writes_per_second += key.writes_per_second;
        known.bytes = known.bytes.max(key.bytes);
        *is_near |= near;
    }
    let mut keys: Vec<_> = keys.into_values().filter(|(key, _)| asked.of(key) > 0.0).collect();
    keys.sort_by(|(a, _), (b, _)| asked.of(b).total_cmp(&asked.of(a)).then_with(|| a.key.cmp(&b.key)));
    let key = |(key, near): (ToldKey, bool)| {
        json!({
            "key": shown(&key.key),
            "key_bytes": key.key_bytes,
            "db": key.db,
            "rule": set.rules.find(&key.key).map(|(_, rule)| rule.name.as_str()),
            "reads_per_second": rounded(key.reads_per_second),
            "writes_per_second": rounded(key.writes_per_second),
            "bytes": if key.bytes > 0 { Some(key.bytes) } else { None },
            "near": near,
        })
    };
    keys.into_iter().take(asked.limit).map(key).collect()
}

fn rules(status: &Status, set: &PolicySet, told: &[(Told, Vec<bool>)]) -> Vec<Value> {
    let rates = told.iter().flat_map(|(told, _)| &told.rules);
    let counters = status.metrics.of_rules(&set.rules);
    let rule = |place: usize, name: &str, counters: &RuleCounters| {
        let rate: f64 = rates.clone().filter(|(of, _)| *of == place).map(|(_, rate)| rate).sum();
        let (hits, misses) = (counters.near_hits.get(), counters.near_misses.get());
        let decisions: u64 = counters.all().map(|(_, count)| count).sum();
        json!({
            "rule": name,
            "commands_per_second": rounded(rate),
            "near_hits": hits,
            "near_misses": misses,
            "hit_ratio": if hits + misses > 0 { Some(hits as f64 / (hits + misses) as f64) } else { None },
            "decisions": decisions,
        })
    };
    let all = set.rules.rules().iter().zip(&counters).enumerate();
    all.map(|(place, (of, counters))| rule(place, &of.name, counters)).collect()
}

/// To a tenth: more digits would promise what samples do not hold.
fn rounded(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}
