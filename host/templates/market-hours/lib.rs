//! A market-hours policy: when does a market trade? One market, with the same hours every weekday, in UTC.

use bellwether_sdk::settings::Table;
use bellwether_sdk::{
    DataVersion, Description, Instant, Market, MarketError, MarketHoursPolicy, MarketNumber, MarketSession, Phase,
    Transition,
};

/// The policy as its settings made it.
pub struct Policy {
    open_minute: Instant,
    close_minute: Instant,
}

const NAME: &str = "DESK";
const MINUTE_MS: Instant = 60_000;
const DAY_MS: Instant = 86_400_000;
/// The first instant of the year 2100: past it nothing is known, which is never to be read as "open".
const HORIZON: Instant = 4_102_444_800_000;

impl MarketHoursPolicy for Policy {
    /// Takes the settings, a JSON object. An error refuses the load and tells the operator why.
    fn configure(settings: &str) -> Result<Self, String> {
        let mut table = Table::parse(settings)?;
        let open_minute = table.number("open_minute", 0..=1438)?.unwrap_or(9 * 60);
        let close_minute = table.number("close_minute", 1..=1439)?.unwrap_or(17 * 60);
        if close_minute <= open_minute {
            return Err(table.refuse("close_minute", "is after open_minute"));
        }
        // Whatever is left is a setting that this policy does not know.
        table.finish()?;
        Ok(Self { open_minute: open_minute as Instant, close_minute: close_minute as Instant })
    }

    fn describe(&self) -> Description {
        Description::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), "The same hours every weekday")
    }

    fn find(&self, name: &str) -> Option<MarketNumber> {
        (name == NAME).then_some(0)
    }

    fn session_at(
        &self,
        market: MarketNumber,
        at: Instant,
        _known_at: Option<Instant>,
    ) -> Result<MarketSession, MarketError> {
        let changes = self.changes(market, at)?;
        let (before, after) = changes.split_at(changes.partition_point(|change| change.at <= at));
        let last_close = before.iter().rev().find(|change| change.phase == Phase::Closed);
        let next_open = after.iter().find(|change| change.phase == Phase::Open).map(|change| change.at);
        Ok(MarketSession {
            phase: before.last().map_or(Phase::Closed, |change| change.phase),
            since: before.last().map_or(0, |change| change.at),
            until: after.first().map_or(HORIZON, |change| change.at),
            next_open,
            next_regular_open: next_open,
            previous_close: last_close.map(|change| change.at),
            horizon: HORIZON,
            projected: false,
            data_version: DataVersion { release: 0, settings: 0 },
        })
    }

    fn transitions(&self, market: MarketNumber, start: Instant, count: u32) -> Result<Vec<Transition>, MarketError> {
        let mut transitions: Vec<Transition> = Vec::new();
        let mut from = start;
        // Each week adds some, until there are enough or the data ends.
        while transitions.len() < count.min(1000) as usize && from < HORIZON {
            let more = self.changes(market, from)?;
            transitions.extend(more.into_iter().filter(|change| change.at > from && change.at <= from + 7 * DAY_MS));
            from += 7 * DAY_MS;
        }
        transitions.truncate(count.min(1000) as usize);
        Ok(transitions)
    }

    fn markets(&self) -> Vec<Market> {
        vec![Market {
            name: NAME.to_owned(),
            aliases: Vec::new(),
            title: "Our own desk".to_owned(),
            time_zone: "UTC".to_owned(),
            covered_from: 0,
            horizon: HORIZON,
            projected_from: HORIZON,
        }]
    }
}

impl Policy {
    /// The openings and closes from a week before an instant to a week after it, within the data.
    fn changes(&self, market: MarketNumber, at: Instant) -> Result<Vec<Transition>, MarketError> {
        if market != 0 {
            return Err(MarketError::UnknownMarket);
        }
        if !(0..HORIZON).contains(&at) {
            return Err(MarketError::BeyondHorizon(if at < 0 { 0 } else { HORIZON }));
        }
        let today = at.div_euclid(DAY_MS);
        // 1970-01-01, day 0, was a Thursday; with Monday as 0 it is 3.
        let weekdays = (today - 7..=today + 8).filter(|day| (day + 3).rem_euclid(7) < 5);
        let changes = weekdays.flat_map(|day| {
            [(self.open_minute, Phase::Open), (self.close_minute, Phase::Closed)]
                .map(|(minute, phase)| Transition { at: day * DAY_MS + minute * MINUTE_MS, phase })
        });
        Ok(changes.filter(|change| (0..HORIZON).contains(&change.at)).collect())
    }
}

bellwether_sdk::market_hours_policy!(Policy);

#[cfg(test)]
mod tests {
    use bellwether_sdk::{MarketHoursPolicy, Phase, testing};

    use super::Policy;

    #[test]
    fn a_week_has_ten_changes() {
        let policy = Policy::configure("{}").unwrap();
        let monday = testing::instant("2026-11-23T00:00:00Z");
        let week = policy.transitions(0, monday, 10).unwrap();
        assert_eq!(week.iter().filter(|change| change.phase == Phase::Open).count(), 5);
        assert_eq!(week.last().unwrap().at, testing::instant("2026-11-27T17:00:00Z"));
    }
}
