//! The dashboard is embedded as it is when this crate is compiled; `make` touches this file when it was built anew.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
