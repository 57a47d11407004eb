//! The policy folder: when it has changed, and what it holds. Knows nothing of what the files mean.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, ensure};

use crate::policy::{Mount, Rejected, Stage};
use crate::rollout::content::{Content, Files, named};

/// The policy folder, or only the standard policies.
#[derive(Debug)]
pub struct Folder {
    path: Option<PathBuf>,
    /// It is a copy of what a digest names: what changes in it does not count.
    is_pinned: bool,
    /// The setting `json` of the standard namespaces, where the operator says nothing.
    json: String,
    /// Bytes of a component.
    component_bytes_max: usize,
}

/// What tells one state of the folder from another, without reading the files.
pub type Fingerprint = BTreeMap<String, (Option<SystemTime>, u64, u64)>;

/// Settings and cases are smaller, whatever components may be.
const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

// === impl Folder ===

impl Folder {
    /// A folder, which need not be there.
    pub fn new(path: Option<PathBuf>, json: &str) -> Self {
        Self { path, is_pinned: false, json: json.to_owned(), component_bytes_max: usize::MAX }
    }

    /// A folder whose content never counts as changed: a copy of what a digest names.
    pub fn pinned(path: PathBuf, json: &str) -> Self {
        Self { is_pinned: true, ..Self::new(Some(path), json) }
    }

    /// The same; a component of more bytes is not read.
    pub fn at_most(self, component_bytes_max: usize) -> Self {
        Self { component_bytes_max, ..self }
    }

    /// Where it is.
    pub fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }

    /// Whether what it holds may change.
    pub fn is_watched(&self) -> bool {
        self.path.is_some() && !self.is_pinned
    }

    /// The setting `json` of the standard namespaces, where the operator says nothing.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// What the folder is like now. Files are looked at through links, so that a link that moves is seen.
    pub fn fingerprint(&self) -> Fingerprint {
        use std::os::unix::fs::MetadataExt;
        if self.is_pinned {
            return Fingerprint::new();
        }
        let look = |(name, path): (String, PathBuf)| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((name, (metadata.modified().ok(), metadata.len(), metadata.ino())))
        };
        // A folder that cannot be read is told when it is loaded.
        self.files().unwrap_or_default().into_iter().filter_map(look).collect()
    }

    /// Reads all files.
    ///
    /// # Errors
    /// One of them cannot be read, or is too large.
    pub fn read(&self) -> Result<Content, Rejected> {
        let rejected = |policy: Option<&str>, reason| Rejected {
            policy: policy.map(ToOwned::to_owned),
            stage: Stage::Read,
            reason,
        };
        let mut files = Files::new();
        for (name, path) in self.files().map_err(|error| rejected(None, error))? {
            let bytes = self.read_file(&name, &path);
            let bytes = bytes.map_err(|error| rejected(name.split('.').next(), error))?;
            files.insert(name, bytes.into());
        }
        Ok(Content::new(files, &self.json, self.path.clone()))
    }

    /// All policies that the folder and the standard set make.
    ///
    /// # Errors
    /// A file cannot be read, or says what cannot be.
    pub fn mounts(&self) -> Result<Vec<Mount>, Rejected> {
        self.read()?.mounts()
    }

    /// One file, through links. Anything but a file could make one wait for ever.
    fn read_file(&self, name: &str, path: &PathBuf) -> anyhow::Result<Vec<u8>> {
        let cannot = || format!("cannot read {}", path.display());
        let metadata = std::fs::metadata(path).with_context(cannot)?;
        ensure!(metadata.is_file(), "{} is not a file", path.display());
        let (bytes_max, setting) = match name.ends_with(".wasm") {
            true => (self.component_bytes_max, " (policy_component_bytes_max)"),
            false => (TEXT_BYTES_MAX, ""),
        };
        let file = std::fs::File::open(path).with_context(cannot)?;
        let mut content = Vec::new();
        file.take((bytes_max as u64).saturating_add(1)).read_to_end(&mut content).with_context(cannot)?;
        let bytes = metadata.len().max(content.len() as u64);
        let path = path.display();
        ensure!(content.len() <= bytes_max, "{path} has {bytes} bytes; at most {bytes_max} are allowed{setting}");
        Ok(content)
    }

    /// The files that mean something, by name. A folder that is not there is empty.
    fn files(&self) -> anyhow::Result<BTreeMap<String, PathBuf>> {
        let Some(folder) = &self.path else { return Ok(BTreeMap::new()) };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error).with_context(|| format!("cannot read the folder {}", folder.display())),
        };
        let mut files = BTreeMap::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read the folder {}", folder.display()))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if named(&name).is_some() {
                files.insert(name, entry.path());
            }
        }
        Ok(files)
    }
}
