//! The standard market-hours policy: when the markets of `bellwether-calendar` trade.
//!
//! A shell: the facts and the arithmetic are the calendar crate's, the exports are the SDK's, and what is here reads
//! the settings and turns the types of the one into those of the other.
//!
//! # Settings
//!
//! - `overrides`: a list of lines that win over the data, `XNSE closed 2026-12-03` or `XNSE open 2026-12-06
//!   11:45-12:40 # why`; [`Calendars::with_overrides`] says all of it. At most 256.
//! - `data`: other calendar data than what is built in, as the bytes of a `calendars.bin` in base64.
//! - `overlay`: `false` leaves out all that lies over the reference calendars. For comparing with them.

use bellwether_calendar::{CalendarData, Calendars, DataError};
use bellwether_sdk::{
    DataVersion, Description, Instant, Market, MarketError, MarketHoursPolicy, MarketNumber, MarketSession, Phase,
    Span, SpecialDay, Transition, settings::Table,
};

/// The configured policy: the calendars it answers from.
pub struct MarketHours {
    calendars: Calendars<'static>,
    version: DataVersion,
}

const OVERRIDES_MAX: usize = 256;
const OVERRIDE_BYTES_MAX: usize = 512;

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

bellwether_sdk::market_hours_policy!(MarketHours);

impl MarketHoursPolicy for MarketHours {
    fn configure(settings: &str) -> Result<Self, String> {
        let mut settings = Table::parse(settings)?;
        let overrides = settings.list("overrides", OVERRIDES_MAX, 1..=OVERRIDE_BYTES_MAX)?;
        let calendars = match settings.bytes("data")? {
            None => Calendars::embedded().map_err(|error| error.to_string())?,
            // Kept for as long as the instance is, which is configured once.
            Some(file) => {
                let refused = |error: DataError| settings.refuse("data", &format!("is refused: {error}"));
                Calendars::new(Box::leak(Box::new(CalendarData::read(&file).map_err(refused)?))).map_err(refused)?
            }
        };
        let calendars = if settings.flag("overlay")? == Some(false) { calendars.without_overlay() } else { calendars };
        settings.finish()?;
        let calendars = calendars.with_overrides(&overrides).map_err(|error| error.to_string())?;
        let version = data_version(calendars.data_version());
        Ok(MarketHours { calendars, version })
    }

    fn describe(&self) -> Description {
        let version = format!("{}+{}", env!("CARGO_PKG_VERSION"), self.calendars.data_version());
        Description::new(
            "market-hours",
            &version,
            "Sessions, breaks, holidays and half days of markets around the world",
        )
    }

    fn find(&self, name: &str) -> Option<MarketNumber> {
        self.calendars.find(name).map(|bellwether_calendar::MarketNumber(number)| number)
    }

    fn session_at(
        &self,
        market: MarketNumber,
        at: Instant,
        known_at: Option<Instant>,
    ) -> Result<MarketSession, MarketError> {
        let session = self.calendars.session_at(key(market), at, known_at).map_err(market_error)?;
        Ok(MarketSession {
            phase: phase(session.phase),
            since: session.since,
            until: session.until,
            next_open: session.next_open,
            next_regular_open: session.next_regular_open,
            previous_close: session.previous_close,
            horizon: session.horizon,
            projected: session.projected,
            data_version: self.version,
        })
    }

    fn transitions(&self, market: MarketNumber, start: Instant, count: u32) -> Result<Vec<Transition>, MarketError> {
        let transitions = self.calendars.transitions(key(market), start, count).map_err(market_error)?;
        Ok(transitions.into_iter().map(|change| Transition { at: change.at, phase: phase(change.phase) }).collect())
    }

    fn special_days(&self, market: MarketNumber, start: Instant, count: u32) -> Result<Vec<SpecialDay>, MarketError> {
        let days = self.calendars.special_days(key(market), start, count).map_err(market_error)?;
        Ok(days.into_iter().map(special_day).collect())
    }

    fn markets(&self) -> Vec<Market> {
        self.calendars.markets().into_iter().map(market).collect()
    }
}

/// The contract's numbers for `2026-11-23`, or for `2026-11-23.2+override.1f3c5a2b`.
fn data_version(text: &str) -> DataVersion {
    let mut bytes = text.bytes();
    let (mut date, mut number) = (0u32, 0u32);
    let mut part = &mut date;
    for byte in bytes.by_ref().take_while(|byte| *byte != b'+') {
        match byte {
            b'.' => part = &mut number,
            b'0'..=b'9' => *part = part.wrapping_mul(10).wrapping_add(u32::from(byte - b'0')),
            _ => {}
        }
    }
    let settings = bytes.fold(0u32, |digest, byte| digest.wrapping_mul(31).wrapping_add(u32::from(byte)));
    DataVersion { release: date.wrapping_mul(100).wrapping_add(number), settings }
}

fn key(number: MarketNumber) -> bellwether_calendar::MarketNumber {
    bellwether_calendar::MarketNumber(number)
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

fn special_day(day: bellwether_calendar::SpecialDay<'_>) -> SpecialDay {
    let span =
        |span: bellwether_calendar::Span| Span { phase: phase(span.phase), since: span.since, until: span.until };
    SpecialDay {
        date: day.date,
        spans: day.spans.into_iter().map(span).collect(),
        note: day.note.to_owned(),
        source: day.source.to_owned(),
        known_since: day.known_since,
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
