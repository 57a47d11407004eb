//! The symbol table, by default and under an operator's settings.

use bellwether_sdk::{NamespacesPolicy, SymbolMatch};
use namespaces::Namespaces;

/// The market of one line of the table; `None`: there is no such line.
fn check(settings: &str, match_by: SymbolMatch, text: &str, expect: Option<&str>) -> Result<(), String> {
    let lines = Namespaces::configure(settings)?.symbols()?;
    let mut found = lines.into_iter().filter(|line| line.match_by == match_by && line.text == text);
    assert_eq!(found.next().map(|line| line.market).as_deref(), expect, "{text} under {settings}");
    assert_eq!(found.next(), None, "{text} is there twice under {settings}");
    Ok(())
}

#[test]
fn vendor_symbols_have_their_markets() -> Result<(), String> {
    for (text, market) in [
        (".NS", "XNSE"),
        (".BO", "XBOM"),
        (".T", "XTKS"),
        (".HK", "XHKG"),
        (".SS", "XSHG"),
        (".SZ", "XSHE"),
        (".L", "XLON"),
        (".DE", "XETR"),
        ("-USD", "24/7"),
        ("=X", "24/5"),
    ] {
        check("{}", SymbolMatch::Suffix, text, Some(market))?;
    }
    for (text, market) in [
        ("^NSEI", "XNSE"),
        ("^BSESN", "XBOM"),
        ("^GSPC", "XNYS"),
        ("^DJI", "XNYS"),
        ("^IXIC", "XNAS"),
        ("^N225", "XTKS"),
        ("^HSI", "XHKG"),
        ("^FTSE", "XLON"),
        ("^GDAXI", "XETR"),
    ] {
        check("{}", SymbolMatch::Exact, text, Some(market))?;
    }
    Ok(())
}

#[test]
fn no_line_is_there_twice() -> Result<(), String> {
    for line in Namespaces::configure("{}")?.symbols()? {
        check("{}", line.match_by, &line.text, Some(&line.market))?;
    }
    Ok(())
}

#[test]
fn lines_are_changed_added_and_taken_away() -> Result<(), String> {
    let settings = r#"{ "symbols": {
        "suffix": { ".L": "none", ".PK": "XNYS", ".NS": "XBOM" }, "exact": { ".NS": "XNAS" } } }"#;
    check(settings, SymbolMatch::Suffix, ".L", None)?;
    check(settings, SymbolMatch::Suffix, ".PK", Some("XNYS"))?;
    check(settings, SymbolMatch::Suffix, ".NS", Some("XBOM"))?;
    check(settings, SymbolMatch::Exact, ".NS", Some("XNAS"))?;
    check(settings, SymbolMatch::Suffix, ".BO", Some("XBOM"))?;
    let alone = r#"{ "symbols": { "defaults": false, "prefix": { "NSE-": "XNSE" } } }"#;
    check(alone, SymbolMatch::Prefix, "NSE-", Some("XNSE"))?;
    check(alone, SymbolMatch::Suffix, ".NS", None)
}

#[test]
fn wrong_lines_are_refused() {
    fn check(settings: &str, expect: &str) {
        assert_eq!(Namespaces::configure(settings).err().as_deref(), Some(expect), "{settings}");
    }
    check(
        r#"{ "symbols": { "suffixes": { ".L": "XLON" } } }"#,
        r#"symbols: unknown setting "suffixes": did you mean "suffix"?"#,
    );
    check(
        r#"{ "symbols": { "suffix": { ".L": "" } } }"#,
        r#"symbols.suffix.".L" takes a text of 1 to 64 bytes, and is """#,
    );
    check(
        r#"{ "symbols": { "suffix": { "": "XLON" } } }"#,
        r#"symbols: "suffix" takes texts of 1 to 64 bytes, and has """#,
    );
}
