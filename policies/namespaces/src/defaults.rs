//! The rules a stock-market application starts with: five namespaces, each with a `:persist` rule beside it.
//!
//! What holds for all of them:
//! - A symbol stands anywhere in a key (`quote:RELIANCE.NS`, `RELIANCE:1d`), so the market comes from the first part
//!   that the symbol table knows. The application is Indian: a key without a known symbol is of the National Stock
//!   Exchange, as `RELIANCE` is.
//! - `client_ttl = "cap"`: a lifetime the application asks for was chosen before there was a policy. The shorter of the
//!   two never serves a value longer than either would.
//! - The largest value is far above what such a value is, and far below what would hold up every other client of a
//!   single-threaded server: it catches accidents.
//! - `fallback_ttl_ms` is short where an old value misleads, since it applies when nothing is known about the market.
//! - No one waits for a lease, and nothing is refreshed ahead: both make a client slower or a server busier, and are
//!   the operator's to turn on.

use bellwether_sdk::{Apply, ClientTtl, MarketSource, Millis, Rule, SymbolSource, ValueCheck};

/// Where keys without a known symbol trade.
const HOME_MARKET: &str = "XNSE";

/// The ttl policy of every rule that does not name one.
pub(crate) const TTL_POLICY: &str = "ttl";

/// The fallback of rules that the operator adds: the shortest among the defaults, since nothing is known of the values.
pub(crate) const FALLBACK_TTL_MS: Millis = 30_000;

const PERSIST_TTL_MS: Millis = 24 * 60 * 60 * 1000;
const SECOND: Millis = 1000;
const MINUTE: Millis = 60 * SECOND;
const MIB: u64 = 1024 * 1024;

/// What differs between the namespaces.
struct Namespace {
    name: &'static str,
    market_from_symbol: bool,
    value_bytes_max: u64,
    apply: Apply,
    client_ttl: ClientTtl,
    fallback_ttl_ms: Millis,
    near_ms: Option<Millis>,
    stale_ms: Option<Millis>,
    lease_ms: Option<Millis>,
    fail_safe_ms: Option<Millis>,
}

const NAMESPACES: [Namespace; 5] = [
    // Quotes and everything else the application caches. `on-create`: locks and counters live here, and an INCR must
    // not extend its own window. No stale copies: an old quote is worse than a slow one.
    Namespace {
        name: "fyntrix:general",
        market_from_symbol: true,
        value_bytes_max: 8 * MIB,
        apply: Apply::OnCreate,
        client_ttl: ClientTtl::Cap,
        fallback_ttl_ms: FALLBACK_TTL_MS,
        near_ms: Some(SECOND),
        stale_ms: None,
        lease_ms: None,
        fail_safe_ms: Some(10 * SECOND),
    },
    // OHLC history. `every-write`: a series that grows by ZADD loses nothing by being kept, for past bars do not
    // change. No stale copies: they would double the largest values of all.
    Namespace {
        name: "fyntrix:historical",
        market_from_symbol: true,
        value_bytes_max: 32 * MIB,
        apply: Apply::EveryWrite,
        client_ttl: ClientTtl::Cap,
        fallback_ttl_ms: 5 * MINUTE,
        near_ms: Some(10 * SECOND),
        stale_ms: None,
        lease_ms: None,
        fail_safe_ms: Some(5 * MINUTE),
    },
    // Scores. `on-create`: a hash of scores that lived on with each write would keep those that nobody computes any
    // more. Computing one is dear, so clients may have the old one while one of them does it.
    Namespace {
        name: "fyntrix:scores",
        market_from_symbol: true,
        value_bytes_max: 8 * MIB,
        apply: Apply::OnCreate,
        client_ttl: ClientTtl::Cap,
        fallback_ttl_ms: MINUTE,
        near_ms: Some(2 * SECOND),
        stale_ms: Some(5 * MINUTE),
        lease_ms: Some(10 * SECOND),
        fail_safe_ms: Some(MINUTE),
    },
    // Support and resistance levels: as scores, and slower to change.
    Namespace {
        name: "fyntrix:support_resistance",
        market_from_symbol: true,
        value_bytes_max: 8 * MIB,
        apply: Apply::OnCreate,
        client_ttl: ClientTtl::Cap,
        fallback_ttl_ms: 5 * MINUTE,
        near_ms: Some(10 * SECOND),
        stale_ms: Some(10 * MINUTE),
        lease_ms: Some(15 * SECOND),
        fail_safe_ms: Some(5 * MINUTE),
    },
    // Agent context and memory. No market: a conversation ages by its own use, and a symbol in its key says what was
    // talked about and not when that is over. So it lives on with every write, the application's own lifetime stands,
    // and nothing is served from memory, for the next step of an agent must read what the last one wrote.
    Namespace {
        name: "fyntrix:context",
        market_from_symbol: false,
        value_bytes_max: 16 * MIB,
        apply: Apply::EveryWrite,
        client_ttl: ClientTtl::Respect,
        fallback_ttl_ms: 60 * MINUTE,
        near_ms: None,
        stale_ms: None,
        lease_ms: None,
        fail_safe_ms: None,
    },
];

/// The default rules, with one value check for all.
pub(crate) fn rules(value: ValueCheck) -> Vec<Rule> {
    NAMESPACES.iter().flat_map(|namespace| [plain(namespace, value), persist(namespace, value)]).collect()
}

fn plain(namespace: &Namespace, value: ValueCheck) -> Rule {
    let home = SymbolSource { part: None, default_market: Some(HOME_MARKET.to_owned()) };
    Rule {
        ttl_policy: Some(TTL_POLICY.to_owned()),
        market: if namespace.market_from_symbol { MarketSource::Symbol(home) } else { MarketSource::None },
        value,
        value_bytes_max: Some(namespace.value_bytes_max),
        apply: namespace.apply,
        client_ttl: namespace.client_ttl,
        fallback_ttl_ms: Some(namespace.fallback_ttl_ms),
        near_ms: namespace.near_ms,
        stale_ms: namespace.stale_ms,
        lease_ms: namespace.lease_ms,
        fail_safe_ms: namespace.fail_safe_ms,
        ..Rule::new(namespace.name, &format!("{}:", namespace.name))
    }
}

/// The `:persist` rule of a namespace: 24 hours whatever the market does, and whatever becomes of the ttl policy. It
/// keeps no stale copies, for it is not the end of a session that ends it.
fn persist(namespace: &Namespace, value: ValueCheck) -> Rule {
    Rule {
        name: format!("{}:persist", namespace.name),
        suffix: ":persist".to_owned(),
        market: MarketSource::None,
        fallback_ttl_ms: Some(PERSIST_TTL_MS),
        stale_ms: None,
        lease_ms: None,
        ..plain(namespace, value)
    }
}
