//! Policy sets in registries: pushes a folder as one artifact, pulls one, and verifies every byte of it by its digest
//! and, where keys are configured, by a signature. Knows nothing of what is in the files.

pub mod artifact;
mod challenge;
mod credentials;
mod http;
mod registry;
pub mod signature;
pub mod store;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::config::{Config, Digest, Reference};
use artifact::{Bounds, Built, File, entries};
use credentials::Credentials;
use http::Http;
use registry::Registry;
use signature::{Keys, PAYLOAD_BYTES_MAX, PrivateKey, PublicKey, Signature};
use store::Pulled;

/// The way to registries, and what is asked of artifacts.
#[derive(Clone, Debug)]
pub struct Registries {
    artifacts: PathBuf,
    bounds: Bounds,
    keys_file: Option<PathBuf>,
    auth_file: Option<PathBuf>,
    /// Where docker keeps passwords; it need not be there.
    docker_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    time: Duration,
}

/// An artifact that was pushed.
#[derive(Debug)]
pub struct Pushed {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The key that signed it; none: nobody was asked to.
    pub signed_by: Option<Digest>,
}

/// An artifact that may be used, and the key that signed it. None: no signature was asked for.
pub type Verified = (Pulled, Option<Digest>);

// === impl Registries ===

impl Registries {
    /// As configured. `docker_file`: where docker keeps passwords.
    pub fn of(config: &Config, docker_file: Option<PathBuf>) -> Self {
        Self {
            artifacts: config.policy_artifacts_folder.clone(),
            bounds: Bounds::of(config),
            keys_file: config.policy_keys_file.clone(),
            auth_file: config.policy_registry_auth_file.clone(),
            docker_file,
            ca_file: config.policy_registry_ca_file.clone(),
            time: Duration::from_millis(config.policy_registry_ms_max),
        }
    }

    /// The folder with what a pinned reference names: the kept copy where there is a good one, which needs no registry,
    /// or else a pulled one.
    ///
    /// # Errors
    /// There is no good copy and it cannot be pulled, or it is not signed as it must be.
    pub fn folder_of(&self, reference: &Reference) -> anyhow::Result<PathBuf> {
        let digest = reference.digest.as_ref().with_context(|| format!("policy_folder {reference} has no digest"))?;
        let keys = self.keys()?;
        if let Some(kept) = store::kept(&self.artifacts, digest, &reference.repository, self.bounds) {
            let verified = keys.as_ref().map(|keys| keys.verify(digest, &kept.signatures)).transpose();
            // It may have been signed since.
            if let Ok(signer) = verified {
                let folder = store::kept_folder(&self.artifacts, digest);
                log_use(reference, signer.map(PublicKey::fingerprint).as_ref(), "kept from before");
                return Ok(folder);
            }
        }
        let (pulled, signer) = self.pull(reference).context("policy_folder")?;
        let folder = store::keep(&self.artifacts, &pulled)?;
        log_use(reference, signer.as_ref(), "pulled");
        Ok(folder)
    }

    /// Pulls an artifact and verifies it.
    ///
    /// # Errors
    /// It cannot be had, or is not what its digest, its signature or the limits say.
    pub fn pull(&self, reference: &Reference) -> anyhow::Result<Verified> {
        let keys = self.keys()?;
        let mut registry = self.registry(reference, false)?;
        self.run(reference, async {
            let name = match (&reference.digest, &reference.tag) {
                (Some(digest), _) => digest.to_string(),
                (None, Some(tag)) => tag.clone(),
                (None, None) => bail!("it has neither a tag nor a digest; which one is meant?"),
            };
            let manifest = registry
                .manifest(&name)
                .await?
                .with_context(|| format!("{} has no artifact {name} in {}", reference.host, reference.repository))?;
            let digest = Digest::of(&manifest);
            if let Some(expected) = &reference.digest {
                ensure!(
                    digest == *expected,
                    "the manifest that the registry gives has the digest {digest}: it was changed in the registry or \
                     on the way; nothing of it was used"
                );
            }
            let mut signatures = Vec::new();
            let mut signer = None;
            if let Some(keys) = &keys {
                signatures = signatures_of(&mut registry, &digest).await.context("its signatures")?;
                signer = Some(keys.verify(&digest, &signatures)?.fingerprint());
            }
            let mut files = Vec::new();
            for entry in entries(&manifest, &reference.repository, self.bounds)? {
                let content = registry.blob(&entry.digest, entry.size).await.with_context(|| {
                    format!("{} cannot be had as it was pushed; nothing of the artifact was used", entry.name)
                })?;
                files.push(File { name: entry.name, content });
            }
            Ok((Pulled { digest, manifest, signatures, files }, signer))
        })
    }

    /// Pushes an artifact under the tag of a reference, and signs it where a key is given.
    ///
    /// # Errors
    /// The registry does not take it.
    pub fn push(&self, reference: &Reference, built: &Built, key: Option<&PrivateKey>) -> anyhow::Result<Pushed> {
        let tag = match (&reference.tag, &reference.digest) {
            (Some(tag), None) => tag,
            _ => bail!("{reference} is not where an artifact can be pushed: name a tag, and no digest"),
        };
        let digest = built.digest();
        // What would not be pulled is not pushed.
        entries(&built.manifest, &reference.repository, self.bounds)?;
        let mut registry = self.registry(reference, true)?;
        self.run(reference, async {
            // The signature first: who follows the tag never sees the artifact without it.
            if let Some(key) = key {
                sign(&mut registry, reference, &digest, key).await.context("signing it")?;
            }
            registry.put(built, tag).await
        })?;
        Ok(Pushed { digest, signed_by: key.map(|key| key.public.fingerprint()) })
    }

    fn keys(&self) -> anyhow::Result<Option<Keys>> {
        self.keys_file.as_deref().map(|path| Keys::read(path).context("policy_keys_file")).transpose()
    }

    fn registry(&self, reference: &Reference, writes: bool) -> anyhow::Result<Registry> {
        let credentials = Credentials::of(&reference.host, self.auth_file.as_deref(), self.docker_file.as_ref());
        let credentials = credentials.context("policy_registry_auth_file")?;
        Ok(Registry::new(Http::new(self.ca_file.clone()), reference, credentials, writes))
    }

    /// Runs to the end, or to that of the time there is.
    fn run<T>(&self, reference: &Reference, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let done = runtime.block_on(async { tokio::time::timeout(self.time, work).await });
        let done =
            done.with_context(|| format!("it took longer than {} ms (policy_registry_ms_max)", self.time.as_millis()));
        done.and_then(|done| done).with_context(|| reference.to_string())
    }
}

fn log_use(reference: &Reference, signer: Option<&Digest>, how: &str) {
    match signer {
        Some(key) => tracing::info!("policies of {reference}, signed by key {key}, {how}"),
        None => tracing::info!("policies of {reference}, {how}; no signature was asked for (policy_keys_file)"),
    }
}

/// The signatures beside a manifest.
async fn signatures_of(registry: &mut Registry, digest: &Digest) -> anyhow::Result<Vec<Signature>> {
    let Some(manifest) = registry.manifest(&signature::tag(digest)).await? else { return Ok(Vec::new()) };
    let mut signatures = Vec::new();
    for (layer, signature) in signature::layers(&manifest)? {
        ensure!(layer.size <= PAYLOAD_BYTES_MAX, "one has {} bytes; at most {PAYLOAD_BYTES_MAX} are read", layer.size);
        let payload = registry.blob(&Digest::read(&layer.digest)?, layer.size).await?;
        signatures.push(Signature { payload, signature });
    }
    Ok(signatures)
}

/// Adds a signature to those beside a manifest, unless the key has signed it already.
async fn sign(registry: &mut Registry, reference: &Reference, digest: &Digest, key: &PrivateKey) -> anyhow::Result<()> {
    let tag = signature::tag(digest);
    if signatures_of(registry, digest).await?.iter().any(|of| of.is_of(&key.public, digest)) {
        return Ok(());
    }
    let existing = registry.manifest(&tag).await?;
    let built = signature::with(existing.as_deref(), &key.sign(reference, digest)?)?;
    registry.put(&built, &tag).await
}
