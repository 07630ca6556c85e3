//! `flowyte keys inspect`, through the binary.
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
