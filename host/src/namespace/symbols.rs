//! The symbol table: which market a symbol belongs to, and the numbers by which named markets are known.

use std::collections::HashSet;

use anyhow::ensure;
use rustc_hash::FxHashMap;

use super::{NAME_BYTES_MAX, SymbolMatch, SymbolRule};

/// The number of a market that a rule or a symbol names. The first is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarketId(u32);

/// Names, each once, and their numbers.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: Vec<String>,
    ids: FxHashMap<String, MarketId>,
}

/// The symbol table, for look-ups.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    exact: FxHashMap<Box<[u8]>, MarketId>,
    /// What exact ones begin with: most parts of keys are no symbols.
    begins: ByteSet,
    suffixes: Affixes,
    prefixes: Affixes,
}

/// Texts that symbols end in, or begin with, and their markets. Looked up by length, since every write asks.
#[derive(Debug, Default)]
struct Affixes {
    markets: FxHashMap<Box<[u8]>, MarketId>,
    /// Their outermost bytes.
    bytes: ByteSet,
    /// Longest first, each once.
    lengths: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct ByteSet([u64; 4]);

const SYMBOLS_MAX: usize = 10_000;

// === impl MarketId ===

impl MarketId {
    /// The number as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

// === impl Names ===

impl Names {
    /// The number of a name, which is given one where it has none.
    pub(super) fn id(&mut self, name: &str) -> anyhow::Result<MarketId> {
        if let Some(id) = self.ids.get(name) {
            return Ok(*id);
        }
        let id = MarketId(u32::try_from(self.names.len())?);
        self.names.push(name.to_owned());
        self.ids.insert(name.to_owned(), id);
        Ok(id)
    }

    pub(super) fn name(&self, id: MarketId) -> Option<&str> {
        self.names.get(id.index()).map(String::as_str)
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

// === impl Symbols ===

impl Symbols {
    pub(super) fn build(lines: Vec<SymbolRule>, markets: &mut Names) -> anyhow::Result<Self> {
        ensure!(lines.len() <= SYMBOLS_MAX, "{} symbols; at most {SYMBOLS_MAX} are allowed", lines.len());
        let mut seen = HashSet::new();
        let mut symbols = Self::default();
        for SymbolRule { match_by, text, market } in lines {
            ensure!(
                (1..=NAME_BYTES_MAX).contains(&text.len()),
                "symbol {text:?} must have 1 to {NAME_BYTES_MAX} bytes"
            );
            ensure!(
                (1..=NAME_BYTES_MAX).contains(&market.len()),
                "market {market:?} of symbol {text:?} must have 1 to {NAME_BYTES_MAX} bytes"
            );
            ensure!(seen.insert((match_by, text.clone())), "symbol {text:?} stands twice in the symbol table");
            let market = markets.id(&market)?;
            match match_by {
                SymbolMatch::Exact => {
                    symbols.begins.insert(text.bytes().next());
                    symbols.exact.insert(text.into_bytes().into(), market);
                }
                SymbolMatch::Suffix => symbols.suffixes.add(text.bytes().last(), text, market),
                SymbolMatch::Prefix => symbols.prefixes.add(text.bytes().next(), text, market),
            }
        }
        Ok(symbols)
    }

    /// The market of a symbol.
    pub(super) fn market(&self, symbol: &[u8]) -> Option<MarketId> {
        let suffix = |length| symbol.get(symbol.len() - length..);
        let prefix = |length| symbol.get(..length);
        let (first, last) = (*symbol.first()?, *symbol.last()?);
        let exact = if self.begins.contains(first) { self.exact.get(symbol).copied() } else { None };
        exact
            .or_else(|| self.suffixes.market(last, symbol, suffix))
            .or_else(|| self.prefixes.market(first, symbol, prefix))
    }

    /// The markets it names.
    pub(super) fn markets(&self) -> impl Iterator<Item = MarketId> {
        let Self { exact, suffixes, prefixes, .. } = self;
        [exact, &suffixes.markets, &prefixes.markets].into_iter().flat_map(|of| of.values().copied())
    }
}

// === impl Affixes ===

impl Affixes {
    fn add(&mut self, byte: Option<u8>, text: String, market: MarketId) {
        self.bytes.insert(byte);
        let length = text.len();
        if let Err(at) = self.lengths.binary_search_by(|known| length.cmp(known)) {
            self.lengths.insert(at, length);
        }
        self.markets.insert(text.into_bytes().into(), market);
    }

    /// The market of the longest text that `cut` takes from the symbol; the symbol itself is longer, and `byte` is its
    /// outermost one on that side.
    fn market<'a>(&self, byte: u8, symbol: &[u8], cut: impl Fn(usize) -> Option<&'a [u8]>) -> Option<MarketId> {
        if !self.bytes.contains(byte) {
            return None;
        }
        let shorter = self.lengths.iter().filter(|length| **length < symbol.len());
        shorter.filter_map(|length| cut(*length)).find_map(|text| self.markets.get(text)).copied()
    }
}

// === impl ByteSet ===

impl ByteSet {
    fn insert(&mut self, byte: Option<u8>) {
        if let Some(byte) = byte
            && let Some(word) = self.0.get_mut(usize::from(byte / 64))
        {
            *word |= 1 << (byte % 64);
        }
    }

    fn contains(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte / 64)).is_some_and(|word| word >> (byte % 64) & 1 == 1)
    }
}
