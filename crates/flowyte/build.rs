//! Dashboard and widget are embedded as they are when this crate is compiled; `make` touches this file when they were built anew.
//! `flowyte --version` names the commit, where this is built from a checkout of it.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let release = env!("CARGO_PKG_VERSION");
    let (commit, words) = match commit() {
        Some(commit) => (commit.clone(), format!("commit {commit}")),
        None => ("unknown".to_owned(), "commit unknown: built outside a git checkout".to_owned()),
    };
    // Not FLOWYTE_…: Cargo hands these on to the tests, whose servers would take them for settings.
    println!("cargo::rustc-env=BUILD_COMMIT={commit}");
    println!("cargo::rustc-env=BUILD_VERSION={release} ({words})");
}

/// The commit that is checked out. Another repository around an unpacked archive is not asked.
fn commit() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().ok()?;
    if Path::new(&git(&root, &["rev-parse", "--show-toplevel"])?).canonicalize().ok()? != root {
        return None;
    }
    // Written whenever another commit is checked out or made.
    let log = git(&root, &["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo::rerun-if-changed={}", root.join(log).display());
    git(&root, &["rev-parse", "--short=12", "HEAD"])
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|it| !it.is_empty())
}
