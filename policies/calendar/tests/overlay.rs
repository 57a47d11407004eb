//! Every row of overlay.toml is a test: what the day is, what was believed before one could know, who says so.

mod model;

use bellwether_calendar::{Calendars, Phase, SpecialDay};
use model::{
    Instant, Model, Outcome, Profile, UtcSpan, date,
    rows::{Believed, Fact, Layers},
    shown,
};

const HOUR_MS: i64 = 3_600_000;

/// The calendars that are asked, and those of the reference alone.
struct Asked {
    whole: Calendars<'static>,
    plain: Calendars<'static>,
}

impl Asked {
    fn new() -> Outcome<Self> {
        Ok(Asked { whole: Calendars::embedded()?, plain: Calendars::embedded()?.without_overlay() })
    }

    /// What was answered for a day equals a profile: every phase, to the minute.
    fn check(
        &self,
        model: &Model<'_>,
        day: i64,
        known_at: Option<Instant>,
        wanted: &Profile,
        told: &str,
    ) -> Outcome<()> {
        let found = self.whole_day(model, day, known_at)?;
        let wanted = model.spans(day, wanted)?;
        let name = model.name;
        assert_eq!(shown(&found), shown(&wanted), "{name} on {}, {told}", date(day));
        Ok(())
    }

    fn whole_day(&self, model: &Model<'_>, day: i64, known_at: Option<Instant>) -> Outcome<Vec<UtcSpan>> {
        model.answered(&self.whole, model.name, day, known_at)
    }
}

/// All that is said of one day of one market: each row from its `known` to the next one's, what was believed before
/// the first, and the last with everything known.
fn check_day(asked: &Asked, model: &Model<'_>, day: i64) -> Outcome<()> {
    let facts = model.facts(day);
    let first = facts.first().ok_or("a day without facts")?;
    let before = first.known - HOUR_MS;
    let believed = match &first.believed {
        Believed::Reference => model.regular(day, Some(before)),
        Believed::Said(saying) => model.said(&asked.whole, day, saying)?,
    };
    asked.check(model, day, Some(before), &believed, "an hour before it was known")?;
    asked.check(model, day, Some(first.known - 1), &believed, "a millisecond before it was known")?;
    for (index, fact) in facts.iter().enumerate() {
        let said = model.said(&asked.whole, day, &fact.saying)?;
        asked.check(model, day, Some(fact.known), &said, "as soon as it was known")?;
        match facts.get(index + 1) {
            Some(next) => asked.check(model, day, Some(next.known - 1), &said, "until more was known")?,
            None => asked.check(model, day, None, &said, "with everything known")?,
        }
        let is_news = index > 0 || said != believed;
        assert!(is_news, "{} on {}: nobody was surprised", model.name, date(day));
    }
    check_listed(asked, model, day, facts.last().ok_or("no last fact")?)
}

/// The list of special days has the day, as its last row says.
fn check_listed(asked: &Asked, model: &Model<'_>, day: i64, fact: &Fact) -> Outcome<()> {
    let listed = asked.whole.special_days(model.name, model.bound(day)?, 1)?;
    let [SpecialDay { date: found, spans, note, source, known_since }] = listed.as_slice() else {
        return Err(format!("{} lists no special day from {} on", model.name, date(day)).into());
    };
    let (name, text) = (model.name, date(day).to_string());
    assert_eq!(*found, text, "{name}: the first special day from {text} on");
    assert_eq!((*note, *source), (fact.note.as_str(), fact.source.as_str()), "{name} on {text}");
    assert_eq!(*known_since, Some(fact.known), "{name} on {text}");
    let spans: Vec<_> = spans.iter().map(|span| (span.phase, span.since, span.until)).collect();
    let wanted = model.spans(day, &model.said(&asked.whole, day, &fact.saying)?)?;
    assert_eq!(shown(&spans), shown(&wanted), "{name} lists {text}");
    Ok(())
}

#[test]
fn every_row_is_answered_as_cited() -> Outcome<()> {
    let (layers, asked) = (Layers::read()?, Asked::new()?);
    let mut rows = vec![0; layers.facts.len()];
    let mut days = 0;
    for market in asked.whole.markets() {
        let said = |fact: &Fact| fact.markets.iter().any(|name| name == market.name);
        if !layers.facts.iter().any(said) {
            continue;
        }
        let model = Model::new(&layers, &asked.plain, &market)?;
        let mut checked = Vec::new();
        for (count, fact) in rows.iter_mut().zip(&layers.facts).filter(|(_, fact)| said(fact)) {
            for &day in fact.days.iter().filter(|day| model.days.contains(day)) {
                *count += 1;
                days += 1;
                if !checked.contains(&day) {
                    checked.push(day);
                    check_day(&asked, &model, day)?;
                }
            }
        }
    }
    // Every row, for every one of its markets and dates.
    let written: Vec<usize> = layers.facts.iter().map(|fact| fact.markets.len() * fact.days.len()).collect();
    assert_eq!(rows, written);
    assert_eq!((rows.len(), days), (155, 243));
    Ok(())
}

/// What is not in the overlay is not there for whoever leaves it out.
#[test]
fn the_reference_alone_has_no_facts() -> Outcome<()> {
    let asked = Asked::new()?;
    let noted = |calendars: &Calendars<'_>, market| -> Outcome<usize> {
        let days = calendars.special_days(market, 1_577_836_800_000, 100)?;
        Ok(days.iter().filter(|day| !day.note.is_empty()).count())
    };
    for market in ["XBOM", "XHKG", "XTKS", "XNYS"] {
        assert!(noted(&asked.whole, market)? > 0, "{market}");
        assert_eq!(noted(&asked.plain, market)?, 0, "{market}");
    }
    Ok(())
}

/// Name, date, and when one could trade by the clock of Mumbai: all that NSE itself made known of its odd days.
#[rustfmt::skip]
const NSE: [(&str, &str, &str); 21] = [
    ("budget on a Saturday", "2015-02-28", "09:15-15:30"),
    ("budget on a Saturday", "2020-02-01", "09:15-15:30"),
    ("Muhurat on a Saturday", "2020-11-14", "18:15-19:15"),
    ("outage, and a longer day for it", "2021-02-24", "09:15-11:40 15:45-17:00"),
    ("Muhurat on a holiday", "2021-11-04", "18:15-19:15"),
    ("Muhurat on a holiday", "2022-10-24", "18:15-19:15"),
    ("Bakri Id was to be today", "2023-06-28", "09:15-15:30"),
    ("Bakri Id, moved by a day", "2023-06-29", ""),
    ("Muhurat on a Sunday", "2023-11-12", "18:15-19:15"),
    ("a full Saturday instead of Monday", "2024-01-20", "09:15-15:30"),
    ("the Monday", "2024-01-22", ""),
    ("disaster-recovery drill on a Saturday", "2024-03-02", "09:15-10:00 11:30-12:30"),
    ("another, with other hours than at BSE", "2024-05-18", "09:15-10:00 11:45-12:40"),
    ("polling day in Mumbai", "2024-05-20", ""),
    ("Muhurat on a holiday", "2024-11-01", "18:00-19:00"),
    ("polling day in Maharashtra", "2024-11-20", ""),
    ("budget on a Saturday", "2025-02-01", "09:15-15:30"),
    ("Muhurat in the afternoon", "2025-10-21", "13:45-14:45"),
    ("municipal elections", "2026-01-15", ""),
    ("budget on a Sunday", "2026-02-01", "09:15-15:30"),
    ("Muhurat on a Sunday, with a closing auction", "2026-11-08", "14:20-15:35"),
];

/// Open and closing auction of a day as one text.
fn traded(asked: &Asked, model: &Model<'_>, day: i64) -> Outcome<String> {
    let mut trades: Vec<UtcSpan> = Vec::new();
    for (phase, from, to) in asked.whole_day(model, day, None)? {
        if matches!(phase, Phase::Open | Phase::ClosingAuction) {
            model::add(&mut trades, (Phase::Open, from, to));
        }
    }
    let clock = |instant: Instant| -> Outcome<String> {
        let minute = model.minute(day, instant)?;
        Ok(format!("{:02}:{:02}", minute / 60, minute % 60))
    };
    let texts: Outcome<Vec<String>> =
        trades.iter().map(|(_, from, to)| Ok(format!("{}-{}", clock(*from)?, clock(*to)?))).collect();
    Ok(texts?.join(" "))
}

#[test]
fn mumbai_trades_as_its_exchange_said_on_all_of_21_dates() -> Outcome<()> {
    let (layers, asked) = (Layers::read()?, Asked::new()?);
    let markets = asked.whole.markets();
    let market = markets.iter().find(|market| market.name == "XNSE").ok_or("no XNSE")?;
    let model = Model::new(&layers, &asked.plain, market)?;
    for (name, text, wanted) in NSE {
        assert_eq!(traded(&asked, &model, model::day_of(text)?)?, wanted, "{text}: {name}");
    }
    Ok(())
}
