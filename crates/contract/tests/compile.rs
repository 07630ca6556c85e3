//! Documents and what the compiler says of them; the product's own document among them.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

use flowyte_contract::{Api, BodyError, compile, compile_all};
use flowyte_core::{CredentialKind, Denial, Role};
use proptest::prelude::*;

const OWN: &[&str] =
    &[include_str!("../../../contracts/plane.yaml"), include_str!("../../../contracts/product.yaml")];

fn own() -> Api {
    compile_all(OWN)
        .unwrap_or_else(|all| panic!("{}", all.iter().map(|it| format!("{it}\n")).collect::<String>()))
}

fn checks<'a>(api: &'a Api, id: &str) -> &'a flowyte_contract::Checks {
    let at = api.contract().operations().iter().position(|it| it.id == id).unwrap();
    &api.checks[at]
}

#[test]
fn our_own_document_is_whole() {
    let api = own();
    let operations = api.contract().operations();
    assert_eq!(operations.len(), 151);
    // Nothing that was served is taken away.
    assert!(operations.iter().filter(|it| !it.reserved).count() >= 71);
    let public: Vec<&str> = operations.iter().filter(|it| it.is_public()).map(|it| it.id.as_str()).collect();
    assert_eq!(
        public,
        ["setup", "signup", "login", "recoverAccount", "readInvite", "acceptInvite", "listScopes"]
    );
    assert!(operations.iter().all(|it| it.template.starts_with("/api/v1/")));
    for (operation, checks) in operations.iter().zip(&api.checks) {
        assert!(
            checks.check_query(Some("nothing=1")).is_err(),
            "{} takes what it does not declare",
            operation.id
        );
    }
    // A key never manages keys, members, the organization or the audit log.
    let scopes = api.contract().scopes();
    for (scope, info) in scopes.iter() {
        let resource = info.name.split(':').next().unwrap();
        let by_role_only = ["keys", "members", "organization", "audit"].contains(&resource);
        assert_eq!(
            scopes.secret_keys().contains(scope),
            !by_role_only && info.name != "chat:public",
            "{}",
            info.name
        );
        assert_eq!(scopes.publishable_keys().contains(scope), info.name == "chat:public");
        assert_eq!(scopes.role(Role::Viewer).contains(scope), info.name.ends_with(":read"), "{}", info.name);
    }
    let developer = scopes.names(scopes.role(Role::Developer));
    assert!(developer.contains(&"keys:write") && developer.contains(&"audit:read"));
    assert!(!developer.iter().any(|it| it.starts_with("members:") || *it == "billing:write"));
    let minting = operations.iter().find(|it| it.id == "mintApiKey").unwrap();
    assert!(
        minting.takes(CredentialKind::Session)
            && !minting.takes(CredentialKind::SecretKey)
            && minting.fresh_session
    );
}

#[test]
fn our_own_paths_are_found() {
    let api = own();
    let find = |method, path| api.contract().find(method, path).map(|it| it.operation.id.clone());
    assert_eq!(find("GET", "/api/v1/whoami").as_deref(), Ok("whoami"));
    assert_eq!(find("HEAD", "/api/v1/agents/agent_1").as_deref(), Ok("getAgent"));
    assert_eq!(find("GET", "/api/v1/numbers/search").as_deref(), Ok("searchNumbers"));
    assert_eq!(find("GET", "/whoami"), Err(Denial::NotFound));
    assert!(matches!(find("PUT", "/api/v1/whoami"), Err(Denial::MethodNotAllowed { .. })));
}

#[test]
fn bodies_are_held_against_the_schema() {
    let api = own();
    let mint = checks(&api, "mintApiKey");
    assert!(mint.idempotent && mint.body_required && mint.success_status == 201);
    assert!(mint.check_body(br#"{"name":"ci","scopes":["agents:read"],"expiresAt":null}"#).is_ok());
    for body in [
        r#"{}"#,
        r#"[]"#,
        r#"{"name":"","scopes":["agents:read"]}"#,
        r#"{"name":"ci","scopes":[]}"#,
        r#"{"name":"ci","scopes":["*"]}"#,
        r#"{"name":"ci","scopes":["agents:*"]}"#,
        r#"{"name":"ci","scopes":["agents:read","agents:read"]}"#,
        r#"{"name":"ci","scopes":"agents:read"}"#,
        r#"{"name":"ci","scopes":["agents:read"],"organizationId":"org_1"}"#,
        r#"{"name":"ci","scopes":["agents:read"],"hash":"x"}"#,
        r#"{"name":"ci","scopes":["agents:read"],"env":"prod"}"#,
        r#"{"name":"ci","scopes":["agents:read"],"expiresAt":9223372036854775807}"#,
        r#"{"name":"ci","scopes":["agents:read"],"expiresAt":"tomorrow"}"#,
        r#"{"name":"ci","scopes":["agents:read"],"rateLimitRpm":0}"#,
        "{\"name\":\"a\\u0000b\",\"scopes\":[\"agents:read\"]}",
        "{\"name\":\"\\u200b\",\"scopes\":[\"agents:read\"]}",
        "{\"name\":\"a\\u202eb\",\"scopes\":[\"agents:read\"]}",
    ] {
        assert!(matches!(mint.check_body(body.as_bytes()), Err(BodyError::Invalid(_))), "{body}");
    }
    assert!(matches!(mint.check_body(br#"{"name":"a","name":"b"}"#), Err(BodyError::Syntax(_))));
}

#[test]
fn an_error_names_the_field_and_never_repeats_the_value() {
    let api = own();
    let wrong = checks(&api, "login").check_body(br#"{"email":"a@example.com","password":17123}"#);
    let Err(BodyError::Invalid(errors)) = wrong else { panic!("{wrong:?}") };
    assert_eq!(errors[0].field, "/password");
    assert!(!errors[0].message.contains("17123"), "{}", errors[0].message);
    let wrong = checks(&api, "mintApiKey").check_body(br#"{"name":"ci","scopes":["agents:read","x"]}"#);
    let Err(BodyError::Invalid(errors)) = wrong else { panic!("{wrong:?}") };
    assert_eq!(errors[0].field, "/scopes/1");
    // What a pattern means is said, and not the pattern.
    let wrong = checks(&api, "login").check_body(br#"{"email":"ada at example.com","password":"17123"}"#);
    let Err(BodyError::Invalid(errors)) = wrong else { panic!("{wrong:?}") };
    assert_eq!(
        errors.iter().map(|it| it.message.as_str()).collect::<Vec<_>>(),
        ["must be an e-mail address"]
    );
    let wrong = checks(&api, "listApiKeys").check_query(Some("unusedSince=yesterday")).unwrap_err();
    assert_eq!(wrong.len(), 1, "{wrong:?}");
}

#[test]
fn queries_are_read_once_and_strictly() {
    let api = own();
    let list = checks(&api, "listApiKeys");
    assert_eq!(list.check_query(None).unwrap().get_u32("limit"), Some(20));
    assert_eq!(list.check_query(Some("limit=5")).unwrap().get_u32("limit"), Some(5));
    for bad in [
        "limit=0",
        "limit=101",
        "limit=1e9",
        "limit=-1",
        "limit=+5",
        "limit=5&limit=6",
        "limit=",
        "limit=5&other=1",
        "cursor=a%20b",
        "cursor=%zz",
        "cursor=%ff",
    ] {
        assert!(list.check_query(Some(bad)).is_err(), "{bad}");
    }
}

#[test]
fn paths_and_header_fields_are_held_against_their_schemas() {
    let api = own();
    let key = |values: &[&'static str]| {
        let values: Vec<&[u8]> = values.iter().map(|it| it.as_bytes()).collect();
        checks(&api, "mintApiKey").check_headers(|name| match name {
            "Idempotency-Key" => values.clone(),
            _ => vec![],
        })
    };
    assert_eq!(key(&[]).unwrap().get("Idempotency-Key"), None);
    assert_eq!(
        key(&["sixteen-or-more-characters"]).unwrap().get("Idempotency-Key"),
        Some("sixteen-or-more-characters")
    );
    let long: &'static str = "x".repeat(256).leak();
    for bad in [
        &["short"][..],
        &[long],
        &["a space in the middle"],
        &["sixteen-or-more-\u{e4}\u{e4}"],
        &["sixteen-characters"; 2],
    ] {
        let wrong = key(bad).unwrap_err();
        assert_eq!(wrong[0].field, "header.Idempotency-Key", "{bad:?}");
    }
    // An operation that does not declare it does not look at it.
    assert!(checks(&api, "listApiKeys").check_headers(|_| vec![b"short"]).is_ok());
    let id = |text: &str| checks(&api, "getAgent").fits_path(&[("id".into(), text.into())]);
    assert!(id("agent_01938f2c5a007b3e8d41000000000009"));
    for none in
        ["agent_x", "", "agent_01938F2C5A007B3E8D41000000000009", "agent_01938f2c5a007b3e8d41000000000009\n"]
    {
        assert!(!id(none), "{none:?}");
    }
}

/// Rows: SC-10.
#[test]
fn security_means_what_openapi_says() {
    use flowyte_core::{CredentialKind, Requirement};
    let api = compile(
        r#"
openapi: 3.1.0
info: {title: t, version: "1"}
security: [{key: ["a:read"]}]
x-scopes:
  "a:read": {description: d, holders: [secret_key, role], roles: [owner]}
  "b:read": {description: d, holders: [secret_key, role], roles: [owner]}
components:
  securitySchemes:
    key: {type: http, scheme: bearer, x-credential: secret_key}
    session: {type: apiKey, in: cookie, name: s, x-credential: session}
paths:
  /inherits: {get: {operationId: inherits, responses: {"200": {description: d}}}}
  /overrides: {get: {operationId: overrides, security: [{key: ["b:read"]}], responses: {"200": {description: d}}}}
  /open: {get: {operationId: open, security: [], x-public: true, responses: {"200": {description: d}}}}
  /either: {get: {operationId: either, security: [{key: ["a:read", "b:read"]}, {session: ["b:read"]}], responses: {"200": {description: d}}}}
"#,
    )
    .unwrap_or_else(|all| panic!("{all:?}"));
    let names = |id: &str| -> Vec<(CredentialKind, Vec<&str>)> {
        let operation = api.contract.operations().iter().find(|it| it.id == id).unwrap();
        match operation.requirement() {
            Requirement::Public => vec![],
            Requirement::Credential(all) => {
                all.iter().map(|it| (it.kind, api.contract.scopes().names(it.scopes))).collect()
            }
        }
    };
    assert_eq!(names("inherits"), [(CredentialKind::SecretKey, vec!["a:read"])]);
    assert_eq!(
        names("overrides"),
        [(CredentialKind::SecretKey, vec!["b:read"])],
        "its own rule replaces the root's"
    );
    assert_eq!(names("open"), []);
    let either =
        [(CredentialKind::SecretKey, vec!["a:read", "b:read"]), (CredentialKind::Session, vec!["b:read"])];
    assert_eq!(names("either"), either, "one of these, and all of its scopes");
}

/// A document of one operation, with a part replaced.
fn document(from: &str, to: &str) -> String {
    let whole = r#"
openapi: 3.1.0
info: {title: t, version: "1"}
servers: [{url: /v1}]
x-scopes: {"things:read": {description: d, holders: [secret_key, role], roles: [owner]}}
paths:
  /things/{id}:
    get:
      operationId: getThing
      parameters: [{name: id, in: path, required: true, schema: {type: string}}]
      security: [{apiKey: ["things:read"]}]
      responses: {"200": {description: ok}}
components:
  securitySchemes: {apiKey: {type: http, scheme: bearer, x-credential: secret_key}}
"#;
    assert!(whole.contains(from), "{from}");
    whole.replace(from, to)
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    assert!(compile(&document("things", "things")).is_ok());
    for (from, to, said) in [
        ("      security: [{apiKey: [\"things:read\"]}]\n", "", "getThing: operation without a rule"),
        ("[{apiKey: [\"things:read\"]}]", "[]", "getThing: an empty `security` lets anybody in"),
        ("[{apiKey: [\"things:read\"]}]", "[{}]", "getThing: the alternative `{}` lets anybody in"),
        (
            "[{apiKey: [\"things:read\"]}]",
            "[{apiKey: [\"things:write\"]}]",
            "scope `things:write` is not declared",
        ),
        ("[{apiKey: [\"things:read\"]}]", "[{other: []}]", "security scheme `other` is not declared"),
        ("operationId: getThing", "summary: s", "GET /things/{id}: `operationId` is missing"),
        ("operationId: getThing", "{operationId: getThing", "#: not YAML"),
        (
            "operationId: getThing",
            "operationId: getThing\n      x-reserve: true",
            "x-reserve: unknown extension; did you mean `x-reserved`?",
        ),
        (
            "operationId: getThing",
            "operationId: getThing\n      x-public: true",
            "`x-public: true` and a credential contradict each other",
        ),
        (
            "operationId: getThing",
            "operationId: getThing\n      x-reserved: maybe",
            "`x-reserved` must be true or false",
        ),
        ("{name: id, in: path", "{name: other, in: path", "path parameter `id` is not declared"),
        (
            "[{name: id, in: path, required: true, schema: {type: string}}]",
            "[{$ref: 'https://example.com/p.yaml'}]",
            "leaves the document; bundle it",
        ),
        (
            "schema: {type: string}}]",
            "schema: {type: string}}, {name: q, in: query, schema: {$ref: 'https://example.com/s'}}]",
            "the schema of query parameter `q` can't be used",
        ),
        (
            "schema: {type: string}}]",
            "schema: {type: string}}, {name: q, in: query, schema: {pattern: '('}}]",
            "the schema of query parameter `q` can't be used",
        ),
        (
            "schema: {type: string}}]",
            "schema: {type: string, pattern: '^\\p{L}+$'}}]",
            "the pattern uses `\\p`, which the engines of some clients do not know",
        ),
        ("openapi: 3.1.0", "openapi: 3.2.0", "OpenAPI 3.2.0 is not supported"),
        ("openapi: 3.1.0", "swagger: \"2.0\"", "OpenAPI 2.0 (Swagger) is not supported"),
        ("roles: [owner]", "roles: [king]", "must be one of owner, admin, developer, viewer"),
        (
            "holders: [secret_key, role]",
            "holders: [anybody]",
            "must be one of secret_key, publishable_key, role",
        ),
        ("/v1", "v1", "`url` must be a path such as"),
    ] {
        let told: Vec<String> =
            compile(&document(from, to)).err().unwrap().iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|line| line.contains(said)), "{to}: {told:?}");
    }
}

proptest! {
    #[test]
    fn no_document_makes_it_panic(at in 0usize..700, cut in 0usize..60, insert in "\\PC{0,12}") {
        let mut text = document("things", "things");
        let from = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let to = (from + cut).min(text.len());
        text.replace_range(from..to, &insert);
        let _ = compile(&text);
    }
}

#[test]
fn hostile_yaml_is_refused_in_time() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let before = format!("*a{},", level - 1).repeat(9);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", before.trim_end_matches(',')));
    }
    assert!(compile(&bomb).is_err());
    assert!(compile(&"[".repeat(100_000)).is_err());
    assert!(compile(&"#".repeat(5 << 20)).is_err());
}
