//! One market: now, its week as a timeline, its next special days, and how far its calendar reaches.

use std::io::Write;

use anyhow::bail;
use jiff::tz::TimeZone;
use serde_json::json;

use super::Paint;
use super::timeline::{Stretch, Week};
use crate::cli::format;
use crate::policy::{Decider, Market, MarketError, MarketSession, Phase, Span, SpecialDay, Transition, reach};

/// All that is said of one market.
struct About {
    market: Market,
    zone: TimeZone,
    session: MarketSession,
    next: Vec<Transition>,
    week: Week,
    special_days: Vec<SpecialDay>,
}

/// Changes of phase that JSON has.
const TRANSITIONS: u32 = 8;
const SPECIAL_DAYS: u32 = 8;
/// Changes of phase that are asked for at once: more than most markets have in a week.
const WEEK_TRANSITIONS: u32 = 128;
/// More special days than a week has.
const WEEK_SPECIAL_DAYS: u32 = 14;

/// Prints one market.
pub(super) fn print(
    decider: &mut Decider,
    name: &str,
    at: i64,
    json: bool,
    paint: Paint,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let about = About::ask(decider, name, at)?;
    if json {
        writeln!(out, "{:#}", about.json(at))?;
    } else {
        about.show(at, paint, out)?;
    }
    Ok(())
}

// === impl About ===

impl About {
    fn ask(decider: &mut Decider, name: &str, at: i64) -> anyhow::Result<Self> {
        let markets = decider.markets()?;
        let session = match decider.session(name, at)? {
            Ok(session) => session,
            Err(error) => bail!("{name} at {}: {error}{}", format::utc(at), hint(error, name, &markets)),
        };
        // A policy may know a market that it does not list.
        let market = reach::find(&markets, name).cloned().unwrap_or_else(|| Market {
            name: name.to_owned(),
            aliases: Vec::new(),
            title: String::new(),
            time_zone: "UTC".to_owned(),
            covered_from: session.since,
            horizon: session.horizon,
            projected_from: session.horizon,
        });
        let zone = TimeZone::get(&market.time_zone).unwrap_or(TimeZone::UTC);
        let (monday, end) = Week::bounds(at, &zone)?;
        let mut week = Week::new(at, &zone, &stretches(decider, name, &market, monday, end)?)?;
        let first = monday.max(market.covered_from);
        for special in decider.special_days(name, first, WEEK_SPECIAL_DAYS)?.unwrap_or_default() {
            if let Some(day) = week.days.iter_mut().find(|day| day.date.to_string() == special.date) {
                day.note = special.note;
            }
        }
        let next = decider.transitions(name, at, TRANSITIONS)?.unwrap_or_default();
        let special_days = decider.special_days(name, at, SPECIAL_DAYS)?.unwrap_or_default();
        Ok(Self { market, zone, session, next, week, special_days })
    }

    fn show(&self, at: i64, paint: Paint, out: &mut dyn Write) -> std::io::Result<()> {
        let Self { market, session, .. } = self;
        let local = |at: i64| format::local(at, Some(&self.zone));
        let optional = |at: Option<i64>| at.map_or("(none in the data)".to_owned(), local);
        writeln!(out, "{} {}, {}", market.name, market.title, local(at))?;
        writeln!(out, "  phase              {}", paint.phase(Some(session.phase), session.phase.label()))?;
        writeln!(out, "  since              {}", local(session.since))?;
        let until = match session.until {
            until if until >= session.horizon => "where the data ends".to_owned(),
            until => format::ahead(until - at),
        };
        writeln!(out, "  until              {}, {until}", local(session.until))?;
        writeln!(out, "  next open          {}", optional(session.next_open))?;
        writeln!(out, "  next regular open  {}", optional(session.next_regular_open))?;
        writeln!(out, "  previous close     {}", optional(session.previous_close))?;
        let (days, end) = (reach::days_left(session.horizon, at), reach::date(market, session.horizon));
        let projected = match market.projected_from {
            from if from >= session.horizon => "nothing projected".to_owned(),
            from => format!("projected from {}", reach::date(market, from)),
        };
        let now = if session.projected { ", this phase too" } else { "" };
        let version = &session.data_version;
        let days = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
        writeln!(out, "  data               version {version}, until {end} ({days}), {projected}{now}\n")?;
        for line in self.week.draw(at, &self.zone, paint) {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "\n  next special days")?;
        if self.special_days.is_empty() {
            writeln!(out, "    (none known)")?;
        }
        self.special_days.iter().try_for_each(|day| writeln!(out, "    {}", special_day(day, &self.market, &self.zone)))
    }

    fn json(&self, at: i64) -> serde_json::Value {
        let special_days = self.special_days.iter().map(|day| {
            let spans = day.spans.iter().map(|of| span_json(of.phase, of.since, of.until));
            json!({
                "date": day.date,
                "spans": spans.collect::<Vec<_>>(),
                "note": day.note,
                "source": day.source,
                "known_since": day.known_since.map(format::utc),
            })
        });
        let week = self.week.days.iter().map(|day| {
            let known = day.parts.iter().map(|part| part.stretch);
            let spans = known.filter_map(|of| Some(span_json(of.phase?, of.since, of.until)));
            json!({
                "date": day.date.to_string(),
                "since": format::utc(day.since),
                "until": format::utc(day.until),
                "known": day.is_known(),
                "spans": spans.collect::<Vec<_>>(),
                "note": day.note,
            })
        });
        let (special_days, week): (Vec<_>, Vec<_>) = (special_days.collect(), week.collect());
        let mut json = session_json(&self.session, &self.market, &self.next, at);
        if let Some(fields) = json.as_object_mut() {
            fields.extend([("special_days".to_owned(), special_days.into()), ("week".to_owned(), week.into())]);
        }
        json
    }
}

/// A special day in one line.
fn special_day(day: &SpecialDay, market: &Market, zone: &TimeZone) -> String {
    let clock = |at| format::local_clock(at, Some(zone));
    let span = |span: &Span| format!("{} {}–{}", span.phase.label(), clock(span.since), clock(span.until));
    let spans: Vec<_> = day.spans.iter().map(span).collect();
    let spans = if spans.is_empty() { "closed".to_owned() } else { spans.join(", ") };
    let date = day.date.parse::<jiff::civil::Date>();
    let date = date.map_or_else(|_| day.date.clone(), |date| date.strftime("%a %Y-%m-%d").to_string());
    let note = if day.note.is_empty() { String::new() } else { format!("; {}", day.note) };
    let known = day.known_since.map(|at| format!(", known since {}", reach::date(market, at)));
    format!("{date}  {spans}{note} [{}{}]", day.source, known.unwrap_or_default())
}

/// What all forms of JSON say of a market.
pub(super) fn session_json(
    session: &MarketSession,
    market: &Market,
    next: &[Transition],
    at: i64,
) -> serde_json::Value {
    let optional = |at: Option<i64>| at.map(format::utc);
    let transitions: Vec<_> =
        next.iter().map(|change| json!({ "at": format::utc(change.at), "phase": change.phase.label() })).collect();
    json!({
        "market": market.name,
        "title": market.title,
        "time_zone": market.time_zone,
        "phase": session.phase.label(),
        "since": format::utc(session.since),
        "until": format::utc(session.until),
        "next_open": optional(session.next_open),
        "next_regular_open": optional(session.next_regular_open),
        "previous_close": optional(session.previous_close),
        "horizon": format::utc(session.horizon),
        "days_to_horizon": reach::days_left(session.horizon, at),
        "projected": session.projected,
        "projected_from": format::utc(market.projected_from),
        "data_version": session.data_version.to_string(),
        "transitions": transitions,
    })
}

fn span_json(phase: Phase, since: i64, until: i64) -> serde_json::Value {
    json!({ "phase": phase.label(), "since": format::utc(since), "until": format::utc(until) })
}

/// What a market does from one instant to another, without gaps.
fn stretches(decider: &mut Decider, name: &str, market: &Market, from: i64, to: i64) -> anyhow::Result<Vec<Stretch>> {
    let mut since = market.covered_from.clamp(from, to);
    let mut stretches = vec![Stretch { phase: None, since: from, until: since }];
    let end = market.horizon.clamp(since, to);
    let mut phase = decider.session(name, since)?.ok().map(|session| session.phase);
    while since < end {
        let begun = since;
        let changes = decider.transitions(name, since, WEEK_TRANSITIONS)?.unwrap_or_default();
        let is_full = changes.len() >= WEEK_TRANSITIONS as usize;
        for change in changes.into_iter().filter(|change| (begun..end).contains(&change.at)) {
            stretches.push(Stretch { phase, since, until: change.at });
            (phase, since) = (Some(change.phase), change.at);
        }
        // A full list may not have come to the end: it is asked for again, from where it ended.
        if !is_full || since == begun {
            break;
        }
    }
    stretches.push(Stretch { phase, since, until: end });
    stretches.push(Stretch { phase: None, since: end, until: to });
    stretches.retain(|stretch| stretch.since < stretch.until);
    Ok(stretches)
}

fn hint(error: MarketError, name: &str, markets: &[Market]) -> String {
    match reach::near(markets, name) {
        _ if error != MarketError::UnknownMarket => {
            "; newer data comes with a newer release, or as the setting `data` of the market-hours policy".to_owned()
        }
        Some(near) => format!("; did you mean {near}?"),
        None => "; `bellwether market` lists them all".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::special_day;
    use crate::policy::{Market, Phase, Span, SpecialDay};

    #[test]
    fn special_days() {
        let instant = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let span = |phase, since: &str, until: &str| Span { phase, since: instant(since), until: instant(until) };
        let market = Market {
            name: "XNSE".into(),
            aliases: Vec::new(),
            title: String::new(),
            time_zone: "Asia/Kolkata".into(),
            covered_from: 0,
            horizon: 1,
            projected_from: 1,
        };
        let zone = TimeZone::get("Asia/Kolkata").unwrap();
        let check = |date: &str, spans: Vec<Span>, note: &str, known_since: Option<&str>, expect: &str| {
            let (note, source) = (note.to_owned(), "a circular".to_owned());
            let day = SpecialDay { date: date.to_owned(), spans, note, source, known_since: known_since.map(instant) };
            assert_eq!(special_day(&day, &market, &zone), expect);
        };
        check("2026-11-24", vec![], "", None, "Tue 2026-11-24  closed [a circular]");
        check(
            "2026-11-08",
            vec![
                span(Phase::PreOpen, "2026-11-08T14:05:00+05:30", "2026-11-08T14:20:00+05:30"),
                span(Phase::Open, "2026-11-08T14:20:00+05:30", "2026-11-08T15:30:00+05:30"),
            ],
            "Muhurat",
            // The next day already in Mumbai.
            Some("2026-10-01T20:00:00Z"),
            "Sun 2026-11-08  pre-open 14:05–14:20, open 14:20–15:30; Muhurat [a circular, known since 2026-10-02]",
        );
        check("no date", vec![], "note", None, "no date  closed; note [a circular]");
    }
}
