//! `market --watch`: all markets on the terminal, drawn anew every second. The policies are loaded once, and again when
//! their folder changes; a market is asked again when what it said is over.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::ensure;
use tokio::sync::watch;

use super::list::{self, Row};
use super::{Call, Paint, format, screen};
use crate::policy::{Decider, PolicySet};
use crate::reload::Refusal;

/// What is drawn.
struct Table {
    decider: Decider,
    rows: Vec<Row>,
    current: watch::Receiver<Arc<PolicySet>>,
    refusal: Arc<Mutex<Option<Refusal>>>,
    paint: Paint,
}

/// Draws all markets until it is told to stop.
pub(super) fn watch(call: &Call<'_>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    ensure!(
        std::io::stdout().is_terminal(),
        "--watch draws on a terminal, and the output is none; `bellwether market` prints the table once, and with \
         --json for programs"
    );
    let ahead = call.at()? - call.clock.now();
    let now = || call.clock.now().saturating_add(ahead);
    let mut reloader = call.reloader()?;
    let (published, current) = watch::channel(reloader.first()?);
    let decider = Decider::new(Arc::clone(&current.borrow()));
    let refusal = reloader.last_refusal();
    let _watching = reloader.watch(published)?;
    let mut table = Table { decider, rows: Vec::new(), current, refusal, paint: Paint::of(call) };
    screen::live(out, |lines| table.page(now(), lines))?;
    Ok(ExitCode::SUCCESS)
}

// === impl Table ===

impl Table {
    /// As many lines as there is room for.
    fn page(&mut self, now: i64, lines: usize) -> anyhow::Result<Vec<String>> {
        // Without a folder there is nobody who could publish another.
        if self.current.has_changed().unwrap_or(false) {
            self.decider = Decider::new(Arc::clone(&self.current.borrow_and_update()));
            self.rows.clear();
        }
        if self.rows.is_empty() {
            self.rows = Row::all(&mut self.decider, now)?;
        }
        for row in &mut self.rows {
            row.renew(&mut self.decider, now)?;
        }
        self.rows.sort_by_cached_key(Row::order);
        Ok(self.lines(now, lines))
    }

    /// What it is, the markets, and what is left out.
    fn lines(&self, now: i64, lines: usize) -> Vec<String> {
        let trading = self.rows.iter().filter(|row| row.trades()).count();
        let generation = self.decider.set().generation;
        let mut page = vec![
            format!(
                "{} of {} markets trade at {}; policies of generation {generation}; Ctrl-C ends",
                trading,
                self.rows.len(),
                format::utc(now - now.rem_euclid(1000))
            ),
            self.paint.strong(&list::head()),
        ];
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        page.extend(refusal.map(|refusal| format!("the policy folder was refused: {}", refusal.reason)));
        let room = lines.saturating_sub(page.len());
        // The line that says how many are left out takes the place of one.
        let shown = if self.rows.len() <= room { room } else { room.saturating_sub(1) };
        page.extend(self.rows.iter().take(shown).map(|row| row.line(now, self.paint)));
        if let Some(left_out @ 1..) = self.rows.len().checked_sub(shown) {
            page.push(format!("… and {left_out} more, for which there is no room"));
        }
        page
    }
}
