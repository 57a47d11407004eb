//! What a policy folder holds, read once: the files by name, and the policies that they and the standard set make.
//! `NAME.wasm` is a component, `NAME.toml` mounts one under that name with settings, `NAME.cases.toml` holds a
//! component's own cases. Knows no folder: the same comes from an upload, and from what was kept of a generation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::config::nearest;
use crate::policy::standard::STANDARD;
use crate::policy::{Mount, Origin, OwnLimits, Rejected, Stage, settings};

/// Files by name.
pub type Files = BTreeMap<String, Arc<[u8]>>;

/// Everything that a generation is made of.
#[derive(Clone, Debug)]
pub struct Content {
    /// What was put over the standard policies.
    pub files: Files,
    /// The standard policies' components and cases, as this program or the one that first loaded them has them.
    pub standard: Files,
    /// The setting `json` of the standard namespaces, where the operator says nothing.
    pub json: String,
    /// Where the files are, if they are in a folder.
    pub place: Option<PathBuf>,
}

/// The content of a `NAME.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MountFile {
    component: Option<String>,
    enabled: Option<bool>,
    settings: Option<toml::Table>,
    #[serde(default)]
    limits: OwnLimits,
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

// === impl Content ===

impl Content {
    /// These files over the standard policies of this program.
    pub fn new(files: Files, json: &str, place: Option<PathBuf>) -> Self {
        let standard = STANDARD.iter().flat_map(|standard| {
            let component = (format!("{}.wasm", standard.name), Arc::from(standard.component));
            [component, (format!("{}.cases.toml", standard.name), Arc::from(standard.cases.as_bytes()))]
        });
        Self { files, standard: standard.collect(), json: json.to_owned(), place }
    }

    /// The same with other files in the place of those of the same name, and beside the rest.
    pub fn with(&self, files: Files) -> Self {
        let mut content = Self { place: None, ..self.clone() };
        content.files.extend(files);
        content
    }

    /// All policies that the files and the standard set make.
    ///
    /// # Errors
    /// A file says what cannot be.
    pub fn mounts(&self) -> Result<Vec<Mount>, Rejected> {
        let of_role = |of: Use| {
            move |file: &'_ String| Some(named(file)?).filter(|(_, is)| *is == of).map(|(name, _)| name.to_owned())
        };
        let standard = self.standard.keys().filter_map(of_role(Use::Component));
        let own =
            self.files.keys().filter_map(|file| of_role(Use::Component)(file).or_else(|| of_role(Use::Mount)(file)));
        let names: BTreeSet<_> = standard.chain(own).collect();
        let rejected = |name: &str, reason| Rejected { policy: Some(name.to_owned()), stage: Stage::Read, reason };
        let mounts = names.iter().map(|name| self.mount(name).map_err(|error| rejected(name, error)));
        mounts.filter_map(Result::transpose).collect()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> usize {
        self.files.values().chain(self.standard.values()).map(|bytes| bytes.len()).sum()
    }

    /// Takes the bytes that `other` has too from there, so that they are in memory once.
    pub fn share_with(&mut self, other: &Self) {
        for (files, others) in [(&mut self.files, &other.files), (&mut self.standard, &other.standard)] {
            for (name, bytes) in files {
                if let Some(known) = others.get(name).filter(|known| *known == bytes) {
                    *bytes = Arc::clone(known);
                }
            }
        }
    }

    fn mount(&self, name: &str) -> anyhow::Result<Option<Mount>> {
        let file = match self.files.get(&format!("{name}.toml")) {
            None => MountFile::default(),
            Some(bytes) => mount_file(&self.shown(&format!("{name}.toml")), text(name, bytes)?)?,
        };
        if file.enabled == Some(false) {
            return Ok(None);
        }
        let component = file.component.as_deref().unwrap_or(name);
        let (wasm, cases) = (format!("{component}.wasm"), format!("{component}.cases.toml"));
        let own_cases = self.files.get(&cases).map(|bytes| text(&cases, bytes)).transpose()?;
        let (bytes, origin, cases) = match (self.files.get(&wasm), self.standard.get(&wasm)) {
            (Some(bytes), _) => (bytes, Origin::File(self.shown(&wasm)), own_cases),
            (None, Some(bytes)) => {
                let standard = self.standard.get(&cases).map(|bytes| text(&cases, bytes)).transpose()?;
                (bytes, Origin::Embedded, own_cases.or(standard))
            }
            (None, None) => bail!("{}", self.unknown(component)),
        };
        let mut settings = serde_json::Map::new();
        if origin == Origin::Embedded && component == "namespaces" {
            settings.insert("json".into(), self.json.as_str().into());
        }
        settings.extend(settings::object(file.settings.unwrap_or_default()));
        let settings = serde_json::Value::Object(settings).to_string();
        ensure!(settings.len() <= SETTINGS_BYTES_MAX, "its settings have more than {SETTINGS_BYTES_MAX} bytes");
        let (name, component) = (name.to_owned(), Arc::clone(bytes));
        Ok(Some(Mount { name, component, settings, cases: cases.map(ToOwned::to_owned), limits: file.limits, origin }))
    }

    fn unknown(&self, component: &str) -> String {
        let known = self.files.keys().chain(self.standard.keys()).filter_map(|file| file.strip_suffix(".wasm"));
        let known: Vec<_> = known.collect();
        let near = nearest(component, known.iter().copied());
        let hint = near.map_or(String::new(), |near| format!("; did you mean {near:?}?"));
        format!("there is no component {component:?} among {}{hint}", known.join(", "))
    }

    /// Where a file is, for people.
    fn shown(&self, file: &str) -> PathBuf {
        self.place.as_ref().map_or_else(|| file.into(), |place| place.join(file))
    }
}

/// What tells these policies from others: names, components, settings and cases. Where they came from does not count.
pub fn digest(mounts: &[Mount]) -> String {
    let mut all = Sha256::new();
    for mount in mounts {
        let cases = mount.cases.as_deref().unwrap_or_default();
        for part in [mount.name.as_bytes(), &mount.component, mount.settings.as_bytes(), cases.as_bytes()] {
            all.update(Sha256::digest(part));
        }
        if mount.limits != OwnLimits::default() {
            all.update(Sha256::digest(format!("{:?}", mount.limits)));
        }
    }
    all.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The settings of a `NAME.toml`, as the JSON object that a policy takes, and the limits.
///
/// # Errors
/// The file cannot be read, or is not a policy's file.
pub fn said_in(path: &Path) -> anyhow::Result<(String, OwnLimits)> {
    let content = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = mount_file(path, &content)?;
    let settings = settings::object(file.settings.unwrap_or_default());
    Ok((serde_json::Value::Object(settings).to_string(), file.limits))
}

/// The policy or component that a file belongs to. None: it means nothing here.
pub fn named(file: &str) -> Option<(&str, Use)> {
    let ends = [(".cases.toml", Use::Cases), (".toml", Use::Mount), (".wasm", Use::Component)];
    let (name, of) = ends.into_iter().find_map(|(end, of)| Some((file.strip_suffix(end)?, of)))?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    ((1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)).then_some((name, of))
}

fn mount_file(path: &Path, text: &str) -> anyhow::Result<MountFile> {
    toml::from_str(text).map_err(|error| {
        let table: Option<toml::Table> = toml::from_str(text).ok();
        let known = ["component", "enabled", "limits", "settings"];
        let stray = table.and_then(|table| table.keys().find(|key| !known.contains(&key.as_str())).cloned());
        let file = path.display();
        match stray {
            None => anyhow::Error::new(error).context(format!("{file} is not what a policy's file is")),
            Some(key) => {
                let near = nearest(&key, known.into_iter()).unwrap_or("settings");
                anyhow::anyhow!(
                    "{file} has {key:?}; a policy's file has component, enabled, limits and settings (did you mean \
                     {near}, or does it belong under [settings]?)"
                )
            }
        }
    })
}

fn text<'a>(name: &str, bytes: &'a [u8]) -> anyhow::Result<&'a str> {
    std::str::from_utf8(bytes).with_context(|| format!("{name} is not text in UTF-8"))
}
