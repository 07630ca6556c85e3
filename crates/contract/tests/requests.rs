//! Bodies and queries held against a contract, and what two versions of a contract mean to callers.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

use flowyte_contract::{Api, BodyError, FieldError, compile, diff};
use proptest::prelude::*;

const DOCUMENT: &str = r##"
openapi: 3.1.0
info: {title: t, version: '1'}
x-scopes:
  pets:write: {description: d, holders: [secret_key, role], roles: [owner]}
  pets:read: {description: d, holders: [secret_key], roles: []}
components:
  securitySchemes:
    key: {type: http, scheme: bearer, x-credential: secret_key}
    session: {type: apiKey, in: cookie, name: s, x-credential: session}
paths:
  /pets:
    post:
      operationId: addPet
      security: [{key: [pets:write, pets:read]}, {session: []}]
      parameters:
        - {name: limit, in: query, schema: {type: integer, minimum: 1, maximum: 9, default: 5}}
        - {name: q, in: query, schema: {type: string, minLength: 1, pattern: '^[^0]+$'}}
        - {name: dry, in: query, schema: {type: boolean}}
        - {name: ratio, in: query, schema: {type: number}}
        - {name: since, in: query, schema: {type: string, format: date-time}}
        - {name: Idempotency-Key, in: header, schema: {type: string}}
      requestBody:
        required: true
        content:
          application/json; charset=utf-8:
            schema:
              type: object
              additionalProperties: false
              required: [name]
              properties:
                name: {type: string, minLength: 1, maxLength: 5}
                secret: {type: string, pattern: '^[a-z]+$', x-secret: true}
                tags: {type: array, minItems: 1, maxItems: 3, items: {enum: [cat, dog]}}
                born: {type: [string, 'null'], format: date}
                owner:
                  type: object
                  additionalProperties: false
                  required: [id]
                  properties: {id: {type: integer, minimum: 1}}
                home:
                  oneOf:
                    - {type: object, required: [kind, street], properties: {kind: {const: house}, street: {type: string}}}
                    - {type: object, required: [kind], properties: {kind: {const: kennel}, row: {type: integer}}}
      responses: {'201': {description: d, content: {text/event-stream: {}}}, '202': {description: d}}
"##;

fn api() -> Api {
    compile(DOCUMENT).unwrap_or_else(|all| panic!("{all:?}"))
}

fn wrong(body: &str) -> Vec<(String, String)> {
    match api().checks[0].check_body(body.as_bytes()) {
        Err(BodyError::Invalid(errors)) => errors.into_iter().map(|it| (it.field, it.message)).collect(),
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn an_operation_says_what_it_is() {
    let api = api();
    let checks = &api.checks[0];
    assert_eq!((checks.success_status, checks.sse, checks.idempotent), (201, true, true));
    assert_eq!((checks.has_body, checks.body_required, checks.max_body_bytes), (true, true, None));
    assert_eq!(checks.content_type.as_deref(), Some("application/json; charset=utf-8"));
}

#[test]
fn each_error_names_its_field_in_words() {
    for (body, field, message) in [
        ("[]", "", "must be an object"),
        ("{}", "/name", "is required"),
        (r#"{"name":""}"#, "/name", "must not be empty"),
        (r#"{"name":"abcdef"}"#, "/name", "must have at most 5 characters"),
        (r#"{"name":7}"#, "/name", "must be a string"),
        (r#"{"name":"a","nam":1}"#, "/nam", "unknown field `nam`"),
        (r#"{"name":"a","tags":["cat","cow"]}"#, "/tags/1", r#"must be one of "cat", "dog""#),
        (r#"{"name":"a","tags":["cat","dog","cat","dog"]}"#, "/tags", "must have at most 3 items"),
        (r#"{"name":"a","tags":[]}"#, "/tags", "must have at least 1 item"),
        (r#"{"name":"a","born":"soon"}"#, "/born", "must be a date such as 2025-01-31"),
        (r#"{"name":"a","born":1}"#, "/born", "must be null or a string"),
        (r#"{"name":"a","owner":{}}"#, "/owner/id", "is required"),
        (r#"{"name":"a","owner":{"id":0}}"#, "/owner/id", "must be at least 1"),
        (r#"{"name":"a","owner":{"id":1,"x":1}}"#, "/owner/x", "unknown field `x`"),
        (r#"{"name":"a","home":{"kind":"house"}}"#, "/home/street", "is required"),
        (r#"{"name":"a","home":{"kind":"kennel","row":"x"}}"#, "/home/row", "must be an integer"),
        (r#"{"name":"a","home":{"kind":"hole"}}"#, "/home", "fits none of the allowed forms"),
        (r#"{"name":"a","a/b~c":1}"#, "/a~1b~0c", "unknown field `a/b~c`"),
    ] {
        assert_eq!(wrong(body), [(field.to_owned(), message.to_owned())], "{body}");
    }
}

#[test]
fn messages_are_short_few_and_without_values() {
    let errors = wrong(r#"{"name":"a","secret":"HUNTER2","tags":["HUNTER2"],"born":"HUNTER2"}"#);
    assert_eq!(errors.len(), 3);
    assert!(errors.iter().all(|(_, message)| !message.contains("HUNTER2")), "{errors:?}");
    let unknown: Vec<String> = (0..500).map(|n| format!(r#""{n}{}":1"#, "\\u202e\\n".repeat(300))).collect();
    let errors = wrong(&format!(r#"{{"name":"a",{}}}"#, unknown.join(",")));
    assert_eq!(errors.len(), 20);
    for (field, message) in errors {
        assert!(message.chars().count() <= 200 && field.len() <= 250, "{field} {message}");
        assert!(!(field + &message).contains(['\n', '\u{202e}']));
    }
}

#[test]
fn a_body_has_one_meaning_or_is_refused() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels)).into_bytes();
    let api = api();
    for body in [
        b"".to_vec(),
        b"{".to_vec(),
        b"{} {}".to_vec(),
        b"{\"name\":\"a\",\"name\":\"a\"}".to_vec(),
        b"{\"name\":\"a\",\"n\\u0061me\":\"a\"}".to_vec(),
        b"{\"owner\":{\"id\":1,\"id\":1}}".to_vec(),
        b"\xef\xbb\xbf{\"name\":\"a\"}".to_vec(),
        b"{\"name\":\"\xff\"}".to_vec(),
        b"{\"name\":\"\\ud800\"}".to_vec(),
        b"{\"name\":NaN}".to_vec(),
        b"{\"name\":1e999}".to_vec(),
        b"{\"name\":01}".to_vec(),
        b"{'name':'a'}".to_vec(),
        b"{\"name\":\"a\",}".to_vec(),
        b"{\"name\":\"a\"} // x".to_vec(),
        deep(65),
        deep(10_000),
        b"{\"a\":".repeat(10_000),
    ] {
        let refused =
            matches!(api.checks[0].check_body(&body), Err(BodyError::Syntax(why)) if !why.contains('\n'));
        assert!(refused, "{}", String::from_utf8_lossy(&body[..body.len().min(40)]));
    }
    // Two bytes a value, each of which would take some fifty in memory.
    let values = |many: usize| format!("[{}0]", "0,".repeat(many - 2)).into_bytes();
    assert!(matches!(api.checks[0].check_body(&values(50_001)), Err(BodyError::Syntax(_))));
    assert!(matches!(api.checks[0].check_body(&values(50_000)), Err(BodyError::Invalid(_))));
    // Within the levels it is the schema that speaks.
    assert!(matches!(api.checks[0].check_body(&deep(64)), Err(BodyError::Invalid(_))));
    assert!(api.checks[0].check_body(b" {\"name\":\"a\"}\n").is_ok());
}

#[test]
fn queries_are_decoded_once_and_held_against_their_schema() {
    let api = api();
    let checks = &api.checks[0];
    let read = |query| checks.check_query(Some(query));
    assert_eq!(checks.check_query(None).unwrap().get_u32("limit"), Some(5));
    let query = read("q=a+b%2Bc%C3%BC&limit=9&&").unwrap();
    assert_eq!((query.get("q"), query.get_u32("limit"), query.get("x")), (Some("a b+cü"), Some(9), None));
    assert_eq!(read("%6cimit=3&dry=true&ratio=-1.5e0").unwrap().get_u32("limit"), Some(3));
    assert!(!format!("{:?}", read("q=HUNTER").unwrap()).contains("HUNTER"));
    for (query, field, message) in [
        ("x=1", "query.x", "is not a parameter of this operation"),
        ("limit=1&limit2=%zz", "query.limit2", "is not a parameter of this operation"),
        ("Limit=1", "query.Limit", "is not a parameter of this operation"),
        ("id", "query.id", "is not a parameter of this operation"),
        ("%ff=1", "query.%ff", "must be percent-encoded UTF-8"),
        ("limit=0", "query.limit", "must be at least 1"),
        ("limit=10", "query.limit", "must be at most 9"),
        ("limit=", "query.limit", "must be an integer"),
        ("limit", "query.limit", "must be an integer"),
        ("limit=%201", "query.limit", "must be an integer"),
        ("limit=+1", "query.limit", "must be an integer"),
        ("limit=1%0a", "query.limit", "must be an integer"),
        ("limit=01", "query.limit", "must be an integer"),
        ("limit=1.0", "query.limit", "must be an integer"),
        ("limit=99999999999999999999", "query.limit", "is too large"),
        ("limit=1&limit=1", "query.limit", "must be sent only once"),
        ("limit=1&l%69mit=1", "query.limit", "must be sent only once"),
        ("q=", "query.q", "must not be empty"),
        ("q=%f", "query.q", "must be percent-encoded UTF-8"),
        ("q=%ff", "query.q", "must be percent-encoded UTF-8"),
        ("q=%+1", "query.q", "must be percent-encoded UTF-8"),
        ("q=0", "query.q", "must match ^[^0]+$"),
        ("dry=1", "query.dry", "must be true or false"),
        ("ratio=NaN", "query.ratio", "must be a number"),
        ("since=now", "query.since", "must be an RFC 3339 date-time such as 2025-01-31T12:00:00Z"),
    ] {
        let errors = read(query).err().unwrap_or_default();
        let expected = FieldError { field: field.into(), message: message.into() };
        assert!(errors.contains(&expected), "{query}: {errors:?}");
    }
}

proptest! {
    #[test]
    fn no_request_makes_it_panic(body: Vec<u8>, query in "[a-z%+=&0-9é]{0,40}") {
        let checks = &api().checks[0];
        let _ = checks.check_body(&body);
        let _ = checks.check_query(Some(&query));
    }
}

/// What a change of the document means, one line each.
fn changes(from: &str, to: &str) -> Vec<String> {
    assert!(DOCUMENT.contains(from), "{from}");
    let changed = DOCUMENT.replacen(from, to, 1);
    diff(DOCUMENT, &changed).unwrap_or_else(|all| panic!("{all:?}")).iter().map(ToString::to_string).collect()
}

#[test]
fn a_change_is_named_and_ranked() {
    assert_eq!(diff(DOCUMENT, DOCUMENT).unwrap(), []);
    for (from, to, said) in [
        (
            "[pets:write, pets:read]",
            "[pets:write]",
            vec!["compatible: addPet: loosened: secret_key with pets:write is enough now"],
        ),
        (
            "{session: []}",
            "{session: [pets:write]}",
            vec!["breaking: addPet: tightened: session is no longer enough"],
        ),
        (", {session: []}", "", vec!["breaking: addPet: tightened: session is no longer enough"]),
        (
            "responses:",
            "x-reserved: true\n      responses:",
            vec!["breaking: addPet: is reserved now and refuses every caller"],
        ),
        ("'201':", "'200':", vec!["breaking: addPet: success is 200 now; was 201"]),
        (
            "required: [name]",
            "required: [name, tags]",
            vec!["breaking: addPet: field `tags` is required now"],
        ),
        (
            "required: [id]",
            "required: []",
            vec!["compatible: addPet: field `owner.id` is no longer required"],
        ),
        (
            "properties:\n                name:",
            "properties:\n                age: {type: integer}\n                name:",
            vec!["compatible: addPet: field `age` was added"],
        ),
        (
            "enum: [cat, dog]",
            "enum: [cat, dog, cow]",
            vec!["compatible: addPet: field `tags[]` has another `enum`"],
        ),
        ("enum: [cat, dog]", "enum: [cat]", vec!["breaking: addPet: field `tags[]` has another `enum`"]),
        ("maxLength: 5", "maxLength: 4", vec!["breaking: addPet: field `name` has another `maxLength`"]),
        (
            "maximum: 9",
            "maximum: 10",
            vec!["compatible: addPet: query parameter `limit` has another `maximum`"],
        ),
        (
            "name: dry,",
            "name: dry, required: true,",
            vec!["breaking: addPet: query parameter `dry` is required now"],
        ),
        ("  /pets:", "  /animals:", vec!["breaking: addPet: moved from POST /pets to POST /animals"]),
        (
            "operationId: addPet",
            "operationId: add",
            vec!["breaking: addPet: removed (POST /pets)", "compatible: add: added (POST /pets)"],
        ),
        (
            "pets:read: {description: d, holders: [secret_key], roles: []}",
            "pets:read: {description: d, holders: [role], roles: [owner]}",
            vec![
                "breaking: x-scopes: secret keys may no longer hold pets:read",
                "compatible: x-scopes: members with role owner may hold pets:read",
            ],
        ),
        (
            "  pets:write:",
            "  pets:feed: {description: d, holders: [secret_key], roles: []}\n  pets:write:",
            vec!["compatible: x-scopes: scope pets:feed added"],
        ),
        (
            "security: [",
            "x-public: true\n      security: [] #",
            vec!["compatible: addPet: is public; asked for a credential"],
        ),
    ] {
        assert_eq!(changes(from, to), said, "{to}");
    }
    let broken = diff("openapi: 3.1.0", "x").unwrap_err();
    assert!(
        broken.iter().any(|it| it.place.starts_with("old "))
            && broken.iter().any(|it| it.place.starts_with("new "))
    );
}
