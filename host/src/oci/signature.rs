//! Signatures in cosign's format: what is signed, with which keys, and where it stands. Pure.
//!
//! After `specs/SIGNATURE_SPEC.md` of <https://github.com/sigstore/cosign>: the signature of the manifest `sha256:HEX`
//! is an image manifest under the tag `sha256-HEX.sig` of the same repository; each of its layers is a payload in the
//! form of simple signing, and the signature over the payload's bytes stands at the layer, in base64, as
//! [`SIGNATURE_ANNOTATION`]. Keys are ECDSA on P-256 over SHA-256, which every implementation knows, or plain Ed25519.
//! Certificates, transparency logs and the newer bundles of cosign 3 are not looked at: a signature counts by its key
//! alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio_rustls::rustls::SignatureScheme;
use tokio_rustls::rustls::crypto::ring::sign::any_supported_type;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use tokio_rustls::rustls::sign::Signer;
use webpki::RawPublicKeyEntity;

use super::artifact::{Built, Descriptor, Manifest};
use crate::config::{Digest, Reference};
use crate::files::read;

/// The media type of a payload.
pub const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of a payload's layer that holds its signature.
pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const PAYLOAD_KIND: &str = "cosign container image signature";
/// Bytes of a payload. Cosign's own have about 250; annotations of the signer's may be in it.
pub const PAYLOAD_BYTES_MAX: u64 = 65_536;
/// Signatures of one artifact that are looked at.
pub const SIGNATURES_MAX: usize = 64;

/// Keys, one of which must have signed.
#[derive(Debug)]
pub struct Keys {
    file: PathBuf,
    keys: Vec<PublicKey>,
}

/// A public key.
#[derive(Clone, Debug)]
pub struct PublicKey {
    key: SubjectPublicKeyInfoDer<'static>,
    algorithm: &'static dyn SignatureVerificationAlgorithm,
}

/// A private key.
#[derive(Debug)]
pub struct PrivateKey {
    signer: Box<dyn Signer>,
    /// Its public half.
    pub public: PublicKey,
}

/// A payload with what is said to be its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What is signed.
    pub payload: Bytes,
    /// The signature, in base64.
    pub signature: String,
}

/// A payload in the form of simple signing: the parts that are used.
#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

const ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 2] = [webpki::ring::ECDSA_P256_SHA256, webpki::ring::ED25519];

// === impl Keys ===

impl Keys {
    /// Reads the public keys of a file.
    ///
    /// # Errors
    /// It holds none, or one of another kind.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let content = read(path)?;
        let file = path.display();
        let keys: Result<Vec<_>, _> = SubjectPublicKeyInfoDer::pem_slice_iter(&content).collect();
        let keys = keys.with_context(|| format!("{file} is not in PEM form"))?;
        ensure!(!keys.is_empty(), "{file} holds no public key (BEGIN PUBLIC KEY)");
        let numbered = keys.into_iter().enumerate();
        let of = |(index, key): (usize, _)| PublicKey::of(key).with_context(|| format!("key {} in {file}", index + 1));
        Ok(Self { file: path.to_owned(), keys: numbered.map(of).collect::<anyhow::Result<_>>()? })
    }

    /// Finds the key that signed a manifest.
    ///
    /// # Errors
    /// None of them did.
    pub fn verify(&self, digest: &Digest, signatures: &[Signature]) -> anyhow::Result<&PublicKey> {
        let file = self.file.display();
        ensure!(
            !signatures.is_empty(),
            "it is not signed, and policy_keys_file asks for a signature; sign it with `bellwether policy push --sign \
             KEY` or with cosign"
        );
        let mut other = None;
        for signature in signatures {
            let Some(key) = self.keys.iter().find(|key| key.has_signed(signature)) else { continue };
            match signature.signed_digest() {
                Ok(signed) if signed == digest.as_str() => return Ok(key),
                Ok(signed) => other = Some(format!("it is signed, but what was signed is {signed}")),
                Err(error) => other = Some(format!("what is signed is no payload of cosign's: {error:#}")),
            }
        }
        match other {
            Some(other) => bail!("{other}; it was put beside the wrong artifact: sign this one"),
            None => bail!(
                "none of its signatures ({}) is by a key in {file} (policy_keys_file); sign it with one of these keys, \
                 or add the public key of whoever signed it, if you trust them",
                signatures.len()
            ),
        }
    }

    /// The file that they are from.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

// === impl PublicKey ===

impl PublicKey {
    fn of(key: SubjectPublicKeyInfoDer<'static>) -> anyhow::Result<Self> {
        let entity = RawPublicKeyEntity::try_from(&key).context("it is no public key")?;
        // No signature is empty: what tells the algorithms apart is why this one is refused.
        let is_of = |algorithm: &&dyn SignatureVerificationAlgorithm| {
            matches!(entity.verify_signature(*algorithm, b"", b""), Err(webpki::Error::InvalidSignatureForPublicKey))
        };
        let algorithm = ALGORITHMS.into_iter().find(is_of);
        let algorithm = algorithm.context("it is neither of ECDSA on P-256, as cosign makes them, nor of Ed25519")?;
        Ok(Self { key, algorithm })
    }

    fn has_signed(&self, signature: &Signature) -> bool {
        let Ok(bytes) = BASE64.decode(&signature.signature) else { return false };
        let Ok(entity) = RawPublicKeyEntity::try_from(&self.key) else { return false };
        entity.verify_signature(self.algorithm, &signature.payload, &bytes).is_ok()
    }

    /// The digest of the key, which names it to people.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.key)
    }
}

// === impl PrivateKey ===

impl PrivateKey {
    /// Reads the private key of a file.
    ///
    /// # Errors
    /// It holds none, or one that is locked or of another kind.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let content = read(path)?;
        let file = path.display();
        if memchr::memmem::find(&content, b"BEGIN ENCRYPTED ").is_some() {
            bail!(
                "{file} is locked with a password. With cosign's own keys: push without --sign, and sign with `cosign \
                 sign --key {file} --tlog-upload=false HOST/REPOSITORY@DIGEST` (cosign 3 needs \
                 --new-bundle-format=false --use-signing-config=false too). With openssl's: `openssl pkey` writes them \
                 without one. A new key: `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"
            );
        }
        let key = PrivateKeyDer::from_pem_slice(&content)
            .with_context(|| format!("{file} holds no private key (BEGIN PRIVATE KEY)"))?;
        let key = any_supported_type(&key).with_context(|| format!("{file} is no key that can sign"))?;
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];
        let kinds = || format!("{file} is a key neither of ECDSA on P-256 nor of Ed25519");
        let signer = key.choose_scheme(&schemes).with_context(kinds)?;
        let public = key.public_key().with_context(kinds)?;
        Ok(Self { signer, public: PublicKey::of(public.into_owned()).with_context(kinds)? })
    }

    /// Signs the manifest that a digest names.
    ///
    /// # Errors
    /// The random numbers of this machine failed.
    pub fn sign(&self, reference: &Reference, digest: &Digest) -> anyhow::Result<Signature> {
        // In cosign's own order and spelling; `docker-reference` is what people read and nobody checks.
        let payload = json!({
            "critical": {
                "identity": { "docker-reference": format!("{}/{}", reference.host, reference.repository) },
                "image": { "docker-manifest-digest": digest.as_str() },
                "type": PAYLOAD_KIND,
            },
            "optional": null,
        });
        let payload = serde_json::to_vec(&payload)?;
        let signature = BASE64.encode(self.signer.sign(&payload).context("cannot sign")?);
        Ok(Signature { payload: payload.into(), signature })
    }
}

// === impl Signature ===

impl Signature {
    /// The digest that the payload speaks of.
    fn signed_digest(&self) -> anyhow::Result<String> {
        let payload: Payload = serde_json::from_slice(&self.payload)?;
        let kind = payload.critical.kind;
        ensure!(kind == PAYLOAD_KIND, "its type is {kind:?}");
        Ok(payload.critical.image.digest)
    }

    /// Whether it is by a key, of this manifest.
    pub fn is_of(&self, key: &PublicKey, digest: &Digest) -> bool {
        key.has_signed(self) && self.signed_digest().is_ok_and(|signed| signed == digest.as_str())
    }
}

/// The tag under which the signatures of a manifest stand.
pub fn tag(digest: &Digest) -> String {
    format!("{}.sig", digest.dashed())
}

/// Where the payloads and signatures of a signature manifest are: those that this format has.
pub(super) fn layers(manifest: &[u8]) -> anyhow::Result<Vec<(Descriptor, String)>> {
    let manifest = Manifest::read(manifest).context("its signatures")?;
    let count = manifest.layers.len();
    ensure!(count <= SIGNATURES_MAX, "it has {count} signatures; at most {SIGNATURES_MAX} are looked at");
    let layers = manifest.layers.into_iter().filter(|layer| layer.media_type == PAYLOAD_TYPE);
    let signed = |layer: Descriptor| {
        let signature = layer.annotations.get(SIGNATURE_ANNOTATION)?.clone();
        Some((layer, signature))
    };
    Ok(layers.filter_map(signed).collect())
}

/// Adds a signature to those that a manifest has: the new manifest, and the blobs that it needs.
pub(super) fn with(existing: Option<&[u8]>, signature: &Signature) -> anyhow::Result<Built> {
    let mut layers = match existing {
        None => Vec::new(),
        Some(existing) => Manifest::read(existing).context("the signatures that are there")?.layers,
    };
    ensure!(layers.len() < SIGNATURES_MAX, "it has {} signatures already", layers.len());
    let mut layer = Descriptor::of(PAYLOAD_TYPE, &signature.payload, None);
    layer.annotations.insert(SIGNATURE_ANNOTATION.to_owned(), signature.signature.clone());
    layers.push(layer);
    // An image's config, as cosign makes one: registries that look inside find what they expect.
    let digests: Vec<_> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    let begun = "0001-01-01T00:00:00Z";
    let history: Vec<_> = digests.iter().map(|_| json!({ "created": begun })).collect();
    let config = json!({
        "architecture": "", "created": begun, "history": history, "os": "", "config": {},
        "rootfs": { "type": "layers", "diff_ids": digests },
    });
    let config = Bytes::from(serde_json::to_vec(&config)?);
    let manifest = Manifest::new(None, Descriptor::of(CONFIG_TYPE, &config, None), layers);
    Built::new(&manifest, vec![config, signature.payload.clone()])
}

#[cfg(test)]
mod tests {
    use super::{Keys, Signature};
    use crate::config::Digest;

    /// A key of cosign's, and a payload that cosign signed with it: the vector of sigstore-rs
    /// (`src/crypto/verification_key.rs`, Apache-2.0).
    const KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
                       MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENptdY/l3nB0yqkXLBWkZWQwo6+cu\n\
                       OSWS1X9vPavpiQOoTTGC0xX57OojUadxF1cdQmrsiReWg2Wn4FneJfa8xw==\n\
                       -----END PUBLIC KEY-----\n";
    const DIGEST: &str = "sha256:f3cfc9d0dbf931d3db4685ec659b7ac68e2a578219da4aae65427886e649b06b";
    const SIGNATURE: &str =
        "MEUCIQD6q/COgzOyW0YH1Dk+CCYSt4uAhm3FDHUwvPI55zwnlwIgE0ZK58ZOWpZw8YVmBapJhBqCfdPekIknimuO0xH8Jh8=";

    fn payload() -> String {
        format!(
            "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"registry-testing.svc.lan/busybox\"}},\"image\":\
             {{\"docker-manifest-digest\":\"{DIGEST}\"}},\"type\":\"cosign container image signature\"}},\
             \"optional\":null}}"
        )
    }

    #[test]
    fn what_cosign_signed_is_signed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), KEY).unwrap();
        let keys = Keys::read(file.path()).unwrap();
        let digest = |text: &str| Digest::read(text).unwrap();
        let check = |digest: &Digest, payload: String, signature: &str, expect: &str| {
            let signature = Signature { payload: payload.into(), signature: signature.to_owned() };
            let got = match keys.verify(digest, &[signature]) {
                Ok(key) => format!("by {}", key.fingerprint()),
                Err(error) => format!("{error:#}"),
            };
            assert!(got.contains(expect), "{got}");
        };
        check(&digest(DIGEST), payload(), SIGNATURE, "by sha256:");
        check(&Digest::of(b"other"), payload(), SIGNATURE, "it is signed, but what was signed is sha256:f3cf");
        check(&digest(DIGEST), payload().replace("busybox", "lazybox"), SIGNATURE, "none of its signatures (1)");
        check(&digest(DIGEST), payload(), &SIGNATURE.replace('8', "9"), "none of its signatures (1)");
        check(&digest(DIGEST), payload(), "?", "none of its signatures (1)");
        check(&digest(DIGEST), payload(), "", "none of its signatures (1)");
    }
}
