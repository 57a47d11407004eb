//! Which markets' sessions are other in one policy set than in another.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::{Decider, Market, MarketError, Phase};

/// What of a market's sessions lifetimes may rest on: the session at one instant, and the next changes of phase.
type Sessions = Result<(Session, Vec<(i64, Phase)>), MarketError>;

/// A session, without what says where the data came from.
type Session = (Phase, [Option<i64>; 5]);

/// How far ahead sessions are compared: further than a lifetime reaches that ends at an opening, since that instant
/// itself is compared wherever it stands.
const AHEAD_MS: i64 = 10 * 24 * 60 * 60 * 1000;
/// More than any market has in that time.
const TRANSITIONS_MAX: u32 = 200;

/// The markets whose sessions from `at` on differ, each with all the names that it has in either set.
///
/// # Errors
/// A market-hours policy failed.
pub(super) fn changed(
    new: &mut Decider,
    old: &mut Decider,
    at: i64,
) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut names = BTreeMap::<String, BTreeSet<String>>::new();
    for market in markets(new)?.into_iter().chain(markets(old)?) {
        let known = names.entry(market.name.clone()).or_default();
        known.extend(market.aliases);
        known.insert(market.name);
    }
    let mut changed = BTreeMap::new();
    for (market, names) in names {
        if sessions(new, &market, at)? != sessions(old, &market, at)? {
            changed.insert(market, names);
        }
    }
    Ok(changed)
}

/// The markets of a set; none where it has no policy that knows any.
fn markets(decider: &mut Decider) -> anyhow::Result<Vec<Market>> {
    if decider.set().market_policy().is_some() { decider.markets() } else { Ok(Vec::new()) }
}

fn sessions(decider: &mut Decider, market: &str, at: i64) -> anyhow::Result<Sessions> {
    if decider.set().market_policy().is_none() {
        return Ok(Err(MarketError::UnknownMarket));
    }
    let session = match decider.session(market, at)? {
        Err(error) => return Ok(Err(error)),
        Ok(session) => session,
    };
    let instants = [
        Some(session.since),
        Some(session.until),
        session.next_open,
        session.next_regular_open,
        session.previous_close,
    ];
    let next = decider.transitions(market, at, TRANSITIONS_MAX)?.unwrap_or_default();
    let near = next.into_iter().take_while(|change| change.at <= at.saturating_add(AHEAD_MS));
    Ok(Ok(((session.phase, instants), near.map(|change| (change.at, change.phase)).collect())))
}
