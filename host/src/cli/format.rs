//! Instants and spans as people read and write them.

use anyhow::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::policy::Expiry;

/// What `--at` is for.
pub(super) const AT: &str = "At this instant, such as 2026-11-23T10:00:00+05:30";

/// Reads an instant: RFC 3339 with an offset, such as `2026-11-23T10:00:00+05:30`.
pub(super) fn instant(text: &str) -> anyhow::Result<i64> {
    let at: Timestamp = text
        .parse()
        .with_context(|| format!("{text:?} is not an instant with its offset, such as 2026-11-23T10:00:00+05:30"))?;
    Ok(at.as_millisecond())
}

/// Reads a span such as `10s` or `1m 30s`.
pub(super) fn duration(text: &str) -> anyhow::Result<std::time::Duration> {
    let span: jiff::SignedDuration =
        text.parse().with_context(|| format!("{text:?} is not a span such as 10s, 5m or 1h 30m"))?;
    std::time::Duration::try_from(span).with_context(|| format!("{text:?} is in the past"))
}

/// An instant in UTC.
pub(super) fn utc(at: i64) -> String {
    Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}

/// An instant on a market's own clock; in UTC where the zone is not known.
pub(super) fn local(at: i64, zone: Option<&TimeZone>) -> String {
    zoned(at, zone, "%a %Y-%m-%d %H:%M:%S %:z")
}

/// An instant on a market's own clock, to the minute.
pub(super) fn local_minute(at: i64, zone: Option<&TimeZone>) -> String {
    zoned(at, zone, "%a %Y-%m-%d %H:%M %:z")
}

/// The time of day of an instant on a market's own clock.
pub(super) fn local_clock(at: i64, zone: Option<&TimeZone>) -> String {
    zoned(at, zone, "%H:%M")
}

fn zoned(at: i64, zone: Option<&TimeZone>, form: &str) -> String {
    match (Timestamp::from_millisecond(at), zone) {
        (Ok(at), Some(zone)) => at.to_zoned(zone.clone()).strftime(form).to_string(),
        _ => utc(at),
    }
}

/// How far ahead something is: the two largest units, as in "in 3 h 12 min".
pub(super) fn ahead(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
    let words = parts.iter().skip(first).take(2).filter(|(count, _)| *count > 0);
    let words: Vec<_> = words.map(|(count, unit)| format!("{count} {unit}")).collect();
    if words.is_empty() { "now".to_owned() } else { format!("in {}", words.join(" ")) }
}

/// A lifetime.
pub(super) fn expiry(expiry: Expiry) -> String {
    match expiry {
        Expiry::Keep => "as the client wrote it".to_owned(),
        Expiry::Never => "without end".to_owned(),
        Expiry::After(ms) => format!("{} from now", span(ms)),
        Expiry::At(at) => format!("until {}", utc(at)),
    }
}

/// A span in days, hours, minutes and seconds.
pub(super) fn span(ms: u64) -> String {
    let (seconds, rest) = (ms / 1000, ms % 1000);
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let mut words: Vec<_> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if rest > 0 || words.is_empty() {
        words.push(format!("{rest}ms"));
    }
    words.join(" ")
}
