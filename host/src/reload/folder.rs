//! What the policy folder says: `NAME.wasm` is a component, `NAME.toml` mounts one under that name with settings,
//! `NAME.cases.toml` holds a component's own cases. Over the standard policies, which need no file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::config::nearest;
use crate::policy::standard::STANDARD;
use crate::policy::{Mount, Origin, Rejected, Stage, settings};

/// The policy folder, or only the standard policies.
#[derive(Debug)]
pub struct Folder {
    path: Option<PathBuf>,
    /// It is a copy of what a digest names: what changes in it does not count.
    is_pinned: bool,
    /// The setting `json` of the standard namespaces, where the operator says nothing.
    json: String,
}

/// What tells one state of the folder from another, without reading the files.
pub type Fingerprint = BTreeMap<String, (Option<SystemTime>, u64, u64)>;

/// The content of a `NAME.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MountFile {
    component: Option<String>,
    enabled: Option<bool>,
    settings: Option<toml::Table>,
}

/// What a file of the folder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// `NAME.wasm`.
    Component,
    /// `NAME.toml`.
    Mount,
    /// `NAME.cases.toml`.
    Cases,
}

const NAME_BYTES_MAX: usize = 64;
/// Bytes of a policy's settings.
pub const SETTINGS_BYTES_MAX: usize = 1024 * 1024;

// === impl Folder ===

impl Folder {
    /// A folder, which need not be there.
    pub fn new(path: Option<PathBuf>, json: &str) -> Self {
        Self { path, is_pinned: false, json: json.to_owned() }
    }

    /// A folder whose content never counts as changed: a copy of what a digest names.
    pub fn pinned(path: PathBuf, json: &str) -> Self {
        Self { path: Some(path), is_pinned: true, json: json.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
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

    /// All policies that the folder and the standard set make.
    ///
    /// # Errors
    /// A file cannot be read, or says what cannot be.
    pub fn mounts(&self) -> Result<Vec<Mount>, Rejected> {
        let rejected = |policy: Option<&str>, reason| Rejected {
            policy: policy.map(ToOwned::to_owned),
            stage: Stage::Read,
            reason,
        };
        let files = self.files().map_err(|error| rejected(None, error))?;
        let mut names: BTreeSet<_> = STANDARD.iter().map(|standard| standard.name).collect();
        names.extend(
            files.keys().filter_map(|file| named(file)).filter(|(_, of)| *of != Use::Cases).map(|(name, _)| name),
        );
        let mounts =
            names.into_iter().map(|name| self.mount(&files, name).map_err(|error| rejected(Some(name), error)));
        mounts.filter_map(Result::transpose).collect()
    }

    fn mount(&self, files: &BTreeMap<String, PathBuf>, name: &str) -> anyhow::Result<Option<Mount>> {
        let file = match files.get(&format!("{name}.toml")) {
            None => MountFile::default(),
            Some(path) => mount_file(path)?,
        };
        if file.enabled == Some(false) {
            return Ok(None);
        }
        let component = file.component.as_deref().unwrap_or(name);
        let standard = STANDARD.iter().find(|standard| standard.name == component);
        let cases = files.get(&format!("{component}.cases.toml")).map(|path| read_text(path)).transpose()?;
        let (bytes, origin, cases): (Arc<[u8]>, _, _) = match (files.get(&format!("{component}.wasm")), standard) {
            (Some(path), _) => {
                let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                (bytes.into(), Origin::File(path.clone()), cases)
            }
            (None, Some(standard)) => {
                (standard.component.into(), Origin::Embedded, cases.or(Some(standard.cases.to_owned())))
            }
            (None, None) => {
                let known = files.keys().filter_map(|file| file.strip_suffix(".wasm"));
                let known: Vec<_> = known.chain(STANDARD.iter().map(|standard| standard.name)).collect();
                let near = nearest(component, known.iter().copied());
                let hint = near.map_or(String::new(), |near| format!("; did you mean {near:?}?"));
                bail!("there is no component {component:?} among {}{hint}", known.join(", "));
            }
        };
        let mut settings = serde_json::Map::new();
        if origin == Origin::Embedded && component == "namespaces" {
            settings.insert("json".into(), self.json.as_str().into());
        }
        settings.extend(settings::object(file.settings.unwrap_or_default()));
        let settings = serde_json::Value::Object(settings).to_string();
        ensure!(settings.len() <= SETTINGS_BYTES_MAX, "its settings have more than {SETTINGS_BYTES_MAX} bytes");
        Ok(Some(Mount { name: name.to_owned(), component: bytes, settings, cases, origin }))
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

/// The settings of a `NAME.toml`, as the JSON object that a policy takes.
///
/// # Errors
/// The file cannot be read, or is not a policy's file.
pub fn settings_of(path: &Path) -> anyhow::Result<String> {
    let settings = settings::object(mount_file(path)?.settings.unwrap_or_default());
    Ok(serde_json::Value::Object(settings).to_string())
}

/// The policy or component that a file belongs to. None: it means nothing here.
pub fn named(file: &str) -> Option<(&str, Use)> {
    let ends = [(".cases.toml", Use::Cases), (".toml", Use::Mount), (".wasm", Use::Component)];
    let (name, of) = ends.into_iter().find_map(|(end, of)| Some((file.strip_suffix(end)?, of)))?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    ((1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)).then_some((name, of))
}

fn mount_file(path: &Path) -> anyhow::Result<MountFile> {
    let text = read_text(path)?;
    toml::from_str(&text).map_err(|error| {
        let table: Option<toml::Table> = toml::from_str(&text).ok();
        let known = ["component", "enabled", "settings"];
        let stray = table.and_then(|table| table.keys().find(|key| !known.contains(&key.as_str())).cloned());
        let file = path.display();
        match stray {
            None => anyhow::Error::new(error).context(format!("{file} is not what a policy's file is")),
            Some(key) => {
                let near = nearest(&key, known.into_iter()).unwrap_or("settings");
                anyhow::anyhow!(
                    "{file} has {key:?}; a policy's file has component, enabled and settings (did you mean {near}, or \
                     does it belong under [settings]?)"
                )
            }
        }
    })
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
