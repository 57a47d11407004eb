//! A namespaces policy: which keys are governed by which rule? Rules are data: the sidecar reads them once a load and
//! matches keys itself.

use bellwether_sdk::settings::Table;
use bellwether_sdk::{
    ClientTtl, Description, MarketSource, NamespacesPolicy, Rule, SymbolMatch, SymbolRule, SymbolSource,
};

/// The policy as its settings made it.
pub struct Policy {
    prefix: String,
}

impl NamespacesPolicy for Policy {
    /// Takes the settings, a JSON object. An error refuses the load and tells the operator why.
    fn configure(settings: &str) -> Result<Self, String> {
        let mut table = Table::parse(settings)?;
        let prefix = table.text("prefix", 1..=64)?.unwrap_or_else(|| "app:".to_owned());
        if !prefix.ends_with(':') {
            return Err(table.refuse("prefix", "ends in a colon"));
        }
        // Whatever is left is a setting that this policy does not know.
        table.finish()?;
        Ok(Self { prefix })
    }

    fn describe(&self) -> Description {
        Description::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), "Quotes and sessions of one application")
    }

    /// All rules. A key is under the one with the longest prefix that it begins with.
    fn rules(&self) -> Result<Vec<Rule>, String> {
        let mut quotes = Rule::new("quotes", &format!("{}quotes:", self.prefix));
        // Decided by the policy of that name in the set, with the market of the symbol in the key.
        quotes.ttl_policy = Some("ttl".to_owned());
        quotes.market =
            MarketSource::Symbol(SymbolSource { part: Some(0), default_market: Some("XNYS".to_owned()) });
        quotes.client_ttl = ClientTtl::Cap;
        quotes.fallback_ttl_ms = Some(30_000);
        // Lifetimes here are the application's own.
        let sessions = Rule::new("sessions", &format!("{}sessions:", self.prefix));
        Ok(vec![quotes, sessions])
    }

    /// How symbols say their market.
    fn symbols(&self) -> Result<Vec<SymbolRule>, String> {
        let suffix = |text: &str, market: &str| SymbolRule {
            match_by: SymbolMatch::Suffix,
            text: text.to_owned(),
            market: market.to_owned(),
        };
        Ok(vec![suffix(".NS", "XNSE"), suffix(".T", "XTKS")])
    }
}

bellwether_sdk::namespaces_policy!(Policy);

#[cfg(test)]
mod tests {
    use bellwether_sdk::NamespacesPolicy;

    use super::Policy;

    #[test]
    fn rules_begin_with_the_prefix() {
        let policy = Policy::configure(r#"{ "prefix": "shop:" }"#).unwrap();
        assert!(policy.rules().unwrap().iter().all(|rule| rule.prefix.starts_with("shop:")));
        assert!(Policy::configure(r#"{ "prefix": "shop" }"#).is_err());
    }
}
