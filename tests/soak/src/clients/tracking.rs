//! Clients that keep values themselves and are told by CLIENT TRACKING: whoever keeps a value that has been written
//! over is told so, or loses the connection.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Client;
use crate::cells::{Floor, Kind};
use crate::ledger::Rule;
use crate::wire::{Reply, encoded, text_of};

/// A value that is kept.
struct Kept {
    cell: usize,
    floor: Floor,
    /// The write it shows.
    write: u64,
    /// Since when it has been known to be written over, in milliseconds of the ledger.
    over_ms: Option<u64>,
}

/// Longer than any fault lasts, and as long again.
const TOLD_WITHIN_MS: u64 = 45_000;
const KEPT_MAX: usize = 40;

/// Keeps values until all is over.
pub fn run(mut client: Client<'_>) {
    let mut kept: BTreeMap<String, Kept> = BTreeMap::new();
    let mut begun = false;
    while client.goes_on() {
        if !client.is_connected() {
            continue;
        }
        if !begun {
            kept.clear();
            begun = begin(&mut client) == Some(true);
            continue;
        }
        if round(&mut client, &mut kept) == Some(true) {
            client.good();
        } else {
            client.forget();
            begun = false;
        }
    }
}

fn begin(client: &mut Client<'_>) -> Option<bool> {
    client.send(&[encoded(&["HELLO", "3"]), encoded(&["CLIENT", "TRACKING", "ON"])].concat())?;
    for _ in 0..2 {
        if let Reply::Error(error) = client.reply()? {
            client.error(&error);
            client.forget();
            return Some(false);
        }
    }
    Some(true)
}

fn round(client: &mut Client<'_>, kept: &mut BTreeMap<String, Kept>) -> Option<bool> {
    // What comes by itself.
    while let Some(reply) = client.next(Duration::from_millis(1))? {
        let Reply::Push(parts) = reply else {
            client.broken(Rule::Swapped, &format!("{} for a push", reply.shown()));
            return Some(false);
        };
        told(client, kept, &parts);
    }
    let cell = client.random.below(client.shared.cells.len());
    let chosen = &client.shared.cells[cell];
    let floor = chosen.floor();
    let key = chosen.key(floor.epoch);
    if chosen.kind == Kind::Text && kept.len() < KEPT_MAX && !kept.contains_key(&key) {
        let reply = client.ask(&[b"GET", key.as_bytes()])?;
        if let Reply::Error(error) = &reply {
            client.error(error);
            return Some(false);
        }
        match chosen.judge(floor, &reply, client.ledger().now_ms()) {
            Err((rule, what)) => client.broken(rule, &what),
            Ok(write) => {
                kept.insert(key, Kept { cell, floor, write, over_ms: None });
            }
        }
        for push in client.pushes() {
            told(client, kept, &push);
        }
    }
    let now_ms = client.ledger().now_ms();
    for (key, value) in kept.iter_mut() {
        let floor = client.shared.cells[value.cell].floor();
        // Nothing, and a write that deletes, look the same.
        let shown = value.write == 0 || floor.epoch != value.floor.epoch || floor.write <= value.write;
        let since = *value.over_ms.get_or_insert(now_ms);
        if shown {
            value.over_ms = None;
        } else if now_ms - since > TOLD_WITHIN_MS {
            let what = format!("nobody said that {key} was written: kept {}, now {}", value.write, floor.write);
            client.broken(Rule::Lost, &what);
            return Some(false);
        }
    }
    kept.retain(|_, value| client.shared.cells[value.cell].floor().epoch == value.floor.epoch);
    Some(true)
}

/// Forgets what was named; nothing named is everything.
fn told(client: &Client<'_>, kept: &mut BTreeMap<String, Kept>, parts: &[Reply]) {
    client.ledger().count("invalidations", 1);
    match parts {
        [kind, Reply::Array(keys)] if kind.text() == Some(b"invalidate") => {
            for key in keys.iter().filter_map(Reply::text) {
                kept.remove(&text_of(key));
            }
        }
        [kind, Reply::Nil] if kind.text() == Some(b"invalidate") => kept.clear(),
        other => client.broken(Rule::Swapped, &format!("{other:?} for an invalidation")),
    }
}
