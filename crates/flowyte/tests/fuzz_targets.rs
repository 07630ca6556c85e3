//! The fuzz targets on seeds and on random changes of them, so that they never rot: `make fuzz` runs them in earnest.
#![cfg(feature = "product")] // Some of what they fuzz is the product's.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

#[path = "../../../fuzz/src/targets.rs"]
mod targets;

use proptest::prelude::*;

const SEEDS: &[&str] = &[
    "",
    "Bearer flowyte_sk_live_2g9mzGlnCchIcQWxIoSWgIlF64Xng12hToSJ\nflowyte_st_x\nkey=flowyte_pk_live_x",
    "/api/v1/agents/agent_019abcdef0197abcdef0197abcdef019/versions/%20/diff",
    "GET /x HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\n",
    "a{\"name\":\"x\",\"scopes\":[\"agents:read\"],\"expiresAt\":null,\"allowedAddresses\":[\"10.0.0.0/8\"]}",
    "openapi: 3.1.0\ninfo: {title: x, version: '1'}\npaths:\n  /x/{id}:\n    get: {operationId: x, security: [], x-public: true}\n",
    "https://shop.example:8443",
    "2001:db8::/32",
    "2026-11-24T09:00:00.123Z",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.AAAA",
];

const TARGETS: &[fn(&[u8])] =
    &[targets::credential, targets::path, targets::head, targets::request, targets::document, targets::texts];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_input_breaks_a_parser(
        seed in 0..SEEDS.len(),
        target in 0..TARGETS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..12),
    ) {
        let mut input = SEEDS[seed].as_bytes().to_vec();
        for (at, byte, how) in changes {
            let at = at.index(input.len() + 1);
            match how {
                0 => input.insert(at, byte),
                1 if at < input.len() => input[at] = byte,
                2 if at < input.len() => drop(input.remove(at)),
                _ => input.extend(SEEDS[usize::from(byte) % SEEDS.len()].bytes()),
            }
        }
        TARGETS[target](&input);
    }
}

#[test]
fn the_seeds_themselves_are_fine() {
    for target in TARGETS {
        SEEDS.iter().for_each(|seed| target(seed.as_bytes()));
    }
}
