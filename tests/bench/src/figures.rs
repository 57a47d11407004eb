//! What was measured, as JSON. Latencies are kept in nanoseconds to three digits (a histogram of high dynamic range)
//! and printed in microseconds.

use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::cpu::Cpu;

/// Latencies of the requests that are counted.
pub(crate) struct Latencies(Histogram<u64>);

/// What a run came to.
pub(crate) struct Figures {
    pub(crate) latencies: Latencies,
    /// From the first request that was counted to the end.
    pub(crate) span: Duration,
    pub(crate) cpu: Cpu,
    /// How late requests of an open loop went out.
    pub(crate) lateness: Option<Latencies>,
}

const LATENCY_NS_MAX: u64 = 100_000_000_000;
const PERCENTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

// === impl Latencies ===

impl Latencies {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).context("no histogram")?))
    }

    /// So many requests that took this long.
    pub(crate) fn add(&mut self, latency: Duration, requests: usize) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record_n(nanoseconds.max(1), requests as u64);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    fn microseconds(&self) -> Map<String, Value> {
        let of = |quantile: f64| json!(self.0.value_at_quantile(quantile) as f64 / 1e3);
        let mut all: Map<_, _> = PERCENTILES.iter().map(|(name, at)| ((*name).to_owned(), of(*at))).collect();
        all.insert("mean".to_owned(), json!(self.0.mean() / 1e3));
        all
    }
}

// === impl Figures ===

impl Figures {
    pub(crate) fn json(&self) -> Value {
        let requests = self.latencies.count();
        let seconds = self.span.as_secs_f64();
        json!({
            "requests": requests,
            "seconds": seconds,
            "requests_per_second": requests as f64 / seconds,
            "latency_us": self.latencies.microseconds(),
            "lateness_us": self.lateness.as_ref().map(Latencies::microseconds),
            "cpu_seconds": self.cpu.json(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let check = |microseconds: &mut dyn Iterator<Item = u64>, expect: [f64; 6]| {
            let mut latencies = Latencies::new().unwrap();
            microseconds.for_each(|latency| latencies.add(Duration::from_micros(latency), 1));
            let told = latencies.microseconds();
            for (name, expect) in ["p50", "p90", "p99", "p99.9", "max", "mean"].iter().zip(expect) {
                let value = told.get(*name).and_then(Value::as_f64).unwrap();
                assert!((value / expect - 1.0).abs() < 0.001, "{name} is {value}, and {expect} is right");
            }
        };
        check(&mut (1..=100_000), [50_000.0, 90_000.0, 99_000.0, 99_900.0, 100_000.0, 50_000.5]);
        check(&mut std::iter::repeat_n(70, 10), [70.0; 6]);
        // One of a hundred is slow: the 99th percentile does not know it, and the next one does.
        let one_slow = &mut std::iter::repeat_n(100, 9_900).chain(std::iter::repeat_n(1_000_000, 100));
        check(one_slow, [100.0, 100.0, 100.0, 1_000_000.0, 1_000_000.0, 10_099.0]);
    }
}
