//! The table: rows by namespace, columns by market phase, each cell a lifetime and why.

use std::borrow::Cow;

use bellwether_sdk::Millis;

/// The name of the row that serves what no other does.
pub(crate) const DEFAULT: &str = "default";

/// All rows, one of them named [`DEFAULT`].
#[derive(Debug)]
pub(crate) struct Rows {
    /// Serves what none of `named` does.
    pub(crate) default: Row,
    pub(crate) named: Vec<Row>,
}

/// How the values of one namespace live.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: Cow<'static, str>,
    /// A lifetime that does not look at the market. The cells are for rows without one.
    pub(crate) fixed: Option<Millis>,
    pub(crate) fixed_reason: Cow<'static, str>,
    pub(crate) open_ttl_ms: Millis,
    pub(crate) open_reason: Cow<'static, str>,
    pub(crate) fallback_ttl_ms: Millis,
    pub(crate) fallback_reason: Cow<'static, str>,
    pub(crate) closing_auction: Cell,
    pub(crate) pause: Cell,
    pub(crate) pre_open: Cell,
    pub(crate) post_close: Cell,
    pub(crate) halted: Cell,
    pub(crate) closed: Cell,
    /// How long before the next regular open a value from the night must be gone.
    pub(crate) lead_ms: Millis,
    /// The longest that a value is held for an opening.
    pub(crate) hold_ms_max: Millis,
    /// Over how long, before the lead, values from the night end.
    pub(crate) spread_ms: Millis,
    /// Over how long values end before a boundary inside a trading day.
    pub(crate) session_spread_ms: Millis,
    /// How long after a close prices are still being corrected.
    pub(crate) settle_ms: Millis,
}

/// One phase of one row.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) lifetime: Lifetime,
    pub(crate) reason: Cow<'static, str>,
}

/// How a cell says how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// So long, and across an opening no longer than while the market is open.
    After(Millis),
    /// As while the market is open.
    AsOpen,
    /// Until the market opens.
    UntilOpen,
}

impl Rows {
    /// The row for a rule: its own, else the longest `:suffix` row, else the longest prefix of its namespace.
    pub(crate) fn serving(&self, rule: &str, namespace: &str) -> &Row {
        let own = self.named.iter().find(|row| row.name == rule);
        let by_suffix = || self.longest(|name| name.starts_with(':') && rule.ends_with(name));
        let by_prefix = || self.longest(|name| namespace.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')));
        own.or_else(by_suffix).or_else(by_prefix).unwrap_or(&self.default)
    }

    fn longest(&self, serves: impl Fn(&str) -> bool) -> Option<&Row> {
        self.named.iter().filter(|row| serves(&row.name)).max_by_key(|row| row.name.len())
    }
}
