//! One running policy: a store with its limits, the typed calls, and what the guest may call back. Not shared between
//! threads; after a trap it is dropped.

mod state;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use rustc_hash::FxHashMap;
pub(super) use state::State;
use wasmtime::Store;

use super::bindings::ttl::bellwether::policy::types;
use super::bindings::ttl::exports::bellwether::policy::ttl as guest_ttl;
use super::bindings::{lifecycle, market_hours, namespaces, ttl};
use super::engine::{Loaded, chain};
use super::limits::Limits;
use super::log::{Line, clean};
use super::{Cost, Decision, Description, Market, MarketError, MarketSession, Role, SpecialDay, Transition, convert};
use crate::command::Data;
use crate::namespace::{Rule, SymbolRule};

/// What a decision is asked with.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) rule: &'a str,
    pub(super) namespace: &'a str,
    pub(super) key: &'a str,
    pub(super) command: Data,
    pub(super) value_bytes: u64,
    pub(super) client_ttl: Option<u64>,
    pub(super) now: i64,
    pub(super) market_name: Option<&'a str>,
    pub(super) market: Option<Result<&'a MarketSession, MarketError>>,
}

/// A running policy.
pub(super) struct Instance {
    store: Store<State>,
    /// Held apart from the store, so that a call can have both.
    ttl: Option<Rc<ttl::TtlPolicy>>,
    market: Option<Rc<market_hours::MarketHoursPolicy>>,
    namespaces: Option<namespaces::NamespacesPolicy>,
    limits: Limits,
    /// The numbers of markets that were asked for by name.
    numbers: FxHashMap<Box<str>, u32>,
    calls: u32,
    /// A call ended in a trap: the store refuses every other.
    trapped: bool,
    last_cost: Cost,
}

/// What is answered about a market.
type MarketAnswer<T> = Result<T, MarketError>;

/// The market-hours policy of a worker, which the ttl policies of the same worker may ask.
pub(super) type SharedInstance = Rc<RefCell<Option<Instance>>>;

const MESSAGE_BYTES_MAX: usize = 1024;
/// Names come from keys, and a policy may know any.
const NUMBERS_MAX: usize = 4096;
const RULES_MAX: usize = 10_000;
/// Ten thousand rules and as many symbols, with room.
const LOAD_HOSTCALL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Loading may take so many times as long as a decision.
const LOAD_TIMES: u64 = 10;

// === impl Instance ===

impl Instance {
    /// Instantiates and configures a policy.
    pub(super) fn new(
        name: &str,
        loaded: &Loaded,
        settings: &str,
        market: Option<SharedInstance>,
    ) -> anyhow::Result<(Self, Description)> {
        let limits = loaded.limits;
        let state = State::new(name, &limits, market);
        let mut store = Store::new(loaded.pre.engine(), state);
        store.limiter(|state| &mut state.limits);
        store.set_max_component_handles(64);
        store.set_hostcall_fuel(LOAD_HOSTCALL_BYTES_MAX);
        store.set_fuel(limits.load_fuel_max).map_err(chain)?;
        store.set_epoch_deadline(limits.ticks_max().saturating_mul(LOAD_TIMES));
        let instance = loaded.pre.instantiate(&mut store).map_err(chain).context("could not be instantiated")?;
        let any = lifecycle::AnyPolicy::new(&mut store, &instance).map_err(chain)?;
        let any = any.bellwether_policy_lifecycle();
        let configured = any.call_configure(&mut store, settings).map_err(chain);
        store.data_mut().end();
        configured
            .with_context(|| store.data().failed("failed while it was configured"))?
            .map_err(|message| anyhow!("refused its settings: {}", clean(&message, MESSAGE_BYTES_MAX)))?;
        let description = any.call_describe(&mut store).map_err(chain).context("failed to describe itself")?;
        let has = |role| loaded.facts.roles.contains(&role);
        let bound = |store: &mut Store<State>| -> wasmtime::Result<_> {
            let ttl = has(Role::Ttl).then(|| ttl::TtlPolicy::new(&mut *store, &instance)).transpose()?;
            let market = has(Role::MarketHours)
                .then(|| market_hours::MarketHoursPolicy::new(&mut *store, &instance))
                .transpose()?;
            let namespaces =
                has(Role::Namespaces).then(|| namespaces::NamespacesPolicy::new(&mut *store, &instance)).transpose()?;
            Ok((ttl, market, namespaces))
        };
        let (ttl, market, namespaces) = bound(&mut store).map_err(chain)?;
        let (ttl, market) = (ttl.map(Rc::new), market.map(Rc::new));
        let instance = Self {
            store,
            ttl,
            market,
            namespaces,
            limits,
            numbers: FxHashMap::default(),
            calls: 0,
            trapped: false,
            last_cost: Cost::default(),
        };
        Ok((instance, convert::description(description)))
    }

    /// Whether it has served long enough.
    pub(super) fn is_spent(&self) -> bool {
        self.calls >= self.limits.instance_calls_max
    }

    /// Whether it can be asked no more. An answer that is an error or nonsense leaves it as it was.
    pub(super) fn has_trapped(&self) -> bool {
        self.trapped
    }

    /// Whether its last call ended because the market-hours policy failed that it asked.
    pub(super) fn market_failed(&self) -> bool {
        self.store.data().market_failed.get()
    }

    /// Goes on with the log of the instance before it: a policy that traps has no fresh quota of lines.
    pub(super) fn continue_log(&mut self, mut before: Self) {
        std::mem::swap(&mut self.store.data_mut().log, &mut before.store.data_mut().log);
    }

    /// Decides a lifetime. The decision's `valid_until` is shortened to the end of the sessions the guest was handed
    /// while it decided.
    pub(super) fn decide(&mut self, request: &Request<'_>) -> anyhow::Result<(Decision, Cost)> {
        let ttl = self.ttl.clone().context("it exports no ttl")?;
        let guest = guest_ttl::Request {
            rule: request.rule,
            namespace: request.namespace,
            key: request.key,
            command: convert::data_back(request.command),
            value_bytes: request.value_bytes,
            client_ttl: request.client_ttl,
            now: request.now,
            market_name: request.market_name,
            market: request.market.map(|market| market.map(convert::session_back).map_err(convert::market_error_back)),
        };
        let begun = Instant::now();
        let (answer, fuel) = self.budgeted(request.now, |store| ttl.bellwether_policy_ttl().call_decide(store, guest));
        self.last_cost = Cost { fuel, time: begun.elapsed() };
        let decision = answer?.map_err(|message| anyhow!("{}", clean(&message, MESSAGE_BYTES_MAX)))?;
        let mut decision = convert::decision(decision)?;
        if let Some(until) = self.store.data().handed_until {
            decision.valid_until = Some(decision.valid_until.map_or(until, |valid| valid.min(until)));
        }
        Ok((decision, self.last_cost))
    }

    /// The number by which the policy knows a market, and the fuel it took to ask. None: it knows no such market.
    pub(super) fn find(&mut self, market: &str) -> anyhow::Result<(Option<u32>, u64)> {
        if let Some(number) = self.numbers.get(market) {
            return Ok((Some(*number), 0));
        }
        let guest = self.market.clone().context("it exports no market-hours")?;
        let (answer, fuel) = self.budgeted(0, |store| guest.bellwether_policy_market_hours().call_find(store, market));
        let number = answer?;
        if let Some(number) = number
            && self.numbers.len() < NUMBERS_MAX
        {
            self.numbers.insert(market.into(), number);
        }
        Ok((number, fuel))
    }

    /// The session of a market, by its name or alias, and the fuel it took.
    pub(super) fn session_at(&mut self, market: &str, at: i64) -> anyhow::Result<(MarketAnswer<MarketSession>, u64)> {
        let (number, finding) = self.find(market)?;
        let Some(number) = number else { return Ok((Err(MarketError::UnknownMarket), finding)) };
        let (answer, fuel) = self.session_of(number, at, None)?;
        Ok((answer, fuel + finding))
    }

    /// The same of a market's number.
    fn session_of(
        &mut self,
        market: u32,
        at: i64,
        known_at: Option<i64>,
    ) -> anyhow::Result<(MarketAnswer<MarketSession>, u64)> {
        let guest = self.market.clone().context("it exports no market-hours")?;
        let (answer, fuel) = self
            .budgeted(at, |store| guest.bellwether_policy_market_hours().call_session_at(store, market, at, known_at));
        let session = match answer? {
            Err(error) => return Ok((Err(convert::market_error(error)), fuel)),
            Ok(session) => convert::session(session)?,
        };
        if !(session.since..session.until).contains(&at) {
            return Err(anyhow!(
                "its session of market number {market} from {} to {} is not one of {at}",
                session.since,
                session.until
            ));
        }
        Ok((Ok(session), fuel))
    }

    /// The next changes of phase.
    pub(super) fn transitions(
        &mut self,
        market: &str,
        start: i64,
        count: u32,
    ) -> anyhow::Result<MarketAnswer<Vec<Transition>>> {
        match self.find(market)?.0 {
            Some(number) => self.transitions_of(number, start, count),
            None => Ok(Err(MarketError::UnknownMarket)),
        }
    }

    fn transitions_of(&mut self, market: u32, start: i64, count: u32) -> anyhow::Result<MarketAnswer<Vec<Transition>>> {
        let guest = self.market.clone().context("it exports no market-hours")?;
        let guest = guest.bellwether_policy_market_hours();
        let (answer, _) = self.budgeted(start, |store| guest.call_transitions(store, market, start, count));
        listed(answer?, convert::transition)
    }

    /// The next special days.
    pub(super) fn special_days(
        &mut self,
        market: &str,
        start: i64,
        count: u32,
    ) -> anyhow::Result<MarketAnswer<Vec<SpecialDay>>> {
        match self.find(market)?.0 {
            Some(number) => self.special_days_of(number, start, count),
            None => Ok(Err(MarketError::UnknownMarket)),
        }
    }

    fn special_days_of(
        &mut self,
        market: u32,
        start: i64,
        count: u32,
    ) -> anyhow::Result<MarketAnswer<Vec<SpecialDay>>> {
        let guest = self.market.clone().context("it exports no market-hours")?;
        let guest = guest.bellwether_policy_market_hours();
        let (answer, _) = self.budgeted(start, |store| guest.call_special_days(store, market, start, count));
        listed(answer?, convert::special_day)
    }

    /// Every market.
    pub(super) fn markets(&mut self) -> anyhow::Result<Vec<Market>> {
        let guest = self.market.clone().context("it exports no market-hours")?;
        let (answer, _) = self.budgeted(0, |store| guest.bellwether_policy_market_hours().call_markets(store));
        Ok(answer?.into_iter().map(convert::market).collect())
    }

    /// The rules and the symbol table. Asked at load only, with the budget of loading.
    pub(super) fn rules(&mut self) -> anyhow::Result<(Vec<Rule>, Vec<SymbolRule>)> {
        self.store.set_fuel(self.limits.load_fuel_max).map_err(chain)?;
        self.store.set_epoch_deadline(self.limits.ticks_max().saturating_mul(LOAD_TIMES));
        self.store.set_hostcall_fuel(LOAD_HOSTCALL_BYTES_MAX);
        let guest = self.namespaces.as_ref().context("it exports no namespaces")?;
        let guest = guest.bellwether_policy_namespaces();
        let refused = |message: String| anyhow!("{}", clean(&message, MESSAGE_BYTES_MAX));
        let rules = guest.call_rules(&mut self.store).map_err(chain).context("failed to give its rules");
        self.trapped = rules.is_err();
        let rules = rules?;
        let symbols = guest.call_symbols(&mut self.store).map_err(chain).context("failed to give its symbols");
        self.trapped = symbols.is_err();
        let symbols = symbols?;
        let (rules, symbols) = (rules.map_err(refused)?, symbols.map_err(refused)?);
        anyhow::ensure!(rules.len() <= RULES_MAX, "gave {} rules; at most {RULES_MAX} are allowed", rules.len());
        let rules = rules
            .into_iter()
            .map(|rule| {
                let name = clean(&rule.name, 64);
                convert::rule(rule).with_context(|| format!("rule {name:?}"))
            })
            .collect::<Result<_, _>>()?;
        Ok((rules, symbols.into_iter().map(convert::symbol).collect()))
    }

    /// Instructions of the last load step: of configuring, or of giving the rules.
    pub(super) fn load_fuel_taken(&self) -> u64 {
        self.limits.load_fuel_max.saturating_sub(self.store.get_fuel().unwrap_or_default())
    }

    /// Instructions of the last decision, one that failed too.
    pub(super) fn fuel_taken(&self) -> u64 {
        self.limits.fuel_max.saturating_sub(self.store.get_fuel().unwrap_or_default())
    }

    /// What the last decision took, one that failed too.
    pub(super) fn last_cost(&self) -> Cost {
        self.last_cost
    }

    /// The most memory it has had.
    pub(super) fn memory_bytes(&self) -> usize {
        self.store.data().limits.memory_bytes()
    }

    /// The lines it wrote in its last call.
    pub(super) fn log_lines(&self) -> Vec<Line> {
        self.store.data().log.recent().cloned().collect()
    }

    /// Makes a call with a fresh budget, and says how much fuel it took.
    fn budgeted<T>(
        &mut self,
        now: i64,
        call: impl FnOnce(&mut Store<State>) -> wasmtime::Result<T>,
    ) -> (anyhow::Result<T>, u64) {
        let limits = self.limits;
        let ticks = self.limits.ticks_max();
        self.calls += 1;
        self.store.data_mut().begin(limits.host_calls_max, now);
        self.store.set_hostcall_fuel(limits.hostcall_bytes_max);
        self.store.set_epoch_deadline(ticks);
        if let Err(error) = self.store.set_fuel(limits.fuel_max) {
            return (Err(chain(error)), 0);
        }
        let answer = call(&mut self.store).map_err(chain);
        self.trapped = answer.is_err();
        self.store.data_mut().end();
        let left = self.store.get_fuel().unwrap_or_default();
        (answer, limits.fuel_max.saturating_sub(left))
    }
}

/// A list that the market-hours policy answered, in the host's types.
fn listed<G, T>(
    answer: Result<Vec<G>, types::MarketError>,
    convert: fn(G) -> anyhow::Result<T>,
) -> anyhow::Result<MarketAnswer<Vec<T>>> {
    match answer {
        Err(error) => Ok(Err(convert::market_error(error))),
        Ok(list) => list.into_iter().map(convert).collect::<anyhow::Result<_>>().map(Ok),
    }
}
