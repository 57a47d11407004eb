//! What the server sends: finds where replies end, without looking into them.

use super::length_line;

/// Finds replies in a buffer that grows at its end.
#[derive(Debug)]
pub struct Splitter {
    /// Where scanning goes on.
    at: usize,
    /// Frames still missing until the reply is whole.
    missing: u64,
}

/// Bytes that are not RESP. The connection cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub struct GarbageReply {
    /// The byte at which it showed.
    pub byte: u8,
}

/// The one-byte prefixes of frames.
pub mod kind {
    /// A push that answers no command.
    pub const PUSH: u8 = b'>';
    /// An error.
    pub const ERROR: u8 = b'-';
    /// An array.
    pub const ARRAY: u8 = b'*';
    /// A bulk string.
    pub const BULK: u8 = b'$';
    /// An integer.
    pub const INTEGER: u8 = b':';
    /// The nothing of RESP3.
    pub const NULL: u8 = b'_';
}

// === impl Splitter ===

impl Default for Splitter {
    fn default() -> Self {
        Self { at: 0, missing: 1 }
    }
}

impl Splitter {
    /// The length of the first reply of `bytes`, when it is whole; the next call then expects the bytes behind it.
    /// Until then: the same bytes as in the last call, with more behind.
    ///
    /// # Errors
    /// The bytes are not RESP.
    pub fn split(&mut self, bytes: &[u8]) -> Result<Option<usize>, GarbageReply> {
        while self.missing > 0 {
            match self.frame(bytes)? {
                None => return Ok(None),
                Some(children) => self.missing = (self.missing - 1).saturating_add(children),
            }
        }
        let length = self.at;
        *self = Self::default();
        Ok(Some(length))
    }

    /// Steps over one frame's own bytes: how many frames it contains.
    fn frame(&mut self, bytes: &[u8]) -> Result<Option<u64>, GarbageReply> {
        let Some(&byte) = bytes.get(self.at) else { return Ok(None) };
        let garbage = |()| GarbageReply { byte };
        match byte {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {
                let rest = bytes.get(self.at..).unwrap_or_default();
                let Some(end) = line_end(rest) else { return Ok(None) };
                self.at += end;
                Ok(Some(0))
            }
            b'$' | b'!' | b'=' => {
                let Some((length, start)) = length_line(bytes, self.at + 1).map_err(garbage)? else { return Ok(None) };
                let Ok(length) = usize::try_from(length) else {
                    self.at = start;
                    return Ok(Some(0));
                };
                let end = start.checked_add(length).ok_or(garbage(()))?;
                match bytes.get(end..end.checked_add(2).ok_or(garbage(()))?) {
                    None => Ok(None),
                    Some(b"\r\n") => {
                        self.at = end + 2;
                        Ok(Some(0))
                    }
                    // A length that is wrong: what follows would be taken for replies to others.
                    Some(_) => Err(garbage(())),
                }
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let Some((count, start)) = length_line(bytes, self.at + 1).map_err(garbage)? else { return Ok(None) };
                self.at = start;
                let count = u64::try_from(count).unwrap_or(0);
                Ok(Some(match byte {
                    b'%' => count.saturating_mul(2),
                    // An attribute stands before the reply it belongs to, which is still missing.
                    b'|' => count.saturating_mul(2).saturating_add(1),
                    _ => count,
                }))
            }
            _ => Err(GarbageReply { byte }),
        }
    }
}

// === impl GarbageReply ===

impl std::fmt::Display for GarbageReply {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "the server's bytes are not RESP (at {:?})", char::from(self.byte))
    }
}

impl std::error::Error for GarbageReply {}

/// The position behind the first CRLF.
fn line_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let cr = memchr::memchr(b'\r', bytes.get(from..)?)? + from;
        match bytes.get(cr + 1) {
            Some(b'\n') => return Some(cr + 2),
            Some(_) => from = cr + 1,
            None => return None,
        }
    }
}

/// The elements of an array reply that has no arrays inside the ones asked for: each element's bytes, in order.
///
/// None: not an array, or not whole. Used on the few replies that are looked into (EXEC, RESP2 pub/sub).
pub fn elements(reply: &[u8]) -> Option<Vec<&[u8]>> {
    let (count, mut at) = match reply.first() {
        Some(b'*' | b'>') => length_line(reply, 1).ok()??,
        _ => return None,
    };
    let mut found = Vec::new();
    for _ in 0..count.max(0) {
        let rest = reply.get(at..)?;
        let length = Splitter::default().split(rest).ok()??;
        found.push(rest.get(..length)?);
        at += length;
    }
    Some(found)
}

/// The text of a bulk or simple string frame.
pub fn text(frame: &[u8]) -> Option<&[u8]> {
    match frame.first()? {
        b'$' => {
            let (length, start) = length_line(frame, 1).ok()??;
            frame.get(start..start + usize::try_from(length).ok()?)
        }
        b'+' | b'-' | b':' => frame.get(1..frame.len().checked_sub(2)?),
        _ => None,
    }
}

/// The value of an integer frame.
pub fn integer(frame: &[u8]) -> Option<i64> {
    match frame.first()? {
        b':' => length_line(frame, 1).ok().flatten().map(|(value, _)| value),
        _ => None,
    }
}

/// Whether the frame is one of the three nothings.
pub fn is_nil(frame: &[u8]) -> bool {
    matches!(frame, b"$-1\r\n" | b"*-1\r\n" | b"_\r\n")
}

#[cfg(test)]
mod tests {
    use super::Splitter;

    /// Splits `bytes`, whole and byte by byte, into replies of the given lengths.
    fn check(bytes: &[u8], lengths: &[usize]) {
        for step in [bytes.len().max(1), 1] {
            let mut splitter = Splitter::default();
            let (mut from, mut found, mut end) = (0, Vec::new(), 0);
            while end < bytes.len() {
                end = (end + step).min(bytes.len());
                while let Some(length) = splitter.split(&bytes[from..end]).unwrap() {
                    found.push(length);
                    from += length;
                }
            }
            assert_eq!(found, lengths, "{:?} in steps of {step}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn replies() {
        check(b"+OK\r\n-ERR x\r\n:1\r\n", &[5, 8, 4]);
        check(b"$-1\r\n$0\r\n\r\n$3\r\na\r\n\r\n", &[5, 6, 9]);
        check(b"*0\r\n*-1\r\n*2\r\n*1\r\n:1\r\n$1\r\nx\r\n_\r\n", &[4, 5, 19, 3]);
        check(b"%1\r\n+a\r\n~2\r\n#t\r\n,1.5\r\n(12\r\n", &[22, 5]);
        check(b"|1\r\n+ttl\r\n:3\r\n+OK\r\n>2\r\n+message\r\n=5\r\ntxt:a\r\n!3\r\nERR\r\n", &[19, 25, 9]);
        check(b"+a\rb\r\n", &[6]);
    }

    #[test]
    fn garbage() {
        for bytes in [&b"hello\r\n"[..], b"*x\r\n", b"$1x\r\n", b"$99999999999999999999999\r\n", b"$1\r\nabc"] {
            assert!(Splitter::default().split(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
