//! What a policy's store holds for the host, and what the guest may call back: its log, and the market-hours policy of
//! its set.

use std::cell::Cell;

use anyhow::Context;

use super::super::bindings::ttl::bellwether::policy::types;
use super::super::bindings::ttl::bellwether::policy::{log as guest_log, market_hours as guest_market};
use super::super::bounds::Bounds;
use super::super::limits::Limits;
use super::super::log::{PolicyLog, clean};
use super::super::wasi::Inert;
use super::super::{MarketError, convert};
use super::{Instance, MESSAGE_BYTES_MAX, SharedInstance};

/// What a policy's store holds for the host.
pub(in crate::policy) struct State {
    pub(super) limits: Bounds,
    pub(super) log: PolicyLog,
    wasi: Inert,
    /// Who answers questions about other markets.
    market: Option<SharedInstance>,
    host_calls_left: u32,
    now: i64,
    /// The first end of the sessions that were handed out during the call.
    pub(super) handed_until: Option<i64>,
    /// The market-hours policy failed when it was asked during the call.
    pub(super) market_failed: Cell<bool>,
}

// === impl State ===

impl State {
    pub(super) fn new(name: &str, limits: &Limits, market: Option<SharedInstance>) -> Self {
        Self {
            limits: Bounds::new(limits.memory_bytes_max),
            log: PolicyLog::new(name, limits.log_lines_per_second_max),
            wasi: Inert::new(),
            market,
            host_calls_left: limits.host_calls_max,
            now: 0,
            handed_until: None,
            market_failed: Cell::new(false),
        }
    }

    /// Begins a call.
    pub(super) fn begin(&mut self, host_calls_max: u32, now: i64) {
        self.host_calls_left = host_calls_max;
        self.now = now;
        self.handed_until = None;
        self.market_failed.set(false);
        self.log.begin();
        self.wasi.begin();
    }

    pub(in crate::policy) fn wasi(&mut self) -> &mut Inert {
        &mut self.wasi
    }

    /// Takes what the guest writes to one of its outputs.
    pub(in crate::policy) fn write(&mut self, output: u32, bytes: impl Iterator<Item = u8>) {
        self.wasi.write(&mut self.log, output, bytes);
    }

    /// Ends a call: what was written without an end of line goes to the log.
    pub(super) fn end(&mut self) {
        self.wasi.end(&mut self.log);
    }

    /// What failed, and what the guest wrote about it.
    pub(super) fn failed(&self, what: &str) -> String {
        match self.log.recent().last() {
            None => what.to_owned(),
            Some(_) => {
                let lines: Vec<_> = self.log.recent().map(|line| line.message.as_str()).collect();
                clean(&format!("{what}, and wrote: {}", lines.join("; ")), MESSAGE_BYTES_MAX)
            }
        }
    }

    /// Counts a call of the guest into the host; too many end the guest's own call.
    fn host_call(&mut self) -> wasmtime::Result<()> {
        self.host_calls_left = self
            .host_calls_left
            .checked_sub(1)
            .ok_or_else(|| wasmtime::Error::msg("made more calls into the host than a decision may"))?;
        Ok(())
    }

    /// Asks the set's market-hours policy. None: there is none, or it is the one that asks.
    fn ask<T>(&self, call: impl FnOnce(&mut Instance) -> anyhow::Result<T>) -> wasmtime::Result<Option<T>> {
        let Some(market) = &self.market else { return Ok(None) };
        let Ok(mut market) = market.try_borrow_mut() else { return Ok(None) };
        let answer = market.as_mut().context("it is left alone").and_then(call);
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => {
                self.market_failed.set(true);
                Err(wasmtime::Error::msg(format!("the market-hours policy failed: {error:#}")))
            }
        }
    }
}

impl types::Host for State {}

impl guest_log::Host for State {
    fn write(&mut self, level: guest_log::Level, message: String) -> wasmtime::Result<()> {
        self.host_call()?;
        let level = match level {
            guest_log::Level::Debug => tracing::Level::DEBUG,
            guest_log::Level::Info => tracing::Level::INFO,
            guest_log::Level::Warn => tracing::Level::WARN,
            guest_log::Level::Error => tracing::Level::ERROR,
        };
        self.log.write(level, &message);
        Ok(())
    }
}

impl guest_market::Host for State {
    fn find(&mut self, name: String) -> wasmtime::Result<Option<u32>> {
        self.host_call()?;
        Ok(self.ask(|instance| Ok(instance.find(&name)?.0))?.flatten())
    }

    fn session_at(
        &mut self,
        market: u32,
        at: i64,
        known_at: Option<i64>,
    ) -> wasmtime::Result<Result<types::MarketSession, types::MarketError>> {
        self.host_call()?;
        let answer = self.ask(|instance| Ok(instance.session_of(market, at, known_at)?.0))?;
        let answer = answer.unwrap_or(Err(MarketError::UnknownMarket));
        if let Ok(session) = &answer
            && session.until > self.now
        {
            self.handed_until = Some(self.handed_until.map_or(session.until, |until| until.min(session.until)));
        }
        Ok(answer.map(|session| convert::session_back(&session)).map_err(convert::market_error_back))
    }

    fn transitions(
        &mut self,
        market: u32,
        start: i64,
        count: u32,
    ) -> wasmtime::Result<Result<Vec<guest_market::Transition>, types::MarketError>> {
        self.host_call()?;
        let answer = self.ask(|instance| instance.transitions_of(market, start, count))?;
        let answer = answer.unwrap_or(Err(MarketError::UnknownMarket));
        Ok(answer
            .map(|list| list.into_iter().map(convert::transition_back).collect())
            .map_err(convert::market_error_back))
    }

    fn special_days(
        &mut self,
        market: u32,
        start: i64,
        count: u32,
    ) -> wasmtime::Result<Result<Vec<guest_market::SpecialDay>, types::MarketError>> {
        self.host_call()?;
        let answer = self.ask(|instance| instance.special_days_of(market, start, count))?;
        let answer = answer.unwrap_or(Err(MarketError::UnknownMarket));
        Ok(answer
            .map(|list| list.into_iter().map(convert::special_day_back).collect())
            .map_err(convert::market_error_back))
    }

    fn markets(&mut self) -> wasmtime::Result<Vec<guest_market::Market>> {
        self.host_call()?;
        let answer = self.ask(Instance::markets)?;
        Ok(answer.unwrap_or_default().into_iter().map(convert::market_back).collect())
    }
}
