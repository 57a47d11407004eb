//! Settings as operators write them and as policies take them: TOML made into a JSON object.

/// A table as a JSON object; instants become text. The nesting is bounded by the parser that made it.
pub fn object(table: toml::Table) -> serde_json::Map<String, serde_json::Value> {
    table.into_iter().map(|(key, value)| (key, json(value))).collect()
}

fn json(value: toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Datetime(instant) => instant.to_string().into(),
        toml::Value::Array(values) => values.into_iter().map(json).collect(),
        toml::Value::Table(table) => serde_json::Value::Object(object(table)),
    }
}
