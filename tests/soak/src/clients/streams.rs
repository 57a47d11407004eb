//! A stream: who reads on from where he was gets every entry that was acknowledged, once and in its order, also over
//! connections that were lost.

use std::sync::Mutex;

use super::Client;
use crate::ledger::Rule;
use crate::wire::{Reply, text_of};

/// What was added: epochs as with messages, and how many entries of each were acknowledged.
#[derive(Default)]
pub struct Stream(Mutex<Vec<u64>>);

const KEY: &str = "free:stream";
/// Older ones are trimmed: a reader is never so far behind.
const LENGTH_MAX: &str = "20000";

/// Where a reader is.
struct Place {
    id: String,
    epoch: usize,
    number: u64,
}

/// Adds entries until all is over.
pub fn add(mut client: Client<'_>) {
    let mut number = 0;
    client.shared.stream.0.lock().unwrap().push(0);
    while client.goes_on() {
        if !client.is_connected() {
            continue;
        }
        let epoch = client.shared.stream.0.lock().unwrap().len() - 1;
        number += 1;
        match client.say(&format!("XADD {KEY} MAXLEN ~ {LENGTH_MAX} * entry {epoch}|{number}")) {
            Some(Reply::Bulk(_)) => {
                client.shared.stream.0.lock().unwrap()[epoch] = number;
                client.ledger().count("stream entries added", 1);
                client.good();
                continue;
            }
            Some(Reply::Error(error)) => drop(client.error(&error)),
            Some(reply) => client.broken(Rule::Swapped, &format!("{} for XADD", reply.shown())),
            None => {}
        }
        // Of this one nobody knows: it may still come, at any time.
        client.shared.stream.0.lock().unwrap().push(0);
        number = 0;
    }
}

/// Reads on until all is over.
pub fn read(mut client: Client<'_>) {
    let mut place = Place { id: "0".to_owned(), epoch: 0, number: 0 };
    while client.goes_on() {
        if !client.is_connected() {
            continue;
        }
        match client.say(&format!("XREAD COUNT 50 BLOCK 2000 STREAMS {KEY} {}", place.id)) {
            None => {}
            Some(Reply::Nil) => client.good(),
            Some(Reply::Error(error)) => drop(client.error(&error)),
            Some(reply) => match entries(&reply) {
                Some(entries) => {
                    entries.into_iter().for_each(|(id, text)| entry(&client, &mut place, id, &text));
                    client.good();
                }
                None => client.broken(Rule::Swapped, &format!("{} for XREAD", reply.shown())),
            },
        }
    }
}

/// The entries of a reply: identity and text. RESP3 has a map around them, and RESP2 arrays.
fn entries(reply: &Reply) -> Option<Vec<(String, String)>> {
    let Reply::Array(parts) = reply else { return None };
    let inner = match &parts[..] {
        [Reply::Array(inner)] => inner,
        outer => outer,
    };
    let [key, Reply::Array(entries)] = inner else { return None };
    let one = |entry: &Reply| match entry {
        Reply::Array(parts) => match &parts[..] {
            [id, Reply::Array(fields)] => Some((text_of(id.text()?), text_of(fields.get(1)?.text()?))),
            _ => None,
        },
        _ => None,
    };
    (key.text() == Some(KEY.as_bytes())).then(|| entries.iter().map(one).collect())?
}

fn entry(client: &Client<'_>, place: &mut Place, id: String, text: &str) {
    client.ledger().count("stream entries read", 1);
    let parts: Vec<u64> = text.split('|').filter_map(|part| part.parse().ok()).collect();
    let [epoch, number] = parts[..] else {
        return client.broken(Rule::Swapped, &format!("{text:?} for an entry"));
    };
    let epoch = usize::try_from(epoch).unwrap_or(usize::MAX);
    let known = client.shared.stream.0.lock().unwrap().clone();
    let acknowledged = |epoch: usize| known.get(epoch).copied().unwrap_or(0);
    let told =
        |what: &str| format!("{what}: entry {number} of epoch {epoch} behind {} of {}", place.number, place.epoch);
    place.id = id;
    if epoch < place.epoch || (epoch == place.epoch && number <= place.number) {
        // One that was in doubt may come late.
        if number <= acknowledged(epoch) {
            client.broken(Rule::Twice, &told("again"));
        }
        return;
    }
    let gap = if epoch == place.epoch { number != place.number + 1 } else { number != 1 };
    let missed = epoch > place.epoch && acknowledged(place.epoch) > place.number;
    let skipped = (place.epoch + 1..epoch).any(|between| acknowledged(between) > 0);
    if gap || missed || skipped {
        client.broken(Rule::Lost, &told("a gap"));
    }
    (place.epoch, place.number) = (epoch, number);
}
