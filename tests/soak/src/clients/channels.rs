//! Messages: whoever listens without a break gets all that were published, once, in their order.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::Client;
use crate::ledger::Rule;
use crate::wire::{Reply, text_of};

/// Those who publish, each to a channel of its own; the last by SPUBLISH.
pub const PUBLISHERS: usize = 3;

/// How many messages of each epoch of each publisher were acknowledged. After a loss begins the next epoch: a message
/// of which nobody knows may come at any later time.
#[derive(Default)]
pub struct Channels(Mutex<BTreeMap<(usize, u64), u64>>);

/// How a subscriber listens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Channels,
    Pattern,
    Sharded,
}

/// Where a subscriber stands with one publisher.
type Places = BTreeMap<usize, (u64, u64)>;

// === impl Channels ===

impl Channels {
    fn acknowledged(&self, publisher: usize, epoch: u64) -> u64 {
        self.0.lock().unwrap().get(&(publisher, epoch)).copied().unwrap_or(0)
    }
}

/// Publishes until all is over.
pub fn publish(mut client: Client<'_>) {
    let (publisher, mut epoch, mut number) = (client.number, 0, 0);
    let verb = if publisher == PUBLISHERS - 1 { "SPUBLISH" } else { "PUBLISH" };
    while client.goes_on() {
        if !client.is_connected() {
            continue;
        }
        number += 1;
        match client.say(&format!("{verb} soak:{publisher} {publisher}|{epoch}|{number}")) {
            Some(Reply::Number(_)) => {
                client.shared.channels.0.lock().unwrap().insert((publisher, epoch), number);
                client.ledger().count("messages published", 1);
                client.good();
            }
            other => {
                match other {
                    Some(Reply::Error(error)) => drop(client.error(&error)),
                    Some(reply) => client.broken(Rule::Swapped, &format!("{} for {verb}", reply.shown())),
                    None => {}
                }
                (epoch, number) = (epoch + 1, 0);
            }
        }
    }
}

/// Listens until all is over.
pub fn subscribe(mut client: Client<'_>) {
    let way = [Way::Channels, Way::Pattern, Way::Sharded][client.number % 3];
    let mut places = Places::new();
    let mut subscribed = false;
    while !client.ledger().is_over() {
        if !client.is_connected() {
            subscribed = false;
            continue;
        }
        if !subscribed {
            places.clear();
            let words: &[&str] = match way {
                Way::Channels => &["SUBSCRIBE", "soak:0", "soak:1"],
                Way::Pattern => &["PSUBSCRIBE", "soak:*"],
                Way::Sharded => &["SSUBSCRIBE", "soak:2"],
            };
            subscribed = client.send(&crate::wire::encoded(words)).is_some();
            continue;
        }
        match client.next(Duration::from_millis(250)) {
            None => subscribed = false,
            Some(None) => {}
            Some(Some(Reply::Error(error))) => {
                client.error(&error);
                client.forget();
                subscribed = false;
            }
            Some(Some(Reply::Array(parts) | Reply::Push(parts))) => message(&mut client, &mut places, &parts),
            Some(Some(reply)) => client.broken(Rule::Swapped, &format!("{} for a message", reply.shown())),
        }
    }
}

/// Looks at one message, or at a confirmation.
fn message(client: &mut Client<'_>, places: &mut Places, parts: &[Reply]) {
    let texts: Vec<_> = parts.iter().map(|part| part.text().map(text_of).unwrap_or_default()).collect();
    let kind = texts.first().map_or("", String::as_str);
    if ["subscribe", "psubscribe", "ssubscribe"].contains(&kind) {
        return;
    }
    let numbers: Vec<u64> =
        texts.last().map_or("", String::as_str).split('|').filter_map(|part| part.parse().ok()).collect();
    let [publisher, epoch, number] = numbers[..] else {
        return client.broken(Rule::Swapped, &format!("{texts:?} for a message"));
    };
    let publisher = usize::try_from(publisher).unwrap_or(usize::MAX);
    let channel = texts.iter().rev().nth(1);
    if !["message", "pmessage", "smessage"].contains(&kind) || channel != Some(&format!("soak:{publisher}")) {
        return client.broken(Rule::Swapped, &format!("{texts:?} for a message"));
    }
    client.ledger().count("messages received", 1);
    client.good();
    let channels = &client.shared.channels;
    let known = |epoch| channels.acknowledged(publisher, epoch);
    let Some(&(at_epoch, at)) = places.get(&publisher) else {
        places.insert(publisher, (epoch, number));
        return;
    };
    let told = |what: &str| {
        format!("{what}: message {number} of epoch {epoch} of publisher {publisher} behind {at} of {at_epoch}")
    };
    if epoch == at_epoch && number == at + 1 {
        places.insert(publisher, (epoch, number));
    } else if epoch == at_epoch && number <= at {
        client.broken(Rule::Twice, &told("again"));
    } else if epoch < at_epoch {
        // It was in doubt, and comes late.
        if number <= known(epoch) {
            client.broken(Rule::Order, &told("late"));
        }
    } else {
        let missed = epoch == at_epoch || known(at_epoch) > at || number != 1;
        let skipped = (at_epoch + 1..epoch).any(|between| known(between) > 0);
        if missed || skipped {
            client.broken(Rule::Order, &told("a gap"));
        }
        places.insert(publisher, (epoch, number));
    }
}
