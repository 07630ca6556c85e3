//! The offline commands, through the binary.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

use flowyte_core::{Brand, CredentialKind, Environment};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

fn inspect(text: &str) -> (bool, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_flowyte"))
        .args(["keys", "inspect"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn says_what_a_credential_is() {
    let secret = Brand::default().format(CredentialKind::SecretKey, Environment::Test, &[9; 30]);
    let (ok, said) = inspect(&format!("{}\n", secret.expose()));
    assert!(ok);
    assert_eq!(said, "kind secret_key\nenvironment test\nchecksum holds\n");
}

#[test]
fn refuses_a_damaged_one_without_repeating_it() {
    let secret = Brand::default().format(CredentialKind::SecretKey, Environment::Live, &[9; 30]);
    let damaged = secret.expose().replacen('9', "8", 1);
    let (ok, said) = inspect(&damaged);
    assert!(!ok);
    assert!(said.contains("checksum is wrong"), "{said}");
    assert!(!said.contains(&damaged[20..]), "{said}");
}

fn contract(command: &str, args: &[&Path]) -> (bool, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_flowyte")).args(["contract", command]).args(args).output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn contracts_are_checked_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let plane = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/plane.yaml"));
    let (ok, said) = contract("check", &[plane]);
    assert!(ok && said.contains("39 operations"), "{said}");
    assert!(contract("diff", &[plane, plane]).0);

    let text = std::fs::read_to_string(plane).unwrap();
    let narrower = folder.path().join("narrower.yaml");
    std::fs::write(
        &narrower,
        text.replacen("operationId: whoami\n", "operationId: whoami\n      x-reserved: true\n", 1),
    )
    .unwrap();
    let (ok, said) = contract("diff", &[plane, &narrower]);
    assert!(!ok && said.contains("whoami"), "{said}");
    let broken = folder.path().join("broken.yaml");
    std::fs::write(&broken, text.replacen("x-public: true\n", "x-publik: true\n", 1)).unwrap();
    let (ok, said) = contract("check", &[&broken]);
    assert!(!ok && said.contains("x-publik"), "{said}");
}

#[test]
fn contracts_are_put_beside_one_another() {
    let plane = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/plane.yaml"));
    let product = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/product.yaml"));
    let (ok, said) = contract("check", &[plane, product]);
    assert!(ok && said.contains("151 operations"), "{said}");
    // The product's part refers to the plane's, so it is nothing by itself.
    assert!(!contract("check", &[product]).0);

    let (ok, whole) = contract("merge", &[plane, product]);
    assert!(ok, "{whole}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &whole).unwrap();
    let (ok, said) = contract("check", &[file.path()]);
    assert!(ok && said.contains("151 operations"), "{said}");
    // And clients see the plane's operations as they were.
    let (ok, said) = contract("diff", &[plane, file.path()]);
    assert!(ok, "{said}");

    let (ok, said) = contract("merge", &[plane, plane]);
    assert!(!ok && said.contains("stands in two documents that belong together"), "{said}");
}
