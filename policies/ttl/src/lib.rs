//! The standard ttl policy: how long a key lives, by namespace and market phase, from a table in its settings.
//!
//! It owns the table. It knows no calendar (the session comes with each request) and nothing of the client's own
//! lifetime, which the host respects, caps or replaces after it as the rule says.
//!
//! # What it promises
//!
//! - While a market trades, no value is older than its row's `open_ttl_ms`, whenever it was written: what is written
//!   before an opening never lives further past it than that.
//! - So a value written a minute before the close lives past it, for as long as it would have lived anyway. Ending all
//!   of them at the close would have every client ask for closing prices in the one second in which there are none yet.
//!   But none outlives the close by more than `settle_ms`: by then closing prices are official, and a value from before
//!   them must not stand for the night. Of the default rows only the levels live long enough to be cut short there.
//! - For `settle_ms` after a close lifetimes are those of the post-close phase, whether or not the calendar has one.
//! - After that a value lives until `lead_ms` before the next regular open, spread over `spread_ms` before it, and no
//!   longer than `hold_ms_max`: exchanges announce special sessions at a day's notice, and sometimes at an hour's.
//! - No lifetime shrinks to nothing before a boundary. In the last `spread_ms` before one (`session_spread_ms` inside a
//!   trading day) a value lives `open_ttl_ms`, across it: it would only be recomputed again and again.
//!
//! # Settings
//!
//! A row is laid field by field over the default row of that name, so that a change of one value is two lines:
//!
//! ```toml
//! [namespaces."fyntrix:general"]
//! open_ttl_ms = 15_000
//! ```
//!
//! A row serves the rule of its name; a row whose name begins with `:` serves the rules whose names end so; else the
//! row with the longest name that is a prefix of the rule's namespace; else `default`. A new row is laid over the row
//! that would have served it. The fields, each lifetime with a `…_reason` beside it for `bellwether explain`:
//!
//! | field | takes |
//! |---|---|
//! | `fixed_ttl_ms` | milliseconds: this whatever the market does; `"none"` |
//! | `open_ttl_ms`, `fallback_ttl_ms` | milliseconds; the fallback is for a market that is not known |
//! | `closing_auction_ttl_ms`, `halted_ttl_ms` | milliseconds, `"as-open"` |
//! | `break_ttl_ms`, `pre_open_ttl_ms`, `post_close_ttl_ms`, `closed_ttl_ms` | milliseconds, `"as-open"`, `"until-open"` |
//! | `lead_ms`, `hold_ms_max`, `spread_ms`, `session_spread_ms`, `settle_ms` | milliseconds |

mod decide;
mod defaults;
mod hold;
mod settings;
mod table;

use bellwether_sdk::{Decision, Description, Request, TtlPolicy};

use crate::table::Rows;

/// The configured policy: the table, complete and checked.
#[derive(Debug)]
pub struct Ttl {
    rows: Rows,
}

bellwether_sdk::ttl_policy!(Ttl);

impl TtlPolicy for Ttl {
    fn configure(settings: &str) -> Result<Self, String> {
        Ok(Self { rows: settings::rows(settings)? })
    }

    /// Reads no input: one remembered answer serves every key of a rule and a market.
    fn describe(&self) -> Description {
        Description::new("ttl", env!("CARGO_PKG_VERSION"), "lifetimes by namespace and market phase")
    }

    fn decide(&self, request: &Request) -> Result<Decision, String> {
        Ok(decide::decide(self.rows.serving(&request.rule, &request.namespace), request))
    }
}
