//! Documents and what is said of them.

use flowyte_contract::{Severity, check, compile, compile_all};
use flowyte_core::CredentialKind;
use proptest::prelude::*;

const OURS: &[&str] =
    &[include_str!("../../../contracts/plane.yaml"), include_str!("../../../contracts/product.yaml")];

/// A document with one scheme and one operation; `operation` is YAML at its level.
fn document(operation: &str) -> String {
    let indented: String = operation.lines().map(|line| format!("      {line}\n")).collect();
    format!(
        "openapi: 3.1.0
info: {{title: t, version: '1'}}
servers: [{{url: /api/v1}}]
x-scopes:
  things:read: {{description: Read., holders: [secret_key, role], roles: [owner]}}
  things:write: {{description: Write., holders: [role], roles: [owner]}}
components:
  securitySchemes:
    key: {{type: http, scheme: bearer, x-credential: secret_key}}
    page: {{type: http, scheme: bearer, x-credential: publishable_key}}
    session: {{type: apiKey, in: cookie, name: s, x-credential: session}}
  schemas:
    Endless: {{anyOf: [{{type: string}}, {{$ref: '#/components/schemas/Endless2'}}]}}
    Endless2: {{not: {{$ref: '#/components/schemas/Endless'}}}}
    Tree: {{type: object, properties: {{children: {{type: array, items: {{$ref: '#/components/schemas/Tree'}}}}}}}}
paths:
  /things/{{id}}:
    parameters: [{{name: id, in: path, required: true, schema: {{type: string}}}}]
    get:
{indented}"
    )
}

const GOOD: &str = "operationId: readThing
security: [{key: [things:read]}, {session: []}]
responses: {'200': {description: d}}";

fn lines(text: &str) -> Vec<String> {
    check(text).iter().map(ToString::to_string).collect()
}

#[test]
fn our_own_document_is_without_fault() {
    assert_eq!(lines(&flowyte_contract::merge(OURS).unwrap().to_string()), Vec::<String>::new());
    let api = compile_all(OURS).ok().unwrap();
    assert_eq!(api.checks.len(), api.contract.operations().len());
    let found = api.contract.find("GET", "/api/v1/members").ok().unwrap();
    assert!(found.operation.takes(CredentialKind::Session));
    assert!(api.checks[found.index].check_query(Some("limit=0")).is_err());
}

#[test]
fn a_good_document_becomes_a_contract() {
    assert_eq!(lines(&document(GOOD)), Vec::<String>::new());
    let api = compile(&document(GOOD)).ok().unwrap();
    let found = api.contract.find("GET", "/api/v1/things/t1").ok().unwrap();
    assert_eq!(found.operation.id, "readThing");
    assert!(
        found.operation.takes(CredentialKind::SecretKey) && found.operation.takes(CredentialKind::Session)
    );
    assert!(!found.operation.is_public() && !found.operation.takes(CredentialKind::PublishableKey));
}

/// What is said of [`GOOD`] with a part replaced, or of the document around it.
fn told(from: &str, to: &str) -> Vec<String> {
    let whole = document(GOOD);
    assert!(whole.contains(from), "{from}");
    lines(&whole.replacen(from, to, 1))
}

#[test]
fn each_fault_is_told_once_with_its_place() {
    for (from, to, said) in [
        ("operationId: readThing", "operationId: ''", "error: GET /things/{id}: `operationId` must be"),
        ("security: [{key", "securty: [{key", "error: readThing: `securty` is not a field of an operation"),
        (
            "{session: []}",
            "{key: [], session: []}",
            "error: readThing: an alternative asks for two credentials",
        ),
        (
            "{session: []}",
            "{page: [things:read]}",
            "warning: readThing: no publishable_key can ever hold things:read",
        ),
        ("[{key: [things:read]}, {session: []}]", "key", "error: readThing: `security` must be a list"),
        ("responses:", "x-fresh-sessions: true\n      responses:", "did you mean `x-fresh-session`?"),
        (
            "info:",
            "x-public: true\ninfo:",
            "error: #/x-public: `x-public` has no meaning here; it belongs in an operation",
        ),
        (
            "responses:",
            "x-pinned-parameter: agent\n      responses:",
            "`x-pinned-parameter` must name a declared",
        ),
        (
            "responses:",
            "x-query-credential: id\n      responses:",
            "`x-query-credential` must name a declared query",
        ),
        ("responses:", "x-max-body-bytes: -1\n      responses:", "`x-max-body-bytes` must be a positive"),
        (
            "x-credential: secret_key",
            "x-credential: one_time_token",
            "error: #/components/securitySchemes/key: `x-credential` must be one of",
        ),
        (
            ", x-credential: secret_key",
            "",
            "warning: #/components/securitySchemes/key: read as `x-credential: secret_key`",
        ),
        (
            "scheme: bearer, x-credential: secret_key",
            "scheme: basic",
            "error: #/components/securitySchemes/key: this scheme can't be checked",
        ),
        ("things:write:", "Things:", "error: #/x-scopes/Things: scope \"Things\" is not resource:action"),
        (
            "holders: [role]",
            "holders: [secret_key]",
            "error: #/x-scopes/things:write: `holders` has `role` exactly when",
        ),
        ("get:", "gett: {}\n    get:", "error: #/paths/~1things~1{id}/gett: `gett` is neither a method"),
        ("/things/{id}:", "/things/{id}/{id}:", "a path's braces must hold one name each"),
        ("/things/{id}:", "/thi%6egs/{id}:", "no request can match this path"),
        (
            "in: path, required: true",
            "in: path",
            "error: readThing: path parameter `id` must say `required: true`",
        ),
        ("in: path, required: true", "in: query", "error: readThing: path parameter `id` is not declared"),
        ("responses: {'200'", "responses: {'20'", "error: readThing: `20` is not a status"),
        ("'200': {description: d}", "'404': {description: d}", "warning: readThing: no success is declared"),
        ("{description: d}", "{$ref: '#/components/responses/No'}", "leads nowhere"),
        ("{description: d}", "{$ref: '#/paths/~1things~1%7Bid%7D/get/responses/200'}", "leads in circles"),
        (
            "Tree: {type: object",
            "Tree: {type: objekt",
            "error: #/components/schemas/Tree/type: not a JSON Schema",
        ),
        (
            "Tree: {type: object",
            "Tree: {maxLenght: 1, type: object",
            "warning: #/components/schemas/Tree/maxLenght: `maxLenght` is not a keyword",
        ),
        (
            "Tree: {type: object",
            "Tree: {$id: 'x', type: object",
            "error: #/components/schemas/Tree/$id: `$id` is not supported",
        ),
        (
            "Tree: {type: object",
            "Tree: {format: fancy, type: object",
            "warning: #/components/schemas/Tree: format `fancy` is unknown",
        ),
        ("openapi: 3.1.0", "openapi: 3.0.3", "warning: #/openapi: read as OpenAPI 3.0"),
        ("url: /api/v1", "url: '/api/{v}'", "no request can match this base path"),
    ] {
        let told = told(from, to);
        assert_eq!(told.iter().filter(|line| line.contains(said)).count(), 1, "{to}: {told:#?}");
        let is_error = told.iter().any(|line| line.starts_with("error"));
        assert_eq!(compile(&document(GOOD).replacen(from, to, 1)).is_err(), is_error, "{to}");
    }
}

fn with_body(schema: &str) -> String {
    document(&format!(
        "{GOOD}\nrequestBody: {{required: true, content: {{application/json: {{schema: {schema}}}}}}}"
    ))
}

#[test]
fn a_schema_that_never_ends_is_refused_and_a_tree_is_not() {
    let endless = lines(&with_body("{$ref: '#/components/schemas/Endless'}"));
    assert!(endless.iter().any(|line| line.contains("refers to itself without end")), "{endless:?}");
    let api = compile(&with_body("{$ref: '#/components/schemas/Tree'}")).ok().unwrap();
    assert!(api.checks[0].check_body(br#"{"children":[{"children":[]}]}"#).is_ok());
    assert!(api.checks[0].check_body(br#"{"children":[{"children":1}]}"#).is_err());
}

#[test]
fn a_schema_that_unfolds_without_measure_is_refused() {
    let mut doubling = String::from("    S0: {type: string}\n");
    for n in 1..26 {
        let half = format!("{{$ref: '#/components/schemas/S{}'}}", n - 1);
        doubling.push_str(&format!("    S{n}: {{properties: {{a: {half}, b: {half}}}}}\n"));
    }
    let body = with_body("{$ref: '#/components/schemas/S25'}");
    let told = lines(&body.replace("    Endless:", &format!("{doubling}    Endless:")));
    assert!(told.iter().any(|line| line.contains("unfolds to more than")), "{told:?}");
}

#[test]
fn aliases_are_charged_like_what_they_stand_for() {
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(60));
    let told = lines(&text);
    assert!(
        told[0].contains("than are accepted, with aliases expanded") || told[0].contains("budget"),
        "{told:?}"
    );
}

#[test]
fn version_3_0_means_what_it_meant() {
    let text = with_body(
        "{type: object, properties: {n: {type: integer, minimum: 1, exclusiveMinimum: true}, s: {type: string, nullable: true}}}",
    );
    let text = text.replace("openapi: 3.1.0", "openapi: 3.0.3");
    let api = compile(&text).unwrap_or_else(|all| panic!("{all:?}"));
    assert!(api.checks[0].check_body(br#"{"n":2,"s":null}"#).is_ok());
    assert!(api.checks[0].check_body(br#"{"n":1}"#).is_err());
    assert!(check(&text).iter().all(|it| it.severity == Severity::Warning));
}

#[test]
fn scopes_can_be_left_to_the_operations() {
    let text = document(GOOD);
    let (from, to) = (text.find("x-scopes:").unwrap(), text.find("components:").unwrap());
    let api = compile(&format!("{}{}", &text[..from], &text[to..])).ok().unwrap();
    let names: Vec<_> =
        api.contract.scopes().iter().map(|(_, it)| (it.name.as_str(), it.for_secret_keys)).collect();
    assert_eq!(names, [("things:read", true)]);
}

#[test]
fn a_server_may_be_a_url_with_variables() {
    for (server, path) in [
        ("url: https://api.example.com", "/things/t1"),
        (
            "url: 'https://{host}/{v}/', variables: {host: {default: a.example}, v: {default: v2}}",
            "/v2/things/t1",
        ),
    ] {
        let api = compile(&document(GOOD).replace("url: /api/v1", server)).ok().unwrap();
        assert!(api.contract.find("GET", path).is_ok(), "{server}");
    }
}

proptest! {
    /// Our document is long, so changes are made to the small one, which has a bit of everything.
    #[test]
    fn no_change_makes_it_panic(cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, "[ -~\n\t&*{}\\[\\]:#'\"]{0,6}"), 1..6)) {
        let mut text = with_body("{allOf: [{$ref: '#/components/schemas/Tree'}], pattern: '^a+$', format: date-time}");
        for (at, length, insert) in cuts {
            let start = at.index(text.len());
            let end = (start + length).min(text.len());
            text.replace_range(start..end, &insert);
        }
        // What compiles has no errors, and what does not has some.
        prop_assert_eq!(compile(&text).is_err(), check(&text).iter().any(|it| it.severity == Severity::Error));
        if let Ok(api) = compile(&text) {
            for checks in &api.checks {
                let _ = checks.check_body(br#"{"children":[{"children":[1]}]}"#);
                let _ = checks.check_query(Some("a=%&b=1"));
            }
        }
    }
}
