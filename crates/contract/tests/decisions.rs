//! The decision cases, through core, on the product's own contract.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

#[path = "../../../tests/decisions/case.rs"]
mod case;

use case::{Case, NOW, cases};
use flowyte_contract::compile_all;
use flowyte_core::credential::{Secret, present};
use flowyte_core::facts::Field;
use flowyte_core::id::{Id, OrganizationId, ResourceId, UserId};
use flowyte_core::limit::RateLimit;
use flowyte_core::record::Idle;
use flowyte_core::time::{DAY, HOUR};
use flowyte_core::{
    Brand, Contract, CredentialKind, Environment, Lookup, Operation, Organization, Origin, Record,
    RequestFacts, Restrictions, Role, ScopeSet, Timestamp, decide,
};

const CONTRACT: &[&str] =
    &[include_str!("../../../contracts/plane.yaml"), include_str!("../../../contracts/product.yaml")];

/// A record with what it refers to.
struct Kept {
    organization: Organization,
    restrictions: Option<Restrictions>,
    scopes: ScopeSet,
    expires_at: Timestamp,
    kind: CredentialKind,
    revoked: bool,
}

impl Kept {
    fn record(&self) -> Record<'_> {
        Record {
            organization: &self.organization,
            scopes: self.scopes,
            id: [4; 16],
            expires_at: self.expires_at,
            kind: self.kind,
            environment: Environment::Live,
            revoked: self.revoked,
            superseded: false,
            restrictions: self.restrictions.as_ref(),
        }
    }
}

fn caller(name: &str, contract: &Contract) -> Option<(Secret, Option<Kept>)> {
    let (kind, random) = match name {
        "none" => return None,
        "owner" | "admin" | "developer" | "viewer" | "old" | "idle" => (CredentialKind::Session, [1; 30]),
        "widget" => (CredentialKind::PublishableKey, [2; 30]),
        _ => (CredentialKind::SecretKey, [3; 30]),
    };
    let secret = Brand::default().format(kind, Environment::Live, &random);
    if name == "unknown" {
        return Some((secret, None));
    }
    let scopes = contract.scopes();
    let role = Role::parse(name).unwrap_or(Role::Owner);
    let signed_in_at = NOW.plus(if name == "old" { -13 * HOUR } else { -HOUR });
    let restrictions = match kind {
        CredentialKind::Session => Some(Restrictions {
            user: Some((UserId::from_bytes([1; 16]), role)),
            idle: Some(Idle::new(NOW.plus(if name == "idle" { -DAY } else { 1 - DAY }), DAY)),
            signed_in_at: Some(signed_in_at),
            ..Default::default()
        }),
        CredentialKind::PublishableKey => Some(Restrictions {
            origins: vec![Origin::parse("https://shop.example", Environment::Live).unwrap()],
            pinned: Some(ResourceId::from_bytes([0xaa; 16])),
            ..Default::default()
        }),
        _ if name == "fenced" => {
            Some(Restrictions { addresses: vec!["10.0.0.0/8".parse().unwrap()], ..Default::default() })
        }
        _ => None,
    };
    let record = Kept {
        organization: Organization {
            id: OrganizationId::from_bytes([9; 16]),
            suspended: (name == "suspended").into(),
            limit: RateLimit::per_minute(60_000),
        },
        scopes: match kind {
            CredentialKind::Session => scopes.role(role),
            CredentialKind::PublishableKey => scopes.publishable_keys(),
            _ if name == "all" => scopes.secret_keys(),
            _ if name == "bare" => ScopeSet::EMPTY,
            _ => scopes.grant(["agents:read"]),
        },
        expires_at: NOW.plus(match name {
            "expired" => -1,
            "edge" => 0,
            _ => 1,
        }),
        kind,
        revoked: name == "revoked",
        restrictions,
    };
    Some((secret, Some(record)))
}

fn run(case: &Case, contract: &Contract) -> &'static str {
    let (method, path) = case.call.split_once(' ').unwrap();
    let caller = caller(&case.r#as, contract);
    let text = caller.as_ref().map_or("", |(secret, _)| secret.expose());
    let (bearer, lower, tab) =
        (format!("Bearer {text}"), format!("bearer {text}"), format!("Bearer\t{text}"));
    let in_query = format!("key={text}&access_token={text}");
    let is_session = caller
        .as_ref()
        .is_some_and(|(_, record)| record.as_ref().is_some_and(|it| it.kind == CredentialKind::Session));
    let (mut authorization, mut session_cookie, mut query) =
        (Field::None, Field::None, case.query.as_deref());
    match case.header.as_deref() {
        Some("twice") => authorization = Field::Many,
        Some("garbage") => authorization = Field::One("Bearer null"),
        Some("lower") => authorization = Field::One(&lower),
        Some("tab") => authorization = Field::One(&tab),
        Some("bearer") => authorization = Field::One(&bearer),
        Some("query") => query = Some(&in_query),
        Some("key") => query = Some(&in_query[..4 + text.len()]),
        Some(other) => panic!("{}: header {other}", case.name),
        None if is_session => session_cookie = Field::One(text),
        None if caller.is_some() => authorization = Field::One(&bearer),
        None => {}
    }
    let facts = RequestFacts {
        method,
        path,
        query,
        authorization,
        session_cookie,
        origin: case.origin.as_deref().map_or(Field::None, Field::One),
        fetch_site: case.site.as_deref().map_or(Field::None, Field::One),
        address: case.address.as_deref().unwrap_or("192.0.2.1").parse().unwrap(),
        public_origin: "https://flowyte.example",
    };
    let answer = contract.find(method, path).and_then(|matched| {
        let presented = present(&Brand::default(), matched.operation, &facts)?;
        let record = caller.as_ref().and_then(|(_, kept)| kept.as_ref().map(Kept::record));
        let lookup = match &record {
            _ if case.stale => Lookup::Unavailable,
            Some(record) => Lookup::Found(record),
            None => Lookup::Unknown,
        };
        decide(&matched, presented.as_ref(), lookup, &facts, NOW)
    });
    answer.map_or_else(|denial| denial.code(), |_| "permit")
}

#[test]
fn every_case_is_decided_as_written() {
    let api = compile_all(CONTRACT).unwrap_or_else(|all| panic!("{all:?}"));
    let cases = cases();
    let wrong: Vec<String> = cases
        .iter()
        .map(|case| (case, run(case, api.contract())))
        .filter(|(case, answer)| case.answer != *answer)
        .map(|(case, answer)| format!("{}: {} instead of {}", case.name, answer, case.answer))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() > 60);
}

fn ask(
    contract: &Contract,
    operation: &Operation,
    who: &str,
    site: Option<&str>,
    origin: Option<&str>,
) -> &'static str {
    let path = operation.template.split('/').map(|part| if part.starts_with('{') { "x_1" } else { part });
    let case = Case {
        name: operation.id.clone(),
        r#as: who.into(),
        call: format!("{} {}", operation.method, path.collect::<Vec<_>>().join("/")),
        answer: String::new(),
        header: None,
        query: None,
        origin: origin.map(Into::into),
        site: site.map(Into::into),
        address: None,
        stale: false,
    };
    run(&case, contract)
}

/// The policy as a table that a person reads: a change of it is a change of this file. `UPDATE=1 cargo test` writes it.
#[test]
fn the_access_matrix_is_current() {
    let api = compile_all(CONTRACT).unwrap_or_else(|all| panic!("{all:?}"));
    let callers = [
        ("nobody", "none", None, None),
        ("key without scopes", "bare", None, None),
        ("key with all", "all", None, None),
        ("viewer", "viewer", Some("same-origin"), None),
        ("developer", "developer", Some("same-origin"), None),
        ("admin", "admin", Some("same-origin"), None),
        ("owner", "owner", Some("same-origin"), None),
        ("publishable key", "widget", None, Some("https://shop.example")),
    ];
    let mut table = String::from("operation");
    callers.iter().for_each(|(title, ..)| table.push_str(&format!("\t{title}")));
    table.push('\n');
    for operation in api.contract().operations() {
        table.push_str(&operation.id);
        for (_, who, site, origin) in callers {
            table.push_str(&format!("\t{}", ask(api.contract(), operation, who, site, origin)));
        }
        table.push('\n');
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/access-matrix.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap() == table,
        "docs/access-matrix.txt is old: run UPDATE=1 cargo test"
    );
}

/// Every operation of the contract, for the callers that differ most: no operation escapes the rules.
#[test]
fn no_operation_escapes() {
    let api = compile_all(CONTRACT).unwrap_or_else(|all| panic!("{all:?}"));
    for operation in api.contract().operations() {
        let answer = |who: &str, site: Option<&str>, origin: Option<&str>| {
            ask(api.contract(), operation, who, site, origin)
        };
        let id = &operation.id;
        let without = if operation.is_public() { "permit" } else { "missing_credential" };
        assert_eq!(answer("none", None, None), without, "{id}");
        assert_eq!(answer("unknown", None, None), "invalid_credential", "{id}");
        assert_eq!(answer("revoked", None, None), "credential_revoked", "{id}");
        let with = |kind| match (operation.is_public(), operation.takes(kind), operation.reserved) {
            (true, ..) => "permit",
            (_, false, _) => "credential_not_allowed",
            (_, true, true) => "operation_reserved",
            (_, true, false) => "permit",
        };
        assert_eq!(answer("all", None, None), with(CredentialKind::SecretKey), "{id}");
        assert_eq!(answer("owner", Some("same-origin"), None), with(CredentialKind::Session), "{id}");
        if !operation.is_public() {
            let widget = with(CredentialKind::PublishableKey);
            assert_eq!(answer("widget", None, Some("https://shop.example")), widget, "{id}");
        }
    }
}
