//! What is kept of generations on disk, so that a restart can serve the last good one: the list in `generations.json`,
//! the files under their digests in `objects`, and `bypass` while policies are out of the path. Every file is written
//! beside its place, synced and moved there, so that whatever ends the process leaves the old or the new.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::content::{Content, Files};

/// A folder of the sidecar's own. Of one sidecar: two would write over each other.
#[derive(Clone, Debug)]
pub struct Keep {
    folder: PathBuf,
}

/// What is kept.
#[derive(Debug)]
pub struct Kept {
    /// The generation that was in force.
    pub active: u64,
    /// The largest number that was given.
    pub last: u64,
    /// The digest of what the policy folder held when an operator put another generation in force.
    pub set_aside: Option<String>,
    /// The generations, the oldest first.
    pub generations: Vec<KeptGeneration>,
}

/// One generation.
#[derive(Clone, Debug)]
pub struct KeptGeneration {
    /// Its number.
    pub number: u64,
    /// What tells it from others.
    pub digest: String,
    /// When it last came into force.
    pub at: i64,
    /// What it is made of.
    pub content: Content,
}

#[derive(Debug, Serialize, Deserialize)]
struct List {
    format: u32,
    active: u64,
    last: u64,
    set_aside: Option<String>,
    generations: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    number: u64,
    digest: String,
    at_ms: i64,
    json: String,
    place: Option<PathBuf>,
    /// Digests of contents, by name.
    files: BTreeMap<String, String>,
    standard: BTreeMap<String, String>,
}

const FORMAT: u32 = 1;
const LIST: &str = "generations.json";
const BYPASS: &str = "bypass";

// === impl Keep ===

impl Keep {
    /// Keeps in this folder, which is made where it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(folder: PathBuf) -> anyhow::Result<Self> {
        let objects = folder.join("objects");
        fs::create_dir_all(&objects).with_context(|| format!("cannot make {} (state_dir)", objects.display()))?;
        Ok(Self { folder })
    }

    /// What was kept. None: nothing was.
    ///
    /// # Errors
    /// The list cannot be read, or is not one. Single generations that are damaged are left out, and told.
    pub fn read(&self) -> anyhow::Result<Option<Kept>> {
        let path = self.folder.join(LIST);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let list: List = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
        ensure!(list.format == FORMAT, "{} has format {}; this program knows {FORMAT}", path.display(), list.format);
        let List { active, last, set_aside, generations, .. } = list;
        let mut known = BTreeMap::new();
        let mut whole = |entry: Entry| {
            let number = entry.number;
            let told = |error: &anyhow::Error| {
                tracing::error!(error = %format!("{error:#}"), "what was kept of generation {number} is damaged");
            };
            self.generation(entry, &mut known).inspect_err(told).ok()
        };
        let generations = generations.into_iter().filter_map(&mut whole).collect();
        Ok(Some(Kept { active, last, set_aside, generations }))
    }

    /// Keeps all of this, and nothing that was kept before.
    ///
    /// # Errors
    /// It cannot be written; then what was kept before still is.
    pub fn write(&self, kept: &Kept) -> anyhow::Result<()> {
        let mut used = BTreeSet::new();
        let mut generations = Vec::new();
        for generation in &kept.generations {
            let mut keep = |files: &Files| -> anyhow::Result<BTreeMap<String, String>> {
                files.iter().map(|(name, bytes)| Ok((name.clone(), self.object(bytes, &mut used)?))).collect()
            };
            generations.push(Entry {
                number: generation.number,
                digest: generation.digest.clone(),
                at_ms: generation.at,
                json: generation.content.json.clone(),
                place: generation.content.place.clone(),
                files: keep(&generation.content.files)?,
                standard: keep(&generation.content.standard)?,
            });
        }
        sync(&self.folder.join("objects"))?;
        let (active, last, set_aside) = (kept.active, kept.last, kept.set_aside.clone());
        let list = List { format: FORMAT, active, last, set_aside, generations };
        replace(&self.folder, LIST, &serde_json::to_vec_pretty(&list)?)?;
        self.forget_all_but(&used);
        Ok(())
    }

    /// Whether policies were out of the path when the process ended.
    pub fn bypass(&self) -> bool {
        self.folder.join(BYPASS).exists()
    }

    /// Keeps whether policies are out of the path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_bypass(&self, bypass: bool) -> anyhow::Result<()> {
        if bypass {
            return replace(&self.folder, BYPASS, b"policies are out of the path: bellwether bypass on\n");
        }
        match fs::remove_file(self.folder.join(BYPASS)) {
            Ok(()) => sync(&self.folder),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot remove {BYPASS} in {}", self.folder.display())),
        }
    }

    /// Files that other generations have too are in memory once: `known` has them by their digests.
    fn generation(&self, entry: Entry, known: &mut BTreeMap<String, Arc<[u8]>>) -> anyhow::Result<KeptGeneration> {
        let mut bytes = |digest: String| -> anyhow::Result<Arc<[u8]>> {
            if let Some(known) = known.get(&digest) {
                return Ok(Arc::clone(known));
            }
            let bytes: Arc<[u8]> = self.bytes(&digest)?.into();
            known.insert(digest, Arc::clone(&bytes));
            Ok(bytes)
        };
        let mut read = |files: BTreeMap<String, String>| -> anyhow::Result<Files> {
            files.into_iter().map(|(name, digest)| Ok((name, bytes(digest)?))).collect()
        };
        let (files, standard) = (read(entry.files)?, read(entry.standard)?);
        let content = Content { files, standard, json: entry.json, place: entry.place };
        Ok(KeptGeneration { number: entry.number, digest: entry.digest, at: entry.at_ms, content })
    }

    fn bytes(&self, digest: &str) -> anyhow::Result<Vec<u8>> {
        ensure!(digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest:?} is no digest");
        let path = self.folder.join("objects").join(digest);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if digest_of(&bytes) != digest {
            // Written anew when it is next kept.
            drop(fs::remove_file(&path));
            anyhow::bail!("{} has not the content that its name says", path.display());
        }
        Ok(bytes)
    }

    /// Writes a file under its digest, unless it is there.
    fn object(&self, bytes: &[u8], used: &mut BTreeSet<String>) -> anyhow::Result<String> {
        let (digest, folder) = (digest_of(bytes), self.folder.join("objects"));
        let there = fs::metadata(folder.join(&digest)).is_ok_and(|known| known.len() == bytes.len() as u64);
        if used.insert(digest.clone()) && !there {
            replace(&folder, &digest, bytes)?;
        }
        Ok(digest)
    }

    /// Files that no generation has, and what a process that was killed left half written.
    fn forget_all_but(&self, used: &BTreeSet<String>) {
        for entry in fs::read_dir(self.folder.join("objects")).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_none_or(|name| !used.contains(name)) {
                // What cannot be removed now is removed the next time.
                drop(fs::remove_file(entry.path()));
            }
        }
    }
}

/// Puts a file in its place in one step.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let (beside, place) = (folder.join(format!(".{name}")), folder.join(name));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &place)
    };
    write().with_context(|| format!("cannot write {}", place.display()))?;
    sync(folder)
}

/// What was moved into a folder stays there only once the folder is synced too.
fn sync(folder: &Path) -> anyhow::Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| format!("cannot sync {}", folder.display()))
}

fn digest_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
