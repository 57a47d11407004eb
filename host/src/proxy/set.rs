//! The SET family: reading a command of it, and writing one SET that does the same with another lifetime. Pure.

use super::lifetime::Lifetime;
use crate::command::{Command, ExpireForm, SetForm};
use crate::resp::parse_integer;
use crate::resp::write::{self, Sink};

/// A command of the SET family, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// The lifetime it carries.
    pub expiry: ClientExpiry,
    /// NX, XX, or a comparison with what is there.
    condition: Option<Condition<'a>>,
    get: bool,
}

/// On what a SET depends: a word, and what a comparison compares with.
type Condition<'a> = (&'static [u8], Option<&'a [u8]>);

/// Comparisons with the old value, or with its digest: Valkey 8.1 has the first, Redis 8.4 all.
const COMPARISONS: [&[u8]; 4] = [b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"];

/// The lifetime that a command carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientExpiry {
    /// None.
    None,
    /// The key's own is kept.
    KeepTtl,
    /// So many milliseconds from now.
    Ms(u64),
}

/// The options about a lifetime, as the server reads them: of one kind, and of several of it the last counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiryOptions<'a> {
    /// There is none.
    #[default]
    None,
    /// KEEPTTL
    Keep,
    /// PERSIST
    Persist,
    /// EX, PX, EXAT or PXAT, and its number.
    Span(ExpireForm, &'a [u8]),
}

// === impl Set ===

impl<'a> Set<'a> {
    /// Reads a command. None: the server would refuse it, and is to say so in its own words.
    pub fn read(form: SetForm, command: &Command<'a>, now: i64) -> Option<Self> {
        let key = command.arg(1)?;
        let plain = |value| Self { key, value, expiry: ClientExpiry::None, condition: None, get: false };
        let timed = |milliseconds| -> Option<Self> {
            let form = ExpireForm { milliseconds, absolute: false };
            let ms = span_ms(form, command.arg(2)?, now).filter(|ms| *ms > 0)?;
            Some(Self { expiry: ClientExpiry::Ms(ms.unsigned_abs()), ..plain(command.arg(3)?) })
        };
        match form {
            SetForm::Set => plain(command.arg(2)?).options(command, now),
            SetForm::SetNx => Some(Self { condition: Some((b"NX", None)), ..plain(command.arg(2)?) }),
            SetForm::GetSet => Some(Self { get: true, ..plain(command.arg(2)?) }),
            SetForm::SetEx => timed(false),
            SetForm::PSetEx => timed(true),
        }
    }

    fn options(mut self, command: &Command<'a>, now: i64) -> Option<Self> {
        let mut args = command.rest(3);
        let mut asked = ExpiryOptions::default();
        while let Some(option) = args.next() {
            let is = |word: &str| option.eq_ignore_ascii_case(word.as_bytes());
            if is("GET") {
                self.get = true;
            } else if is("NX") || is("XX") {
                let condition: &'static [u8] = if is("NX") { b"NX" } else { b"XX" };
                if self.condition.is_some_and(|other| other != (condition, None)) {
                    return None;
                }
                self.condition = Some((condition, None));
            } else if let Some(word) = COMPARISONS.into_iter().find(|word| option.eq_ignore_ascii_case(word)) {
                if self.condition.is_some() {
                    return None;
                }
                self.condition = Some((word, Some(args.next()?)));
            } else {
                asked.take(option, || args.next())?;
            }
        }
        self.expiry = asked.read(now)?;
        Some(self)
    }

    /// Writes a SET that does the same with that lifetime; `Keep` is not for this.
    pub fn write(&self, lifetime: Lifetime, out: &mut impl Sink) {
        let expiry = if let Lifetime::Ms(ms) = lifetime { Some(ms) } else { None };
        let condition = self.condition.map_or(0, |(_, compared)| 1 + usize::from(compared.is_some()));
        let options = condition + usize::from(self.get);
        write::array(out, 3 + options + 2 * usize::from(expiry.is_some()));
        write::bulk(out, b"SET");
        write::bulk(out, self.key);
        write::bulk(out, self.value);
        if let Some(ms) = expiry {
            write::bulk(out, b"PX");
            write::bulk_number(out, ms);
        }
        if let Some((word, compared)) = self.condition {
            write::bulk(out, word);
            compared.into_iter().for_each(|value| write::bulk(out, value));
        }
        if self.get {
            write::bulk(out, b"GET");
        }
    }
}

// === impl ExpiryOptions ===

impl<'a> ExpiryOptions<'a> {
    /// Takes an option, and what stands behind it where it has something. None: it is not one of them, or another kind
    /// of them than before.
    pub fn take(&mut self, option: &[u8], behind: impl FnOnce() -> Option<&'a [u8]>) -> Option<()> {
        let next = if option.eq_ignore_ascii_case(b"KEEPTTL") {
            Self::Keep
        } else if option.eq_ignore_ascii_case(b"PERSIST") {
            Self::Persist
        } else {
            Self::Span(expiry_option(option)?, behind()?)
        };
        match (&*self, &next) {
            (Self::None, _) | (Self::Keep, Self::Keep) | (Self::Persist, Self::Persist) => {}
            (Self::Span(form, _), Self::Span(other, _)) if form == other => {}
            _ => return None,
        }
        *self = next;
        Some(())
    }

    /// What they mean for a command that writes. None: the server refuses it.
    pub fn read(self, now: i64) -> Option<ClientExpiry> {
        match self {
            Self::None => Some(ClientExpiry::None),
            Self::Keep => Some(ClientExpiry::KeepTtl),
            Self::Persist => None,
            Self::Span(form, text) => {
                let ms = span_ms(form, text, now).filter(|_| parse_integer(text) > Some(0))?;
                // An instant in the past is allowed, and the key is gone at once.
                Some(ClientExpiry::Ms(u64::try_from(ms).unwrap_or(0).max(1)))
            }
        }
    }
}

/// The milliseconds from now that an argument of the EXPIRE family or an option of SET means, from `now`.
///
/// None: not a number, or out of the server's range.
pub fn span_ms(form: ExpireForm, text: &[u8], now: i64) -> Option<i64> {
    let number = parse_integer(text)?;
    let ms = if form.milliseconds { number } else { number.checked_mul(1000)? };
    if form.absolute {
        ms.checked_sub(now)
    } else {
        ms.checked_add(now)?;
        Some(ms)
    }
}

/// The form of an option EX, PX, EXAT or PXAT.
pub fn expiry_option(option: &[u8]) -> Option<ExpireForm> {
    let forms = [("EX", false, false), ("PX", true, false), ("EXAT", false, true), ("PXAT", true, true)];
    let found = forms.into_iter().find(|(word, ..)| option.eq_ignore_ascii_case(word.as_bytes()));
    found.map(|(_, milliseconds, absolute)| ExpireForm { milliseconds, absolute })
}

#[cfg(test)]
mod tests {
    use super::{ClientExpiry, Set};
    use crate::command::{Command, Kind, Table};
    use crate::proxy::lifetime::Lifetime;
    use crate::resp::request::{Limits, Scanned, Scanner};

    const NOW: i64 = 1_000_000;

    /// The SET that is written for a command and a decision of 5 ms, with the lifetime that was read.
    fn check(line: &str, expiry: ClientExpiry, expect: &str) {
        assert_eq!(with(line, |set| set.expiry), Some(expiry), "{line}");
        let text = with(line, |set| {
            let mut out = Vec::new();
            set.write(Lifetime::Ms(5), &mut out);
            String::from_utf8(out).unwrap()
        });
        let words: Vec<_> = text.as_deref().unwrap().split("\r\n").skip(2).step_by(2).collect();
        assert_eq!(words.join(" ").trim_end(), expect, "{line}");
    }

    fn refused(line: &str) {
        assert!(with(line, |_| ()).is_none(), "{line}");
    }

    fn with<T>(line: &str, look: impl FnOnce(Set<'_>) -> T) -> Option<T> {
        let mut scanner = Scanner::new(Limits { args_max: 32, bulk_bytes_max: 99, command_bytes_max: 999 });
        let Ok(Scanned::Inline(_, bytes)) = scanner.scan(format!("{line}\n").as_bytes()) else { panic!("{line}") };
        scanner.scan(&bytes).unwrap();
        let command = Command { bytes: &bytes, args: scanner.args() };
        let Some(Kind::Set(form)) = command.row(Table::of_redis()).map(|row| row.kind) else { panic!("{line}") };
        Set::read(form, &command, NOW).map(look)
    }

    #[test]
    fn the_family() {
        check("SET a b", ClientExpiry::None, "SET a b PX 5");
        check("set a b nx", ClientExpiry::None, "SET a b PX 5 NX");
        check("SET a b EX 9 GET XX", ClientExpiry::Ms(9_000), "SET a b PX 5 XX GET");
        check("SET a b KEEPTTL", ClientExpiry::KeepTtl, "SET a b PX 5");
        check("SET a b PXAT 1000007", ClientExpiry::Ms(7), "SET a b PX 5");
        check("SET a b EXAT 1", ClientExpiry::Ms(1), "SET a b PX 5");
        check("SET a b ifeq c EX 9", ClientExpiry::Ms(9_000), "SET a b PX 5 IFEQ c");
        check("SET a b GET IFDNE 0f", ClientExpiry::None, "SET a b PX 5 IFDNE 0f GET");
        check("SET a b EX 3 EX 9", ClientExpiry::Ms(9_000), "SET a b PX 5");
        check("SET a b EX x EX 9", ClientExpiry::Ms(9_000), "SET a b PX 5");
        check("SET a b KEEPTTL NX KEEPTTL", ClientExpiry::KeepTtl, "SET a b PX 5 NX");
        check("SETNX a b", ClientExpiry::None, "SET a b PX 5 NX");
        check("GETSET a b", ClientExpiry::None, "SET a b PX 5 GET");
        check("SETEX a 3 b", ClientExpiry::Ms(3_000), "SET a b PX 5");
        check("PSETEX a 3 b", ClientExpiry::Ms(3), "SET a b PX 5");
    }

    #[test]
    fn what_the_server_refuses() {
        for line in [
            "SET a b NX XX",
            "SET a b NX IFEQ c",
            "SET a b IFEQ",
            "SET a b IFEQ c IFEQ c",
            "SET a b EX",
            "SET a b EX 0",
            "SET a b EX -1",
            "SET a b EX x",
            "SET a b EX 9223372036854775807",
            "SET a b EX +5",
            "SET a b EX 05",
            "SET a b PXAT 0",
            "SET a b EXAT -1",
            "SET a b EX 1 PX 1",
            "SET a b EX 1 KEEPTTL",
            "SET a b PX 1 PXAT 1",
            "SET a b EX 9 EX 0",
            "SET a b KEEPTTL PX 1",
            "SET a b PERSIST",
            "SET a b WHAT",
            "SETEX a 0 b",
            "PSETEX a x b",
        ] {
            refused(line);
        }
    }
}
