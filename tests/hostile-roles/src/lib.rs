//! A policy of all roles that misbehaves: as market hours in the way the market's name asks for, where `well` is a
//! market that always trades; as namespaces, and as it starts, in the way its settings ask for.

use bellwether_sdk::settings::Table;
use bellwether_sdk::{
    DataVersion, Decision, Description, Instant, Market, MarketError, MarketHoursPolicy, MarketNumber, MarketSession,
    Millis, NamespacesPolicy, Phase, Request, Rule, SpecialDay, SymbolMatch, SymbolRule, Transition, TtlPolicy, log,
};

/// The configured policy.
#[derive(Debug)]
pub struct Hostile {
    rules: String,
    symbols: String,
}

bellwether_sdk::full_policy!(Hostile);

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

impl TtlPolicy for Hostile {
    fn configure(settings: &str) -> Result<Self, String> {
        let mut table = Table::parse(settings)?;
        let mut text = |name: &str| Ok::<_, String>(table.text(name, 0..=64)?.unwrap_or_default());
        let (start, rules, symbols) = (text("start")?, text("rules")?, text("symbols")?);
        table.finish()?;
        if start == "slow" {
            let _ = (0..5_000_000_u64).fold(0, |sum, number| core::hint::black_box(sum ^ number));
        }
        Ok(Self { rules, symbols })
    }

    fn describe(&self) -> Description {
        Description::new("hostile-roles", "1", "misbehaves as its settings and markets say")
    }

    fn decide(&self, _request: &Request) -> Result<Decision, String> {
        std::process::abort()
    }
}

impl NamespacesPolicy for Hostile {
    fn configure(settings: &str) -> Result<Self, String> {
        <Self as TtlPolicy>::configure(settings)
    }

    fn describe(&self) -> Description {
        TtlPolicy::describe(self)
    }

    fn rules(&self) -> Result<Vec<Rule>, String> {
        let many = |count: usize, bytes: usize| {
            let rule = |number| Rule::new(&format!("r{number}"), &format!("{}{number}:", "p".repeat(bytes)));
            Ok((0..count).map(rule).collect())
        };
        match self.rules.as_str() {
            "loop" => endless(),
            "trap" => std::process::abort(),
            "grow" => bomb(),
            "error" => Err("e\n".repeat(50_000)),
            "many" => many(10_001, 1),
            "giant" => many(1_000, 100_000),
            "long" => many(1, 513),
            "longest" => many(1, 3_000_000),
            "same" => Ok(vec![Rule::new("same", "a:"), Rule::new("same", "b:")]),
            "nameless" => Ok(vec![Rule::new("", "")]),
            _ => Ok(Vec::new()),
        }
    }

    fn symbols(&self) -> Result<Vec<SymbolRule>, String> {
        let line = |number: usize| SymbolRule {
            match_by: SymbolMatch::Suffix,
            text: format!(".{number}"),
            market: "well".to_owned(),
        };
        match self.symbols.as_str() {
            "loop" => endless(),
            "many" => Ok((0..10_001).map(line).collect()),
            "same" => Ok(vec![line(1), line(1)]),
            _ => Ok(Vec::new()),
        }
    }
}

impl MarketHoursPolicy for Hostile {
    fn configure(settings: &str) -> Result<Self, String> {
        <Self as TtlPolicy>::configure(settings)
    }

    fn describe(&self) -> Description {
        TtlPolicy::describe(self)
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
