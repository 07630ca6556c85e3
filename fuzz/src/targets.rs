//! What holds for any input: no panic, and what is accepted means one thing.

use flowyte_contract::Api;
use flowyte_core::address::AddressBlock;
use flowyte_core::credential::present;
use flowyte_core::facts::Field;
use flowyte_core::id::{Id, OrganizationId, ResourceId};
use flowyte_core::{
    Brand, CredentialKind, Environment, Operation, Origin, Pepper, RequestFacts, Requirement, Timestamp, path,
};
use flowyte_http::cursor;
use flowyte_http::wire::{Framing, Step};
use flowyte_product::identity_token;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

static API: LazyLock<Api> = LazyLock::new(|| {
    match flowyte_contract::compile_all(&[
        include_str!("../../contracts/plane.yaml"),
        include_str!("../../contracts/product.yaml"),
    ]) {
        Ok(api) => api,
        Err(wrong) => panic!("{wrong:?}"),
    }
});

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Credentials, and where a request may carry them.
pub fn credential(data: &[u8]) {
    let brand = Brand::default();
    let fields: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    if let Some(read) = text(data).and_then(|it| brand.parse(it)) {
        let written = brand.prefix(read.kind(), read.environment()) + read.body();
        assert_eq!(written.as_bytes(), data, "a credential has one spelling");
    }
    let field = |at: usize| Field::collect(fields.get(at).copied().into_iter());
    let facts = RequestFacts {
        method: "GET",
        path: "/x",
        query: fields.get(2).and_then(|it| text(it)),
        authorization: field(0),
        session_cookie: field(1),
        origin: Field::None,
        fetch_site: Field::None,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        public_origin: "https://flowyte.example",
    };
    let mut operation = Operation::new("x", "GET", "/x", Requirement::Credential(Vec::new()));
    operation.query_credential = Some("key".into());
    if let Ok(Some(found)) = present(&brand, &operation, &facts) {
        assert!(found.kind() != CredentialKind::OneTime, "a one-time token is never a request's credential");
    }
}

/// Request paths: what is found was unambiguous, and its parameters are decoded once.
pub fn path(data: &[u8]) {
    let Some(raw) = text(data) else { return };
    if let Ok(matched) = API.contract.find("GET", raw) {
        assert!(path::check(raw).is_ok());
        assert!(
            !raw.contains("//")
                && !raw.contains("/../")
                && !raw.contains("/./")
                && !raw.contains(['\\', ';', '#', '?'])
        );
        let _ = matched.decoded_params();
    }
    let _ = path::decode(raw);
}

/// HTTP/1 framing: how the bytes are cut never matters.
pub fn head(data: &[u8]) {
    let run = |sizes: &mut dyn Iterator<Item = usize>| {
        let mut framing = Framing::new("api.example");
        let (mut inbox, mut passed, mut rest) = (Vec::new(), Vec::new(), data);
        loop {
            match framing.step(&inbox) {
                Ok(Step::Pass(count)) => {
                    assert!(count > 0 && count <= inbox.len());
                    passed.extend(inbox.drain(..count));
                }
                Ok(Step::More) => {
                    if rest.is_empty() {
                        return (passed, false);
                    }
                    let (now, later) = rest.split_at(sizes.next().unwrap_or(usize::MAX).clamp(1, rest.len()));
                    inbox.extend_from_slice(now);
                    rest = later;
                }
                Err(_) => return (passed, true),
            }
        }
    };
    let whole = run(&mut std::iter::empty());
    let bytewise = run(&mut std::iter::repeat(1));
    assert_eq!(whole.1, bytewise.1, "one reader refuses what another takes");
    if !whole.1 {
        assert_eq!(whole.0, bytewise.0);
    }
}

/// Queries and bodies against the contract's schemas.
pub fn request(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    let checks = &API.checks[usize::from(*which) % API.checks.len()];
    let _ = checks.check_query(text(data));
    if let Ok(value) = checks.check_body(data) {
        let again = serde_json::to_vec(&value).unwrap_or_default();
        if !value.is_null() {
            assert!(
                checks.check_body(&again).is_ok(),
                "what is accepted is accepted when it is written again"
            );
        }
    }
}

/// OpenAPI documents: diagnostics, never a panic.
pub fn document(data: &[u8]) {
    if let Some(text) = text(data).filter(|it| it.len() < 20_000) {
        let compiled = flowyte_contract::compile(text).is_ok();
        let wrong =
            flowyte_contract::check(text).iter().any(|it| it.severity == flowyte_contract::Severity::Error);
        assert!(compiled != wrong, "a document is whole or has an error");
    }
}

/// Origins, addresses, instants, ids, cursors, identity tokens.
pub fn texts(data: &[u8]) {
    let Some(text) = text(data) else { return };
    for environment in [Environment::Live, Environment::Test] {
        if let Ok(origin) = Origin::parse(text, environment) {
            assert!(!origin.as_str().contains('*') && origin.as_str() != "null");
            assert_eq!(
                Origin::parse(origin.as_str(), environment).as_ref(),
                Ok(&origin),
                "one canonical form"
            );
            assert!(origin.matches(origin.as_str()));
        }
    }
    if let Ok(block) = text.parse::<AddressBlock>() {
        assert_eq!(block.to_string().parse(), Ok(block));
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        assert_eq!(at.to_string().parse(), Ok(at));
    }
    if let Some(id) = ResourceId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
    let pepper = Pepper::new([1; 32]);
    let scope = cursor::Scope { organization: OrganizationId::from_bytes([1; 16]), list: "x", filter: "" };
    assert!(cursor::read::<16>(&pepper, &scope, text).is_none(), "a cursor can't be guessed");
    assert!(cursor::read::<24>(&pepper, &scope, text).is_none(), "a cursor can't be guessed");
    let now = Timestamp::from_micros(1_790_000_000_000_000);
    assert!(identity_token::verify(text, b"a secret that nobody knows", "agent_x", now).is_err());
}
