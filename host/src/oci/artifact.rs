//! What a policy set looks like in a registry: an OCI image manifest (image specification 1.1, "Guidelines for Artifact
//! Usage") whose layers are the files of the folder as they are. Pure: names and bytes in, manifest and blobs out, and
//! back. The same files give the same bytes, and so the same digest.
//!
//! - A folder: `artifactType` [`SET_TYPE`], the empty config, one layer a file in order of name, each with its name as
//!   `org.opencontainers.image.title`; components are `application/wasm`, settings [`SETTINGS_TYPE`], cases
//!   [`CASES_TYPE`].
//! - A component by itself: the layout that tools for WebAssembly share, so that they can pull it (CNCF, "Wasm OCI
//!   Artifact layout", <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>): one layer, and a config
//!   of type [`WASM_CONFIG_TYPE`].

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Digest};
use crate::reload::{SETTINGS_BYTES_MAX, Use, named};

/// `artifactType` of a policy set.
pub const SET_TYPE: &str = "application/vnd.bellwether.policy-set.v1";
/// The layer of a `NAME.toml`.
pub const SETTINGS_TYPE: &str = "application/vnd.bellwether.policy-settings.v1+toml";
/// The layer of a `NAME.cases.toml`.
pub const CASES_TYPE: &str = "application/vnd.bellwether.policy-cases.v1+toml";
/// The layer of a component.
pub const COMPONENT_TYPE: &str = "application/wasm";
/// The config of a component by itself.
pub const WASM_CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
/// The manifest of both.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const EMPTY: &[u8] = b"{}";
const TITLE: &str = "org.opencontainers.image.title";
/// Files of an artifact. Three for each policy are eighty policies.
const FILES_MAX: usize = 256;

/// A file of a policy set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name, without a folder.
    pub name: String,
    /// What is in it.
    pub content: Bytes,
}

/// An artifact as it is pushed.
#[derive(Debug)]
pub struct Built {
    /// The manifest.
    pub manifest: Bytes,
    /// Config and layers.
    pub blobs: Vec<Bytes>,
}

/// A file as a manifest tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, which is one that a policy folder knows.
    pub name: String,
    /// The digest of its content.
    pub digest: Digest,
    /// The size of its content in bytes.
    pub size: u64,
}

/// What an artifact may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    component_bytes_max: u64,
    all_bytes_max: u64,
}

/// What a component exports and imports, for those who look for one in a registry.
#[derive(Debug, Serialize)]
pub struct World {
    /// Names of interfaces.
    pub exports: Vec<String>,
    /// Names of interfaces.
    pub imports: Vec<String>,
}

/// The config of a component by itself. A struct, so that its bytes never come in another order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WasmConfig<'a> {
    created: &'a str,
    architecture: &'a str,
    os: &'a str,
    layer_digests: [&'a String; 1],
    component: &'a World,
}

/// An image manifest: the parts that are used.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// What a manifest says of a blob.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

// === impl Bounds ===

impl Bounds {
    /// The configured ones.
    pub fn of(config: &Config) -> Self {
        Self {
            component_bytes_max: config.policy_component_bytes_max as u64,
            all_bytes_max: config.policy_artifact_bytes_max,
        }
    }
}

// === impl Built ===

impl Built {
    /// A whole folder: the files that mean something in one.
    ///
    /// # Errors
    /// A name means nothing in a policy folder.
    pub fn set(files: &[File]) -> anyhow::Result<Self> {
        ensure!(!files.is_empty(), "there is nothing in it that a policy folder knows: NAME.wasm, NAME.toml");
        let mut files: Vec<&File> = files.iter().collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let layer = |file: &&File| Ok(Descriptor::of(media_type(&file.name)?, &file.content, Some(&file.name)));
        let layers = files.iter().map(layer).collect::<anyhow::Result<_>>()?;
        let config = Descriptor::of(EMPTY_TYPE, EMPTY, None);
        let manifest = Manifest::new(Some(SET_TYPE), config, layers);
        let contents = files.iter().map(|file| file.content.clone());
        Self::new(&manifest, [Bytes::from_static(EMPTY)].into_iter().chain(contents).collect())
    }

    /// A component by itself. Its config has no time in it that would tell two pushes apart.
    ///
    /// # Errors
    /// Its name means nothing in a policy folder.
    pub fn component(file: &File, world: &World) -> anyhow::Result<Self> {
        ensure!(
            media_type(&file.name)? == COMPONENT_TYPE,
            "{} is no component; push the folder that it is in",
            file.name
        );
        let layer = Descriptor::of(COMPONENT_TYPE, &file.content, Some(&file.name));
        let config = WasmConfig {
            created: "1970-01-01T00:00:00Z",
            architecture: "wasm",
            os: "wasip2",
            layer_digests: [&layer.digest],
            component: world,
        };
        let config = Bytes::from(serde_json::to_vec(&config)?);
        let manifest = Manifest::new(None, Descriptor::of(WASM_CONFIG_TYPE, &config, None), vec![layer]);
        Self::new(&manifest, vec![config, file.content.clone()])
    }

    pub(super) fn new(manifest: &Manifest, blobs: Vec<Bytes>) -> anyhow::Result<Self> {
        Ok(Self { manifest: serde_json::to_vec(manifest)?.into(), blobs })
    }

    /// The artifact's digest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }
}

// === impl Manifest ===

impl Manifest {
    pub(super) fn new(artifact_type: Option<&str>, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        let media_type = Some(MANIFEST_TYPE.to_owned());
        Self { schema_version: 2, media_type, artifact_type: artifact_type.map(Into::into), config, layers }
    }

    /// Reads one.
    pub(super) fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let manifest: Self = serde_json::from_slice(bytes).context("it is not an OCI image manifest")?;
        ensure!(manifest.schema_version == 2, "it is a manifest of version {}, not 2", manifest.schema_version);
        Ok(manifest)
    }
}

// === impl Descriptor ===

impl Descriptor {
    pub(super) fn of(media_type: &str, content: &[u8], title: Option<&str>) -> Self {
        let annotations = title.map(|title| (TITLE.to_owned(), title.to_owned())).into_iter().collect();
        let (media_type, digest) = (media_type.to_owned(), Digest::of(content).to_string());
        Self { media_type, digest, size: content.len() as u64, annotations }
    }
}

/// The files that a manifest tells of. `repository` names a component that has no name of its own.
///
/// # Errors
/// It is no policy set, or a larger one than the bounds allow.
pub fn entries(manifest: &[u8], repository: &str, bounds: Bounds) -> anyhow::Result<Vec<Entry>> {
    let manifest = Manifest::read(manifest)?;
    let is_set = manifest.artifact_type.as_deref() == Some(SET_TYPE);
    let is_component = manifest.config.media_type == WASM_CONFIG_TYPE;
    if !is_set && !is_component {
        let found = manifest.artifact_type.as_ref().unwrap_or(&manifest.config.media_type);
        bail!("it is no policy set but {found:?}; `bellwether policy push` makes policy sets");
    }
    let layers = &manifest.layers;
    ensure!(!layers.is_empty(), "it holds no file");
    ensure!(is_set || layers.len() == 1, "it holds {} layers; a component by itself has one", layers.len());
    ensure!(layers.len() <= FILES_MAX, "it holds {} files; at most {FILES_MAX} are taken", layers.len());
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    for layer in layers {
        let entry = entry(layer, repository, is_component, bounds)?;
        let name = entry.name.clone();
        ensure!(entries.insert(name.clone(), entry).is_none(), "it holds {name} twice");
    }
    let all = entries.values().fold(0_u64, |sum, entry| sum.saturating_add(entry.size));
    ensure!(
        all <= bounds.all_bytes_max,
        "its files have {all} bytes; at most {} are taken (policy_artifact_bytes_max)",
        bounds.all_bytes_max
    );
    Ok(entries.into_values().collect())
}

fn entry(layer: &Descriptor, repository: &str, is_component: bool, bounds: Bounds) -> anyhow::Result<Entry> {
    let last = repository.rsplit('/').next().unwrap_or(repository);
    let name = match layer.annotations.get(TITLE) {
        Some(title) => title.clone(),
        None if is_component => format!("{last}.wasm"),
        None => bail!("one of its files has no name ({TITLE})"),
    };
    let expected = media_type(&name)?;
    ensure!(layer.media_type == expected, "{name} is {:?} in it, and should be {expected:?}", layer.media_type);
    let (max, setting) = match expected {
        COMPONENT_TYPE => (bounds.component_bytes_max, " (policy_component_bytes_max)"),
        _ => (SETTINGS_BYTES_MAX as u64, ""),
    };
    ensure!(layer.size <= max, "{name} has {} bytes; at most {max} are taken{setting}", layer.size);
    Ok(Entry { name, digest: Digest::read(&layer.digest)?, size: layer.size })
}

/// What a file is in a registry.
fn media_type(name: &str) -> anyhow::Result<&'static str> {
    Ok(match named(name).with_context(|| format!("{name:?} means nothing in a policy folder"))?.1 {
        Use::Component => COMPONENT_TYPE,
        Use::Mount => SETTINGS_TYPE,
        Use::Cases => CASES_TYPE,
    })
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Built, File, World, entries};

    const BOUNDS: Bounds = Bounds { component_bytes_max: 100, all_bytes_max: 150 };

    fn file(name: &str, content: &[u8]) -> File {
        File { name: name.to_owned(), content: content.to_vec().into() }
    }

    fn names(manifest: &[u8], repository: &str) -> String {
        match entries(manifest, repository, BOUNDS) {
            Ok(entries) => entries.iter().map(|entry| format!("{}={} ", entry.name, entry.size)).collect(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn what_is_pushed_is_what_is_pulled() {
        let check = |files: &[File], expect: &str| {
            let got = match Built::set(files) {
                Ok(built) => names(&built.manifest, "r"),
                Err(error) => format!("{error:#}"),
            };
            assert!(got.contains(expect), "{got}");
        };
        let files = [file("b.toml", b"x"), file("a.wasm", b"yz"), file("a.cases.toml", b"")];
        check(&files, "a.cases.toml=0 a.wasm=2 b.toml=1 ");
        check(&[], "there is nothing in it");
        check(&[file("../a.wasm", b"")], "means nothing in a policy folder");
        check(&[file("a.txt", b"")], "means nothing in a policy folder");
        check(&[file("a.wasm", &[0; 101])], "a.wasm has 101 bytes; at most 100 are taken (policy_component_bytes_max)");
        check(&[file("a.wasm", &[0; 90]), file("b.wasm", &[0; 90])], "its files have 180 bytes; at most 150");
        let mut turned = files.clone();
        turned.reverse();
        let digests = [&files, &turned].map(|files| Built::set(files).map(|built| built.digest()).ok());
        assert!(digests[0].is_some() && digests[0] == digests[1], "the order on disk is nothing");
    }

    #[test]
    fn components_by_themselves() {
        let world = World { exports: vec!["a:b/c".to_owned()], imports: vec![] };
        let Ok(built) = Built::component(&file("x.wasm", b"abc"), &world) else { panic!("it is a component") };
        assert_eq!(names(&built.manifest, "r/y"), "x.wasm=3 ");
        // As tools that give layers no names push it.
        let nameless = String::from_utf8_lossy(&built.manifest).replace("org.opencontainers.image.title", "other");
        assert_eq!(names(nameless.as_bytes(), "r/y"), "y.wasm=3 ");
        assert!(names(nameless.as_bytes(), "r/y.z").contains("means nothing in a policy folder"));
        assert!(Built::component(&file("x.toml", b""), &world).is_err());
    }

    #[test]
    fn hostile_manifests() {
        let layer = |title: &str, kind: &str, size: &str| {
            let digest = format!("sha256:{}", "ab".repeat(32));
            format!(
                "{{\"mediaType\":\"{kind}\",\"digest\":\"{digest}\",\"size\":{size},\"annotations\":\
                 {{\"org.opencontainers.image.title\":\"{title}\"}}}}"
            )
        };
        let set = |layers: &[String]| {
            let config = layer("", "application/vnd.oci.empty.v1+json", "2");
            let layers = layers.join(",");
            let kind = super::SET_TYPE;
            format!("{{\"schemaVersion\":2,\"artifactType\":\"{kind}\",\"config\":{config},\"layers\":[{layers}]}}")
        };
        let check = |manifest: &str, expect: &str| {
            let got = names(manifest.as_bytes(), "r");
            assert!(got.contains(expect), "{manifest}: {got}");
        };
        let (wasm, toml) = ("application/wasm", super::SETTINGS_TYPE);
        check(&set(&[layer("a.wasm", wasm, "1")]), "a.wasm=1");
        check("[]", "it is not an OCI image manifest");
        check("{\"schemaVersion\":2,\"manifests\":[]}", "it is not an OCI image manifest");
        check(&set(&[]), "it holds no file");
        check(&set(&[layer("../../a.wasm", wasm, "1")]), "means nothing");
        check(&set(&[layer(".a.wasm", wasm, "1")]), "means nothing");
        check(&set(&[layer("a.wasm", toml, "1")]), "should be \"application/wasm\"");
        check(&set(&[layer("a.wasm", wasm, "1"), layer("a.wasm", wasm, "1")]), "it holds a.wasm twice");
        check(&set(&[layer("a.wasm", wasm, "18446744073709551615")]), "bytes; at most 100");
        check(&set(&[layer("a.wasm", wasm, "-1")]), "it is not an OCI image manifest");
        check(&set(&vec![layer("a.wasm", wasm, "1"); 257]), "it holds 257 files");
        check(&set(&[layer("a.wasm", wasm, "1")]).replace("policy-set.v1", "else"), "it is no policy set but");
    }
}
