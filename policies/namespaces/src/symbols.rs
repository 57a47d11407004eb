//! The symbol table: how market data vendors write where a symbol trades, and the operator's lines over it.
//!
//! Suffixes are those of Yahoo Finance, which the application's data comes from; markets are named by their MIC as the
//! exchange calendars name them. A market that the market-hours policy does not know costs nothing but the fallback.

use bellwether_sdk::settings::{NONE, Table};
use bellwether_sdk::{SymbolMatch, SymbolRule};

/// Limits of `wit/namespaces.wit`.
const LINES_MAX: usize = 10_000;
const TEXT_BYTES_MAX: usize = 64;
const MARKET_BYTES_MAX: usize = 64;

const KINDS: [(&str, SymbolMatch); 3] =
    [("exact", SymbolMatch::Exact), ("suffix", SymbolMatch::Suffix), ("prefix", SymbolMatch::Prefix)];

const SUFFIXES: [(&str, &str); 66] = [
    (".NS", "XNSE"),
    (".BO", "XBOM"),
    // Asia and Oceania
    (".T", "XTKS"),
    (".HK", "XHKG"),
    (".SS", "XSHG"),
    (".SZ", "XSHE"),
    (".KS", "XKRX"),
    (".KQ", "XKRX"),
    (".TW", "XTAI"),
    (".TWO", "XTAI"),
    (".SI", "XSES"),
    (".KL", "XKLS"),
    (".BK", "XBKK"),
    (".JK", "XIDX"),
    (".PS", "XPHS"),
    (".KA", "XKAR"),
    (".AX", "XASX"),
    (".NZ", "XNZE"),
    // Europe
    (".L", "XLON"),
    (".IL", "XLON"),
    (".DE", "XETR"),
    (".F", "XFRA"),
    (".DU", "XDUS"),
    (".HM", "XHAM"),
    (".SG", "XSTU"),
    (".PA", "XPAR"),
    (".AS", "XAMS"),
    (".BR", "XBRU"),
    (".LS", "XLIS"),
    (".IR", "XDUB"),
    (".MI", "XMIL"),
    (".MC", "XMAD"),
    (".SW", "XSWX"),
    (".VI", "XWBO"),
    (".ST", "XSTO"),
    (".HE", "XHEL"),
    (".CO", "XCSE"),
    (".OL", "XOSL"),
    (".IC", "XICE"),
    (".TL", "XTAL"),
    (".RG", "XRIS"),
    (".VS", "XLIT"),
    (".WA", "XWAR"),
    (".PR", "XPRA"),
    (".BD", "XBUD"),
    (".RO", "XBSE"),
    (".AT", "ASEX"),
    (".IS", "XIST"),
    (".ME", "XMOS"),
    // Middle East and Africa
    (".TA", "XTAE"),
    (".SR", "XSAU"),
    (".JO", "XJSE"),
    // The Americas
    (".TO", "XTSE"),
    (".V", "XTSE"),
    (".MX", "XMEX"),
    (".SA", "BVMF"),
    (".SN", "XSGO"),
    (".BA", "XBUE"),
    (".CL", "XBOG"),
    (".LM", "XLIM"),
    // Pairs of a crypto currency, which trade always, in the currencies they are quoted in.
    ("-USD", "24/7"),
    ("-USDT", "24/7"),
    ("-INR", "24/7"),
    ("-EUR", "24/7"),
    // Currencies trade while the week lasts; futures have the hours of CME Globex.
    ("=X", "24/5"),
    ("=F", "CMES"),
];

const EXACT: [(&str, &str); 46] = [
    ("^NSEI", "XNSE"),
    ("^NSEBANK", "XNSE"),
    ("^NSMIDCP", "XNSE"),
    ("^CRSLDX", "XNSE"),
    ("^INDIAVIX", "XNSE"),
    ("^BSESN", "XBOM"),
    // Asia and Oceania
    ("^N225", "XTKS"),
    ("^HSI", "XHKG"),
    ("^HSCE", "XHKG"),
    ("^KS11", "XKRX"),
    ("^KQ11", "XKRX"),
    ("^TWII", "XTAI"),
    ("^STI", "XSES"),
    ("^KLSE", "XKLS"),
    ("^JKSE", "XIDX"),
    ("^AXJO", "XASX"),
    ("^AORD", "XASX"),
    ("^NZ50", "XNZE"),
    // Europe. The Euro Stoxx is computed in the hours of its largest market.
    ("^FTSE", "XLON"),
    ("^FTMC", "XLON"),
    ("^GDAXI", "XETR"),
    ("^MDAXI", "XETR"),
    ("^TECDAX", "XETR"),
    ("^STOXX50E", "XETR"),
    ("^FCHI", "XPAR"),
    ("^AEX", "XAMS"),
    ("^BFX", "XBRU"),
    ("^IBEX", "XMAD"),
    ("^SSMI", "XSWX"),
    ("^ATX", "XWBO"),
    ("^OMX", "XSTO"),
    ("^OMXC25", "XCSE"),
    ("^OMXH25", "XHEL"),
    // The Americas. The VIX is quoted by night too; its spot value means something while the stocks trade.
    ("^GSPC", "XNYS"),
    ("^DJI", "XNYS"),
    ("^NYA", "XNYS"),
    ("^RUT", "XNYS"),
    ("^VIX", "XNYS"),
    ("^IXIC", "XNAS"),
    ("^NDX", "XNAS"),
    ("^SOX", "XNAS"),
    ("^GSPTSE", "XTSE"),
    ("^BVSP", "BVMF"),
    ("^MXX", "XMEX"),
    ("^IPSA", "XSGO"),
    ("^MERV", "XBUE"),
];

/// The sector indices of the National Stock Exchange: ^CNXIT, ^CNXAUTO, ^CNXPHARMA …
const PREFIXES: [(&str, &str); 1] = [("^CNX", "XNSE")];

/// Reads `symbols`.
pub(crate) fn from_settings(settings: &mut Table) -> Result<Vec<SymbolRule>, String> {
    let Some(mut table) = settings.table("symbols")? else {
        return Ok(defaults());
    };
    let keep_defaults = table.flag("defaults")?.unwrap_or(true);
    let mut lines = if keep_defaults { defaults() } else { Vec::new() };
    for (kind, match_by) in KINDS {
        for (text, market) in table.texts(kind, 1..=MARKET_BYTES_MAX)? {
            if text.is_empty() || text.len() > TEXT_BYTES_MAX {
                return Err(
                    table.refuse(kind, &format!("takes texts of 1 to {TEXT_BYTES_MAX} bytes, and has \"{text}\""))
                );
            }
            lines.retain(|line| line.match_by != match_by || line.text != text);
            if market != NONE {
                lines.push(SymbolRule { match_by, text, market });
            }
        }
    }
    if lines.len() > LINES_MAX {
        return Err(format!("\"symbols\" takes at most {LINES_MAX} lines, and has {}", lines.len()));
    }
    table.finish()?;
    Ok(lines)
}

fn defaults() -> Vec<SymbolRule> {
    let tables: [(SymbolMatch, &[(&str, &str)]); 3] =
        [(SymbolMatch::Exact, &EXACT), (SymbolMatch::Suffix, &SUFFIXES), (SymbolMatch::Prefix, &PREFIXES)];
    let line = |match_by, (text, market): &(&str, &str)| SymbolRule {
        match_by,
        text: (*text).to_owned(),
        market: (*market).to_owned(),
    };
    tables.into_iter().flat_map(|(match_by, lines)| lines.iter().map(move |pair| line(match_by, pair))).collect()
}
