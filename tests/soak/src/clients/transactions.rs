//! Counting by WATCH, GET, MULTI, SET, EXEC: of all who count the same number at once, none's step is lost.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Client, grow};
use crate::ledger::{Rule, Said};
use crate::wire::{Reply, encoded, text_of};

/// One number that is counted.
#[derive(Default)]
pub struct Count {
    /// Steps that were acknowledged.
    pub acknowledged: AtomicU64,
    /// Steps of which nobody knows, and those under way.
    pub in_doubt: AtomicU64,
}

/// The numbers.
pub type Counters = [Count; 3];

/// The key of a number.
pub fn key(number: usize) -> String {
    format!("free:counted:{number}")
}

/// Counts until all is over.
pub fn run(mut client: Client<'_>) {
    while client.goes_on() {
        if client.is_connected() && step(&mut client) == Some(true) {
            client.good();
        }
    }
}

/// None: the connection is lost.
fn step(client: &mut Client<'_>) -> Option<bool> {
    let number = client.random.below(client.shared.transactions.len());
    let (key, count) = (key(number), &client.shared.transactions[number]);
    let floor = count.acknowledged.load(Ordering::SeqCst);
    client.send(&[encoded(&["WATCH", &key]), encoded(&["GET", &key])].concat())?;
    client.ledger().count("commands", 5);
    let (watched, read) = (client.reply()?, client.reply()?);
    for reply in [&watched, &read] {
        if let Reply::Error(error) = reply {
            client.error(error);
            client.forget();
            return Some(false);
        }
    }
    let Some(seen) = seen(&read) else {
        client.broken(Rule::Swapped, &format!("{} for {key}", read.shown()));
        return Some(false);
    };
    // In this order: a step goes from the one to the other.
    let in_doubt = count.in_doubt.load(Ordering::SeqCst);
    let ceiling = count.acknowledged.load(Ordering::SeqCst) + in_doubt;
    if seen < floor || seen > ceiling {
        client.broken(Rule::Lost, &format!("{key} was counted {floor} to {ceiling} times and shows {seen}"));
    }
    // Until it is known, it is in doubt.
    grow(&count.in_doubt);
    let next = (seen + 1).to_string();
    let rows: [&[&str]; 4] = [&["MULTI"], &["SET", &key, &next], &["GET", &key], &["EXEC"]];
    client.send(&rows.iter().flat_map(|words| encoded(words)).collect::<Vec<_>>())?;
    let mut refused = false;
    for expect in ["OK", "QUEUED", "QUEUED"] {
        match client.reply()? {
            Reply::Error(error) => {
                client.error(&error);
                refused = true;
            }
            reply if reply.is(expect) => {}
            reply => client.broken(Rule::Swapped, &format!("{} in place of {expect}", reply.shown())),
        }
    }
    match client.reply()? {
        Reply::Error(error) => {
            if client.error(&error) == Said::NotRun {
                count.in_doubt.fetch_sub(1, Ordering::SeqCst);
            }
            client.forget();
            Some(false)
        }
        // Somebody else was quicker.
        Reply::Nil => {
            count.in_doubt.fetch_sub(1, Ordering::SeqCst);
            client.ledger().count("transactions that others were quicker than", 1);
            Some(!refused)
        }
        Reply::Array(parts)
            if parts.len() == 2 && parts[0].is("OK") && parts[1].text() == Some(next.as_bytes()) && !refused =>
        {
            // First the one and then the other: who adds them up sees no less than there is.
            grow(&count.acknowledged);
            count.in_doubt.fetch_sub(1, Ordering::SeqCst);
            client.ledger().count("transactions", 1);
            Some(true)
        }
        reply => {
            client.broken(Rule::Swapped, &format!("{} in place of EXEC's reply about {key}", reply.shown()));
            Some(false)
        }
    }
}

/// The number that a reply shows.
pub fn seen(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Nil => Some(0),
        reply => text_of(reply.text()?).parse().ok(),
    }
}
