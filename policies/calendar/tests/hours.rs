//! Every row of hours.toml says what it is written to say, every day of every market is as the three files say, and
//! rows that a person can check by a clock.

mod model;

use bellwether_calendar::{Calendars, Market, Phase, Transition};
use model::{
    Instant, Model, Outcome, Profile, UtcSpan, add, date, day_of,
    rows::{Change, Fact, Hours, Layers, Saying},
    shown, walk,
};

const HOUR_MS: i64 = 3_600_000;
const MARKETS: usize = 88;

/// Runs a check on the model of every market.
fn of_every_market(check: impl Fn(&Calendars<'_>, &Model<'_>) -> Outcome<usize>) -> Outcome<usize> {
    let (layers, whole, plain) = (Layers::read()?, Calendars::embedded()?, Calendars::embedded()?.without_overlay());
    let markets = whole.markets();
    assert_eq!(markets.len(), MARKETS);
    markets.iter().map(|market| check(&whole, &Model::new(&layers, &plain, market)?)).sum()
}

/// What the files say of a day, with everything known.
fn written(whole: &Calendars<'_>, model: &Model<'_>, day: i64) -> Outcome<Profile> {
    match model.facts(day).last() {
        Some(Fact { saying: Saying::Usual, .. }) => model.said(whole, day, &Saying::Usual),
        Some(fact) => model.said(whole, day, &fact.saying),
        None => Ok(model.regular(day, None)),
    }
}

/// All phases of a market but closed, from the first instant to the horizon.
fn answered(whole: &Calendars<'_>, model: &Model<'_>, end: Instant) -> Outcome<Vec<UtcSpan>> {
    let mut at = model.bound(model.days.start)?;
    let mut phase = whole.session_at(model.name, at, None)?.phase;
    let mut spans = Vec::new();
    let mut changes = Vec::new();
    loop {
        let more = whole.transitions(model.name, changes.last().map_or(at, |last: &Transition| last.at), 1000)?;
        if more.is_empty() {
            break;
        }
        changes.extend(more);
    }
    for change in changes.into_iter().chain([Transition { at: end, phase: Phase::Closed }]) {
        if phase != Phase::Closed {
            spans.push((phase, at, change.at));
        }
        (at, phase) = (change.at, change.phase);
    }
    Ok(spans)
}

/// The whole of a market, day by day as the files have it, against what is answered.
fn check_whole(whole: &Calendars<'_>, model: &Model<'_>) -> Outcome<usize> {
    let end = model.bound(model.days.end)?;
    let mut wanted: Vec<UtcSpan> = Vec::new();
    for day in model.days.clone() {
        for (phase, from, to) in model.spans(day, &written(whole, model, day)?)? {
            assert!(wanted.last().is_none_or(|last| last.2 <= from), "{} on {}", model.name, date(day));
            if from < end {
                add(&mut wanted, (phase, from, to.min(end)));
            }
        }
    }
    let found = answered(whole, model, end)?;
    if found != wanted {
        let different = wanted.iter().zip(&found).position(|(wanted, found)| wanted != found);
        let first = different.unwrap_or(wanted.len().min(found.len()));
        let around = |spans: &[UtcSpan]| shown(&spans.iter().skip(first).take(3).copied().collect::<Vec<_>>());
        assert_eq!(around(&found), around(&wanted), "{} differs", model.name);
    }
    Ok(model.days.clone().count())
}

#[test]
fn every_day_of_every_market_is_as_the_files_say() -> Outcome<()> {
    let days = of_every_market(check_whole)?;
    assert!(days > 850_000, "{days} days");
    Ok(())
}

/// A day on which the row has the last word: it applies, and no later row changes what it made.
fn rests_on(model: &Model<'_>, row: &Hours, day: i64) -> bool {
    if !row.covers(day) || !model.facts(day).is_empty() {
        return false;
    }
    let mut rows = model.hours().filter(|row| row.covers(day));
    let mut profile = model.reference(day);
    for earlier in rows.by_ref() {
        let changed = earlier.changed(&profile);
        if std::ptr::eq(earlier, row) {
            return match changed {
                Some(changed) => rows.all(|later| later.changed(&changed).is_none_or(|last| has_all(&last, &changed))),
                None => false,
            };
        }
        profile = changed.unwrap_or(profile);
    }
    false
}

/// Whether a profile still has what another had.
fn has_all(profile: &Profile, had: &Profile) -> bool {
    had.iter().all(|span| profile.contains(span))
}

/// What the files say of the hours of a day as one could have known them, a session of the day before included that
/// goes on into it.
fn believed(model: &Model<'_>, day: i64, known_at: Instant) -> Outcome<Vec<UtcSpan>> {
    let (start, end) = (model.bound(day)?, model.bound(day + 1)?);
    let mut spans = Vec::new();
    for day in [day - 1, day] {
        for (phase, from, to) in model.spans(day, &model.regular(day, Some(known_at)))? {
            if from < end && to > start {
                add(&mut spans, (phase, from.max(start), to.min(end)));
            }
        }
    }
    Ok(spans)
}

/// On the first and the last day that rest on a row its phases are answered, and before one could know it those of
/// before.
fn check_row(whole: &Calendars<'_>, model: &Model<'_>, row: &Hours) -> Outcome<usize> {
    let name = model.name;
    let covered = row.from.max(model.days.start)..=row.to.min(model.days.end - 1);
    let rests = |day: &i64| rests_on(model, row, *day);
    let (first, last) = (covered.clone().find(rests), covered.rev().find(rests));
    let (Some(first), Some(last)) = (first, last) else {
        return Err(format!("{name} from {}: no day rests on the row", date(row.from)).into());
    };
    for day in [first, last] {
        let said = match &row.change {
            Change::Whole(_, phases) => phases.clone(),
            Change::Added(_, _, span) => vec![*span],
        };
        let found = walk(whole, name, model.bound(day)?..model.bound(day + 2)?, None)?;
        let horizon = model.bound(model.days.end)?;
        for (phase, from, to) in model.spans(day, &said)? {
            let to = to.min(horizon);
            let holds = found.iter().any(|span| span.0 == phase && span.1 <= from && to <= span.2);
            let said = shown(&[(phase, from, to)]);
            assert!(holds, "{name} on {}: {said:?} is not in {:?}", date(day), shown(&found));
        }
    }
    let (before, after) = (believed(model, first, row.known - HOUR_MS)?, believed(model, first, row.known)?);
    assert_ne!(before, after, "{name} on {}: the row says nothing new", date(first));
    for (known_at, wanted) in [(row.known - HOUR_MS, before), (row.known, after)] {
        let found = model.answered(whole, name, first, Some(known_at))?;
        assert_eq!(shown(&found), shown(&wanted), "{name} on {}, as known at {known_at}", date(first));
    }
    if row.from == row.to {
        check_listed(whole, model, row)?;
    }
    Ok(1)
}

/// A row of one day is a special day, for as long as its sessions are, and the row says why.
fn check_listed(whole: &Calendars<'_>, model: &Model<'_>, row: &Hours) -> Outcome<()> {
    let (name, text) = (model.name, date(row.from).to_string());
    let listed = whole.special_days(name, model.bound(row.from)?, 1)?;
    let day = listed.first().ok_or_else(|| format!("{name} lists no special day from {text} on"))?;
    assert_eq!((day.date.as_str(), day.note, day.source), (text.as_str(), row.note.as_str(), row.source.as_str()));
    assert_eq!(day.known_since, Some(row.known), "{name} on {text}");
    let spans: Vec<_> = day.spans.iter().map(|span| (span.phase, span.since, span.until)).collect();
    let wanted = model.spans(row.from, &model.regular(row.from, None))?;
    assert_eq!(shown(&spans), shown(&wanted), "{name} lists {text}");
    Ok(())
}

#[test]
fn every_row_holds_from_its_first_day_to_its_last() -> Outcome<()> {
    let rows = of_every_market(|whole, model| model.hours().map(|row| check_row(whole, model, row)).sum())?;
    let layers = Layers::read()?;
    assert_eq!(layers.hours.len(), 357);
    assert_eq!(rows, layers.hours.iter().map(|row| row.markets.len()).sum::<usize>());
    Ok(())
}

/// Rows that are known from different days never leave a day on which the hours of then cannot be laid out.
#[test]
fn whoever_asks_as_of_then_is_answered_on_any_day() -> Outcome<()> {
    let whole = Calendars::embedded()?;
    for market in whole.markets() {
        // Thirteen days and an hour: all weekdays and all hours have their turn.
        for at in (market.covered_from..market.horizon).step_by(313 * HOUR_MS as usize) {
            let session = whole.session_at(market.name, at, Some(at))?;
            assert!(session.since <= at && at < session.until, "{}: {session:?}", market.name);
        }
    }
    Ok(())
}

/// Market, date, and all that the market does from midnight to midnight by its own clock.
#[rustfmt::skip]
const ROWS: &[(&str, &str, &str)] = &[
    // Mumbai: the opening of 2010, and the closing auction with the longer day of derivatives.
    ("XNSE", "2009-12-31", "open 09:55-15:30"),
    ("XNSE", "2010-01-04", "open 09:00-15:30, post-close 15:50-16:00"),
    ("XNSE", "2026-07-31", "pre-open 09:00-09:15, open 09:15-15:30, post-close 15:40-16:00"),
    ("XNSE", "2026-08-03", "pre-open 09:00-09:15, open 09:15-15:15, closing-auction 15:15-15:35, \
        post-close 15:50-16:00"),
    ("XNSE.derivatives", "2026-07-31", "pre-open 09:00-09:15, open 09:15-15:30"),
    ("NFO", "2026-08-03", "pre-open 09:00-09:15, open 09:15-15:40"),
    // Lunch: longer on Fridays in Jakarta, once none in Singapore, none any more in Istanbul, shorter in Hong Kong.
    ("XIDX", "2026-11-20", "pre-open 08:45-09:00, open 09:00-11:30, break 11:30-14:00, open 14:00-15:50, \
        closing-auction 15:50-16:00, post-close 16:00-16:15"),
    ("XIDX", "2026-11-23", "pre-open 08:45-09:00, open 09:00-12:00, break 12:00-13:30, open 13:30-15:50, \
        closing-auction 15:50-16:00, post-close 16:00-16:15"),
    ("XKLS", "2026-11-24", "pre-open 08:30-09:00, open 09:00-12:30, break 12:30-14:30, open 14:30-16:45, \
        closing-auction 16:45-17:00"),
    ("XPHS", "2026-11-24", "pre-open 09:00-09:30, open 09:30-12:00, break 12:00-13:00, open 13:00-14:45, \
        closing-auction 14:45-15:00, post-close 15:00-15:15"),
    ("XSES", "2017-11-10", "pre-open 08:30-09:00, open 09:00-17:00, closing-auction 17:00-17:06"),
    ("XSES", "2017-11-13", "pre-open 08:30-09:00, open 09:00-12:00, break 12:00-13:00, open 13:00-17:00, \
        closing-auction 17:00-17:06"),
    ("XBKK", "2024-03-22", "pre-open 09:30-10:00, open 10:00-12:30, break 12:30-14:30, open 14:30-16:30, \
        closing-auction 16:30-16:40, post-close 16:40-17:00"),
    ("XBKK", "2024-03-25", "pre-open 09:30-10:00, open 10:00-12:30, break 12:30-14:00, open 14:00-16:30, \
        closing-auction 16:30-16:40, post-close 16:40-17:00"),
    ("XIST", "2019-10-03", "pre-open 09:40-10:00, open 10:00-13:00, break 13:00-14:00, open 14:00-18:00, \
        closing-auction 18:00-18:10"),
    ("XIST", "2019-10-04", "pre-open 09:40-10:00, open 10:00-18:00, closing-auction 18:00-18:10"),
    ("XHKG", "2011-03-04", "pre-open 09:30-10:00, open 10:00-12:30, break 12:30-14:30, open 14:30-16:00"),
    ("XHKG", "2011-03-07", "pre-open 09:00-09:30, open 09:30-12:00, break 12:00-13:30, open 13:30-16:00"),
    ("XHKG", "2012-03-05", "pre-open 09:00-09:30, open 09:30-12:00, break 12:00-13:00, open 13:00-16:00"),
    ("XHKG", "2016-07-25", "pre-open 09:00-09:30, open 09:30-12:00, break 12:00-13:00, open 13:00-16:00, \
        closing-auction 16:00-16:10"),
    // The close: Tokyo, Shanghai, Seoul, London and its half day, Frankfurt.
    ("XTKS", "2024-11-01", "pre-open 08:00-09:00, open 09:00-11:30, break 11:30-12:30, open 12:30-15:00"),
    ("XTKS", "2024-11-05", "pre-open 08:00-09:00, open 09:00-11:30, break 11:30-12:30, open 12:30-15:25, \
        closing-auction 15:25-15:30"),
    ("XSHG", "2018-08-17", "pre-open 09:15-09:25, open 09:30-11:30, break 11:30-13:00, open 13:00-15:00"),
    ("XSHG", "2018-08-20", "pre-open 09:15-09:25, open 09:30-11:30, break 11:30-13:00, open 13:00-14:57, \
        closing-auction 14:57-15:00"),
    ("XKRX", "2016-07-29", "pre-open 08:00-09:00, open 09:00-14:50, closing-auction 14:50-15:00"),
    ("XKRX", "2016-08-01", "pre-open 08:00-09:00, open 09:00-15:20, closing-auction 15:20-15:30, \
        post-close 15:40-18:00"),
    ("XLON", "2026-11-24", "pre-open 07:50-08:00, open 08:00-16:30, closing-auction 16:30-16:35, \
        post-close 16:35-16:40"),
    ("XLON", "2026-12-24", "pre-open 07:50-08:00, open 08:00-12:30, closing-auction 12:30-12:35, \
        post-close 12:35-12:40"),
    ("XETR", "2026-11-24", "pre-open 08:55-09:00, open 09:00-17:30, closing-auction 17:30-17:35, \
        post-close 17:35-17:40"),
    // Mexico keeps step with New York's summer time, and São Paulo with it.
    ("XMEX", "2026-03-06", "pre-open 08:00-08:30, open 08:30-15:00"),
    ("XMEX", "2026-03-09", "pre-open 07:00-07:30, open 07:30-14:00"),
    ("XMEX", "2026-10-30", "pre-open 07:00-07:30, open 07:30-14:00"),
    ("XMEX", "2026-11-03", "pre-open 08:00-08:30, open 08:30-15:00"),
    ("BVMF", "2026-03-06", "pre-open 09:45-10:00, open 10:00-17:55, closing-auction 17:55-18:00"),
    ("BVMF", "2026-03-09", "pre-open 09:45-10:00, open 10:00-16:55, closing-auction 16:55-17:00, \
        post-close 17:30-18:00"),
    // New York before and after hours, on a full day and on a half day.
    ("XNYS.pre-market", "2026-11-25", "open 04:00-09:30"),
    ("XNYS.after-hours", "2026-11-25", "open 16:00-20:00"),
    ("XNYS.extended", "2026-11-25", "open 04:00-20:00"),
    ("XNYS.after-hours", "2026-11-27", "open 13:00-17:00"),
    ("XNYS.extended", "2026-11-27", "open 04:00-17:00"),
    ("XNYS.extended", "2026-11-26", ""),
    // Chicago, by product.
    ("CMES.equity-index", "2014-06-03", "open 00:00-15:15, break 15:15-15:30, open 15:30-16:15, open 17:00-24:00"),
    ("CMES.equity-index", "2026-11-17", "open 00:00-16:00, open 17:00-24:00"),
    ("CMES.grains", "2026-11-17", "open 00:00-07:45, open 08:30-13:20, open 19:00-24:00"),
    ("CMES.livestock", "2026-11-17", "open 08:30-13:05"),
    ("CMES.crypto", "2026-05-20", "open 00:00-16:00, open 17:00-24:00"),
    ("CMES.crypto", "2026-07-11", "open 00:00-02:00, pre-open 03:45-04:00, open 04:00-24:00"),
    ("CMES.crypto", "2026-07-12", "open 00:00-24:00"),
    ("CMES.crypto", "2026-07-13", "open 00:00-16:00, open 16:02-24:00"),
    // What has no exchange.
    ("FOREX", "2026-07-10", "open 00:00-17:00"),
    ("FX", "2026-07-11", ""),
    ("FOREX", "2026-07-12", "open 17:00-24:00"),
    ("FOREX", "2026-12-11", "open 00:00-17:00"),
    ("CRYPTO", "2026-12-25", "open 00:00-24:00"),
];

#[test]
fn days_are_as_a_clock_on_the_wall_tells() -> Outcome<()> {
    let (layers, whole, plain) = (Layers::read()?, Calendars::embedded()?, Calendars::embedded()?.without_overlay());
    let markets = whole.markets();
    for (name, text, wanted) in ROWS {
        let named = |market: &&Market<'_>| market.name == *name || market.aliases.contains(name);
        let market = markets.iter().find(named).ok_or_else(|| format!("no market {name}"))?;
        let model = Model::new(&layers, &plain, market)?;
        let day = day_of(text)?;
        let mut found = Vec::new();
        for (phase, from, to) in walk(&whole, name, model.instant(day, 0)?..model.instant(day + 1, 0)?, None)? {
            let clock = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
            let (from, to) = (clock(model.minute(day, from)?), clock(model.minute(day, to)?));
            found.push(format!("{} {from}-{to}", phase.label()));
        }
        assert_eq!(found.join(", "), *wanted, "{name} on {text}");
    }
    Ok(())
}

/// The end of the week is at the same time of New York's clock, an hour later in UTC when that goes back.
#[test]
fn currencies_rest_from_friday_afternoon_in_new_york() -> Outcome<()> {
    let whole = Calendars::embedded()?;
    for (friday, sunday) in
        [("2026-07-10T21:00:00Z", "2026-07-12T21:00:00Z"), ("2026-12-11T22:00:00Z", "2026-12-13T22:00:00Z")]
    {
        let instant = |text: &str| -> Outcome<Instant> { Ok(text.parse::<jiff::Timestamp>()?.as_millisecond()) };
        let (friday, sunday) = (instant(friday)?, instant(sunday)?);
        let last = whole.session_at("FOREX", friday - 1, None)?;
        assert_eq!((last.phase, last.until, last.next_regular_open), (Phase::Open, friday, Some(sunday)));
        let rest = whole.session_at("FOREX", friday, None)?;
        assert_eq!((rest.phase, rest.since, rest.until), (Phase::Closed, friday, sunday));
    }
    Ok(())
}
