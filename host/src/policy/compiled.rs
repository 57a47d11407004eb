//! Compiled code on local disk, so that a component that was compiled once starts without compiling. wasmtime keeps and
//! finds it, by component and by engine; this file says whether its folder and each of its entries may be believed.
//! Code that is loaded runs as it is, so whatever is not as it was written is taken away, and compiled again.

use std::fs::{DirBuilder, File, Metadata};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};
use wasmtime::{Cache, CacheConfig};

use super::engine::{chain, hexadecimal};

/// A folder with compiled code. A clone is the same one.
#[derive(Clone, Debug)]
pub(super) struct CompiledFolder {
    /// What is believed of each entry: `sums/NAME`.
    sums: PathBuf,
    /// The owner of this process, and of all that may be loaded.
    owner: u32,
    cache: Cache,
    /// Of `code/modules`, in which wasmtime has a folder for each version of its own.
    modules: PathBuf,
}

/// How components came by their code.
#[derive(Debug, Default)]
pub struct Compiled {
    now: AtomicU64,
    found: AtomicU64,
}

/// What is on disk for one component and one engine: its name, and the files of that name.
pub(super) struct Entry {
    name: String,
    hits: usize,
}

/// Who else may write to a folder or a file: its group, and others.
const WRITTEN_BY_OTHERS: u32 = 0o022;
/// Between two looks at how much there is. What is written meanwhile may go past the bound.
const CLEANING: Duration = Duration::from_secs(10);

// === impl CompiledFolder ===

impl CompiledFolder {
    /// Opens a folder, or makes it.
    ///
    /// # Errors
    /// It cannot be made or written to, it belongs to somebody else, or somebody else may write to it.
    pub(super) fn open(folder: &Path, bytes_max: u64) -> anyhow::Result<Self> {
        let shown = folder.display();
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(folder).with_context(|| format!("cannot make the folder {shown}"))?;
        let folder = std::fs::canonicalize(folder).with_context(|| format!("cannot find the folder {shown}"))?;
        let owner = owner_of_new_files(&folder).with_context(|| format!("cannot write to the folder {shown}"))?;
        let (sums, code) = (folder.join("sums"), folder.join("code"));
        for path in [&folder, &sums, &code] {
            make(path).with_context(|| format!("cannot make the folder {}", path.display()))?;
            let is = std::fs::symlink_metadata(path).with_context(|| format!("cannot see {}", path.display()))?;
            ensure!(is.is_dir(), "{} is no folder", path.display());
            ensure_own(path, &is, owner)?;
        }
        let mut config = CacheConfig::new();
        config
            .with_directory(&code)
            .with_files_total_size_soft_limit(bytes_max)
            .with_cleanup_interval(CLEANING)
            // An entry stays as it was written: one that is packed tighter later would have another sum.
            .with_optimized_compression_usage_counter_threshold(u64::MAX);
        let cache = Cache::new(config).map_err(chain).with_context(|| format!("cannot use the folder {shown}"))?;
        let folder = Self { sums, owner, cache, modules: code.join("modules") };
        folder.make_room(bytes_max);
        Ok(folder)
    }

    /// What wasmtime is given.
    pub(super) fn cache(&self) -> Cache {
        self.cache.clone()
    }

    /// Before a component is loaded: what is on disk for it stays there only if it is what was written.
    ///
    /// # Errors
    /// What is wrong there cannot be taken away, so it would be loaded.
    pub(super) fn vouch(&self, engine: &wasmtime::Engine, component: &[u8]) -> anyhow::Result<Entry> {
        let entry = Entry { name: entry_name(engine, component), hits: self.cache.cache_hits() };
        for path in self.files(&entry.name) {
            match self.is_sealed(&entry.name, &path) {
                Ok(true) => continue,
                // Another process is about to seal it, or ended before it could.
                Ok(false) => {}
                Err(error) => tracing::warn!("compiled code was not used, and is made anew: {error:#}"),
            }
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(entry)
    }

    /// Whether there is code for it.
    pub(super) fn has(&self, entry: &Entry) -> bool {
        !self.files(&entry.name).is_empty()
    }

    /// After it was loaded: whether its code was found. If not, what is there now is what is believed from now on.
    pub(super) fn seal(&self, entry: &Entry) -> bool {
        if self.cache.cache_hits() > entry.hits {
            return true;
        }
        for path in self.files(&entry.name) {
            let written = sum(&entry.name, &path).and_then(|sum| {
                let beside = self.sums.join(unused_name());
                std::fs::write(&beside, sum)?;
                std::fs::rename(&beside, self.sums.join(&entry.name))
            });
            if let Err(error) = written {
                tracing::warn!("compiled code in {} cannot be used later: {error}", path.display());
            }
        }
        false
    }

    /// The files of a name, of which there is one for each version of wasmtime: usually one, or none.
    fn files(&self, name: &str) -> Vec<PathBuf> {
        let Ok(versions) = std::fs::read_dir(&self.modules) else { return Vec::new() };
        let files = versions.filter_map(Result::ok).map(|version| version.path().join(name));
        files.filter(|path| path.symlink_metadata().is_ok()).collect()
    }

    /// Whether a file is what was sealed. False: nothing was. An error: it is something else, or not ours.
    fn is_sealed(&self, name: &str, path: &Path) -> anyhow::Result<bool> {
        let shown = path.display();
        let is = std::fs::symlink_metadata(path).with_context(|| format!("cannot see {shown}"))?;
        ensure!(is.is_file(), "{shown} is no file");
        ensure_own(path, &is, self.owner)?;
        let Ok(expected) = std::fs::read_to_string(self.sums.join(name)) else { return Ok(false) };
        let found = sum(name, path).with_context(|| format!("cannot read {shown}"))?;
        ensure!(found == expected, "{shown} is not what was written there");
        Ok(true)
    }

    /// Takes away what was used least recently, until the rest is within the bound, and sums of what is gone. wasmtime
    /// does so too as it writes, but on a thread of its own, which ends with the program.
    fn make_room(&self, bytes_max: u64) {
        let folders = std::fs::read_dir(&self.modules).into_iter().flatten().filter_map(Result::ok);
        let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten());
        let entry = |path: PathBuf| {
            let used = path.with_extension("stats");
            let is = std::fs::metadata(&path).ok()?;
            // Written at each use; not yet there for one that was written a moment ago.
            let used = std::fs::metadata(&used).and_then(|used| used.modified()).or_else(|_| is.modified()).ok()?;
            Some((used, is.len(), path))
        };
        let paths = files.filter_map(Result::ok).map(|file| file.path()).filter(|path| path.extension().is_none());
        let mut entries: Vec<_> = paths.filter_map(entry).collect();
        entries.sort_unstable_by(|a, b| b.cmp(a));
        let mut bytes = 0_u64;
        for (_, size, path) in entries {
            bytes = bytes.saturating_add(size);
            if bytes > bytes_max {
                // Another process may have done it.
                drop(std::fs::remove_file(&path));
                drop(std::fs::remove_file(path.with_extension("stats")));
            }
        }
        for sum in std::fs::read_dir(&self.sums).into_iter().flatten().filter_map(Result::ok) {
            let name = sum.file_name();
            // What begins with a dot is being written.
            if name.to_str().is_some_and(|name| !name.starts_with('.') && self.files(name).is_empty()) {
                drop(std::fs::remove_file(sum.path()));
            }
        }
    }
}

/// Under which name wasmtime keeps the code of a component: a hash of the engine's settings and of the component.
/// `compile_cached` of its `compile/runtime.rs` (48.0.8) has the same parts in the same order. The tests show it: an
/// entry under another name would be loaded although it was spoiled.
fn entry_name(engine: &wasmtime::Engine, component: &[u8]) -> String {
    let mut hasher = Sha256Hasher(Sha256::new());
    // The component, debug information beside it, and a name for functions of the compiler's own: there are none.
    (engine.precompile_compatibility_hash(), component, None::<&[u8]>, None::<&str>).hash(&mut hasher);
    base64_url(&hasher.0.finalize())
}

/// SHA-256 of an entry and its name, so that the code of one component is not taken for another's.
fn sum(name: &str, path: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    hash.update(name);
    let mut file = File::open(path)?;
    let mut part = vec![0; 64 * 1024];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hexadecimal(&hash.finalize())),
            read => hash.update(part.get(..read).unwrap_or_default()),
        }
    }
}

/// Who owns what this process makes, seen from a file that it makes.
fn owner_of_new_files(folder: &Path) -> std::io::Result<u32> {
    let path = folder.join(unused_name());
    let owner = File::create_new(&path)?.metadata()?.uid();
    std::fs::remove_file(&path)?;
    Ok(owner)
}

/// A name that nothing has, other processes that share the folder included.
fn unused_name() -> String {
    format!(".{:016x}", RandomState::new().hash_one(()))
}

fn ensure_own(path: &Path, is: &Metadata, owner: u32) -> anyhow::Result<()> {
    let shown = path.display();
    ensure!(is.uid() == owner, "{shown} belongs to user {}, and this program runs as {owner}", is.uid());
    let mode = is.mode() & 0o777;
    ensure!(
        mode & WRITTEN_BY_OTHERS == 0,
        "others may write to {shown} (its permissions are {mode:o}); type: chmod go-w {shown}"
    );
    Ok(())
}

/// As wasmtime spells hashes in names: base64 for URLs, without padding.
fn base64_url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let bits = part.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for place in 0..=part.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * place) & 0x3f) as usize]));
        }
    }
    text
}

/// Hashes by SHA-256 what is hashed as Rust hashes it.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not asked for: the whole hash is.
    fn finish(&self) -> u64 {
        0
    }
}

// === impl Compiled ===

impl Compiled {
    pub(super) fn count(&self, found: bool) {
        let counter = if found { &self.found } else { &self.now };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Components that were compiled.
    pub fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// Components whose code was on disk.
    pub fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }
}
