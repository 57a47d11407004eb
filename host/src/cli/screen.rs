//! A terminal that is drawn anew every second, until it is enough.

use std::io::Write;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

const EVERY: Duration = Duration::from_secs(1);
/// Lines of a terminal that does not say how many it has.
const LINES: usize = 24;
/// The other screen, without a cursor, where a line that is too long is cut and not broken.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const END: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Draws the lines of a page every second, which is told for how many there is room, until a signal says that it is
/// enough. The terminal is left as it was, however it went.
///
/// # Errors
/// There is no page, or no terminal any more.
pub(super) fn live(
    out: &mut dyn Write,
    mut page: impl FnMut(usize) -> anyhow::Result<Vec<String>>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    write!(out, "{BEGIN}")?;
    let ended = runtime.block_on(until_told(|| {
        let lines = terminal_size::terminal_size().map_or(LINES, |(_, height)| usize::from(height.0));
        let page = page(lines)?;
        write!(out, "{HOME}{}{CLEAR_LINE}{CLEAR_BELOW}", page.join(&format!("{CLEAR_LINE}\r\n")))?;
        Ok(out.flush()?)
    }));
    // If it is gone, there is nothing to leave.
    drop(write!(out, "{END}").and_then(|()| out.flush()));
    ended
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
