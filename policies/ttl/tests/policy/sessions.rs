//! Sessions to decide in: a market's phases written down one after the other, and its session at any instant of them.

use bellwether_sdk::testing::instant;
use bellwether_sdk::{DataVersion, Instant, MarketSession, Phase};

/// When each phase begins, and the end of the data.
pub(crate) struct Market {
    pub(crate) name: &'static str,
    phases: Vec<(Instant, Phase)>,
    horizon: Instant,
}

impl Market {
    fn new(name: &'static str, phases: &[(&str, Phase)], horizon: &str) -> Self {
        let phases = phases.iter().map(|(at, phase)| (instant(at), *phase)).collect();
        Self { name, phases, horizon: instant(horizon) }
    }

    /// First and last instant of the data.
    pub(crate) fn span(&self) -> (Instant, Instant) {
        (self.phases[0].0, self.horizon)
    }

    /// The next instant at or after `at` at which trading begins.
    pub(crate) fn next_trading(&self, at: Instant) -> Option<Instant> {
        let session = self.session_at(at);
        if trades(session.phase) { Some(at) } else { session.next_open }
    }

    /// The session at an instant inside the data, as the contract defines each of its fields.
    pub(crate) fn session_at(&self, at: Instant) -> MarketSession {
        let index = self.phases.iter().rposition(|(since, _)| *since <= at).unwrap_or_default();
        let (since, phase) = self.phases[index];
        let later = || (index + 1..self.phases.len()).map(|next| (self.phases[next - 1].1, self.phases[next]));
        let opens = |from: Phase, to: Phase| to == Phase::Open && from != Phase::Open;
        MarketSession {
            phase,
            since,
            until: self.phases.get(index + 1).map_or(self.horizon, |(next, _)| *next),
            next_open: later().find(|(from, (_, to))| opens(*from, *to)).map(|(_, (at, _))| at),
            next_regular_open: later()
                .find(|(from, (_, to))| opens(*from, *to) && *from != Phase::Break)
                .map(|(_, (at, _))| at),
            previous_close: (1..=index)
                .rev()
                .find(|here| trades(self.phases[here - 1].1) && ends_the_day(self.phases[*here].1))
                .map(|here| self.phases[here].0),
            horizon: self.horizon,
            projected: false,
            data_version: DataVersion { release: 0, settings: 0 },
        }
    }
}

pub(crate) fn trades(phase: Phase) -> bool {
    matches!(phase, Phase::Open | Phase::ClosingAuction)
}

fn ends_the_day(phase: Phase) -> bool {
    matches!(phase, Phase::Closed | Phase::PostClose)
}

/// Mumbai from Friday night over Monday and a holiday on Tuesday to Wednesday's open, as the calendar has it.
pub(crate) fn mumbai() -> Market {
    let phases = [
        ("2026-11-20T09:15:00+05:30", Phase::Open),
        ("2026-11-20T15:30:00+05:30", Phase::Closed),
        ("2026-11-23T09:00:00+05:30", Phase::PreOpen),
        ("2026-11-23T09:15:00+05:30", Phase::Open),
        ("2026-11-23T15:30:00+05:30", Phase::Closed),
        ("2026-11-25T09:00:00+05:30", Phase::PreOpen),
        ("2026-11-25T09:15:00+05:30", Phase::Open),
    ];
    Market::new("XNSE", &phases, "2026-11-25T12:00:00+05:30")
}

/// Mumbai with every phase that the contract has, an unscheduled stop included.
pub(crate) fn mumbai_in_full() -> Market {
    let phases = [
        ("2026-11-23T00:00:00+05:30", Phase::Closed),
        ("2026-11-23T09:00:00+05:30", Phase::PreOpen),
        ("2026-11-23T09:15:00+05:30", Phase::Open),
        ("2026-11-23T11:40:00+05:30", Phase::Halted),
        ("2026-11-23T12:00:00+05:30", Phase::Open),
        ("2026-11-23T15:15:00+05:30", Phase::ClosingAuction),
        ("2026-11-23T15:35:00+05:30", Phase::Closed),
        ("2026-11-23T15:50:00+05:30", Phase::PostClose),
        ("2026-11-23T16:00:00+05:30", Phase::Closed),
        ("2026-11-24T09:15:00+05:30", Phase::Open),
    ];
    Market::new("XNSE", &phases, "2026-11-24T10:00:00+05:30")
}

/// Tokyo, with its lunch.
pub(crate) fn tokyo() -> Market {
    let phases = [
        ("2026-11-24T00:00:00+09:00", Phase::Closed),
        ("2026-11-24T08:00:00+09:00", Phase::PreOpen),
        ("2026-11-24T09:00:00+09:00", Phase::Open),
        ("2026-11-24T11:30:00+09:00", Phase::Break),
        ("2026-11-24T12:30:00+09:00", Phase::Open),
        ("2026-11-24T15:30:00+09:00", Phase::Closed),
        ("2026-11-25T09:00:00+09:00", Phase::Open),
        ("2026-11-25T11:30:00+09:00", Phase::Break),
    ];
    Market::new("XTKS", &phases, "2026-11-25T12:00:00+09:00")
}
