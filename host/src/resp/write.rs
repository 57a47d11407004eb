//! Frames as bytes: commands for the server, and the replies that are given without it.

use super::Protocol;

/// Where frames are written: a `Vec<u8>` or a `BytesMut`.
pub trait Sink {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for bytes::BytesMut {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

fn number_line(out: &mut impl Sink, kind: u8, value: impl itoa::Integer) {
    out.put(&[kind]);
    out.put(itoa::Buffer::new().format(value).as_bytes());
    out.put(b"\r\n");
}

/// `*n`: an array of `count` frames follows.
pub fn array(out: &mut impl Sink, count: usize) {
    number_line(out, b'*', count);
}

/// A map of `pairs` key and value frames follows; in RESP2 an array of twice as many.
pub fn map(out: &mut impl Sink, protocol: Protocol, pairs: usize) {
    match protocol {
        Protocol::Resp2 => array(out, pairs * 2),
        Protocol::Resp3 => number_line(out, b'%', pairs),
    }
}

/// A set of `count` frames follows; in RESP2 an array.
pub fn set(out: &mut impl Sink, protocol: Protocol, count: usize) {
    match protocol {
        Protocol::Resp2 => array(out, count),
        Protocol::Resp3 => number_line(out, b'~', count),
    }
}

/// A bulk string.
pub fn bulk(out: &mut impl Sink, bytes: &[u8]) {
    number_line(out, b'$', bytes.len());
    out.put(bytes);
    out.put(b"\r\n");
}

/// A bulk string of a decimal number.
pub fn bulk_number(out: &mut impl Sink, value: impl itoa::Integer) {
    bulk(out, itoa::Buffer::new().format(value).as_bytes());
}

/// A text for people, which RESP3 marks as such.
pub fn verbatim(out: &mut impl Sink, protocol: Protocol, text: &str) {
    if protocol == Protocol::Resp2 {
        return bulk(out, text.as_bytes());
    }
    /// The four bytes stand before the text and are of its length.
    const FORMAT: &[u8] = b"txt:";
    number_line(out, b'=', FORMAT.len() + text.len());
    out.put(FORMAT);
    out.put(text.as_bytes());
    out.put(b"\r\n");
}

/// An integer.
pub fn integer(out: &mut impl Sink, value: i64) {
    number_line(out, b':', value);
}

/// A simple string. `text` has no line break in it.
pub fn simple(out: &mut impl Sink, text: &str) {
    out.put(b"+");
    out.put(text.as_bytes());
    out.put(b"\r\n");
}

/// An error: its code (`ERR`, `NOAUTH` …), a blank and the message. Line breaks become blanks.
pub fn error(out: &mut impl Sink, message: &str) {
    out.put(b"-");
    out.put(message.replace(['\r', '\n'], " ").as_bytes());
    out.put(b"\r\n");
}

/// Nothing, as the reply of a command that gives a string.
pub fn nil(out: &mut impl Sink, protocol: Protocol) {
    out.put(match protocol {
        Protocol::Resp2 => b"$-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// Nothing, as the reply of a command that gives an array.
pub fn nil_array(out: &mut impl Sink, protocol: Protocol) {
    out.put(match protocol {
        Protocol::Resp2 => b"*-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// A floating-point number: a double in RESP3, a bulk string in RESP2. `text` is its spelling.
pub fn double(out: &mut impl Sink, protocol: Protocol, text: &str) {
    match protocol {
        Protocol::Resp2 => bulk(out, text.as_bytes()),
        Protocol::Resp3 => {
            out.put(b",");
            out.put(text.as_bytes());
            out.put(b"\r\n");
        }
    }
}
