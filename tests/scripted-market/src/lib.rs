//! A market-hours policy whose sessions are its settings, so that a test says when a market trades and changes it:
//! `[settings.markets.XHKG]` is one, and may have an `alias`; `[settings.markets.XHKG.sessions.NAME]` with `open` and
//! `close` is one of its sessions, which do not overlap.

use bellwether_sdk::settings::Table;
use bellwether_sdk::{
    DataVersion, Description, Instant, Market, MarketError, MarketHoursPolicy, MarketNumber, MarketSession, Phase,
    Transition,
};

/// The configured policy: its markets in order of name.
#[derive(Debug)]
pub struct Markets(Vec<Known>);

#[derive(Debug)]
struct Known {
    name: String,
    alias: String,
    /// Every change of phase in order: openings and closes, in turn.
    changes: Vec<(Instant, Phase)>,
}

bellwether_sdk::market_hours_policy!(Markets);

/// The first instant of the year 2100, where the data ends.
const HORIZON: Instant = 4_102_444_800_000;

impl MarketHoursPolicy for Markets {
    fn configure(settings: &str) -> Result<Self, String> {
        let mut table = Table::parse(settings)?;
        let mut markets = Vec::new();
        for (name, mut fields) in table.tables("markets")? {
            let mut changes = Vec::new();
            for (_, mut session) in fields.tables("sessions")? {
                for (at, phase) in [("open", Phase::Open), ("close", Phase::Closed)] {
                    changes.push((session.instant(at)?.ok_or_else(|| session.refuse(at, "is needed"))?, phase));
                }
                session.finish()?;
            }
            changes.sort_by_key(|(at, _)| *at);
            let alias = fields.text("alias", 0..=64)?.unwrap_or_default();
            fields.finish()?;
            markets.push(Known { name, alias, changes });
        }
        table.finish()?;
        markets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self(markets))
    }

    fn describe(&self) -> Description {
        Description::new("market", "1", "sessions as its settings say")
    }

    fn find(&self, name: &str) -> Option<MarketNumber> {
        let is = |known: &Known| known.name == name || (!known.alias.is_empty() && known.alias == name);
        u32::try_from(self.0.iter().position(is)?).ok()
    }

    fn session_at(
        &self,
        market: MarketNumber,
        at: Instant,
        _known_at: Option<Instant>,
    ) -> Result<MarketSession, MarketError> {
        let known = self.known(market)?;
        let next = known.changes.partition_point(|(change, _)| *change <= at);
        let (before, after) = known.changes.split_at(next);
        let last = |phase: Phase| before.iter().rev().find(|(_, of)| *of == phase).map(|(at, _)| *at);
        let opening = after.iter().find(|(_, phase)| *phase == Phase::Open).map(|(at, _)| *at);
        let (since, phase) = before.last().copied().unwrap_or((0, Phase::Closed));
        Ok(MarketSession {
            phase,
            since,
            until: after.first().map_or(HORIZON, |(at, _)| *at),
            next_open: opening,
            next_regular_open: opening,
            previous_close: last(Phase::Closed),
            horizon: HORIZON,
            projected: false,
            data_version: DataVersion { release: 0, settings: 0 },
        })
    }

    fn transitions(&self, market: MarketNumber, start: Instant, count: u32) -> Result<Vec<Transition>, MarketError> {
        let changes = self.known(market)?.changes.iter().filter(|(at, _)| *at > start);
        Ok(changes.take(count.min(1000) as usize).map(|(at, phase)| Transition { at: *at, phase: *phase }).collect())
    }

    fn markets(&self) -> Vec<Market> {
        let market = |known: &Known| Market {
            name: known.name.clone(),
            aliases: Some(known.alias.clone()).filter(|alias| !alias.is_empty()).into_iter().collect(),
            title: known.name.clone(),
            time_zone: "Asia/Hong_Kong".to_owned(),
            covered_from: 0,
            horizon: HORIZON,
            projected_from: HORIZON,
        };
        self.0.iter().map(market).collect()
    }
}

impl Markets {
    fn known(&self, market: MarketNumber) -> Result<&Known, MarketError> {
        self.0.get(market as usize).ok_or(MarketError::UnknownMarket)
    }
}
