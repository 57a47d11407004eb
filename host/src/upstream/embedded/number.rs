//! Numbers as the server reads and spells them. No keys, no replies.
//!
//! Two spellings differ from Rust's: scores are C's `%.17g`, and the INCRBYFLOAT family computes with 64-bit mantissas
//! (`long double` on x86-64) and prints 17 decimals. Clients compare such strings, so both are kept to the digit.

/// A finite number with a 64-bit mantissa: ± `mantissa` × 2^`exponent`. The mantissa's top bit is set, or it is zero.
#[derive(Clone, Copy, Debug)]
struct Extended {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

/// Why a floating-point increment is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IncrementError {
    /// One of the two is not a number.
    NotANumber,
    /// The sum is not finite.
    NotFinite,
}

/// Decimals that the INCRBYFLOAT family prints.
const DECIMALS: usize = 17;
/// 10^[`DECIMALS`].
const DECIMALS_SCALE: u128 = 100_000_000_000_000_000;
/// The largest power of ten below 2^64, so that a quotient of 128 bits by it keeps 64 bits.
const POWER_MAX: i32 = 19;
/// Beyond it there is only overflow or nothing; the server's `long double` ends at 4932.
const EXPONENT_MAX: i32 = 10_000;
/// A floating-point number, infinities included; neither NaN nor anything that over- or underflows.
pub(super) fn parse_double(bytes: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let value: f64 = text.parse().ok()?;
    let overflows = value.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit());
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let underflows = value == 0.0 && mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    if value.is_nan() || overflows || underflows { None } else { Some(value) }
}

/// The bound of a score range, which the server reads with less care: blanks before it are skipped, nothing is zero,
/// and what overflows is infinite.
pub(super) fn parse_bound(bytes: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(bytes).ok()?.trim_ascii_start();
    if text.is_empty() {
        return if bytes.is_empty() { Some(0.0) } else { None };
    }
    text.parse().ok().filter(|value: &f64| !value.is_nan())
}

/// The spelling of a score: C's `%.17g`.
pub(super) fn double_text(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{value:.16e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    match usize::try_from(16 - exponent) {
        Ok(decimals) if exponent >= -4 => trim_zeros(&format!("{value:.decimals$}")).to_owned(),
        _ => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{}e{sign}{:02}", trim_zeros(mantissa), exponent.unsigned_abs())
        }
    }
}

/// `value` + `by`, as the INCRBYFLOAT family computes and spells it.
pub(super) fn add_decimals(value: &[u8], by: &[u8]) -> Result<String, IncrementError> {
    let (value_double, by_double) = match (parse_double(value), parse_double(by)) {
        (Some(value), Some(by)) => (value, by),
        _ => return Err(IncrementError::NotANumber),
    };
    if !(value_double + by_double).is_finite() {
        return Err(IncrementError::NotFinite);
    }
    let exact = |text: &[u8], double: f64| Extended::parse(text).unwrap_or_else(|| Extended::from_double(double));
    Ok(exact(value, value_double).plus(exact(by, by_double)).text())
}

/// Without the zeros at the end of the decimals.
fn trim_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

// === impl Extended ===

impl Extended {
    const ZERO: Self = Self { negative: false, mantissa: 0, exponent: 0 };

    /// A decimal number whose digits fit 128 bits, correctly rounded. None: it needs more than that, or is no number.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (text, negative) = match text.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (text.strip_prefix('+').unwrap_or(text), false),
        };
        let (digits, exponent) = match text.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
        let decimals = decimals.trim_end_matches('0');
        // Of more decimals nothing is left once 17 are printed.
        let decimals = decimals.get(..POWER_MAX.unsigned_abs() as usize).unwrap_or(decimals);
        let mut integer: u128 = 0;
        for digit in whole.bytes().chain(decimals.bytes()) {
            let digit = char::from(digit).to_digit(10)?;
            integer = integer.checked_mul(10)?.checked_add(u128::from(digit))?;
        }
        let exponent = exponent.clamp(-EXPONENT_MAX, EXPONENT_MAX) - i32::try_from(decimals.len()).ok()?;
        let magnitude = if exponent >= 0 {
            let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
            Self::rounded(integer.checked_mul(power)?, 0)
        } else {
            let beyond = (-POWER_MAX - exponent).max(0).unsigned_abs();
            let kept = 10_u128.checked_pow(beyond).map_or(0, |power| integer / power);
            Self::quotient(kept, 10_u128.pow(exponent.max(-POWER_MAX).unsigned_abs()))
        };
        Some(Self { negative, ..magnitude })
    }

    /// `dividend` / `divisor`, the divisor below 2^64.
    fn quotient(dividend: u128, divisor: u128) -> Self {
        if dividend == 0 {
            return Self::ZERO;
        }
        let shift = dividend.leading_zeros();
        let dividend = dividend << shift;
        let (quotient, rest) = (dividend / divisor, dividend % divisor);
        // The lowest bit says whether anything is lost, so that rounding sees a tie only where there is one.
        let sticky = quotient << 1 | u128::from(rest != 0);
        Self::rounded(sticky, -1 - shift.cast_signed())
    }

    /// `integer` × 2^`exponent`, rounded to 64 bits, ties to even.
    fn rounded(integer: u128, exponent: i32) -> Self {
        if integer == 0 {
            return Self::ZERO;
        }
        let shift = integer.leading_zeros();
        let integer = integer << shift;
        let exponent = exponent - shift.cast_signed() + 64;
        let (mantissa, rest) = ((integer >> 64) as u64, integer as u64);
        let up = rest > 1 << 63 || (rest == 1 << 63 && mantissa & 1 == 1);
        match mantissa.checked_add(u64::from(up)) {
            Some(mantissa) => Self { negative: false, mantissa, exponent },
            None => Self { negative: false, mantissa: 1 << 63, exponent: exponent + 1 },
        }
    }

    fn from_double(value: f64) -> Self {
        let bits = value.to_bits();
        let (biased, fraction) = ((bits >> 52 & 0x7ff) as i32, u128::from(bits & ((1 << 52) - 1)));
        let magnitude = match biased {
            0 => Self::rounded(fraction, -1074),
            _ => Self::rounded(fraction | 1 << 52, biased - 1075),
        };
        Self { negative: value.is_sign_negative(), ..magnitude }
    }

    fn plus(self, other: Self) -> Self {
        if self.mantissa == 0 || other.mantissa == 0 {
            return if self.mantissa == 0 { other } else { self };
        }
        let (large, small) = if (self.exponent, self.mantissa) >= (other.exponent, other.mantissa) {
            (self, other)
        } else {
            (other, self)
        };
        // 63 bits below the mantissa: enough that a sticky lowest bit rounds as the exact sum would.
        let shift = (large.exponent - small.exponent).unsigned_abs();
        let wide = u128::from(small.mantissa) << 63;
        let aligned = wide.checked_shr(shift).unwrap_or(0);
        let lost = aligned.checked_shl(shift).unwrap_or(0) != wide;
        let (large_wide, small_wide) = (u128::from(large.mantissa) << 63, aligned | u128::from(lost));
        let sum = if large.negative == small.negative { large_wide + small_wide } else { large_wide - small_wide };
        Self { negative: large.negative, ..Self::rounded(sum, large.exponent - 63) }
    }

    /// With 17 decimals at most, C's `%.17Lf` without the zeros at its end.
    fn text(self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let wide = u128::from(self.mantissa);
        let (mut whole, mut decimals) = match self.exponent {
            0..=64 => (wide << self.exponent.unsigned_abs(), 0),
            65.. => return format!("{sign}{:.0}", self.mantissa as f64 * 2_f64.powi(self.exponent)),
            // The mantissa's top bit stands for less than a tenth of the last decimal.
            ..=-128 => (0, 0),
            -127..=-1 => {
                let shift = self.exponent.unsigned_abs();
                let whole = wide >> shift;
                let scaled = (wide - (whole << shift)) * DECIMALS_SCALE;
                let (decimals, rest, half) = (scaled >> shift, scaled & ((1 << shift) - 1), 1_u128 << (shift - 1));
                (whole, decimals + u128::from(rest > half || (rest == half && decimals & 1 == 1)))
            }
        };
        if decimals == DECIMALS_SCALE {
            (whole, decimals) = (whole + 1, 0);
        }
        let digits = format!("{whole}.{decimals:0DECIMALS$}");
        match trim_zeros(&digits) {
            "0" => "0".into(),
            digits => format!("{sign}{digits}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{add_decimals, double_text, parse_double};

    #[test]
    fn doubles() {
        for (text, expect) in [
            ("3.14", "3.1400000000000001"),
            ("0.1", "0.10000000000000001"),
            ("100", "100"),
            ("-0", "-0"),
            ("1e17", "1e+17"),
            ("12345678901234567", "12345678901234568"),
            ("0.00001", "1.0000000000000001e-05"),
            ("0.0001", "0.0001"),
            ("inf", "inf"),
            ("-Infinity", "-inf"),
        ] {
            assert_eq!(double_text(parse_double(text.as_bytes()).unwrap()), expect, "{text}");
        }
        for text in ["nan", "1e400", "1e-400", "", " 1", "1 ", "x"] {
            assert_eq!(parse_double(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn increments() {
        for (value, by, expect) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-3", "0"),
            ("1", "-0.9", "0.1"),
            ("-1.5", "0.25", "-1.25"),
            ("1e18", "0.5", "1000000000000000000.5"),
            ("0", "1e-17", "0.00000000000000001"),
            ("0", "-1e-18", "0"),
            ("0", "0.6666666666666666666666", "0.66666666666666667"),
            ("2.5", "1e-300", "2.5"),
        ] {
            assert_eq!(add_decimals(value.as_bytes(), by.as_bytes()).unwrap(), expect, "{value} + {by}");
        }
    }
}
