//! Dates of the Gregorian calendar as days since 1970-01-01. It must not know markets.

pub(crate) const DAY_MINUTES: i64 = 24 * 60;
/// From a first of March, the days before each month: years begin there, so that the leap day is the last.
const FIFTHS: i64 = 153;
/// Days between 0000-03-01 and 1970-01-01.
const EPOCH: i64 = 719_468;
const DAYS_OF_400_YEARS: i64 = 146_097;

/// `2026-12-03`, if there is such a day.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let mut number = |digits: usize| {
        let part =
            parts.next().filter(|part| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        part.parse::<i64>().ok()
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    if parts.next().is_some() || !(1..=12).contains(&month) {
        return None;
    }
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    let days = years * 365 + leap_days + (FIFTHS * months + 2) / 5 + day - 1 - EPOCH;
    // The thirtieth of February would come out as another day.
    (text == self::text(days)).then_some(days)
}

/// `2026-12-03`.
pub(crate) fn text(days: i64) -> String {
    let days = days + EPOCH;
    let of_era = days.rem_euclid(DAYS_OF_400_YEARS);
    let years_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * years_of_era + years_of_era / 4 - years_of_era / 100);
    let months = (5 * of_year + 2) / FIFTHS;
    let day = of_year - (FIFTHS * months + 2) / 5 + 1;
    let month = if months < 10 { months + 3 } else { months - 9 };
    let year = years_of_era + days.div_euclid(DAYS_OF_400_YEARS) * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::{parse, text};

    #[test]
    fn dates_and_their_texts() {
        let check = |text: &str, days: Option<i64>| assert_eq!(parse(text), days, "{text}");
        check("1970-01-01", Some(0));
        check("2000-02-29", Some(11_016));
        check("2026-12-03", Some(20_790));
        for wrong in
            ["", "2026-13-01", "2026-02-29", "2026-11-31", "26-11-01", "2026-1-01", "2026-11-01-01", "+026-11-01"]
        {
            check(wrong, None);
        }
        assert!((-200_000..200_000).all(|days| parse(&text(days)) == Some(days)));
    }
}
