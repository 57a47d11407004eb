//! The standard namespaces policy: a rule table from its settings, and the table a stock-market application starts
//! with.
//!
//! It owns the table and its settings. It does not match keys (the host does, from the table) and knows no lifetimes
//! but those that a rule carries (the ttl policy has the others).
//!
//! # Settings
//!
//! Every rule is a table under its name, laid field by field over the rule of that name in `defaults.rs`, so that a
//! change of one value is two lines:
//!
//! ```toml
//! [rules."fyntrix:general"]
//! near_ms = 500
//! ```
//!
//! A new name adds a rule and needs a `prefix`; `enabled = false` takes one away; `defaults = false` at the top starts
//! from an empty table. `json` at the top (`"refuse"`, `"warn"`, `"any"`) is the value check of every rule that does
//! not say its own. Durations are milliseconds, and `"none"` takes an optional value away. The fields of a rule are
//! those of `rule` in `wit/namespaces.wit`, except that its `value` is written `json` and its `market` in three fields:
//!
//! | field | takes |
//! |---|---|
//! | `market_from` | `"none"`, `"fixed"`, `"key-part"`, `"symbol"` |
//! | `market` | the market of a fixed rule; of a symbol rule, the market of keys without a known symbol |
//! | `market_part` | which part of the key, from 0; `"none"`: the first part that the symbol table knows |
//!
//! The symbol table is laid over the default one in the same way:
//!
//! ```toml
//! [symbols.suffix]
//! ".PK" = "XNYS"
//! ```

mod defaults;
mod rules;
mod symbols;

use bellwether_sdk::settings::Table;
use bellwether_sdk::{Description, NamespacesPolicy, Rule, SymbolRule};

/// The configured policy: both tables, complete and checked.
#[derive(Debug)]
pub struct Namespaces {
    rules: Vec<Rule>,
    symbols: Vec<SymbolRule>,
}

bellwether_sdk::namespaces_policy!(Namespaces);

impl NamespacesPolicy for Namespaces {
    fn configure(settings: &str) -> Result<Self, String> {
        let mut table = Table::parse(settings)?;
        let rules = rules::from_settings(&mut table)?;
        let symbols = symbols::from_settings(&mut table)?;
        table.finish()?;
        Ok(Self { rules, symbols })
    }

    fn describe(&self) -> Description {
        let summary = format!("{} rules and {} lines of symbols", self.rules.len(), self.symbols.len());
        Description::new("namespaces", env!("CARGO_PKG_VERSION"), &summary)
    }

    fn rules(&self) -> Result<Vec<Rule>, String> {
        Ok(self.rules.clone())
    }

    fn symbols(&self) -> Result<Vec<SymbolRule>, String> {
        Ok(self.symbols.clone())
    }
}
