//! How far the calendars of the markets in use reach, and what is to be said where that is not far.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Horizon, Market};
use crate::config::nearest;
use crate::namespace::RuleTable;

/// A market in use, and how far its calendar reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The market, as it is named.
    pub name: String,
    /// The rules that name it. None: only the symbol table does.
    pub rules: Vec<String>,
    /// What is known of it, or the nearest name that is known.
    pub market: Result<Market, Option<String>>,
}

/// Fewer days than this to the end of a calendar are worth a warning: time to notice, to get newer data and to try it.
pub const WARN_DAYS: i64 = 60;

const DAY_MS: i64 = 86_400_000;

// === impl Reach ===

impl Reach {
    /// The markets that rules name, in order of name, among those that a policy knows.
    pub fn of_rules(rules: &RuleTable, markets: &[Market]) -> Vec<Self> {
        Self::of(rules.markets_of_rules(), markets)
    }

    /// The markets that rules or the symbol table name, as [`Reach::of_rules`].
    pub fn of_all(rules: &RuleTable, markets: &[Market]) -> Vec<Self> {
        let mut names = rules.markets_of_rules();
        for market in rules.markets_of_symbols() {
            names.entry(market).or_default();
        }
        Self::of(names, markets)
    }

    fn of(names: BTreeMap<&str, Vec<&str>>, markets: &[Market]) -> Vec<Self> {
        let reach = |(name, rules): (&str, Vec<&str>)| Self {
            name: name.to_owned(),
            rules: rules.into_iter().map(ToOwned::to_owned).collect(),
            market: find(markets, name).cloned().ok_or_else(|| near(markets, name)),
        };
        names.into_iter().map(reach).collect()
    }

    /// Where the calendar ends. None: the market is not known.
    pub fn horizon(&self) -> Option<Horizon> {
        let market = self.market.as_ref().ok()?;
        Some(Horizon { market: self.name.as_str().into(), at: market.horizon })
    }

    /// What an operator has to be told at `now`, in a few words. None: the calendar reaches far enough.
    pub fn warning(&self, now: i64) -> Option<String> {
        let market = match &self.market {
            Ok(market) => market,
            Err(None) => return Some("no policy knows a market of this name".to_owned()),
            Err(Some(near)) => {
                return Some(format!("no policy knows a market of this name; did you mean {near}?"));
            }
        };
        let date = date(market, market.horizon);
        match days_left(market.horizon, now) {
            days if days >= WARN_DAYS => None,
            days if market.horizon > now => Some(format!("the calendar ends in {} ({date})", count_days(days))),
            _ => Some(format!("the calendar ended {} ago ({date})", count_days(days_left(now, market.horizon)))),
        }
    }
}

/// The market of a name or an alias.
pub fn find<'a>(markets: &'a [Market], name: &str) -> Option<&'a Market> {
    markets.iter().find(|market| market.name == name || market.aliases.iter().any(|alias| alias == name))
}

/// The known name that is nearest to one that is not known.
pub fn near(markets: &[Market], name: &str) -> Option<String> {
    let names = markets.iter().flat_map(|market| market.aliases.iter().chain([&market.name]));
    nearest(name, names.map(String::as_str)).map(ToOwned::to_owned)
}

/// Whole days until a calendar ends; negative once it has: -1 on its first day.
pub fn days_left(horizon: i64, now: i64) -> i64 {
    horizon.saturating_sub(now).div_euclid(DAY_MS)
}

/// The date of an instant by the market's own calendar.
pub fn date(market: &Market, at: i64) -> String {
    let zone = TimeZone::get(&market.time_zone).unwrap_or(TimeZone::UTC);
    Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |at| at.to_zoned(zone).date().to_string())
}

fn count_days(days: i64) -> String {
    if days == 1 { "1 day".to_owned() } else { format!("{days} days") }
}

#[cfg(test)]
mod tests {
    use super::{DAY_MS, Market, Reach};

    fn market() -> Market {
        Market {
            name: "XBOM".into(),
            aliases: vec!["BSE".into()],
            title: "BSE, Mumbai".into(),
            time_zone: "Asia/Kolkata".into(),
            covered_from: 0,
            // Midnight in Mumbai.
            horizon: 1_798_741_800_000,
            projected_from: 1_798_741_800_000,
        }
    }

    #[test]
    fn warnings() {
        let check = |name: &str, left_ms: i64, expect: Option<&str>| {
            let markets = [market()];
            let rules = [(name, vec!["rule"])].into();
            let reach = Reach::of(rules, &markets).remove(0);
            let warning = reach.warning(market().horizon - left_ms);
            assert_eq!(warning.as_deref(), expect, "{name} {left_ms} ms before its end");
        };
        check("XBOM", 60 * DAY_MS, None);
        check("BSE", 60 * DAY_MS - 1, Some("the calendar ends in 59 days (2027-01-01)"));
        check("XBOM", DAY_MS, Some("the calendar ends in 1 day (2027-01-01)"));
        check("XBOM", 1, Some("the calendar ends in 0 days (2027-01-01)"));
        check("XBOM", 0, Some("the calendar ended 0 days ago (2027-01-01)"));
        check("XBOM", -1, Some("the calendar ended 0 days ago (2027-01-01)"));
        check("XBOM", -DAY_MS, Some("the calendar ended 1 day ago (2027-01-01)"));
        check("XBOMB", 0, Some("no policy knows a market of this name; did you mean XBOM?"));
        check("NOWHERE", 0, Some("no policy knows a market of this name"));
    }
}
