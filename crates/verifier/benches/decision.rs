//! One whole decision beside one SHA-256 of 43 bytes, in the same run: `make bench`.
//!
//! A decision here is everything from the raw header to the permit: path check, route, parse, checksum, digest, look-up in
//! the replica's table, verify, authorize. Keys are asked for in random order, so that a large table costs what it costs.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A benchmark says what went wrong by panicking, and prints.

use flowyte_core::credential::{Secret, present, random_indices};
use flowyte_core::facts::Field;
use flowyte_core::id::{Id, OrganizationId, SecretKeyId};
use flowyte_core::{Brand, Contract, CredentialKind, Environment, Pepper, RequestFacts, Timestamp, decide};
use flowyte_store::State;
use flowyte_store::feed::SecretKeyState;
use flowyte_verifier::replica::{CredentialTable, ReplicaIndex};
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::hint::black_box;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);
const ROUNDS: usize = 9;
const CALLS: usize = 100_000;

fn main() {
    let sizes: Vec<usize> =
        match std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect::<Vec<_>>() {
            given if given.is_empty() => vec![1_000, 1_000_000, 10_000_000],
            given => given,
        };
    let api = flowyte_contract::compile_all(&[
        include_str!("../../../contracts/plane.yaml"),
        include_str!("../../../contracts/product.yaml"),
    ])
    .ok()
    .unwrap();
    println!("keys\tdecision ns\tSHA-256 ns\tratio\tallocations per decision\tbytes per key");
    for size in sizes {
        measure(&api.contract, size);
    }
}

fn measure(contract: &Contract, size: usize) {
    let pepper = Pepper::new([7; 32]);
    let table = CredentialTable::new(contract.scopes().clone(), 60_000);
    let mut index = ReplicaIndex::default();
    let before = Region::new(ALLOCATOR);
    for number in 0..size {
        table.apply(&mut index, key(number, &pepper));
    }
    let grown = before.change();
    let bytes_per_key = (grown.bytes_allocated as f64 - grown.bytes_deallocated as f64) / size as f64;

    // A fixed walk through the keys that visits them in no order.
    // Their headers lie one after the other, as a header just read from a socket is in the cache.
    let all: String =
        (0..CALLS).map(|call| format!("Bearer {}", secret(scatter(call) % size).expose())).collect();
    let width = all.len() / CALLS;
    let headers: Vec<&str> = (0..CALLS).map(|call| &all[call * width..(call + 1) * width]).collect();
    // A thread's first look at the table makes its place in the reader's list; from then on nothing is allocated.
    assert!(ask(contract, &table, &pepper, headers[0]));
    let (mut decisions, mut hashes, mut allocations) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        hashes.push(timed(|| {
            for call in 0..CALLS {
                let mut message = [0_u8; 43];
                message[..8].copy_from_slice(&call.to_le_bytes());
                black_box(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, black_box(&message)));
            }
        }));
        let region = Region::new(ALLOCATOR);
        decisions.push(timed(|| {
            headers.iter().for_each(|header| assert!(ask(contract, &table, &pepper, header)))
        }));
        allocations += region.change().allocations;
    }
    if std::env::var_os("PARTS").is_some() {
        parts(contract, &table, &pepper, &headers);
    }
    let (decision, hash) = (median(decisions), median(hashes));
    println!(
        "{size}\t{decision:.0}\t{hash:.0}\t{:.1}\t{}\t{bytes_per_key:.0}",
        decision / hash,
        allocations as f64 / (ROUNDS * CALLS) as f64
    );
}

fn facts(header: &str) -> RequestFacts<'_> {
    RequestFacts {
        method: "GET",
        path: black_box("/api/v1/agents/agent_019abcdef0197abcdef0197abcdef019"),
        query: None,
        authorization: Field::One(header),
        session_cookie: Field::None,
        origin: Field::None,
        fetch_site: Field::None,
        address: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        public_origin: "https://flowyte.example",
    }
}

fn ask(contract: &Contract, table: &CredentialTable, pepper: &Pepper, header: &str) -> bool {
    let facts = facts(header);
    let Ok(matched) = contract.find(facts.method, facts.path) else { return false };
    let Ok(Some(presented)) = present(brand(), matched.operation, &facts) else { return false };
    table
        .with(&pepper.digest(&presented), |found| decide(&matched, Some(&presented), found, &facts, NOW))
        .is_ok()
}

/// What each part costs by itself, nanoseconds.
fn parts(contract: &Contract, table: &CredentialTable, pepper: &Pepper, headers: &[&str]) {
    let matched = contract.find("GET", facts("").path).ok().unwrap();
    let path = timed(|| {
        headers.iter().for_each(|_| {
            let _ = black_box(flowyte_core::path::check(black_box(facts("").path)));
        })
    });
    let find = timed(|| {
        headers.iter().for_each(|_| {
            black_box(contract.find(black_box("GET"), facts("").path).is_ok());
        })
    });
    let read = timed(|| {
        headers.iter().for_each(|header| {
            black_box(present(brand(), matched.operation, &facts(header)).is_ok());
        })
    });
    let tokens: Vec<_> = headers.iter().map(|it| brand().parse(&it[7..]).unwrap()).collect();
    let digest = timed(|| {
        tokens.iter().for_each(|token| {
            black_box(pepper.digest(token));
        })
    });
    let digests: Vec<_> = tokens.iter().map(|it| pepper.digest(it)).collect();
    let find_record = timed(|| {
        digests.iter().for_each(|digest| {
            black_box(
                table.with(digest, |found| matches!(found, flowyte_core::Lookup::Found(it) if it.revoked)),
            );
        })
    });
    let decided = timed(|| {
        digests.iter().zip(&tokens).zip(headers).for_each(|((digest, token), header)| {
            let facts = facts(header);
            black_box(table.with(digest, |found| decide(&matched, Some(token), found, &facts, NOW).is_ok()));
        })
    });
    println!(
        "path {path:.0}, find {find:.0}, read {read:.0}, digest {digest:.0}, look-up {find_record:.0}, look-up and decide {decided:.0}"
    );
}

fn brand() -> &'static Brand {
    static BRAND: std::sync::LazyLock<Brand> = std::sync::LazyLock::new(Brand::default);
    &BRAND
}

fn secret(number: usize) -> Secret {
    let mut random = [0; 64];
    random[..32].copy_from_slice(&Sha256::digest(number.to_le_bytes()));
    random[32..].copy_from_slice(&Sha256::digest([number.to_le_bytes(), [1; 8]].concat()));
    let indices = random_indices(&random).expect("64 bytes hold 30 fair ones for each of these numbers");
    brand().format(CredentialKind::SecretKey, Environment::Live, &indices)
}

fn key(number: usize, pepper: &Pepper) -> State {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let mut organization = [0; 16];
    organization[..8].copy_from_slice(&(number % 1_000).to_be_bytes());
    State::SecretKey(SecretKeyState {
        organization: OrganizationId::from_bytes(organization),
        id: SecretKeyId::from_bytes(id),
        environment: Environment::Live,
        scopes: vec!["agents:read".into(), "agents:write".into()],
        expires_at: Timestamp::NEVER,
        revoked: false,
        rate_limit_rpm: None,
        allowed_addresses: vec![],
        secrets: vec![(pepper.digest_body(secret(number).body()), Timestamp::NEVER)],
    })
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
fn scatter(number: usize) -> usize {
    let mut z = (number as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as usize
}

/// This thread's CPU time for one call of a run, in nanoseconds.
fn timed(run: impl FnOnce()) -> f64 {
    let now = || {
        let at = clock_gettime(ClockId::ThreadCPUTime);
        at.tv_sec as f64 * 1e9 + at.tv_nsec as f64
    };
    let start = now();
    run();
    (now() - start) / CALLS as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
