//! A ttl policy that misbehaves in the way the key asks for, so that one component serves every case of the tests and
//! its other keys are decided as usual. Settings make it misbehave while it is loaded.

use std::sync::atomic::{AtomicU64, Ordering};

use bellwether_sdk::settings::Table;
use bellwether_sdk::{Decision, Description, Expiry, Inputs, Request, TtlPolicy, log, market_hours};

/// The configured policy.
#[derive(Debug)]
pub struct Hostile {
    ttl_ms: u64,
    describe: String,
}

bellwether_sdk::ttl_policy!(Hostile);

/// One more than the longest `millis` in an answer, ten years.
const TOO_LONG_MS: u64 = 315_576_000_001;
/// What no policy should have: a memory of its calls.
static CALLS: AtomicU64 = AtomicU64::new(0);

impl TtlPolicy for Hostile {
    fn configure(settings: &str) -> Result<Self, String> {
        let mut table = Table::parse(settings)?;
        let ttl_ms = table.number("ttl_ms", 1..=86_400_000)?.unwrap_or(60_000);
        let configure = table.text("configure", 0..=64)?.unwrap_or_default();
        let describe = table.text("describe", 0..=64)?.unwrap_or_default();
        table.finish()?;
        match configure.as_str() {
            "loop" => endless(),
            "slow" => drop(count_to(20_000_000)),
            "trap" => std::process::abort(),
            "grow" => drop(bomb()),
            _ => {}
        }
        Ok(Self { ttl_ms, describe })
    }

    fn describe(&self) -> Description {
        match self.describe.as_str() {
            "loop" => endless(),
            "huge" => Description::new(&"n".repeat(10_000), &"v".repeat(10_000), &"s\n".repeat(10_000)),
            _ => Description::new("hostile", "1", "misbehaves as the key says"),
        }
        .reads(Inputs::KEY)
    }

    fn decide(&self, request: &Request) -> Result<Decision, String> {
        let way = request.key.split(':').nth(1).unwrap_or_default();
        let after = |ms| Decision::after(ms, "as asked");
        Ok(match way {
            "loop" => endless(),
            "grow" => after(bomb()),
            "recurse" => after(deeper(1)),
            "unreachable" => std::process::abort(),
            "index" => after(u64::from(request.key.as_bytes()[usize::MAX])),
            "error" => return Err("no answer".to_owned()),
            "huge-error" => return Err("e".repeat(200_000)),
            "huge-reason" => Decision::after(self.ttl_ms, "r\n".repeat(50_000)),
            "bomb-reason" => Decision::after(self.ttl_ms, "r".repeat(1_000_000)),
            "huge-line" => self.logged("l\n".repeat(50_000).as_str(), 1),
            "lines" => self.logged("one line of many", 20),
            "line-flood" => self.logged("one line of too many", 10_000),
            "lines-and-trap" => {
                drop(self.logged("one line before the trap", 60));
                std::process::abort()
            }
            "market-flood" => self.asked(10_000),
            // With the one that finds the market's number, all the calls there are.
            "markets" => self.asked(63),
            "markets-more" => self.asked(65),
            // The market that the key names, of a market-hours policy that is hostile itself.
            "ask" => {
                let market = request.key.split(':').nth(2).unwrap_or_default();
                after(self.ttl_ms + u64::from(market_hours::session_at(market, request.now, None).is_err()))
            }
            "counts" => after(CALLS.fetch_add(1, Ordering::Relaxed) + 1),
            "zero" => after(0),
            "ten-years" => after(TOO_LONG_MS),
            "negative" => Decision::at(-1, "as asked"),
            "year-10000" => Decision::at(i64::MAX, "as asked"),
            "spread" => after(self.ttl_ms).spread(TOO_LONG_MS),
            "valid-negative" => after(self.ttl_ms).valid_until(-1),
            "valid-max" => after(self.ttl_ms).valid_until(i64::MAX),
            "valid-past" => after(self.ttl_ms).valid_until(1),
            _ => Decision { expiry: Expiry::After(self.ttl_ms), ..after(1) },
        })
    }
}

impl Hostile {
    fn logged(&self, line: &str, times: usize) -> Decision {
        (0..times).for_each(|_| log::warn(line));
        Decision::after(self.ttl_ms, "as asked")
    }

    fn asked(&self, times: usize) -> Decision {
        let known = (0..times).filter(|_| market_hours::session_at("XBOM", 0, None).is_ok());
        Decision::after(self.ttl_ms + known.count() as u64, "as asked")
    }
}

fn endless<T>() -> T {
    loop {
        core::hint::black_box(());
    }
}

fn count_to(end: u64) -> u64 {
    (0..end).fold(0, |sum, number| core::hint::black_box(sum ^ number))
}

/// Takes memory until there is none.
fn bomb() -> u64 {
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
