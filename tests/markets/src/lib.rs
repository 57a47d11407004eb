//! Which markets of the calendars and which venues of `exchange-hours` are the same. It must not know what is asked of
//! either.

use exchange_hours::Exchange;

/// A market of both, by its name in the calendars.
#[derive(Clone, Copy, Debug)]
pub struct Venue {
    /// The market's name.
    pub market: &'static str,
    /// The same market there.
    pub exchange: Exchange,
}

/// Every market of both. Futures exchanges are left out: a venue there is one product family, here a whole exchange.
pub const VENUES: [Venue; 37] = [
    venue("BVMF", Exchange::B3),
    venue("XAMS", Exchange::EuronextAmsterdam),
    venue("XASX", Exchange::Asx),
    venue("XBKK", Exchange::SetThailand),
    venue("XBOM", Exchange::BseIndia),
    venue("XBRU", Exchange::EuronextBrussels),
    venue("XCSE", Exchange::NasdaqCopenhagen),
    venue("XDUB", Exchange::EuronextDublin),
    venue("XETR", Exchange::Xetra),
    venue("XHEL", Exchange::NasdaqHelsinki),
    venue("XHKG", Exchange::Hkex),
    venue("XIDX", Exchange::Idx),
    venue("XIST", Exchange::BorsaIstanbul),
    venue("XJSE", Exchange::Jse),
    venue("XKLS", Exchange::BursaMalaysia),
    venue("XKRX", Exchange::Krx),
    venue("XLIS", Exchange::EuronextLisbon),
    venue("XLON", Exchange::Lse),
    venue("XMAD", Exchange::Bme),
    venue("XMEX", Exchange::Bmv),
    venue("XMIL", Exchange::EuronextMilan),
    venue("XNAS", Exchange::Nasdaq),
    venue("XNSE", Exchange::NseIndia),
    venue("XNYS", Exchange::Nyse),
    venue("XNZE", Exchange::Nzx),
    venue("XPAR", Exchange::EuronextParis),
    venue("XPHS", Exchange::Pse),
    venue("XSAU", Exchange::Tadawul),
    venue("XSES", Exchange::SgxSecurities),
    venue("XSHE", Exchange::Szse),
    venue("XSHG", Exchange::Sse),
    venue("XSTO", Exchange::NasdaqStockholm),
    venue("XSWX", Exchange::Six),
    venue("XTAI", Exchange::Twse),
    venue("XTKS", Exchange::Tse),
    venue("XTSE", Exchange::Tsx),
    venue("XWBO", Exchange::Vienna),
];

/// The same market of the other library.
pub fn exchange(market: &str) -> Option<Exchange> {
    VENUES.iter().find(|venue| venue.market == market).map(|venue| venue.exchange)
}

const fn venue(market: &'static str, exchange: Exchange) -> Venue {
    Venue { market, exchange }
}
