//! Asks for keys that are gone or about to end: the application's URL, or whoever listens on a channel, each key by one
//! sidecar only. What is answered is not looked at: the application writes the key, if it will.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::http::Http;
use crate::config::warm::{WarmAsks, WarmWay};
use crate::metrics::{Metrics, WarmAsked};
use crate::policy::one_line;
use crate::upstream::{Found, Keys, Look};

/// What is asked, and how it has gone so far.
pub(super) struct Asking<'a> {
    asks: &'a WarmAsks,
    http: Option<Http>,
    /// Keys that end before so long are asked for.
    within_ms: u64,
    failures_in_a_row: usize,
    /// Keys that others ask for, until they are there.
    elsewhere: Vec<Vec<u8>>,
    metrics: &'a Metrics,
    pub(super) tally: Tally,
}

/// Keys, by what became of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally([u64; WarmAsked::ALL.len()]);

/// After so many failures in a row nobody is asked any more: whoever is down is not helped by it.
const FAILURES_MAX: usize = 8;
/// How often it is looked whether what others ask for has come.
const COME_LOOK: Duration = Duration::from_millis(50);

// === impl Asking ===

impl<'a> Asking<'a> {
    /// Asks as a rule says. `ahead_ms`: how long it is to the opening that this is for.
    ///
    /// # Errors
    /// The URL cannot be reached by any means.
    pub(super) fn new(asks: &'a WarmAsks, ahead_ms: u64, metrics: &'a Metrics) -> anyhow::Result<Self> {
        let time_max = Duration::from_millis(asks.request_ms_max);
        let http = match &asks.way {
            WarmWay::Url(url) => Some(Http::new(url, time_max)?),
            WarmWay::Channel(_) => None,
        };
        let within_ms = asks.expires_within_ms.saturating_add(ahead_ms);
        Ok(Self {
            asks,
            http,
            within_ms,
            failures_in_a_row: 0,
            elsewhere: Vec::new(),
            metrics,
            tally: Tally::default(),
        })
    }

    /// Asks for those of the keys that are gone or about to end, and waits for the answers.
    ///
    /// # Errors
    /// The server does not answer as it should.
    pub(super) async fn batch(&mut self, batch: &[Vec<u8>], keys: &mut Keys) -> anyhow::Result<()> {
        let (due, _) = self.parted(batch, keys).await?;
        for some in due.chunks(self.asks.requests_max) {
            if self.failures_in_a_row >= FAILURES_MAX {
                return Ok(());
            }
            let turns = keys.take_turns(some, Duration::from_millis(self.asks.once_ms)).await?;
            let mut mine = Vec::with_capacity(some.len());
            for (key, is_mine) in some.iter().zip(turns) {
                if is_mine {
                    mine.push(key.clone());
                } else {
                    self.count(WarmAsked::Elsewhere);
                    self.elsewhere.push(key.clone());
                }
            }
            for (key, asked) in self.ask(mine, keys).await? {
                match asked {
                    Ok(()) => {
                        keys.end_turn(&key).await?;
                        self.failures_in_a_row = 0;
                        self.count(WarmAsked::Answered);
                    }
                    Err(error) => {
                        // Another sidecar may have more luck.
                        keys.give_turn_back(&key).await?;
                        self.failed(&error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits for keys that others ask for, as long as a request may take: those that have come. None: there are no more
    /// to wait for.
    ///
    /// # Errors
    /// As [`Asking::batch`].
    pub(super) async fn come(&mut self, since: Instant, keys: &mut Keys) -> anyhow::Result<Option<Vec<Vec<u8>>>> {
        if self.elsewhere.is_empty() || since.elapsed() > Duration::from_millis(self.asks.request_ms_max) {
            return Ok(None);
        }
        tokio::time::sleep(COME_LOOK).await;
        let waited = std::mem::take(&mut self.elsewhere);
        // In this order: what is written before its asking ends is seen.
        let asked_for = keys.are_asked_for(&waited).await?;
        let (_, come) = self.parted(&waited, keys).await?;
        let is_open = |key: &Vec<u8>| !come.contains(key);
        self.elsewhere = waited
            .into_iter()
            .zip(asked_for)
            .filter(|(key, asked_for)| *asked_for && is_open(key))
            .map(|(key, _)| key)
            .collect();
        Ok(Some(come))
    }

    /// The keys that are gone or about to end, and the others.
    async fn parted(&self, batch: &[Vec<u8>], keys: &mut Keys) -> anyhow::Result<(Vec<Vec<u8>>, Vec<Vec<u8>>)> {
        let found = keys.look(batch, Look { watch: false, data: false, value_bytes: false }).await?;
        let ends = |found: &Option<Found>| match found {
            None => true,
            Some(found) => found.left_ms.is_some_and(|left| left <= self.within_ms),
        };
        let (due, come): (Vec<_>, Vec<_>) = batch.iter().cloned().zip(&found).partition(|(_, found)| ends(found));
        let keys = |of: Vec<(Vec<u8>, _)>| of.into_iter().map(|(key, _)| key).collect();
        Ok((keys(due), keys(come)))
    }

    /// Asks for all of these at once.
    async fn ask(&self, mine: Vec<Vec<u8>>, keys: &mut Keys) -> anyhow::Result<Vec<(Vec<u8>, anyhow::Result<()>)>> {
        let mut told = Vec::with_capacity(mine.len());
        match (&self.asks.way, &self.http) {
            (WarmWay::Url(_), Some(http)) => {
                let mut asking = JoinSet::new();
                for key in mine {
                    let http = http.clone();
                    asking.spawn(async move {
                        let asked = http.ask(&key).await;
                        (key, asked)
                    });
                }
                while let Some(asked) = asking.join_next().await {
                    told.extend(asked);
                }
            }
            (WarmWay::Channel(channel), _) => {
                for key in mine {
                    let heard = keys.tell(channel, &key).await?;
                    let asked = if heard { Ok(()) } else { Err(anyhow::anyhow!("nobody listens")) };
                    told.push((key, asked));
                }
            }
            (WarmWay::Url(_), None) => {}
        }
        Ok(told)
    }

    fn count(&mut self, what: WarmAsked) {
        let index = what as usize;
        self.tally.0.get_mut(index).into_iter().for_each(|count| *count += 1);
        self.metrics.warm_asked.get(index).into_iter().for_each(|counter| counter.add(0, 1));
    }

    fn failed(&mut self, error: &anyhow::Error) {
        let (way, first) = (&self.asks.way, self.tally.0.get(WarmAsked::Failed as usize) == Some(&0));
        if first {
            tracing::warn!(error = %one_line(error), "a key that was to be asked for at {way} was not");
        }
        self.count(WarmAsked::Failed);
        self.failures_in_a_row += 1;
        if self.failures_in_a_row == FAILURES_MAX {
            tracing::warn!("{FAILURES_MAX} keys in a row failed at {way}; no more are asked for this time");
        }
    }
}

// === impl Tally ===

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
}

/// Nothing where nobody was asked.
impl std::fmt::Display for Tally {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sum: u64 = self.0.iter().sum();
        if sum == 0 {
            return Ok(());
        }
        let parts = WarmAsked::ALL.iter().zip(self.0).map(|(of, count)| format!("{count} {}", of.label()));
        write!(out, "; {sum} to be asked for: {}", parts.collect::<Vec<_>>().join(", "))
    }
}
