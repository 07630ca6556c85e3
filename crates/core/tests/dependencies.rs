//! Core stays small: what it may depend on is pinned here, so that a new dependency is a decision.

#[test]
fn dependencies_are_these() {
    let manifest = include_str!("../Cargo.toml");
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let names: Vec<&str> = section
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(
        names,
        ["crc32fast", "hmac", "idna", "jiff", "matchit", "percent-encoding", "sha2", "zeroize"]
    );
}
