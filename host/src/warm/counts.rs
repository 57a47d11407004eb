//! Which keys are read most, by rule of warming: counts that last longer than those of `top`, and survive a restart as
//! the text of a small file. Pure: when they are taken and where the text is kept, others know.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::config::warm::{decoded, encoded};

/// The counts of all rules that ask for the busiest keys.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// By the rule's own words, so that a file is of use while the rule says the same.
    tables: BTreeMap<String, Table>,
    /// Something was counted since the text was taken.
    changed: bool,
}

/// The keys of one rule.
#[derive(Debug, Default)]
struct Table {
    /// How many keys are wanted.
    top: usize,
    /// Which session they were counted in last.
    session: i64,
    reads: FxHashMap<Box<[u8]>, f64>,
}

/// So many times the wanted keys are kept: one that comes up must be counted before it is among them.
const KEPT_FOR_EACH: usize = 4;
const KEPT_MIN: usize = 64;
/// What is left of a count when the next session begins.
const FADES: f64 = 0.5;
/// Counts below this are those of sessions long ago.
const LEAST: f64 = 0.01;
const HEAD: &str = "bellwether counts 1";

// === impl Counts ===

impl Counts {
    /// The rules, by their words, and how many keys each wants.
    pub(super) fn new(rules: impl Iterator<Item = (String, usize)>) -> Self {
        let table = |(rule, top)| (rule, Table { top, ..Table::default() });
        Self { tables: rules.map(table).collect(), changed: false }
    }

    /// Whether any rule wants to know.
    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// A key was read so often. When another session has begun for the rule, what was before counts half.
    pub(super) fn note(&mut self, rule: &str, session: i64, key: &[u8], reads: f64) {
        let Some(table) = self.tables.get_mut(rule) else { return };
        if table.session != session {
            table.session = session;
            table.reads.values_mut().for_each(|reads| *reads *= FADES);
            table.reads.retain(|_, reads| *reads >= LEAST);
        }
        *table.reads.entry(key.into()).or_default() += reads;
        table.shrink();
        self.changed = true;
    }

    /// The keys of a rule that were read most, the busiest first.
    pub(super) fn busiest(&self, rule: &str) -> Vec<Vec<u8>> {
        let Some(table) = self.tables.get(rule) else { return Vec::new() };
        table.ordered().into_iter().take(table.top).map(|(key, _)| key.to_vec()).collect()
    }

    /// The text, if it is another than when it was last taken.
    pub(super) fn take_text(&mut self) -> Option<String> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut text = format!("{HEAD}\n");
        for (rule, table) in &self.tables {
            text += &format!("rule {} {}\n", table.session, encoded(rule.as_bytes()));
            for (key, reads) in table.ordered().into_iter().take(table.kept_max()) {
                text += &format!("{reads:.2} {}\n", encoded(key));
            }
        }
        Some(text)
    }

    /// Takes over what a text says of the rules that there are. False: it is no such text, and nothing was taken.
    pub(super) fn take_over(&mut self, text: &str) -> bool {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return false;
        }
        let mut table = None;
        for line in lines {
            let Some((word, rest)) = line.split_once(' ') else { continue };
            if word == "rule" {
                let named = rest.split_once(' ').and_then(|(session, rule)| {
                    let rule = String::from_utf8(decoded(rule)?).ok()?;
                    Some((session.parse().ok()?, self.tables.get_mut(&rule)?))
                });
                table = named.map(|(session, table)| {
                    table.session = session;
                    table
                });
            } else if let (Some(table), Ok(reads), Some(key)) = (table.as_mut(), word.parse::<f64>(), decoded(rest))
                && reads.is_finite()
                && reads > 0.0
            {
                table.reads.insert(key.into(), reads);
                table.shrink();
            }
        }
        true
    }
}

// === impl Table ===

impl Table {
    fn kept_max(&self) -> usize {
        self.top.saturating_mul(KEPT_FOR_EACH).max(KEPT_MIN)
    }

    /// The keys, the busiest first.
    fn ordered(&self) -> Vec<(&[u8], f64)> {
        let mut keys: Vec<_> = self.reads.iter().map(|(key, reads)| (key.as_ref(), *reads)).collect();
        keys.sort_by(|(key, reads), (other, others)| others.total_cmp(reads).then_with(|| key.cmp(other)));
        keys
    }

    /// Forgets the least read keys, where there are twice too many.
    fn shrink(&mut self) {
        let kept_max = self.kept_max();
        if self.reads.len() <= kept_max * 2 {
            return;
        }
        let mut all: Vec<f64> = self.reads.values().copied().collect();
        all.sort_by(|one, other| other.total_cmp(one));
        let least = all.get(kept_max).copied().unwrap_or_default();
        self.reads.retain(|_, reads| *reads > least);
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    fn counts() -> Counts {
        Counts::new([("a*".to_owned(), 2), ("b*".to_owned(), 3)].into_iter())
    }

    fn busiest(counts: &Counts, rule: &str) -> Vec<String> {
        counts.busiest(rule).into_iter().map(|key| key.escape_ascii().to_string()).collect()
    }

    #[test]
    fn the_busiest_survive() {
        let mut counts = counts();
        for (key, reads) in [("one", 1.0), ("two", 5.0), ("three", 2.0), ("one", 3.0)] {
            counts.note("a*", 7, key.as_bytes(), reads);
        }
        counts.note("b*", 7, b"\xff \n", 1.0);
        counts.note("unknown", 7, b"x", 1.0);
        assert_eq!(busiest(&counts, "a*"), ["two", "one"]);
        let text = counts.take_text().unwrap();
        assert_eq!(counts.take_text(), None);
        let mut again = self::counts();
        assert!(again.take_over(&text));
        assert_eq!((busiest(&again, "a*"), busiest(&again, "b*")), (busiest(&counts, "a*"), vec!["\\xff \\n".into()]));
        // A rule that is no more is left out, and so is what is not a count.
        let mut other = Counts::new([("b*".to_owned(), 3)].into_iter());
        assert!(other.take_over(&format!("{text}NaN x\n-1 y\n1 %\nx y\n1\n")));
        assert_eq!(busiest(&other, "b*"), ["\\xff \\n"]);
        assert!(!other.take_over("something else\n1 x\n") && !other.take_over(""));
    }

    #[test]
    fn a_new_session_counts_more() {
        let mut counts = counts();
        counts.note("a*", 1, b"old", 10.0);
        counts.note("a*", 1, b"older", 9.0);
        counts.note("a*", 2, b"new", 6.0);
        assert_eq!(busiest(&counts, "a*"), ["new", "old"]);
        for session in 3..30 {
            counts.note("a*", session, b"new", 1.0);
        }
        assert_eq!(busiest(&counts, "a*"), ["new"]);
    }

    #[test]
    fn they_are_bounded() {
        let mut counts = counts();
        for number in 0..10_000_u32 {
            counts.note("a*", 1, &number.to_be_bytes(), 1.0);
            counts.note("a*", 1, b"busy", 1.0);
        }
        assert_eq!(counts.busiest("a*")[0], b"busy");
        assert!(counts.tables["a*"].reads.len() <= 128 && counts.take_text().unwrap().lines().count() <= 67);
    }
}
