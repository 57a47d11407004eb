//! The operator's rows over the default table.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use bellwether_sdk::Millis;
use bellwether_sdk::log;
use bellwether_sdk::settings::Table;

use crate::defaults;
use crate::table::{Cell, DEFAULT, Lifetime, Row, Rows};

/// As many as there can be rules.
const ROWS_MAX: usize = 10_000;
/// Row name and reason stand in `decision.reason`, which takes 256 bytes: 64 + 120, and the words around them.
const NAME_BYTES: RangeInclusive<usize> = 1..=64;
const REASON_BYTES: RangeInclusive<usize> = 1..=120;
/// Ten years, the longest `millis` in an answer.
const TTL_MS: RangeInclusive<u64> = 1..=315_576_000_000;
/// A day: nothing between two sessions of a market that is nearer to one of them is further away.
const MARGIN_MS: RangeInclusive<u64> = 0..=86_400_000;
/// A spread is also where lifetimes stop shrinking towards a boundary, so there must be some.
const SPREAD_MS: RangeInclusive<u64> = 1_000..=86_400_000;

const OR_OPEN: &[(&str, Lifetime)] = &[("as-open", Lifetime::AsOpen)];
const OR_UNTIL: &[(&str, Lifetime)] = &[("as-open", Lifetime::AsOpen), ("until-open", Lifetime::UntilOpen)];

/// Reads `namespaces`: rows of the default table first, so that a new row stands on what they have become.
pub(crate) fn rows(settings: &str) -> Result<Rows, String> {
    let mut settings = Table::parse(settings)?;
    let mut rows = defaults::rows();
    let mut added = Vec::new();
    for (name, mut fields) in settings.tables("namespaces")? {
        let name = name.trim_end_matches(':').to_owned();
        if name == DEFAULT {
            lay_over(&mut rows.default, &mut fields)?;
        } else if let Some(row) = rows.named.iter_mut().find(|row| row.name == name) {
            lay_over(row, &mut fields)?;
        } else {
            added.push((name, fields));
            continue;
        }
        fields.finish()?;
    }
    settings.finish()?;
    for (name, mut fields) in added {
        let row = new_row(&rows, name, &mut fields)?;
        fields.finish()?;
        rows.named.push(row);
    }
    if rows.named.len() > ROWS_MAX {
        return Err(format!("\"namespaces\" takes at most {ROWS_MAX} rows, and has {}", rows.named.len()));
    }
    Ok(rows)
}

/// A row over the one that would have served it. A misspelt name looks the same, so it is said which one that is.
fn new_row(rows: &Rows, name: String, fields: &mut Table) -> Result<Row, String> {
    if !NAME_BYTES.contains(&name.len()) {
        return Err(format!("namespaces.\"{name}\": a name takes 1 to {} bytes", NAME_BYTES.end()));
    }
    let mut row = rows.serving(&name, &format!("{name}:")).clone();
    log::info(format!("namespaces.\"{name}\" is a new row, over \"{}\"", row.name));
    row.name = Cow::Owned(name);
    lay_over(&mut row, fields)?;
    Ok(row)
}

fn lay_over(row: &mut Row, fields: &mut Table) -> Result<(), String> {
    if let Some(fixed) = fields.optional_number("fixed_ttl_ms", TTL_MS)? {
        row.fixed = fixed;
    }
    number(&mut row.open_ttl_ms, fields, "open_ttl_ms", TTL_MS)?;
    number(&mut row.fallback_ttl_ms, fields, "fallback_ttl_ms", TTL_MS)?;
    cell(&mut row.closing_auction, fields, "closing_auction", OR_OPEN)?;
    cell(&mut row.pause, fields, "break", OR_UNTIL)?;
    cell(&mut row.pre_open, fields, "pre_open", OR_UNTIL)?;
    cell(&mut row.post_close, fields, "post_close", OR_UNTIL)?;
    cell(&mut row.halted, fields, "halted", OR_OPEN)?;
    cell(&mut row.closed, fields, "closed", OR_UNTIL)?;
    reason(&mut row.fixed_reason, fields, "fixed")?;
    reason(&mut row.open_reason, fields, "open")?;
    reason(&mut row.fallback_reason, fields, "fallback")?;
    number(&mut row.lead_ms, fields, "lead_ms", MARGIN_MS)?;
    number(&mut row.hold_ms_max, fields, "hold_ms_max", TTL_MS)?;
    number(&mut row.spread_ms, fields, "spread_ms", SPREAD_MS)?;
    number(&mut row.session_spread_ms, fields, "session_spread_ms", SPREAD_MS)?;
    number(&mut row.settle_ms, fields, "settle_ms", MARGIN_MS)
}

fn number(field: &mut Millis, fields: &mut Table, name: &str, range: RangeInclusive<u64>) -> Result<(), String> {
    if let Some(given) = fields.number(name, range)? {
        *field = given;
    }
    Ok(())
}

fn cell(cell: &mut Cell, fields: &mut Table, phase: &str, words: &[(&str, Lifetime)]) -> Result<(), String> {
    if let Some(lifetime) = fields.number_or(&format!("{phase}_ttl_ms"), TTL_MS, Lifetime::After, words)? {
        cell.lifetime = lifetime;
    }
    reason(&mut cell.reason, fields, phase)
}

fn reason(reason: &mut Cow<'static, str>, fields: &mut Table, phase: &str) -> Result<(), String> {
    if let Some(given) = fields.text(&format!("{phase}_reason"), REASON_BYTES)? {
        *reason = Cow::Owned(given);
    }
    Ok(())
}
