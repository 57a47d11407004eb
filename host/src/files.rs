//! Files that are read again when they change, certificates and users: looks at them on a thread of its own, since a
//! file system may make one wait. Does not know what is in them.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

/// Files that belong together, and what is done when they have changed.
pub struct Watch {
    /// What they are, for the log.
    pub what: &'static str,
    /// Where they are.
    pub paths: Vec<PathBuf>,
    /// Takes up what is in them now, or leaves everything as it was.
    pub take_up: Box<dyn FnMut() -> anyhow::Result<()> + Send>,
}

/// Files that are being watched, until this is dropped.
#[derive(Debug)]
pub struct Watching {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

/// What was seen of the files of one watch.
struct Seen {
    watch: Watch,
    /// As they were when they were last taken up, or refused.
    settled: Vec<Sighting>,
    /// As they were at the last look.
    last: Vec<Sighting>,
}

/// What a file holds, or that it cannot be read.
type Sighting = Option<[u8; 32]>;

/// No certificate and no list of users is as large.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads a whole file.
///
/// # Errors
/// It cannot be read, or is too large to be what it should be; the message names it.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", path.display());
    let file = std::fs::File::open(path).with_context(cannot)?;
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).with_context(cannot)?;
    ensure!(content.len() as u64 <= FILE_BYTES_MAX, "{} has more than {FILE_BYTES_MAX} bytes", path.display());
    Ok(content)
}

/// Looks at files again and again.
///
/// # Errors
/// The thread cannot be made.
pub fn watch(watches: Vec<Watch>, poll: Duration) -> std::io::Result<Watching> {
    let stop = Arc::new(AtomicBool::new(false));
    let watches: Vec<_> = watches.into_iter().filter(|watch| !watch.paths.is_empty()).collect();
    if watches.is_empty() {
        return Ok(Watching { thread: None, stop });
    }
    let mut all: Vec<_> = watches.into_iter().map(Seen::new).collect();
    let stopped = Arc::clone(&stop);
    let thread = std::thread::Builder::new().name("files".into()).spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            std::thread::park_timeout(poll);
            all.iter_mut().for_each(Seen::look);
        }
    })?;
    Ok(Watching { thread: Some(thread), stop })
}

// === impl Seen ===

impl Seen {
    fn new(watch: Watch) -> Self {
        let now = sightings(&watch.paths);
        Self { watch, settled: now.clone(), last: now }
    }

    fn look(&mut self) {
        let now = sightings(&self.watch.paths);
        // Two equal looks in a row: whoever writes has finished, and a certificate has its key.
        if now == self.last && now != self.settled {
            self.settled.clone_from(&now);
            match (self.watch.take_up)() {
                Ok(()) => tracing::info!("took up {}", self.watch.what),
                Err(error) => {
                    let error = format!("{error:#}");
                    let what = self.watch.what;
                    tracing::warn!(%error, "{what} cannot be taken up; what was read before stays in force");
                }
            }
        }
        self.last = now;
    }
}

fn sightings(paths: &[PathBuf]) -> Vec<Sighting> {
    paths.iter().map(|path| read(path).ok().map(|content| Sha256::digest(content).into())).collect()
}

// === impl Watching ===

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Watch").field("what", &self.what).field("paths", &self.paths).finish_non_exhaustive()
    }
}
