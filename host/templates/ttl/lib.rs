//! A ttl policy: how long may a key live? It is a pure function of the request and the settings; `now` comes with the
//! request, and there is nothing else to ask.

use bellwether_sdk::settings::Table;
use bellwether_sdk::{Decision, Description, Inputs, Millis, Phase, Request, TtlPolicy};

/// The policy as its settings made it.
pub struct Policy {
    open_ttl_ms: Millis,
    draft_ttl_ms: Millis,
}

const DAY_MS: Millis = 86_400_000;

impl TtlPolicy for Policy {
    /// Takes the settings, a JSON object. An error refuses the load and tells the operator why.
    fn configure(settings: &str) -> Result<Self, String> {
        let mut table = Table::parse(settings)?;
        let open_ttl_ms = table.number("open_ttl_ms", 1..=DAY_MS)?.unwrap_or(60_000);
        let draft_ttl_ms = table.number("draft_ttl_ms", 1..=DAY_MS)?.unwrap_or(3_600_000);
        // Whatever is left is a setting that this policy does not know.
        table.finish()?;
        Ok(Self { open_ttl_ms, draft_ttl_ms })
    }

    fn describe(&self) -> Description {
        let summary = "A minute while the market trades, else until it opens; drafts an hour";
        // What is not declared here is passed blank, and decisions are remembered under what is.
        Description::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), summary).reads(Inputs::KEY)
    }

    /// Decides one write.
    fn decide(&self, request: &Request) -> Result<Decision, String> {
        if request.key.ends_with(":draft") {
            return Ok(Decision::after(self.draft_ttl_ms, "drafts do not follow the market"));
        }
        let Some(Ok(session)) = &request.market else {
            return Ok(Decision::after(self.open_ttl_ms, "no session is known for this key"));
        };
        match (session.phase, session.next_open) {
            (Phase::Open, _) | (_, None) => Ok(Decision::after(self.open_ttl_ms, "the market trades")),
            (_, Some(next_open)) => Ok(Decision::at(next_open, "nothing changes before the next open")),
        }
    }
}

bellwether_sdk::ttl_policy!(Policy);

#[cfg(test)]
mod tests {
    use bellwether_sdk::{Expiry, TtlPolicy, testing};

    use super::Policy;

    #[test]
    fn drafts_live_as_long_as_the_settings_say() {
        let policy = Policy::configure(r#"{ "draft_ttl_ms": 5000 }"#).unwrap();
        let request = testing::request("notes", "notes:a:draft", testing::instant("2026-11-23T10:00:00Z"));
        assert_eq!(policy.decide(&request).unwrap().expiry, Expiry::After(5000));
    }
}
