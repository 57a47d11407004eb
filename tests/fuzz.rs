//! The corpora of the fuzz targets, run through the targets' own checks: what a fuzzer has found once stays found, also
//! for who has no fuzzer.

use std::path::{Path, PathBuf};

mod checks;

/// Runs a check over a corpus.
fn check(corpus: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(corpus);
    let files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 10, "{corpus}: only {} files", files.len());
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let fine = std::panic::catch_unwind(|| run(&bytes));
        assert!(fine.is_ok(), "{} breaks its check", file.display());
    }
}

#[test]
fn requests() {
    check("request", checks::request);
}

#[test]
fn replies() {
    check("reply", checks::reply);
}

#[test]
fn rewrites() {
    check("rewrite", checks::rewrite);
}
