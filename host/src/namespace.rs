//! The rule table: which rule a key is under and which market it belongs to. Pure data and look-ups; where the rules
//! come from is not known here.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::{bail, ensure};
use rustc_hash::FxHashMap;

mod symbols;

pub use symbols::MarketId;
use symbols::{Names, Symbols};

/// One rule, checked. The fields mean what the contract's `rule` says.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the contract documents every field")]
pub struct Rule {
    pub name: String,
    pub prefix: String,
    pub suffix: String,
    pub ttl_policy: Option<String>,
    pub market: MarketSource,
    pub value: ValueCheck,
    pub value_bytes_max: Option<u64>,
    pub access: Access,
    pub apply: Apply,
    pub client_ttl: ClientTtl,
    pub fallback_ttl_ms: Option<u64>,
    pub near_ms: Option<u64>,
    pub stale_ms: Option<u64>,
    pub lease_ms: Option<u64>,
    pub lease_wait_ms: Option<u64>,
    pub refresh_ahead_percent: Option<u8>,
    pub fail_safe_ms: Option<u64>,
}

/// Which market a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarketSource {
    /// None.
    None,
    /// Always this one.
    Fixed(String),
    /// The one a part of the key names.
    KeyPart(usize),
    /// The one of a symbol in the key.
    Symbol {
        /// The part it stands in; none: the first that the symbol table knows.
        part: Option<usize>,
        /// For keys whose symbol is missing or unknown.
        default: Option<String>,
    },
}

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueCheck {
    /// Anything.
    Any,
    /// JSON; anything else is counted and stored.
    JsonWarn,
    /// JSON; anything else is refused.
    JsonRefuse,
}

/// What clients may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    ReadWrite,
    /// Commands that write are refused.
    ReadOnly,
    /// Every command is refused.
    Denied,
}

/// When a write without a lifetime of its own is given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// When the key has none yet.
    OnCreate,
    /// Every time.
    EveryWrite,
}

/// What becomes of the client's own lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTtl {
    /// It stands.
    Respect,
    /// The shorter stands.
    Cap,
    /// The decision stands.
    Replace,
}

/// The market of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyMarket<'a> {
    /// Its name. None: the key has no market.
    pub name: Option<&'a str>,
    /// Its number, where a rule or the symbol table names it and not the key itself.
    pub id: Option<MarketId>,
    /// The rule takes the market from a symbol, and the symbol is missing or not one that the symbol table knows.
    pub unknown_symbol: bool,
}

/// One line of the symbol table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolRule {
    /// How the text is compared.
    pub match_by: SymbolMatch,
    /// The text.
    pub text: String,
    /// The market of symbols that match.
    pub market: String,
}

/// How a symbol is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SymbolMatch {
    /// It is the text.
    Exact,
    /// It ends in the text.
    Suffix,
    /// It begins with the text.
    Prefix,
}

/// A rule's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u16);

/// All rules of a generation, for look-ups.
#[derive(Debug, Default)]
pub struct RuleTable {
    rules: Vec<Rule>,
    /// The rules of each prefix, the longest suffix first.
    by_prefix: FxHashMap<Box<[u8]>, Vec<Ending>>,
    prefix_bytes_max: usize,
    /// How long prefixes are, a bit for each length: most pieces of a key end where no prefix does.
    prefix_lengths: [u64; PREFIX_BYTES_MAX / LENGTHS_A_WORD + 1],
    symbols: Symbols,
    /// The markets that rules and symbols name, each once.
    markets: Names,
    /// Of each rule, the number of the market it names.
    named: Vec<Option<MarketId>>,
    restricted: bool,
    near: bool,
    leased: bool,
    ahead: bool,
}

/// How keys of a rule end. Its last bytes are compared as one number, since every key that is looked up is compared
/// with every suffix of its prefix.
#[derive(Clone, Copy, Debug)]
struct Ending {
    id: RuleId,
    /// The last bytes of the suffix, and which bits of a key's count.
    last: u64,
    mask: u64,
    /// Bytes of the suffix.
    length: usize,
}

/// Limits of the contract.
const RULES_MAX: usize = 10_000;
const NAME_BYTES_MAX: usize = 64;
const PREFIX_BYTES_MAX: usize = 512;
const SUFFIX_BYTES_MAX: usize = 128;
const LENGTHS_A_WORD: usize = u64::BITS as usize;
/// Bytes of a key's end that are compared at once.
const LAST_BYTES: usize = 8;
/// Old values and leases are kept under such names.
const RESERVED_PREFIX: &str = "bw:";

// === impl MarketSource ===

impl MarketSource {
    /// The market that is named for all keys, or for those whose symbol says nothing.
    fn named(&self) -> Option<&str> {
        match self {
            Self::Fixed(market) | Self::Symbol { default: Some(market), .. } => Some(market),
            Self::None | Self::KeyPart(_) | Self::Symbol { default: None, .. } => None,
        }
    }
}

// === impl Apply ===

impl Apply {
    /// The contract's word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::OnCreate => "on-create",
            Self::EveryWrite => "every-write",
        }
    }
}

// === impl ClientTtl ===

impl ClientTtl {
    /// The contract's word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Respect => "respect",
            Self::Cap => "cap",
            Self::Replace => "replace",
        }
    }
}

// === impl RuleTable ===

impl RuleTable {
    /// Checks the rules and builds the table.
    ///
    /// # Errors
    /// A rule is not as the contract says; the message names it.
    pub fn build(rules: Vec<Rule>, symbols: Vec<SymbolRule>) -> anyhow::Result<Self> {
        ensure!(rules.len() <= RULES_MAX, "{} rules; at most {RULES_MAX} are allowed", rules.len());
        let mut names = HashSet::new();
        let mut table = Self::default();
        table.symbols = Symbols::build(symbols, &mut table.markets)?;
        for (index, rule) in rules.iter().enumerate() {
            check_rule(rule)?;
            ensure!(names.insert(rule.name.as_str()), "two rules are called {:?}", rule.name);
            table.prefix_bytes_max = table.prefix_bytes_max.max(rule.prefix.len());
            if let Some(lengths) = table.prefix_lengths.get_mut(rule.prefix.len() / LENGTHS_A_WORD) {
                *lengths |= 1 << (rule.prefix.len() % LENGTHS_A_WORD);
            }
            table.restricted |= rule.access != Access::ReadWrite;
            table.near |= rule.near_ms.is_some();
            table.leased |= rule.lease_ms.is_some();
            table.ahead |= rule.refresh_ahead_percent.is_some();
            let named = rule.market.named().map(|market| table.markets.id(market)).transpose()?;
            table.named.push(named);
            let id = RuleId(u16::try_from(index)?);
            let same = table.by_prefix.entry(rule.prefix.as_bytes().into()).or_default();
            for other in same.iter().filter_map(|ending| rules.get(ending.id.index())) {
                if other.suffix == rule.suffix {
                    bail!(
                        "rules {:?} and {:?} have the same prefix {:?} and suffix {:?}",
                        other.name,
                        rule.name,
                        rule.prefix,
                        rule.suffix
                    );
                }
            }
            same.push(Ending::new(id, rule.suffix.as_bytes()));
        }
        for same in table.by_prefix.values_mut() {
            same.sort_by_key(|ending| std::cmp::Reverse(ending.length));
        }
        table.rules = rules;
        Ok(table)
    }

    /// All rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// All rules with their places.
    pub fn ids(&self) -> impl Iterator<Item = (RuleId, &Rule)> {
        self.rules.iter().enumerate().filter_map(|(index, rule)| Some((RuleId(u16::try_from(index).ok()?), rule)))
    }

    /// Whether any rule denies something, so that reads have to be looked at.
    pub fn is_restricted(&self) -> bool {
        self.restricted
    }

    /// Whether any rule lets values be served from memory.
    pub fn is_near(&self) -> bool {
        self.near
    }

    /// Whether any rule has leases.
    pub fn is_leased(&self) -> bool {
        self.leased
    }

    /// Whether any rule has values recomputed ahead of their end.
    pub fn is_ahead(&self) -> bool {
        self.ahead
    }

    /// The rule a key is under: the longest prefix, then the longest suffix.
    pub fn find(&self, key: &[u8]) -> Option<(RuleId, &Rule)> {
        let head = key.get(..self.prefix_bytes_max.min(key.len()))?;
        let last = last_bytes(key);
        for colon in memchr::memrchr_iter(b':', head) {
            if !self.has_prefix_of(colon + 1) {
                continue;
            }
            let Some(same) = self.by_prefix.get(head.get(..=colon)?) else { continue };
            let rest = key.len() - colon - 1;
            for ending in same.iter().filter(|ending| ending.may_end(last, rest)) {
                let rule = self.rules.get(ending.id.index())?;
                if ending.length <= LAST_BYTES || key.ends_with(rule.suffix.as_bytes()) {
                    return Some((ending.id, rule));
                }
            }
        }
        None
    }

    fn has_prefix_of(&self, bytes: usize) -> bool {
        let lengths = self.prefix_lengths.get(bytes / LENGTHS_A_WORD);
        lengths.is_some_and(|lengths| lengths >> (bytes % LENGTHS_A_WORD) & 1 != 0)
    }

    /// The market of a key under a rule.
    pub fn market<'a>(&'a self, id: RuleId, key: &'a str) -> KeyMarket<'a> {
        let (Some(rule), Some(named)) = (self.rules.get(id.index()), self.named.get(id.index())) else {
            return KeyMarket::default();
        };
        let inner = key.get(rule.prefix.len()..key.len() - rule.suffix.len()).unwrap_or_default();
        // Of bytes: `str::split` by a character is slower, and every write comes here.
        let mut parts = inner.as_bytes().split(|byte| *byte == b':');
        let known = match &rule.market {
            MarketSource::None => return KeyMarket::default(),
            MarketSource::Fixed(_) => return self.named_market(*named, false),
            MarketSource::KeyPart(part) => {
                let name = inner.split(':').nth(*part).filter(|market| !market.is_empty());
                return KeyMarket { name, ..KeyMarket::default() };
            }
            MarketSource::Symbol { part: Some(part), .. } => {
                parts.nth(*part).and_then(|symbol| self.symbols.market(symbol))
            }
            MarketSource::Symbol { part: None, .. } => parts.find_map(|symbol| self.symbols.market(symbol)),
        };
        self.named_market(known.or(*named), known.is_none())
    }

    fn named_market(&self, id: Option<MarketId>, unknown_symbol: bool) -> KeyMarket<'_> {
        KeyMarket { name: id.and_then(|id| self.markets.name(id)), id, unknown_symbol }
    }

    /// How many markets rules and symbols name; their numbers are the first so many.
    pub fn markets_len(&self) -> usize {
        self.markets.len()
    }

    /// The markets that rules name, fixed or by default, and which rules those are.
    pub fn markets_of_rules(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut markets = BTreeMap::<_, Vec<_>>::new();
        for rule in &self.rules {
            if let Some(market) = rule.market.named() {
                markets.entry(market).or_default().push(rule.name.as_str());
            }
        }
        markets
    }

    /// The markets that the symbol table names.
    pub fn markets_of_symbols(&self) -> BTreeSet<&str> {
        self.symbols.markets().filter_map(|id| self.markets.name(id)).collect()
    }
}

// === impl RuleId ===

impl RuleId {
    /// The place as an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

// === impl Ending ===

impl Ending {
    fn new(id: RuleId, suffix: &[u8]) -> Self {
        let length = suffix.len();
        let mask = if length >= LAST_BYTES { u64::MAX } else { (1 << (8 * length)) - 1 };
        Self { id, last: last_bytes(suffix), mask, length }
    }

    /// Whether a key with these last bytes, so many behind the prefix, may end like that. One with a suffix that fits
    /// into the number does.
    fn may_end(&self, last: u64, rest: usize) -> bool {
        last & self.mask == self.last && rest >= self.length
    }
}

/// The last eight bytes as a number; of fewer, those that there are.
fn last_bytes(bytes: &[u8]) -> u64 {
    match bytes.last_chunk::<LAST_BYTES>() {
        Some(last) => u64::from_be_bytes(*last),
        None => bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)),
    }
}

fn check_rule(rule: &Rule) -> anyhow::Result<()> {
    let name = &rule.name;
    ensure!(
        (1..=NAME_BYTES_MAX).contains(&name.len()),
        "a rule's name must have 1 to {NAME_BYTES_MAX} bytes: {name:?}"
    );
    ensure!(
        rule.prefix.ends_with(':') && rule.prefix.len() <= PREFIX_BYTES_MAX,
        "rule {name:?}: the prefix {:?} must end in ':' and have at most {PREFIX_BYTES_MAX} bytes",
        rule.prefix
    );
    ensure!(
        rule.suffix.is_empty() || (rule.suffix.starts_with(':') && rule.suffix.len() <= SUFFIX_BYTES_MAX),
        "rule {name:?}: the suffix {:?} must begin with ':' and have at most {SUFFIX_BYTES_MAX} bytes",
        rule.suffix
    );
    ensure!(
        rule.refresh_ahead_percent.is_none_or(|percent| (1..=99).contains(&percent)),
        "rule {name:?}: refresh-ahead-percent must be 1 to 99"
    );
    ensure!(
        !rule.prefix.starts_with(RESERVED_PREFIX),
        "rule {name:?}: the prefix {RESERVED_PREFIX:?} is bellwether's own"
    );
    for (field, value) in [("stale-ms", rule.stale_ms), ("lease-wait-ms", rule.lease_wait_ms)] {
        ensure!(
            value.is_none() || rule.lease_ms.is_some(),
            "rule {name:?}: {field} needs lease-ms: without, nobody would have the right to recompute a value"
        );
    }
    ensure!(
        rule.refresh_ahead_percent.is_none() || (rule.lease_ms.is_some() && rule.near_ms.is_some()),
        "rule {name:?}: refresh-ahead-percent needs near-ms, since only of values in memory it is known when they end, \
         and lease-ms, for one client to recompute them"
    );
    ensure!(rule.fallback_ttl_ms != Some(0), "rule {name:?}: fallback-ttl-ms must be at least 1");
    Ok(())
}

#[cfg(test)]
mod tests;
