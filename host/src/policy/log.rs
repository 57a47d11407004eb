//! The lines that policies write: cut, cleaned and counted before they reach the log.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// One line of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How much it matters.
    pub level: tracing::Level,
    /// What it says.
    pub message: String,
}

/// The log of one instance.
#[derive(Debug)]
pub(super) struct PolicyLog {
    policy: String,
    lines_per_second_max: u32,
    /// Lines that may still be written in the second that began at `since`. Of the system's clock: instants that are
    /// asked about come from guests too.
    quota: u32,
    since: Instant,
    left_out: u64,
    /// The last lines, for people who ask for an explanation.
    recent: VecDeque<Line>,
}

const SECOND: Duration = Duration::from_secs(1);
const LINE_BYTES_MAX: usize = 1024;
/// With its time and its fields a line of the log then has less than 2 KB.
const ERROR_BYTES_MAX: usize = 1536;
const RECENT_MAX: usize = 32;

// === impl PolicyLog ===

impl PolicyLog {
    pub(super) fn new(policy: &str, lines_per_second_max: u32) -> Self {
        let policy = policy.to_owned();
        let (quota, recent) = (lines_per_second_max, VecDeque::new());
        Self { policy, lines_per_second_max, quota, since: Instant::now(), left_out: 0, recent }
    }

    /// Begins a call.
    pub(super) fn begin(&mut self) {
        self.recent.clear();
        if self.left_out > 0 {
            self.renew();
        }
    }

    /// A new second has a new quota. Asked only where there are lines: most calls write none, and to ask for the time
    /// takes a part of what they take.
    fn renew(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.since) < SECOND {
            return;
        }
        if self.left_out > 0 {
            tracing::warn!(policy = %self.policy, lines = self.left_out, "policy wrote too many log lines");
        }
        (self.since, self.quota, self.left_out) = (now, self.lines_per_second_max, 0);
    }

    pub(super) fn write(&mut self, level: tracing::Level, message: &str) {
        self.renew();
        if self.quota == 0 {
            self.left_out += 1;
            return;
        }
        self.quota -= 1;
        let message = clean(message, LINE_BYTES_MAX);
        match level {
            tracing::Level::ERROR => tracing::error!(policy = %self.policy, "{message}"),
            tracing::Level::WARN => tracing::warn!(policy = %self.policy, "{message}"),
            tracing::Level::INFO => tracing::info!(policy = %self.policy, "{message}"),
            _ => tracing::debug!(policy = %self.policy, "{message}"),
        }
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Line { level, message });
    }

    /// The lines of the call.
    pub(super) fn recent(&self) -> impl Iterator<Item = &Line> {
        self.recent.iter()
    }
}

/// An error and its causes in one line, as logs are read: wasmtime's and TOML's own messages have several. What is too
/// long is cut, since messages name what a policy gave.
pub fn one_line(error: &anyhow::Error) -> String {
    let line = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
    clean(&line, ERROR_BYTES_MAX)
}

/// A guest's text, cut at `bytes_max` and without control characters: it goes to terminals.
pub(super) fn clean(text: &str, bytes_max: usize) -> String {
    let end = text.floor_char_boundary(bytes_max);
    let text = text.get(..end).unwrap_or_default();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The same, of a text that nobody else has: as nearly every one is, it stays as it is.
pub(super) fn cleaned(text: String, bytes_max: usize) -> String {
    let is_clean = text.len() <= bytes_max && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if is_clean { text } else { clean(&text, bytes_max) }
}
