//! A candidate beside the generation that decides: which decisions were put to it, which of them it decides otherwise,
//! and how it ended. What is kept of them is bounded in number and length. Where decisions come from, and which thread
//! compares them, is [`crate::reload`]'s.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::gate::{Gate, Verdict as GateVerdict};
use crate::namespace::{Rule, RuleId};
use crate::policy::PolicySet;
use crate::record::{Candidate, Record, Verdict};

/// One comparison, for the thread that makes it and for those who ask how it goes.
#[derive(Debug)]
pub struct Shadow {
    /// The candidate.
    pub generation: u64,
    /// The generation that decides.
    pub beside: u64,
    /// When it is over, and what the candidate must keep to.
    pub gate: Gate,
    /// What differs of the rules themselves, and what decisions cannot show.
    pub remarks: Vec<String>,
    found: Mutex<Found>,
    stopped: AtomicBool,
}

/// What was found so far.
#[derive(Clone, Debug)]
pub struct Found {
    /// Decisions that were put to the candidate.
    pub compared: u64,
    /// Those that it decides otherwise.
    pub differing: u64,
    /// Those that there was no room for.
    pub dropped: u64,
    /// One of so many decisions is compared.
    pub one_of: u32,
    /// For how long it has been compared.
    pub elapsed: Duration,
    /// By the rule that is in force: compared and differing.
    pub rules: BTreeMap<String, (u64, u64)>,
    /// Keys that are decided otherwise, those found first.
    pub sample: Vec<Difference>,
    /// Differing decisions about keys that there was no room for in the sample.
    pub unlisted: u64,
    /// How it ended.
    pub ended: Option<String>,
    verdict: Option<GateVerdict>,
}

/// The first decision about a key that differs, and how many do.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The key's first characters.
    pub key: String,
    /// Differing decisions about such keys.
    pub times: u64,
    /// The policies' clock then.
    pub now: i64,
    /// What applied.
    pub active: Side,
    /// What the candidate would have done.
    pub candidate: Side,
}

/// One of two answers.
#[derive(Clone, Debug)]
pub struct Side {
    /// The rule. None: none covers the key.
    pub rule: Option<String>,
    /// What it means for the key.
    pub verdict: Verdict,
    /// The policy's reason, or why it failed; and what else differs.
    pub why: String,
}

/// The two policy sets of a comparison. Of one thread.
pub struct Comparison {
    shadow: Arc<Shadow>,
    /// Asked for reasons alone: what was decided was recorded.
    active: Candidate,
    candidate: Candidate,
    /// In which fields two rules differ, and how in words.
    changed: HashMap<(RuleId, RuleId), Vec<(&'static Field, String)>>,
}

/// A field of a rule, for people, and whether a decision about a key is another where it differs.
struct Field {
    name: &'static str,
    shown: fn(&Rule) -> String,
    matters: fn(&Record, Verdict, Verdict) -> bool,
}

/// Keys in the sample.
const SAMPLE_MAX: usize = 100;
/// Characters of a key that are shown: the rest may be a secret's.
const KEY_CHARS: usize = 64;
/// Rules that are counted, and remarks about them.
const RULES_MAX: usize = 1000;
const REMARKS_MAX: usize = 50;

static FIELDS: [Field; 14] = [
    Field { name: "ttl_policy", shown: |rule| rule.ttl_policy.clone().unwrap_or_else(|| "none".into()), matters: no },
    Field { name: "market", shown: |rule| format!("{:?}", rule.market), matters: no },
    Field { name: "value", shown: |rule| format!("{:?}", rule.value), matters: yes },
    Field { name: "value_bytes_max", shown: |rule| number(rule.value_bytes_max), matters: yes },
    Field { name: "access", shown: |rule| format!("{:?}", rule.access), matters: yes },
    Field { name: "apply", shown: |rule| format!("{:?}", rule.apply), matters: yes },
    Field {
        name: "client_ttl",
        shown: |rule| format!("{:?}", rule.client_ttl),
        matters: |record, _, _| record.client_ttl.is_some(),
    },
    Field {
        name: "fallback_ttl_ms",
        shown: |rule| number(rule.fallback_ttl_ms),
        matters: |_, old, new| (old, new) == (Verdict::Failed, Verdict::Failed),
    },
    Field { name: "near_ms", shown: |rule| number(rule.near_ms), matters: no },
    Field { name: "stale_ms", shown: |rule| number(rule.stale_ms), matters: no },
    Field { name: "lease_ms", shown: |rule| number(rule.lease_ms), matters: no },
    Field { name: "lease_wait_ms", shown: |rule| number(rule.lease_wait_ms), matters: no },
    Field {
        name: "refresh_ahead_percent",
        shown: |rule| number(rule.refresh_ahead_percent.map(u64::from)),
        matters: no,
    },
    Field { name: "fail_safe_ms", shown: |rule| number(rule.fail_safe_ms), matters: no },
];

fn yes(_: &Record, _: Verdict, _: Verdict) -> bool {
    true
}

fn no(_: &Record, _: Verdict, _: Verdict) -> bool {
    false
}

// === impl Shadow ===

impl Shadow {
    /// Nothing compared yet.
    pub fn new(candidate: &PolicySet, active: &PolicySet, gate: Gate) -> Self {
        Self {
            generation: candidate.generation,
            beside: active.generation,
            gate,
            remarks: remarks(active.rules.rules(), candidate.rules.rules()),
            found: Mutex::new(Found::default()),
            stopped: AtomicBool::new(false),
        }
    }

    /// What was found so far.
    pub fn found(&self) -> Found {
        self.lock().clone()
    }

    /// One of so many decisions is compared from now on, and so many more were dropped.
    pub fn sampled(&self, one_of: u32, dropped: u64) {
        let mut found = self.lock();
        found.one_of = one_of;
        found.dropped += dropped;
    }

    /// It has been compared for so long: whether to go on.
    pub fn goes_on(&self, elapsed: Duration) -> bool {
        let mut found = self.lock();
        found.elapsed = elapsed;
        let verdict = self.gate.verdict(elapsed, found.compared, found.differing);
        found.verdict = Some(verdict).filter(|verdict| *verdict != GateVerdict::Wait);
        found.verdict.is_none() && !self.stopped.load(Ordering::Relaxed)
    }

    /// What the gate says, once it says something and as long as nobody has ended it.
    pub fn verdict(&self) -> Option<GateVerdict> {
        let found = self.lock();
        if found.ended.is_some() { None } else { found.verdict.clone() }
    }

    /// It is over, and how.
    pub fn end(&self, said: String) {
        self.stopped.store(true, Ordering::Relaxed);
        self.lock().ended = Some(said);
    }

    /// How many decisions differ, in words.
    pub fn in_words(&self) -> String {
        let found = self.lock();
        format!("{} of {} decisions differ", found.differing, found.compared)
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Found ===

impl Default for Found {
    fn default() -> Self {
        Self {
            compared: 0,
            differing: 0,
            dropped: 0,
            one_of: 1,
            elapsed: Duration::ZERO,
            rules: BTreeMap::new(),
            sample: Vec::new(),
            unlisted: 0,
            ended: None,
            verdict: None,
        }
    }
}

// === impl Comparison ===

impl Comparison {
    /// Of the generation that decides and of the candidate.
    pub fn new(shadow: Arc<Shadow>, active: Arc<PolicySet>, candidate: Arc<PolicySet>) -> Self {
        let (active, candidate) = (Candidate::new(active), Candidate::new(candidate));
        Self { shadow, active, candidate, changed: HashMap::new() }
    }

    /// Puts a recorded decision to the candidate.
    pub fn take(&mut self, record: &Record) {
        // A decision of the generation before, which was on its way.
        if record.generation != self.shadow.beside {
            return;
        }
        let (old, new) = (record.verdict(), self.candidate.ask(record));
        let changed = self.changed(record, old, new);
        let differs = changed.is_some() || !old.agrees(new, record.now);
        let mut found = self.shadow.lock();
        found.compared += 1;
        found.differing += u64::from(differs);
        let room = found.rules.len() < RULES_MAX || found.rules.contains_key(&record.rule);
        let rule = if room { record.rule.as_str() } else { "others" };
        if !found.rules.contains_key(rule) {
            found.rules.insert(rule.to_owned(), (0, 0));
        }
        if let Some((compared, differing)) = found.rules.get_mut(rule) {
            *compared += 1;
            *differing += u64::from(differs);
        }
        if !differs {
            return;
        }
        let key: String = record.key.chars().take(KEY_CHARS).collect();
        if let Some(known) = found.sample.iter_mut().find(|known| known.key == key) {
            known.times += 1;
        } else if found.sample.len() >= SAMPLE_MAX {
            found.unlisted += 1;
        } else {
            drop(found);
            let difference = self.difference(record, key, (old, new), changed);
            self.shadow.lock().sample.push(difference);
        }
    }

    fn difference(
        &mut self,
        record: &Record,
        key: String,
        verdicts: (Verdict, Verdict),
        changed: Option<String>,
    ) -> Difference {
        let rule = self.candidate.set().rules.find(record.key.as_bytes()).map(|(_, rule)| rule.name.clone());
        // Of a decision that was remembered the reason was not recorded.
        let why = if record.why().is_empty() { self.active.why(record) } else { record.why().to_owned() };
        let new_why = [Some(self.candidate.why(record)), changed];
        let new_why = new_why.into_iter().flatten().filter(|why| !why.is_empty()).collect::<Vec<_>>().join("; ");
        let active = Side { rule: Some(record.rule.clone()), verdict: verdicts.0, why };
        let candidate = Side { rule, verdict: verdicts.1, why: new_why };
        Difference { key, times: 1, now: record.now, active, candidate }
    }

    /// What a rule says otherwise about a key that is decided the same.
    fn changed(&mut self, record: &Record, old: Verdict, new: Verdict) -> Option<String> {
        let key = record.key.as_bytes();
        let (before, after) = (self.active.set().rules.find(key)?, self.candidate.set().rules.find(key)?);
        let changed = self.changed.entry((before.0, after.0)).or_insert_with(|| fields(before.1, after.1));
        let matters = changed.iter().filter(|(field, _)| (field.matters)(record, old, new));
        let words: Vec<_> = matters.map(|(_, words)| words.as_str()).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// The fields in which two rules differ, in words.
fn fields(old: &Rule, new: &Rule) -> Vec<(&'static Field, String)> {
    let differ = |field: &'static Field| {
        let (old, new) = ((field.shown)(old), (field.shown)(new));
        (old != new).then(|| (field, format!("{} is {new}, not {old}", field.name)))
    };
    FIELDS.iter().filter_map(differ).collect()
}

/// What differs of the rules themselves.
fn remarks(old: &[Rule], new: &[Rule]) -> Vec<String> {
    let find = |rules: &[Rule], name: &str| rules.iter().find(|rule| rule.name == name).cloned();
    let one = |rule: &Rule| match find(old, &rule.name) {
        None => Some(format!(
            "rule {:?} is new; what it decides about keys that no policy decides about now is not compared",
            rule.name
        )),
        Some(before) => {
            let mut changed: Vec<_> = fields(&before, rule).into_iter().map(|(_, words)| words).collect();
            if (&before.prefix, &before.suffix) != (&rule.prefix, &rule.suffix) {
                changed.push("it covers other keys".to_owned());
            }
            (!changed.is_empty()).then(|| format!("rule {:?}: {}", rule.name, changed.join("; ")))
        }
    };
    let gone = |rule: &Rule| find(new, &rule.name).is_none().then(|| format!("rule {:?} is gone", rule.name));
    new.iter().filter_map(one).chain(old.iter().filter_map(gone)).take(REMARKS_MAX).collect()
}

fn number(of: Option<u64>) -> String {
    of.map_or_else(|| "none".to_owned(), |of| of.to_string())
}
