//! Settings, read field by field, with messages an operator can act on.
//!
//! Operators write TOML and the sidecar hands it over as a JSON object. A [`Table`] gives its fields out one by one and
//! knows at the end which were never asked for, so the names it suggests are the names the policy reads: there is no
//! second list of them to keep.
//!
//! ```
//! use bellwether_sdk::settings::Table;
//!
//! let mut table = Table::parse(r#"{ "open_ttl_ms": 5000, "rows": { "a": { "lead": 1 } } }"#)?;
//! assert_eq!(table.number("open_ttl_ms", 1..=60_000)?, Some(5000));
//! for (_, mut row) in table.tables("rows")? {
//!     row.number("lead_ms", 0..=60_000)?;
//!     let message = row.finish().err();
//!     assert_eq!(message.as_deref(), Some(r#"rows."a": unknown setting "lead": did you mean "lead_ms"?"#));
//! }
//! table.finish()?;
//! # Ok::<(), String>(())
//! ```

use std::ops::RangeInclusive;

use crate::json::{Fields, Value};
use crate::{Instant, instant};

/// One table of settings, and where it stands.
#[derive(Debug)]
pub struct Table {
    path: String,
    fields: Fields,
    asked: Vec<String>,
}

/// What an operator writes for a field that may have a value, to say that it has none.
pub const NONE: &str = "none";

impl Table {
    /// Reads the settings as they come to `configure`.
    ///
    /// # Errors
    ///
    /// When they are not a JSON object.
    pub fn parse(settings: &str) -> Result<Self, String> {
        match Value::parse(settings) {
            Ok(Value::Table(fields)) => Ok(Self::new(String::new(), fields)),
            Ok(other) => Err(format!("settings must be a table, and are {}", kind(&other))),
            Err(error) => Err(format!("settings are not JSON: {error}")),
        }
    }

    /// A whole number within a range.
    ///
    /// # Errors
    ///
    /// When it is something else, or outside the range.
    pub fn number(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, String> {
        self.number_or(name, range, |number| number, &[])
    }

    /// A whole number within a range, or one of a few words.
    ///
    /// # Errors
    ///
    /// When it is something else, or outside the range; the message lists the words.
    pub fn number_or<T: Clone>(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
        number: impl Fn(u64) -> T,
        words: &[(&str, T)],
    ) -> Result<Option<T>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let word = words.iter().find(|(word, _)| value.as_text() == Some(word));
        match (value.as_number(), word) {
            (Some(given), _) if range.contains(&given) => Ok(Some(number(given))),
            (_, Some((_, meaning))) => Ok(Some(meaning.clone())),
            _ => {
                let words: String = words.iter().map(|(word, _)| format!(" or \"{word}\"")).collect();
                Err(self.refuse(name, &format!("takes {} to {}{words}, and is {value}", range.start(), range.end())))
            }
        }
    }

    /// A whole number within a range, or [`NONE`] to say that there is none. The outer `Option` is whether the operator
    /// said anything.
    ///
    /// # Errors
    ///
    /// As [`Table::number_or`].
    pub fn optional_number(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<Option<Option<u64>>, String> {
        self.number_or(name, range, Some, &[(NONE, None)])
    }

    /// `true` or `false`.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value {
            Value::Flag(flag) => Ok(Some(flag)),
            other => Err(self.refuse(name, &format!("takes true or false, and is {other}"))),
        }
    }

    /// A text of so many bytes.
    ///
    /// # Errors
    ///
    /// When it is something else, or of another length.
    pub fn text(&mut self, name: &str, bytes: RangeInclusive<usize>) -> Result<Option<String>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value {
            Value::Text(text) if bytes.contains(&text.len()) => Ok(Some(text)),
            other => Err(self.refuse(name, &not_a_text(&bytes, &other))),
        }
    }

    /// One of a few words, and what each stands for.
    ///
    /// # Errors
    ///
    /// When it is something else; the message lists the words.
    pub fn choice<T: Clone>(&mut self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let chosen = choices.iter().find(|(word, _)| value.as_text() == Some(word));
        match chosen {
            Some((_, choice)) => Ok(Some(choice.clone())),
            None => {
                let words = in_a_row(choices.iter().map(|(word, _)| format!("\"{word}\"")), " or ");
                Err(self.refuse(name, &format!("takes {words}, and is {value}")))
            }
        }
    }

    /// An instant: an offset date-time in TOML, which arrives as a text in RFC 3339.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn instant(&mut self, name: &str) -> Result<Option<Instant>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_text().and_then(instant::parse) {
            Some(instant) => Ok(Some(instant)),
            None => Err(self.refuse(name, &format!("takes a date-time with its offset, and is {value}"))),
        }
    }

    /// A table.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn table(&mut self, name: &str) -> Result<Option<Self>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value {
            Value::Table(fields) => Ok(Some(Self::new(format!("{}{name}", self.prefix(".")), fields))),
            other => Err(self.refuse(name, &format!("takes a table, and is {}", kind(&other)))),
        }
    }

    /// A table of tables, in order of name. Empty where there is none.
    ///
    /// # Errors
    ///
    /// When it is something else, or holds something else.
    pub fn tables(&mut self, name: &str) -> Result<Vec<(String, Self)>, String> {
        let Some(outer) = self.table(name)? else {
            return Ok(Vec::new());
        };
        let mut tables = Vec::new();
        for (key, value) in outer.fields {
            let path = format!("{}.\"{key}\"", outer.path);
            match value {
                Value::Table(fields) => tables.push((key, Self::new(path, fields))),
                other => return Err(format!("{path} takes a table, and is {}", kind(&other))),
            }
        }
        Ok(tables)
    }

    /// A list of at most `count_max` texts of so many bytes. Empty where there is none.
    ///
    /// # Errors
    ///
    /// When it is something else, is longer, or holds something else.
    pub fn list(&mut self, name: &str, count_max: usize, bytes: RangeInclusive<usize>) -> Result<Vec<String>, String> {
        let Some(value) = self.take(name) else { return Ok(Vec::new()) };
        let Value::List(items) = value else {
            return Err(self.refuse(name, &format!("takes a list of texts, and is {}", kind(&value))));
        };
        if items.len() > count_max {
            return Err(self.refuse(name, &format!("takes at most {count_max} texts, and has {}", items.len())));
        }
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Value::Text(text) if bytes.contains(&text.len()) => texts.push(text),
                other => {
                    return Err(self.refuse(name, &format!("is a list, and an item {}", not_a_text(&bytes, &other))));
                }
            }
        }
        Ok(texts)
    }

    /// Bytes, written as a text in base64 (RFC 4648); line breaks in it do not count.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn bytes(&mut self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_text().and_then(decode_base64) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(self.refuse(name, "takes bytes, written in base64")),
        }
    }

    /// A table of texts of so many bytes, in order of name. Empty where there is none.
    ///
    /// # Errors
    ///
    /// When it is something else, or holds something else.
    pub fn texts(&mut self, name: &str, bytes: RangeInclusive<usize>) -> Result<Vec<(String, String)>, String> {
        let Some(outer) = self.table(name)? else {
            return Ok(Vec::new());
        };
        let mut texts = Vec::new();
        for (key, value) in outer.fields {
            match value {
                Value::Text(text) if bytes.contains(&text.len()) => texts.push((key, text)),
                other => return Err(format!("{}.\"{key}\" {}", outer.path, not_a_text(&bytes, &other))),
            }
        }
        Ok(texts)
    }

    /// Refuses what was never asked for: a misspelt setting must not be silently without effect.
    ///
    /// # Errors
    ///
    /// Names the first such field and the nearest name that is known.
    pub fn finish(self) -> Result<(), String> {
        let Some(unknown) = self.fields.first() else {
            return Ok(());
        };
        let place = self.prefix(": ");
        match nearest(unknown, self.asked.iter().map(String::as_str)) {
            Some(known) => Err(format!("{place}unknown setting \"{unknown}\": did you mean \"{known}\"?")),
            None => Err(format!("{place}unknown setting \"{unknown}\": known are {}", in_a_row(self.asked, ", "))),
        }
    }

    /// A message about one field of this table, in the form of all others.
    #[must_use]
    pub fn refuse(&self, name: &str, what: &str) -> String {
        format!("{}\"{name}\" {what}", self.prefix(": "))
    }

    fn new(path: String, fields: Fields) -> Self {
        Self { path, fields, asked: Vec::new() }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.asked.push(name.to_owned());
        self.fields.remove(name)
    }

    fn prefix(&self, separator: &str) -> String {
        if self.path.is_empty() { String::new() } else { format!("{}{separator}", self.path) }
    }
}

/// Words with something between them.
fn in_a_row(words: impl IntoIterator<Item = String>, between: &str) -> String {
    let mut row = String::new();
    for word in words {
        if !row.is_empty() {
            row.push_str(between);
        }
        row.push_str(&word);
    }
    row
}

/// Base64, whose padding may be left out. None: it is not that.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for digit in text.trim_ascii_end().trim_end_matches('=').bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let digit = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // What is left over are fewer bits than a digit has, and none of them is set.
    (count < 6 && bits == 0).then_some(bytes)
}

/// The known name that is most like an unknown one, if any is like it at all.
///
/// ```
/// use bellwether_sdk::settings::nearest;
///
/// assert_eq!(nearest("fallback_ttl", ["stale_ms", "fallback_ttl_ms"]), Some("fallback_ttl_ms"));
/// assert_eq!(nearest("colour", ["stale_ms", "fallback_ttl_ms"]), None);
/// ```
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let candidates = known.into_iter().map(|name| (distance(unknown, name), name));
    // A third of the letters wrong is still a misspelling; more is another word.
    let alike = candidates.filter(|(distance, name)| *distance <= name.len().max(unknown.len()).div_ceil(3));
    alike.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// Levenshtein's distance, in bytes: the one row of its table that is needed at a time.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

fn not_a_text(bytes: &RangeInclusive<usize>, value: &Value) -> String {
    format!("takes a text of {} to {} bytes, and is {value}", bytes.start(), bytes.end())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Flag(_) => "true or false",
        Value::Number(_) => "a number",
        Value::Text(_) => "a text",
        Value::List(_) => "a list",
        Value::Table(_) => "a table",
    }
}
