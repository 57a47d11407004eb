//! A generation: all policies of a set, loaded together or not at all.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;

use super::compiled::Compiled;
use super::engine::{Engine, Facts, Loaded};
use super::health::Condition;
use super::instance::Instance;
use super::limits::OwnLimits;
use super::log::one_line;
use super::selftest::{self, Passed, Trial};
use super::standard::Standard;
use super::{Description, Market, Role};
use crate::namespace::{Rule, RuleTable, SymbolRule};

/// A policy as it is asked for: name, component and settings.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The policy's name in the set.
    pub name: String,
    /// The component.
    pub component: Arc<[u8]>,
    /// Its settings, a JSON object.
    pub settings: String,
    /// The cases shipped beside the component, as TOML.
    pub cases: Option<String>,
    /// What it may take, where that is not as configured for all.
    pub limits: OwnLimits,
    /// Where the component came from.
    pub origin: Origin,
}

/// Where a component came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is part of this program.
    Embedded,
    /// A file.
    File(std::path::PathBuf),
}

/// A loaded policy.
pub struct Policy {
    /// Its name in the set.
    pub name: String,
    /// What can be said of its component.
    pub facts: Facts,
    /// What it says of itself.
    pub description: Description,
    /// Its settings, as JSON.
    pub settings: String,
    /// What it may take, where that is not as configured for all.
    pub limits: OwnLimits,
    /// Where its component came from.
    pub origin: Origin,
    /// How many of its own cases it passed.
    pub passed: Passed,
    /// Size of its settings and component, and how long loading took.
    pub load_time: Duration,
    /// How it has been doing.
    pub condition: Arc<Condition>,
    pub(super) loaded: Loaded,
    /// Its cases, as they were shipped: others have to be run.
    cases: Option<String>,
    /// What it has been asked once: its answer is its settings'.
    rules: OnceLock<(Vec<Rule>, Vec<SymbolRule>)>,
    markets: OnceLock<Vec<Market>>,
}

/// A policy that is being loaded.
struct Begun<'a> {
    mount: &'a Mount,
    loaded: Loaded,
    /// Once it has its settings.
    description: Option<Description>,
    /// How long it took so far.
    time: Duration,
}

/// All policies of one generation.
pub struct PolicySet {
    /// Which generation this is, from 1.
    pub generation: u64,
    /// The policies, in order of name.
    pub policies: Vec<Arc<Policy>>,
    /// The rules of all namespaces policies.
    pub rules: RuleTable,
    /// The policy that decides for each rule.
    pub(super) ttl_of_rule: Vec<Option<usize>>,
    /// The policy that knows the markets.
    pub(super) market: Option<usize>,
    /// Its policies are out of the path, and its rules with them.
    pub is_bypass: bool,
    pub(super) engine: Engine,
}

/// Why a set was refused.
#[derive(Debug)]
pub struct Rejected {
    /// The policy at fault; none: the set as a whole.
    pub policy: Option<String>,
    /// How far it came.
    pub stage: Stage,
    /// What was wrong.
    pub reason: anyhow::Error,
}

/// The steps of loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the files.
    Read,
    /// Compiling and linking the component.
    Compile,
    /// Giving it its settings.
    Configure,
    /// Running the cases shipped beside it.
    SelfTest,
    /// Taking its rules and putting the set together.
    Assemble,
}

// === impl PolicySet ===

impl PolicySet {
    /// Loads all policies. Policies of `previous` whose component and settings are the same are taken over as they are,
    /// and a component that it has compiled already is not compiled again: new settings are in force at once.
    ///
    /// # Errors
    /// One of them does not load, or they do not fit together; the error says which, how far it came, and why.
    pub fn load(engine: &Engine, generation: u64, mounts: &[Mount], previous: Option<&Self>) -> Result<Self, Rejected> {
        Self::load_in_steps(engine, generation, mounts, previous, &mut |_| {})
    }

    /// The same, one step for all policies after the other; tells which it has done.
    ///
    /// # Errors
    /// As [`PolicySet::load`].
    pub fn load_in_steps(
        engine: &Engine,
        generation: u64,
        mounts: &[Mount],
        previous: Option<&Self>,
        done: &mut dyn FnMut(Stage),
    ) -> Result<Self, Rejected> {
        let known = || previous.into_iter().flat_map(|set| &set.policies);
        let mut policies = Vec::with_capacity(mounts.len());
        let mut begun: Vec<Begun<'_>> = Vec::new();
        for mount in mounts {
            let digest = super::engine::digest(&mount.component);
            if let Some(policy) = known().find(|policy| policy.is(mount, &digest)) {
                policies.push(Arc::clone(policy));
                continue;
            }
            let compiled = known().map(|policy| &policy.loaded).chain(begun.iter().map(|begun| &begun.loaded));
            let compiled = compiled.into_iter().find(|loaded| loaded.facts.digest == digest).cloned();
            begun.push(Begun::compiled(engine, mount, compiled)?);
        }
        done(Stage::Compile);
        let configured = begun.into_iter().map(|begun| begun.configured());
        let configured: Vec<_> = configured.collect::<Result<_, _>>()?;
        done(Stage::Configure);
        for begun in configured {
            policies.push(Arc::new(begun.tested()?));
        }
        done(Stage::SelfTest);
        Self::of_loaded(engine, generation, policies)
    }

    /// A set without rules, with which the sidecar is a plain proxy: no policy is asked, no lifetime given, nothing
    /// served from memory. It is of the same generation, so that people see what is out of the path.
    pub fn bypassed(&self) -> anyhow::Result<Self> {
        Ok(Self {
            generation: self.generation,
            policies: self.policies.clone(),
            rules: RuleTable::build(Vec::new(), Vec::new())?,
            ttl_of_rule: Vec::new(),
            market: self.market,
            is_bypass: true,
            engine: self.engine.clone(),
        })
    }

    /// Puts loaded policies together.
    ///
    /// # Errors
    /// They do not fit together; the error says why.
    pub fn of_loaded(engine: &Engine, generation: u64, mut policies: Vec<Arc<Policy>>) -> Result<Self, Rejected> {
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        let rejected = |reason| Rejected { policy: None, stage: Stage::Assemble, reason };
        Self::assemble(engine, generation, policies).map_err(rejected)
    }

    fn assemble(engine: &Engine, generation: u64, policies: Vec<Arc<Policy>>) -> anyhow::Result<Self> {
        let market = only(&policies, Role::MarketHours)?;
        let (mut rules, mut symbols) = (Vec::new(), Vec::<SymbolRule>::new());
        for policy in policies.iter().filter(|policy| policy.facts.roles.contains(&Role::Namespaces)) {
            let (more_rules, more_symbols) = policy.rules()?;
            rules.extend(more_rules);
            symbols.extend(more_symbols);
        }
        let mut ttl_of_rule = Vec::with_capacity(rules.len());
        for rule in &rules {
            ttl_of_rule.push(match &rule.ttl_policy {
                None => None,
                Some(name) => Some(decider(&policies, name).with_context(|| format!("rule {:?}", rule.name))?),
            });
        }
        let rules = RuleTable::build(rules, symbols)?;
        let (is_bypass, engine) = (false, engine.clone());
        Ok(Self { generation, policies, rules, ttl_of_rule, market, is_bypass, engine })
    }

    /// Every market that its market-hours policy knows; none where it has no such policy.
    ///
    /// # Errors
    /// The policy failed.
    pub fn markets(&self) -> anyhow::Result<Vec<Market>> {
        let Some(policy) = self.market_policy() else { return Ok(Vec::new()) };
        policy.once(&policy.markets, Instance::markets)
    }

    /// How the components that its engine loaded came by their code.
    pub fn compiled(&self) -> &Compiled {
        self.engine.compiled()
    }

    /// What tells this set from another, for the log: every policy's name and digest.
    pub fn digests(&self) -> String {
        self.policies.iter().map(|policy| policy.shown()).collect::<Vec<_>>().join(", ")
    }

    /// Whether the policies are the same, components and settings.
    pub fn is_same(&self, other: &Self) -> bool {
        self.policies.len() == other.policies.len()
            && self.policies.iter().zip(&other.policies).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// The policies that some worker leaves alone, since they only fail: the fallbacks of their rules apply.
    pub fn failing(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter().filter(|policy| policy.condition.open() > 0)
    }

    /// The policy that knows the markets.
    pub fn market_policy(&self) -> Option<&Arc<Policy>> {
        self.policies.get(self.market?)
    }

    /// Which policies are other than in `old`, for the log.
    pub fn changes_from(&self, old: &Self) -> String {
        let same = |policy: &Arc<Policy>| old.policies.iter().any(|other| Arc::ptr_eq(policy, other));
        let new = self.policies.iter().filter(|policy| !same(policy)).map(|policy| policy.shown());
        let gone = |policy: &&Arc<Policy>| self.policies.iter().all(|other| other.name != policy.name);
        let gone = old.policies.iter().filter(gone).map(|policy| format!("{} gone", policy.name));
        new.chain(gone).collect::<Vec<_>>().join(", ")
    }
}

// === impl Policy ===

impl Policy {
    /// Loads one policy by itself.
    ///
    /// # Errors
    /// It does not load; the error says how far it came, and why.
    pub fn load(engine: &Engine, mount: &Mount) -> Result<Self, Rejected> {
        Begun::compiled(engine, mount, None)?.configured()?.tested()
    }

    /// Whether it may ask the market-hours policy at any time.
    pub(super) fn asks_markets(&self) -> bool {
        self.facts.imports.iter().any(|import| import.contains("/market-hours@"))
    }

    /// The rules of a namespaces policy by themselves, as a set of its own would have them; none: it has another role.
    ///
    /// # Errors
    /// It fails to give them, or they contradict each other.
    pub fn rule_table(&self) -> Result<Option<RuleTable>, Rejected> {
        if !self.facts.roles.contains(&Role::Namespaces) {
            return Ok(None);
        }
        let table = self.rules().and_then(|(rules, symbols)| RuleTable::build(rules, symbols));
        table.map(Some).map_err(|reason| Rejected { policy: Some(self.name.clone()), stage: Stage::Assemble, reason })
    }

    /// The rules of a namespaces policy, as it is configured.
    fn rules(&self) -> anyhow::Result<(Vec<Rule>, Vec<SymbolRule>)> {
        self.once(&self.rules, Instance::rules)
    }

    /// What it answers, of an instance of its own the first time: it goes on from generation to generation, and to ask
    /// again takes time from those who are served.
    fn once<T: Clone>(
        &self,
        known: &OnceLock<T>,
        ask: impl FnOnce(&mut Instance) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if let Some(known) = known.get() {
            return Ok(known.clone());
        }
        let asked = || ask(&mut Instance::new(&self.name, &self.loaded, &self.settings, None)?.0);
        let answer = asked().with_context(|| format!("policy {:?}", self.name))?;
        Ok(known.get_or_init(|| answer).clone())
    }

    /// Its name, digest and, where they matter, its settings' digest.
    pub fn shown(&self) -> String {
        let settings = match self.settings.as_str() {
            "{}" => String::new(),
            settings => format!(" settings sha256:{:.8}", super::engine::digest(settings.as_bytes())),
        };
        format!("{} sha256:{:.8}{settings}", self.name, self.facts.digest)
    }

    fn is(&self, mount: &Mount, digest: &str) -> bool {
        self.name == mount.name
            && self.settings == mount.settings
            && self.limits == mount.limits
            && self.origin == mount.origin
            && self.cases == mount.cases
            && self.facts.digest == digest
    }
}

// === impl Begun ===

impl<'a> Begun<'a> {
    /// Compiled and linked; `compiled`: it has been before.
    fn compiled(engine: &Engine, mount: &'a Mount, compiled: Option<Loaded>) -> Result<Self, Rejected> {
        let begun = std::time::Instant::now();
        let again = compiled.map(|loaded| engine.load_again(&loaded, &mount.limits)).transpose();
        let loaded = match again.map_err(mount.rejected(Stage::Compile))?.flatten() {
            Some(loaded) => loaded,
            None => engine.load(&mount.component, &mount.limits).map_err(mount.rejected(Stage::Compile))?,
        };
        Ok(Self { mount, loaded, description: None, time: begun.elapsed() })
    }

    /// It has taken its settings and said what it is.
    fn configured(self) -> Result<Self, Rejected> {
        let begun = std::time::Instant::now();
        let configured = Instance::new(&self.mount.name, &self.loaded, &self.mount.settings, None);
        let (_, description) = configured.map_err(self.mount.rejected(Stage::Configure))?;
        Ok(Self { description: Some(description), time: self.time + begun.elapsed(), ..self })
    }

    /// It has passed its own cases.
    fn tested(self) -> Result<Policy, Rejected> {
        let begun = std::time::Instant::now();
        let Self { mount, loaded, description, time } = self;
        let description = description.context("it was not configured").map_err(mount.rejected(Stage::Configure))?;
        let trial = Trial { name: mount.name.as_str().into(), loaded };
        let passed = match &mount.cases {
            None => Passed::default(),
            Some(cases) => selftest::run(&trial, cases).map_err(mount.rejected(Stage::SelfTest))?,
        };
        Ok(Policy {
            name: mount.name.clone(),
            facts: trial.loaded.facts.clone(),
            description,
            settings: mount.settings.clone(),
            limits: mount.limits.clone(),
            origin: mount.origin.clone(),
            passed,
            load_time: time + begun.elapsed(),
            condition: Arc::default(),
            loaded: trial.loaded,
            cases: mount.cases.clone(),
            rules: OnceLock::new(),
            markets: OnceLock::new(),
        })
    }
}

// === impl Mount ===

impl Mount {
    /// A policy of the standard set by itself, with the settings that it has by default.
    pub fn standard(standard: &Standard) -> Self {
        Self {
            name: standard.name.to_owned(),
            component: standard.component.into(),
            settings: "{}".to_owned(),
            cases: None,
            limits: OwnLimits::default(),
            origin: Origin::Embedded,
        }
    }

    fn rejected(&self, stage: Stage) -> impl Fn(anyhow::Error) -> Rejected + use<> {
        let name = self.name.clone();
        move |reason| Rejected { policy: Some(name.clone()), stage, reason }
    }
}

// === impl Rejected ===

impl std::fmt::Display for Rejected {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.policy {
            Some(policy) => write!(out, "policy {policy:?} ({}): {}", self.stage.label(), one_line(&self.reason)),
            None => write!(out, "the policy set ({}): {}", self.stage.label(), one_line(&self.reason)),
        }
    }
}

impl std::error::Error for Rejected {}

// === impl Stage ===

impl Stage {
    /// What people call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Compile => "compile",
            Self::Configure => "configure",
            Self::SelfTest => "self-test",
            Self::Assemble => "assemble",
        }
    }
}

/// The one policy of a role that there may be one of.
fn only(policies: &[Arc<Policy>], role: Role) -> anyhow::Result<Option<usize>> {
    let mut found = policies.iter().enumerate().filter(|(_, policy)| policy.facts.roles.contains(&role));
    let (first, second) = (found.next(), found.next());
    if let (Some((_, first)), Some((_, second))) = (first, second) {
        anyhow::bail!(
            "policies {:?} and {:?} both export {}, and only one may; switch one off with `enabled = false` in \
             {}.toml of the policy folder",
            first.name,
            second.name,
            role.interface(),
            first.name
        );
    }
    Ok(first.map(|(index, _)| index))
}

/// The ttl policy of a name.
fn decider(policies: &[Arc<Policy>], name: &str) -> anyhow::Result<usize> {
    let found = policies.iter().position(|policy| policy.name == name).with_context(|| {
        let names: Vec<_> = policies.iter().map(|policy| policy.name.as_str()).collect();
        format!("there is no policy {name:?} to decide; the set has {}", names.join(", "))
    })?;
    let exports = policies.get(found).is_some_and(|policy| policy.facts.roles.contains(&Role::Ttl));
    anyhow::ensure!(exports, "policy {name:?} exports no ttl, so it cannot decide");
    Ok(found)
}
