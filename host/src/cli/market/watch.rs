//! `market --watch`: all markets on the terminal, drawn anew every second. The policies are loaded once, and again when
//! their folder changes; a market is asked again when what it said is over.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::list::{self, Row};
use super::paint::Paint;
use super::{Call, format};
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

const EVERY: Duration = Duration::from_secs(1);
/// Lines of a terminal that does not say how many it has.
const LINES: usize = 24;
/// The other screen, without a cursor, where a line that is too long is cut and not broken.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const END: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    write!(out, "{BEGIN}")?;
    let ended = runtime.block_on(until_told(|| table.draw(now(), out)));
    // The terminal is left as it was, however it went; if it is gone, there is nothing to leave.
    drop(write!(out, "{END}").and_then(|()| out.flush()));
    ended.map(|()| ExitCode::SUCCESS)
}

/// Draws every second until a signal says that it is enough.
async fn until_told(mut draw: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = every.tick() => draw()?,
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
        }
    }
}

// === impl Table ===

impl Table {
    fn draw(&mut self, now: i64, out: &mut dyn Write) -> anyhow::Result<()> {
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
        let lines = terminal_size::terminal_size().map_or(LINES, |(_, height)| usize::from(height.0));
        let page = self.page(now, lines);
        write!(out, "{HOME}{}{CLEAR_LINE}{CLEAR_BELOW}", page.join(&format!("{CLEAR_LINE}\r\n")))?;
        out.flush()?;
        Ok(())
    }

    /// As many lines as there is room for: what it is, the markets, and what is left out.
    fn page(&self, now: i64, lines: usize) -> Vec<String> {
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
