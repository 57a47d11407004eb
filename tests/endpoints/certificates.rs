//! Certificates of the test's own: an authority, and what it signs, as files.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub file: PathBuf,
    folder: PathBuf,
}

/// A certificate and its key.
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// A new one, in `FOLDER/NAME.crt`.
    pub fn new(folder: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = folder.join(format!("{name}.crt"));
        put(&file, &params.self_signed(&key).unwrap().pem());
        Self { issuer: Issuer::new(params, key), file, folder: folder.to_owned() }
    }

    /// Signs a certificate for `name`, in `FOLDER/NAME.crt` and `.key`.
    pub fn sign(&self, name: &str) -> Pair {
        self.sign_as(name, name, 4096)
    }

    /// The same in files of another name, until a year.
    pub fn sign_as(&self, file: &str, name: &str, until: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = date_time_ymd(until, 1, 1);
        let pair =
            Pair { certificate: self.folder.join(format!("{file}.crt")), key: self.folder.join(format!("{file}.key")) };
        put(&pair.certificate, &params.signed_by(&key, &self.issuer).unwrap().pem());
        put(&pair.key, &key.serialize_pem());
        pair
    }
}

/// Writes a file in one step.
pub fn put(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).unwrap();
    std::fs::rename(beside, path).unwrap();
}
