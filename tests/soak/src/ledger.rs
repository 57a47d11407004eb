//! What is known so far: how much was done, what went wrong and was to be expected, and which rules were broken. It
//! must not know what clients do.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::wire::{Connection, Lost};

/// What must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A reply that belongs to another command, or to nobody.
    Swapped,
    /// An acknowledged write that is not there, or a value from before it.
    Lost,
    /// A command that ran twice.
    Twice,
    /// Messages or elements in another order than they were sent in.
    Order,
    /// Somebody who waits for ever.
    Stuck,
    /// An error or a closed connection while nothing was wrong.
    Unasked,
    /// An error that does not say what is known.
    Unknown,
    /// More and more memory.
    Memory,
    /// A process that ended, or a thread that panicked.
    Ended,
}

/// What an error says about its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It did not run.
    NotRun,
    /// Nobody knows.
    InDoubt,
}

/// One client's progress.
pub struct Progress {
    pub name: String,
    /// Rounds in which all was answered and nothing was an error.
    pub good: AtomicU64,
}

/// The ledger of one run.
pub struct Ledger {
    pub begun: Instant,
    pub over: AtomicBool,
    pub clients: Vec<Progress>,
    /// How often something began to be wrong, or ended: odd while it is.
    era: AtomicU64,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    errors: Mutex<BTreeMap<String, u64>>,
    broken: Mutex<Vec<(Rule, String)>>,
}

/// All rules, with their words for the report.
pub const RULES: [(Rule, &str); 9] = [
    (Rule::Swapped, "no reply is another's"),
    (Rule::Lost, "no acknowledged write is lost, and nobody reads what was before it"),
    (Rule::Twice, "no command runs twice"),
    (Rule::Order, "messages keep their order, without gaps"),
    (Rule::Stuck, "nobody waits for ever, and all go on after a fault"),
    (Rule::Unasked, "no error and no closed connection while nothing is wrong"),
    (Rule::Unknown, "an error says what is known"),
    (Rule::Memory, "memory is flat"),
    (Rule::Ended, "nothing crashes"),
];

/// More would tell nothing new.
const BROKEN_MAX: usize = 200;

// === impl Ledger ===

impl Ledger {
    pub fn new(clients: Vec<String>) -> Self {
        let progress = |name| Progress { name, good: AtomicU64::new(0) };
        Self {
            begun: Instant::now(),
            over: AtomicBool::new(false),
            clients: clients.into_iter().map(progress).collect(),
            era: AtomicU64::new(0),
            counts: Mutex::default(),
            errors: Mutex::default(),
            broken: Mutex::default(),
        }
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Milliseconds since the beginning.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap()
    }

    /// Something begins to be wrong, or is well again.
    pub fn trouble(&self, is: bool) {
        let before = self.era.fetch_add(1, Ordering::SeqCst);
        assert_eq!(before % 2 == 1, !is, "troubles do not overlap");
    }

    pub fn era(&self) -> u64 {
        self.era.load(Ordering::SeqCst)
    }

    /// Counts what was done.
    pub fn count(&self, what: &'static str, more: u64) {
        *self.counts.lock().unwrap().entry(what).or_default() += more;
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().unwrap().clone()
    }

    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().unwrap().clone()
    }

    /// A rule is broken.
    pub fn broken(&self, rule: Rule, what: String) {
        let at = self.begun.elapsed().as_secs_f64();
        let line = format!("{at:.3} s: {what}");
        let mut broken = self.broken.lock().unwrap();
        if broken.len() < BROKEN_MAX {
            crate::tell(&format!("BROKEN {rule:?}: {line}"));
            broken.push((rule, line));
        }
    }

    pub fn all_broken(&self) -> Vec<(Rule, String)> {
        self.broken.lock().unwrap().clone()
    }

    /// A connection was lost: that may be while something is wrong, or was since the last reply.
    pub fn lost(&self, who: &str, connection: &Connection, lost: Lost) {
        let now = self.era();
        match lost {
            Lost::Silent => self.broken(Rule::Stuck, format!("{who}: no reply for a minute")),
            Lost::Nonsense => self.broken(Rule::Swapped, format!("{who}: bytes that are no reply")),
            Lost::Closed => *self.errors.lock().unwrap().entry("(connection closed)".to_owned()).or_default() += 1,
        }
        if lost == Lost::Closed && now.is_multiple_of(2) && now == connection.era && !self.is_over() {
            self.broken(Rule::Unasked, format!("{who}: the connection was closed while nothing was wrong"));
        }
    }

    /// An error came: what it says about its command. That may be while something is wrong, or was since the last
    /// reply.
    pub fn error(&self, who: &str, connection: &Connection, error: &str) -> Said {
        let mut kind = String::new();
        for character in error.chars() {
            match character {
                '0'..='9' if kind.ends_with('N') => {}
                '0'..='9' => kind.push('N'),
                other => kind.push(other),
            }
        }
        *self.errors.lock().unwrap().entry(kind).or_default() += 1;
        let now = self.era();
        if now.is_multiple_of(2) && now == connection.era {
            self.broken(Rule::Unasked, format!("{who}: {error:?} while nothing was wrong"));
        }
        let refused = ["OOM ", "LOADING ", "EXECABORT ", "MISCONF ", "NOSCRIPT "];
        if refused.iter().any(|code| error.starts_with(code)) {
            return Said::NotRun;
        }
        let lost = error.starts_with("ERR bellwether lost the server");
        if lost && error.ends_with("; the command was not sent") {
            return Said::NotRun;
        }
        if !lost {
            self.broken(Rule::Unknown, format!("{who}: {error:?}"));
        }
        Said::InDoubt
    }
}
