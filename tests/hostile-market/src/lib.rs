//! A market-hours policy that misbehaves in the way the market's name asks for: `well` and everything else that it does
//! not know is a market that always trades.

use bellwether_sdk::settings::Table;
use bellwether_sdk::{
    DataVersion, Description, Instant, Market, MarketError, MarketHoursPolicy, MarketNumber, MarketSession, Millis,
    Phase, SpecialDay, Transition, log,
};

/// The configured policy, of which there is nothing to say.
#[derive(Debug)]
pub struct Hostile;

bellwether_sdk::market_hours_policy!(Hostile);

/// The ways, and their markets' numbers.
const WAYS: [&str; 14] = [
    "well",
    "find-loop",
    "find-trap",
    "find-any",
    "loop",
    "trap",
    "grow",
    "recurse",
    "line-flood",
    "other-time",
    "backwards",
    "zero",
    "negative",
    "beyond",
];
/// The first instant of the year 2100, where the data ends.
const HORIZON: Instant = 4_102_444_800_000;
const HOUR_MS: Millis = 3_600_000;

impl MarketHoursPolicy for Hostile {
    fn configure(settings: &str) -> Result<Self, String> {
        Table::parse(settings)?.finish()?;
        Ok(Self)
    }

    fn describe(&self) -> Description {
        Description::new("market-hours", "1", "misbehaves as the market says")
    }

    fn find(&self, name: &str) -> Option<MarketNumber> {
        match name {
            "find-loop" => endless(),
            "find-trap" => std::process::abort(),
            "find-any" => Some(u32::MAX),
            name => u32::try_from(WAYS.iter().position(|way| *way == name)?).ok(),
        }
    }

    fn session_at(
        &self,
        market: MarketNumber,
        at: Instant,
        _known_at: Option<Instant>,
    ) -> Result<MarketSession, MarketError> {
        let hour = HOUR_MS as Instant;
        let (since, until) = match WAYS.get(market as usize).copied().unwrap_or("find-any") {
            "loop" => endless(),
            "trap" | "find-any" => std::process::abort(),
            "grow" => bomb(),
            "recurse" => (at - deeper(1) as Instant, at + hour),
            "line-flood" => {
                (0..10_000).for_each(|_| log::warn("one line of too many"));
                (at, at + hour)
            }
            "other-time" => (at + hour, at + 2 * hour),
            "backwards" => (at + hour, at - hour),
            "zero" => (at, at),
            "negative" => (Instant::MIN, Instant::MAX),
            "beyond" => return Err(MarketError::BeyondHorizon(Instant::MIN)),
            _ => (at - hour, at + hour),
        };
        Ok(MarketSession {
            phase: Phase::Open,
            since,
            until,
            next_open: Some(until),
            next_regular_open: Some(until),
            previous_close: None,
            horizon: HORIZON,
            projected: false,
            data_version: DataVersion { release: 0, settings: 0 },
        })
    }

    fn transitions(&self, market: MarketNumber, start: Instant, count: u32) -> Result<Vec<Transition>, MarketError> {
        // More than were asked for, and more than a call may hand over.
        let _ = (market, count);
        Ok((0..1_000_000).map(|number| Transition { at: start + number, phase: Phase::Open }).collect())
    }

    fn special_days(&self, _market: MarketNumber, _from: Instant, _n: u32) -> Result<Vec<SpecialDay>, MarketError> {
        endless()
    }

    fn markets(&self) -> Vec<Market> {
        let market = |name: &&str| Market {
            name: (*name).to_owned(),
            aliases: Vec::new(),
            title: (*name).to_owned(),
            time_zone: "UTC".to_owned(),
            covered_from: 0,
            horizon: HORIZON,
            projected_from: HORIZON,
        };
        WAYS.iter().map(market).collect()
    }
}

fn endless<T>() -> T {
    loop {
        core::hint::black_box(());
    }
}

/// Takes memory until there is none.
fn bomb<T>() -> T {
    let mut taken = Vec::new();
    loop {
        taken.push(core::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

#[expect(unconditional_recursion, reason = "that is what it is for")]
fn deeper(depth: u64) -> u64 {
    let frame = core::hint::black_box([depth; 64]);
    core::hint::black_box(deeper(depth + 1)) + frame[0]
}
