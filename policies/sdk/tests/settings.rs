//! Settings are refused with a message that says where, what and what instead.

use bellwether_sdk::instant;
use bellwether_sdk::settings::Table;

/// Reads settings as a policy would that has a field of every kind.
fn read(settings: &str) -> Result<String, String> {
    let mut table = Table::parse(settings)?;
    let number = table.number("number_ms", 1..=100)?;
    let optional = table.optional_number("optional_ms", 1..=100)?;
    let flag = table.flag("flag")?;
    let text = table.text("text", 1..=8)?;
    let choice = table.choice("choice", &[("left", 'l'), ("right", 'r')])?;
    let at = table.instant("at")?;
    let texts = table.texts("texts", 1..=8)?;
    let list = table.list("list", 2, 1..=8)?;
    let bytes = table.bytes("bytes")?;
    let mut rows = Vec::new();
    for (name, mut row) in table.tables("rows")? {
        rows.push((name, row.number("lead_ms", 0..=100)?));
        row.finish()?;
    }
    table.finish()?;
    Ok(format!("{number:?} {optional:?} {flag:?} {text:?} {choice:?} {at:?} {texts:?} {list:?} {bytes:?} {rows:?}"))
}

fn check(settings: &str, expect: Result<&str, &str>) {
    assert_eq!(read(settings), expect.map(str::to_owned).map_err(str::to_owned), "{settings}");
}

#[test]
fn fields_are_read_by_kind() {
    check("{}", Ok("None None None None None None [] [] None []"));
    check(
        r#"{ "number_ms": 5, "optional_ms": "none", "flag": true, "text": "a", "choice": "right",
             "at": "1970-01-01T00:00:01Z", "texts": { "k": "v" }, "list": ["l"], "bytes": "AP8=",
             "rows": { "a": { "lead_ms": 0 }, "b": {} } }"#,
        Ok("Some(5) Some(None) Some(true) Some(\"a\") Some('r') Some(1000) [(\"k\", \"v\")] \
             [\"l\"] Some([0, 255]) [(\"a\", Some(0)), (\"b\", None)]"),
    );
}

#[test]
fn a_wrong_value_is_refused_with_what_the_field_takes() {
    check("[]", Err("settings must be a table, and are a list"));
    check(r#"{ "number_ms": 0 }"#, Err(r#""number_ms" takes 1 to 100, and is 0"#));
    check(r#"{ "number_ms": -1 }"#, Err(r#""number_ms" takes 1 to 100, and is -1"#));
    check(r#"{ "number_ms": "none" }"#, Err(r#""number_ms" takes 1 to 100, and is "none""#));
    check(r#"{ "optional_ms": 101 }"#, Err(r#""optional_ms" takes 1 to 100 or "none", and is 101"#));
    check(r#"{ "flag": 1 }"#, Err(r#""flag" takes true or false, and is 1"#));
    check(r#"{ "text": "" }"#, Err(r#""text" takes a text of 1 to 8 bytes, and is """#));
    check(r#"{ "choice": "up" }"#, Err(r#""choice" takes "left" or "right", and is "up""#));
    check(r#"{ "at": "1970-01-01" }"#, Err(r#""at" takes a date-time with its offset, and is "1970-01-01""#));
    check(r#"{ "texts": { "k": 1 } }"#, Err(r#"texts."k" takes a text of 1 to 8 bytes, and is 1"#));
    check(r#"{ "list": "l" }"#, Err(r#""list" takes a list of texts, and is a text"#));
    check(r#"{ "list": ["a", "b", "c"] }"#, Err(r#""list" takes at most 2 texts, and has 3"#));
    check(r#"{ "list": [1] }"#, Err(r#""list" is a list, and an item takes a text of 1 to 8 bytes, and is 1"#));
    for wrong in [r#"{ "bytes": 1 }"#, r#"{ "bytes": "A" }"#, r#"{ "bytes": "AB" }"#, r#"{ "bytes": "A-AA" }"#] {
        check(wrong, Err(r#""bytes" takes bytes, written in base64"#));
    }
    check(r#"{ "rows": 1 }"#, Err(r#""rows" takes a table, and is a number"#));
    check(r#"{ "rows": { "a": 1 } }"#, Err(r#"rows."a" takes a table, and is a number"#));
    check(r#"{ "rows": { "a": { "lead_ms": 101 } } }"#, Err(r#"rows."a": "lead_ms" takes 0 to 100, and is 101"#));
}

#[test]
fn an_unknown_field_is_refused_with_the_nearest_name() {
    check(r#"{ "number": 1 }"#, Err(r#"unknown setting "number": did you mean "number_ms"?"#));
    check(
        r#"{ "rows": { "a": { "led_ms": 1 } } }"#,
        Err(r#"rows."a": unknown setting "led_ms": did you mean "lead_ms"?"#),
    );
    check(
        r#"{ "colour": 1 }"#,
        Err(
            "unknown setting \"colour\": known are number_ms, optional_ms, flag, text, choice, at, texts, list, bytes, \
             rows",
        ),
    );
}

#[test]
fn instants_are_read_in_rfc_3339() {
    fn check(text: &str, expect: Option<i64>) {
        assert_eq!(instant::parse(text), expect, "{text}");
    }
    check("1970-01-01T00:00:00Z", Some(0));
    check("2024-02-29T23:59:59.999Z", Some(1_709_251_199_999));
    check("2026-11-23T10:00:00+05:30", Some(1_795_408_200_000));
    check("2026-11-22t23:30:00.5-05:00", Some(1_795_408_200_500));
    check("9999-12-31T23:59:59.999Z", Some(253_402_300_799_999));
    for wrong in [
        "",
        "2026-11-23",
        "2026-11-23T10:00:00",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-11-23T10:00:00+0530",
        "2026-11-23T24:00:00Z",
        "2026-11-23T10:00:00.Z",
        "2026-11-23T10:00:00Zé",
        "é026-11-23T10:00:00Z",
    ] {
        check(wrong, None);
    }
}
