//! Which markets' sessions are other in one policy set than in another.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::{Decider, Market, MarketError, Phase};

/// What of a market's sessions lifetimes may rest on: the session at one instant, and the next changes of phase.
pub(super) type Sessions = Result<(Session, Vec<(i64, Phase)>), MarketError>;

/// A session, without what says where the data came from.
pub(super) type Session = (Phase, [Option<i64>; 5]);

/// Markets by name: all the names they go by, and their sessions.
pub(super) type Markets = BTreeMap<String, (BTreeSet<String>, Sessions)>;

/// How far ahead sessions are compared: further than a lifetime reaches that ends at an opening, since that instant
/// itself is compared wherever it stands.
const AHEAD_MS: i64 = 10 * 24 * 60 * 60 * 1000;
/// More than any market has in that time.
const TRANSITIONS_MAX: u32 = 200;

/// Every market of a set: all its names, and its sessions from `at` on. None where no policy knows any.
///
/// # Errors
/// The market-hours policy failed.
pub(super) fn known(decider: &mut Decider, at: i64) -> anyhow::Result<Markets> {
    let mut known = Markets::new();
    if decider.set().market_policy().is_none() {
        return Ok(known);
    }
    for Market { name, aliases, .. } in decider.markets()? {
        let sessions = sessions(decider, &name, at)?;
        known.insert(name.clone(), (aliases.into_iter().chain([name]).collect(), sessions));
    }
    Ok(known)
}

/// The markets whose sessions differ, and those that only one of the two has, each with all its names in either.
pub(super) fn changed(new: &Markets, old: &Markets) -> BTreeMap<String, BTreeSet<String>> {
    let sessions = |markets: &Markets, market: &str| markets.get(market).map(|(_, sessions)| sessions.clone());
    let mut changed = BTreeMap::<String, BTreeSet<String>>::new();
    for (market, (names, _)) in new.iter().chain(old) {
        if sessions(new, market) != sessions(old, market) {
            changed.entry(market.clone()).or_default().extend(names.iter().cloned());
        }
    }
    changed
}

fn sessions(decider: &mut Decider, market: &str, at: i64) -> anyhow::Result<Sessions> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Markets, Sessions, changed};
    use crate::policy::{MarketError, Phase};

    fn markets(list: &[(&str, &[&str], i64)]) -> Markets {
        let sessions = |until: i64| -> Sessions {
            if until < 0 {
                return Err(MarketError::BeyondHorizon(until));
            }
            Ok(((Phase::Closed, [None, Some(until), None, None, None]), vec![(until, Phase::Open)]))
        };
        let names = |name: &&str, aliases: &&[&str]| aliases.iter().chain([name]).map(ToString::to_string).collect();
        list.iter().map(|(name, aliases, until)| (name.to_string(), (names(name, aliases), sessions(*until)))).collect()
    }

    #[test]
    fn changes() {
        let check = |new: &[(&str, &[&str], i64)], old: &[(&str, &[&str], i64)], expect: &str| {
            let shown = |new, old| {
                let changed = changed(&markets(new), &markets(old)).into_iter();
                let line = |(name, names): (String, BTreeSet<String>)| {
                    format!("{name}: {}", names.into_iter().collect::<Vec<_>>().join(" "))
                };
                changed.map(line).collect::<Vec<_>>().join(", ")
            };
            assert_eq!(shown(new, old), expect);
            assert_eq!(shown(old, new), expect);
        };
        check(&[], &[], "");
        check(&[("A", &[], 1)], &[("A", &[], 1)], "");
        check(&[("A", &[], 1)], &[("A", &["X"], 1)], "");
        check(&[("A", &[], 1), ("B", &[], 1)], &[("A", &[], 2), ("B", &[], 1)], "A: A");
        check(&[("A", &["X"], 1)], &[("A", &["Y"], 2)], "A: A X Y");
        check(&[("A", &["X"], 1)], &[], "A: A X");
        check(&[("A", &[], 1)], &[("A", &[], -1)], "A: A");
        check(&[("A", &[], -1), ("B", &[], 1)], &[("A", &[], -2), ("C", &[], 1)], "A: A, B: B, C: C");
        check(&[("A", &[], -1)], &[("A", &[], -1)], "");
    }
}
