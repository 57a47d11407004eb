//! One call of a command: its arguments, what it may touch, and the reply it writes.

use std::borrow::Cow;

use crate::resp::{Protocol, parse_integer, write};

use super::{keyspace::Keyspace, number, session::Session, store::Server};

/// What a command works with.
pub(super) struct Call<'a> {
    pub(super) keys: &'a mut Keyspace,
    pub(super) server: &'a mut Server,
    pub(super) session: &'a mut Session,
    /// The arguments, the command's name first.
    pub(super) args: Args<'a>,
    pub(super) reply: Reply<'a>,
}

/// Arguments in a row.
pub(super) type Args<'a> = &'a [&'a [u8]];

/// What a command is: it writes its reply, or gives the error that takes the reply's place.
pub(super) type Run = fn(&mut Call<'_>) -> Result<(), Error>;

/// Where replies are written, in the session's protocol.
pub(super) struct Reply<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) protocol: Protocol,
    /// What all replies in `out` may be together.
    pub(super) bytes_max: usize,
    /// Something did not fit, so the connection cannot go on.
    pub(super) is_full: bool,
}

/// An error's code and message, as the server words them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Error(Cow<'static, str>);

// === impl Call ===

impl<'a> Call<'a> {
    /// An argument, 0 being the command's name. Behind the last one: nothing, though a command that its arity has let
    /// through does not ask for that.
    pub(super) fn arg(&self, index: usize) -> &'a [u8] {
        self.args.get(index).copied().unwrap_or_default()
    }

    /// The arguments from `index` on.
    pub(super) fn args_from(&self, index: usize) -> Args<'a> {
        self.args.get(index..).unwrap_or_default()
    }

    /// An argument that is an integer.
    pub(super) fn integer(&self, index: usize) -> Result<i64, Error> {
        integer(self.arg(index))
    }

    /// The command's name as errors spell it.
    pub(super) fn name(&self) -> String {
        String::from_utf8_lossy(self.arg(0)).to_ascii_lowercase()
    }
}

// === impl Reply ===

impl write::Sink for Reply<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if self.out.len().saturating_add(bytes.len()) > self.bytes_max {
            self.is_full = true;
        } else {
            self.out.extend_from_slice(bytes);
        }
    }
}

impl Reply<'_> {
    pub(super) fn ok(&mut self) {
        write::simple(self, "OK");
    }

    pub(super) fn simple(&mut self, text: &str) {
        write::simple(self, text);
    }

    pub(super) fn error(&mut self, error: &Error) {
        write::error(self, &error.0);
    }

    pub(super) fn integer(&mut self, value: i64) {
        write::integer(self, value);
    }

    pub(super) fn count(&mut self, count: usize) {
        write::integer(self, i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn boolean(&mut self, value: bool) {
        write::integer(self, i64::from(value));
    }

    pub(super) fn bulk(&mut self, bytes: &[u8]) {
        write::bulk(self, bytes);
    }

    /// A bulk string, or nothing.
    pub(super) fn bulk_or_nil(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.nil(),
        }
    }

    pub(super) fn double(&mut self, value: f64) {
        let protocol = self.protocol;
        write::double(self, protocol, &number::double_text(value));
    }

    /// A double, or nothing.
    pub(super) fn double_or_nil(&mut self, value: Option<f64>) {
        match value {
            Some(value) => self.double(value),
            None => self.nil(),
        }
    }

    pub(super) fn nil(&mut self) {
        let protocol = self.protocol;
        write::nil(self, protocol);
    }

    pub(super) fn nil_array(&mut self) {
        let protocol = self.protocol;
        write::nil_array(self, protocol);
    }

    pub(super) fn array(&mut self, count: usize) {
        write::array(self, count);
    }

    pub(super) fn map(&mut self, pairs: usize) {
        let protocol = self.protocol;
        write::map(self, protocol, pairs);
    }

    pub(super) fn set(&mut self, count: usize) {
        let protocol = self.protocol;
        write::set(self, protocol, count);
    }

    /// An array of `count` pairs, each written by [`Reply::pair`]: nested in RESP3, flat in RESP2.
    pub(super) fn pairs(&mut self, count: usize) {
        match self.protocol {
            Protocol::Resp2 => self.array(count.saturating_mul(2)),
            Protocol::Resp3 => self.array(count),
        }
    }

    /// The head of one pair; its two elements follow.
    pub(super) fn pair(&mut self) {
        if self.protocol == Protocol::Resp3 {
            self.array(2);
        }
    }

    /// Text for people: verbatim in RESP3, a bulk string in RESP2.
    pub(super) fn text(&mut self, text: &str) {
        let protocol = self.protocol;
        write::verbatim(self, protocol, text);
    }
}

// === impl Error ===

impl Error {
    pub(super) const FLOAT: Self = Self::fixed("ERR value is not a valid float");
    pub(super) const INTEGER: Self = Self::fixed("ERR value is not an integer or out of range");
    pub(super) const NO_SUCH_KEY: Self = Self::fixed("ERR no such key");
    pub(super) const OUT_OF_MEMORY: Self = Self::fixed("OOM command not allowed when used memory > 'maxmemory'.");
    pub(super) const RANGE: Self = Self::fixed("ERR value is out of range");
    pub(super) const RANGE_POSITIVE: Self = Self::fixed("ERR value is out of range, must be positive");
    pub(super) const STRING_TOO_LONG: Self =
        Self::fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    pub(super) const SYNTAX: Self = Self::fixed("ERR syntax error");
    pub(super) const WRONG_TYPE: Self =
        Self::fixed("WRONGTYPE Operation against a key holding the wrong kind of value");

    /// An error with a message that is always the same.
    pub(super) const fn fixed(message: &'static str) -> Self {
        Self(Cow::Borrowed(message))
    }

    /// An error whose message says what it is about.
    pub(super) fn about(message: String) -> Self {
        Self(Cow::Owned(message))
    }

    /// What every command answers that this store does not have.
    pub(super) fn absent(command: &str) -> Self {
        Self::about(format!(
            "ERR {command} is not in Bellwether's embedded store; run a Redis server and start bellwether with \
             --upstream redis://HOST:PORT"
        ))
    }

    /// The error of an EXEC that could not even begin because of this one.
    pub(super) fn aborts_exec(&self) -> Self {
        let reason = self.0.strip_prefix("ERR ").unwrap_or(&self.0);
        Self::about(format!("EXECABORT Transaction discarded because of: {reason}"))
    }
}

/// An integer.
pub(super) fn integer(bytes: &[u8]) -> Result<i64, Error> {
    parse_integer(bytes).ok_or(Error::INTEGER)
}

/// A floating-point number.
pub(super) fn double(bytes: &[u8]) -> Result<f64, Error> {
    number::parse_double(bytes).ok_or(Error::FLOAT)
}

/// A count that is not negative.
pub(super) fn count(bytes: &[u8]) -> Result<usize, Error> {
    parse_integer(bytes).and_then(|count| usize::try_from(count).ok()).ok_or(Error::RANGE_POSITIVE)
}

/// A count of members drawn at random; a negative one lets them repeat.
pub(super) fn random_count(bytes: &[u8]) -> Result<i64, Error> {
    match integer(bytes)? {
        i64::MIN => {
            Err(Error::about(format!("ERR value is out of range, value must between {} and {}", -i64::MAX, i64::MAX)))
        }
        count => Ok(count),
    }
}

/// Whether the argument is this word, in upper or lower case.
pub(super) fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// Bytes in an error message: text, as far as it is text.
pub(super) fn shown(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
