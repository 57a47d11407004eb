//! What a client sends: finds the commands in its bytes, without copying them.
//!
//! The limits and the words of the errors are the server's own, since clients match on them.

use super::{Span, parse_integer, write};

/// What one command may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Arguments of one command.
    pub args_max: usize,
    /// Bytes of one argument.
    pub bulk_bytes_max: usize,
    /// Bytes of one command.
    pub command_bytes_max: usize,
}

/// Finds commands in a buffer that grows at its end.
#[derive(Debug, Default)]
pub struct Scanner {
    limits: Limits,
    args: Vec<Span>,
    /// Where scanning goes on.
    at: usize,
    /// Arguments still missing; none: the array header has not been read.
    missing: Option<usize>,
    restricted: bool,
}

/// What stands at the front of the buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Scanned {
    /// Not yet a whole command.
    Incomplete,
    /// A command of that many bytes; its arguments are in [`Scanner::args`].
    Command(usize),
    /// Nothing that wants a reply (an empty array, an empty line), of that many bytes.
    Empty(usize),
    /// A command typed by a person, of that many bytes, written anew as an array.
    Inline(usize, Vec<u8>),
}

/// Bytes that are not RESP. The connection cannot go on: where the next command begins is not known.
#[derive(Debug, PartialEq, Eq)]
pub struct ProtocolError(String);

/// What a client that has not given the password may send: the server's own limits.
const RESTRICTED_ARGS_MAX: usize = 10;
const RESTRICTED_BULK_BYTES_MAX: usize = 16 * 1024;
/// The longest line of a command typed by a person, and of a length: the server's own limit.
const LINE_BYTES_MAX: usize = 64 * 1024;

// === impl Scanner ===

impl Scanner {
    /// A scanner at the front of an empty buffer.
    pub fn new(limits: Limits) -> Self {
        Self { limits, args: Vec::with_capacity(8), at: 0, missing: None, restricted: false }
    }

    /// The arguments of the command that [`Scanner::scan`] found last, the command's name first.
    pub fn args(&self) -> &[Span] {
        &self.args
    }

    /// Whether the client is one that has not given the password, which may send little.
    pub fn restrict(&mut self, restricted: bool) {
        self.restricted = restricted;
    }

    /// Goes back to the front: the caller has taken the bytes of what was found.
    pub fn reset(&mut self) {
        self.args.clear();
        self.at = 0;
        self.missing = None;
    }

    /// Looks at the front of `bytes`: the same bytes as in the last call, unless [`Scanner::reset`], with more behind.
    ///
    /// # Errors
    /// The bytes are not RESP, or a command is over its limits.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Scanned, ProtocolError> {
        let mut missing = match self.missing {
            Some(missing) => missing,
            None => match bytes.first() {
                None => return Ok(Scanned::Incomplete),
                Some(b'*') => match self.header(bytes)? {
                    None => return Ok(Scanned::Incomplete),
                    Some(0) => return Ok(Scanned::Empty(self.at)),
                    Some(count) => count,
                },
                Some(_) => return scan_inline(bytes),
            },
        };
        while missing > 0 {
            match self.argument(bytes)? {
                None => {
                    self.missing = Some(missing);
                    return Ok(Scanned::Incomplete);
                }
                Some(span) => self.args.push(span),
            }
            missing -= 1;
        }
        self.missing = Some(0);
        Ok(Scanned::Command(self.at))
    }

    fn header(&mut self, bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let Some((count, at)) = length(bytes, 0, "mbulk", "invalid multibulk length")? else { return Ok(None) };
        let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
        if count > self.limits.args_max {
            return Err(ProtocolError::new("invalid multibulk length"));
        }
        if self.restricted && count > RESTRICTED_ARGS_MAX {
            return Err(ProtocolError::new("unauthenticated multibulk length"));
        }
        self.at = at;
        Ok(Some(count))
    }

    fn argument(&mut self, bytes: &[u8]) -> Result<Option<Span>, ProtocolError> {
        match bytes.get(self.at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(other) => {
                // As the server: the byte itself, or a blank where it would end the line.
                let shown = if matches!(other, b'\r' | b'\n') { ' ' } else { char::from(*other) };
                let line = bytes.get(self.at..).unwrap_or_default();
                return match line_end(line, "bulk")? {
                    None => Ok(None),
                    Some(_) => Err(ProtocolError::new(&format!("expected '$', got '{shown}'"))),
                };
            }
        }
        let invalid = || ProtocolError::new("invalid bulk length");
        let Some((length, start)) = length(bytes, self.at, "bulk", "invalid bulk length")? else { return Ok(None) };
        let length = usize::try_from(length).map_err(|_| invalid())?;
        if length > self.limits.bulk_bytes_max {
            return Err(invalid());
        }
        if self.restricted && length > RESTRICTED_BULK_BYTES_MAX {
            return Err(ProtocolError::new("unauthenticated bulk length"));
        }
        // The span's positions are 32 bits wide, whatever the configuration allows.
        if start + length > self.limits.command_bytes_max.min(u32::MAX as usize - 2) {
            return Err(ProtocolError::new("too big command"));
        }
        let end = start + length;
        match bytes.get(end..end + 2) {
            None => Ok(None),
            Some(b"\r\n") => {
                self.at = end + 2;
                Ok(Some(Span::new(start, end)))
            }
            Some(_) => Err(invalid()),
        }
    }
}

// === impl ProtocolError ===

impl ProtocolError {
    fn new(what: &str) -> Self {
        Self(format!("Protocol error: {what}"))
    }
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for ProtocolError {}

/// The number on the line that begins at `at` with its kind, and where the next one begins. It is read as the server
/// reads it, since it is passed on as it came: in one spelling, ended by a carriage return and any byte behind it, and
/// not before all of it has come.
fn length(bytes: &[u8], at: usize, of: &str, why: &str) -> Result<Option<(i64, usize)>, ProtocolError> {
    let line = bytes.get(at..).unwrap_or_default();
    // Nearly all of them.
    match *line {
        [_, one @ b'0'..=b'9', b'\r', b'\n', ..] => return Ok(Some((i64::from(one - b'0'), at + 4))),
        [_, ten @ b'1'..=b'9', one @ b'0'..=b'9', b'\r', b'\n', ..] => {
            return Ok(Some((i64::from(ten - b'0') * 10 + i64::from(one - b'0'), at + 5)));
        }
        _ => {}
    }
    let Some(end) = line_end(line, of)? else { return Ok(None) };
    match parse_integer(line.get(1..end).unwrap_or_default()) {
        Some(number) => Ok(Some((number, at + end + 2))),
        None => Err(ProtocolError::new(why)),
    }
}

/// Where a line ends, once it and the byte behind its carriage return have come.
fn line_end(line: &[u8], of: &str) -> Result<Option<usize>, ProtocolError> {
    match memchr::memchr(b'\r', line) {
        None if line.len() > LINE_BYTES_MAX => Err(ProtocolError::new(&format!("too big {of} count string"))),
        end => Ok(end.filter(|end| end + 1 < line.len())),
    }
}

fn scan_inline(bytes: &[u8]) -> Result<Scanned, ProtocolError> {
    let Some(end) = bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() >= LINE_BYTES_MAX {
            Err(ProtocolError::new("too big inline request"))
        } else {
            Ok(Scanned::Incomplete)
        };
    };
    let line = bytes.get(..end).unwrap_or_default();
    let words = split_words(line.strip_suffix(b"\r").unwrap_or(line))
        .ok_or(ProtocolError::new("unbalanced quotes in request"))?;
    if words.is_empty() {
        return Ok(Scanned::Empty(end + 1));
    }
    let mut encoded = Vec::with_capacity(line.len() + 16 * words.len());
    write::array(&mut encoded, words.len());
    for word in &words {
        write::bulk(&mut encoded, word);
    }
    Ok(Scanned::Inline(end + 1, encoded))
}

/// Splits a line as a shell would: blanks separate, `"…"` with escapes, `'…'` without. None: a quote is not closed, or
/// is followed by something other than a blank.
fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let (word, after) = take_word(rest)?;
        words.push(word);
        rest = after.trim_ascii_start();
    }
    Some(words)
}

fn take_word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    let mut quote = None;
    loop {
        let Some((&byte, after)) = rest.split_first() else {
            return if quote.is_none() { Some((word, rest)) } else { None };
        };
        rest = after;
        match (quote, byte) {
            (Some(open), close) if open == close => {
                let ends = rest.first().is_none_or(u8::is_ascii_whitespace);
                return if ends { Some((word, rest)) } else { None };
            }
            (Some(b'"'), b'\\') => {
                let (byte, after) = unescape(rest)?;
                word.push(byte);
                rest = after;
            }
            (Some(b'\''), b'\\') if rest.first() == Some(&b'\'') => {
                word.push(b'\'');
                rest = rest.get(1..).unwrap_or_default();
            }
            (Some(_), byte) => word.push(byte),
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, byte) if byte.is_ascii_whitespace() || byte == 0 => return Some((word, rest)),
            (None, byte) => word.push(byte),
        }
    }
}

/// The byte that an escape stands for, `rest` beginning behind the backslash.
fn unescape(rest: &[u8]) -> Option<(u8, &[u8])> {
    let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    if let [b'x', high, low, after @ ..] = rest
        && let (Some(high), Some(low)) = (hex(*high), hex(*low))
    {
        return Some((high * 16 + low, after));
    }
    let (&byte, after) = rest.split_first()?;
    let byte = match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    };
    Some((byte, after))
}

#[cfg(test)]
mod tests {
    use super::{Limits, Scanned, Scanner};

    const LIMITS: Limits = Limits { args_max: 8, bulk_bytes_max: 64, command_bytes_max: 128 };

    /// What the scanner makes of `bytes`, whole and one byte at a time, as text.
    fn check(bytes: &[u8], expect: &str) {
        let whole = describe(&mut Scanner::new(LIMITS), bytes);
        assert_eq!(whole, expect, "{:?}", String::from_utf8_lossy(bytes));
        let mut scanner = Scanner::new(LIMITS);
        for end in 0..bytes.len() {
            let partial = describe(&mut scanner, bytes.get(..end).unwrap());
            assert!(partial == "incomplete" || partial == expect, "{partial} at {end} of {expect}");
            if partial == expect {
                return;
            }
        }
        assert_eq!(describe(&mut scanner, bytes), expect);
    }

    fn describe(scanner: &mut Scanner, bytes: &[u8]) -> String {
        match scanner.scan(bytes) {
            Ok(Scanned::Incomplete) => "incomplete".into(),
            Ok(Scanned::Empty(length)) => format!("empty {length}"),
            Ok(Scanned::Inline(length, encoded)) => format!("inline {length} {}", encoded.escape_ascii()),
            Ok(Scanned::Command(length)) => {
                let args: Vec<_> = scanner.args().iter().map(|a| a.of(bytes).escape_ascii().to_string()).collect();
                format!("{length} {}", args.join(" "))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn commands() {
        check(b"*1\r\n$4\r\nPING\r\n", "14 PING");
        check(b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", "19 GET ");
        check(b"*2\r\n$3\r\nGET\r\n$4\r\n\r\n\x00\xff\r\n", "23 GET \\r\\n\\x00\\xff");
        // The server looks at the carriage return only.
        check(b"*1\rx$4\ryPING\r\n", "14 PING");
        check(b"*0\r\n", "empty 4");
        check(b"*-1\r\n", "empty 5");
        check(b"", "incomplete");
    }

    #[test]
    fn inline() {
        check(b"PING\r\n", "inline 6 *1\\r\\n$4\\r\\nPING\\r\\n");
        check(b"\r\n", "empty 2");
        check(b"  \n", "empty 3");
        check(b"SET a \"b \\x41\\n\"\n", "inline 17 *3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\na\\r\\n$4\\r\\nb A\\n\\r\\n");
        check(b"GET 'it\\'s'\n", "inline 12 *2\\r\\n$3\\r\\nGET\\r\\n$4\\r\\nit\\'s\\r\\n");
        check(b"GET \"a\n", "Protocol error: unbalanced quotes in request");
        check(b"GET \"a\"b\n", "Protocol error: unbalanced quotes in request");
    }

    #[test]
    fn refusals() {
        check(b"*9\r\n", "Protocol error: invalid multibulk length");
        check(b"*x\r\n", "Protocol error: invalid multibulk length");
        check(b"*99999999999999999999\r\n", "Protocol error: invalid multibulk length");
        check(b"*1\r\n:1\r\n", "Protocol error: expected '$', got ':'");
        check(b"*01\r\n$4\r\nPING\r\n", "Protocol error: invalid multibulk length");
        check(b"*1\r\n$04\r\nPING\r\n", "Protocol error: invalid bulk length");
        check(b"*-0\r\n", "Protocol error: invalid multibulk length");
        check(b"*1\r\n$+4\r\nPING\r\n", "Protocol error: invalid bulk length");
        check(b"*\0", "incomplete");
        check(b"*1\r\n\0", "incomplete");
        check(b"*1\r\n$x\r", "incomplete");
        let long = [b'x'; 64 * 1024];
        check(&[b"*", &long[..]].concat(), "Protocol error: too big mbulk count string");
        check(&[b"*1\r\n", &long[..], b"y"].concat(), "Protocol error: too big bulk count string");
        check(&[b"*1\r\n$", &long[..]].concat(), "Protocol error: too big bulk count string");
        check(b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length");
        check(b"*1\r\n$65\r\n", "Protocol error: invalid bulk length");
        check(b"*1\r\n$1\r\nab\r\n", "Protocol error: invalid bulk length");
        check(&[b"*3\r\n$60\r\n", &[b'x'; 60][..], b"\r\n$60\r\n"].concat(), "Protocol error: too big command");
    }
}
