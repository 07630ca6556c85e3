//! A decision allocates nothing, permit or denial. One test in this file: another thread's allocations would count.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

use flowyte::replica::{Known, Ties};
use flowyte_core::credential::present;
use flowyte_core::facts::Field;
use flowyte_core::id::{Id, OrganizationId, SecretKeyId};
use flowyte_core::{Brand, CredentialKind, Denial, Environment, Pepper, RequestFacts, Timestamp, decide};
use flowyte_store::State;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_decision_allocates_nothing() {
    let api = flowyte_contract::compile(include_str!("../../../contracts/flowyte.yaml")).ok().unwrap();
    let (contract, pepper, brand) = (api.contract(), Pepper::new([7; 32]), Brand::default());
    let table = Known::new(contract.scopes().clone(), 60_000);
    let secret = brand.format(CredentialKind::SecretKey, Environment::Live, &[5; 30]);
    let state = State::SecretKey {
        organization: OrganizationId::from_bytes([1; 16]),
        id: SecretKeyId::from_bytes([2; 16]),
        environment: Environment::Live,
        scopes: vec!["agents:read".into()],
        expires_at: Timestamp::NEVER,
        revoked: false,
        rate_limit_rpm: Some(60),
        allowed_addresses: vec!["192.0.2.0/24".into()],
        secrets: vec![(pepper.digest_body(secret.body()), Timestamp::NEVER)],
    };
    table.apply(&mut Ties::default(), state);
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
}
