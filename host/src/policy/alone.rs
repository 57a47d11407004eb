//! A ttl policy asked by itself, over and over: what recorded writes are put to. It is handed the market sessions that
//! were recorded, and asks a warm instance as the server does.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::{Context, ensure};

use super::decider::Cost;
use super::engine::Engine;
use super::instance::{Instance, Request, SharedInstance};
use super::selftest::Write;
use super::standard::STANDARD;
use super::{Decision, Inputs, MarketError, MarketSession, Mount, Policy, Role};
use crate::command::Data;

/// A ttl policy with its settings.
pub struct Alone {
    engine: Engine,
    policy: Policy,
    instance: Option<Instance>,
    /// The standard market hours, for a policy that asks about other markets.
    market: SharedInstance,
}

/// A market that was handed to a policy, by name, with its session.
pub type Handed<'a> = (&'a str, &'a Result<MarketSession, MarketError>);

// === impl Alone ===

impl Alone {
    /// Loads a policy.
    ///
    /// # Errors
    /// It does not load, or decides no lifetimes; the message says why.
    pub fn load(engine: &Engine, mount: &Mount) -> anyhow::Result<Self> {
        let policy = Policy::load(engine, mount)?;
        let decides = policy.facts.roles.contains(&Role::Ttl);
        ensure!(decides, "it exports no ttl, so it decides no lifetime by itself; name a policy folder with it");
        let market = match policy.asks_markets() {
            true => Some(standard_markets(engine)?),
            false => None,
        };
        Ok(Self { engine: engine.clone(), policy, instance: None, market: Rc::new(RefCell::new(market)) })
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What it decides about a write. After a failure a fresh instance is asked.
    ///
    /// # Errors
    /// It fails; the message says how.
    pub fn decide(&mut self, write: Write<'_>, market: Option<Handed<'_>>) -> anyhow::Result<(Decision, Cost)> {
        if self.instance.as_ref().is_none_or(|instance| instance.is_spent() || instance.has_trapped()) {
            let Policy { name, loaded, settings, .. } = &self.policy;
            if self.policy.asks_markets() && self.market.borrow().as_ref().is_none_or(Instance::has_trapped) {
                *self.market.borrow_mut() = Some(standard_markets(&self.engine)?);
            }
            let market = Some(Rc::clone(&self.market));
            self.instance = Some(Instance::new(name, loaded, settings, market)?.0);
        }
        let write = write.read_by(self.policy.description.reads);
        self.instance.as_mut().context("no instance")?.decide(&write.request(market))
    }
}

/// An instance of the market hours that are part of this program.
fn standard_markets(engine: &Engine) -> anyhow::Result<Instance> {
    let standard = STANDARD.iter().find(|of| of.name == Role::MarketHours.interface());
    let standard = standard.context("there are no standard market hours")?;
    let policy = Policy::load(engine, &Mount::standard(standard))?;
    Ok(Instance::new(&policy.name, &policy.loaded, &policy.settings, None)?.0)
}

// === impl Write ===

impl<'a> Write<'a> {
    /// What a policy is shown of it that reads these inputs: the others are blank.
    #[must_use]
    pub fn read_by(self, reads: Inputs) -> Self {
        Self {
            key: if reads.key { self.key } else { "" },
            command: if reads.command { self.command } else { Data::Other },
            value_bytes: if reads.value_bytes { self.value_bytes } else { 0 },
            client_ttl: self.client_ttl.filter(|_| reads.client_ttl),
            ..self
        }
    }

    pub(super) fn request(self, market: Option<Handed<'a>>) -> Request<'a> {
        Request {
            rule: self.rule,
            namespace: self.namespace,
            key: self.key,
            command: self.command,
            value_bytes: self.value_bytes,
            client_ttl: self.client_ttl,
            now: self.now,
            market_name: market.map(|(name, _)| name),
            market: market.map(|(_, session)| session.as_ref().map_err(|error| *error)),
        }
    }
}
