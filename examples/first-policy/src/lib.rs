//! A whole ttl policy: one trait, one macro line. Drafts live for an hour after the last write, whatever the market
//! does; everything else lives for a minute while the market trades, and until it opens again while it does not.

use bellwether_sdk::settings::Table;
use bellwether_sdk::{Decision, Description, Inputs, Millis, Phase, Request, TtlPolicy};

/// The policy as its settings made it.
pub struct FirstPolicy {
    open_ttl_ms: Millis,
    draft_ttl_ms: Millis,
}

const DAY_MS: Millis = 86_400_000;

impl TtlPolicy for FirstPolicy {
    fn configure(settings: &str) -> Result<Self, String> {
        let mut table = Table::parse(settings)?;
        let open_ttl_ms = table.number("open_ttl_ms", 1..=DAY_MS)?.unwrap_or(60_000);
        let draft_ttl_ms = table.number("draft_ttl_ms", 1..=DAY_MS)?.unwrap_or(3_600_000);
        table.finish()?;
        Ok(Self { open_ttl_ms, draft_ttl_ms })
    }

    fn describe(&self) -> Description {
        let summary = "A minute while the market trades, else until it opens; drafts an hour";
        // What is not declared here is passed blank, and decisions are remembered under what is.
        Description { reads: Inputs::KEY, ..Description::new("first-policy", env!("CARGO_PKG_VERSION"), summary) }
    }

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

bellwether_sdk::ttl_policy!(FirstPolicy);

#[cfg(test)]
mod tests {
    use bellwether_sdk::{Expiry, Phase, TtlPolicy, testing};

    use super::FirstPolicy;

    #[test]
    fn lifetimes() {
        let policy = FirstPolicy::configure("{}").unwrap_or_else(|error| panic!("{error}"));
        let now = testing::instant("2026-11-23T10:00:00+05:30");
        let next_open = testing::instant("2026-11-25T09:15:00+05:30");
        let check = |key: &str, phase: Phase, expect: Expiry| {
            let mut session = testing::session(phase, now, next_open);
            session.next_open = Some(next_open);
            let mut request = testing::request("fyntrix:general", key, now);
            request.market = Some(Ok(session));
            assert_eq!(policy.decide(&request).map(|decision| decision.expiry), Ok(expect), "{key} {phase:?}");
        };
        check("fyntrix:general:a", Phase::Open, Expiry::After(60_000));
        check("fyntrix:general:a", Phase::Closed, Expiry::At(next_open));
        check("fyntrix:general:a:draft", Phase::Closed, Expiry::After(3_600_000));
    }
}
