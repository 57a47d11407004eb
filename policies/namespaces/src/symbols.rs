//! The symbol table: how market data vendors write where a symbol trades, and the operator's lines over it.
//!
//! Suffixes are those of Yahoo Finance, which the application's data comes from: all of its table "Exchanges and data
//! providers" (<https://help.yahoo.com/kb/SLN2310.html>), and those it still answers to beside it. Markets are named as
//! the standard market-hours policy names them.
//!
//! Shares of the United States have no suffix, so that nothing tells `AAPL` from `RELIANCE`: both are of the rule's
//! default market, until the operator adds a line for one (`symbols.exact.AAPL = "XNAS"`).

use bellwether_sdk::settings::{NONE, Table};
use bellwether_sdk::{SymbolMatch, SymbolRule};

/// Limits of `wit/namespaces.wit`.
const LINES_MAX: usize = 10_000;
const TEXT_BYTES_MAX: usize = 64;
const MARKET_BYTES_MAX: usize = 64;

const KINDS: [(&str, SymbolMatch); 3] =
    [("exact", SymbolMatch::Exact), ("suffix", SymbolMatch::Suffix), ("prefix", SymbolMatch::Prefix)];

const SUFFIXES: &[(&str, &str)] = &[
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
    (".XA", "XASX"),
    (".NZ", "XNZE"),
    // Europe. Cboe (.XC, .XD) and Aquis (.AQ) trade in the hours of the exchanges whose shares they trade.
    (".L", "XLON"),
    (".IL", "XLON"),
    (".XC", "XLON"),
    (".AQ", "XLON"),
    (".DE", "XETR"),
    (".F", "XFRA"),
    (".DU", "XDUS"),
    (".HM", "XHAM"),
    (".SG", "XSTU"),
    // The other regional exchanges of Germany, as Hamburg: in the days and at most the hours that it trades.
    (".BE", "XHAM"),
    (".BM", "XHAM"),
    (".HA", "XHAM"),
    (".MU", "XHAM"),
    (".NX", "XPAR"),
    (".XD", "XAMS"),
    (".PA", "XPAR"),
    (".AS", "XAMS"),
    (".BR", "XBRU"),
    (".LS", "XLIS"),
    (".IR", "XDUB"),
    (".MI", "XMIL"),
    (".TI", "XMIL"),
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
    (".SAU", "XSAU"),
    (".JO", "XJSE"),
    // Exchanges of whose calendars nothing is known here, Cairo, Doha, Kuwait, Dubai, Ho Chi Minh City and Caracas: as
    // if they traded always, so that no value is held over an opening.
    (".CA", "24/7"),
    (".QA", "24/7"),
    (".KW", "24/7"),
    (".AE", "24/7"),
    (".VN", "24/7"),
    (".CR", "24/7"),
    // The Americas. All exchanges of Canada keep Toronto's days and hours.
    (".TO", "XTSE"),
    (".V", "XTSE"),
    (".CN", "XTSE"),
    (".NE", "XTSE"),
    (".MX", "XMEX"),
    (".SA", "BVMF"),
    (".SN", "XSGO"),
    (".BA", "XBUE"),
    (".CL", "XBOG"),
    (".LM", "XLIM"),
    // Pairs of a crypto currency, which trade always, in the currencies they are quoted in.
    ("-USD", "CRYPTO"),
    ("-USDT", "CRYPTO"),
    ("-USDC", "CRYPTO"),
    ("-INR", "CRYPTO"),
    ("-EUR", "CRYPTO"),
    ("-GBP", "CRYPTO"),
    ("-JPY", "CRYPTO"),
    ("-KRW", "CRYPTO"),
    ("-CAD", "CRYPTO"),
    ("-AUD", "CRYPTO"),
    ("-BTC", "CRYPTO"),
    ("-ETH", "CRYPTO"),
    // Currencies trade from Sunday to Friday, 17:00 in New York. Futures that are not listed below, cattle and lumber
    // among them, are taken for open as long as anything is at CME Globex.
    ("=X", "FOREX"),
    ("=F", "CMES"),
    // One month's contract of a future, by its exchange: ESZ26.CME, ZCZ26.CBT, GCZ26.CMX, CLZ26.NYM, KCZ26.NYB. The
    // first two trade contracts of several families, and a suffix does not say which.
    (".CME", "CMES"),
    (".CBT", "CMES"),
    (".CMX", "CMES.metals"),
    (".NYM", "CMES.energy"),
    (".NYB", "IEPA"),
];

const EXACT: &[(&str, &str)] = &[
    ("^NSEI", "XNSE"),
    ("^NSEBANK", "XNSE"),
    ("^NSMIDCP", "XNSE"),
    ("^CRSLDX", "XNSE"),
    ("^NSEMDCP50", "XNSE"),
    ("^INDIAVIX", "XNSE"),
    ("^BSESN", "XBOM"),
    // Asia and Oceania
    ("^N225", "XTKS"),
    ("^HSI", "XHKG"),
    ("^HSCE", "XHKG"),
    ("^KS11", "XKRX"),
    ("^KQ11", "XKRX"),
    ("^KS200", "XKRX"),
    ("^TWII", "XTAI"),
    ("^TWOII", "XTAI"),
    ("^STI", "XSES"),
    ("^KLSE", "XKLS"),
    ("^JKSE", "XIDX"),
    ("^KSE", "XKAR"),
    ("^AXJO", "XASX"),
    ("^AORD", "XASX"),
    ("^NZ50", "XNZE"),
    // Europe. The Euro Stoxx is computed in the hours of its largest market.
    ("^FTSE", "XLON"),
    ("^FTMC", "XLON"),
    ("^FTLC", "XLON"),
    ("^FTAS", "XLON"),
    ("^BUK100P", "XLON"),
    ("^GDAXI", "XETR"),
    ("^MDAXI", "XETR"),
    ("^SDAXI", "XETR"),
    ("^TECDAX", "XETR"),
    ("^STOXX50E", "XETR"),
    ("^STOXX", "XETR"),
    ("^FCHI", "XPAR"),
    ("^SBF120", "XPAR"),
    ("^N100", "XPAR"),
    ("^AEX", "XAMS"),
    ("^BFX", "XBRU"),
    ("^IBEX", "XMAD"),
    ("^SSMI", "XSWX"),
    ("^ATX", "XWBO"),
    ("^OMX", "XSTO"),
    ("^OMXC25", "XCSE"),
    ("^OMXH25", "XHEL"),
    ("^OSEAX", "XOSL"),
    ("^ISEQ", "XDUB"),
    ("^CASE30", "24/7"),
    // The Americas. The VIX is quoted by night too; its spot value means something while the stocks trade. So do the
    // yields of Treasuries (^IRX, ^FVX, ^TNX, ^TYX), within half an hour.
    ("^GSPC", "XNYS"),
    ("^OEX", "XNYS"),
    ("^MID", "XNYS"),
    ("^SP400", "XNYS"),
    ("^SP600", "XNYS"),
    ("^SP500TR", "XNYS"),
    ("^DJI", "XNYS"),
    ("^DJT", "XNYS"),
    ("^DJU", "XNYS"),
    ("^DJA", "XNYS"),
    ("^NYA", "XNYS"),
    ("^XAX", "XNYS"),
    ("^W5000", "XNYS"),
    ("^RUI", "XNYS"),
    ("^RUT", "XNYS"),
    ("^RUA", "XNYS"),
    ("^VIX", "XNYS"),
    ("^VVIX", "XNYS"),
    ("^VXN", "XNYS"),
    ("^SKEW", "XNYS"),
    ("^IRX", "XNYS"),
    ("^FVX", "XNYS"),
    ("^TNX", "XNYS"),
    ("^TYX", "XNYS"),
    ("^IXIC", "XNAS"),
    ("^NDX", "XNAS"),
    ("^NBI", "XNAS"),
    ("^SOX", "XNAS"),
    ("^GSPTSE", "XTSE"),
    ("^BVSP", "BVMF"),
    ("^MXX", "XMEX"),
    ("^IPSA", "XSGO"),
    ("^MERV", "XBUE"),
    // Futures that are not traded at CME Globex: coffee, sugar, cocoa, cotton, orange juice and the dollar index at
    // ICE, the VIX at Cboe.
    ("KC=F", "IEPA"),
    ("SB=F", "IEPA"),
    ("CC=F", "IEPA"),
    ("CT=F", "IEPA"),
    ("OJ=F", "IEPA"),
    ("DX=F", "IEPA"),
    ("VX=F", "XCBF"),
];

/// Futures by the family whose hours they have, written `ES=F`. Those on crypto currencies trade on weekends too.
const FUTURES: &[(&str, &str)] = &[
    ("CMES.equity-index", "ES MES NQ MNQ YM MYM RTY M2K EMD NKD"),
    ("CMES.metals", "GC MGC SI SIL HG MHG PL PA"),
    ("CMES.energy", "CL MCL QM NG QG BZ RB HO"),
    ("CMES.grains", "ZC ZW KE ZS ZM ZL ZO ZR"),
    ("CMES.rates", "ZB UB ZN TN ZF ZT ZQ SR1 SR3"),
    ("CMES.fx", "6A 6B 6C 6E 6J 6L 6M 6N 6S 6Z M6A M6B M6E"),
    ("CRYPTO", "BTC MBT ETH MET"),
];

/// The sector indices of the National Stock Exchange: ^CNXIT, ^CNXAUTO, ^CNXPHARMA …
const PREFIXES: &[(&str, &str)] = &[("^CNX", "XNSE")];

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
        [(SymbolMatch::Exact, EXACT), (SymbolMatch::Suffix, SUFFIXES), (SymbolMatch::Prefix, PREFIXES)];
    let line = |match_by, (text, market): &(&str, &str)| SymbolRule {
        match_by,
        text: (*text).to_owned(),
        market: (*market).to_owned(),
    };
    let plain = tables.into_iter().flat_map(|(match_by, lines)| lines.iter().map(move |pair| line(match_by, pair)));
    let future = |market: &str, name: &str| line(SymbolMatch::Exact, &(&format!("{name}=F"), market));
    let futures = FUTURES.iter().flat_map(|(market, names)| names.split(' ').map(move |name| future(market, name)));
    plain.chain(futures).collect()
}
