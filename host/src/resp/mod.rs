//! RESP, the protocol of Redis, versions 2 and 3: bytes to frame boundaries and back. No I/O, no meaning.
//!
//! Frames are found, not built: a command is a list of spans in the bytes it came as, a reply is a length. Both
//! scanners remember where they stopped, so that a frame that arrives in a thousand reads is scanned once.

#[cfg(test)]
mod random;
pub mod reply;
pub mod request;
pub mod write;

/// Where one argument stands in the bytes of its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

/// The protocol version a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// What every connection begins with.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

// === impl Span ===

impl Span {
    fn new(start: usize, end: usize) -> Self {
        // The scanner refuses frames past `u32::MAX` before it makes a span.
        Self { start: u32::try_from(start).unwrap_or(u32::MAX), end: u32::try_from(end).unwrap_or(u32::MAX) }
    }

    /// The argument's bytes, from the bytes of its command.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// Reads a decimal length line that starts at `at` and ends in CRLF: the number and the position behind the line.
///
/// `Ok(None)`: the line is not complete. `Err(())`: it is not a number, or longer than any length.
fn length_line(bytes: &[u8], at: usize) -> Result<Option<(i64, usize)>, ()> {
    /// The longest `i64` has 20 characters.
    const DIGITS_MAX: usize = 20;
    let rest = bytes.get(at..).unwrap_or_default();
    // Nearly all of them.
    match *rest {
        [one @ b'0'..=b'9', b'\r', b'\n', ..] => return Ok(Some((i64::from(one - b'0'), at + 3))),
        [ten @ b'0'..=b'9', one @ b'0'..=b'9', b'\r', b'\n', ..] => {
            return Ok(Some((i64::from(ten - b'0') * 10 + i64::from(one - b'0'), at + 4)));
        }
        _ => {}
    }
    let mut value: i64 = 0;
    let negative = rest.first() == Some(&b'-');
    let mut index = usize::from(negative);
    loop {
        match rest.get(index) {
            None => return Ok(None),
            Some(digit @ b'0'..=b'9') if index < DIGITS_MAX => {
                value = value.checked_mul(10).and_then(|v| v.checked_add(i64::from(digit - b'0'))).ok_or(())?;
                index += 1;
            }
            Some(b'\r') if index > usize::from(negative) => break,
            Some(_) => return Err(()),
        }
    }
    match rest.get(index + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((if negative { -value } else { value }, at + index + 2))),
        Some(_) => Err(()),
    }
}

/// An integer as the server reads arguments, in its one spelling: no blanks, no plus sign, no leading zeros.
pub fn parse_integer(bytes: &[u8]) -> Option<i64> {
    let spelled = match bytes.strip_prefix(b"-").unwrap_or(bytes) {
        [b'0'] => bytes.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if spelled { std::str::from_utf8(bytes).ok()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::parse_integer;

    #[test]
    fn integers() {
        for (text, expect) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("", None),
            ("1.0", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), expect, "{text}");
        }
    }
}
