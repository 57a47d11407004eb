//! The standard market-hours policy: when the markets of `bellwether-calendar` trade.
//!
//! A shell: the facts and the arithmetic are the calendar crate's, the exports are the SDK's, and what is here turns
//! the types of the one into those of the other. It has no settings yet.

use bellwether_calendar::Calendars;
use bellwether_sdk::{
    Description, Instant, Market, MarketError, MarketHoursPolicy, MarketSession, Phase, Transition, settings::Table,
};

/// The configured policy: the calendars it answers from.
pub struct MarketHours {
    calendars: Calendars<'static>,
}

bellwether_sdk::market_hours_policy!(MarketHours);

impl MarketHoursPolicy for MarketHours {
    fn configure(settings: &str) -> Result<Self, String> {
        Table::parse(settings)?.finish()?;
        let calendars = Calendars::embedded().map_err(|error| error.to_string())?;
        Ok(MarketHours { calendars })
    }

    fn describe(&self) -> Description {
        let version = format!("{}+{}", env!("CARGO_PKG_VERSION"), self.calendars.data_version());
        Description::new("market-hours", &version, "Sessions, breaks, holidays and half days of 71 calendars")
    }

    fn session_at(&self, market: &str, at: Instant, known_at: Option<Instant>) -> Result<MarketSession, MarketError> {
        let session = self.calendars.session_at(market, at, known_at).map_err(market_error)?;
        Ok(MarketSession {
            market: session.market.to_owned(),
            phase: phase(session.phase),
            since: session.since,
            until: session.until,
            next_open: session.next_open,
            next_regular_open: session.next_regular_open,
            previous_close: session.previous_close,
            horizon: session.horizon,
            projected: session.projected,
            data_version: session.data_version.to_owned(),
        })
    }

    fn transitions(&self, market: &str, start: Instant, count: u32) -> Result<Vec<Transition>, MarketError> {
        let transitions = self.calendars.transitions(market, start, count).map_err(market_error)?;
        Ok(transitions.into_iter().map(|change| Transition { at: change.at, phase: phase(change.phase) }).collect())
    }

    fn markets(&self) -> Vec<Market> {
        self.calendars.markets().into_iter().map(market).collect()
    }
}

fn phase(phase: bellwether_calendar::Phase) -> Phase {
    match phase {
        bellwether_calendar::Phase::Closed => Phase::Closed,
        bellwether_calendar::Phase::PreOpen => Phase::PreOpen,
        bellwether_calendar::Phase::Open => Phase::Open,
        bellwether_calendar::Phase::Break => Phase::Break,
        bellwether_calendar::Phase::ClosingAuction => Phase::ClosingAuction,
        bellwether_calendar::Phase::PostClose => Phase::PostClose,
        bellwether_calendar::Phase::Halted => Phase::Halted,
    }
}

fn market_error(error: bellwether_calendar::MarketError) -> MarketError {
    match error {
        bellwether_calendar::MarketError::UnknownMarket => MarketError::UnknownMarket,
        bellwether_calendar::MarketError::BeyondHorizon(bound) => MarketError::BeyondHorizon(bound),
    }
}

fn market(market: bellwether_calendar::Market<'_>) -> Market {
    Market {
        name: market.name.to_owned(),
        aliases: market.aliases.into_iter().map(str::to_owned).collect(),
        title: market.title.to_owned(),
        time_zone: market.time_zone.to_owned(),
        covered_from: market.covered_from,
        horizon: market.horizon,
        projected_from: market.projected_from,
    }
}
