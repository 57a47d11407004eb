//! Certificates, keys and authorities out of files in PEM form.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{Error, RootCertStore};

use super::Identity;
use crate::files::read;

/// The authorities in a file.
pub(super) fn authorities(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut authorities = RootCertStore::empty();
    for (index, certificate) in certificates(path)?.into_iter().enumerate() {
        let unusable = || format!("certificate {} in {} cannot be an authority", index + 1, path.display());
        authorities.add(certificate).with_context(unusable)?;
    }
    Ok(authorities)
}

/// The authorities that the system trusts: those of the operator are among them, and they are renewed with the system
/// and not with this program. `setting`: where others can be named.
pub(super) fn system_authorities(setting: &str) -> anyhow::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(found.certs);
    let why = found.errors.first().map_or(String::new(), |error| format!(" ({error})"));
    ensure!(
        !authorities.is_empty(),
        "the system has no certificate authorities{why}; install its ca-certificates, or name a file with {setting}"
    );
    Ok(authorities)
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let content = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    let certificates = certificates.with_context(|| format!("{} is not in PEM form", path.display()))?;
    ensure!(!certificates.is_empty(), "{} holds no certificate (BEGIN CERTIFICATE)", path.display());
    Ok(certificates)
}

fn key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let content = read(path)?;
    PrivateKeyDer::from_pem_slice(&content).map_err(|error| match error {
        pem::Error::NoItemsFound if holds(&content, b"BEGIN ENCRYPTED PRIVATE KEY") => {
            anyhow!("{} is locked with a passphrase; `openssl pkey` writes it without one", path.display())
        }
        pem::Error::NoItemsFound => anyhow!("{} holds no private key (BEGIN PRIVATE KEY)", path.display()),
        error => anyhow::Error::new(error).context(format!("{} is not in PEM form", path.display())),
    })
}

fn holds(content: &[u8], words: &[u8]) -> bool {
    memchr::memmem::find(content, words).is_some()
}

// === impl Identity ===

impl Identity {
    pub(super) fn load(&self) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        Ok((certificates(&self.certificate)?, key(&self.key)?))
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.certificate, &self.key].into_iter()
    }

    /// Why the two do not go together.
    pub(super) fn mismatch(&self, error: Error) -> anyhow::Error {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        match error {
            Error::InconsistentKeys(_) => {
                anyhow!("the key in {key} does not belong to the certificate in {certificate}")
            }
            error => anyhow::Error::new(error).context(format!("certificate {certificate} with key {key}")),
        }
    }
}
