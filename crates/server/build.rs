//! Dashboard and widget are embedded as they are when this crate is compiled; `make` touches this file when they were built anew.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
