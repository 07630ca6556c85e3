//! The offline commands, through the binary.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

use flowyte_core::{Brand, CredentialKind, Environment};
use std::io::Write;
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

fn contract(args: &[&std::path::Path]) -> (bool, String) {
    let command = if args.len() == 1 { "check" } else { "diff" };
    let output =
        Command::new(env!("CARGO_BIN_EXE_flowyte")).args(["contract", command]).args(args).output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn contracts_are_checked_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let own = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/flowyte.yaml"));
    let (ok, said) = contract(&[own]);
    assert!(ok && said.contains("151 operations"), "{said}");
    assert!(contract(&[own, own]).0);

    let text = std::fs::read_to_string(own).unwrap();
    let narrower = folder.path().join("narrower.yaml");
    std::fs::write(
        &narrower,
        text.replacen("operationId: whoami\n", "operationId: whoami\n      x-reserved: true\n", 1),
    )
    .unwrap();
    let (ok, said) = contract(&[own, &narrower]);
    assert!(!ok && said.contains("whoami"), "{said}");
    let broken = folder.path().join("broken.yaml");
    std::fs::write(&broken, text.replacen("x-public: true\n", "x-publik: true\n", 1)).unwrap();
    let (ok, said) = contract(&[&broken]);
    assert!(!ok && said.contains("x-publik"), "{said}");
}
