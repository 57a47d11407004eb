//! A worker's view of the markets: the one instance of the market-hours policy, and the sessions it told.

use anyhow::Context;

use super::super::instance::Instance;
use super::super::log::one_line;
use super::super::{Market, MarketError, MarketSession, SpecialDay, Transition};
use super::{Cost, Decider, Horizon, LEARNED_MAX, LEFT_ALONE};

// === impl Decider ===

impl Decider {
    /// The session of a market.
    ///
    /// # Errors
    /// There is no market-hours policy, or it failed.
    pub fn session(&mut self, market: &str, at: i64) -> anyhow::Result<Result<MarketSession, MarketError>> {
        self.with_market(at, |instance| Ok(instance.session_at(market, at)?.0))
    }

    /// The next changes of a market's phase.
    ///
    /// # Errors
    /// As [`Decider::session`].
    pub fn transitions(
        &mut self,
        market: &str,
        start: i64,
        count: u32,
    ) -> anyhow::Result<Result<Vec<Transition>, MarketError>> {
        self.with_market(start, |instance| instance.transitions(market, start, count))
    }

    /// The next special days of a market.
    ///
    /// # Errors
    /// As [`Decider::session`].
    pub fn special_days(
        &mut self,
        market: &str,
        start: i64,
        count: u32,
    ) -> anyhow::Result<Result<Vec<SpecialDay>, MarketError>> {
        self.with_market(start, |instance| instance.special_days(market, start, count))
    }

    /// Every market.
    ///
    /// # Errors
    /// As [`Decider::session`].
    pub fn markets(&mut self) -> anyhow::Result<Vec<Market>> {
        self.with_market(0, Instance::markets)
    }

    /// The session of a market as it was last told.
    pub(super) fn known_session(&self, place: Option<u32>) -> Option<Result<MarketSession, MarketError>> {
        self.sessions.get(place? as usize).cloned().flatten()
    }

    /// A market's session, from memory while it lasts.
    pub(super) fn remembered_session(
        &mut self,
        name: &str,
        place: u32,
        now: i64,
    ) -> anyhow::Result<(Result<MarketSession, MarketError>, Option<Cost>)> {
        let place = place as usize;
        match self.sessions.get(place) {
            Some(Some(Ok(session))) if (session.since..session.until).contains(&now) => {
                return Ok((Ok(session.clone()), None));
            }
            Some(Some(Err(MarketError::UnknownMarket))) => return Ok((Err(MarketError::UnknownMarket), None)),
            _ => {}
        }
        let begun = std::time::Instant::now();
        let (session, fuel) = self.with_market(now, |instance| instance.session_at(name, now))?;
        let cost = Cost { fuel, time: begun.elapsed() };
        if let Some(slot) = self.sessions.get_mut(place) {
            let before = slot.as_ref().and_then(|before| horizon(before, now));
            if let Some(at) = horizon(&session, now)
                && before != Some(at)
                && self.learned.len() < LEARNED_MAX
            {
                self.learned.push(Horizon { market: name.into(), at });
            }
            *slot = Some(session.clone());
        }
        Ok((session, Some(cost)))
    }

    /// Asks the market-hours policy, through the instance that the ttl policies share.
    pub(super) fn with_market<T>(
        &mut self,
        now: i64,
        call: impl FnOnce(&mut Instance) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.ready_market(now)?;
        let mut shared = self.market.borrow_mut();
        let answer = call(shared.as_mut().context("no instance")?);
        drop(shared);
        match &answer {
            Ok(_) => {
                if self.market_health.succeeded() {
                    tracing::info!(generation = self.set.generation, "the market-hours policy answers again");
                }
            }
            Err(error) => self.market_failed(now, error),
        }
        answer
    }

    /// Sees to it that there is an instance that can be asked, and that it may be.
    pub(super) fn ready_market(&mut self, now: i64) -> anyhow::Result<()> {
        let policy = self.set.market_policy().context("the policy set has no market-hours policy")?;
        self.market_health.check(now)?;
        let mut shared = self.market.borrow_mut();
        if shared.as_ref().is_some_and(|instance| !instance.is_spent() && !instance.has_trapped()) {
            return Ok(());
        }
        let before = shared.take();
        let made = Instance::new(&policy.name, &policy.loaded, &policy.settings, None);
        let made = made.map(|(mut instance, _)| {
            if let Some(before) = before {
                instance.continue_log(before);
            }
            *shared = Some(instance);
        });
        drop(shared);
        made.inspect_err(|error| self.market_failed(now, error))
    }

    /// Counts a failure of the market-hours policy, whoever asked it.
    pub(super) fn market_failed(&mut self, now: i64, error: &anyhow::Error) {
        // An answer that is nonsense costs its own decision, and not the instance.
        let lost = self.market.borrow().as_ref().is_none_or(Instance::has_trapped);
        let told = self.market_health.failed(now, lost);
        let policy = self.set.market_policy().map_or("", |policy| policy.name.as_str());
        let generation = self.set.generation;
        if told.opened {
            tracing::warn!(policy, generation, "{LEFT_ALONE}");
        }
        if told.failure {
            tracing::warn!(policy, generation, error = %one_line(error), "policy failed");
        }
    }
}

/// The end of the calendar that a session, or its absence, tells. A bound after `now` is the data's beginning.
fn horizon(session: &Result<MarketSession, MarketError>, now: i64) -> Option<i64> {
    match session {
        Ok(session) => Some(session.horizon),
        Err(MarketError::BeyondHorizon(bound)) => Some(*bound).filter(|bound| *bound <= now),
        Err(MarketError::UnknownMarket) => None,
    }
}
