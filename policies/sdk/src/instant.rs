//! Instants as people write them. Nothing here knows what time it is: `now` comes in with each request.

use crate::Instant;

/// An instant written in RFC 3339, to the millisecond; none where it is not written so.
///
/// ```
/// use bellwether_sdk::instant;
///
/// assert_eq!(instant::parse("1970-01-01T05:30:01.5+05:30"), Some(1500));
/// assert_eq!(instant::parse("1970-01-01 05:30"), None);
/// ```
#[must_use]
pub fn parse(rfc3339: &str) -> Option<Instant> {
    let text = rfc3339.as_bytes();
    let digits = |from: usize, count: usize| -> Option<i64> {
        let field = rfc3339.get(from..from + count)?;
        if field.bytes().all(|byte| byte.is_ascii_digit()) { field.parse().ok() } else { None }
    };
    let separators = [(4, b"-"), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")] as [(usize, &[u8]); 5];
    if separators.iter().any(|(at, any)| !text.get(*at).is_some_and(|byte| any.contains(byte))) {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(5, 2)?, digits(8, 2)?);
    let (hour, minute, second) = (digits(11, 2)?, digits(14, 2)?, digits(17, 2)?);
    if !(1..=12).contains(&month)
        || !(1..=days_of(year, month)).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let (fraction_ms, offset_at) = match text.get(19) {
        Some(b'.') => {
            let count = rfc3339[20..].bytes().take_while(u8::is_ascii_digit).count();
            let milliseconds = format!("{:0<3}", rfc3339.get(20..20 + count.min(3))?);
            (milliseconds.parse::<i64>().ok().filter(|_| count > 0)?, 20 + count)
        }
        _ => (0, 19),
    };
    let offset_minutes = match (text.get(offset_at)?, text.len() - offset_at) {
        (b'Z' | b'z', 1) => 0,
        (sign @ (b'+' | b'-'), 6) if text[offset_at + 3] == b':' => {
            let minutes = digits(offset_at + 1, 2)? * 60 + digits(offset_at + 4, 2)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Some((minutes * 60 + second) * 1000 + fraction_ms)
}

fn days_of(year: i64, month: i64) -> i64 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days_since_1970(next_year, next_month, 1) - days_since_1970(year, month, 1)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, counting years from March so that the leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}
