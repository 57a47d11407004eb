//! Pulled artifacts on disk. Kept ones, by digest, are verified again at every start, so that none has to be trusted;
//! placed ones are put into a policy folder, without touching what somebody else put there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::artifact::{Bounds, File, entries};
use super::signature::Signature;
use crate::config::Digest;
use crate::reload::named;

/// An artifact as it was pulled, whole and verified.
#[derive(Debug)]
pub struct Pulled {
    /// The digest of the manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Bytes,
    /// The signatures that it has; where none are asked for, none.
    pub signatures: Vec<Signature>,
    /// The files, in order of name.
    pub files: Vec<File>,
}

/// What was put into a folder.
#[derive(Debug)]
pub struct Placed {
    /// Files of an artifact pulled before that this one has not.
    pub removed: Vec<String>,
    /// Files that are of no artifact, and are left alone.
    pub others: Vec<String>,
}

/// A signature on disk.
#[derive(Serialize, Deserialize)]
struct Kept {
    payload: String,
    signature: String,
}

/// What says which files of a folder are of an artifact.
#[derive(Default, Serialize, Deserialize)]
struct Mark {
    digest: String,
    files: BTreeMap<String, String>,
}

// Names that mean nothing in a policy folder.
const MANIFEST: &str = ".manifest.json";
const SIGNATURES: &str = ".signatures.json";
const MARK: &str = ".bellwether-artifact.json";
/// Bytes of a file that is ours.
const OWN_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The folder of a kept artifact.
pub fn kept_folder(artifacts: &Path, digest: &Digest) -> PathBuf {
    artifacts.join(digest.dashed())
}

/// Reads a kept artifact. None: it is not there, or not as its digest says.
pub fn kept(artifacts: &Path, digest: &Digest, repository: &str, bounds: Bounds) -> Option<Pulled> {
    let folder = kept_folder(artifacts, digest);
    let read = || -> anyhow::Result<Pulled> {
        let manifest = read_up_to(&folder.join(MANIFEST), OWN_BYTES_MAX)?;
        ensure!(Digest::of(&manifest) == *digest, "another manifest");
        let signatures: Vec<Kept> = serde_json::from_slice(&read_up_to(&folder.join(SIGNATURES), OWN_BYTES_MAX)?)?;
        let of = |kept: Kept| Signature { payload: kept.payload.into(), signature: kept.signature };
        let signatures = signatures.into_iter().map(of).collect();
        let mut files = Vec::new();
        for entry in entries(&manifest, repository, bounds)? {
            let content = read_up_to(&folder.join(&entry.name), entry.size)?;
            ensure!(Digest::of(&content) == entry.digest, "another {}", entry.name);
            files.push(File { name: entry.name, content });
        }
        let known = |name: &String| files.iter().any(|file| file.name == *name);
        ensure!(policy_files(&folder)?.iter().all(known), "a file more");
        Ok(Pulled { digest: digest.clone(), manifest, signatures, files })
    };
    // Whatever is wrong with it, it is pulled again.
    read().ok()
}

/// Keeps an artifact, in one step, in the place of what may be there.
pub fn keep(artifacts: &Path, pulled: &Pulled) -> anyhow::Result<PathBuf> {
    let folder = kept_folder(artifacts, &pulled.digest);
    let beside = artifacts.join(format!(".{}.{}", pulled.digest.dashed(), std::process::id()));
    let written = || -> std::io::Result<()> {
        std::fs::create_dir_all(&beside)?;
        for file in &pulled.files {
            std::fs::write(beside.join(&file.name), &file.content)?;
        }
        let kept = |of: &Signature| Kept {
            payload: String::from_utf8_lossy(&of.payload).into_owned(),
            signature: of.signature.clone(),
        };
        let signatures: Vec<_> = pulled.signatures.iter().map(kept).collect();
        std::fs::write(beside.join(SIGNATURES), serde_json::to_vec(&signatures)?)?;
        std::fs::write(beside.join(MANIFEST), &pulled.manifest)?;
        remove_folder(&folder)?;
        std::fs::rename(&beside, &folder)
    };
    let result = written().with_context(|| {
        format!("cannot keep the artifact in {}; policy_artifacts_folder names the folder", folder.display())
    });
    if result.is_err() {
        // What is half there helps nobody, and that it cannot be removed is told already.
        drop(remove_folder(&beside));
    }
    result.map(|()| folder)
}

/// Puts an artifact's files into a policy folder, each in one step. Files of an artifact that was placed before and
/// that this one has not are removed; other files stay, and none is overwritten unless `force` says so.
pub fn place(folder: &Path, pulled: &Pulled, force: bool) -> anyhow::Result<Placed> {
    let at = folder.display();
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {at}"))?;
    let mark = read_mark(&folder.join(MARK))?;
    for file in &pulled.files {
        let path = folder.join(&file.name);
        let Ok(there) = std::fs::read(&path) else { continue };
        let is_same = there == file.content || mark.files.get(&file.name) == Some(&Digest::of(&there).to_string());
        if !is_same && !force {
            let is_ours = mark.files.contains_key(&file.name);
            let why = if is_ours { "was changed since it was pulled" } else { "is of no artifact that was pulled" };
            bail!("{} is there already and {why}; move it away, or pull with --force", path.display());
        }
    }
    for file in &pulled.files {
        put(folder, &file.name, &file.content)?;
    }
    let is_new = |name: &str| pulled.files.iter().any(|file| file.name == name);
    let mut placed = Placed { removed: Vec::new(), others: Vec::new() };
    for name in policy_files(folder)?.into_iter().filter(|name| !is_new(name)) {
        match mark.files.get(&name) {
            // One that was changed since is somebody's.
            Some(digest) if std::fs::read(folder.join(&name)).is_ok_and(|of| Digest::of(&of).as_str() == digest) => {
                let path = folder.join(&name);
                std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                placed.removed.push(name);
            }
            _ => placed.others.push(name),
        }
    }
    let files = pulled.files.iter().map(|file| (file.name.clone(), Digest::of(&file.content).to_string())).collect();
    put(folder, MARK, &serde_json::to_vec_pretty(&Mark { digest: pulled.digest.to_string(), files })?)?;
    Ok(placed)
}

/// The files of a folder that mean something in a policy folder.
pub fn files(folder: &Path) -> anyhow::Result<Vec<File>> {
    let read = |name: String| {
        let path = folder.join(&name);
        let content = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(File { name, content: content.into() })
    };
    policy_files(folder)?.into_iter().map(read).collect()
}

fn policy_files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let cannot = || format!("cannot read the folder {}", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        names.extend(entry.file_name().into_string().ok().filter(|name| named(name).is_some()));
    }
    names.sort_unstable();
    Ok(names)
}

fn read_mark(path: &Path) -> anyhow::Result<Mark> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
            format!("{} is not what a pull writes there; remove it, and pull with --force", path.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Mark::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn put(folder: &Path, name: &str, content: &[u8]) -> anyhow::Result<()> {
    let (path, beside) = (folder.join(name), folder.join(format!(".{name}.new")));
    let written = std::fs::write(&beside, content).and_then(|()| std::fs::rename(&beside, &path));
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn read_up_to(path: &Path, bytes_max: u64) -> anyhow::Result<Bytes> {
    let length = std::fs::metadata(path)?.len();
    ensure!(length <= bytes_max, "{} is too long", path.display());
    Ok(std::fs::read(path)?.into())
}

fn remove_folder(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
