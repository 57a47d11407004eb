//! What a component costs: its cases asked over and over, on warm instances, in rounds that several components take in
//! turn, so that a slow moment of the machine falls on all of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::cases::{Case, CaseMarket};
use super::instance::{Instance, Request};
use super::selftest::{Trial, request};
use super::{MarketSession, Role};

/// What one component took.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Nanoseconds of a call, round by round.
    pub call_ns: Vec<f64>,
    /// Calls of each round.
    pub calls: u64,
    /// Instructions of a call, over all cases; the same every time.
    pub fuel: u64,
    /// Making a configured instance, each time.
    pub instantiate: Vec<Duration>,
    /// The most memory that an instance had.
    pub memory_bytes: usize,
    /// Cases that failed, and were not asked again.
    pub left_out: usize,
}

/// A case, ready to be asked many times.
enum Ready<'a> {
    Decide(Request<'a>),
    Session(&'a str, i64),
    Rules,
}

/// One component with its warm instances, one for each settings.
struct Bench<'a> {
    instances: Vec<Instance>,
    /// Each with its instance's place.
    ready: Vec<(usize, Ready<'a>)>,
    measured: Measured,
}

/// How long a round is at least: long beside the clock's own steps, short beside what a machine does in between.
const ROUND: Duration = Duration::from_millis(20);
const PASSES_MAX: u64 = 1 << 20;

/// Measures components by the same cases.
///
/// # Errors
/// A case cannot be asked, or none can be answered.
pub fn measure(trials: &[&Trial], cases: &[Case], rounds: usize) -> anyhow::Result<Vec<Measured>> {
    let session = |case: &Case| -> anyhow::Result<Option<(String, MarketSession)>> {
        match &case.question.market {
            Some(CaseMarket::Session(_)) => {
                Ok(case.question.session()?.map(|(name, session)| (name.to_owned(), session)))
            }
            _ => Ok(None),
        }
    };
    let sessions = cases.iter().map(session).collect::<anyhow::Result<Vec<_>>>()?;
    let sessions: Vec<_> =
        sessions.iter().map(|of| of.as_ref().map(|(name, session)| (name.as_str(), session.clone()))).collect();
    let bench = |trial: &&Trial| Bench::new(trial, cases, &sessions);
    let mut all = trials.iter().map(bench).collect::<anyhow::Result<Vec<_>>>()?;
    let mut passes = 1;
    for of in &mut all {
        // A pass by the slowest takes the time of a round; for the others it is the same work.
        while passes < PASSES_MAX && of.round(passes)? < ROUND && trials.len() * rounds > 0 {
            passes *= 2;
        }
    }
    for _ in 0..rounds {
        for (of, trial) in all.iter_mut().zip(trials) {
            let time = of.round(passes)?;
            of.measured.calls = passes * of.ready.len() as u64;
            of.measured.call_ns.push(time.as_nanos() as f64 / of.measured.calls as f64);
            let begun = Instant::now();
            let instance = trial.instance(cases.first().map_or("{}", |case| &case.settings))?;
            of.measured.instantiate.push(begun.elapsed());
            drop(instance);
        }
    }
    Ok(all.into_iter().map(Bench::end).collect())
}

// === impl Bench ===

impl<'a> Bench<'a> {
    fn new(trial: &Trial, cases: &'a [Case], sessions: &'a [Option<(&'a str, MarketSession)>]) -> anyhow::Result<Self> {
        let mut of_settings: BTreeMap<&str, usize> = BTreeMap::new();
        let mut bench = Self { instances: Vec::new(), ready: Vec::new(), measured: Measured::default() };
        let mut fuel = 0;
        for (case, session) in cases.iter().zip(sessions) {
            let ready = match case.question.asked(&trial.loaded.facts.roles)? {
                Role::Ttl => Ready::Decide(request(case, session.as_ref())?),
                Role::Namespaces => Ready::Rules,
                Role::MarketHours => match &case.question.market {
                    Some(CaseMarket::Name(name)) => Ready::Session(name, case.question.now()?),
                    _ => anyhow::bail!("case {:?}: `market` must be a name", case.name),
                },
            };
            // On an instance of its own: one that traps is of no more use.
            let taken = trial.instance(&case.settings).and_then(|mut instance| ready.ask(&mut instance));
            let Ok(taken) = taken else {
                bench.measured.left_out += 1;
                continue;
            };
            fuel += taken;
            let place = match of_settings.get(case.settings.as_str()) {
                Some(place) => *place,
                None => {
                    bench.instances.push(trial.instance(&case.settings)?);
                    bench.instances.len() - 1
                }
            };
            of_settings.insert(&case.settings, place);
            bench.ready.push((place, ready));
        }
        ensure!(!bench.ready.is_empty(), "{}: none of the cases is answered without an error", trial.name);
        bench.measured.fuel = fuel / bench.ready.len() as u64;
        Ok(bench)
    }

    /// Asks every case so many times.
    fn round(&mut self, passes: u64) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        for _ in 0..passes {
            for (place, ready) in &self.ready {
                if let Some(instance) = self.instances.get_mut(*place) {
                    ready.ask(instance)?;
                }
            }
        }
        Ok(begun.elapsed())
    }

    fn end(self) -> Measured {
        let memory_bytes = self.instances.iter().map(Instance::memory_bytes).max().unwrap_or_default();
        Measured { memory_bytes, ..self.measured }
    }
}

// === impl Ready ===

impl Ready<'_> {
    /// Asks once: the instructions it took.
    fn ask(&self, instance: &mut Instance) -> anyhow::Result<u64> {
        match self {
            Self::Decide(request) => instance.decide(request).map(|(_, cost)| cost.fuel),
            Self::Session(market, at) => instance.session_at(market, *at).map(|(_, fuel)| fuel),
            Self::Rules => instance.rules().map(|_| instance.load_fuel_taken()),
        }
    }
}
