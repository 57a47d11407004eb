//! The symbol table, by default and under an operator's settings.

use bellwether_sdk::{NamespacesPolicy, SymbolMatch, SymbolRule};
use namespaces::Namespaces;

/// The market of one line of the table; `None`: there is no such line.
fn check(settings: &str, match_by: SymbolMatch, text: &str, expect: Option<&str>) -> Result<(), String> {
    let lines = Namespaces::configure(settings)?.symbols()?;
    let mut found = lines.into_iter().filter(|line| line.match_by == match_by && line.text == text);
    assert_eq!(found.next().map(|line| line.market).as_deref(), expect, "{text} under {settings}");
    assert_eq!(found.next(), None, "{text} is there twice under {settings}");
    Ok(())
}

/// The market of a symbol by the table, as the contract says it is looked up: the exact text, then the longest suffix,
/// then the longest prefix.
fn market_of(lines: &[SymbolRule], symbol: &str) -> Option<String> {
    let longest = |matches: &dyn Fn(&SymbolRule) -> bool| {
        let found = lines.iter().filter(|line| matches(line));
        found.max_by_key(|line| line.text.len()).map(|line| line.market.clone())
    };
    let longer = |line: &SymbolRule| symbol.len() > line.text.len();
    longest(&|line| line.match_by == SymbolMatch::Exact && line.text == symbol)
        .or_else(|| {
            longest(&|line| line.match_by == SymbolMatch::Suffix && longer(line) && symbol.ends_with(&line.text))
        })
        .or_else(|| {
            longest(&|line| line.match_by == SymbolMatch::Prefix && longer(line) && symbol.starts_with(&line.text))
        })
}

/// Symbols as they are written, one or more for each exchange of the vendor's table.
#[test]
fn vendor_symbols_have_their_markets() -> Result<(), String> {
    let lines = Namespaces::configure("{}")?.symbols()?;
    let check = |symbols: &str, market: &str| {
        for symbol in symbols.split(' ') {
            assert_eq!(market_of(&lines, symbol).as_deref(), Some(market), "{symbol}");
        }
    };
    check("RELIANCE.NS M&M.NS BAJAJ-AUTO.NS NIFTY_FIN_SERVICE.NS", "XNSE");
    check("^NSEI ^NSEBANK ^NSMIDCP ^NSEMDCP50 ^CRSLDX ^INDIAVIX ^CNXIT ^CNXPHARMA", "XNSE");
    check("500325.BO BSE-500.BO ^BSESN", "XBOM");
    check("7203.T 998405.T ^N225", "XTKS");
    check("0700.HK HSTECH.HK ^HSI ^HSCE", "XHKG");
    check("600519.SS 000001.SS 000300.SS", "XSHG");
    check("000858.SZ 399001.SZ", "XSHE");
    check("005930.KS 035720.KQ ^KS11 ^KQ11 ^KS200", "XKRX");
    check("2330.TW 6488.TWO ^TWII ^TWOII", "XTAI");
    check("D05.SI ^STI", "XSES");
    check("1155.KL ^KLSE", "XKLS");
    check("PTT.BK ^SET.BK", "XBKK");
    check("BBCA.JK ^JKSE", "XIDX");
    check("PSEI.PS", "XPHS");
    check("ENGRO.KA ^KSE", "XKAR");
    check("BHP.AX CBA.XA ^AXJO ^AORD", "XASX");
    check("FPH.NZ ^NZ50", "XNZE");
    check("VOD.L BT-A.L SMSN.IL VODL.XC SHEL.AQ ^FTSE ^FTMC ^FTAS ^FTLC ^BUK100P", "XLON");
    check("SAP.DE ^GDAXI ^MDAXI ^SDAXI ^TECDAX ^STOXX50E ^STOXX", "XETR");
    check("SAP.F", "XFRA");
    check("SAP.DU", "XDUS");
    check("SAP.HM SAP.BE SAP.BM SAP.HA SAP.MU", "XHAM");
    check("SAP.SG", "XSTU");
    check("MC.PA ML.NX ^FCHI ^SBF120 ^N100", "XPAR");
    check("ASML.AS ASML.XD ^AEX", "XAMS");
    check("ABI.BR ^BFX", "XBRU");
    check("EDP.LS PSI20.LS", "XLIS");
    check("RYA.IR ^ISEQ", "XDUB");
    check("ENI.MI FTSEMIB.MI ENI.TI", "XMIL");
    check("SAN.MC ^IBEX", "XMAD");
    check("NESN.SW ^SSMI", "XSWX");
    check("OMV.VI ^ATX", "XWBO");
    check("VOLV-B.ST ^OMX", "XSTO");
    check("NOKIA.HE ^OMXH25", "XHEL");
    check("NOVO-B.CO ^OMXC25", "XCSE");
    check("EQNR.OL ^OSEAX", "XOSL");
    check("2222.SR 2222.SAU ^TASI.SR", "XSAU");
    check("SHOP.TO ABC.V ABC.CN ABC.NE BBD-B.TO ^GSPTSE", "XTSE");
    check("WALMEX.MX ^MXX", "XMEX");
    check("PETR4.SA ^BVSP", "BVMF");
    check("SQM-B.SN ^IPSA", "XSGO");
    check("GGAL.BA ^MERV", "XBUE");
    check("ECOPETROL.CL", "XBOG");
    check("ALICORC1.LM", "XLIM");
    check("^GSPC ^DJI ^NYA ^XAX ^RUT ^VIX ^OEX ^TNX", "XNYS");
    check("^IXIC ^NDX ^SOX ^NBI", "XNAS");
    // Whose hours nobody here knows.
    check("COMI.CA ^CASE30 QNBK.QA NBK.KW EMAAR.AE VNM.VN BNC.CR", "24/7");
    Ok(())
}

#[test]
fn smaller_exchanges_have_their_markets() -> Result<(), String> {
    let lines = Namespaces::configure("{}")?.symbols()?;
    for (symbol, market) in [
        ("MAREL.IC", "XICE"),
        ("TAL1T.TL", "XTAL"),
        ("GRD1R.RG", "XRIS"),
        ("TEL1L.VS", "XLIT"),
        ("PKO.WA", "XWAR"),
        ("CEZ.PR", "XPRA"),
        ("OTP.BD", "XBUD"),
        ("TLV.RO", "XBSE"),
        ("OPAP.AT", "ASEX"),
        ("XU100.IS", "XIST"),
        ("IMOEX.ME", "XMOS"),
        ("^TA125.TA", "XTAE"),
        ("^J203.JO", "XJSE"),
    ] {
        assert_eq!(market_of(&lines, symbol).as_deref(), Some(market), "{symbol}");
    }
    Ok(())
}

#[test]
fn currencies_and_futures_have_their_markets() -> Result<(), String> {
    let lines = Namespaces::configure("{}")?.symbols()?;
    let check = |symbols: &str, market: &str| {
        for symbol in symbols.split(' ') {
            assert_eq!(market_of(&lines, symbol).as_deref(), Some(market), "{symbol}");
        }
    };
    check("BTC-USD ETH-INR SOL-EUR USDT-USD ETH-BTC BTC-GBP BTC-JPY XRP-KRW BTC-USDT BTC=F ETH=F", "CRYPTO");
    check("EURUSD=X INR=X JPY=X", "FOREX");
    check("ES=F NQ=F YM=F RTY=F MES=F NKD=F", "CMES.equity-index");
    check("GC=F SI=F HG=F PL=F GCZ26.CMX", "CMES.metals");
    check("CL=F NG=F BZ=F RB=F HO=F CLZ26.NYM", "CMES.energy");
    check("ZC=F ZW=F ZS=F ZL=F KE=F", "CMES.grains");
    check("ZN=F ZB=F ZF=F ZT=F ZQ=F SR3=F", "CMES.rates");
    check("6E=F 6J=F 6B=F", "CMES.fx");
    check("LE=F HE=F LBR=F ESZ26.CME ZCZ26.CBT", "CMES");
    check("KC=F SB=F CC=F CT=F OJ=F DX=F DX-Y.NYB", "IEPA");
    check("VX=F", "XCBF");
    Ok(())
}

#[test]
fn what_is_no_symbol_has_no_market() -> Result<(), String> {
    let lines = Namespaces::configure("{}")?.symbols()?;
    for text in ["RELIANCE", "AAPL", "BRK-B", "", ".NS", "-USD", "=F", "1d", "quote", "^NOSUCH", "reliance.ns", "^CNX"]
    {
        assert_eq!(market_of(&lines, text), None, "{text}");
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
