//! Where a command's keys stand among its arguments. Every step is bounded by the number of arguments.

use super::Command;

/// One place where keys stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// One argument.
    At {
        /// Its position.
        index: usize,
        /// What becomes of it.
        used: KeyUse,
    },
    /// A run of arguments.
    Range {
        /// Where it begins.
        first: Begin,
        /// Its last argument, counted from the first; negative: from the end of the command.
        last: i64,
        /// From one key to the next.
        step: usize,
        /// Only the first 1/`part` of the run.
        part: usize,
        /// What becomes of them.
        used: KeyUse,
    },
    /// As many as an argument says.
    Counted {
        /// What the others count from.
        from: usize,
        /// The number of keys, from there.
        count: usize,
        /// The first key, from there.
        first: usize,
        /// From one key to the next.
        step: usize,
        /// What becomes of them.
        used: KeyUse,
    },
}

/// Where a run begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At a position.
    At(usize),
    /// Behind a word, looked for from a position on; negative: from the end backwards.
    Behind(String, i64),
}

/// What a command does to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// Reads it.
    Read,
    /// Changes or removes it.
    Change,
    /// Can create it.
    Create,
}

// === impl Keys ===

impl Keys {
    /// Reads one place as `table.txt` writes it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (text, used) = match text.as_bytes().last()? {
            b'+' => (text.get(..text.len() - 1)?, KeyUse::Create),
            b'!' => (text.get(..text.len() - 1)?, KeyUse::Change),
            _ => (text, KeyUse::Read),
        };
        if let Some((from, rest)) = text.split_once('#') {
            let mut numbers = rest.split(',').map(|number| number.parse().ok());
            let (count, first, step) = (numbers.next()??, numbers.next()??, numbers.next()??);
            return Some(Self::Counted { from: from.parse().ok()?, count, first, step, used });
        }
        let (text, part) = text.split_once('%').map_or(Some((text, 1)), |(a, b)| Some((a, b.parse().ok()?)))?;
        let (text, step) = text.split_once('/').map_or(Some((text, 1)), |(a, b)| Some((a, b.parse().ok()?)))?;
        let (text, last) = text.split_once("..").map_or(Some((text, 0)), |(a, b)| Some((a, b.parse().ok()?)))?;
        let first = match text.split_once('@') {
            Some((word, from)) => Begin::Behind(word.into(), from.parse().ok()?),
            None if last == 0 => return Some(Self::At { index: text.parse().ok()?, used }),
            None => Begin::At(text.parse().ok()?),
        };
        Some(Self::Range { first, last, step, part, used })
    }

    /// What the command does to the keys here.
    pub fn used(&self) -> KeyUse {
        match self {
            Self::At { used, .. } | Self::Range { used, .. } | Self::Counted { used, .. } => *used,
        }
    }

    /// The positions of the keys that stand here.
    pub fn positions(&self, command: &Command<'_>) -> std::iter::StepBy<std::ops::Range<usize>> {
        let count = command.args.len();
        let (range, step) = match self {
            Self::At { index, .. } => (*index..(index + 1).min(count), 1),
            Self::Range { first, last, step, part, .. } => (first.run(command, *last, *part), *step),
            Self::Counted { from, count: counter, first, step, .. } => {
                let number = command.arg(from + counter).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
                let first = from + first;
                let end = first.saturating_add(number.unwrap_or(0_usize).saturating_mul(*step));
                (first..end.min(count), *step)
            }
        };
        range.step_by(step.max(1))
    }
}

// === impl Begin ===

impl Begin {
    fn run(&self, command: &Command<'_>, last: i64, part: usize) -> std::ops::Range<usize> {
        let count = command.args.len();
        let Some(first) = self.position(command) else { return 0..0 };
        let end = match usize::try_from(last) {
            Ok(last) => first + last + 1,
            Err(_) => count.saturating_sub(usize::try_from(-last - 1).unwrap_or(count)),
        };
        let length = end.min(count).saturating_sub(first);
        first..first + length.div_ceil(part.max(1))
    }

    fn position(&self, command: &Command<'_>) -> Option<usize> {
        let (word, from) = match self {
            Self::At(index) => return Some(*index),
            Self::Behind(word, from) => (word, *from),
        };
        let is_word = |index: &usize| command.arg(*index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
        let count = command.args.len();
        let found = match usize::try_from(from) {
            Ok(from) => (from..count).find(is_word),
            Err(_) => {
                let from = count.saturating_sub(usize::try_from(-from - 1).unwrap_or(count));
                (1..from).rev().find(is_word)
            }
        };
        found.map(|index| index + 1)
    }
}

#[cfg(test)]
mod tests {
    use crate::command::{Command, Keys, Table};
    use crate::resp::request::{Limits, Scanned, Scanner};

    /// The keys of a command that a person typed, with what becomes of each.
    fn check(line: &str, expect: &str) {
        let limits = Limits { args_max: 32, bulk_bytes_max: 1024, command_bytes_max: 4096 };
        let mut scanner = Scanner::new(limits);
        let Ok(Scanned::Inline(_, bytes)) = scanner.scan(format!("{line}\r\n").as_bytes()) else { panic!("{line}") };
        scanner.scan(&bytes).unwrap();
        let command = Command { bytes: &bytes, args: scanner.args() };
        let row = command.row(Table::newest()).unwrap_or_else(|| panic!("{line}: no row"));
        let mut found = Vec::new();
        for keys in &row.keys {
            let of = |index| String::from_utf8_lossy(command.arg(index).unwrap()).into_owned();
            found.extend(keys.positions(&command).map(|index| format!("{}{}", of(index), sign(keys))));
        }
        assert_eq!(found.join(" "), expect, "{line}");
    }

    fn sign(keys: &Keys) -> &'static str {
        match keys.used() {
            super::KeyUse::Read => "",
            super::KeyUse::Change => "!",
            super::KeyUse::Create => "+",
        }
    }

    #[test]
    fn keys_of_commands() {
        check("GET a", "a");
        check("set a 1 EX 5", "a+");
        check("MGET a b c", "a b c");
        check("MSET a 1 b 2", "a+ b+");
        check("MSET a 1 b", "a+ b+");
        check("BLPOP a b 0", "a! b!");
        check("LMOVE a b LEFT RIGHT", "a! b+");
        check("EVAL script 2 a b x", "a! b!");
        check("EVAL script 9 a b", "a! b!");
        check("EVAL script x a b", "");
        check("ZUNIONSTORE d 2 a b WEIGHTS 1 2", "d+ a b");
        check("XREAD COUNT 2 STREAMS a b 0 0", "a b");
        check("XREAD COUNT 2", "");
        check("SORT a BY x STORE d", "a d+");
        check("SORT a BY store STORE d", "a d+");
        check("SORT a STORE d BY store", "a d+");
        check("SORT a BY store", "a");
        check("GEORADIUS a 1 2 3 km STORE d", "a d+");
        check("LCS a b", "a b");
        check("BITOP AND d a b", "d+ a b");
        check("OBJECT ENCODING a", "a");
        check("XGROUP CREATE a g $ MKSTREAM", "a+");
        check("MIGRATE h 1 \"\" 0 5 KEYS a b", "! a! b!");
        check("MSETEX 2 a 1 b 2 EX 5", "a+ b+");
        check("MSETEX 9 a 1 b", "a+ b+");
        check("PING", "");
        check("SSUBSCRIBE a", "");
    }
}
