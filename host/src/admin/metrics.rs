//! The counters as OpenMetrics text, by the `prometheus-client` crate.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::Status;
use crate::command::Kind;
use crate::metrics::{CALL_NS, Retimed, RuleCounters, WarmAsked};
use crate::namespace::{MarketSource, Rule};
use crate::policy::reach::days_left;
use crate::policy::{Policy, PolicySet};

/// The content type of [`text`].
pub(super) const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The type of exemplars, of which there are none.
type NoLabels = Vec<(String, String)>;

/// The counters at one moment.
#[derive(Debug)]
struct Snapshot {
    counters: Vec<(&'static str, &'static str, u64)>,
    gauges: Vec<(&'static str, &'static str, i64)>,
    upstream: String,
    commands: Vec<(&'static str, u64)>,
    decisions: Vec<(String, &'static str, u64)>,
    near: Vec<(String, &'static str, u64)>,
    warm: Vec<(String, &'static str, u64)>,
    warm_asked: Vec<(&'static str, u64)>,
    leased: Vec<(String, &'static str, u64)>,
    retimed: Vec<(&'static str, u64)>,
    unknown_symbols: Vec<(String, u64)>,
    market_horizon_days: Vec<(String, i64)>,
    /// By policy: instances lost, times that a breaker opened, workers with which it is open.
    conditions: Vec<(String, [u64; 3])>,
    call_buckets: Vec<(f64, u64)>,
    call_seconds: f64,
}

/// Writes all counters.
pub(super) fn text(status: &Status) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("bellwether");
    registry.register_collector(Box::new(Snapshot::take(status)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// What has been counted, without labels.
fn counters(status: &Status, set: &PolicySet) -> Vec<(&'static str, &'static str, u64)> {
    let metrics = &status.metrics;
    vec![
        ("clients_accepted", "Client connections accepted", metrics.clients_accepted.get()),
        ("clients_refused", "Client connections refused for clients_max", metrics.clients_refused.get()),
        ("upstream_losses", "Connections to the server that ended", status.upstream.losses() as u64),
        ("components_compiled", "Components that were compiled", set.compiled().now()),
        ("components_found", "Components whose compiled code was on disk", set.compiled().found()),
        ("generations", "Policy sets put in force", metrics.generations.get()),
        ("generations_refused", "Policy sets refused", metrics.generations_refused.get()),
        ("records", "Decisions that were recorded for those who listen", status.records.made()),
        ("records_dropped", "Records that a listener had no room for", status.records.dropped()),
        ("retime_sweeps", "Walks over the keys after a market's sessions changed", metrics.retime_sweeps.get()),
        ("warm_runs", "Times that values were read into memory before clients asked", metrics.warm_runs.get()),
    ]
}

/// How the policies in force have been doing.
fn conditions(set: &PolicySet) -> Vec<(String, [u64; 3])> {
    let of = |policy: &Arc<Policy>| {
        let condition = &policy.condition;
        (policy.name.clone(), [condition.traps(), condition.opened(), condition.open()])
    };
    set.policies.iter().map(of).collect()
}

// === impl Snapshot ===

impl Snapshot {
    fn take(status: &Status) -> Self {
        let metrics = &status.metrics;
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let set = Arc::clone(&status.current.borrow());
        let generation = set.generation;
        let now = status.clock.now();
        let by_symbol = names(&set, |rule| matches!(rule.market, MarketSource::Symbol { .. }));
        let refused = status.last_refusal.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        // Every rule in force has its counters from the start, whether or not a worker has taken it up.
        metrics.of_rules(&set.rules);
        let rules = metrics.rules();
        let unknown = rules.iter().filter(|(rule, _)| by_symbol.contains(rule.as_str()));
        let unknown_symbols = unknown.map(|(rule, counters)| (rule.clone(), counters.unknown_symbols.get())).collect();
        let near = names(&set, |rule| rule.near_ms.is_some());
        let is_near = |rule: &&(String, Arc<RuleCounters>)| near.contains(rule.0.as_str());
        let warm = rules.iter().filter(is_near).flat_map(|(rule, counters)| counters.warmed(rule)).collect();
        let near = rules.iter().filter(is_near).flat_map(|(rule, counters)| counters.near_reads(rule)).collect();
        let leased = names(&set, |rule| rule.lease_ms.is_some());
        let leased = rules.iter().filter(|(rule, _)| leased.contains(rule.as_str())).flat_map(|(rule, counters)| {
            counters.leased().map(|(result, count)| (rule.clone(), result.label(), count))
        });
        let leased = leased.collect();
        let horizons = metrics.horizons().into_iter();
        let market_horizon_days = horizons.map(|(market, at)| (market.into(), days_left(at, now))).collect();
        let decisions = rules.into_iter().flat_map(|(rule, counters)| {
            let all: Vec<_> = counters.all().collect();
            all.into_iter().map(move |(outcome, count)| (rule.clone(), outcome.label(), count))
        });
        let running = i64::from(metrics.warm_running.load(Ordering::Relaxed) > 0);
        let (counts, sum_ns) = metrics.calls.read();
        let (last_good, shadow) = rollout(status);
        let bounds = CALL_NS.iter().map(|ns| *ns as f64 / 1e9).chain([f64::INFINITY]);
        Self {
            counters: counters(status, &set),
            gauges: vec![
                ("clients", "Client connections", number(status.clients.get().map_or(0, |clients| clients.count()))),
                ("upstream_connections", "Connections to the server", number(status.upstream.connections())),
                ("ready", "1 while commands can be served", i64::from(status.unready().is_none())),
                ("generation", "The policy set in force", i64::try_from(generation).unwrap_or(i64::MAX)),
                ("near_bytes", "Bytes that the near cache keeps", number(status.versions.bytes() as usize)),
                ("near_values", "Values that the near cache keeps", number(status.versions.values() as usize)),
                ("bypass", "1 while policies are out of the path", i64::from(set.is_bypass)),
                ("last_good_served", "1 while an earlier generation serves, the folder being broken", last_good),
                ("shadow_compared", "Decisions put to the last candidate", shadow.0),
                ("shadow_differing", "Those that it decides otherwise", shadow.1),
                ("shadow_dropped", "Those that were not put to it, for want of time", shadow.2),
                ("record_listeners", "Who listens to decisions", number(status.records.listeners())),
                ("warming", "1 while values are read into memory", running),
                ("folder_refused", "1 while the policy folder holds what was refused", i64::from(refused)),
            ],
            upstream: status.target.to_string(),
            commands: Kind::LABELS.into_iter().zip(metrics.commands.iter().map(|counter| counter.get())).collect(),
            decisions: decisions.collect(),
            near,
            warm,
            warm_asked: WarmAsked::ALL.iter().zip(&metrics.warm_asked).map(|(of, n)| (of.label(), n.get())).collect(),
            leased,
            retimed: Retimed::ALL.iter().zip(&metrics.retime_keys).map(|(of, keys)| (of.label(), keys.get())).collect(),
            unknown_symbols,
            market_horizon_days,
            conditions: conditions(&set),
            call_buckets: bounds.zip(counts).collect(),
            call_seconds: sum_ns as f64 / 1e9,
        }
    }

    fn encode_conditions(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Instances that were lost to a trap, by policy in force";
        let mut family = encoder.encode_descriptor("policy_traps", help, None, MetricType::Counter)?;
        for (policy, [traps, ..]) in &self.conditions {
            ConstCounter::new(*traps).encode(family.encode_family(&[("policy", policy.as_str())])?)?;
        }
        let help = "Times that a worker began to leave a policy alone which only fails, by policy in force";
        let mut family = encoder.encode_descriptor("policy_breaker_opened", help, None, MetricType::Counter)?;
        for (policy, [_, opened, _]) in &self.conditions {
            ConstCounter::new(*opened).encode(family.encode_family(&[("policy", policy.as_str())])?)?;
        }
        let help = "Workers that leave a policy alone, and use the fallbacks of its rules, by policy in force";
        let mut family = encoder.encode_descriptor("policy_breaker_open", help, None, MetricType::Gauge)?;
        for (policy, [.., open]) in &self.conditions {
            let open = i64::try_from(*open).unwrap_or(i64::MAX);
            ConstGauge::new(open).encode(family.encode_family(&[("policy", policy.as_str())])?)?;
        }
        Ok(())
    }
}

/// Whether the last good generation serves, and what the last comparison found: compared, differing, dropped.
fn rollout(status: &Status) -> (i64, (i64, i64, i64)) {
    let board = status.rollout.board();
    let found = board.shadow.as_ref().map(|shadow| shadow.found());
    let counts = found.map(|found| [found.compared, found.differing, found.dropped]).unwrap_or_default();
    let [compared, differing, dropped] = counts.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    (i64::from(board.last_good.is_some()), (compared, differing, dropped))
}

/// The rules of which something holds.
fn names(set: &PolicySet, holds: fn(&Rule) -> bool) -> HashSet<&str> {
    set.rules.rules().iter().filter(|rule| holds(rule)).map(|rule| rule.name.as_str()).collect()
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, count) in &self.counters {
            let counter = ConstCounter::new(*count);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        for (name, help, value) in &self.gauges {
            let gauge = ConstGauge::new(*value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let help = "The server that connections are made to";
        let mut family = encoder.encode_descriptor("upstream", help, None, MetricType::Gauge)?;
        ConstGauge::new(1_i64).encode(family.encode_family(&[("server", self.upstream.as_str())])?)?;
        let help = "Commands taken from clients";
        let mut family = encoder.encode_descriptor("commands", help, None, MetricType::Counter)?;
        for (kind, count) in &self.commands {
            ConstCounter::new(*count).encode(family.encode_family(&[("kind", *kind)])?)?;
        }
        let help = "Decisions about keys, by rule and what became of them";
        let mut family = encoder.encode_descriptor("decisions", help, None, MetricType::Counter)?;
        for (rule, outcome, count) in &self.decisions {
            ConstCounter::new(*count)
                .encode(family.encode_family(&[("rule", rule.as_str()), ("outcome", *outcome)])?)?;
        }
        let help = "Reads of keys whose values may be kept in memory, by rule and whether they were";
        let mut family = encoder.encode_descriptor("near_reads", help, None, MetricType::Counter)?;
        for (rule, result, count) in &self.near {
            ConstCounter::new(*count).encode(family.encode_family(&[("rule", rule.as_str()), ("result", *result)])?)?;
        }
        let help = "Keys whose values were to be in memory before clients ask, by rule and whether they are kept";
        let mut family = encoder.encode_descriptor("warm_keys", help, None, MetricType::Counter)?;
        for (rule, result, count) in &self.warm {
            ConstCounter::new(*count).encode(family.encode_family(&[("rule", rule.as_str()), ("result", *result)])?)?;
        }
        let help = "Keys that the application was to be asked for before clients do, by what became of them";
        let mut family = encoder.encode_descriptor("warm_asked", help, None, MetricType::Counter)?;
        for (result, count) in &self.warm_asked {
            ConstCounter::new(*count).encode(family.encode_family(&[("result", *result)])?)?;
        }
        let help = "Reads of keys that were not there, by rule with leases and what the client was given";
        let mut family = encoder.encode_descriptor("leased_reads", help, None, MetricType::Counter)?;
        for (rule, result, count) in &self.leased {
            ConstCounter::new(*count).encode(family.encode_family(&[("rule", rule.as_str()), ("result", *result)])?)?;
        }
        let help = "Keys that were there when a market's sessions changed, by what became of them";
        let mut family = encoder.encode_descriptor("retime_keys", help, None, MetricType::Counter)?;
        for (outcome, count) in &self.retimed {
            ConstCounter::new(*count).encode(family.encode_family(&[("outcome", *outcome)])?)?;
        }
        let help = "Decisions about keys without a known symbol, by rule that asks for one";
        let mut family = encoder.encode_descriptor("unknown_symbols", help, None, MetricType::Counter)?;
        for (rule, count) in &self.unknown_symbols {
            ConstCounter::new(*count).encode(family.encode_family(&[("rule", rule.as_str())])?)?;
        }
        let help =
            "Whole days until the calendar of a market in use ends, negative once it has; of at most 256 markets";
        let mut family = encoder.encode_descriptor("market_horizon_days", help, None, MetricType::Gauge)?;
        for (market, days) in &self.market_horizon_days {
            ConstGauge::new(*days).encode(family.encode_family(&[("market", market.as_str())])?)?;
        }
        self.encode_conditions(&mut encoder)?;
        let help = "Time of calls into policies";
        let mut histogram =
            encoder.encode_descriptor("policy_call", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        let count = self.call_buckets.iter().map(|(_, count)| count).sum();
        histogram.encode_histogram::<NoLabels>(self.call_seconds, count, &self.call_buckets, None)
    }
}
