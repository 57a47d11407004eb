//! The server's own command table (COMMAND), read into the terms of `command/`.

use redis::Value;

use crate::command::{BeginSearch, FindKeys, KeySpec, Reported};

/// All commands and subcommands that the answer of COMMAND names. What is not as documented is left out.
pub fn reported(answer: &Value) -> Vec<Reported> {
    let mut found = Vec::new();
    for command in list(answer) {
        let Some(reported) = command_of(command) else { continue };
        found.push(reported);
        // Subcommands have none of their own.
        found.extend(list(command).get(9).map(list).unwrap_or_default().iter().filter_map(command_of));
    }
    found
}

fn command_of(value: &Value) -> Option<Reported> {
    let fields = list(value);
    let number = |index: usize| fields.get(index).and_then(integer).unwrap_or_default();
    Some(Reported {
        name: fields.first().and_then(text)?,
        arity: fields.get(1).and_then(integer)?,
        flags: texts(fields.get(2)?),
        range: (number(3), number(4), number(5)),
        keys: fields.get(8).map(list).unwrap_or_default().iter().map(key_spec).collect(),
        container: fields.get(9).is_some_and(|subcommands| !list(subcommands).is_empty()),
    })
}

fn key_spec(value: &Value) -> KeySpec {
    let part = |name: &str| {
        let part = field(value, name)?;
        Some((field(&part, "type").as_ref().and_then(text)?, field(&part, "spec")?))
    };
    KeySpec {
        flags: field(value, "flags").map(|flags| texts(&flags)).unwrap_or_default(),
        begin: part("begin_search").and_then(|(kind, spec)| begin_search(&kind, &spec)),
        find: part("find_keys").and_then(|(kind, spec)| find_keys(&kind, &spec)),
    }
}

fn begin_search(kind: &str, spec: &Value) -> Option<BeginSearch> {
    match kind {
        "index" => Some(BeginSearch::Index(number(spec, "index")?)),
        "keyword" => {
            let word = field(spec, "keyword").as_ref().and_then(text)?;
            Some(BeginSearch::Keyword(word, number(spec, "startfrom")?))
        }
        _ => None,
    }
}

fn find_keys(kind: &str, spec: &Value) -> Option<FindKeys> {
    match kind {
        "range" => Some(FindKeys::Range {
            last: number(spec, "lastkey")?,
            step: number(spec, "keystep")?,
            limit: number(spec, "limit")?,
        }),
        "keynum" => Some(FindKeys::KeyNum {
            count: number(spec, "keynumidx")?,
            first: number(spec, "firstkey")?,
            step: number(spec, "keystep")?,
        }),
        _ => None,
    }
}

/// A field of a map, which RESP2 writes as a list of names and values.
fn field(value: &Value, name: &str) -> Option<Value> {
    let is_name = |value: &Value| text(value).is_some_and(|text| text == name);
    match value {
        Value::Map(pairs) => pairs.iter().find(|(key, _)| is_name(key)).map(|(_, value)| value.clone()),
        list_of => list(list_of).chunks_exact(2).find_map(|pair| match pair {
            [key, value] if is_name(key) => Some(value.clone()),
            _ => None,
        }),
    }
}

fn number(value: &Value, name: &str) -> Option<i64> {
    field(value, name).as_ref().and_then(integer)
}

fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) | Value::Set(values) => values,
        _ => &[],
    }
}

fn texts(value: &Value) -> Vec<String> {
    list(value).iter().filter_map(text).collect()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

fn integer(value: &Value) -> Option<i64> {
    if let Value::Int(number) = value { Some(*number) } else { None }
}
