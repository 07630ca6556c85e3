//! A decision allocates nothing, permit or denial, and what is over is given back. One test in this file: another thread's allocations would count.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A test says what went wrong by panicking.

use flowyte_core::credential::present;
use flowyte_core::facts::Field;
use flowyte_core::id::{Id, OrganizationId, PublishableKeyId, ResourceId, SecretKeyId, VisitorId};
use flowyte_core::time::{DAY, HOUR, MINUTE};
use flowyte_core::{
    Brand, CredentialKind, Denial, Digest, Environment, Lookup, Pepper, RequestFacts, Timestamp, decide,
};
use flowyte_store::State;
use flowyte_store::feed::{PublishableKeyState, SecretKeyState, VisitorState};
use flowyte_verifier::replica::{CredentialTable, ReplicaIndex};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_decision_allocates_nothing() {
    let api = flowyte_contract::compile_all(&[
        include_str!("../../../contracts/plane.yaml"),
        include_str!("../../../contracts/product.yaml"),
    ])
    .ok()
    .unwrap();
    let (contract, pepper, brand) = (api.contract, Pepper::new([7; 32]), Brand::default());
    let table = CredentialTable::new(contract.scopes().clone(), 60_000);
    let secret = brand.format(CredentialKind::SecretKey, Environment::Live, &[5; 30]);
    let state = State::SecretKey(SecretKeyState {
        organization: OrganizationId::from_bytes([1; 16]),
        id: SecretKeyId::from_bytes([2; 16]),
        environment: Environment::Live,
        scopes: vec!["agents:read".into()],
        expires_at: Timestamp::NEVER,
        revoked: false,
        rate_limit_rpm: Some(60),
        allowed_addresses: vec!["192.0.2.0/24".into()],
        secrets: vec![(pepper.digest_body(secret.body()), Timestamp::NEVER)],
    });
    table.apply(&mut ReplicaIndex::default(), state);
    let unknown = brand.format(CredentialKind::SecretKey, Environment::Live, &[6; 30]);
    let headers =
        [format!("Bearer {}", secret.expose()), format!("Bearer {}", unknown.expose()), "Bearer null".into()];

    let ask = |header: &str, method: &str, path: &str| {
        let facts = RequestFacts {
            method,
            path,
            query: None,
            authorization: Field::One(header),
            session_cookie: Field::None,
            origin: Field::None,
            fetch_site: Field::None,
            address: std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9)),
            public_origin: "https://flowyte.example",
        };
        let matched = contract.find(method, path)?;
        let presented = present(&brand, matched.operation, &facts)?;
        let digest = presented.as_ref().map(|it| pepper.digest(it)).ok_or(Denial::MissingCredential)?;
        let now = Timestamp::from_micros(1);
        table.with(&digest, |found| decide(&matched, presented.as_ref(), found, &facts, now)).map(|_| ())
    };
    let one = "/api/v1/agents/agent_019abcdef0197abcdef0197abcdef019";
    let walk = || {
        assert_eq!(ask(&headers[0], "GET", one), Ok(()));
        assert_eq!(
            ask(&headers[0], "POST", "/api/v1/agents").err().map(|it| it.code()),
            Some("insufficient_scope")
        );
        assert_eq!(ask(&headers[0], "GET", "/api/v1/webhooks"), Err(Denial::OperationReserved));
        assert_eq!(ask(&headers[0], "GET", "/api/v1/nothing"), Err(Denial::NotFound));
        assert_eq!(ask(&headers[1], "GET", one), Err(Denial::InvalidCredential));
        assert_eq!(ask(&headers[2], "GET", one), Err(Denial::InvalidCredential));
    };
    walk(); // The first use of the table registers this thread.
    let region = Region::new(ALLOCATOR);
    (0..1_000).for_each(|_| walk());
    assert_eq!(region.change().allocations, 0);

    visitors_leave_nothing_behind(&table);
}

/// What visitors' sessions and restricted keys take is given back as soon as they are over.
fn visitors_leave_nothing_behind(table: &CredentialTable) {
    const VISITORS: u32 = 20_000;
    let begun = Timestamp::from_micros(1_790_000_000_000_000);
    let organization = OrganizationId::from_bytes([1; 16]);
    let key = PublishableKeyId::from_bytes([3; 16]);
    let digest = |kind: u8, number: u32| {
        let mut bytes = [kind; 32];
        bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
        bytes[4..8].copy_from_slice(&number.to_be_bytes());
        Digest::from_bytes(bytes)
    };
    let id = |number: u32| {
        let mut id = [4; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        id
    };
    let of_key = |revoked| {
        State::PublishableKey(PublishableKeyState {
            organization,
            id: key,
            resource: ResourceId::from_bytes([5; 16]),
            environment: Environment::Live,
            allowed_origins: vec!["https://shop.example".into()],
            revoked,
            rate_limit_rpm: None,
            require_identity: false,
            secrets: vec![(digest(3, 0), Timestamp::NEVER)],
        })
    };
    let visitor = |number: u32| {
        State::Visitor(VisitorState {
            organization,
            id: VisitorId::from_bytes(id(number)),
            key,
            digest: digest(4, number),
            origin: "https://shop.example".into(),
            verified: false,
            last_seen_at: begun,
            expires_at: begun.plus(DAY),
        })
    };
    let secret_key = |number: u32| {
        State::SecretKey(SecretKeyState {
            organization,
            id: SecretKeyId::from_bytes(id(number)),
            environment: Environment::Live,
            scopes: vec!["agents:read".into()],
            expires_at: begun.plus(HOUR),
            revoked: false,
            rate_limit_rpm: Some(60),
            allowed_addresses: vec!["192.0.2.0/24".into()],
            secrets: vec![(digest(6, number), Timestamp::NEVER)],
        })
    };
    let mut ties = ReplicaIndex::default();
    let held = |change: &stats_alloc::Stats| change.bytes_allocated as i64 - change.bytes_deallocated as i64;
    let known = table.len();
    let mut region = Region::new(ALLOCATOR);
    // The first round makes the arrays as large as they are to be.
    for round in 0..3 {
        region.reset();
        table.apply(&mut ties, of_key(false));
        (0..VISITORS).for_each(|number| table.apply(&mut ties, visitor(number)));
        let full = held(&region.change());
        while table.sweep(&mut ties, begun.plus(29 * MINUTE)) {}
        assert_eq!(table.len() - known, VISITORS as usize + 1, "one that is not over is kept");
        if round == 1 {
            table.apply(&mut ties, of_key(true)); // With its key, at once.
            while table.sweep(&mut ties, begun) {}
            assert_eq!(table.len() - known, 1);
        }
        while table.sweep(&mut ties, begun.plus(31 * MINUTE)) {}
        assert_eq!(table.len() - known, 1);
        let left = held(&region.change());
        println!("{} bytes a visitor; {left} bytes left of {full}", full / i64::from(VISITORS));
        assert!(round == 0 || left < i64::from(VISITORS) * 16, "{left} bytes are left of {full}");
    }
    // A key that expired a day ago grants nothing, so nothing need restrict it; the line that says that it expired stays.
    region.reset();
    (0..VISITORS).for_each(|number| table.apply(&mut ties, secret_key(number)));
    let full = held(&region.change());
    while table.sweep(&mut ties, begun.plus(DAY)) {}
    let fenced =
        |lookup: Lookup<'_>| matches!(lookup, Lookup::Found(record) if record.restrictions.is_some());
    assert!(table.with(&digest(6, 7), fenced), "within a day a clock may have been wrong");
    while table.sweep(&mut ties, begun.plus(DAY + HOUR)) {}
    let left = held(&region.change());
    println!("{} bytes a restricted key; {left} bytes left of {full}", full / i64::from(VISITORS));
    assert!(!table.with(&digest(6, 7), fenced) && left < full / 2, "{left} of {full}");
    let grants = |lookup: Lookup<'_>| matches!(lookup, Lookup::Found(record) if !record.scopes.is_empty());
    assert!(!table.with(&digest(6, 7), grants));
}
