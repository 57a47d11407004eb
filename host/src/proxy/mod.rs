//! One command's life between the session and the lane: [`Policies::decide`] says what becomes of it, [`Plan::execute`]
//! does it. The only place that asks a policy about a key.

mod access;
mod generation;
pub mod lease;
pub mod lifetime;
mod multi;
pub mod near;
pub mod openings;
mod record;
pub mod restore;
pub mod retime;
mod scripts;
pub mod set;

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use lease::Copies;
use lifetime::Lifetime;
use near::Queued;
use set::{ClientExpiry, ExpiryOptions, Set};

use crate::command::{Command, Data, ExpireForm, KeyUse, Kind, Row};
use crate::config::KeyChoice;
use crate::metrics::{Metrics, Outcome, RuleCounters};
use crate::namespace::{Apply, ClientTtl, Rule, RuleId, ValueCheck};
use crate::near::Touched;
use crate::policy::{Answer, Decider, Question};
use crate::record::Tap;
use crate::resp::write;
use crate::upstream::{Expect, Lane, Outbox};

/// One worker's policies, with what it counts.
pub struct Policies {
    decider: Decider,
    counters: Vec<Arc<RuleCounters>>,
    metrics: Arc<Metrics>,
    /// Where decisions go that somebody wants to see.
    tap: Tap,
    worker: usize,
    unmatched: KeyChoice,
    non_utf8: KeyChoice,
    /// Values of some keys may be served from memory.
    near: bool,
    /// Which rules' keys get a lifetime from scripts too, by their places. Empty: none.
    scripts: Vec<bool>,
    /// How far the sidecar's clock is ahead of the one that clients and the server live by.
    clock_offset_ms: i64,
    /// When a value that is not JSON was last logged.
    not_json_logged_at: Option<i64>,
}

/// What becomes of a command.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// What is sent.
    pub what: What<'a>,
    /// What is done with the reply.
    pub expect: Expect,
    /// Expiries that follow behind it.
    pub follows: Vec<Follow<'a>>,
    /// What it leaves of old values and leases.
    pub copies: Vec<Copies<'a>>,
}

/// What is sent in a command's place.
#[derive(Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// The command as it came.
    AsItCame,
    /// A SET with another lifetime.
    Set(Set<'a>, Lifetime),
    /// Another command.
    Instead(Vec<Cow<'a, [u8]>>),
    /// Nothing: the client is told why.
    Refused(String),
}

/// An expiry behind a write.
#[derive(Debug, PartialEq, Eq)]
pub struct Follow<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its lifetime.
    pub ms: u64,
    /// Only if it has none.
    pub only_new: bool,
}

/// What a key's rule and policy say.
enum Ruling {
    /// No rule, or nothing to do.
    Free,
    /// The rule and the decision.
    Ruled(RuleId, Lifetime),
    Refused(String),
}

/// A key whose lifetime is to be decided.
struct Asked<'a> {
    key: &'a [u8],
    data: Data,
    value_bytes: u64,
    /// The lifetime that the client asked for.
    client: Option<u64>,
    now: i64,
}

/// Longer keys never reach a policy.
const POLICY_KEY_BYTES_MAX: usize = 4096;
const SHOWN_KEY_BYTES_MAX: usize = 128;
const LOG_EVERY_MS: i64 = 1_000;

// === impl Policies ===

impl Policies {
    /// The decisions themselves, for people who ask.
    pub fn decider(&mut self) -> &mut Decider {
        &mut self.decider
    }

    /// Says what becomes of a command with keys.
    pub fn decide<'a>(&mut self, command: &Command<'a>, row: &Row, now: i64) -> Plan<'a> {
        if let Some(refusal) = self.access(command, row) {
            return Plan::refused(refusal);
        }
        if row.kind == Kind::Read {
            return Plan::as_it_came();
        }
        let plan = self.decide_write(command, row, now);
        if self.is_leased() { self.with_copies(plan, command, row, now) } else { plan }
    }

    fn decide_write<'a>(&mut self, command: &Command<'a>, row: &Row, now: i64) -> Plan<'a> {
        match row.kind {
            Kind::Set(form) => match Set::read(form, command, self.server_now(now)) {
                Some(set) => self.decide_set(set, form == crate::command::SetForm::SetNx, now),
                None => self.decide_unread(form, command, now),
            },
            Kind::MultiSet => self.decide_multi_set(command, row, now),
            Kind::MultiSetEx => self.decide_multi_set_ex(command, now),
            Kind::Create(data) | Kind::Block(Some(data)) => self.decide_create(command, row, data, now),
            Kind::Restore => self.decide_restore(command, now),
            Kind::Script if !self.scripts.is_empty() => self.decide_script(command, row, now),
            Kind::Expire(form) => self.decide_expire(command, form, now),
            Kind::Persist => self.decide_persist(command, now),
            Kind::GetEx => self.decide_get_ex(command, now),
            _ => Plan::as_it_came(),
        }
    }

    fn decide_set<'a>(&mut self, set: Set<'a>, set_nx: bool, now: i64) -> Plan<'a> {
        let client = if let ClientExpiry::Ms(ms) = set.expiry { Some(ms) } else { None };
        let (id, lifetime) = match self.rule_value(set.key, set.value, Data::Value, client, now) {
            Ruling::Free => return Plan::as_it_came(),
            Ruling::Refused(refusal) => return Plan::refused(refusal),
            Ruling::Ruled(id, lifetime) => (id, lifetime),
        };
        let lifetime = match set.expiry {
            ClientExpiry::None => lifetime,
            ClientExpiry::Ms(ms) => lifetime.beside(ms, self.client_ttl(id)),
            // The key keeps what it has; one that has nothing is given the decision.
            ClientExpiry::KeepTtl => {
                return match lifetime {
                    Lifetime::Ms(ms) => Plan::as_it_came().then(set.key, ms, true),
                    _ => Plan::as_it_came(),
                };
            }
        };
        match (lifetime, set.expiry) {
            (Lifetime::Keep, _) | (Lifetime::Never, ClientExpiry::None) => Plan::as_it_came(),
            (lifetime, _) => {
                let expect = if set_nx { Expect::SetNx } else { Expect::Forward };
                Plan { what: What::Set(set, lifetime), expect, ..Plan::as_it_came() }
            }
        }
    }

    fn decide_multi_set<'a>(&mut self, command: &Command<'a>, row: &Row, now: i64) -> Plan<'a> {
        let mut plan = Plan::as_it_came();
        // Where it wrote, its keys are new; where it did not, the lifetimes that they have are not touched.
        let all_new = row.name == "msetnx";
        for index in row.keys.iter().flat_map(|keys| keys.positions(command)) {
            let (Some(key), Some(value)) = (command.arg(index), command.arg(index + 1)) else { continue };
            match self.rule_value(key, value, Data::Value, None, now) {
                // All or nothing: one value that does not fit, and none is stored.
                Ruling::Refused(refusal) => return Plan::refused(refusal),
                Ruling::Ruled(id, Lifetime::Ms(ms)) => plan = plan.then(key, ms, all_new || self.only_new(id)),
                Ruling::Ruled(..) | Ruling::Free => {}
            }
        }
        plan
    }

    fn decide_create<'a>(&mut self, command: &Command<'a>, row: &Row, data: Data, now: i64) -> Plan<'a> {
        let mut plan = Plan::as_it_came();
        // An expiry behind it would be for the key of that name in this database.
        if row.name == "copy" && command.rest(3).any(|arg| arg.eq_ignore_ascii_case(b"DB")) {
            return plan;
        }
        let value_bytes = command.bytes.len() as u64;
        let largest = command.rest(2).map(<[u8]>::len).max().unwrap_or(0);
        let set = Rc::clone(self.decider.set());
        for keys in row.keys.iter().filter(|keys| keys.used() == KeyUse::Create) {
            for key in keys.positions(command).filter_map(|index| command.arg(index)) {
                let Some((id, rule)) = set.rules.find(key) else { continue };
                if let Some(refusal) = self.too_large(id, rule, key, largest) {
                    return Plan::refused(refusal);
                }
                match self.ruling(id, rule, &Asked { key, data, value_bytes, client: None, now }) {
                    Ruling::Refused(refusal) => return Plan::refused(refusal),
                    Ruling::Ruled(id, Lifetime::Ms(ms)) => plan = plan.then(key, ms, self.only_new(id)),
                    Ruling::Ruled(..) | Ruling::Free => {}
                }
            }
        }
        plan
    }

    /// EXPIRE and its relatives: under cap and replace the client's span is not the last word.
    fn decide_expire<'a>(&mut self, command: &Command<'a>, form: ExpireForm, now: i64) -> Plan<'a> {
        let (Some(key), Some(text)) = (command.arg(1), command.arg(2)) else { return Plan::as_it_came() };
        // Not a number, or not in the future: the server refuses it, or removes the key.
        let client = set::span_ms(form, text, self.server_now(now));
        let client = client.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
        let Some(client) = client else { return Plan::as_it_came() };
        match self.rule_expiry(key, Some(client), now) {
            Ruling::Refused(refusal) => Plan::refused(refusal),
            Ruling::Free => Plan::as_it_came(),
            Ruling::Ruled(id, lifetime) => match lifetime.beside(client, self.client_ttl(id)) {
                Lifetime::Keep => Plan::as_it_came(),
                // The reply says whether the key is there, as EXPIRE's does.
                Lifetime::Never => Plan::instead(vec![b"EXISTS".into(), key.into()]),
                Lifetime::Ms(ms) => {
                    let mut args: Vec<Cow<'_, [u8]>> = vec![b"PEXPIRE".into(), key.into(), number(ms)];
                    args.extend(command.rest(3).map(Cow::from));
                    Plan::instead(args)
                }
            },
        }
    }

    /// PERSIST: under cap and replace the key gets the decision anew.
    fn decide_persist<'a>(&mut self, command: &Command<'a>, now: i64) -> Plan<'a> {
        let Some(key) = command.arg(1) else { return Plan::as_it_came() };
        match self.rule_expiry(key, None, now) {
            Ruling::Refused(refusal) => Plan::refused(refusal),
            Ruling::Ruled(id, Lifetime::Ms(ms)) if self.client_ttl(id) != ClientTtl::Respect => {
                Plan::as_it_came().then(key, ms, false)
            }
            Ruling::Ruled(..) | Ruling::Free => Plan::as_it_came(),
        }
    }

    fn decide_get_ex<'a>(&mut self, command: &Command<'a>, now: i64) -> Plan<'a> {
        let Some(key) = command.arg(1) else { return Plan::as_it_came() };
        let (mut args, mut asked) = (command.rest(2), ExpiryOptions::None);
        while let Some(option) = args.next() {
            if asked.take(option, || args.next()).is_none() {
                // The server refuses it.
                return Plan::as_it_came();
            }
        }
        let client = match asked {
            ExpiryOptions::Persist => None,
            ExpiryOptions::Span(form, text) => {
                let span = set::span_ms(form, text, self.server_now(now));
                match span.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0) {
                    Some(ms) => Some(ms),
                    None => return Plan::as_it_came(),
                }
            }
            ExpiryOptions::None | ExpiryOptions::Keep => return Plan::as_it_came(),
        };
        match self.rule_expiry(key, client, now) {
            Ruling::Refused(refusal) => Plan::refused(refusal),
            Ruling::Free => Plan::as_it_came(),
            // Without a span of its own the client asks for no end: longer than anything.
            Ruling::Ruled(id, lifetime) => match lifetime.beside(client.unwrap_or(u64::MAX), self.client_ttl(id)) {
                Lifetime::Keep => Plan::as_it_came(),
                Lifetime::Never => Plan::instead(vec![b"GETEX".into(), key.into(), b"PERSIST".into()]),
                Lifetime::Ms(ms) => Plan::instead(vec![b"GETEX".into(), key.into(), b"PX".into(), number(ms)]),
            },
        }
    }

    /// The time at the server, which the instants in clients' commands are of: a shifted clock is the policies' alone.
    fn server_now(&self, now: i64) -> i64 {
        now.saturating_sub(self.clock_offset_ms)
    }

    /// Checks a whole value, and decides about its key.
    fn rule_value(&mut self, key: &[u8], value: &[u8], data: Data, client: Option<u64>, now: i64) -> Ruling {
        let set = Rc::clone(self.decider.set());
        let Some((id, rule)) = set.rules.find(key) else { return Ruling::Free };
        if let Some(refusal) = self.too_large(id, rule, key, value.len()) {
            return Ruling::Refused(refusal);
        }
        if rule.value != ValueCheck::Any && serde_json::from_slice::<serde::de::IgnoredAny>(value).is_err() {
            if rule.value == ValueCheck::JsonRefuse {
                let why = "takes JSON values, and this one is not JSON";
                return Ruling::Refused(self.refuse(id, rule, key, why));
            }
            self.count(id, Outcome::NotJson);
            if self.not_json_logged_at.is_none_or(|at| (now - at).abs() >= LOG_EVERY_MS) {
                self.not_json_logged_at = Some(now);
                tracing::warn!(rule = rule.name, prefix = rule.prefix, "a value is not JSON, and was passed on");
            }
        }
        let asked = Asked { key, data, value_bytes: value.len() as u64, client, now };
        self.ruling(id, rule, &asked)
    }

    /// Decides about a command that is only about a lifetime. One whose rule respects the client's is free.
    fn rule_expiry(&mut self, key: &[u8], client: Option<u64>, now: i64) -> Ruling {
        let set = Rc::clone(self.decider.set());
        let Some((id, rule)) = set.rules.find(key) else { return Ruling::Free };
        self.ruling(id, rule, &Asked { key, data: Data::Expiry, value_bytes: 0, client, now })
    }

    fn ruling(&mut self, id: RuleId, rule: &Rule, asked: &Asked<'_>) -> Ruling {
        let &Asked { key, data, value_bytes, client, now } = asked;
        let about_client = client.is_some() || data == Data::Expiry;
        if about_client && rule.client_ttl == ClientTtl::Respect {
            self.count(id, Outcome::Client);
            return Ruling::Free;
        }
        let Ok(text) = std::str::from_utf8(key) else {
            return match self.non_utf8 {
                KeyChoice::Forward => Ruling::Free,
                KeyChoice::Refuse => {
                    Ruling::Refused(self.refuse(id, rule, key, "takes keys in UTF-8 (non_utf8_keys is \"refuse\")"))
                }
            };
        };
        let answer = if key.len() > POLICY_KEY_BYTES_MAX {
            Answer::Failed { unknown_symbol: false }
        } else {
            let question = Question { rule: id, key: text, command: data, value_bytes, client_ttl: client, now };
            if self.tap.wants() { self.decide_recorded(&question, rule) } else { self.decider.decide(&question) }
        };
        self.count_market(id, answer);
        match answer {
            Answer::NoPolicy => Ruling::Free,
            Answer::Decided { expiry, spread_ms, cost, .. } => {
                if let Some(cost) = cost {
                    self.metrics.calls.count(self.worker, cost);
                }
                self.count(id, if cost.is_some() { Outcome::Decided } else { Outcome::Remembered });
                Ruling::Ruled(id, Lifetime::decided(expiry, spread_ms, key, now))
            }
            Answer::Failed { .. } => match rule.fallback_ttl_ms {
                Some(ms) => {
                    self.count(id, Outcome::Fallback);
                    Ruling::Ruled(id, Lifetime::Ms(ms))
                }
                None => {
                    let why = "could not decide (its policy failed) and has no fallback-ttl-ms";
                    Ruling::Refused(self.refuse(id, rule, key, why))
                }
            },
        }
    }

    fn count(&self, id: RuleId, outcome: Outcome) {
        if let Some(counters) = self.counters.get(id.index()) {
            counters.count(self.worker, outcome);
        }
    }

    /// Counts a symbol that is not known, and hands on what was learned of the market where the policies were asked.
    fn count_market(&mut self, id: RuleId, answer: Answer) {
        let (asked, unknown_symbol) = match answer {
            Answer::NoPolicy => return,
            Answer::Decided { cost, unknown_symbol, .. } => (cost.is_some(), unknown_symbol),
            Answer::Failed { unknown_symbol } => (true, unknown_symbol),
        };
        if unknown_symbol && let Some(counters) = self.counters.get(id.index()) {
            counters.unknown_symbols.add(self.worker, 1);
        }
        if asked {
            self.decider.take_horizons().iter().for_each(|horizon| self.metrics.learn_horizon(horizon));
        }
    }

    fn client_ttl(&self, id: RuleId) -> ClientTtl {
        self.rule(id, ClientTtl::Respect, |rule| rule.client_ttl)
    }

    fn only_new(&self, id: RuleId) -> bool {
        self.rule(id, true, |rule| rule.apply == Apply::OnCreate)
    }

    fn rule<T>(&self, id: RuleId, none: T, look: impl FnOnce(&Rule) -> T) -> T {
        self.decider.set().rules.rules().get(id.index()).map_or(none, look)
    }
}

// === impl Plan ===

impl<'a> Plan<'a> {
    /// The command passes as it came.
    pub fn as_it_came() -> Self {
        Self { what: What::AsItCame, expect: Expect::Forward, follows: Vec::new(), copies: Vec::new() }
    }

    fn instead(args: Vec<Cow<'a, [u8]>>) -> Self {
        Self { what: What::Instead(args), ..Self::as_it_came() }
    }

    fn refused(refusal: String) -> Self {
        Self { what: What::Refused(refusal), ..Self::as_it_came() }
    }

    fn then(mut self, key: &'a [u8], ms: u64, only_new: bool) -> Self {
        self.follows.push(Follow { key, ms, only_new });
        self
    }

    /// Sends what is to be sent. In a transaction the server first says QUEUED to each command, so what is done with
    /// the replies is kept for EXEC. False: it was refused, and the client has been told.
    pub fn execute(
        self,
        command: &Command<'_>,
        lane: &Lane,
        outbox: &Rc<Outbox>,
        mut touched: Touched,
        queued: Option<&mut Queued>,
    ) -> bool {
        if let What::Refused(refusal) = &self.what {
            // Swallowed: the client has asked not to be answered.
            if self.expect != Expect::Swallow {
                let mut reply = Vec::new();
                write::error(&mut reply, refusal);
                lane.answer(outbox, &reply);
            }
            return false;
        }
        let now = match &self.expect {
            Expect::Swallow => Expect::Swallow,
            _ if queued.is_some() => Expect::Forward,
            expect => expect.clone(),
        };
        let later = lease::is_told_later(&self.copies, &now, queued.is_some()).then(Rc::default);
        if let Some(queued) = queued {
            queued.push(self.expect, std::mem::take(&mut touched));
            let behind = self.follows.len() + lease::count(&self.copies);
            queued.expects.extend(std::iter::repeat_n(Expect::Swallow, behind));
        }
        let now = later.clone().map_or(now, Expect::Keep);
        lane.send_write(outbox, now, touched, |out| match &self.what {
            What::AsItCame | What::Refused(_) => out.extend_from_slice(command.bytes),
            What::Set(set, lifetime) => set.write(*lifetime, out),
            What::Instead(args) => {
                write::array(out, args.len());
                args.iter().for_each(|arg| write::bulk(out, arg));
            }
        });
        for follow in &self.follows {
            lane.send(outbox, Expect::Swallow, |out| follow.write(out));
        }
        lease::send(&self.copies, later, lane, outbox);
        true
    }
}

// === impl Follow ===

impl Follow<'_> {
    /// Writes the expiry as a command.
    pub fn write(&self, out: &mut impl write::Sink) {
        write::array(out, if self.only_new { 4 } else { 3 });
        write::bulk(out, b"PEXPIRE");
        write::bulk(out, self.key);
        write::bulk_number(out, self.ms);
        if self.only_new {
            write::bulk(out, b"NX");
        }
    }
}

fn number(value: u64) -> Cow<'static, [u8]> {
    Cow::Owned(value.to_string().into_bytes())
}

/// A key as it may be shown: cut, and printable.
pub fn shown(key: &[u8]) -> String {
    key.get(..SHOWN_KEY_BYTES_MAX.min(key.len())).unwrap_or_default().escape_ascii().to_string()
}
