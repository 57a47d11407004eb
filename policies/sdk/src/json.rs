//! JSON as settings come in it: just enough of RFC 8259 to read one value.
//!
//! A component is small because of what is not in it: a general library would be a third of the standard policies.
//! Numbers stay texts until someone asks for one. It must not know what settings are.

use std::fmt;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Flag(bool),
    /// As it was written.
    Number(String),
    Text(String),
    List(Vec<Value>),
    Table(Fields),
}

/// A table's fields in order of name, each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, Value)>);

/// A list or a table whose end has not been read.
enum Open {
    List(Vec<Value>),
    /// With the name of the field that is being read.
    Table(Fields, String),
}

/// What is left to read.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// Lists and tables inside each other.
const DEPTH_MAX: usize = 32;

impl Value {
    /// Reads a text that is one value.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { text, at: 0 };
        let mut open: Vec<Open> = Vec::new();
        loop {
            if open.len() > DEPTH_MAX {
                return Err(reader.refuse("fewer lists inside lists"));
            }
            let mut value = match reader.peek() {
                Some(b'[') if !reader.eat_both(b'[', b']') => {
                    open.push(Open::List(Vec::new()));
                    continue;
                }
                Some(b'{') if !reader.eat_both(b'{', b'}') => {
                    open.push(Open::Table(Fields::default(), reader.name()?));
                    continue;
                }
                Some(b'[') => Value::List(Vec::new()),
                Some(b'{') => Value::Table(Fields::default()),
                Some(b'"') => Value::Text(reader.text()?),
                _ => reader.word()?,
            };
            // Whatever ends with this value is the next one.
            loop {
                match open.pop() {
                    None => return if reader.peek().is_none() { Ok(value) } else { Err(reader.refuse("the end")) },
                    Some(Open::List(mut items)) => {
                        items.push(value);
                        if reader.eat(b',') {
                            open.push(Open::List(items));
                            break;
                        }
                        reader.expect(b']', "`,` or `]`")?;
                        value = Value::List(items);
                    }
                    Some(Open::Table(mut fields, name)) => {
                        fields.put(name, value);
                        if reader.eat(b',') {
                            open.push(Open::Table(fields, reader.name()?));
                            break;
                        }
                        reader.expect(b'}', "`,` or `}`")?;
                        value = Value::Table(fields);
                    }
                }
            }
        }
    }

    /// The text, if it is one.
    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }

    /// The whole number that is not negative, if it is one.
    pub(crate) fn as_number(&self) -> Option<u64> {
        if let Value::Number(text) = self { text.parse().ok() } else { None }
    }
}

impl Fields {
    /// Takes a field out.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Value> {
        let place = self.0.iter().position(|field| field.0 == name)?;
        Some(self.0.remove(place).1)
    }

    /// The first field's name.
    pub(crate) fn first(&self) -> Option<&str> {
        self.0.first().map(|field| field.0.as_str())
    }

    fn put(&mut self, name: String, value: Value) {
        let place = self.0.partition_point(|field| field.0 < name);
        match self.0.get_mut(place).filter(|field| field.0 == name) {
            Some(field) => field.1 = value,
            None => self.0.insert(place, (name, value)),
        }
    }
}

impl IntoIterator for Fields {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Reader<'_> {
    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.byte() {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Takes an opening, and whether its closing follows at once, that too.
    fn eat_both(&mut self, opening: u8, closing: u8) -> bool {
        self.eat(opening) && self.eat(closing)
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<(), String> {
        if self.eat(byte) { Ok(()) } else { Err(self.refuse(what)) }
    }

    fn name(&mut self) -> Result<String, String> {
        self.peek();
        let name = self.text()?;
        self.expect(b':', "`:`")?;
        Ok(name)
    }

    fn text(&mut self) -> Result<String, String> {
        self.expect(b'"', "a text in quotes")?;
        let mut text = String::new();
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let plain = rest.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < b' ');
            let plain = plain.ok_or_else(|| self.refuse("the end of a text"))?;
            text.push_str(rest.get(..plain).unwrap_or_default());
            self.at += plain + 1;
            match rest.as_bytes().get(plain) {
                Some(b'"') => return Ok(text),
                Some(b'\\') => text.push(self.escaped()?),
                _ => return Err(self.refuse("no control characters in a text")),
            }
        }
    }

    /// What stands behind a backslash.
    fn escaped(&mut self) -> Result<char, String> {
        let byte = self.byte();
        self.at += 1;
        Ok(match byte {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.unit()?;
                let is_first_half = (0xd800..0xdc00).contains(&first) && self.eat(b'\\') && self.eat(b'u');
                let second = if is_first_half { self.unit()? } else { 0 };
                let code = match (is_first_half, second) {
                    (false, _) => first,
                    (true, 0xdc00..0xe000) => 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                    // Half a character is none.
                    (true, _) => first,
                };
                char::from_u32(code).ok_or_else(|| self.refuse("a character"))?
            }
            _ => return Err(self.refuse("an escape")),
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u32, String> {
        let digits = self.text.get(self.at..self.at + 4).ok_or_else(|| self.refuse("four digits"))?;
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| self.refuse("four digits"))
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Result<Value, String> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let length = rest.bytes().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let word = rest.get(..length).unwrap_or_default();
        let value = match word {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            "null" => Value::Null,
            _ if word.bytes().any(|byte| byte.is_ascii_digit())
                && !word.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) =>
            {
                Value::Number(word.to_owned())
            }
            _ => return Err(self.refuse("a value")),
        };
        self.at += length;
        Ok(value)
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn refuse(&self, what: &str) -> String {
        format!("{what} is missing at byte {}", self.at)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => write!(out, "nothing"),
            Value::Flag(flag) => write!(out, "{flag}"),
            Value::Number(text) => write!(out, "{text}"),
            Value::Text(text) => write!(out, "\"{text}\""),
            Value::List(_) => write!(out, "a list"),
            Value::Table(_) => write!(out, "a table"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Value;

    #[test]
    fn values() {
        let check = |text: &str, expect: &str| assert_eq!(format!("{:?}", Value::parse(text)), expect, "{text}");
        check(" null ", "Ok(Null)");
        check("[ ]", "Ok(List([]))");
        check("{\n}", "Ok(Table(Fields([])))");
        check("[true,false , -1.5e+3]", r#"Ok(List([Flag(true), Flag(false), Number("-1.5e+3")]))"#);
        check(r#"{"b":{"c":[]},"a":1,"b":2}"#, r#"Ok(Table(Fields([("a", Number("1")), ("b", Number("2"))])))"#);
        check(r#"["\"\\\/\n\u0001\u00e9\ud83d\ude00é"]"#, r#"Ok(List([Text("\"\\/\n\u{1}é😀é")]))"#);
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let deep = "[".repeat(100_000);
        let wrong = [
            "",
            "x",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "{",
            "{1:2}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            "1 2",
            r#"""#,
            r#""\x""#,
            r#""\u12"#,
            r#""\ud800""#,
            r#""\ud800\u0041""#,
            "\"\n\"",
            "tru",
            "nan",
            &deep,
        ];
        for text in wrong {
            assert!(Value::parse(text).is_err(), "{:?}", text.get(..20).unwrap_or(text));
        }
    }
}
