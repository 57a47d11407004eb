//! A real registry server of the test's own (Debian's docker-registry), on a port of its own, with nothing in it; and
//! keys to sign with.

use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{KeyPair, PKCS_ED25519, SignatureAlgorithm};

use crate::harness::process::{Process, free_port};

/// A running registry.
pub struct Registry {
    pub port: u16,
    pub process: Process,
    folder: tempfile::TempDir,
}

/// A pair of keys in files.
pub struct Keys {
    pub private: PathBuf,
    pub public: PathBuf,
}

impl Registry {
    /// Starts one that lets anybody in.
    pub fn start() -> Self {
        Self::start_with("", "")
    }

    /// Starts one with more of its own configuration: lines at the top, and fields of `http`.
    pub fn start_with(more: &str, http: &str) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let data = folder.path().join("data");
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\", secret: x{http}}}\n{more}\n",
            data.display()
        );
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut process = Process::start(Command::new("docker-registry").arg("serve").arg(&file));
        process.wait_for("registry that listens", |line| line.contains("listening on 127.0.0.1").then_some(()));
        Self { port, process, folder }
    }

    /// What is called `name` in it.
    pub fn reference(&self, name: &str) -> String {
        format!("oci://127.0.0.1:{}/{name}", self.port)
    }

    /// The file in which it keeps a blob or a manifest.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.data().join("blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// The folder in which it keeps what a tag names.
    pub fn tag(&self, repository: &str, tag: &str) -> PathBuf {
        self.data().join("repositories").join(repository).join("_manifests/tags").join(tag)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data/docker/registry/v2")
    }
}

impl Keys {
    /// New ones of the kind that cosign makes, `NAME.key` and `NAME.pub`.
    pub fn new(folder: &Path, name: &str) -> Self {
        Self::of(folder, name, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// New ones of the other kind.
    pub fn ed25519(folder: &Path, name: &str) -> Self {
        Self::of(folder, name, &PKCS_ED25519)
    }

    /// New ones of any kind.
    pub fn of(folder: &Path, name: &str, kind: &'static SignatureAlgorithm) -> Self {
        let pair = KeyPair::generate_for(kind).unwrap();
        let (private, public) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.pub")));
        std::fs::write(&private, pair.serialize_pem()).unwrap();
        std::fs::write(&public, pair.public_key_pem()).unwrap();
        Self { private, public }
    }
}
